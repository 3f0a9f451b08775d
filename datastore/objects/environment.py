"""LMDB environments: one a process and directory, another one after a fork, errors translated.

LMDB forbids a second environment on the same files in one process, and one that was inherited
through a fork is of no use. Only this module and `datastore.objects.index` know LMDB.
"""

from __future__ import annotations

import contextlib
import errno
import os
import struct
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Final

import lmdb

from datastore.errors import StorageError
from datastore.storage.local import storage_error
from datastore.storage.lock import FileLock

MAP_SIZE: Final = 64 << 30
"""A sparse reservation of address space, fixed at open: growing a map under traffic is unsafe."""
MAX_READERS: Final = 2048
_PATIENCE: Final = {True: 5.0, False: 0.3}
"""Seconds to wait for the lock, shared or not: who removes the files holds it for a moment, who has
them open may never let go."""
_LOCK_SIZE: Final = (MAX_READERS + 2) * 64
_LITTLE_SPACE: Final = 1 << 20
_REFUSALS: Final = (
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EFBIG,
    errno.EIO,
    errno.EROFS,
    errno.EACCES,
    errno.EMFILE,
)
DAMAGE: Final = (
    lmdb.BadDbiError,
    lmdb.BadTxnError,  # of a transaction that met damage before
    lmdb.CorruptedError,
    lmdb.IncompatibleError,
    lmdb.InvalidError,
    lmdb.PageNotFoundError,
    lmdb.ProblemError,
    lmdb.VersionMismatchError,
)
"""What says that the files are bad, and not that the disk is full or memory is short."""


def failure(directory: Path, error: Exception) -> StorageError:
    """Says that an index failed and can be made again, unless the disk is to blame."""
    number = next((each for each in _REFUSALS if os.strerror(each) in str(error)), 0)
    if number:
        # LMDB calls it a fault of the disk, too, when only a part of what it wrote found room.
        number = errno.ENOSPC if number == errno.EIO and _is_full(directory) else number
        refusal = OSError(number, os.strerror(number))
        return storage_error(refusal, "write the index in", directory)
    return StorageError(
        f"the index in {directory} failed: {error}",
        where=str(directory),
        hint="it is a cache: 'datastore verify --rebuild-index' makes it again",
    )


def _lock(directory: Path, *, shared: bool) -> FileLock:
    """Takes the lock that is shared by those who have the files open."""
    lock = FileLock(directory / "open.lock", command=" ".join(sys.orig_argv[:6]), shared=shared)
    return lock.acquire(_PATIENCE[shared])


def _is_full(directory: Path) -> bool:
    try:
        disk = os.statvfs(directory)
    except OSError:
        return False
    return disk.f_bavail * disk.f_frsize < _LITTLE_SPACE


def _reserve(file: Path) -> None:
    """Takes the disk space of LMDB's lock file, which is mapped into memory and written to there.

    On a full disk the process would end with SIGBUS otherwise, and not with an error.

    Raises:
        OSError: There is no space, or the file cannot be made.
    """
    if not hasattr(os, "posix_fallocate"):
        return
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        # One that is there keeps its size: other processes have mapped just that.
        os.posix_fallocate(descriptor, 0, os.fstat(descriptor).st_size or _LOCK_SIZE)
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.EOPNOTSUPP):  # not on this file system
            raise
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def translated(directory: Path) -> Iterator[None]:
    """Turns LMDB's errors into ours at the edge."""
    try:
        yield
    except (lmdb.Error, struct.error) as error:
        raise failure(directory, error) from error
    except OSError as error:
        if isinstance(error, StorageError):
            raise
        raise storage_error(error, "use", directory) from error


def _identity(directory: Path) -> tuple[int, int]:
    status = directory.stat()
    return status.st_dev, status.st_ino


class Environment:
    """An open environment with its tables; shared by all who use the directory in this process.

    Raises:
        lmdb.Error: The files cannot be opened.
    """

    _open: ClassVar[dict[tuple[int, int], Environment]] = {}
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, directory: Path) -> None:
        self.users = 0
        self.process = os.getpid()
        self.closed = False
        self._lock_file = _lock(directory, shared=True)
        try:
            self._open_tables(directory)
        except BaseException:
            self._lock_file.release()
            raise

    def _open_tables(self, directory: Path) -> None:
        _reserve(directory / "lock.mdb")
        self.env = lmdb.open(
            str(directory),
            map_size=MAP_SIZE,
            max_dbs=8,
            max_readers=MAX_READERS,
            # A spare transaction keeps a place in the table of readers, which a forked child that
            # closes its copy would give up for its parent.
            max_spare_txns=0,
            writemap=False,
            # LMDB 1.0's file format is not readable by 0.9, and the reverse.
            lib_version=0,
        )
        try:
            self.env.reader_check()
            self.chunks = self.env.open_db(b"chunk")
            self.packs = self.env.open_db(b"pack")
            self.meta = self.env.open_db(b"meta")
            self.stat = self.env.open_db(b"stat")
        except lmdb.Error:
            self.env.close()
            raise

    @classmethod
    def acquire(cls, directory: Path) -> Environment:
        """Returns the environment of a directory, opened if need be; give it back by `release`.

        Raises:
            lmdb.Error: The files cannot be opened.
            OSError: There is no such directory.
        """
        key = _identity(directory)
        with cls._lock:
            environment = cls._open.get(key)
            if environment is not None and environment.process != os.getpid():
                environment.disown()
                environment = None
            if environment is None:
                environment = cls._open[key] = cls(directory)
            environment.users += 1
        return environment

    def release(self) -> None:
        """Gives up one use; the last one closes."""
        if self.closed or self.process != os.getpid():
            return
        with self._lock:
            self.users -= 1
            if not self.users:
                self.close()

    def disown(self) -> None:
        """Closes the copy that a forked child has; the parent keeps its own, and its lock.

        It is unusable in the child, and has to be closed before another one can be opened.
        """
        self.env.close()
        self._lock_file.release()

    @classmethod
    def discard(cls, directory: Path) -> None:
        """Removes the files; those who use them in this process open new ones next.

        Files that another process has open stay. Had it the old data and the next process the new,
        both would share one lock file that fits only one of them, or lock each for itself.

        Raises:
            LockedError: Another process has the index open.
            OSError: They cannot be removed.
        """
        with cls._lock:
            environment = cls._open.get(_identity(directory))
            if environment is not None and environment.process == os.getpid():
                environment.close()
        with _lock(directory, shared=False):
            for name in ("lock.mdb", "data.mdb"):
                (directory / name).unlink(missing_ok=True)

    def close(self) -> None:
        """Closes; called with the lock held."""
        for key in [key for key, value in self._open.items() if value is self]:
            del self._open[key]
        self.closed = True
        self.env.close()
        self._lock_file.release()

    @classmethod
    def after_fork(cls) -> None:
        """Gives the child a lock of its own: another thread may have held it at the fork."""
        cls._lock = threading.Lock()


os.register_at_fork(after_in_child=Environment.after_fork)
