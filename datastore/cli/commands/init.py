"""``datastore init``."""

from __future__ import annotations

import click

from datastore.cli import text
from datastore.cli.arguments import Verb
from datastore.cli.session import Session, driver_program, index_directory


@click.command(cls=Verb)
@click.pass_obj
def command(session: Session) -> None:
    """Begin to version data in this Git repository.

    Makes .datastore/ for the settings that are committed, and a store inside Git's own directory,
    where 'git clean' cannot reach it. Tells Git in this clone how to show and merge pointers.
    Running it again does no harm; run it in every clone.
    """
    from datastore.repository import Repository  # noqa: PLC0415

    with Repository.init(
        session.directory, index_directory=index_directory(), program=driver_program()
    ) as repo:
        if session.json:
            session.emit({"path": str(repo.top)})
        session.report([f"Ready to version data in {repo.top}."])
        to_commit = map(session.near(repo), [".datastore", ".gitattributes"])
        session.hint(f"Next: git add {text.shell_paths(to_commit)} && datastore add PATH...")
