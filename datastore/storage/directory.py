"""Storage in a directory: on this machine, or on a disk that several machines share.

A directory that is not there is not an empty one: it may be a disk that is not mounted. So only
`write` and `create` make it, and only itself, never the directories above it; all else says that
it is missing.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final, TypeVar

from datastore.errors import StorageError
from datastore.storage.base import Listed
from datastore.storage.failures import storage_error
from datastore.storage.keys import TEMPORARY_NAMES, check_key, check_prefix
from datastore.storage.local import TEMPORARY_PREFIX, DurableFile, fsync_directory, sweep
from datastore.storage.lock import FileLock
from datastore.storage.reasons import (
    MISSING,
    NO_DIRECTORY,
    REFUSED,
    SHORT,
    Call,
    Trouble,
    closed_error,
    error_of,
)

_T = TypeVar("_T")

_ABSENT: Final = frozenset({errno.ENOENT, errno.ENOTDIR, errno.EISDIR})
_NO_LINKS: Final = frozenset(
    {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
)
_READ: Final = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
_LOCK_WAIT: Final = 30.0


class DirectoryStorage:
    """A `Storage` in a directory.

    Where the directory is writable for its group, what is made below it is too, whatever the umask
    of the one who makes it: several people can push to one directory. Symbolic links below it are
    not followed.

    Args:
        root: The directory; relative ones count from the current one.
    """

    def __init__(self, root: Path) -> None:
        self._root = Path(os.path.abspath(root))
        self._aside = self._root / TEMPORARY_NAMES
        self._lock = threading.Lock()
        self._prepared = False
        self._closed = False

    @property
    def url(self) -> str:
        """Where this is, for people."""
        return self._root.as_uri()

    def read(self, key: str) -> bytes:
        """See `Storage.read`."""
        return self._read(key, _read_all)

    def read_range(self, key: str, start: int, length: int) -> bytes:
        """See `Storage.read_range`."""
        data = self._read(key, lambda descriptor: _read_part(descriptor, start, length))
        if len(data) != length:
            said = f"{len(data)} of {length} bytes from {start}"
            raise error_of(Trouble(SHORT, said), self._named("read", key))
        return data

    def write(self, key: str, data: bytes) -> None:
        """See `Storage.write`."""
        target = self._target("write", key)
        self._prepare(target)
        with DurableFile(self._aside) as file:
            file.write((data,))
            file.publish(target)
        self._share(target)

    def create(self, key: str, data: bytes) -> bool:
        """See `Storage.create`."""
        target = self._target("create", key)
        self._prepare(target)
        if os.path.lexists(target):
            return False
        try:
            made = self._link(target, data)
        except OSError as error:
            if isinstance(error, StorageError):
                raise
            if error.errno not in _NO_LINKS:
                raise storage_error(error, "create", target) from error
            made = self._create_locked(target, data)
        if made:
            self._share(target)
        return made

    def size(self, key: str) -> int | None:
        """See `Storage.size`."""
        target = self._target("look at", key)
        try:
            found = os.lstat(target)
        except OSError as error:
            if error.errno not in _ABSENT:
                raise storage_error(error, "look at", target) from error
            self._check_root("look at", key)
            return None
        if stat.S_ISLNK(found.st_mode):
            raise _linked(target)
        return found.st_size if stat.S_ISREG(found.st_mode) else None

    def list(self, prefix: str) -> Iterator[Listed]:
        """See `Storage.list`."""
        check_prefix(prefix)
        self._target("list", f"{prefix}x")  # no link on the way there
        self._check_root("list", prefix)
        yield from self._walk(prefix)

    def delete(self, key: str) -> None:
        """See `Storage.delete`."""
        target = self._target("delete", key)
        try:
            os.unlink(target)
            fsync_directory(target.parent)
        except OSError as error:
            if error.errno not in _ABSENT:
                raise storage_error(error, "delete", target) from error
            self._check_root("delete", key)

    def close(self) -> None:
        """See `Storage.close`: calls under way end by themselves, soon enough."""
        self._closed = True

    # -- reading ----------------------------------------------------------------------------

    def _read(self, key: str, work: Callable[[int], _T]) -> _T:
        target = self._target("read", key)
        try:
            descriptor = os.open(target, _READ)
            try:
                return work(descriptor)
            finally:
                os.close(descriptor)
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise _linked(target) from error
            if error.errno not in _ABSENT:
                raise storage_error(error, "read", target) from error
            self._check_root("read", key)
            raise error_of(Trouble(MISSING), self._named("read", key)) from error

    def _walk(self, prefix: str) -> Iterator[Listed]:
        directory = self._root / prefix
        try:
            with os.scandir(directory) as entries:
                found = list(entries)
        except (FileNotFoundError, NotADirectoryError):
            return  # never made, or removed meanwhile
        except OSError as error:
            raise storage_error(error, "list the directory", directory) from error
        for entry in found:
            if entry.name.startswith(TEMPORARY_NAMES):
                continue
            if entry.is_symlink():
                raise _linked(Path(entry.path))
            if entry.is_dir(follow_symlinks=False):
                yield from self._walk(f"{prefix}{entry.name}/")
                continue
            with contextlib.suppress(FileNotFoundError):  # deleted meanwhile
                yield Listed(prefix + entry.name, entry.stat(follow_symlinks=False).st_size)

    # -- writing ----------------------------------------------------------------------------

    def _prepare(self, target: Path) -> None:
        """Makes the directories for a file and for writing it aside."""
        with self._lock:
            if not self._prepared:
                self._make_root()
                self._make(self._aside)
                with contextlib.suppress(StorageError):  # another user's rests are not our concern
                    sweep(self._aside)
                self._prepared = True
        if not os.path.isdir(target.parent):
            for name in reversed(target.relative_to(self._root).parents[:-1]):
                self._make(self._root / name)

    def _make_root(self) -> None:
        try:
            os.mkdir(self._root)
        except FileExistsError:
            return
        except FileNotFoundError as error:
            raise error_of(
                Trouble(NO_DIRECTORY, "and neither is the one above it"),
                self._named("write", ""),
            ) from error
        except OSError as error:
            raise storage_error(error, "make the directory", self._root) from error
        fsync_directory(self._root.parent)

    def _make(self, directory: Path) -> None:
        try:
            os.mkdir(directory)
        except FileExistsError:
            return
        except OSError as error:
            raise storage_error(error, "make the directory", directory) from error
        self._share(directory)
        fsync_directory(directory.parent)

    def _share(self, path: Path) -> None:
        """Lets the group do what it may do in the root; one member's umask must not forbid it."""
        with contextlib.suppress(OSError):  # already replaced or removed by another writer
            shared = os.stat(self._root).st_mode
            if not shared & stat.S_IWGRP:
                return
            mode = os.lstat(path).st_mode
            bits = shared & (stat.S_IRWXG | stat.S_ISGID if stat.S_ISDIR(mode) else stat.S_IRGRP)
            if stat.S_IMODE(mode) | bits != stat.S_IMODE(mode):
                os.chmod(path, stat.S_IMODE(mode) | bits)

    def _link(self, target: Path, data: bytes) -> bool:
        """Gives a finished file a second name, which fails where that name is taken."""
        while True:
            # A sweeper of another process may take this for a dead process's file.
            ready = self._aside / f"{TEMPORARY_PREFIX}{os.getpid()}-{os.urandom(8).hex()}"
            with DurableFile(self._aside) as file:
                file.write((data,))
                file.publish(ready)
            try:
                os.link(ready, target)
            except FileExistsError:
                return False
            except FileNotFoundError:
                continue
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(ready)
            fsync_directory(target.parent)
            return True

    def _create_locked(self, target: Path, data: bytes) -> bool:
        """Creates a file on a filesystem without hard links, such as exFAT."""
        lock = FileLock(self._aside / "create.lock", command="create")
        with lock.acquire(_LOCK_WAIT), DurableFile(self._aside) as file:
            if os.path.lexists(target):
                return False
            file.write((data,))
            file.publish(target)
            return True

    # -- refusing ---------------------------------------------------------------------------

    def _target(self, doing: str, key: str) -> Path:
        check_key(key)
        if self._closed:
            raise closed_error(self._named(doing, key))
        path = self._root
        for part in key.split("/")[:-1]:
            path /= part
            # Where it may not be looked at, neither may what is below it: that call says so.
            if os.path.islink(path):
                raise _linked(path)
        return self._root / key

    def _check_root(self, doing: str, key: str) -> None:
        """Tells a missing object from a missing disk."""
        try:
            there = stat.S_ISDIR(os.stat(self._root).st_mode)
        except OSError as error:
            if error.errno not in _ABSENT:
                raise storage_error(error, doing, self._root) from error
            there = False
        if not there:
            raise error_of(Trouble(NO_DIRECTORY), self._named(doing, key))

    def _named(self, doing: str, key: str) -> Call:
        return Call("file", self.url, doing, key)


def _read_all(descriptor: int) -> bytes:
    size = os.fstat(descriptor).st_size
    return _read_part(descriptor, 0, size)


def _read_part(descriptor: int, start: int, length: int) -> bytes:
    # read(2) returns at most 2 GiB at once, and less whenever it likes.
    with open(descriptor, "rb", buffering=0, closefd=False) as file:
        file.seek(start)
        first = file.read(length)
        if len(first) == length or not first:
            return first
        parts, missing = [first], length - len(first)
        while missing and (part := file.read(missing)):
            parts.append(part)
            missing -= len(part)
        return b"".join(parts)


def _linked(path: Path) -> StorageError:
    return StorageError(
        f"{str(path)!r} is a symbolic link",
        reason=REFUSED,
        hint="Symbolic links below a remote's directory are not followed: put the files there.",
        where=str(path),
    )
