"""Directories for the half-made files of one process, which others can tell from a dead one's."""

from __future__ import annotations

import contextlib
import errno
import os
import re
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from datastore.errors import ConflictError, StorageError
from datastore.storage.failures import storage_error
from datastore.storage.lock import is_open_as, try_lock

DIRECTORY_FLAGS: Final = os.O_RDONLY | getattr(os, "O_DIRECTORY", 0) | getattr(os, "O_NOFOLLOW", 0)
"""Open a directory, and never what a symbolic link points to."""

_LOCK_NAME: Final = "lock"
_LOCK_FLAGS: Final = os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0)
_NAME: Final = re.compile(r"[0-9]+-[0-9a-f]{16}")  # the process, for people, and chance


class PrivateDirectory:
    """A directory for one process; a context manager that removes it with all that is in it.

    It is locked while the process lives, so that `sweep_private` leaves it alone until then. It may
    hold files and links, not directories.

    Args:
        parent: Where it is made. Made too when missing, never followed when a symbolic link.

    Raises:
        ConflictError: `parent` is a symbolic link or not a directory.
        StorageError: The directory cannot be made.
    """

    def __init__(self, parent: Path) -> None:
        self._process = os.getpid()
        try:
            parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _refused(error, parent) from error
        self._parent = _open_parent(parent)
        try:
            # A sweeper can take a new directory for a dead one until it is locked.
            if not any(self._make() for _ in range(100)):
                raise StorageError(
                    f"cannot make a directory in {str(parent)!r}: each is removed at once",
                    hint="Find out which program deletes what is made there.",
                    where=str(parent),
                )
        except OSError as error:
            os.close(self._parent)
            if isinstance(error, StorageError):
                raise
            raise storage_error(error, "make a directory in", parent) from error

    @property
    def descriptor(self) -> int:
        """The open directory."""
        return self._descriptor

    @property
    def name(self) -> str:
        """Its name in the parent directory."""
        return self._name

    def siblings(self) -> set[str]:
        """Lists the names of all private directories in the parent, this one among them."""
        return {name for name in os.listdir(self._parent) if _NAME.fullmatch(name)}

    def _make(self) -> bool:
        self._name = f"{self._process}-{os.urandom(8).hex()}"
        with contextlib.ExitStack() as undo:
            try:
                os.mkdir(self._name, 0o700, dir_fd=self._parent)
                self._descriptor = os.open(self._name, DIRECTORY_FLAGS, dir_fd=self._parent)
                undo.callback(os.close, self._descriptor)
                self._lock = os.open(
                    _LOCK_NAME, _LOCK_FLAGS | os.O_EXCL, 0o600, dir_fd=self._descriptor
                )
                undo.callback(os.close, self._lock)
            except (FileNotFoundError, FileExistsError):
                return False
            if not self._claim():
                return False
            undo.pop_all()
        return True

    def _claim(self) -> bool:
        try:
            locked = try_lock(self._lock)
        except OSError:
            return True  # no locks on this filesystem: then no sweeper removes anything either
        return locked and is_open_as(self._lock, _LOCK_NAME, within=self._descriptor)

    def close(self) -> None:
        """Removes the directory and what is in it; harmless when repeated."""
        if self._parent < 0:
            return
        if self._process == os.getpid():  # a forked child only lets go of its copies
            _clear(self._parent, self._name, self._descriptor)
        for descriptor in (self._lock, self._descriptor, self._parent):
            os.close(descriptor)
        self._parent = -1

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def sweep_private(parent: Path) -> int:
    """Removes the private directories of dead processes.

    Those of live processes are locked by them, on whichever machine they run; on a filesystem
    without locks nothing is removed.

    Args:
        parent: As for `PrivateDirectory`; may be missing.

    Returns:
        How many were removed.

    Raises:
        ConflictError: `parent` is a symbolic link or not a directory.
        StorageError: It cannot be read.
    """
    if not os.path.lexists(parent):
        return 0
    above = _open_parent(parent)
    try:
        return sum(_sweep_one(above, name) for name in os.listdir(above) if _NAME.fullmatch(name))
    except OSError as error:
        raise storage_error(error, "list the directory", parent) from error
    finally:
        os.close(above)


def _sweep_one(above: int, name: str) -> bool:
    # Whatever fails here, a lock, a permission or a name gone meanwhile, says: not ours to remove.
    with contextlib.ExitStack() as opened, contextlib.suppress(OSError):
        directory = os.open(name, DIRECTORY_FLAGS, dir_fd=above)
        opened.callback(os.close, directory)
        # Made when missing: its owner, if alive, then finds it and starts again elsewhere.
        lock = os.open(_LOCK_NAME, _LOCK_FLAGS, 0o600, dir_fd=directory)
        opened.callback(os.close, lock)
        if try_lock(lock) and is_open_as(lock, _LOCK_NAME, within=directory):
            return _clear(above, name, directory)
    return False


def _clear(above: int, name: str, directory: int) -> bool:
    """Removes a locked directory; the lock goes last, so that it covers all that is before it."""
    with contextlib.suppress(OSError):
        for each in os.listdir(directory):
            if each != _LOCK_NAME:
                os.unlink(each, dir_fd=directory)
        os.unlink(_LOCK_NAME, dir_fd=directory)
        os.rmdir(name, dir_fd=above)
        return True
    return False


def _open_parent(parent: Path) -> int:
    try:
        return os.open(parent, DIRECTORY_FLAGS)
    except OSError as error:
        raise _refused(error, parent) from error


def _refused(error: OSError, parent: Path) -> ConflictError | StorageError:
    if error.errno in (errno.ELOOP, errno.ENOTDIR, errno.EEXIST):
        return ConflictError(
            f"{str(parent)!r} is a symbolic link or not a directory",
            paths=(str(parent),),
            hint="Move it away and run the command again: nothing is written through links.",
            where=str(parent),
        )
    return storage_error(error, "use", parent)
