"""What sync needs of any place that keeps bytes under keys: eight calls, and no more.

Adapters translate what their client libraries raise at their own edge, so that above this layer
only `datastore.errors` is met. Retry, throttling and counting are wrappers around an adapter, never
options of one.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Protocol


class Listed(NamedTuple):
    """One object in a listing."""

    key: str
    size: int
    """In bytes."""


class Storage(Protocol):
    """Bytes under keys; every method may be called from several threads at once.

    A key is a relative POSIX path of plain names, such as ``packs/ab/abcd.pack``. Every method
    raises `StorageError` where the disk, the network or the server fails; its ``retryable`` says
    whether the same call may succeed later.
    """

    @property
    def url(self) -> str:
        """Where this is, for people: no password, no token."""
        ...

    def read(self, key: str) -> bytes:
        """Returns a whole (small) object.

        Raises:
            NotFoundError: There is none.
        """
        ...

    def read_range(self, key: str, start: int, length: int) -> bytes:
        """Returns exactly `length` bytes from `start`.

        Raises:
            NotFoundError: There is no such object.
            StorageError: It is shorter than that, or the answer was cut off.
        """
        ...

    def write(self, key: str, data: bytes) -> None:
        """Stores an object, wholly or not at all; one that is there is replaced.

        Durable when it returns. Callers never give one key two contents, so a call whose answer was
        lost may be repeated.
        """
        ...

    def create(self, key: str, data: bytes) -> bool:
        """Stores an object only where none is.

        Returns:
            Whether it was stored. Where an answer was lost, False may mean that an earlier try of
            the same call stored it: read it back to know.
        """
        ...

    def size(self, key: str) -> int | None:
        """Returns the size of an object in bytes; None where there is none."""
        ...

    def list(self, prefix: str) -> Iterator[Listed]:
        """Lists all objects below a prefix, at any depth, in no particular order.

        Args:
            prefix: Empty, or ends in a slash.
        """
        ...

    def delete(self, key: str) -> None:
        """Removes an object; fine where there is none."""
        ...

    def close(self) -> None:
        """Ends every call under way with a `StorageError` and lets go of connections.

        May be called from any thread, and more than once.
        """
        ...
