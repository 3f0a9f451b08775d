"""Walking a dataset on disk and finding, by the stat cache, the few files that need a look.

The walk goes in the order of the dataset's keys, so that a first `add` can stream from here into
the tree with nothing but one directory in memory.
"""

from __future__ import annotations

import errno
import os
import stat
import time
import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from datastore.errors import DatastoreError, StorageError
from datastore.storage.local import TEMPORARY_PREFIX
from datastore.workspace.problems import VANISHED, Problem, Trouble, special_kind
from datastore.workspace.statcache import (
    Row,
    StatCache,
    compress,
    identity_of,
    pack_rows,
    summarize,
)

DIRECTORY_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
SELF_NAME: Final = ""
"""Name of the row by which an empty directory stands for itself."""
SINGLE: Final = "."
"""Stands for the directory of a dataset that is a single file, and for that file's key."""


class Ignoring(Protocol):
    """What is not part of a dataset."""

    def match(self, path: str, is_dir: bool) -> bool:  # noqa: FBT001 - a fact about the path
        """Whether a path (relative to the dataset) is ignored."""
        ...

    def may_match(self, directory: str) -> bool:
        """Whether anything directly in a directory can be ignored."""
        ...


@dataclass(slots=True)
class Found:
    """One directory (or the single file) of a dataset, as the walk passes it.

    Its files may come in several stretches: the walk goes through a subdirectory where that lies
    between two files in key order.
    """

    directory: str
    """Path relative to the dataset, ``""`` at the top, `SINGLE` for a single file, as the file
    system spells it."""
    descriptor: int
    """Open directory; valid until the walk goes on."""
    rows: list[Row]
    """Files and links of this stretch, in key order."""
    changed: list[Row]
    """Those of which the content is not known from the cache."""


@dataclass(slots=True)
class Seen:
    """What a walk has passed; complete once the walk is at its end."""

    captured_ns: int = 0
    """Before the first stat of the walk."""
    directories: set[bytes] = field(default_factory=set)
    """Identities of the directories passed."""
    fresh: list[tuple[str, bytes]] = field(default_factory=list)
    """Directories that do not match their record, with all their rows, packed: a million rows as
    Python objects would take 350 MB."""
    deleted: list[str] = field(default_factory=list)
    """Paths that the cache knows and the walk did not meet."""
    problems: list[Problem] = field(default_factory=list)


class _Subdirectory(NamedTuple):
    bound: str
    """Where it sorts: behind all keys that are smaller."""
    name: str
    hollow: bool | None
    """Whether it was found to be empty; None where that makes no difference to its place."""


@dataclass(slots=True)
class _Level:
    """A directory that the walk is in."""

    directory: str
    descriptor: int
    rows: list[Row]
    changed: set[str] | None
    subdirectories: Iterator[_Subdirectory]
    start: int = 0
    """The first row that was not passed yet."""


