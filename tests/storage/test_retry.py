from __future__ import annotations

import contextlib
import threading
import time

import pytest

from datastore.errors import NotFoundError, StorageError
from datastore.storage.base import Listed
from datastore.storage.retry import Patience, Retrying


class Failing:
    """A storage that raises what it is given, in turn, and then works."""

    url = "s3://bucket/prefix"

    def __init__(self, *errors: Exception):
        self.errors = list(errors)
        self.calls = 0
        self.closed = False

    def step(self):
        self.calls += 1
        if self.errors:
            raise self.errors.pop(0)

    def read(self, key):
        self.step()
        return b"x"

    def read_range(self, key, start, length):
        self.step()
        return b"x" * length

    def write(self, key, data):
        self.step()

    def create(self, key, data):
        self.step()
        return True

    def size(self, key):
        self.step()
        return 1

    def list(self, prefix):
        yield Listed("a", 1)
        yield Listed("b", 2)
        self.step()
        yield Listed("c", 3)

    def delete(self, key):
        self.step()

    def close(self):
        self.closed = True


def passing(reason="server", retry_after=0.0) -> StorageError:
    return StorageError("it failed", retryable=True, reason=reason, retry_after=retry_after)


class Clock:
    """Time that only sleeping makes go by."""

    def __init__(self):
        self.now = 0.0
        self.slept: list[float] = []

    def sleep(self, seconds):
        self.slept.append(seconds)
        self.now += seconds

    def __call__(self):
        return self.now


def retrying(inner, patience=None, chance=1.0):
    clock = Clock()
    storage = Retrying(
        inner, patience or Patience(), sleep=clock.sleep, chance=lambda: chance, clock=clock
    )
    return storage, clock


CALLS = {
    "read": lambda storage: storage.read("k"),
    "read_range": lambda storage: storage.read_range("k", 0, 1),
    "write": lambda storage: storage.write("k", b"x"),
    "create": lambda storage: storage.create("k", b"x"),
    "size": lambda storage: storage.size("k"),
    "delete": lambda storage: storage.delete("k"),
    "list": lambda storage: list(storage.list("")),
}


@pytest.fixture(params=list(CALLS))
def call(request):
    return CALLS[request.param]


def test_what_works_is_called_once(call):
    inner = Failing()
    storage, clock = retrying(inner)
    call(storage)
    assert inner.calls == 1
    assert clock.slept == []


def test_what_passes_is_tried_again_with_longer_pauses(call):
    inner = Failing(*[passing() for _ in range(9)])
    storage, clock = retrying(inner)
    call(storage)
    assert inner.calls == 10
    assert clock.slept == [0.5, 1, 2, 4, 8, 16, 32, 60, 60]


def test_pauses_are_random(call):
    storage, clock = retrying(Failing(passing(), passing()), chance=0.25)
    call(storage)
    assert clock.slept == [0.125, 0.25]


def test_it_gives_up_after_ten_tries(call):
    inner = Failing(*[passing() for _ in range(20)])
    storage, _ = retrying(inner)
    with pytest.raises(
        StorageError, match=r"it failed; given up after 10 tries in 184 s"
    ) as caught:
        call(storage)
    assert inner.calls == 10
    assert caught.value.reason == "server"
    assert caught.value.retryable


def test_it_gives_up_when_the_time_is_over(call):
    inner = Failing(*[passing() for _ in range(20)])
    storage, clock = retrying(inner, Patience(tries=100, budget=10))
    with pytest.raises(StorageError, match="5 tries"):
        call(storage)
    assert clock.now <= 10


def test_a_server_that_asks_for_time_gets_it(call):
    storage, clock = retrying(Failing(passing("throttled", 30.0), passing("throttled", 0.1)))
    call(storage)
    assert clock.slept == [30.0, 1.0]


def test_a_server_that_asks_for_too_much_time_is_left(call):
    inner = Failing(passing("throttled", 3600.0))
    storage, clock = retrying(inner)
    with pytest.raises(StorageError, match=r"it failed$"):
        call(storage)
    assert (inner.calls, clock.slept) == (1, [])


def test_what_does_not_pass_is_not_tried_again(call):
    error = StorageError("denied", reason="denied")
    inner = Failing(error)
    storage, _ = retrying(inner)
    with pytest.raises(StorageError) as caught:
        call(storage)
    assert caught.value is error
    assert inner.calls == 1


def test_what_is_missing_is_not_tried_again():
    inner = Failing(NotFoundError("nothing there"))
    storage, _ = retrying(inner)
    with pytest.raises(NotFoundError):
        storage.read("k")
    assert inner.calls == 1


@pytest.mark.parametrize("reason", ["unreachable", "timeout"])
def test_a_server_that_never_answered_is_left_sooner(reason):
    inner = Failing(*[passing(reason) for _ in range(20)])
    storage, _ = retrying(inner)
    with pytest.raises(StorageError, match="3 tries"):
        storage.read("k")


@pytest.mark.parametrize("first", [None, passing("throttled"), NotFoundError("nothing there")])
def test_one_that_answered_is_not(first):
    inner = Failing(*([first] if first else []))
    storage, _ = retrying(inner)
    with contextlib.suppress(NotFoundError):
        storage.read("k")
    inner.errors = [passing("unreachable") for _ in range(20)]
    with pytest.raises(StorageError, match="10 tries"):
        storage.read("k")


def test_a_listing_that_failed_lists_nothing_twice():
    storage, _ = retrying(Failing(passing(), passing()))
    assert [each.key for each in storage.list("")] == ["a", "b", "c"]


def test_progress_of_a_listing_counts():
    class Slow(Failing):
        def list(self, prefix):
            for number in range(40):
                yield Listed(str(number), 0)
                if number == self.calls:
                    self.calls += 1
                    raise passing()

    storage, _ = retrying(Slow())
    assert len(list(storage.list(""))) == 40


def test_closing_ends_a_pause_at_once():
    inner = Failing(*[passing(retry_after=100.0) for _ in range(5)])
    storage = Retrying(inner)
    errors = []

    def read():
        with pytest.raises(StorageError) as caught:
            storage.read("k")
        errors.append(caught.value)

    thread = threading.Thread(target=read)
    thread.start()
    while not inner.calls:
        time.sleep(0.001)
    storage.close()
    thread.join(1)
    assert not thread.is_alive()
    assert errors[0].reason == "closed"
    assert inner.calls == 1
    assert inner.closed


def test_nothing_is_tried_after_closing(call):
    inner = Failing()
    storage, _ = retrying(inner)
    storage.close()
    with pytest.raises(StorageError, match="closed"):
        call(storage)
    assert inner.calls == 0
