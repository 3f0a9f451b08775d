"""Many transfers at once: bounded, in whatever order they end, and gone when nobody listens."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import pytest

from datastore.errors import NotFoundError, StorageError
from datastore.sync.transfer import Outcome, Transfers


def threads() -> list[threading.Thread]:
    return [each for each in threading.enumerate() if each.name.startswith("datastore-transfer")]


class Gauge:
    """Sees how much is under way at once; `stop` ends what waits."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.now = self.most = self.calls = 0
        self.stopped = threading.Event()

    def stop(self) -> None:
        self.stopped.set()

    def move(self, size: int) -> int:
        with self.lock:
            self.calls += 1
            self.now += size
            self.most = max(self.most, self.now)
        time.sleep(0.002)
        with self.lock:
            self.now -= size
        return 2 * size

    def hang(self, _: int) -> None:
        self.calls += 1
        if self.stopped.wait(20):
            raise StorageError("it was closed")


@pytest.fixture
def gauge() -> Gauge:
    return Gauge()


@pytest.fixture
def transfers(gauge) -> Iterator[Transfers]:
    with Transfers(4, budget=100, abort=gauge.stop) as made:
        yield made
    assert not threads()


def test_every_item_has_its_outcome(transfers, gauge):
    outcomes = list(transfers.run(gauge.move, range(50), lambda size: size))
    assert sorted(outcomes) == [Outcome(each, 2 * each, None) for each in range(50)]
    assert not gauge.stopped.is_set()


def test_nothing_to_do(transfers, gauge):
    assert list(transfers.run(gauge.move, [], lambda _: 1)) == []
    assert not threads()


def test_the_number_is_bounded(transfers, gauge):
    list(transfers.run(lambda _: gauge.move(1), range(60), lambda _: 0))
    assert gauge.most == 4


def test_the_bytes_are_bounded(transfers, gauge):
    list(transfers.run(gauge.move, [40] * 30, lambda size: size))
    assert gauge.most == 80


def test_what_is_larger_than_the_budget_goes_alone(transfers, gauge):
    outcomes = list(transfers.run(gauge.move, [10, 500, 10, 500], lambda size: size))
    assert len(outcomes) == 4
    assert gauge.most == 500


def test_items_are_taken_as_there_is_room(transfers, gauge):
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(30):
            taken.append(number)
            yield number

    run = transfers.run(lambda _: gauge.move(1), items(), lambda _: 0)
    next(run)
    assert len(taken) <= 6
    assert len(list(run)) == 29


def test_errors_of_ours_are_outcomes(transfers):
    def work(number: int) -> int:
        if number % 2:
            raise NotFoundError(f"no {number}")
        return number

    outcomes = list(transfers.run(work, range(10), lambda _: 1))
    assert {each.item for each in outcomes if each.error is not None} == {1, 3, 5, 7, 9}
    assert all(isinstance(each.error, NotFoundError) for each in outcomes if each.item % 2)


def test_errors_of_others_are_raised(transfers, gauge):
    def work(_: int) -> int:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        list(transfers.run(work, range(10), lambda _: 1))
    assert gauge.stopped.is_set()


def test_a_listener_that_fails_ends_what_is_under_way(transfers, gauge):
    """However it leaves the loop: the generator is closed with the frame that held it."""

    def work(number: int) -> None:
        if number:
            gauge.hang(number)

    def listen() -> None:
        for _ in transfers.run(work, range(100), lambda _: 1):
            raise KeyError("the listener's own")

    begun = time.monotonic()
    with pytest.raises(KeyError):
        listen()
    assert gauge.stopped.is_set()
    transfers.close()
    assert time.monotonic() - begun < 5
    assert gauge.calls < 10
    assert not threads()


def test_a_listener_that_stops_early_ends_what_is_under_way(transfers, gauge):
    def work(number: int) -> None:
        if number:
            gauge.hang(number)

    for _ in transfers.run(work, range(100), lambda _: 1):
        break
    assert gauge.stopped.is_set()
    transfers.close()
    assert not threads()


def test_a_run_that_was_never_begun_ends_nothing(transfers, gauge):
    transfers.run(gauge.move, range(3), lambda _: 1).close()
    assert not gauge.stopped.is_set()


def test_two_runs_at_once(transfers, gauge):
    """What is read on demand comes while other transfers are under way."""
    slow = transfers.run(gauge.move, [1] * 20, lambda _: 1)
    next(slow)
    fast = list(transfers.run(gauge.move, [2] * 5, lambda _: 1))
    assert len(fast) == 5
    assert len(list(slow)) == 19


def test_it_can_be_used_again_after_it_was_closed(transfers, gauge):
    list(transfers.run(gauge.move, [1], lambda _: 1))
    transfers.close()
    transfers.close()
    assert list(transfers.run(gauge.move, [1], lambda _: 1))