class Walk:
    """One pass over a dataset.

    Args:
        top: The dataset's directory or its single file.
        cache: What is known of it.
        ignoring: What is left out; None for nothing.
        prefix: Walks only this path inside the dataset.
    """

    def __init__(
        self, top: Path, cache: StatCache, *, ignoring: Ignoring | None = None, prefix: str = ""
    ) -> None:
        self._top = top
        self._cache = cache
        self._ignoring = ignoring
        self._prefix = prefix
        self.seen = Seen(captured_ns=time.time_ns())

    def __iter__(self) -> Iterator[Found]:
        if self._top.is_symlink() or not self._top.is_dir():
            yield from self._single_file()
        elif (self._top / self._prefix).is_symlink() or not (self._top / self._prefix).is_dir():
            yield from self._one_inside()
            return
        else:
            yield from self._directory(self._prefix, self._open(self._top / self._prefix))
        self._note_gone()

    def _open(self, directory: Path) -> int:
        try:
            return os.open(directory, DIRECTORY_FLAGS)
        except OSError as error:
            raise StorageError(
                f"{directory} cannot be read: {error.strerror}", where=str(directory)
            ) from error

    def _single_file(self) -> Iterator[Found]:
        try:
            row = row_of(self._top.name, self._top.lstat())
        except FileNotFoundError:
            return
        descriptor = self._open(self._top.parent)
        try:
            rows = self._supported(SINGLE, [row])
            level = _Level(SINGLE, descriptor, rows, self._changed(SINGLE, rows), iter(()))
            yield _stretch(level, len(rows))
        finally:
            os.close(descriptor)

    def _one_inside(self) -> Iterator[Found]:
        """Passes one file inside the dataset; the cache has nothing to say on it."""
        directory, _, name = self._prefix.rpartition("/")
        try:
            row = row_of(name, (self._top / self._prefix).lstat())
        except (FileNotFoundError, NotADirectoryError):
            return
        descriptor = self._open(self._top / directory)
        try:
            rows = self._supported(self._prefix, [row])
            yield Found(directory, descriptor, rows, rows)
        finally:
            os.close(descriptor)

    def _supported(self, path: str, rows: list[Row]) -> list[Row]:
        """Drops, as a problem, what is neither a file nor a link."""
        kept = [row for row in rows if stat.S_ISREG(row.mode) or stat.S_ISLNK(row.mode)]
        for row in rows:
            if row not in kept:
                self._problem(path, special_kind(row.mode))
        return kept

    def _directory(self, directory: str, descriptor: int) -> Iterator[Found]:
        """Walks a directory and what is below; closes the descriptor."""
        # A stack of our own: directories can be nested deeper than Python's goes.
        levels = [self._level(directory, descriptor)]
        try:
            while levels:
                level = levels[-1]
                inner = next(level.subdirectories, None)
                stop = len(level.rows)
                cut = stop if inner is None else _position(level.rows, inner.bound, level.start)
                if cut > level.start:
                    yield _stretch(level, cut)
                    level.start = cut
                if inner is None:
                    os.close(levels.pop().descriptor)
                else:
                    below = self._enter(level, inner)
                    if below is not None:
                        levels.append(below)
        finally:
            for level in levels:
                os.close(level.descriptor)

    def _level(self, directory: str, descriptor: int) -> _Level:
        """Lists an open directory; closes it where that fails."""
        try:
            rows, names = self._list(directory + "/" if directory else "", descriptor)
            if not rows and not names and directory:
                rows = [_itself(descriptor)]
            changed = self._changed(directory, rows)
            subdirectories = self._ordered(directory, descriptor, rows, names)
        except BaseException:
            os.close(descriptor)
            raise
        return _Level(directory, descriptor, rows, changed, iter(subdirectories))

    def _ordered(
        self, directory: str, descriptor: int, rows: list[Row], names: list[str]
    ) -> list[_Subdirectory]:
        """Puts subdirectories in key order.

        Everything in "b/" sorts behind "b.txt" and before "b0". But an empty directory has the key
        "b", which is before "b.txt": where there is such a neighbour, we have to look beforehand.
        """
        keys = sorted((_key(name), name) for name in names)
        found = []
        for at, (key, name) in enumerate(keys):
            after = _position(rows, key, 0)
            next_file = _key(rows[after].name) if after < len(rows) else ""
            next_directory = keys[at + 1][0] if at + 1 < len(keys) else ""
            hollow = None
            if key < next_file < key + "/" or key < next_directory < key + "/":
                path = f"{directory}/{name}" if directory else name
                hollow = self._is_hollow(path, descriptor, name)
            found.append(_Subdirectory(key if hollow else key + "/", name, hollow))
        found.sort()
        return found

    def _is_hollow(self, path: str, parent: int, name: str) -> bool:
        """Whether a directory holds nothing that is part of the dataset."""
        match = self._ignoring.match if self._ignoring is not None else None
        try:
            descriptor = os.open(name, DIRECTORY_FLAGS, dir_fd=parent)
        except OSError:
            return False  # entering it will tell
        try:
            with os.scandir(descriptor) as entries:
                return all(
                    entry.name.startswith(TEMPORARY_PREFIX)
                    or (match is not None and match(f"{path}/{entry.name}", _is_folder(entry)))
                    for entry in entries
                )
        finally:
            os.close(descriptor)

    def _enter(self, level: _Level, inner: _Subdirectory) -> _Level | None:
        path = f"{level.directory}/{inner.name}" if level.directory else inner.name
        try:
            below = self._level(path, os.open(inner.name, DIRECTORY_FLAGS, dir_fd=level.descriptor))
            hollow = [row.name for row in below.rows] == [SELF_NAME]
            if inner.hollow in (None, hollow):
                return below
            os.close(below.descriptor)
            self._problem(path, "it changed while the dataset was read", Trouble.BUSY)
        except OSError as error:
            if isinstance(error, DatastoreError):
                raise
            if error.errno in (errno.ENOENT, errno.ENOTDIR, errno.ELOOP):
                self._problem(path, VANISHED, Trouble.BUSY)
            else:
                self._problem(path, f"cannot be read: {error.strerror}", Trouble.UNREADABLE)
        return None

    def _list(self, base: str, descriptor: int) -> tuple[list[Row], list[str]]:
        """Lists a directory: rows in key order, names of subdirectories in key order."""
        rows: list[Row] = []
        subdirectories: list[str] = []
        special: list[tuple[str, int]] = []
        plain = True
        regular = stat.S_IFREG
        append = rows.append
        new = tuple.__new__
        with os.scandir(descriptor) as entries:
            for entry in entries:
                name = entry.name
                if name.startswith(TEMPORARY_PREFIX):
                    continue
                try:
                    status = entry.stat(follow_symlinks=False)
                except FileNotFoundError:
                    self._problem(base + name, VANISHED, Trouble.BUSY)
                    continue
                mode = status.st_mode
                plain = plain and name.isascii()
                if mode & 0o170000 == regular:
                    append(
                        # Row(...) would cost twice the time of all the rest of this loop.
                        new(
                            Row,
                            (
                                name,
                                mode,
                                status.st_ino,
                                status.st_size,
                                status.st_mtime_ns,
                                status.st_ctime_ns,
                            ),
                        )
                    )
                elif stat.S_ISDIR(mode):
                    subdirectories.append(name)
                elif stat.S_ISLNK(mode):
                    append(row_of(name, status))
                else:
                    special.append((name, mode))
        if self._ignoring is not None and self._ignoring.may_match(base[:-1]):
            match = self._ignoring.match
            rows = [row for row in rows if not match(base + row.name, False)]
            subdirectories = [name for name in subdirectories if not match(base + name, True)]
            special = [each for each in special if not match(base + each[0], False)]
        for name, mode in special:
            self._problem(base + name, special_kind(mode))
        if ".git" in subdirectories or any(row.name == ".git" for row in rows):
            self._problem(base + ".git", "a Git repository cannot be part of a dataset")
            rows = [row for row in rows if row.name != ".git"]
            subdirectories = [name for name in subdirectories if name != ".git"]
        if plain:
            rows.sort()
            subdirectories.sort(key=lambda name: name + "/")
            return rows, subdirectories
        return self._normalized(base, rows, subdirectories)

    def _normalized(
        self, base: str, rows: list[Row], subdirectories: list[str]
    ) -> tuple[list[Row], list[str]]:
        """Sorts names that are not all ASCII; names that UTF-8 or NFC cannot hold are problems."""
        sound: dict[str, str] = {}
        for name in [*(row.name for row in rows), *subdirectories]:
            try:
                name.encode()
            except UnicodeEncodeError:
                self._problem(base + name, "its name is not UTF-8: rename it")
                continue
            other = sound.setdefault(unicodedata.normalize("NFC", name), name)
            if other != name:
                self._problem(
                    base + name,
                    f"it and {other!r} have one name in Unicode NFC: rename one of them",
                )
        names = set(sound.values())
        kept = [row for row in rows if row.name in names]
        kept.sort(key=lambda row: unicodedata.normalize("NFC", row.name))
        directories = [name for name in subdirectories if name in names]
        directories.sort(key=lambda name: unicodedata.normalize("NFC", name) + "/")
        return kept, directories

    def _problem(self, path: str, reason: str, trouble: Trouble = Trouble.UNSUPPORTED) -> None:
        self.seen.problems.append(Problem(path, reason, trouble))

    def _changed(self, directory: str, rows: list[Row]) -> set[str] | None:
        """Returns the names that the cache does not vouch for; None for all of them."""
        identity = identity_of(directory)
        self.seen.directories.add(identity)
        packed = pack_rows(rows)
        if self._cache.matches(directory, summarize(packed)):
            return set()
        self.seen.fresh.append((directory, compress(packed)))
        known = self._cache.read(identity)
        if known is None:
            return None
        before = {row.name: row for row in known.rows}
        now = {row.name for row in rows}
        self.seen.deleted += [path_of(directory, name) for name in before if name not in now]
        return {row.name for row in rows if before.get(row.name) != row}

    def _note_gone(self) -> None:
        """Notes the files of directories that the cache knows and the walk did not meet."""
        for identity in self._cache.directories() - self.seen.directories:
            known = self._cache.read(identity)
            if known is None or not _within(known.directory, self._prefix):
                continue
            self.seen.deleted += [path_of(known.directory, row.name) for row in known.rows]


