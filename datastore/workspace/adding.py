"""The verb ``add``: from paths on disk to pointers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from datastore.errors import (
    ConflictError,
    CorruptionError,
    FormatError,
    NotFoundError,
    UsageError,
)
from datastore.kernel.hashing import format_digest
from datastore.objects.packer import Account
from datastore.objects.session import WriteSession
from datastore.progress import Progress, Task
from datastore.storage.local import write_durably
from datastore.trees import files, prolly
from datastore.trees.files import Entry, FileTree, Kind
from datastore.workspace.changes import count_files, version_deltas
from datastore.workspace.dataset import Dataset, key_of, keys_within, raise_problems
from datastore.workspace.ignore import ignore_paths
from datastore.workspace.ingest import (
    AddedPointer,
    AddResult,
    Ingested,
    Ingester,
    apply_edits,
    ingest,
)
from datastore.workspace.layout import LOCK_TIMEOUT, Place, Workspace
from datastore.workspace.pointer import Pointer, pointer_path
from datastore.workspace.scan import SELF_NAME, Found, path_of
from datastore.workspace.statcache import CacheDamagedError
from datastore.workspace.targets import parents, targets


class _Stored(NamedTuple):
    """One dataset whose content is in the session."""

    dataset: Dataset
    version: FileTree
    account: Account
    whole: Ingested | None = None
    """What to remember; None where only a part was looked at."""
    base: FileTree | None = None
    """The version that a partial add changed, and how."""
    edits: Mapping[bytes, bytes | None] = MappingProxyType({})


def add(workspace: Workspace, paths: Sequence[str], progress: Progress) -> AddResult:
    """Stores files and directories and writes their pointers.

    Everything is stored and durable before the first pointer is written; the user's files are only
    read.

    Args:
        workspace: Where the paths are.
        paths: Workspace paths: new datasets, known ones, or paths inside known ones.
        progress: Told of bytes done.

    Raises:
        NotFoundError: A path does not exist.
        UsageError: A path cannot be a dataset, or holds something that cannot be in one.
        ConflictError: A file changed while it was read.
        StorageError: Files cannot be read, or the store cannot be written.
    """
    places = targets(workspace, paths)
    with (
        progress.task("add", None, "B") as task,
        # Half of a checkout is no version.
        workspace.files_lock(shared=True).acquire(LOCK_TIMEOUT, task.describe),
        workspace.store.session() as session,
    ):
        stored = [_store(workspace, place, session, task) for place in places]
        session.commit()
        with workspace.lock().acquire(LOCK_TIMEOUT, task.describe):
            pointers = [_acknowledge(workspace, each) for each in stored]
    return AddResult(tuple(pointers))


def _store(workspace: Workspace, place: Place, session: WriteSession, task: Task) -> _Stored:
    account = session.begin_account()
    dataset = workspace.dataset(place.dataset)
    if place.inner:
        return _store_part(workspace, dataset, place.inner, session, task)
    found = ingest(dataset, session, task)
    return _Stored(dataset, found.version, account, found)


def _store_part(
    workspace: Workspace, dataset: Dataset, inner: str, session: WriteSession, task: Task
) -> _Stored:
    """Stores one path inside a dataset; a path that is gone from disk is removed."""
    pointed = workspace.version(dataset.path)
    assert pointed is not None
    if prolly.get(pointed.tree, files.SELF_KEY, dataset.store) is not None:
        raise UsageError(
            f"{dataset.path!r} is a single file, so nothing can be in it",
            hint=f"add it whole: datastore add {dataset.path}",
            where=f"{dataset.path}/{inner}",
        )
    try:
        edits = _part_edits(dataset, pointed, inner, session, task)
    except CacheDamagedError:
        dataset.cache.forget()
        edits = _part_edits(dataset, pointed, inner, session, task)
    version = apply_edits(dataset, pointed, edits, session)
    return _Stored(dataset, version, session.account, None, pointed, edits)


def _part_edits(
    dataset: Dataset, pointed: FileTree, inner: str, session: WriteSession, task: Task
) -> dict[bytes, bytes | None]:
    """Stores what lies at a path inside a dataset, and says what that changes in a version."""
    known = dataset.remembered()
    walk = _Recorded(dataset, inner)
    entries = list(Ingester(dataset.path, walk, session, task).entries())
    raise_problems(dataset.path, walk.seen.problems)
    unread = sorted(walk.keys - {entry[0] for entry in entries})
    edits: dict[bytes, bytes | None] = {entry[0]: entry[1] for entry in entries}
    if known is not None and unread and known.root != pointed.root:
        edits.update(zip(unread, prolly.get_many(known.tree, unread, dataset.store), strict=True))
    wanted, start, stop = keys_within(inner)
    for key, _ in prolly.scan(pointed.tree, dataset.store, start=start, stop=stop):
        if files.is_within(key, wanted) and key not in walk.keys:
            edits[key] = None
    if not edits and not walk.keys:
        raise NotFoundError(
            f"'{dataset.path}/{inner}' does not exist, nor is it in the dataset",
            hint="check the spelling",
            where=inner,
        )
    # What stood for an empty directory is one no longer; and a directory may have become empty.
    for parent in parents(inner):
        edits.setdefault(key_of(parent), None)
    if not walk.keys:
        edits.update(_emptied(dataset, inner.rpartition("/")[0]))
    return edits


def _emptied(dataset: Dataset, directory: str) -> Iterator[tuple[bytes, bytes]]:
    """Yields the row that stands for a directory if that is empty on disk."""
    found = next(iter(dataset.walk(directory)), None) if directory else None
    if found is not None and found.directory == directory and found.rows[0].name == SELF_NAME:
        key = key_of(directory)
        name = directory if directory.encode() != key else ""
        yield key, files.encode_entry(Entry(Kind.DIRECTORY, name=name))


class _Recorded:
    """A walk that remembers every key it passes."""

    def __init__(self, dataset: Dataset, inner: str) -> None:
        self._walk = dataset.walk(inner)
        self.seen = self._walk.seen
        self.keys: set[bytes] = set()

    def __iter__(self) -> Iterator[Found]:
        for found in self._walk:
            self.keys.update(key_of(path_of(found.directory, row.name)) for row in found.rows)
            yield found


def _acknowledge(workspace: Workspace, stored: _Stored) -> AddedPointer:
    """Writes the pointer, last of all; everything that it names is durable."""
    dataset = stored.dataset
    path = dataset.path
    before = workspace.pointer_data(path)
    old = _old_version(workspace, path)
    version = _rebased(stored, old)
    extra = _extra(workspace, path)
    pointer = Pointer("files", version.files, version.bytes, version.root, extra)
    ignore_paths(dataset.top.parent, [dataset.top.name])
    changed = before != pointer.encode()
    if changed:
        write_durably(workspace.top / pointer_path(path), pointer.encode())
    if stored.whole is not None:
        dataset.cache.save(version.root, stored.whole.snapshots, stored.whole.gone, arrived=True)
    counts = _count(dataset, old, version)
    return AddedPointer(
        path=path,
        kind="files",
        root=format_digest(version.root),
        files=version.files,
        bytes=version.bytes,
        new_bytes=stored.account.new_bytes,
        stored_bytes=stored.account.stored_bytes,
        new_chunks=stored.account.new_chunks,
        chunks=stored.account.chunks,
        added=counts["added"],
        removed=counts["removed"],
        modified=counts["modified"],
        changed=changed,
    )


def _old_version(workspace: Workspace, path: str) -> FileTree | None:
    """Returns what the pointer named so far; None where that is not to be had here."""
    try:
        return workspace.version(path)
    except (NotFoundError, FormatError, ConflictError, CorruptionError):
        return None


def _extra(workspace: Workspace, path: str) -> tuple[tuple[str, str], ...]:
    """Returns what the pointer says beyond what this version knows; that is kept."""
    try:
        pointer = workspace.pointer(path)
    except (FormatError, ConflictError):
        return ()
    return pointer.extra if pointer is not None else ()


def _rebased(stored: _Stored, current: FileTree | None) -> FileTree:
    """Applies a partial add again where somebody else moved the pointer meanwhile."""
    if stored.base is None or current is None or current.root == stored.base.root:
        return stored.version
    with stored.dataset.store.session() as session:
        version = apply_edits(stored.dataset, current, dict(stored.edits), session)
        session.commit()
    return version


def _count(dataset: Dataset, old: FileTree | None, new: FileTree) -> Counter[str]:
    if old is None:
        return Counter(added=new.files)
    if old.root == new.root:
        return Counter()
    try:
        return count_files(version_deltas(old, new, dataset.store))
    except (NotFoundError, FormatError, CorruptionError):
        # The old version is damaged, and the new one acknowledged already.
        return Counter(added=new.files)
