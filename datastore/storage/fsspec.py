"""Storage behind the asynchronous clients that fsspec's file systems are made of.

`FsspecStorage` gives each its own event loop, so that closing it ends every call at once; makes the
client anew in a forked process; and turns what it raises into our errors. What one kind of storage
does in one request is in `s3`, `gcs` and `azure`, as `Calls`.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterator
from typing import Any, Final, Protocol, TypeAlias, TypeVar

import fsspec

from datastore.errors import NotFoundError, StorageError
from datastore.storage.base import Listed
from datastore.storage.forking import forget_in_child
from datastore.storage.keys import check_key, check_prefix
from datastore.storage.loop import Loop, LoopClosedError
from datastore.storage.reasons import (
    EXISTS,
    MISSING,
    SHORT,
    Call,
    Trouble,
    closed_error,
    error_of,
)

_T = TypeVar("_T")

Page: TypeAlias = tuple[list[Listed], str | None]
"""Objects of one answer, and what asks for the next one."""


class Calls(Protocol):
    """What a client can do, each in one request where the server allows; runs on one loop.

    Paths are within the bucket, the storage's prefix included. What is raised is the library's own
    and is understood by `explain`: a missing object as `MISSING`, a lost `create` as `EXISTS`.
    """

    async def open(self) -> None:
        """Sets up the client."""
        ...

    async def close(self) -> None:
        """Lets go of connections."""
        ...

    async def read(self, path: str) -> bytes:
        """See `Storage.read`."""
        ...

    async def read_range(self, path: str, start: int, length: int) -> bytes:
        """See `Storage.read_range`; the length is above 0 and is checked by the caller."""
        ...

    async def write(self, path: str, data: bytes) -> None:
        """See `Storage.write`."""
        ...

    async def create(self, path: str, data: bytes) -> None:
        """See `Storage.create`."""
        ...

    async def size(self, path: str) -> int:
        """See `Storage.size`."""
        ...

    async def page(self, prefix: str, token: str | None) -> Page:
        """Lists one page; the token, if any, asks for the next one."""
        ...

    async def delete(self, path: str) -> None:
        """See `Storage.delete`."""
        ...

    def explain(self, error: BaseException) -> Trouble | None:
        """Understands an exception; None for one that is not about the storage."""
        ...


class FsspecStorage:
    """A `Storage` on a server; nothing is imported, connected or sent before the first call.

    Args:
        url: Where this is, without a slash at the end.
        prefix: Of all paths within the bucket: empty, or ends in a slash.
        connect: Makes the client; called once in each process.
    """

    def __init__(self, url: str, prefix: str, connect: Callable[[], Calls]) -> None:
        self._url = url
        self._prefix = prefix
        self._connect = connect
        self._scheme = url.partition(":")[0]
        self._closed = False
        self.forget()
        forget_in_child(self)

    def forget(self) -> object:
        """See `datastore.storage.forking.Forgetful`."""
        before = vars(self).get("_client")
        self._lock = threading.Lock()
        self._client: _Client | None = None
        return before

    @property
    def url(self) -> str:
        """Where this is, for people."""
        return self._url

    def read(self, key: str) -> bytes:
        """See `Storage.read`."""
        return self._call("read", key, lambda calls, path: calls.read(path))

    def read_range(self, key: str, start: int, length: int) -> bytes:
        """See `Storage.read_range`."""
        if length == 0:  # no server can be asked for that
            return self._empty_range(key)
        data = self._call("read", key, lambda calls, path: calls.read_range(path, start, length))
        if len(data) != length:
            said = f"{len(data)} of {length} bytes from {start}"
            raise error_of(Trouble(SHORT, said), self._named("read", key))
        return data

    def write(self, key: str, data: bytes) -> None:
        """See `Storage.write`."""
        self._call("write", key, lambda calls, path: calls.write(path, data))

    def create(self, key: str, data: bytes) -> bool:
        """See `Storage.create`."""
        try:
            self._call("create", key, lambda calls, path: calls.create(path, data))
        except StorageError as error:
            if error.reason == EXISTS:
                return False
            raise
        return True

    def size(self, key: str) -> int | None:
        """See `Storage.size`."""
        try:
            return self._call("look at", key, lambda calls, path: calls.size(path))
        except NotFoundError:
            return None

    def list(self, prefix: str) -> Iterator[Listed]:
        """See `Storage.list`; one request for each page of the server."""
        check_prefix(prefix)
        token: str | None = None
        while True:
            page, token = self._page(prefix, token)
            for path, size in page:
                # Consoles make objects with a slash at the end to show empty directories.
                if not path.endswith("/"):
                    yield Listed(path[len(self._prefix) :], size)
            if token is None:
                return

    def delete(self, key: str) -> None:
        """See `Storage.delete`."""
        try:
            self._call("delete", key, lambda calls, path: calls.delete(path))
        except NotFoundError:
            return

    def close(self) -> None:
        """See `Storage.close`."""
        self._closed = True
        with self._lock:
            client, self._client = self._client, None
        if client is not None:
            client.loop.close(client.calls.close())

    def _page(self, prefix: str, token: str | None) -> Page:
        path = self._prefix + prefix
        return self._run(self._named("list", prefix), lambda calls: calls.page(path, token))

    def _empty_range(self, key: str) -> bytes:
        if self.size(key) is None:
            raise error_of(Trouble(MISSING), self._named("read", key))
        return b""

    def _named(self, doing: str, key: str) -> Call:
        return Call(self._scheme, self._url, doing, key)

    def _call(
        self,
        doing: str,
        key: str,
        work: Callable[[Calls, str], Coroutine[Any, Any, _T]],
    ) -> _T:
        check_key(key)
        path = self._prefix + key
        return self._run(self._named(doing, key), lambda calls: work(calls, path))

    def _run(self, call: Call, work: Callable[[Calls], Coroutine[Any, Any, _T]]) -> _T:
        client = self._connected(call)
        try:
            return client.loop.run(client.work(work))
        except LoopClosedError as error:
            raise closed_error(call) from error
        except Exception as error:
            trouble = client.calls.explain(error)
            if trouble is None:
                raise
            raise error_of(trouble, call) from error

    def _connected(self, call: Call) -> _Client:
        with self._lock:
            if self._closed:
                raise closed_error(call)
            if self._client is None:
                self._client = _Client(self._connect(), f"datastore {self._url}")
            return self._client


class _Client:
    """Calls and the loop that they run on."""

    def __init__(self, calls: Calls, name: str) -> None:
        self.calls = calls
        self.loop = Loop(name)
        self._opening = asyncio.Lock()
        self._opened = False

    async def work(self, work: Callable[[Calls], Coroutine[Any, Any, _T]]) -> _T:
        """Makes one call; the first one opens the client, and if that fails so does the next."""
        if not self._opened:
            async with self._opening:
                if not self._opened:
                    await self.calls.open()
                    self._opened = True
        return await work(self.calls)


class MemoryCalls:
    """Calls on fsspec's file system in the memory of this process, for tests and examples."""

    _root: Final = "/datastore"

    def __init__(self, name: str) -> None:
        self._files = fsspec.filesystem("memory", use_listings_cache=False)
        self._top = f"{self._root}/{name}/"

    async def open(self) -> None:
        """Nothing to do."""

    async def close(self) -> None:
        """Nothing to do: what was written stays until the process ends."""

    async def read(self, path: str) -> bytes:
        """Reads all bytes."""
        return bytes(self._files.cat_file(self._top + path))

    async def read_range(self, path: str, start: int, length: int) -> bytes:
        """Reads some bytes."""
        return bytes(self._files.cat_file(self._top + path, start=start, end=start + length))

    async def write(self, path: str, data: bytes) -> None:
        """Puts bytes down."""
        with _MEMORY:
            self._files.pipe_file(self._top + path, data)

    async def create(self, path: str, data: bytes) -> None:
        """Puts bytes down where none are."""
        with _MEMORY:
            if self._files.exists(self._top + path):
                raise FileExistsError(path)
            self._files.pipe_file(self._top + path, data)

    async def size(self, path: str) -> int:
        """Looks a size up."""
        found = self._files.info(self._top + path)
        if found["type"] != "file":
            raise IsADirectoryError(path)
        return int(found["size"])

    async def page(self, prefix: str, token: str | None) -> Page:
        """Lists everything at once."""
        with _MEMORY:
            found = self._files.find(self._top + prefix.rstrip("/"), detail=True)
        inside = self._top + prefix  # a file of the prefix's own name is found too
        return [
            Listed(name[len(self._top) :], each["size"])
            for name, each in found.items()
            if name.startswith(inside)
        ], None

    async def delete(self, path: str) -> None:
        """Forgets bytes."""
        with _MEMORY:
            self._files.rm_file(self._top + path)

    def explain(self, error: BaseException) -> Trouble | None:
        """Understands what a file system raises."""
        if isinstance(error, (FileNotFoundError, IsADirectoryError)):
            return Trouble(MISSING)
        return Trouble(EXISTS) if isinstance(error, FileExistsError) else None


_MEMORY: Final = threading.Lock()
