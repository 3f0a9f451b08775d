"""Directories below one directory, opened so that no link leads out of it.

Every directory is opened relative to the one above it, by descriptor, and symbolic links are
refused. What is then done relative to such a descriptor happens in that directory, whatever becomes
of its name meanwhile; whether the name was led elsewhere is looked at when the directory is closed.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections import OrderedDict
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from datastore.errors import ConflictError
from datastore.storage.local import storage_error
from datastore.storage.private import DIRECTORY_FLAGS

NOT_FOLLOWED: Final = (errno.ELOOP, errno.EMLINK, errno.ENOTDIR)
"""What opening a link or a file as a directory fails with; EMLINK is FreeBSD's ELOOP."""

_KEPT_OPEN: Final = 64  # far below any limit, and files come sorted by directory
_STAYS: Final = (errno.EBUSY, errno.EEXIST, errno.EINVAL, errno.ENOENT, *NOT_FOLLOWED)


@dataclass(slots=True)
class Directory:
    """An open directory.

    Attributes:
        descriptor: Of the directory; valid until another directory is asked for.
        inode: Its number, to tell later whether its name still leads to it.
        group: Number of the group that a setgid directory gives to what is made in it, else -1.
        apart: Whether files cannot be renamed into it from the staging directory.
        written: Whether anything was put into it.
    """

    descriptor: int
    inode: int
    group: int
    apart: bool
    written: bool = False


class Directories:
    """The directories below a top; for one thread at a time.

    Args:
        top: Taken as it is, also when a symbolic link: which directory it is, the caller decides.

    Raises:
        StorageError: The top cannot be opened.
    """

    def __init__(self, top: Path) -> None:
        self._path = top
        self._open: OrderedDict[str, Directory] = OrderedDict()
        self._moved: set[str] = set()
        try:
            descriptor = os.open(top, os.O_RDONLY | getattr(os, "O_DIRECTORY", 0))
        except OSError as error:
            raise storage_error(error, "open the directory", top) from error
        self._top = _describe(descriptor, apart=False)

    def find(self, path: str) -> Directory | None:
        """Opens a directory, "" for the top; None where there is none.

        Raises:
            ConflictError: A symbolic link or something else that is no directory is on the way.
            StorageError: It cannot be opened.
        """
        found = self._open.get(path)
        if found is None:
            return self._walk(path, create=False)
        self._open.move_to_end(path)
        return found

    def make(self, path: str) -> Directory:
        """Opens a directory, "" for the top, and makes it and those above it when missing.

        Raises:
            ConflictError: A symbolic link or something else that is no directory is on the way.
            StorageError: It cannot be made or opened.
        """
        found = self._open.get(path)
        if found is None:
            found = self._walk(path, create=True)
            if found is None:
                raise in_the_way(path, "is removed as soon as it is made")
        else:
            self._open.move_to_end(path)
        return found

    def remove_empty(self, path: str) -> bool:
        """Removes a directory if it is empty.

        Raises:
            ConflictError: Something on the way is no directory.
            StorageError: It is empty and cannot be removed.
        """
        head, _, name = path.rpartition("/")
        parent = self.find(head)
        if parent is None:
            return False
        try:
            os.rmdir(name, dir_fd=parent.descriptor)
        except OSError as error:
            if error.errno in (*_STAYS, errno.ENOTEMPTY):
                return False
            raise storage_error(error, "remove the directory", self.full(path)) from error
        gone = self._open.pop(path, None)
        if gone is not None:
            os.close(gone.descriptor)
        return True

    def full(self, path: str) -> str:
        """Returns a path with the top in front, for messages."""
        return os.path.join(self._path, path)

    def close(self) -> tuple[str, ...]:
        """Closes all; harmless when repeated.

        Returns:
            The directories that were written into and are now elsewhere or gone, sorted.
        """
        while self._open:
            self._close_oldest()
        if self._top.descriptor >= 0:
            os.close(self._top.descriptor)
            self._top.descriptor = -1
        return tuple(sorted(self._moved))

    def _walk(self, path: str, *, create: bool) -> Directory | None:
        head, missing = path, []
        while head and head not in self._open:
            head, _, name = head.rpartition("/")
            missing.append(name)
        current = self._open[head] if head else self._top
        if head:
            self._open.move_to_end(head)
        for name in reversed(missing):
            head = f"{head}/{name}" if head else name
            descriptor = self._descend(current, name, head, create=create)
            if descriptor < 0:
                return None
            current = self._open[head] = _describe(descriptor, apart=current.apart)
            if len(self._open) > _KEPT_OPEN:
                self._close_oldest()
        return current

    def _descend(self, parent: Directory, name: str, path: str, *, create: bool) -> int:
        try:
            try:
                return os.open(name, DIRECTORY_FLAGS, dir_fd=parent.descriptor)
            except FileNotFoundError:
                if not create:
                    return -1
            with contextlib.suppress(FileExistsError):
                os.mkdir(name, dir_fd=parent.descriptor)
            return os.open(name, DIRECTORY_FLAGS, dir_fd=parent.descriptor)
        except OSError as error:
            if error.errno in NOT_FOLLOWED:
                raise in_the_way(path, "is a symbolic link or a file, not a directory") from error
            raise storage_error(error, "open the directory", self.full(path)) from error

    def _close_oldest(self) -> None:
        path, directory = self._open.popitem(last=False)
        if directory.written and not self._leads_to(path, directory):
            self._moved.add(path)
        os.close(directory.descriptor)

    def _leads_to(self, path: str, directory: Directory) -> bool:
        try:
            there = os.stat(path, dir_fd=self._top.descriptor, follow_symlinks=False)
        except OSError:
            return False
        return there.st_ino == directory.inode


def in_the_way(path: str, why: str) -> ConflictError:
    """Says that something has to be moved before `path` can be written.

    Args:
        path: What is in the way.
        why: What it is, to be read after the path: ``"is a directory"``.
    """
    return ConflictError(
        f"{path!r} {why}",
        paths=(path,),
        hint="Move it away and run the command again: nothing is written through links.",
        where=path,
    )


def _describe(descriptor: int, *, apart: bool) -> Directory:
    there = os.fstat(descriptor)
    group = there.st_gid if there.st_mode & stat.S_ISGID else -1
    return Directory(descriptor, there.st_ino, group, apart)
