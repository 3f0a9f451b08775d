"""Where the files of a version are made before they get their names.

A file is written aside, in a directory of this process alone, and then renamed: whoever looks at
its name sees the old file or the whole new one. Where the staging directory is on another
filesystem, which cannot rename to here, files are made beside their names under temporary ones.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from datastore.errors import CorruptionError
from datastore.storage.local import TEMPORARY_PREFIX
from datastore.storage.private import PrivateDirectory, sweep_private
from datastore.workspace.directories import Directory

_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_NOFOLLOW", 0)
_COPY_BYTES: Final = 1 << 20


def sweep_staging(staging: Path) -> int:
    """Removes what killed writers left in a staging directory; live ones keep theirs.

    Returns:
        How many writers' remains were removed.

    Raises:
        ConflictError: `staging` is a symbolic link or not a directory.
        StorageError: It cannot be read.
    """
    return sweep_private(staging)


class Staging:
    """A place to make files and links aside; sweeps after dead ones when it is opened.

    Args:
        path: The staging directory; made when missing.

    Raises:
        ConflictError: It is a symbolic link or not a directory.
        StorageError: It cannot be used.
    """

    def __init__(self, path: Path) -> None:
        sweep_staging(path)
        self._private = PrivateDirectory(path)
        self._count = 0

    def close(self) -> None:
        """Removes what was never given a name; harmless when repeated."""
        self._private.close()

    def place_file(
        self,
        parent: Directory,
        name: str,
        parts: Iterable[bytes | memoryview],
        *,
        path: str,
        mode: int,
        size: int,
    ) -> os.stat_result:
        """Makes a file and gives it its name, in place of whatever file or link has that.

        Args:
            parent: The directory it gets into.
            name: Its name there.
            parts: Its bytes, in order.
            path: What messages call it.
            mode: Permission bits, from which the umask takes away.
            size: How many bytes there must be.

        Returns:
            The state of the file before it was renamed.

        Raises:
            CorruptionError: There were more or fewer bytes than `size`.
            OSError: The system refused.
        """
        where, aside = self._aside(parent)
        try:
            before = _fill(where, aside, parts, path=path, mode=mode, size=size, into=parent)
            os.rename(aside, name, src_dir_fd=where, dst_dir_fd=parent.descriptor)
        except BaseException as error:
            if not (isinstance(error, OSError) and self._is_apart(error, parent)):
                _drop(where, aside)
                raise
        else:
            return before
        try:  # once more, beside the name; the bytes cannot be asked for again
            again = _read(where, aside)
            return self.place_file(parent, name, again, path=path, mode=mode, size=size)
        finally:
            _drop(where, aside)

    def place_link(self, parent: Directory, name: str, target: bytes) -> None:
        """Makes a symbolic link and gives it its name, in place of whatever file or link has that.

        Raises:
            OSError: The system refused.
        """
        where, aside = self._aside(parent)
        os.symlink(os.fsdecode(target), aside, dir_fd=where)
        try:
            os.rename(aside, name, src_dir_fd=where, dst_dir_fd=parent.descriptor)
        except BaseException as error:
            _drop(where, aside)
            if not (isinstance(error, OSError) and self._is_apart(error, parent)):
                raise
            self.place_link(parent, name, target)

    def _aside(self, parent: Directory) -> tuple[int, str]:
        self._count += 1
        if parent.apart:
            name = f"{TEMPORARY_PREFIX}{self._private.name}-{self._count:x}"
            return parent.descriptor, name
        return self._private.descriptor, f"{self._count:x}"

    def _is_apart(self, error: OSError, parent: Directory) -> bool:
        """Says whether a renaming failed only because the staging directory is elsewhere.

        This is found out by trying, once for each directory: bind mounts and subvolumes of one
        filesystem refuse too, and device numbers do not tell.
        """
        if error.errno != errno.EXDEV or parent.apart:
            return False
        parent.apart = True
        with contextlib.suppress(OSError):  # a courtesy
            self._sweep_beside(parent)
        return True

    def _sweep_beside(self, parent: Directory) -> None:
        """Removes what killed writers left beside the names they were to give."""
        names = [
            name for name in os.listdir(parent.descriptor) if name.startswith(TEMPORARY_PREFIX)
        ]
        # The living are listed after their files: whose directory is gone by now is dead.
        alive = self._private.siblings() if names else set()
        for name in names:
            owner = name.removeprefix(TEMPORARY_PREFIX).rpartition("-")[0]
            if owner.count("-") == 1 and owner not in alive:
                _drop(parent.descriptor, name)


def _fill(
    where: int,
    aside: str,
    parts: Iterable[bytes | memoryview],
    *,
    path: str,
    mode: int,
    size: int,
    into: Directory,
) -> os.stat_result:
    descriptor = os.open(aside, _NEW, mode, dir_fd=where)
    try:
        written = 0
        for part in parts:
            written += len(part)
            if written > size:
                break
            done = os.write(descriptor, part)
            while done < len(part):
                done += os.write(descriptor, part[done:])
        if written != size:
            raise CorruptionError(
                f"{path!r} should have {size} bytes, but "
                + (f"only {written} came" if written < size else "more came"),
                hint="Run `datastore verify` to find what is damaged.",
                where=path,
            )
        before = os.fstat(descriptor)
        if into.group >= 0 and before.st_gid != into.group:
            with contextlib.suppress(OSError):  # not a member of that group
                os.fchown(descriptor, -1, into.group)
        return before
    finally:
        os.close(descriptor)


def _read(where: int, aside: str) -> Iterator[bytes]:
    descriptor = os.open(aside, os.O_RDONLY, dir_fd=where)
    try:
        while part := os.read(descriptor, _COPY_BYTES):
            yield part
    finally:
        os.close(descriptor)


def _drop(where: int, aside: str) -> None:
    with contextlib.suppress(OSError):  # what stays is swept later
        os.unlink(aside, dir_fd=where)
