"""The verbs ``status``, ``diff`` and ``log``: versions beside each other and beside the disk."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import islice

from datastore.errors import (
    ConflictError,
    CorruptionError,
    FormatError,
    NotFoundError,
    StorageError,
    UsageError,
)
from datastore.kernel.hashing import format_digest
from datastore.progress import Progress, Task
from datastore.trees import files
from datastore.trees.files import FileTree
from datastore.workspace.changes import (
    Delta,
    DiffResult,
    FileChange,
    count_changes,
    count_files,
    file_changes,
    version_deltas,
)
from datastore.workspace.dataset import keys_within
from datastore.workspace.git_log import Commit
from datastore.workspace.layout import Place, Workspace
from datastore.workspace.pointer import Pointer, pointer_path
from datastore.workspace.status import (
    PointerStatus,
    StatusResult,
    dataset_status,
    examine,
    pointer_deltas,
)


@dataclass(frozen=True, slots=True)
class LogEntry:
    """One version of a dataset in Git's history."""

    commit: str
    author: str
    email: str
    date: str
    """ISO 8601."""
    subject: str
    path: str
    files: int
    bytes: int
    added: int
    """Files, against the version before; likewise the next two."""
    removed: int
    modified: int
    root: str
    """Printed digest; empty where the commit removed the dataset."""


def status(workspace: Workspace, paths: Sequence[str], progress: Progress) -> StatusResult:
    """Compares the workspace with its pointers; see `Repository.status`."""
    places = workspace.places(paths)
    changed = set(workspace.git.changed_pointers()) if places else set()
    with progress.task("status", None, "B") as task:
        found = [_one_status(workspace, place, changed, task) for place in places]
    return StatusResult(all(each.state == "clean" for each in found), tuple(found))


def _one_status(workspace: Workspace, place: Place, changed: set[str], task: Task) -> PointerStatus:
    committed = pointer_path(place.dataset) not in changed
    try:
        pointed = workspace.version(place.dataset)
    except ConflictError as error:
        return PointerStatus(place.dataset, "conflict", message=str(error), committed=False)
    except (FormatError, NotFoundError, CorruptionError) as error:
        absent = isinstance(error, NotFoundError) and workspace.config.default_remote
        if absent and not workspace.dataset(place.dataset).exists():
            return PointerStatus(place.dataset, "missing", committed=committed)
        message = f"{error}. {error.hint}".rstrip(". ")
        return PointerStatus(place.dataset, "broken", message=message, committed=committed)
    if pointed is None:
        return PointerStatus(place.dataset, "broken", message="its pointer is gone")
    dataset = workspace.dataset(place.dataset)
    return dataset_status(dataset, pointed, task, prefix=place.inner, committed=committed)


def diff(
    workspace: Workspace,
    old: str | None,
    new: str | None,
    paths: Sequence[str],
    progress: Progress,
) -> DiffResult:
    """Compares two versions, or one with the disk; see `Repository.diff`."""
    if old is not None and ".." in old:
        if new is not None:
            raise UsageError(
                f"{old!r} is a range already, so {new!r} cannot come after it",
                hint="give two revisions, or one range",
            )
        old, new = workspace.git.parse_range(old)
    before = old or "HEAD"
    changes: list[FileChange] = []
    with progress.task("diff", None, "B") as task:
        for place in _either(workspace, paths, before, new):
            deltas = _deltas(workspace, place, before, new, task)
            changes += file_changes(deltas, place.dataset)
    changes.sort(key=lambda change: change.path)
    return DiffResult(count_changes(changes), tuple(changes))


def _either(workspace: Workspace, paths: Sequence[str], old: str, new: str | None) -> list[Place]:
    """Finds the datasets of either side: one may have come or gone between them."""
    found: dict[Place, None] = {}
    missing: NotFoundError | None = None
    for rev in (old, new):
        if rev is not None:
            workspace.git.resolve(rev)
        try:
            found.update(dict.fromkeys(workspace.places(paths, rev)))
        except NotFoundError as error:
            missing = error
    if not found and missing is not None:
        raise missing
    return sorted(found)


