"""``datastore doctor``."""

from __future__ import annotations

import click

from datastore.cli.arguments import Verb
from datastore.cli.session import Session


@click.command(cls=Verb)
@click.pass_obj
def command(session: Session) -> None:
    """Check that this machine and repository are set up well.

    Exits with 1 if something is not, and says how to put it right.
    """
    with session.open() as repo:
        result = repo.doctor()
    good = all(check.ok for check in result.checks)
    if session.json:
        session.emit({"ok": good, "checks": result.checks})
    elif not (session.quiet and good):
        from datastore.cli import output  # noqa: PLC0415

        session.say(output.doctor(result))
    if not good:
        click.get_current_context().exit(1)
