"""The verb ``add``: from paths on disk to pointers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import NamedTuple

from datastore.config import DIRECTORY
from datastore.errors import ConflictError, FormatError, NotFoundError, UsageError
from datastore.kernel.hashing import format_digest
from datastore.objects.packer import Account
from datastore.objects.session import WriteSession
from datastore.progress import Progress, Task
from datastore.storage.local import write_durably
from datastore.trees import files, prolly
from datastore.trees.files import FileTree, Kind
from datastore.workspace.changes import version_deltas
from datastore.workspace.dataset import Dataset, key_of, raise_problems
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
from datastore.workspace.pointer import POINTER_SUFFIX, Pointer, pointer_path
from datastore.workspace.scan import Found, path_of


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
    places = _targets(workspace, paths)
    with progress.task("add", None, "B") as task, workspace.store.session() as session:
        stored = [_store(workspace, place, session, task) for place in places]
        session.commit()
        with workspace.lock().acquire(LOCK_TIMEOUT):
            pointers = [_acknowledge(workspace, each) for each in stored]
    return AddResult(tuple(pointers))


def _targets(workspace: Workspace, paths: Sequence[str]) -> list[Place]:
    places: dict[Place, None] = {}
    for path in paths:
        place = workspace.place(path) or Place(path, "")
        if place.inner:
            _check_inner(workspace, place)
        else:
            _check_new(workspace, path)
        places[place] = None
    whole = {place.dataset for place in places if not place.inner}
    return [place for place in places if not place.inner or place.dataset not in whole]


def _check_inner(workspace: Workspace, place: Place) -> None:
    """A part is reached through directories of the dataset only, never through a link."""
    at = workspace.top / place.dataset
    for name in place.inner.split("/")[:-1]:
        at /= name
        if at.is_symlink():
            raise UsageError(
                f"{str(at.relative_to(workspace.top))!r} is a symbolic link; it is kept as one and "
                "not followed",
                where=str(at),
            )


def _check_new(workspace: Workspace, path: str) -> None:
    top = workspace.top / path
    if not path or path.split("/", maxsplit=1)[0] in {DIRECTORY, ".git"}:
        raise UsageError(
            f"{path or '.'!r} cannot be a dataset",
            hint="name a file or a directory inside the workspace",
            where=path,
        )
    if top.is_symlink():
        raise UsageError(
            f"{path!r} is a symbolic link, which is not followed",
            hint="add the directory that it points to, or move the data here",
            where=path,
        )
    if not top.exists():
        raise NotFoundError(f"{path!r} does not exist", where=path)
    if not top.is_dir() and not top.is_file():
        raise UsageError(f"{path!r} is neither a file nor a directory", where=path)
    if path.endswith(POINTER_SUFFIX):
        raise UsageError(
            f"{path!r} has the name of a pointer",
            hint=f"add the data: 'datastore add {path.removesuffix(POINTER_SUFFIX)}'",
            where=path,
        )
    _check_git(workspace, path)


def _check_git(workspace: Workspace, path: str) -> None:
    tracked = workspace.git.tracked(path)
    if tracked:
        raise UsageError(
            f"Git tracks {tracked[0]!r}"
            + (f" and {len(tracked) - 1} more files of {path!r}" if len(tracked) > 1 else ""),
            hint=f"hand them over first: git rm -r -q --cached {path}",
            where=path,
        )
    inside = [each for each in workspace.dataset_paths() if each.startswith(path + "/")]
    if inside:
        raise UsageError(
            f"{path!r} holds the dataset {inside[0]!r}; datasets cannot be nested",
            hint=f"remove {inside[0]}{POINTER_SUFFIX} first, or add them one by one",
            where=path,
        )


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
    walk = _Recorded(dataset, inner)
    entries = list(Ingester(walk, session, task).entries())
    raise_problems(dataset.path, walk.seen.problems)
    known = dataset.remembered()
    unread = sorted(walk.keys - {entry[0] for entry in entries})
    edits: dict[bytes, bytes | None] = {entry[0]: entry[1] for entry in entries}
    if known is not None and unread and known.root != pointed.root:
        edits.update(zip(unread, prolly.get_many(known.tree, unread, dataset.store), strict=True))
    start, stop = files.key_range(inner)
    wanted = key_of(inner)
    for key, _ in prolly.scan(pointed.tree, dataset.store, start=start, stop=stop):
        if files.is_within(key, wanted) and key not in walk.keys:
            edits[key] = None
    if not edits and not walk.keys:
        raise NotFoundError(f"'{dataset.path}/{inner}' does not exist", where=inner)
    # What stood for an empty directory is one no longer.
    for parent in _parents(inner):
        edits.setdefault(key_of(parent), None)
    version = apply_edits(dataset, pointed, edits, session)
    return _Stored(dataset, version, session.account, None, pointed, edits)


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


def _parents(path: str) -> list[str]:
    parts = path.split("/")[:-1]
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]


def _acknowledge(workspace: Workspace, stored: _Stored) -> AddedPointer:
    """Writes the pointer, last of all; everything that it names is durable."""
    dataset = stored.dataset
    path = dataset.path
    before = workspace.pointer_data(path)
    old = _old_version(workspace, path)
    version = _rebased(stored, old)
    pointer = Pointer("files", version.files, version.bytes, version.root)
    ignore_paths(dataset.top.parent, [dataset.top.name])
    changed = before != pointer.encode()
    if changed:
        write_durably(workspace.top / pointer_path(path), pointer.encode())
    if stored.whole is not None:
        dataset.cache.save(version.root, stored.whole.snapshots, stored.whole.gone)
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
    except (NotFoundError, FormatError, ConflictError):
        return None


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
    counts: Counter[str] = Counter()
    if old.root == new.root:
        return counts
    for delta in version_deltas(old, new, dataset.store):
        value = delta.new if delta.new is not None else delta.old
        assert value is not None
        if files.decode_entry(value).kind is not Kind.DIRECTORY:
            counts[delta.verb] += 1
    return counts
