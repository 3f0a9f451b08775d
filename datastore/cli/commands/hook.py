"""The hooks that Git calls; see ``datastore git install --pre-push``."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, NamedTuple

import click

from datastore.cli.arguments import HELP_OPTIONS
from datastore.cli.commands.push import STAYS
from datastore.cli.failures import if_interrupted
from datastore.cli.session import Session
from datastore.errors import DatastoreError, NotFoundError, UsageError

if TYPE_CHECKING:
    from datastore.repository import Repository


class Update(NamedTuple):
    """One ref that Git is about to push."""

    new: str
    """What it is to be: the full name of a commit or tag, zeros where the ref is to be deleted."""
    old: str
    """What it is over there; zeros where it is new."""


# Git names its remote and URL, which are not ours.
_SETTINGS = {**HELP_OPTIONS, "allow_extra_args": True, "ignore_unknown_options": True}


@click.command(hidden=True, context_settings=_SETTINGS)
@click.pass_obj
def pre_push(session: Session) -> None:
    """Send the data of the commits that Git is about to push; fail if that cannot be done."""
    updates = [each for each in _updates(sys.stdin) if each.new.strip("0")]
    if not updates:
        return
    try:
        with if_interrupted(STAYS):
            _send(session, updates)
    except (DatastoreError, KeyboardInterrupt):
        click.echo("The data was not sent, so Git is told not to push.", err=True)
        click.echo("('git push --no-verify' would push without the data.)", err=True)
        raise


def _updates(lines: Iterable[str]) -> Iterator[Update]:
    """Reads what Git writes: ``<local ref> <local name> <remote ref> <remote name>``."""
    for line in lines:
        fields = line.split()
        if fields:
            if len(fields) != 4:
                raise UsageError("this is not what Git tells a pre-push hook", where=line.strip())
            yield Update(new=fields[1], old=fields[3])


def _send(session: Session, updates: list[Update]) -> None:
    try:
        repo = session.open()
    except NotFoundError:
        if _holds_settings(session, updates):
            raise
        return  # a repository without data, whose hooks are ours for another branch
    with repo:
        ranges = list(_ranges(repo, updates))
        if not ranges:
            return
        if not repo.remotes():
            _refuse_pointers(repo, ranges)
            return
        result = repo.push(ranges, progress=session.progress())
    from datastore.cli import sharing_output  # noqa: PLC0415

    if result.roots or result.healed or result.absent:
        for line in sharing_output.pushed(result, session.shown):
            session.hint(line)  # on stderr, as Git's own words are
    if result.absent:
        raise NotFoundError(
            "commits that are pushed name versions whose data is neither here nor on the remote",
            where=result.absent[0].path,
        )


def _ranges(repo: Repository, updates: list[Update]) -> Iterator[str]:
    """Names the commits that go out: what is new in a ref, or all of a new one's history."""
    for new, old in updates:
        if not repo.is_revision(new):
            continue  # a tag of something that is no commit, and has no pointers
        # What the ref is over there may be unknown here, where it is about to be overwritten.
        known = bool(old.strip("0")) and repo.is_revision(old)
        yield f"{old}..{new}" if known else new


def _refuse_pointers(repo: Repository, ranges: list[str]) -> None:
    for each in ranges:
        dataset = next(repo.ls("", rev=each.rpartition("..")[2]), None)
        if dataset is not None:
            raise UsageError(
                f"there is no remote for the data of {dataset.path!r}, whose pointer is pushed",
                hint="name one: datastore remote add origin URL",
                where=dataset.path,
            )


def _holds_settings(session: Session, updates: list[Update]) -> bool:
    """Says whether what is pushed has data, though the branch in the workspace has none."""
    from pathlib import Path  # noqa: PLC0415

    from datastore import config  # noqa: PLC0415
    from datastore.workspace.git import Git  # noqa: PLC0415

    settings = f"{config.DIRECTORY}/{config.PROJECT_FILE}"
    with Git.discover(Path(session.directory)) as git:
        for update in updates:
            try:
                if git.read(update.new, settings) is not None:
                    return True
            except NotFoundError:
                continue  # a tag of something that is no commit
    return False
