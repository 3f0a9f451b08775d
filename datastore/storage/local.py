"""Files on this machine that are either wholly there or not there, also after a power cut.

A file is written aside under a temporary name, synced, renamed, and the directory that now holds
the name is synced too. Without the first sync a crash may leave an empty file under a good name;
without the second the name itself may be gone. Temporary names begin with `TEMPORARY_PREFIX`, are
locked by the process that writes them, and `sweep` removes those whose process is dead.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import stat
import sys
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from datastore.errors import StorageError, UsageError
from datastore.storage.failures import storage_error
from datastore.storage.lock import is_open_as, try_lock
from datastore.storage.mounts import filesystem_type, is_network

if sys.platform != "win32":
    import fcntl

__all__ = [
    "TEMPORARY_PREFIX",
    "DurableFile",
    "filesystem_type",
    "fsync_directory",
    "is_network",
    "storage_error",
    "sweep",
    "write_durably",
]

TEMPORARY_PREFIX: Final = ".datastore-tmp-"
"""How every temporary name begins; scans of a user's directory leave such names out."""

_CREATE: Final = (
    os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_BINARY", 0)
)
_TEMPORARY: Final = re.compile(re.escape(TEMPORARY_PREFIX) + r"[0-9]+-[0-9a-f]{16}")
_IOV_MAX: Final = 1024  # parts in one writev: the limit of Linux, macOS and the BSDs


def _sync(descriptor: int) -> None:
    full = getattr(fcntl, "F_FULLFSYNC", None) if sys.platform != "win32" else None
    if full is not None:  # macOS: a plain fsync stops at the cache of the drive
        with contextlib.suppress(OSError):
            fcntl.fcntl(descriptor, full)
            return
    os.fsync(descriptor)


def fsync_directory(path: Path) -> None:
    """Makes the names in a directory durable: what was created, renamed and removed in it.

    Raises:
        StorageError: The directory cannot be opened or synced.
    """
    if sys.platform == "win32":  # no such thing there: NTFS journals its directories
        return
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
        try:
            _sync(descriptor)
        finally:
            os.close(descriptor)
    except OSError as error:
        # Some network and FUSE filesystems cannot sync a directory and say so this way.
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):
            raise storage_error(error, "sync", path) from error


def _claim(descriptor: int, path: Path) -> bool:
    """Locks a new temporary file; False when a sweeper was faster and is removing it."""
    try:
        return try_lock(descriptor) and is_open_as(descriptor, path)
    except OSError:
        return True  # no locks on this filesystem: then no sweeper removes anything either


def _create_aside(directory: Path, mode: int) -> tuple[int, Path]:
    while True:
        path = directory / f"{TEMPORARY_PREFIX}{os.getpid()}-{os.urandom(8).hex()}"
        try:
            descriptor = os.open(path, _CREATE, mode)
        except FileExistsError:
            continue
        except OSError as error:
            raise storage_error(error, "create a file in", directory) from error
        if _claim(descriptor, path):
            return descriptor, path
        os.close(descriptor)


def _write_all(descriptor: int, parts: Sequence[bytes | memoryview]) -> int:
    total = sum(part.nbytes if isinstance(part, memoryview) else len(part) for part in parts)
    if not hasattr(os, "writev"):
        parts, done = (b"".join(parts),), 0
    else:
        done = os.writev(descriptor, parts) if total else 0
    if done == total:
        return total
    # A short write: a signal, a file size limit, or more than 2 GiB at once.
    for part in parts:
        view = memoryview(part).cast("B")
        skipped = min(done, len(view))
        done -= skipped
        view = view[skipped:]
        while view:
            view = view[os.write(descriptor, view) :]
    return total


def _make_directories(directory: Path) -> list[Path]:
    """Makes a directory and its parents; returns those that got a new name in them."""
    missing = []
    while not directory.is_dir():
        missing.append(directory)
        directory = directory.parent
    for each in reversed(missing):
        with contextlib.suppress(FileExistsError):
            os.mkdir(each)
    return [each.parent for each in missing]


def _adopt_group(descriptor: int, directory: Path) -> None:
    """Gives the file the group of a setgid directory, which a rename into it does not."""
    there = os.stat(directory)
    if there.st_mode & stat.S_ISGID and os.fstat(descriptor).st_gid != there.st_gid:
        with contextlib.suppress(OSError):  # not a member of that group: not worth failing for
            os.fchown(descriptor, -1, there.st_gid)


