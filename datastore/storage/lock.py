"""Who is at work: locks that the kernel drops when their process dies, however it dies.

`FileLock` lets one process or thread in and tells the others who it is. Nothing here relies on
process numbers, which mean nothing in another container or on another machine that shares the disk:
they are only shown to people.
"""

from __future__ import annotations

import contextlib
import json
import os
import platform
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from datastore.errors import LockedError, StorageError
from datastore.storage.failures import storage_error

DEFAULT_TIMEOUT: Final = 30.0
"""Seconds a ``with FileLock(...)`` waits."""

_FIRST_PAUSE: Final = 0.005
_LONGEST_PAUSE: Final = 0.1
_COMMAND_SHOWN: Final = 120  # letters: what comes after it has to be read too
_RECORD_LIMIT: Final = 4096  # bytes of a holder record that are looked at

if sys.platform == "win32":
    import msvcrt

    def try_lock(descriptor: int, *, shared: bool = False) -> bool:  # noqa: ARG001
        """Locks an open file if nobody else has; the lock dies with the descriptor.

        There are no shared locks here: one holder at a time is always right, only slower.
        """
        position = os.lseek(descriptor, 0, os.SEEK_CUR)
        try:
            # Locks are mandatory here: one byte far beyond any content leaves that readable.
            os.lseek(descriptor, 2**30, os.SEEK_SET)
            msvcrt.locking(descriptor, msvcrt.LK_NBLCK, 1)
        except PermissionError:
            return False
        finally:
            os.lseek(descriptor, position, os.SEEK_SET)
        return True

    def unlock(descriptor: int) -> None:
        """Unlocks an open file, also for processes that inherited the descriptor."""
        position = os.lseek(descriptor, 0, os.SEEK_CUR)
        os.lseek(descriptor, 2**30, os.SEEK_SET)
        msvcrt.locking(descriptor, msvcrt.LK_UNLCK, 1)
        os.lseek(descriptor, position, os.SEEK_SET)

else:
    import fcntl

    def try_lock(descriptor: int, *, shared: bool = False) -> bool:
        """Locks an open file if nobody else has; the lock dies with the descriptor.

        Args:
            descriptor: The open file.
            shared: Let others in who share it too.

        Raises:
            OSError: The filesystem has no locks.
        """
        try:
            fcntl.flock(descriptor, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    def unlock(descriptor: int) -> None:
        """Unlocks an open file, also for processes that inherited the descriptor."""
        fcntl.flock(descriptor, fcntl.LOCK_UN)


def is_open_as(descriptor: int, path: Path | str, *, within: int | None = None) -> bool:
    """Says whether `path` still names the open file, and not another one or none.

    Args:
        descriptor: The open file.
        path: Its name when it was opened; the last component is not followed.
        within: An open directory that `path` is relative to.
    """
    try:
        there = os.stat(path, dir_fd=within, follow_symlinks=False)
    except FileNotFoundError:
        return False
    return os.path.samestat(os.fstat(descriptor), there)


class FileLock:
    """A lock that one thread of one process holds at a time; a context manager.

    The lock is the kernel's lock on the file, not the file: the file stays, and says who holds the
    lock or held it last. It is not re-entrant.

    Args:
        path: The lock file; made when missing, its directory must exist.
        command: What the holder is doing, for those who wait: ``"add"``.
        shared: Hold it together with others who share it. Who wants it alone waits for all of them
            and is told of the one who came last.
    """

    def __init__(self, path: Path, *, command: str, shared: bool = False) -> None:
        self._path = path
        self._command = command
        self._shared = shared
        self._descriptor = -1
        self._owner: tuple[int, int] | None = None  # process, thread
        self._entered = False

    def acquire(self, timeout: float, on_wait: Callable[[str], None] | None = None) -> Self:
        """Takes the lock.

        Args:
            timeout: Seconds to wait for it; 0 tries once.
            on_wait: Called once, with a sentence that names the holder, if there is a wait.

        Returns:
            The lock itself, to be used as a context manager.

        Raises:
            LockedError: Somebody else holds it and went on to.
            StorageError: The file cannot be opened or locked.
        """
        wait = _Wait(self._path, timeout, on_wait, shared=self._shared)
        while True:
            descriptor = self._open()
            try:
                wait.until_locked(descriptor)
                # Somebody may have deleted the file since it was opened, and others may hold the
                # one that was made in its place.
                if is_open_as(descriptor, self._path):
                    self._hold(descriptor)
                    return self
            except BaseException:
                os.close(descriptor)
                raise
            os.close(descriptor)
            wait.again()

    def release(self) -> None:
        """Lets the next one in; harmless when the lock is not held."""
        descriptor, self._descriptor = self._descriptor, -1
        owner, self._owner = self._owner, None
        if descriptor < 0:
            return
        if owner is not None and owner[0] == os.getpid():  # a forked child must not let others in
            with contextlib.suppress(OSError):  # the record is for people, the lock is the kernel's
                if not self._shared:  # it may be another's by now
                    os.ftruncate(descriptor, 0)
            with contextlib.suppress(OSError):  # closing unlocks too, unless a child has a copy
                unlock(descriptor)
        os.close(descriptor)

    def _open(self) -> int:
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
        try:
            return os.open(self._path, flags, 0o666)
        except OSError as error:
            raise storage_error(error, "open the lock", self._path) from error

    def _hold(self, descriptor: int) -> None:
        record = {
            "pid": os.getpid(),
            "host": platform.node(),
            "command": self._command[:_COMMAND_SHOWN],
            "since": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()),
        }
        with contextlib.suppress(OSError):  # a full disk must not keep the lock from being held
            os.ftruncate(descriptor, 0)
            os.lseek(descriptor, 0, os.SEEK_SET)  # reading the holder before has moved it
            os.write(descriptor, json.dumps(record).encode())
        self._entered = False
        self._owner = (os.getpid(), threading.get_ident())
        self._descriptor = descriptor

    def __enter__(self) -> Self:
        # Either `acquire` was called just before, or it is called now. A lock entered twice waits
        # for itself: were it let in, the inner block would let others into the outer one.
        if self._entered or self._owner != (os.getpid(), threading.get_ident()):
            self.acquire(DEFAULT_TIMEOUT)
        self._entered = True
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


