"""One dataset of a checkout: planned, checked and, once done, told of."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeAlias

from datastore.errors import (
    ConflictError,
    CorruptionError,
    DatastoreError,
    FormatError,
    NotFoundError,
)
from datastore.kernel.hashing import Digest
from datastore.progress import Task
from datastore.storage.private import PrivateDirectory
from datastore.trees import files
from datastore.trees.files import FileTree
from datastore.trees.manifest import Content
from datastore.workspace import history
from datastore.workspace.checkout import CheckedOut, Materializer
from datastore.workspace.dataset import Dataset, keys_within
from datastore.workspace.layout import Place, Workspace
from datastore.workspace.paths import printable, probe_folding
from datastore.workspace.planning import Plan, check_plan, check_target, make_plan
from datastore.workspace.statcache import StatCache
from datastore.workspace.status import Examined, examine, pointer_deltas

_NOT_TO_BE_HAD: Final = (NotFoundError, FormatError, ConflictError, CorruptionError)
"""Why a version that a pointer names may not be there to look at."""
_LISTED: Final = 10

Bring: TypeAlias = Callable[[Iterable[Content]], None]
"""Fetches what files need and the store lacks, before the first of them is written."""


@dataclass(frozen=True, slots=True)
class CheckoutResult:
    """What a checkout did."""

    pointers: tuple[CheckedOut, ...]


@dataclass(frozen=True, slots=True)
class PullResult:
    """What a pull brought.

    Args:
        files: How many files were written.
        bytes: How many bytes they have.
        fetched_bytes: How many bytes came over the network; what was here already did not.
        requests: How many requests that took.
        pointers: What happened to each dataset.
        out: The directory that the files were written to; empty for the workspace.
    """

    files: int
    bytes: int
    fetched_bytes: int
    requests: int
    pointers: tuple[CheckedOut, ...]
    out: str = ""


@dataclass(slots=True)
class Step:
    """One dataset, planned and checked."""

    place: Place
    dataset: Dataset
    target: FileTree
    examined: Examined
    plan: Plan


def plan_step(
    workspace: Workspace,
    place: Place,
    rev: str | None,
    folding: tuple[bool, bool],
    task: Task,
    *,
    force: bool,
    out: Path | None = None,
) -> Step:
    """Decides what a checkout does to one dataset; nothing on disk is changed.

    Args:
        workspace: Where.
        place: The dataset, or a path in it.
        rev: The revision; the pointer in the workspace where None.
        folding: See `folding_in`.
        task: Told of bytes read.
        force: Replace files whose content no version has.
        out: The directory below which the dataset is to be, if not in the workspace.

    Raises:
        ConflictError: Files would be lost.
        NotFoundError: There is no such version or path, or the store lacks it.
    """
    target = workspace.version(place.dataset, rev)
    if target is None:
        raise NotFoundError(f"{place.dataset!r} is not a dataset", where=place.dataset)
    dataset = workspace.dataset(place.dataset) if out is None else _outside(workspace, place, out)
    examined = examine(dataset, task) if dataset.exists() else Examined(None, {})
    deltas = pointer_deltas(dataset, target, examined, prefix=place.inner)
    if place.inner and not deltas:
        _check_inside(workspace, place, target)
    safe = _safe_versions(workspace, dataset) if out is None else []
    plan = make_plan(dataset, deltas, examined, safe, force=force)
    if plan.conflicts and examined.known is None and out is None:
        # Seldom, so that it may take its time: files of a version that is neither here nor in HEAD,
        # as a killed checkout leaves them when the index, which knew of it, is lost as well. While
        # the index is there, a file that is again as it was in an older version is a change.
        safe += _committed_versions(workspace, dataset, {version.root for version in safe})
        plan = make_plan(dataset, deltas, examined, safe, force=force)
    check_plan(dataset, plan, folding, target)
    check_target(dataset, plan, target)
    return Step(place, dataset, target, examined, plan)


def _outside(workspace: Workspace, place: Place, out: Path) -> Dataset:
    top = out / place.dataset
    cache = StatCache(workspace.store.index, f"{out}\0{place.dataset}")
    return Dataset(place.dataset, top, workspace.store, cache)


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


def contents_of(steps: Iterable[Step]) -> Iterator[Content]:
    """Lists the contents of the files that will be written, in their order."""
    return (entry.content for step in steps for _, entry in step.plan.write if entry.is_file)


def checked_out(step: Step, materializer: Materializer) -> CheckedOut:
    """Tells what was done."""
    return CheckedOut(
        step.dataset.path,
        written=len(step.plan.write) - len(materializer.failures),
        removed=len(step.plan.remove),
        kept=len(step.plan.kept),
        bytes=materializer.bytes,
    )


def raise_failures(failures: Sequence[DatastoreError]) -> None:
    """Raises one error for all files that could not be written; all others have been."""
    if not failures:
        return
    worst = next((each for each in failures if isinstance(each, CorruptionError)), failures[0])
    if len(failures) > 1:
        lines = [f"  {printable(each.message)}" for each in failures[:_LISTED]]
        if len(failures) > _LISTED:
            lines.append(f"  ... and {len(failures) - _LISTED} more")
        worst.message = f"{len(failures)} files could not be written:\n" + "\n".join(lines)
    raise worst


def folding_in(staging: Path) -> tuple[bool, bool]:
    """Tries out how names are compared, in a directory that is swept if this process is killed."""
    with PrivateDirectory(staging) as private:
        return probe_folding(staging / private.name)
