"""Tries again what may pass, with growing random pauses, for as long as that makes sense."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final, TypeVar

from datastore.errors import NotFoundError, StorageError
from datastore.storage.base import Listed, Storage
from datastore.storage.reasons import CLOSED, TIMEOUT, UNREACHABLE, Call, closed_error

_T = TypeVar("_T")


@dataclass(frozen=True, slots=True)
class Patience:
    """How long to go on with one call.

    Args:
        tries: The most, the first one included.
        tries_unmet: The most while the server has not answered anything yet: its url may be wrong.
        first_pause: Seconds; the most that is waited after the first try. It doubles with each.
        longest_pause: Seconds; the doubling ends there.
        budget: Seconds for all tries and pauses together.
    """

    tries: int = 10
    tries_unmet: int = 3
    first_pause: float = 0.5
    longest_pause: float = 60.0
    budget: float = 15 * 60.0


PATIENCE: Final = Patience()
"""What `datastore.storage.places.open_storage` uses."""


class Retrying:
    """A `Storage` that repeats calls which failed with a ``retryable`` `StorageError`.

    Pauses are random between nothing and a bound that doubles (full jitter), so that many clients
    that failed together do not come back together; a server's ``Retry-After`` is waited for.

    Args:
        storage: What does the work.
        patience: How long to go on.
        sleep: Waits for seconds; by default, until the storage is closed at the latest.
        chance: A random number from 0 to 1.
        clock: Seconds, never going back.
    """

    def __init__(
        self,
        storage: Storage,
        patience: Patience = PATIENCE,
        *,
        sleep: Callable[[float], object] | None = None,
        chance: Callable[[], float] = random.random,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._storage = storage
        self._patience = patience
        self._closed = threading.Event()
        self._sleep = sleep or self._closed.wait
        self._chance = chance
        self._clock = clock
        self._met = False
        self._scheme = storage.url.partition(":")[0]

    @property
    def url(self) -> str:
        """See `Storage.url`."""
        return self._storage.url

    def read(self, key: str) -> bytes:
        """See `Storage.read`."""
        return self._persist("read", key, lambda: self._storage.read(key))

    def read_range(self, key: str, start: int, length: int) -> bytes:
        """See `Storage.read_range`."""
        return self._persist("read", key, lambda: self._storage.read_range(key, start, length))

    def write(self, key: str, data: bytes) -> None:
        """See `Storage.write`."""
        self._persist("write", key, lambda: self._storage.write(key, data))

    def create(self, key: str, data: bytes) -> bool:
        """See `Storage.create`: a repeated try may meet what the first one stored."""
        return self._persist("create", key, lambda: self._storage.create(key, data))

    def size(self, key: str) -> int | None:
        """See `Storage.size`."""
        return self._persist("look at", key, lambda: self._storage.size(key))

    def list(self, prefix: str) -> Iterator[Listed]:
        """See `Storage.list`; after a failure it starts again and leaves out what it had."""
        call = self._named("list", prefix)
        self._check_open(call)
        began, made = self._clock(), 0
        seen: set[str] = set()
        while True:
            try:
                for found in self._storage.list(prefix):
                    if found.key not in seen:
                        began, made = self._clock(), 0
                        seen.add(found.key)
                        yield found
            except StorageError as error:
                made += 1
                self._pause(call, error, made, self._clock() - began)
            else:
                self._met = True
                return

    def delete(self, key: str) -> None:
        """See `Storage.delete`."""
        self._persist("delete", key, lambda: self._storage.delete(key))

    def close(self) -> None:
        """See `Storage.close`; also ends the pauses."""
        self._closed.set()
        self._storage.close()

    def _persist(self, doing: str, key: str, work: Callable[[], _T]) -> _T:
        call = self._named(doing, key)
        self._check_open(call)
        began, made = self._clock(), 0
        while True:
            try:
                result = work()
            except NotFoundError:
                self._met = True
                raise
            except StorageError as error:
                made += 1
                self._pause(call, error, made, self._clock() - began)
            else:
                self._met = True
                return result

    def _pause(self, call: Call, error: StorageError, made: int, spent: float) -> None:
        """Waits before the next try; raises where there is to be none."""
        if error.reason == CLOSED or not error.retryable:
            raise error
        self._check_open(call, error)
        self._met = self._met or error.reason not in {UNREACHABLE, TIMEOUT}
        patience = self._patience
        bound = min(patience.longest_pause, patience.first_pause * 2.0 ** (made - 1))
        seconds = max(error.retry_after, bound * self._chance())
        allowed = patience.tries if self._met else patience.tries_unmet
        if made >= allowed or spent + seconds > patience.budget:
            raise _given_up(error, made, spent) from error
        self._sleep(seconds)
        self._check_open(call, error)

    def _named(self, doing: str, key: str) -> Call:
        return Call(self._scheme, self.url, doing, key)

    def _check_open(self, call: Call, error: StorageError | None = None) -> None:
        if self._closed.is_set():
            raise closed_error(call) from error


def _given_up(error: StorageError, made: int, spent: float) -> StorageError:
    if made == 1:
        return error
    return StorageError(
        f"{error.message}; given up after {made} tries in {spent:.0f} s",
        retryable=True,
        reason=error.reason,
        retry_after=error.retry_after,
        hint=error.hint,
        where=error.where,
    )