def _deltas(
    workspace: Workspace, place: Place, old: str, new: str | None, task: Task
) -> list[Delta]:
    before = workspace.version(place.dataset, old)
    if new is not None:
        after = workspace.version(place.dataset, new)
        return _between(workspace, before, after, place.inner)
    dataset = workspace.dataset(place.dataset)
    if workspace.pointer_data(place.dataset) is None:
        return _between(workspace, before, None, place.inner)
    examined = examine(dataset, task)
    return pointer_deltas(dataset, before, examined, prefix=place.inner)


def _between(
    workspace: Workspace, old: FileTree | None, new: FileTree | None, inner: str
) -> list[Delta]:
    wanted, start, stop = keys_within(inner)
    return [
        delta
        for delta in version_deltas(old, new, workspace.store, start=start, stop=stop)
        if files.is_within(delta.key, wanted)
    ]


def diff_pointers(
    workspace: Workspace, old: bytes | None, new: bytes | None, path: str
) -> DiffResult:
    """Compares the versions that two pointers name, for ``git diff``."""
    name = path.removesuffix(".ds")
    sides = [
        workspace.load(Pointer.decode(data, where=path), name) if data else None
        for data in (old, new)
    ]
    changes = file_changes(version_deltas(sides[0], sides[1], workspace.store), name)
    return DiffResult(count_changes(changes), tuple(changes))


def log(workspace: Workspace, paths: Sequence[str], limit: int | None) -> Iterator[LogEntry]:
    """Lists the versions of datasets, newest first; see `Repository.log`."""
    return islice(_log(workspace, paths), None if limit is None else max(limit, 0))


def _log(workspace: Workspace, paths: Sequence[str]) -> Iterator[LogEntry]:
    datasets = list(dict.fromkeys(_logged(workspace, paths)))
    pointers = [pointer_path(dataset) for dataset in datasets]
    for commit in workspace.git.log(pointers):
        for dataset in datasets or _changed_in(workspace, commit):
            entry = _log_entry(workspace, commit, dataset)
            if entry is not None:
                yield entry


def _logged(workspace: Workspace, paths: Sequence[str]) -> Iterator[str]:
    """Finds the datasets to list; one that is gone from the workspace is looked for in HEAD."""
    for path in paths:
        for rev in (None, "HEAD"):
            try:
                places = workspace.places((path,), rev)
            except NotFoundError:
                continue
            yield from (place.dataset for place in places)
            break
        else:
            yield path  # maybe a dataset once


def _changed_in(workspace: Workspace, commit: Commit) -> list[str]:
    """Lists the datasets of a commit and of its first parent."""
    revs = [commit.digest, *commit.parents[:1]]
    return sorted({path for rev in revs for path in workspace.dataset_paths(rev)})


def _log_entry(workspace: Workspace, commit: Commit, dataset: str) -> LogEntry | None:
    name = pointer_path(dataset)
    revs = [commit.digest, *commit.parents[:1]]
    new, *olds = workspace.git.read_many([(rev, name) for rev in revs])
    old = olds[0] if olds else None
    if new == old:
        return None
    empty = LogEntry(
        commit.digest,
        commit.author,
        commit.email,
        commit.date,
        commit.subject,
        dataset,
        files=0,
        bytes=0,
        added=0,
        removed=0,
        modified=0,
        root="",
    )
    try:
        pointer = Pointer.decode(new, where=f"{commit.digest[:12]}:{name}") if new else None
    except (FormatError, ConflictError):
        return empty
    counts = _counts(workspace, old, new, name)
    entry = replace(
        empty, added=counts["added"], removed=counts["removed"], modified=counts["modified"]
    )
    if pointer is None:
        return entry
    return replace(
        entry, files=pointer.files, bytes=pointer.bytes, root=format_digest(pointer.root)
    )


def _counts(workspace: Workspace, old: bytes | None, new: bytes | None, name: str) -> Counter[str]:
    """Counts differing files; nothing where one of the versions is not to be had just now."""
    try:
        sides = [
            files.load(Pointer.decode(data, where=name).root, workspace.store) if data else None
            for data in (old, new)
        ]
        if sides[0] is None and sides[1] is not None:
            return Counter(added=sides[1].files)
        return count_files(version_deltas(sides[0], sides[1], workspace.store))
    except (NotFoundError, FormatError, ConflictError, CorruptionError, StorageError):
        return Counter()
