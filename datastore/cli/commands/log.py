"""``datastore log``."""

from __future__ import annotations

import itertools

import click

from datastore.cli.arguments import Verb
from datastore.cli.session import Session
from datastore.errors import NotFoundError


@click.command(cls=Verb)
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=click.Path())
@click.option(
    "-n", "--limit", metavar="N", type=click.IntRange(min=1), help="Show the newest N versions."
)
@click.pass_obj
def command(session: Session, paths: tuple[str, ...], limit: int | None) -> None:
    """List the versions of the data.

    Newest first. A version is a commit that changed a pointer: commit, date, author, path, size,
    files added (+), removed (-) and modified (~), and the commit's subject.
    """
    with session.open() as repo:
        entries = repo.log(paths, limit=limit)
        newest = next(entries, None)
        if newest is None and paths:
            raise NotFoundError(
                f"no version of {', '.join(map(repr, paths))} in the history of HEAD",
                hint="'datastore log' without a path lists all versions.",
                where=paths[0],
            )
        entries = itertools.chain([newest] if newest else [], entries)
        if session.json:
            session.emit({"versions": list(entries)})
            return
        from datastore.cli import output  # noqa: PLC0415

        session.say(map(output.log_line, entries))
