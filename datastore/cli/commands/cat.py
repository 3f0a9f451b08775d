"""``datastore cat``."""

from __future__ import annotations

import click

from datastore.cli.arguments import Verb, split_place
from datastore.cli.session import Session, write

_PIECE = 1 << 20


@click.command(cls=Verb)
@click.argument("place", metavar="[REV:]PATH", type=click.Path())
@click.pass_obj
def command(session: Session, place: str) -> None:
    """Print a file of a version.

    Whether or not it is in the workspace. Every byte is verified before it is printed. With --json
    the content comes as base64.
    """
    with session.open() as repo:
        revision, path = split_place(repo, session, place)
        if session.json:
            import base64  # noqa: PLC0415  (for --json only)

            data = repo.read(path, rev=revision)
            content = base64.b64encode(data).decode("ascii")
            session.emit({"path": path, "rev": revision, "bytes": len(data), "base64": content})
            return
        with repo.open_file(path, rev=revision) as file:
            while piece := file.read(_PIECE):
                write(piece)
