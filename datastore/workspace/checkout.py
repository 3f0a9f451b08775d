"""Making the files on disk those of a version, as `datastore.workspace.planning` has decided.

Files are removed, and the rest is written aside, verified and renamed, one by one. A checkout that
was interrupted can be run again: the version on its way is noted first, so its files are known for
what they are.
"""

from __future__ import annotations

import contextlib
import copy
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from typing import Final

from datastore.errors import CorruptionError, DatastoreError, FormatError, NotFoundError
from datastore.progress import Task
from datastore.trees.filereader import iter_bytes
from datastore.trees.files import Entry, FileTree, Kind
from datastore.workspace.dataset import Dataset
from datastore.workspace.paths import check_link_target, printable
from datastore.workspace.planning import Plan, kind_on_disk
from datastore.workspace.scan import SELF_NAME, SINGLE, path_of, row_of
from datastore.workspace.statcache import (
    STALE,
    CacheDamagedError,
    Row,
    Snapshot,
    identity_of,
    settled,
    unpack_rows,
)
from datastore.workspace.writer import Writer

_BATCH: Final = 512
"""Small files fetched together."""


@dataclass(frozen=True, slots=True)
class CheckedOut:
    """What a checkout did to one dataset."""

    path: str
    written: int
    removed: int
    kept: int
    """Files on disk that belong to no version and were left alone."""
    bytes: int
    """Written, in bytes."""


class Materializer:
    """Carries out a plan.

    Args:
        dataset: What is checked out.
        writer: Writes below the worktree's top.
        task: Told of bytes written.
    """

    def __init__(self, dataset: Dataset, writer: Writer, task: Task) -> None:
        self._dataset = dataset
        self._writer = writer
        self._task = task
        self.rows: dict[str, Row] = {}
        """What was written, by dataset path."""
        self.bytes = 0
        self.failures: dict[str, DatastoreError] = {}
        """Why files, by dataset path, could not be written; they were left as they were."""

    def carry_out(self, plan: Plan) -> None:
        """Removes, then writes. A file whose content is damaged or missing is one of `failures`.

        Raises:
            ConflictError: Something got in the way meanwhile.
            StorageError: The disk is full or fails.
        """
        gone = [*plan.remove, *plan.clear]
        for path in gone:
            self._remove(path)
        self._writer.prune(map(self._full, gone))
        pending = iter(plan.write)
        while batch := list(islice(pending, _BATCH)):
            self._task.describe(self._full(batch[0][0]))
            self._small([item for item in batch if _is_small(item[1])])
            for path, entry in batch:
                if not _is_small(entry):
                    self._write(path, entry)

    def _remove(self, path: str) -> None:
        at = self._dataset.top if path == SINGLE else self._dataset.top / path
        if kind_on_disk(at) == stat.S_IFDIR:
            self._writer.remove_directory(self._full(path))
        else:
            self._writer.remove(self._full(path))

    def _small(self, batch: list[tuple[str, Entry]]) -> None:
        """Writes files of one chunk as they come from the packs, each block read once."""
        targets: dict[bytes, list[tuple[str, Entry]]] = {}
        for path, entry in batch:
            targets.setdefault(entry.content.digest, []).append((path, entry))
        chunks = self._dataset.store.read_chunks(targets)
        while True:
            try:
                digest, data = next(chunks, (b"", b""))
            except (CorruptionError, NotFoundError):
                # Some of them cannot be read: one by one, the error can say which file it is.
                for path, entry in batch:
                    if path not in self.rows:
                        self._write(path, entry)
                return
            if not digest:
                return
            for path, entry in targets[digest]:
                with self._about(path):
                    self._file(path, entry, (data,))

    @contextlib.contextmanager
    def _about(self, path: str) -> Iterator[None]:
        """Notes an error of the store for the file, and takes back what was made for it."""
        try:
            yield
        except (CorruptionError, FormatError, NotFoundError) as error:
            # A new one each: a source that failed once may raise the same error for many files.
            noted = copy.copy(error)
            if path not in error.message:
                noted.message = f"{printable(self._full(path))}: {error.message}"
            self.failures[path] = noted
            self._writer.prune((self._full(path),))

    def _write(self, path: str, entry: Entry) -> None:
        with self._about(path):
            self._write_one(path, entry)

    def _write_one(self, path: str, entry: Entry) -> None:
        if entry.kind is Kind.DIRECTORY:
            self._writer.make_directory(self._full(path))
        elif entry.kind is Kind.LINK:
            check_link_target(path, os.fsdecode(entry.target), allow_outside=True)
            status = self._writer.write_link(self._full(path), entry.target)
            self._note(path, status)
        else:
            self._file(path, entry, iter_bytes(entry.content, self._dataset.store))

    def _file(self, path: str, entry: Entry, parts: Iterable[bytes]) -> None:
        status = self._writer.write_file(
            self._full(path),
            parts,
            executable=entry.kind is Kind.EXECUTABLE,
            size=entry.size,
        )
        self.bytes += entry.size
        self._task.advance(entry.size)
        self._note(path, status)

    def _note(self, path: str, status: os.stat_result) -> None:
        name = self._dataset.top.name if path == SINGLE else path.rpartition("/")[2]
        self.rows[path] = row_of(name, status)

    def _full(self, path: str) -> str:
        return self._dataset.path if path == SINGLE else f"{self._dataset.path}/{path}"


def _is_small(entry: Entry) -> bool:
    return entry.is_file and entry.content.depth == 0 and entry.size > 0


def remember(dataset: Dataset, target: FileTree, plan: Plan, written: dict[str, Row]) -> None:
    """Notes in the stat cache that the files are now the target version's.

    Only for a checkout of the whole dataset. A file that somebody touched since it was written gets
    a row that matches nothing, so the next look reads it.

    Args:
        dataset: What was checked out.
        target: The version.
        plan: What was done; files that were kept belong to no version.
        written: What was written, by dataset path.
    """
    try:
        _remember(dataset, target, plan, written)
    except CacheDamagedError:
        dataset.cache.forget()


def _remember(dataset: Dataset, target: FileTree, plan: Plan, written: dict[str, Row]) -> None:
    walk = dataset.walk()
    count = sum(len(found.rows) for found in walk)
    kept = {*plan.kept, *plan.hollow}
    empty = {path for path, entry in plan.write if entry.kind is Kind.DIRECTORY}
    snapshots = []
    for directory, packed in walk.seen.fresh:
        rows = unpack_rows(packed)
        record = dataset.cache.read(identity_of(directory))
        vouched = set(record.rows) if record is not None else set()
        known = {row.name for row in vouched}
        merged = [
            row if row in vouched or written.get(path) == row else row._replace(mtime_ns=STALE)
            for row in rows
            if (path := path_of(directory, row.name)) not in kept
        ]
        count -= len(rows) - len(merged)
        if record is not None:
            new = {path_of(directory, row.name) for row in merged if row.name not in known}
            count -= len(new - written.keys() - empty)
        if directory in empty and rows and rows[0].name != SELF_NAME:
            merged.insert(0, Row(SELF_NAME, 0, 0, 0, STALE, 0))
            count += 1
        snapshots.append(Snapshot(directory, settled(merged, walk.seen.captured_ns)))
    if count != target.tree.rows:
        return  # somebody removed files meanwhile: what is remembered from before shows that
    gone = dataset.cache.directories() - walk.seen.directories
    dataset.cache.save(target.root, snapshots, gone, arrived=True)
