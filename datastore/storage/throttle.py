"""No more calls at once than the server likes: halved when it complains, one more when it does not.

The rule of TCP (additive increase, multiplicative decrease), which shares a server fairly between
clients that know nothing of each other.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from datastore.errors import StorageError
from datastore.storage.base import Listed, Storage
from datastore.storage.reasons import THROTTLED, Call, closed_error


class Throttled:
    """A `Storage` that makes at most so many calls at once.

    Args:
        storage: What does the work.
        jobs: The most calls at once, and the number that is begun with; at least 1.
    """

    def __init__(self, storage: Storage, *, jobs: int) -> None:
        self._storage = storage
        self._jobs = jobs
        self._free = threading.Condition()
        self._limit = jobs
        self._busy = 0
        self._row = 0  # successes since the limit changed
        self._round = 0  # how often the limit was halved
        self._closed = False

    @property
    def url(self) -> str:
        """See `Storage.url`."""
        return self._storage.url

    @property
    def limit(self) -> int:
        """How many calls may be under way just now."""
        return self._limit

    def read(self, key: str) -> bytes:
        """See `Storage.read`."""
        with self._turn("read", key):
            return self._storage.read(key)

    def read_range(self, key: str, start: int, length: int) -> bytes:
        """See `Storage.read_range`."""
        with self._turn("read", key):
            return self._storage.read_range(key, start, length)

    def write(self, key: str, data: bytes) -> None:
        """See `Storage.write`."""
        with self._turn("write", key):
            self._storage.write(key, data)

    def create(self, key: str, data: bytes) -> bool:
        """See `Storage.create`."""
        with self._turn("create", key):
            return self._storage.create(key, data)

    def size(self, key: str) -> int | None:
        """See `Storage.size`."""
        with self._turn("look at", key):
            return self._storage.size(key)

    def list(self, prefix: str) -> Iterator[Listed]:
        """See `Storage.list`; takes a turn for each step, not while the caller looks at it."""
        inner = iter(self._storage.list(prefix))
        while True:
            with self._turn("list", prefix, step=True):
                found = next(inner, None)
            if found is None:
                return
            yield found

    def delete(self, key: str) -> None:
        """See `Storage.delete`."""
        with self._turn("delete", key):
            self._storage.delete(key)

    def close(self) -> None:
        """See `Storage.close`; also ends the waiting for a turn."""
        with self._free:
            self._closed = True
            self._free.notify_all()
        self._storage.close()

    @contextmanager
    def _turn(self, doing: str, key: str, *, step: bool = False) -> Iterator[None]:
        began = self._enter(doing, key)
        try:
            yield
        except StorageError as error:
            if error.reason == THROTTLED:
                self._slow_down(began)
            raise
        else:
            if not step:  # most steps of a listing ask the server nothing
                self._speed_up()
        finally:
            with self._free:
                self._busy -= 1
                self._free.notify_all()

    def _enter(self, doing: str, key: str) -> int:
        with self._free:
            while self._busy >= self._limit and not self._closed:
                self._free.wait()
            if self._closed:
                raise closed_error(Call(self.url.partition(":")[0], self.url, doing, key))
            self._busy += 1
            return self._round

    def _slow_down(self, began: int) -> None:
        with self._free:
            self._row = 0
            # Calls that were under way together are refused together: that is one complaint.
            if began == self._round:
                self._round += 1
                self._limit = max(1, self._limit // 2)

    def _speed_up(self) -> None:
        with self._free:
            self._row += 1
            if self._row >= self._limit:
                self._row = 0
                self._limit = min(self._jobs, self._limit + 1)