class _Wait:
    """One wait for a lock, over however many files there are under its name meanwhile."""

    def __init__(
        self, path: Path, timeout: float, on_wait: Callable[[str], None] | None, *, shared: bool
    ) -> None:
        self._path = path
        self._shared = shared
        self._deadline = time.monotonic() + timeout
        self._on_wait = on_wait
        self._reopened = 0

    def until_locked(self, descriptor: int) -> None:
        pause = _FIRST_PAUSE
        while not self._try(descriptor):
            holder = _read_holder(descriptor)
            left = self._deadline - time.monotonic()
            if left <= 0:
                raise self._locked(holder)
            if self._on_wait is not None:
                self._on_wait(f"waiting for {str(self._path)!r}, which is locked by {holder}")
                self._on_wait = None
            time.sleep(min(pause, left))
            pause = min(pause * 1.5, _LONGEST_PAUSE)

    def again(self) -> None:
        """Counts a lock file that was gone when it was locked; that cannot go on for ever."""
        self._reopened += 1
        if self._reopened >= 100:
            raise StorageError(
                f"the lock {str(self._path)!r} is replaced again and again",
                retryable=True,
                hint="Find out which program deletes it; a lock file need never be deleted.",
                where=str(self._path),
            )

    def _try(self, descriptor: int) -> bool:
        try:
            return try_lock(descriptor, shared=self._shared)
        except OSError as error:
            raise storage_error(error, "lock", self._path) from error

    def _locked(self, holder: str) -> LockedError:
        return LockedError(
            f"{str(self._path)!r} is locked by {holder}",
            holder=holder,
            hint="Wait for it to end, then run the command again. The lock ends with its process:"
            " the file need not be deleted.",
            where=str(self._path),
        )


def _read_holder(descriptor: int) -> str:
    """Reads who holds a lock; the record may be missing, half written or not ours at all."""
    unknown = "another process"
    try:
        os.lseek(descriptor, 0, os.SEEK_SET)
        record = json.loads(os.read(descriptor, _RECORD_LIMIT))
        text = "pid {pid} on {host} ({command}, since {since})".format_map(record)
    except (OSError, ValueError, LookupError, TypeError, RecursionError):
        return unknown
    return "".join(letter if letter.isprintable() else "?" for letter in text[:300])
