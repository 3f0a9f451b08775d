"""``datastore doctor``."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import click

from datastore.cli.arguments import Verb
from datastore.cli.session import Session, driver_program

if TYPE_CHECKING:
    from datastore.workspace.diagnosis import Check


@click.command(cls=Verb)
@click.pass_obj
def command(session: Session) -> None:
    """Check that this machine and repository are set up well.

    Exits with 1 if something is not, and says how to put it right.
    """
    with session.open() as repo:
        result = repo.doctor()
    checks = [*result.checks, _program()]
    good = all(check.ok for check in checks)
    if session.json:
        session.emit({"ok": good, "checks": checks})
    elif not (session.quiet and good):
        from datastore.cli import output  # noqa: PLC0415

        session.say(output.doctor(checks))
    if not good:
        click.get_current_context().exit(1)


def _program() -> Check:
    """Looks for the program that Git's drivers are; without it 'git diff' fails at a pointer."""
    from datastore.workspace.diagnosis import Check  # noqa: PLC0415

    program = driver_program()
    found = shutil.which(program)
    return Check(
        "git-ds",
        ok=found is not None,
        value=found or "not on the PATH, where Git looks for it",
        hint="" if found else "add the directory of the programs that pip installed to the PATH",
    )
