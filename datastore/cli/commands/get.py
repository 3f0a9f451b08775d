"""``datastore get``."""

from __future__ import annotations

import os

import click

from datastore.cli.arguments import Verb
from datastore.cli.failures import if_interrupted
from datastore.cli.session import Session


@click.command(cls=Verb)
@click.argument("source")
@click.argument("path", type=click.Path())
@click.option("--rev", metavar="REV", help="A branch, tag or commit; the default branch's newest.")
@click.option(
    "--out",
    metavar="DIR",
    required=True,
    type=click.Path(file_okay=False),
    help="Write it to DIR.",
)
@click.pass_obj
def command(session: Session, source: str, path: str, *, rev: str | None, out: str) -> None:
    """Get data of another repository, without a clone.

    SOURCE is what 'git clone' takes: a URL or a directory. PATH is a dataset there, or a path in
    one. The data comes from the remote that the repository itself names.

    \b
    datastore get https://example.org/cats.git images --rev v1.0 --out cats
    """  # noqa: D301  (the backspace keeps click from joining the lines)
    from datastore import repository  # noqa: PLC0415

    here = session.path(source)
    with if_interrupted("No file is half written; run the same command again."):
        result = repository.get(
            os.path.abspath(here) if here.exists() else source,
            path,
            rev=rev,
            out=os.path.abspath(session.path(out)),
            progress=session.progress(),
        )
    if session.json:
        session.emit(result)
        return
    from datastore.cli import sharing_output  # noqa: PLC0415

    session.report(sharing_output.pulled(result))
