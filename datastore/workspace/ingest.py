"""From files on disk to entries, and from entries to a new version of a dataset."""

from __future__ import annotations

import errno
import os
import stat
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

import msgpack

from datastore.errors import DatastoreError
from datastore.kernel.chunking import WHOLE_FILE_SIZE
from datastore.objects.session import WriteSession
from datastore.objects.store import ObjectStore
from datastore.progress import Task
from datastore.trees import files, prolly
from datastore.trees.diff import diff
from datastore.trees.files import Entry, FileTree, Kind
from datastore.trees.filewriter import write_bytes, write_stream
from datastore.trees.manifest import EMPTY_DIGEST, ChunkWriter, Content
from datastore.trees.prolly import Tree
from datastore.workspace.dataset import Dataset, key_of, raise_problems
from datastore.workspace.paths import name_problems
from datastore.workspace.problems import VANISHED, Problem, Trouble
from datastore.workspace.scan import SINGLE, Found, Seen, Walk, path_of
from datastore.workspace.statcache import CacheDamagedError, Row, Snapshot, settled, unpack_rows

FILE_FLAGS: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC | os.O_NONBLOCK
_ATTEMPTS: Final = 3
_PAUSE: Final = 0.05
"""Seconds before a file that changed under the reader is read again."""


Keyed = tuple[bytes, bytes, int, int]
"""One file, ready for the tree: key, encoded entry, size in bytes (0 for links and directories) and
how many files it counts for (none for an empty directory). A plain tuple, for its speed."""


@dataclass(frozen=True, slots=True)
class AddedPointer:
    """What `add` did for one dataset. Sizes in bytes."""

    path: str
    kind: str
    root: str
    files: int
    bytes: int
    new_bytes: int
    """Of file content that the store did not have."""
    stored_bytes: int
    """What new content and metadata take on disk, compressed."""
    new_chunks: int
    chunks: int
    """Chunks that were looked at: those of the files that were read."""
    added: int
    removed: int
    modified: int
    changed: bool
    """Whether the pointer now names another version."""


@dataclass(frozen=True, slots=True)
class AddResult:
    """What `add` did."""

    pointers: tuple[AddedPointer, ...]


class Finding(Protocol):
    """A pass over a dataset's files."""

    seen: Seen

    def __iter__(self) -> Iterator[Found]:
        """Passes directory after directory, in key order."""
        ...


class _Changing(Exception):  # noqa: N818 - not an error: the reader tries again
    """A file changed while it was read."""


