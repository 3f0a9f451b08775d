"""The verb ``checkout``: a version's files into the workspace."""

from __future__ import annotations

from collections.abc import Sequence

from datastore.errors import (
    ConflictError,
    DatastoreError,
)
from datastore.progress import Progress, Task
from datastore.storage.local import storage_error, write_durably
from datastore.workspace.checkout import CheckedOut, Materializer, remember
from datastore.workspace.dataset import Dataset
from datastore.workspace.ignore import ignore_paths
from datastore.workspace.layout import LOCK_TIMEOUT, Place, Workspace
from datastore.workspace.pointer import pointer_path
from datastore.workspace.steps import (
    Bring,
    CheckoutResult,
    Step,
    checked_out,
    contents_of,
    folding_in,
    plan_step,
    raise_failures,
)
from datastore.workspace.writer import Writer


def checkout(
    workspace: Workspace,
    rev: str | None,
    paths: Sequence[str],
    progress: Progress,
    *,
    force: bool,
    bring: Bring | None = None,
) -> CheckoutResult:
    """Puts a version's files into the workspace; see `Repository.checkout`.

    Args:
        workspace: Where.
        rev: The revision; the pointers in the workspace where None.
        paths: Datasets or paths in them; all datasets where empty.
        progress: Told of bytes written.
        force: Replace files whose content no version has.
        bring: Called with the files that will be written.
    """
    places = workspace.places(paths, rev)
    if rev is not None:
        _check_names(workspace, places)
    _make_staging(workspace)
    with (
        progress.task("compare", None, "B") as task,
        workspace.files_lock(shared=False).acquire(LOCK_TIMEOUT, task.describe),
        workspace.lock().acquire(LOCK_TIMEOUT, task.describe),
    ):
        folding = folding_in(workspace.staging)
        # Every dataset is planned and checked before the first file of any is touched.
        steps = [plan_step(workspace, place, rev, folding, task, force=force) for place in places]
        if bring is not None:
            bring(contents_of(steps))
        total = sum(content.size for content in contents_of(steps))
        failures: list[DatastoreError] = []
        with progress.task("checkout", total, "B") as writing:
            done = [_carry_out(workspace, step, rev, writing, failures) for step in steps]
    raise_failures(failures)
    return CheckoutResult(tuple(done))


def prepare(
    workspace: Workspace,
    rev: str | None,
    paths: Sequence[str],
    progress: Progress,
    *,
    force: bool,
    bring: Bring,
) -> None:
    """Does all of a checkout that may take long, and keeps nobody waiting meanwhile.

    What is brought is what the files on disk lack now; the checkout itself looks again.
    """
    places = workspace.places(paths, rev)
    if rev is not None:
        _check_names(workspace, places)
    _make_staging(workspace)
    with progress.task("compare", None, "B") as task:
        folding = folding_in(workspace.staging)
        steps = [plan_step(workspace, place, rev, folding, task, force=force) for place in places]
    bring(contents_of(steps))


def _make_staging(workspace: Workspace) -> None:
    try:
        workspace.staging.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, "make the directory", workspace.staging) from error


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


def _carry_out(
    workspace: Workspace,
    step: Step,
    rev: str | None,
    task: Task,
    failures: list[DatastoreError],
) -> CheckedOut:
    dataset, plan = step.dataset, step.plan
    whole = not step.place.inner
    dataset.cache.announce(step.target.root)
    with Writer(workspace.top, workspace.staging) as writer:
        materializer = Materializer(dataset, writer, task)
        materializer.carry_out(plan)
        if whole and step.target.tree.rows == 0 and not dataset.exists():
            writer.make_directory(dataset.path)  # an empty dataset is an empty directory
    failures += materializer.failures.values()
    if whole and not materializer.failures:
        remember(dataset, step.target, plan, materializer.rows)
        if rev is not None:
            _follow(workspace, dataset, rev)
    return checked_out(step, materializer)


def _follow(workspace: Workspace, dataset: Dataset, rev: str) -> None:
    """Lets the pointer in the workspace name the version that is now on disk; last of all."""
    data = workspace.pointer_data(dataset.path, rev)
    if data is not None and data != workspace.pointer_data(dataset.path):
        write_durably(workspace.top / pointer_path(dataset.path), data)
    ignore_paths(dataset.top.parent, [dataset.top.name])
