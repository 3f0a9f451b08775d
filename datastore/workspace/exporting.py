"""Writing a version elsewhere than into the workspace: ``pull --out``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

from datastore.errors import (
    DatastoreError,
)
from datastore.progress import Progress
from datastore.storage.local import storage_error
from datastore.workspace.checkout import Materializer
from datastore.workspace.layout import Place, Workspace
from datastore.workspace.steps import (
    Bring,
    CheckoutResult,
    checked_out,
    contents_of,
    folding_in,
    plan_step,
    raise_failures,
)
from datastore.workspace.writer import Writer

_STAGING: Final = ".datastore-tmp"


def write_out(
    workspace: Workspace,
    rev: str | None,
    paths: Sequence[str],
    out: Path,
    progress: Progress,
    *,
    force: bool,
    bring: Bring | None = None,
) -> CheckoutResult:
    """Writes a version's files below another directory, under their paths in the workspace.

    What is there already as it should be is left; what differs is a conflict, unless forced.
    Nothing is removed.

    Args:
        workspace: Has the pointers.
        rev: The revision; the pointers in the workspace where None.
        paths: Datasets or paths in them; all datasets where empty.
        out: The directory, made if missing.
        progress: Told of bytes written.
        force: Replace files that differ.
        bring: Called with the files that will be written.
    """
    places = workspace.places(paths, rev)
    with _made(out):
        return _write_below(workspace, places, rev, out, progress, force=force, bring=bring)


@contextlib.contextmanager
def _made(directory: Path) -> Iterator[None]:
    """Makes a directory, which goes again if nothing came to lie in it."""
    new = not directory.exists()
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise storage_error(error, "make the directory", directory) from error
    try:
        yield
    except BaseException:
        if new:
            with contextlib.suppress(OSError):
                directory.rmdir()
        raise


def _write_below(
    workspace: Workspace,
    places: Sequence[Place],
    rev: str | None,
    out: Path,
    progress: Progress,
    *,
    force: bool,
    bring: Bring | None,
) -> CheckoutResult:
    staging = out / _STAGING
    try:
        with progress.task("compare", None, "B") as task:
            folding = folding_in(staging)
            steps = [
                plan_step(workspace, place, rev, folding, task, force=force, out=out)
                for place in places
            ]
        if bring is not None:
            bring(contents_of(steps))
        total = sum(content.size for content in contents_of(steps))
        failures: list[DatastoreError] = []
        done = []
        with progress.task("write", total, "B") as writing, Writer(out, staging) as writer:
            for step in steps:
                step.plan.remove.clear()
                materializer = Materializer(step.dataset, writer, writing)
                materializer.carry_out(step.plan)
                failures += materializer.failures.values()
                done.append(checked_out(step, materializer))
    finally:
        with contextlib.suppress(OSError):  # another pull into the directory is still at work
            staging.rmdir()
    raise_failures(failures)
    return CheckoutResult(tuple(done))