class Ingester:
    """Reads changed files and turns them into entries.

    Args:
        dataset: Its path, for people.
        walk: The pass that finds them; problems go to its `Seen`.
        writer: Where chunks go, or `DigestOnly`.
        task: Told of bytes done.
    """

    def __init__(self, dataset: str, walk: Finding, writer: ChunkWriter, task: Task) -> None:
        self._dataset = dataset
        self._walk = walk
        self._writer = writer
        self._task = task

    def entries(self) -> Iterator[Keyed]:
        """Walks and reads; yields each changed file in key order."""
        for found in self._walk:
            if found.changed:
                yield from self._stretch(found)

    def _stretch(self, found: Found) -> Iterator[Keyed]:
        inside = found.directory not in ("", SINGLE)
        self._task.describe(f"{self._dataset}/{found.directory}" if inside else self._dataset)
        base = found.directory + "/" if found.directory else ""
        plain = base.isascii() and found.directory != SINGLE
        pack, descriptor = msgpack.packb, found.descriptor
        refused = self._refuse(found)
        for row in found.changed:
            name, mode = row[0], row[1]
            if name in refused:
                continue
            try:
                if mode & 0o170000 != stat.S_IFREG:
                    yield self._special(found, row)
                    continue
                content = self._content(descriptor, row)
                executable = 1 if mode & stat.S_IXUSR else 0
                if plain and not content[2] and name.isascii():
                    # `encode_entry` by hand: this line runs once for every file there is.
                    value = pack((executable, content[0], content[1]))
                    yield (base + name).encode(), value, content[0], 1
                else:
                    path = path_of(found.directory, name)
                    yield self._keyed(path, Entry(Kind(executable), content))
            except DatastoreError:
                raise  # the store's own trouble, some of which is an OSError too
            except OSError as error:
                self._unreadable(path_of(found.directory, name), error)
            except _Changing:
                self._busy(path_of(found.directory, name), "it keeps changing while it is read")

    def _refuse(self, found: Found) -> set[str]:
        """Notes the names that no checkout could write back, and returns them."""
        if found.directory == SINGLE:
            return set()
        problems = name_problems(found.directory, [row[0] for row in found.changed])
        for name, problem in problems.items():
            self._walk.seen.problems.append(Problem(path_of(found.directory, name), problem))
        return set(problems)

    def _content(self, descriptor: int, row: Row) -> Content:
        name, _, inode, size, mtime_ns, ctime_ns = row
        if size > WHOLE_FILE_SIZE:
            return self._large(descriptor, row)
        file = os.open(name, FILE_FLAGS, dir_fd=descriptor)
        try:
            data = os.read(file, size + 1)
            after = os.fstat(file)
        finally:
            os.close(file)
        if (
            len(data) != size
            or after.st_mtime_ns != mtime_ns
            or after.st_ctime_ns != ctime_ns
            or after.st_size != size
            or after.st_ino != inode
        ):
            # Touched since the walk saw it, or a short read: the careful way decides.
            return self._large(descriptor, row)
        self._task.advance(size)
        return Content(size, self._writer.put_chunk(data) if size else EMPTY_DIGEST)

    def _large(self, descriptor: int, row: Row) -> Content:
        """Reads a file of any size; again when it changes under the reader."""
        for attempt in range(_ATTEMPTS):
            if attempt:
                time.sleep(_PAUSE)
            file = os.open(row.name, FILE_FLAGS, dir_fd=descriptor)
            try:
                before = os.fstat(file)
                if not stat.S_ISREG(before.st_mode):
                    raise _Changing
                content = self._read(file, before.st_size)
                after = os.fstat(file)
            finally:
                os.close(file)
            if _same(before, after) and content is not None:
                return content
        raise _Changing

    def _read(self, file: int, size: int) -> Content | None:
        """Stores what an open file holds; None where that is not of the size expected.

        No more is read than that: a file that grows as fast as it is read has no end.
        """
        left = size + 1

        def read(view: memoryview) -> int:
            nonlocal left
            count = os.readv(file, (view[:left],)) if left else 0
            left -= count
            return count

        if size > WHOLE_FILE_SIZE:
            content = write_stream(read, self._writer, on_bytes=self._task.advance)
            return content if left == 1 else None
        data = bytearray(left)
        filled = 0
        while count := read(memoryview(data)[filled:]):
            filled += count
        if filled != size:
            return None
        self._task.advance(size)
        return write_bytes(bytes(data[:size]), self._writer)

    def _special(self, found: Found, row: Row) -> Keyed:
        path = path_of(found.directory, row.name)
        if stat.S_ISLNK(row.mode):
            target = os.fsencode(os.readlink(row.name, dir_fd=found.descriptor))
            return self._keyed(path, Entry(Kind.LINK, target=target))
        return self._keyed(path, Entry(Kind.DIRECTORY))

    def _keyed(self, path: str, entry: Entry) -> Keyed:
        key = key_of(path)
        if key != path.encode():
            entry = entry._replace(name=path)
        counted = int(entry.kind is not Kind.DIRECTORY)
        return key, files.encode_entry(entry), entry.size, counted

    def _unreadable(self, path: str, error: OSError) -> None:
        if error.errno in (errno.ENOENT, errno.ELOOP, errno.EISDIR, errno.ENXIO):
            self._busy(path, VANISHED)  # or something else has its name now
        else:
            reason = f"cannot be read: {error.strerror}"
            self._walk.seen.problems.append(Problem(path, reason, Trouble.UNREADABLE))

    def _busy(self, path: str, reason: str) -> None:
        self._walk.seen.problems.append(Problem(path, reason, Trouble.BUSY))


