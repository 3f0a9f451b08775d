"""How the workspace differs from the versions that its pointers name."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from datastore.progress import Task
from datastore.trees import files, prolly
from datastore.trees.files import FileTree
from datastore.trees.filewriter import DigestOnly
from datastore.workspace.changes import Delta, FileChange, file_changes, version_deltas
from datastore.workspace.dataset import Dataset, key_of, keys_within, raise_problems
from datastore.workspace.ingest import Ingester
from datastore.workspace.scan import Seen, path_of
from datastore.workspace.statcache import (
    STALE,
    CacheDamagedError,
    Snapshot,
    identity_of,
    settled,
    unpack_rows,
)

State = Literal["clean", "modified", "missing", "conflict", "broken"]


@dataclass(frozen=True, slots=True)
class PointerStatus:
    """One dataset in the workspace."""

    path: str
    state: State
    added: tuple[str, ...] = ()
    modified: tuple[str, ...] = ()
    deleted: tuple[str, ...] = ()
    renamed: tuple[tuple[str, str], ...] = ()
    """Old and new path."""
    message: str = ""
    """Why the state is ``conflict`` or ``broken``."""
    committed: bool = True
    """Whether Git's HEAD holds the pointer as it is in the workspace."""


@dataclass(frozen=True, slots=True)
class StatusResult:
    """Every dataset in the workspace."""

    clean: bool
    pointers: tuple[PointerStatus, ...]


@dataclass(frozen=True, slots=True)
class Examined:
    """What the files on disk are, beside what is remembered of them."""

    known: FileTree | None
    """The version that `edits` start from; None when nothing was remembered."""
    edits: dict[bytes, bytes | None]
    """Encoded entries by key; None for a file that is gone."""


def examine(dataset: Dataset, task: Task) -> Examined:
    """Finds what the files on disk are, without storing anything.

    Files of which only the time stamps moved are noticed and remembered, so that the next look is
    quick again.

    Args:
        dataset: What to look at.
        task: Told of bytes read.

    Raises:
        ConflictError: A file changed or vanished while it was read.
        StorageError: A file cannot be read.
        UsageError: A file cannot be part of a dataset.
    """
    try:
        return _examine(dataset, task)
    except CacheDamagedError:
        dataset.cache.forget()
        return _examine(dataset, task)


def _examine(dataset: Dataset, task: Task) -> Examined:
    known = dataset.remembered()
    walk = dataset.walk()
    ingester = Ingester(dataset.path, walk, DigestOnly(), task)
    found = {key: value for key, value, _, _ in ingester.entries()}
    seen = walk.seen
    raise_problems(dataset.path, seen.problems)
    if known is None:
        return Examined(None, dict(found))
    edits: dict[bytes, bytes | None] = {key_of(path): None for path in seen.deleted}
    edits.update(found)
    if not edits:
        return Examined(known, edits)
    keys = sorted(edits)
    before = prolly.get_many(known.tree, keys, dataset.store)
    differing = {key for key, old in zip(keys, before, strict=True) if old != edits[key]}
    _remember(dataset, known, seen, differing)
    return Examined(known, {key: edits[key] for key in keys if key in differing})


def _remember(dataset: Dataset, known: FileTree, seen: Seen, differing: set[bytes]) -> None:
    """Renews the records of files that proved equal to the remembered version."""
    snapshots = []
    for directory, packed in seen.fresh:
        rows = unpack_rows(packed)
        record = dataset.cache.read(identity_of(directory))
        if record is None:
            continue
        before = {row.name: row for row in record.rows}
        # Every name of the remembered version stays in the record, or its deletion would go
        # unseen; a file that differs keeps a row that matches nothing.
        renewed = {name: row._replace(mtime_ns=STALE) for name, row in before.items()}
        for row in rows:
            if row.name in before and key_of(path_of(directory, row.name)) not in differing:
                renewed[row.name] = row
        merged = settled(renewed.values(), seen.captured_ns)
        if merged != record.rows:
            snapshots.append(Snapshot(directory, merged))
    if snapshots:
        dataset.cache.save(known.root, snapshots, ())


def pointer_deltas(
    dataset: Dataset, pointed: FileTree | None, examined: Examined, *, prefix: str = ""
) -> list[Delta]:
    """Compares a version with the files on disk.

    Args:
        dataset: Whose store is read.
        pointed: The version to compare with; None for an empty one.
        examined: What the files on disk are.
        prefix: Only this path inside the dataset.

    Returns:
        Keys that differ, in order: old from the version, new from the disk.
    """
    wanted, start, stop = keys_within(prefix)
    known = examined.known
    deltas: dict[bytes, Delta] = {}
    if known is None or pointed is None or known.root != pointed.root:
        for delta in version_deltas(pointed, known, dataset.store, start=start, stop=stop):
            deltas[delta.key] = delta
    keys = sorted(examined.edits)
    before = prolly.get_many(pointed.tree, keys, dataset.store) if pointed else [None] * len(keys)
    for key, old in zip(keys, before, strict=True):
        new = examined.edits[key]
        deltas[key] = Delta(key, old, new)
    return sorted(
        delta
        for delta in deltas.values()
        if delta.old != delta.new and files.is_within(delta.key, wanted)
    )


def dataset_status(
    dataset: Dataset, pointed: FileTree, task: Task, *, prefix: str = "", committed: bool = True
) -> PointerStatus:
    """Compares a dataset on disk with the version that its pointer names."""
    if not dataset.exists():
        return PointerStatus(dataset.path, "missing", committed=committed)
    examined = examine(dataset, task)
    changes = file_changes(pointer_deltas(dataset, pointed, examined, prefix=prefix), dataset.path)
    return PointerStatus(
        dataset.path,
        "modified" if changes else "clean",
        added=_paths(changes, "added"),
        modified=_paths(changes, "modified"),
        deleted=_paths(changes, "removed"),
        renamed=tuple(
            (change.old_path or "", change.path) for change in changes if change.kind == "renamed"
        ),
        committed=committed,
    )


def _paths(changes: list[FileChange], kind: str) -> tuple[str, ...]:
    return tuple(change.path for change in changes if change.kind == kind)