class DurableFile:
    """A file being written aside, invisible under its own name until it is published.

    As a context manager it discards what was not published. For one thread at a time.

    Args:
        directory: Where the temporary file lies; on the filesystem of the later target.
        mode: Permission bits, from which the umask takes away.

    Raises:
        StorageError: The file cannot be created.
    """

    def __init__(self, directory: Path, *, mode: int = 0o666) -> None:
        self._descriptor, self._path = _create_aside(directory, mode)
        self._size = 0

    @property
    def size(self) -> int:
        """Bytes written so far."""
        return self._size

    def write(self, parts: Sequence[bytes | memoryview]) -> None:
        """Appends bytes, many parts in one system call.

        Raises:
            StorageError: They could not all be written; the file is discarded.
            UsageError: The file was published or discarded before.
        """
        descriptor = self._opened()
        try:
            for start in range(0, len(parts), _IOV_MAX):
                self._size += _write_all(descriptor, parts[start : start + _IOV_MAX])
        except OSError as error:
            self.discard()
            raise storage_error(error, "write", self._path) from error

    def publish(self, target: Path) -> None:
        """Gives the file its name, durably, in place of what had that name before.

        Missing parent directories are made. When this returns, the file survives a power cut.

        Args:
            target: The name, on the same filesystem as the temporary file.

        Raises:
            StorageError: The file is discarded and what `target` named before is untouched. Only
                where the very last step fails, syncing a directory, is the new file in place
                already, though perhaps not after a power cut.
            UsageError: The file was published or discarded before.
        """
        descriptor = self._opened()
        try:
            grown = _make_directories(target.parent)
            if sys.platform == "win32":
                _sync(descriptor)
                self._close()  # an open file cannot be renamed there
            else:
                _adopt_group(descriptor, target.parent)
                _sync(descriptor)
            os.replace(self._path, target)
        except OSError as error:
            self.discard()
            raise storage_error(error, "write", target) from error
        self._close()  # only now: until the rename its lock keeps sweepers away
        for directory in (target.parent, *grown):
            fsync_directory(directory)

    def discard(self) -> None:
        """Removes the file unless it was published; harmless when repeated."""
        if self._descriptor >= 0:
            with contextlib.suppress(OSError):  # then the next sweep removes it
                os.unlink(self._path)
            self._close()

    def _opened(self) -> int:
        if self._descriptor < 0:
            raise UsageError(f"{str(self._path)!r} was published or discarded before")
        return self._descriptor

    def _close(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            with contextlib.suppress(OSError):  # synced or given up: nothing can be lost here
                os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.discard()


def write_durably(path: Path, data: bytes, *, mode: int = 0o666) -> None:
    """Writes a small file so that, at any moment, either the old or the new one is there.

    A symbolic link at `path` is replaced, not followed. What killed writers left in the directory
    is removed first: it may be one of the user's.

    Args:
        path: The file; its directory must exist.
        data: All of its bytes.
        mode: Permission bits, from which the umask takes away.

    Raises:
        StorageError: The old file, if any, is untouched; see `DurableFile.publish`.
    """
    with contextlib.suppress(StorageError):  # a directory that cannot be listed can be written
        sweep(path.parent)
    with DurableFile(path.parent, mode=mode) as file:
        file.write((data,))
        file.publish(path)


def sweep(directory: Path) -> int:
    """Removes the temporary files of dead processes from a directory.

    Files of live processes are locked by them, on whichever machine they run; on a filesystem
    without locks nothing is removed.

    Returns:
        How many files were removed.

    Raises:
        StorageError: The directory cannot be read; fine when it is missing.
    """
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise storage_error(error, "list the directory", directory) from error
    return sum(
        _remove_unless_locked(directory / name) for name in names if _TEMPORARY.fullmatch(name)
    )


def _remove_unless_locked(path: Path) -> bool:
    flags = os.O_WRONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    # Whatever fails here, a lock, a permission or a file just published, says: not ours to remove.
    with contextlib.suppress(OSError):
        descriptor = os.open(path, flags)
        try:
            if try_lock(descriptor) and is_open_as(descriptor, path):
                os.unlink(path)
                return True
        finally:
            os.close(descriptor)
    return False
