"""How much was asked of a storage: what a push or a pull cost."""

from __future__ import annotations

import threading
from collections.abc import Iterator

from datastore.storage.base import Listed, Storage

_PAGE = 1000  # keys that a server lists in one answer


class Traffic:
    """Counts that many threads add to.

    Every try counts: it was sent, and is paid for.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._requests = self._bytes_up = self._bytes_down = 0

    @property
    def requests(self) -> int:
        """Calls; a listing counts one for each thousand keys."""
        return self._requests

    @property
    def bytes_up(self) -> int:
        """Bytes of objects that were sent."""
        return self._bytes_up

    @property
    def bytes_down(self) -> int:
        """Bytes of objects that were received whole."""
        return self._bytes_down

    def add(self, *, requests: int = 0, up: int = 0, down: int = 0) -> None:
        """Adds to the counts.

        Args:
            requests: Calls.
            up: Bytes sent.
            down: Bytes received.
        """
        with self._lock:
            self._requests += requests
            self._bytes_up += up
            self._bytes_down += down


class Counted:
    """A `Storage` that counts what is asked of it.

    Args:
        storage: What does the work.
        traffic: What is counted into; may be shared.
    """

    def __init__(self, storage: Storage, traffic: Traffic) -> None:
        self._storage = storage
        self._traffic = traffic

    @property
    def url(self) -> str:
        """See `Storage.url`."""
        return self._storage.url

    def read(self, key: str) -> bytes:
        """See `Storage.read`."""
        self._traffic.add(requests=1)
        return self._received(self._storage.read(key))

    def read_range(self, key: str, start: int, length: int) -> bytes:
        """See `Storage.read_range`."""
        self._traffic.add(requests=1)
        return self._received(self._storage.read_range(key, start, length))

    def write(self, key: str, data: bytes) -> None:
        """See `Storage.write`."""
        self._traffic.add(requests=1, up=len(data))
        self._storage.write(key, data)

    def create(self, key: str, data: bytes) -> bool:
        """See `Storage.create`."""
        self._traffic.add(requests=1, up=len(data))
        return self._storage.create(key, data)

    def size(self, key: str) -> int | None:
        """See `Storage.size`."""
        self._traffic.add(requests=1)
        return self._storage.size(key)

    def list(self, prefix: str) -> Iterator[Listed]:
        """See `Storage.list`."""
        self._traffic.add(requests=1)
        for number, found in enumerate(self._storage.list(prefix)):
            if number and number % _PAGE == 0:
                self._traffic.add(requests=1)
            yield found

    def delete(self, key: str) -> None:
        """See `Storage.delete`."""
        self._traffic.add(requests=1)
        self._storage.delete(key)

    def close(self) -> None:
        """See `Storage.close`."""
        self._storage.close()

    def _received(self, data: bytes) -> bytes:
        self._traffic.add(down=len(data))
        return data