def _same(before: os.stat_result, after: os.stat_result) -> bool:
    return (
        before.st_size == after.st_size
        and before.st_mtime_ns == after.st_mtime_ns
        and before.st_ctime_ns == after.st_ctime_ns
    )


class Ingested(NamedTuple):
    """A new version, and what to remember once it is acknowledged."""

    version: FileTree
    snapshots: Iterable[Snapshot]
    """Made one by one as they are asked for, once."""
    gone: set[bytes]


def ingest(dataset: Dataset, session: WriteSession, task: Task) -> Ingested:
    """Stores what a dataset holds on disk now.

    Files that the stat cache vouches for are not read. The version may be referred to once the
    session is committed.

    Raises:
        ConflictError: A file changed or vanished while it was read.
        StorageError: A file cannot be read, or the store cannot be written.
        UsageError: A file cannot be part of a dataset.
    """
    try:
        return _ingest(dataset, session, task)
    except CacheDamagedError:
        dataset.cache.forget()
        return _ingest(dataset, session, task)


def _ingest(dataset: Dataset, session: WriteSession, task: Task) -> Ingested:
    known = dataset.remembered()
    walk = dataset.walk()
    entries = Ingester(dataset.path, walk, session, task).entries()
    if known is None:
        version = _build(entries, session)
    else:
        version = _edit(dataset, known, walk, list(entries), session)
    seen = walk.seen
    raise_problems(dataset.path, seen.problems)
    snapshots = (
        Snapshot(directory, settled(unpack_rows(packed), seen.captured_ns))
        for directory, packed in seen.fresh
    )
    return Ingested(version, snapshots, dataset.cache.directories() - seen.directories)


def _build(entries: Iterator[Keyed], session: WriteSession) -> FileTree:
    count = total = 0

    def rows() -> Iterator[tuple[bytes, bytes]]:
        nonlocal count, total
        for key, value, size, counted in entries:
            count += counted
            total += size
            yield key, value

    tree = files.build(rows(), session)
    return files.seal(tree, count, total, session)


def _edit(
    dataset: Dataset, known: FileTree, walk: Walk, entries: list[Keyed], session: WriteSession
) -> FileTree:
    edits: dict[bytes, bytes | None] = {key_of(path): None for path in walk.seen.deleted}
    edits.update({entry[0]: entry[1] for entry in entries})
    return apply_edits(dataset, known, edits, session)


def apply_edits(
    dataset: Dataset, known: FileTree, edits: dict[bytes, bytes | None], session: WriteSession
) -> FileTree:
    """Makes a new version by changing some entries of a known one.

    Args:
        dataset: Whose store is read.
        known: The version to start from.
        edits: Encoded entries by key; None deletes.
        session: Where the new nodes go.
    """
    if not edits:
        return known
    keys = sorted(edits)
    before = prolly.get_many(known.tree, keys, dataset.store)
    count, total = known.files, known.bytes
    changes: list[tuple[bytes, bytes | None]] = []
    for key, old in zip(keys, before, strict=True):
        new = edits[key]
        if old == new:
            continue
        changes.append((key, new))
        more, bigger = _difference(old, new)
        count += more
        total += bigger
    if not changes:
        return known
    tree = prolly.edit(known.tree, changes, dataset.store, session)
    return files.seal(tree, count, total, session)


def recount(known: FileTree, tree: Tree, store: ObjectStore, writer: ChunkWriter) -> FileTree:
    """Seals a tree that was made from a known version's, counting only what differs.

    Args:
        known: The version with its counts.
        tree: The tree that came of it, committed.
        store: Where both trees' nodes are.
        writer: Where the root record goes.
    """
    count, total = known.files, known.bytes
    for _, old, new in diff(known.tree, tree, store):
        more, bigger = _difference(old, new)
        count += more
        total += bigger
    return files.seal(tree, count, total, writer)


def _difference(old: bytes | None, new: bytes | None) -> tuple[int, int]:
    """Returns by how many files and bytes a version grows when a row changes."""
    count = total = 0
    for value, sign in ((old, -1), (new, 1)):
        if value is not None:
            entry = files.decode_entry(value)
            count += sign * (entry.kind is not Kind.DIRECTORY)
            total += sign * entry.size
    return count, total
