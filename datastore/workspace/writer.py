"""Writes a version's files into the workspace: never anywhere else, never half.

All is done relative to directories opened by descriptor (`Directories`), so that nothing that is in
the workspace already, or happens to it meanwhile, can lead a write out of it. A file is written
aside and renamed (`Staging`): what was at its name, be it a link to elsewhere or one of several
hard links, is replaced and not written through.

Nothing is synced: what is written here can be written again, and a file that a power cut emptied is
found by its size. A small file costs six system calls.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterable
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from datastore.errors import ConflictError, DatastoreError, NotFoundError
from datastore.storage.local import storage_error
from datastore.workspace.directories import NOT_FOLLOWED, Directories, in_the_way
from datastore.workspace.paths import check_path
from datastore.workspace.staging import Staging, sweep_staging

__all__ = ["Writer", "sweep_staging"]

# Without O_NONBLOCK, opening a named pipe would wait for ever for somebody at its other end.
_OLD: Final = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)


class Writer:
    """Creates and removes files below one directory; a context manager, for one thread at a time.

    Paths are relative to `top` and pass `check_path`, also where something is only removed. Leaving
    the context raises a `ConflictError` when a directory that was written into has been moved away
    or replaced meanwhile: then what was written is where that directory is now.

    Args:
        top: The directory, which must exist. It is taken as it is, also when a symbolic link.
        staging: Where files are written before they get their names; made when missing. Where that
            is another filesystem, they are written beside their names instead, under temporary
            names that begin with `datastore.storage.local.TEMPORARY_PREFIX`.
    """

    def __init__(self, top: Path, staging: Path) -> None:
        self._top = top
        self._staging_path = staging

    def __enter__(self) -> Self:
        self._directories = Directories(self._top)
        try:
            self._staging = Staging(self._staging_path)
        except BaseException:
            self._directories.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._staging.close()
        moved = self._directories.close()
        if moved and error is None:
            raise ConflictError(
                f"{moved[0]!r} was moved or removed while files were written into it",
                paths=moved,
                hint="See where it went, then run the command again.",
                where=moved[0],
            )

    def write_file(
        self, path: str, parts: Iterable[bytes | memoryview], *, executable: bool, size: int
    ) -> os.stat_result:
        """Writes a file, in place of whatever file or link has its name.

        Args:
            path: The file; missing directories are made.
            parts: Its bytes, in order. What the iterator raises goes through.
            executable: Whether it gets the executable bits, of which the umask takes away.
            size: How many bytes there must be.

        Returns:
            The state of the file under its name, for a stat cache.

        Raises:
            FormatError: The path is hostile.
            ConflictError: A directory has the name, or something on the way is no directory, or
                somebody else put another file there at the same moment.
            CorruptionError: There were more or fewer bytes than `size`.
            StorageError: The file cannot be written; what was there before is untouched.
        """
        check_path(path)
        head, _, name = path.rpartition("/")
        parent = self._directories.make(head)
        try:
            mode = 0o777 if executable else 0o666
            before = self._staging.place_file(parent, name, parts, path=path, mode=mode, size=size)
            parent.written = True
            after = os.stat(name, dir_fd=parent.descriptor, follow_symlinks=False)
        except DatastoreError:
            raise
        except OSError as error:
            raise self._failure(error, path, "write") from error
        if (before.st_ino, before.st_size, before.st_mtime_ns) != (
            after.st_ino,
            after.st_size,
            after.st_mtime_ns,
        ):
            raise ConflictError(
                f"{path!r} was changed by another program while it was written",
                paths=(path,),
                hint="Find out which program writes there, then run the command again.",
                where=path,
            )
        return after

    def write_link(self, path: str, target: bytes) -> os.stat_result:
        """Makes a symbolic link, in place of whatever file or link has its name.

        The target is not looked at: see `datastore.workspace.paths.check_link_target`.

        Returns:
            The state of the link itself.

        Raises:
            FormatError: The path is hostile.
            ConflictError: A directory has the name, or something on the way is no directory.
            StorageError: The link cannot be made; what was there before is untouched.
        """
        check_path(path)
        head, _, name = path.rpartition("/")
        parent = self._directories.make(head)
        try:
            self._staging.place_link(parent, name, target)
            parent.written = True
            return os.stat(name, dir_fd=parent.descriptor, follow_symlinks=False)
        except OSError as error:
            raise self._failure(error, path, "make the link") from error

    def make_directory(self, path: str) -> None:
        """Makes a directory and those above it; fine when they are there.

        Raises:
            FormatError: The path is hostile.
            ConflictError: A symbolic link or something else that is no directory is in the way.
            StorageError: The directory cannot be made.
        """
        check_path(path)
        self._directories.make(path)

    def remove(self, path: str) -> bool:
        """Removes a file or a link, not what the link points to.

        Returns:
            Whether there was one.

        Raises:
            FormatError: The path is hostile.
            ConflictError: It is a directory, or something on the way is none.
            StorageError: It cannot be removed.
        """
        check_path(path)
        head, _, name = path.rpartition("/")
        parent = self._directories.find(head)
        if parent is None:
            return False
        try:
            os.unlink(name, dir_fd=parent.descriptor)
        except FileNotFoundError:
            return False
        except OSError as error:
            raise self._failure(error, path, "remove") from error
        return True

    def remove_directory(self, path: str) -> bool:
        """Removes a directory if it is empty.

        Returns:
            Whether there was one and it was empty.

        Raises:
            FormatError: The path is hostile.
            ConflictError: Something on the way is no directory.
            StorageError: It is empty and cannot be removed.
        """
        check_path(path)
        return self._directories.remove_empty(path)

    def prune(self, paths: Iterable[str]) -> int:
        """Removes the directories above these paths where they are now empty, never the top.

        Args:
            paths: What was removed.

        Returns:
            How many directories were removed.

        Raises:
            FormatError: A path is hostile.
            ConflictError: Something on the way is no directory.
            StorageError: A directory is empty and cannot be removed.
        """
        heads: set[str] = set()
        for path in paths:
            check_path(path)
            head = path.rpartition("/")[0]
            while head and head not in heads:
                heads.add(head)
                head = head.rpartition("/")[0]
        # Deepest first: a directory becomes empty only when those in it are gone.
        order = sorted(heads, key=lambda head: (-head.count("/"), head))
        return sum(map(self._directories.remove_empty, order))

    def set_executable(self, path: str, flag: bool) -> os.stat_result:  # noqa: FBT001
        """Sets the executable bit for all who may read the file, or clears it.

        Other hard links of the file show the bit too: it belongs to the file, not to the name.

        Returns:
            The state of the file, for a stat cache.

        Raises:
            FormatError: The path is hostile.
            NotFoundError: There is no such file.
            ConflictError: It is no regular file, or something on the way is no directory.
            StorageError: The bit cannot be changed.
        """
        check_path(path)
        head, _, name = path.rpartition("/")
        parent = self._directories.find(head)
        if parent is None:
            raise _missing(path)
        try:
            descriptor = os.open(name, _OLD, dir_fd=parent.descriptor)
            try:
                return _change_mode(descriptor, path, executable=flag)
            finally:
                os.close(descriptor)
        except FileNotFoundError as error:
            raise _missing(path) from error
        except OSError as error:
            if error.errno in NOT_FOLLOWED:
                raise in_the_way(path, "is a symbolic link") from error
            raise self._failure(error, path, "change the mode of") from error

    def _failure(self, error: OSError, path: str, doing: str) -> DatastoreError:
        full = self._directories.full(path)
        with contextlib.suppress(OSError):
            if stat.S_ISDIR(os.lstat(full).st_mode):
                return in_the_way(path, "is a directory")
        return storage_error(error, doing, full)


def _missing(path: str) -> NotFoundError:
    return NotFoundError(
        f"there is no file {path!r}",
        hint="Run the command again: it was removed meanwhile.",
        where=path,
    )


def _change_mode(descriptor: int, path: str, *, executable: bool) -> os.stat_result:
    there = os.fstat(descriptor)
    if not stat.S_ISREG(there.st_mode):
        raise in_the_way(path, "is not a regular file")
    mode = stat.S_IMODE(there.st_mode)
    wanted = mode | (mode & 0o444) >> 2 if executable else mode & ~0o111
    if wanted == mode:
        return there
    os.fchmod(descriptor, wanted)
    return os.fstat(descriptor)
