"""``datastore pull``."""

from __future__ import annotations

import os

import click

from datastore.cli.arguments import Verb
from datastore.cli.commands.fetch import KEPT
from datastore.cli.failures import if_interrupted
from datastore.cli.session import Session


@click.command(cls=Verb)
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=click.Path())
@click.option("--rev", metavar="REV", help="The version of that revision.")
@click.option("--out", metavar="DIR", type=click.Path(file_okay=False), help="Write it to DIR.")
@click.option("-f", "--force", is_flag=True, help="Overwrite files that were changed since.")
@click.option("--remote", metavar="NAME", help="Bring it from there, not from the default remote.")
@click.pass_obj
def command(
    session: Session,
    paths: tuple[str, ...],
    *,
    rev: str | None,
    out: str | None,
    force: bool,
    remote: str | None,
) -> None:
    """Bring the data of a version into the workspace.

    Of the pointers in the workspace, which is what to run after 'git clone', 'git pull' and 'git
    checkout'. With --rev: the data and the pointers of that revision; no Git ref moves. With --out:
    into another directory, and the workspace stays as it is. A PATH may lie in a dataset: no more
    than it needs is fetched. A file that you changed is never overwritten without --force.

    \b
    datastore pull
    datastore pull images/cats
    datastore pull --rev v1.0 --out /data/v1 images
    """  # noqa: D301  (the backspace keeps click from joining the lines)
    target = os.path.abspath(session.path(out)) if out is not None else None
    with session.open() as repo, if_interrupted(KEPT):
        result = repo.pull(
            rev, paths, out=target, force=force, remote=remote, progress=session.progress()
        )
    if session.json:
        session.emit(result)
        return
    from datastore.cli import sharing_output  # noqa: PLC0415

    session.report(sharing_output.pulled(result))
