from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from datastore.errors import StorageError
from datastore.storage.base import Listed
from datastore.storage.throttle import Throttled


class Busy:
    """A storage that knows how many calls it has at once, and can be told to complain."""

    url = "s3://bucket"

    def __init__(self):
        self.lock = threading.Lock()
        self.now = self.most = 0
        self.reason = ""
        self.gate = threading.Event()
        self.gate.set()
        self.closed = False

    def read(self, key):
        with self.lock:
            self.now += 1
            self.most = max(self.most, self.now)
        try:
            self.gate.wait()
            if self.reason:
                raise StorageError("no", retryable=True, reason=self.reason)
            return b""
        finally:
            with self.lock:
                self.now -= 1

    def list(self, prefix):
        for number in range(3):
            self.read("")
            yield Listed(str(number), 0)

    def close(self):
        self.closed = True


def refuse(storage, reason="throttled"):
    storage._storage.reason = reason
    with pytest.raises(StorageError):
        storage.read("k")
    storage._storage.reason = ""


def test_no_more_than_so_many_calls_at_once():
    inner = Busy()
    storage = Throttled(inner, jobs=4)
    inner.gate.clear()
    with ThreadPoolExecutor(16) as pool:
        calls = [pool.submit(storage.read, "k") for _ in range(16)]
        while inner.now < 4:
            time.sleep(0.001)
        time.sleep(0.02)
        inner.gate.set()
        for each in calls:
            each.result()
    assert inner.most == 4


def test_complaints_halve_it_down_to_one():
    storage = Throttled(Busy(), jobs=16)
    limits = []
    for _ in range(6):
        refuse(storage)
        limits.append(storage.limit)
    assert limits == [8, 4, 2, 1, 1, 1]


def test_complaints_about_one_volley_count_once():
    inner = Busy()
    storage = Throttled(inner, jobs=16)
    inner.reason = "throttled"
    inner.gate.clear()
    with ThreadPoolExecutor(16) as pool:
        calls = [pool.submit(storage.read, "k") for _ in range(16)]
        while inner.now < 16:
            time.sleep(0.001)
        inner.gate.set()
        assert all(isinstance(each.exception(), StorageError) for each in calls)
    assert storage.limit == 8


def test_a_row_of_successes_raises_it_by_one():
    storage = Throttled(Busy(), jobs=16)
    refuse(storage)
    for _ in range(7):
        storage.read("k")
    assert storage.limit == 8
    storage.read("k")
    assert storage.limit == 9
    for _ in range(1000):
        storage.read("k")
    assert storage.limit == 16


def test_other_failures_change_nothing():
    storage = Throttled(Busy(), jobs=16)
    refuse(storage, "server")
    assert storage.limit == 16


def test_a_listing_holds_no_turn_while_it_is_looked_at():
    storage = Throttled(Busy(), jobs=1)
    seen = []
    for each in storage.list(""):
        seen.append(each.key)
        storage.read("k")
    assert seen == ["0", "1", "2"]


def test_a_complaint_in_a_listing_counts():
    inner = Busy()
    storage = Throttled(inner, jobs=16)
    inner.reason = "throttled"
    with pytest.raises(StorageError):
        list(storage.list(""))
    assert storage.limit == 8


def test_closing_ends_the_waiting_for_a_turn():
    inner = Busy()
    storage = Throttled(inner, jobs=1)
    inner.gate.clear()
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(storage.read, "k") for _ in range(4)]
        while not inner.now:
            time.sleep(0.001)
        storage.close()
        inner.gate.set()
        errors = [each.exception(1) for each in calls]
    assert inner.closed
    assert [error.reason for error in errors if error] == ["closed"] * 3
