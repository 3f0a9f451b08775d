"""A storage in memory, as faithful as `datastore.storage.base` asks, that can be made to fail."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from typing import NamedTuple, TypeVar

from datastore.errors import StorageError
from datastore.storage.base import Listed
from datastore.storage.keys import check_key, check_prefix
from datastore.storage.reasons import MISSING, SHORT, Call, Trouble, closed_error, error_of


class Request(NamedTuple):
    """One call of a storage."""

    verb: str
    key: str


Answer = TypeVar("Answer")
Step = Callable[[Request], None]
"""Called at a request; may raise, wait, or do something else first."""


class Bucket:
    """Objects that any number of clients see at once."""

    def __init__(self) -> None:
        self.objects: dict[str, bytes] = {}
        self.lock = threading.Lock()

    def keys(self, prefix: str = "") -> list[str]:
        return sorted(key for key in self.objects if key.startswith(prefix))

    def sent_as(self, local: str) -> str:
        """Returns the key under which a local pack lies here: of the same bytes, by its digest."""
        (key,) = [key for name, key in self.packs.items() if name[:64] == local[:64]]
        return key

    @property
    def packs(self) -> dict[str, str]:
        """The key of each pack, by name."""
        return {key[9:-5]: key for key in self.keys("packs/")}

    def flip(self, key: str, at: int) -> None:
        """Turns one bit of an object."""
        data = bytearray(self.objects[key])
        data[at] ^= 0x10
        self.objects[key] = bytes(data)


class Client:
    """A `Storage`: one client's way to a bucket.

    Args:
        bucket: What it speaks to.
        before: Called before each request is carried out.
        after: Called when it was, before the answer is given.

    Attributes:
        seen: The requests, in order.
        stale: Prefixes of which a listing is empty.
        spoil: Changes what is read, on the way.
    """

    def __init__(
        self, bucket: Bucket, *, before: Step | None = None, after: Step | None = None
    ) -> None:
        self._bucket = bucket
        self.before = before
        self.after = after
        self.seen: list[Request] = []
        self.bytes_down = 0
        self.stale: tuple[str, ...] = ()
        self.spoil: Callable[[str, bytes], bytes] = lambda _, data: data
        self.closed = False

    @property
    def url(self) -> str:
        return "memory://bucket"

    def count(self, verb: str, prefix: str = "") -> int:
        """How many requests of a kind there were."""
        return sum(each.verb == verb and each.key.startswith(prefix) for each in self.seen)

    def read(self, key: str) -> bytes:
        return self._asked("read", key, lambda: self._received(key, self._get("read", key)))

    def read_range(self, key: str, start: int, length: int) -> bytes:
        def work() -> bytes:
            data = self._get("read_range", key)[start : start + length]
            if len(data) != length:
                raise error_of(Trouble(SHORT), self._call("read_range", key))
            return self._received(key, data)

        return self._asked("read_range", key, work)

    def write(self, key: str, data: bytes) -> None:
        self._asked("write", key, lambda: self._put(key, bytes(data)))

    def create(self, key: str, data: bytes) -> bool:
        def work() -> bool:
            with self._bucket.lock:
                return self._bucket.objects.setdefault(key, data) is data

        return self._asked("create", key, work)

    def size(self, key: str) -> int | None:
        def work() -> int | None:
            data = self._bucket.objects.get(key)
            return None if data is None else len(data)

        return self._asked("size", key, work)

    def list(self, prefix: str) -> Iterator[Listed]:
        check_prefix(prefix)

        def work() -> list[Listed]:
            if prefix.startswith(self.stale or ("\0",)):
                return []
            with self._bucket.lock:
                found = [*self._bucket.objects.items()]
            return [Listed(key, len(data)) for key, data in found if key.startswith(prefix)]

        yield from self._asked("list", prefix, work, checked=True)

    def delete(self, key: str) -> None:
        self._asked("delete", key, lambda: self._bucket.objects.pop(key, None))

    def close(self) -> None:
        self.closed = True

    def _asked(
        self, verb: str, key: str, work: Callable[[], Answer], *, checked: bool = False
    ) -> Answer:
        if not checked:
            check_key(key)
        if self.closed:
            raise closed_error(self._call(verb, key))
        request = Request(verb, key)
        self.seen.append(request)
        if self.before is not None:
            self.before(request)
        answer = work()
        if self.after is not None:
            self.after(request)
        return answer

    def _get(self, verb: str, key: str) -> bytes:
        data = self._bucket.objects.get(key)
        if data is None:
            raise error_of(Trouble(MISSING), self._call(verb, key))
        return data

    def _put(self, key: str, data: bytes) -> None:
        with self._bucket.lock:
            old = self._bucket.objects.setdefault(key, data)
        assert old == data, f"{key} is given another content"

    def _received(self, key: str, data: bytes) -> bytes:
        self.bytes_down += len(data)
        return self.spoil(key, data)

    def _call(self, verb: str, key: str) -> Call:
        return Call("memory", self.url, verb, key)


class Stop:
    """Fails at the n-th request, counted from 0, and from then on."""

    def __init__(self, number: int) -> None:
        self._left = number
        self.reached = False

    def __call__(self, request: Request) -> None:
        self._left -= 1
        if self._left < 0:
            self.reached = True
            raise StorageError(f"stopped at {request.verb} {request.key}")