def row_of(name: str, status: os.stat_result) -> Row:
    """Makes a row of an `os.lstat` result."""
    return Row(
        name,
        status.st_mode,
        status.st_ino,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
    )


def _itself(descriptor: int) -> Row:
    # Only that it is there matters: time stamps of an empty directory say nothing.
    return Row(SELF_NAME, stat.S_IFMT(os.fstat(descriptor).st_mode), 0, 0, 0, 0)


def path_of(directory: str, name: str) -> str:
    """Returns the path, relative to the dataset, of a row in a directory that was walked."""
    if directory in (SINGLE, "") or not name:
        return name if directory == "" else directory
    return f"{directory}/{name}"


def _within(directory: str, prefix: str) -> bool:
    return not prefix or directory == prefix or directory.startswith(prefix + "/")


def _key(name: str) -> str:
    return name if name.isascii() else unicodedata.normalize("NFC", name)


def _is_folder(entry: os.DirEntry[str]) -> bool:
    return entry.is_dir(follow_symlinks=False)


def _position(rows: list[Row], bound: str, start: int) -> int:
    """Returns how many rows have a key before `bound`, at least `start`."""
    low, high = start, len(rows)
    while low < high:
        middle = (low + high) // 2
        if _key(rows[middle].name) < bound:
            low = middle + 1
        else:
            high = middle
    return low


def _stretch(level: _Level, stop: int) -> Found:
    """Takes the next files of a directory, up to the row at `stop`."""
    rows, changed = level.rows, level.changed
    part = rows[level.start : stop] if stop - level.start < len(rows) else rows
    if changed is None:
        return Found(level.directory, level.descriptor, part, part)
    if not changed:
        return Found(level.directory, level.descriptor, part, [])
    fresh = [row for row in part if row.name in changed]
    return Found(level.directory, level.descriptor, part, fresh)
