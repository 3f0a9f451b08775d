"""Making the files on disk those of a version, without ever overwriting somebody's work.

First a plan is made, of which nothing is carried out if any file on disk holds content that no
version knows; then files are removed, and the rest is written aside, verified and renamed, one by
one. A checkout that was interrupted can be run again: the version on its way is noted first, so its
files are known for what they are.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import Final

from datastore.errors import ConflictError
from datastore.progress import Task
from datastore.trees import files, prolly
from datastore.trees.filereader import iter_bytes
from datastore.trees.files import Entry, FileTree, Kind
from datastore.workspace.changes import Delta
from datastore.workspace.dataset import Dataset
from datastore.workspace.paths import check_link_target, check_path, collisions
from datastore.workspace.scan import SELF_NAME, SINGLE, path_of, row_of
from datastore.workspace.statcache import (
    STALE,
    Row,
    Snapshot,
    identity_of,
    settled,
    unpack_rows,
)
from datastore.workspace.status import Examined
from datastore.workspace.writer import Writer

_BATCH: Final = 512
"""Small files fetched together."""
_LISTED: Final = 10


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


@dataclass(slots=True)
class Plan:
    """What is to be done, in dataset paths as the file system spells them."""

    write: list[tuple[str, Entry]] = field(default_factory=list)
    remove: list[str] = field(default_factory=list)
    kept: list[str] = field(default_factory=list)
    conflicts: list[str] = field(default_factory=list)


def make_plan(
    dataset: Dataset,
    deltas: list[Delta],
    examined: Examined,
    safe: list[FileTree],
    *,
    force: bool = False,
) -> Plan:
    """Decides what happens to each file that is not as the target version has it.

    Args:
        dataset: What is checked out.
        deltas: The target version (old) against the disk (new).
        examined: What the files on disk are.
        safe: Versions whose files may be replaced, because their content is not lost.
        force: Replace files whose content no version knows.
    """
    owned, tracked = _knowledge(dataset, deltas, examined, safe)
    plan = Plan()
    for key, wanted, there in deltas:
        path = _spelled(key, wanted if wanted is not None else there)
        mine = there is not None and key not in owned
        if mine and wanted is None and key not in tracked:
            plan.kept.append(path)
        elif (mine or (there is None and _in_the_way(dataset, path))) and not force:
            plan.conflicts.append(path)
        elif wanted is None:
            plan.remove.append(path)
        else:
            plan.write.append((path, files.decode_entry(wanted)))
    plan.conflicts += _blocked(plan)
    return plan


def _knowledge(
    dataset: Dataset, deltas: list[Delta], examined: Examined, safe: list[FileTree]
) -> tuple[set[bytes], set[bytes]]:
    """Returns the keys whose content on disk a version has, and the keys that any version has."""
    on_disk = [key for key, _, there in deltas if there is not None]
    owned = {key for key in on_disk if key not in examined.edits}
    tracked = set(owned)
    doubtful = sorted(set(on_disk) - owned)
    versions = [*safe, examined.known] if examined.known else safe
    for version in versions if doubtful else ():
        values = prolly.get_many(version.tree, doubtful, dataset.store)
        for key, value in zip(doubtful, values, strict=True):
            if value is not None:
                tracked.add(key)
                if value == examined.edits[key]:
                    owned.add(key)
    return owned, tracked


def _spelled(key: bytes, value: bytes | None) -> str:
    name = files.decode_entry(value).name if value is not None else ""
    return name or files.decode_key(key)


def _in_the_way(dataset: Dataset, path: str) -> bool:
    """Whether something lies there that the scan did not list, such as an ignored file."""
    if path == SINGLE:
        return False
    target = dataset.top / path
    return target.is_symlink() or (target.exists() and not target.is_dir())


def _blocked(plan: Plan) -> list[str]:
    """Returns files that stay and stand where a directory must be, or the reverse."""
    if not plan.kept:
        return []
    wanted = {path for path, _ in plan.write}
    needed = {parent for path in wanted for parent in _parents(path)}
    return [
        path
        for path in plan.kept
        if path in needed or any(parent in wanted for parent in _parents(path))
    ]


def _parents(path: str) -> Iterator[str]:
    while (path := path.rpartition("/")[0]) != "":
        yield path


def check_plan(dataset: Dataset, plan: Plan, folding: tuple[bool, bool]) -> None:
    """Refuses a plan that would lose work or leave the dataset; nothing was written yet.

    Args:
        dataset: What is checked out.
        plan: What is to be done.
        folding: Whether the file system ignores case, and whether it normalizes Unicode.

    Raises:
        ConflictError: Files on disk hold content that no version knows, or two of the version's
            names are one file on this file system.
        FormatError: The version holds a path that must not be written.
    """
    for path, _ in plan.write:
        if path != SINGLE:
            check_path(path)
    if plan.conflicts:
        raise ConflictError(
            f"{len(plan.conflicts)} file(s) of {dataset.path} have changes that no version has:\n"
            + _listing(f"{dataset.path}/{path}" for path in plan.conflicts),
            paths=tuple(sorted(plan.conflicts)),
            hint=f"'datastore add {dataset.path}' keeps them, '--force' throws them away",
            where=dataset.path,
        )
    if any(folding):
        case, normalize = folding
        same = collisions((path for path, _ in plan.write), case=case, normalize=normalize)
        if same:
            raise ConflictError(
                f"names of {dataset.path} that are one file on this file system:\n"
                + _listing(f"{one!r} and {other!r}" for one, other in same),
                paths=tuple(name for pair in same for name in pair),
                hint="rename one of each pair on a system that tells them apart",
                where=dataset.path,
            )


def _listing(lines: Iterable[str]) -> str:
    listed = list(lines)
    shown = [f"  {line}" for line in listed[:_LISTED]]
    if len(listed) > _LISTED:
        shown.append(f"  ... and {len(listed) - _LISTED} more")
    return "\n".join(shown)


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

    def carry_out(self, plan: Plan) -> None:
        """Removes, then writes.

        Raises:
            ConflictError: Something got in the way meanwhile.
            CorruptionError: The store holds a damaged chunk; the file is left as it was.
            NotFoundError: The store lacks a chunk; the file is left as it was.
            StorageError: The disk is full or fails.
        """
        removed = [self._full(path) for path in plan.remove]
        for path in removed:
            self._remove(path)
        self._writer.prune(removed)
        pending = iter(plan.write)
        while batch := list(islice(pending, _BATCH)):
            self._task.describe(batch[0][0])
            self._small([item for item in batch if _is_small(item[1])])
            for path, entry in batch:
                if not _is_small(entry):
                    self._write(path, entry)

    def _remove(self, path: str) -> None:
        if (self._dataset.top.parent / path).is_dir() and not os.path.islink(path):
            return
        self._writer.remove(path)

    def _small(self, batch: list[tuple[str, Entry]]) -> None:
        """Writes files of one chunk as they come from the packs, each block read once."""
        targets: dict[bytes, list[tuple[str, Entry]]] = {}
        for path, entry in batch:
            targets.setdefault(entry.content.digest, []).append((path, entry))
        for digest, data in self._dataset.store.read_chunks(targets):
            for path, entry in targets[digest]:
                self._file(path, entry, (data,))

    def _write(self, path: str, entry: Entry) -> None:
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
    walk = dataset.walk()
    for _ in walk:
        pass
    kept = set(plan.kept)
    empty = {path for path, entry in plan.write if entry.kind is Kind.DIRECTORY}
    snapshots = []
    for directory, packed in walk.seen.fresh:
        rows = unpack_rows(packed)
        record = dataset.cache.read(identity_of(directory))
        vouched = set(record.rows) if record is not None else set()
        merged = [
            row if row in vouched or written.get(path) == row else row._replace(mtime_ns=STALE)
            for row in rows
            if (path := path_of(directory, row.name)) not in kept
        ]
        if directory in empty and rows and rows[0].name != SELF_NAME:
            merged.insert(0, Row(SELF_NAME, 0, 0, 0, STALE, 0))
        snapshots.append(Snapshot(directory, settled(merged, time.time_ns())))
    gone = dataset.cache.directories() - walk.seen.directories
    dataset.cache.save(target.root, snapshots, gone)
