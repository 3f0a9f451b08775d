"""``datastore checkout``."""

from __future__ import annotations

import click

from datastore.cli.arguments import Revision, RevisionVerb, split_revisions
from datastore.cli.session import Session


@click.command(cls=RevisionVerb)
@click.argument("given", metavar="[REV] [--] [PATH]...", nargs=-1, type=Revision())
@click.option("-f", "--force", is_flag=True, help="Overwrite files that were changed since.")
@click.pass_obj
def command(session: Session, given: tuple[str, ...], *, force: bool) -> None:
    """Put a version of the data into the workspace.

    Without REV: the version that the pointers in the workspace name, which is what to run after
    'git checkout' or 'git pull'. With REV: the data and the pointers of that revision; Git's HEAD
    stays where it is. A file that you changed is never overwritten without --force.
    """
    with session.open() as repo:
        revisions, paths = split_revisions(repo, session, given, most=1)
        revision = revisions[0] if revisions else None
        result = repo.checkout(revision, paths, force=force, progress=session.progress())
    if session.json:
        session.emit(result)
        return
    from datastore.cli import output  # noqa: PLC0415

    session.report(map(output.checked_out, result.pointers))
