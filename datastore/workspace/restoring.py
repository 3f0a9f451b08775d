"""The verb ``checkout``: a version's files into the workspace."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from datastore.errors import ConflictError, CorruptionError, FormatError, NotFoundError
from datastore.kernel.hashing import Digest
from datastore.progress import Progress, Task
from datastore.storage.local import write_durably
from datastore.storage.private import PrivateDirectory
from datastore.trees import files
from datastore.trees.files import FileTree
from datastore.workspace import history
from datastore.workspace.checkout import CheckedOut, Materializer, remember
from datastore.workspace.dataset import Dataset, keys_within
from datastore.workspace.ignore import ignore_paths
from datastore.workspace.layout import LOCK_TIMEOUT, Place, Workspace
from datastore.workspace.paths import probe_folding
from datastore.workspace.planning import Plan, check_plan, check_target, make_plan
from datastore.workspace.pointer import pointer_path
from datastore.workspace.status import Examined, examine, pointer_deltas
from datastore.workspace.writer import Writer

_NOT_TO_BE_HAD: Final = (NotFoundError, FormatError, ConflictError, CorruptionError)
"""Why a version that a pointer names may not be there to look at."""


@dataclass(frozen=True, slots=True)
class CheckoutResult:
    """What a checkout did."""

    pointers: tuple[CheckedOut, ...]


@dataclass(slots=True)
class _Step:
    """One dataset, planned and checked."""

    place: Place
    dataset: Dataset
    target: FileTree
    examined: Examined
    plan: Plan


def checkout(
    workspace: Workspace,
    rev: str | None,
    paths: Sequence[str],
    progress: Progress,
    *,
    force: bool,
) -> CheckoutResult:
    """Puts a version's files into the workspace; see `Repository.checkout`."""
    places = workspace.places(paths, rev)
    if rev is not None:
        _check_names(workspace, places)
    workspace.staging.mkdir(parents=True, exist_ok=True)
    with (
        progress.task("compare", None, "B") as task,
        workspace.files_lock(shared=False).acquire(LOCK_TIMEOUT, task.describe),
        workspace.lock().acquire(LOCK_TIMEOUT, task.describe),
    ):
        folding = _folding(workspace)
        # Every dataset is planned and checked before the first file of any is touched.
        steps = [_plan(workspace, place, rev, folding, task, force=force) for place in places]
        total = sum(entry.size for step in steps for _, entry in step.plan.write)
        with progress.task("checkout", total, "B") as writing:
            done = [_carry_out(workspace, step, rev, writing) for step in steps]
    return CheckoutResult(tuple(done))


def _folding(workspace: Workspace) -> tuple[bool, bool]:
    """Tries out how names are compared, in a directory that is swept if this process is killed."""
    with PrivateDirectory(workspace.staging) as private:
        return probe_folding(workspace.staging / private.name)


def _check_names(workspace: Workspace, places: list[Place]) -> None:
    """Git's own files are not replaced by a dataset that was at their path in another commit."""
    for place in places:
        tracked = workspace.git.tracked(place.dataset)
        if tracked:
            raise ConflictError(
                f"Git tracks {tracked[0]!r} where the dataset {place.dataset!r} would go",
                paths=tuple(tracked),
                hint=f"look at the version elsewhere, or first: git rm --cached {place.dataset}",
                where=place.dataset,
            )


def _plan(
    workspace: Workspace,
    place: Place,
    rev: str | None,
    folding: tuple[bool, bool],
    task: Task,
    *,
    force: bool,
) -> _Step:
    target = workspace.version(place.dataset, rev)
    if target is None:
        raise NotFoundError(f"{place.dataset!r} is not a dataset", where=place.dataset)
    dataset = workspace.dataset(place.dataset)
    examined = examine(dataset, task) if dataset.exists() else Examined(None, {})
    deltas = pointer_deltas(dataset, target, examined, prefix=place.inner)
    if place.inner and not deltas:
        _check_inside(workspace, place, target)
    safe = _safe_versions(workspace, dataset)
    plan = make_plan(dataset, deltas, examined, safe, force=force)
    if plan.conflicts and examined.known is None:
        # Seldom, so that it may take its time: files of a version that is neither here nor in HEAD,
        # as a killed checkout leaves them when the index, which knew of it, is lost as well. While
        # the index is there, a file that is again as it was in an older version is a change.
        safe += _committed_versions(workspace, dataset, {version.root for version in safe})
        plan = make_plan(dataset, deltas, examined, safe, force=force)
    check_plan(dataset, plan, folding, target)
    check_target(dataset, plan, target)
    return _Step(place, dataset, target, examined, plan)


def _check_inside(workspace: Workspace, place: Place, target: FileTree) -> None:
    wanted, start, stop = keys_within(place.inner)
    for key, _ in files.scan(target, workspace.store, start=start, stop=stop):
        if files.is_within(key, wanted):
            return
    raise NotFoundError(
        f"'{place.dataset}/{place.inner}' is not in that version of {place.dataset}",
        hint=f"list it: datastore ls {place.dataset}",
        where=place.inner,
    )


def _safe_versions(workspace: Workspace, dataset: Dataset) -> list[FileTree]:
    """Lists versions whose content is not lost when a file on disk is replaced.

    Those are what the pointer names, in the workspace and in HEAD, and what killed checkouts had
    begun to bring.
    """
    found = []
    for rev in (None, "HEAD"):
        try:
            found.append(workspace.version(dataset.path, rev))
        except _NOT_TO_BE_HAD:
            continue
    for announced in dataset.cache.announced():
        with contextlib.suppress(*_NOT_TO_BE_HAD):
            found.append(files.load(announced, dataset.store))
    return [version for version in found if version is not None]


def _committed_versions(
    workspace: Workspace, dataset: Dataset, known: set[Digest]
) -> list[FileTree]:
    """Lists the versions in Git's history of which the content is here."""
    found = []
    for version in history.versions(workspace, None):
        if version.path == dataset.path and version.root not in known:
            known.add(version.root)
            with contextlib.suppress(*_NOT_TO_BE_HAD):
                found.append(files.load(version.root, dataset.store))
    return found


def _carry_out(workspace: Workspace, step: _Step, rev: str | None, task: Task) -> CheckedOut:
    dataset, plan = step.dataset, step.plan
    whole = not step.place.inner
    dataset.cache.announce(step.target.root)
    with Writer(workspace.top, workspace.staging) as writer:
        materializer = Materializer(dataset, writer, task)
        materializer.carry_out(plan)
        if whole and step.target.tree.rows == 0 and not dataset.exists():
            writer.make_directory(dataset.path)  # an empty dataset is an empty directory
    if whole:
        remember(dataset, step.target, plan, materializer.rows)
        if rev is not None:
            _follow(workspace, dataset, rev)
    return CheckedOut(
        dataset.path,
        written=len(plan.write),
        removed=len(plan.remove),
        kept=len(plan.kept),
        bytes=materializer.bytes,
    )


def _follow(workspace: Workspace, dataset: Dataset, rev: str) -> None:
    """Lets the pointer in the workspace name the version that is now on disk; last of all."""
    data = workspace.pointer_data(dataset.path, rev)
    if data is not None and data != workspace.pointer_data(dataset.path):
        write_durably(workspace.top / pointer_path(dataset.path), data)
    ignore_paths(dataset.top.parent, [dataset.top.name])
