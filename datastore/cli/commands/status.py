"""``datastore status``."""

from __future__ import annotations

import click

from datastore.cli.arguments import Verb
from datastore.cli.session import Session


@click.command(cls=Verb)
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=click.Path())
@click.option("--exit-code", is_flag=True, help="Exit with 1 if anything differs.")
@click.pass_obj
def command(session: Session, paths: tuple[str, ...], *, exit_code: bool) -> None:
    """Show what differs from the versions in the workspace.

    Compares the data with the pointers that lie beside it; 'git status' shows which of those
    pointers are committed.
    """
    with session.open() as repo:
        result = repo.status(paths, progress=session.progress())
        near = session.near(repo)
    if session.json:
        session.emit(result)
    else:
        from datastore.cli import output  # noqa: PLC0415

        session.say(output.status(result.pointers, near, session.shown))
    if exit_code and not result.clean:
        click.get_current_context().exit(1)
