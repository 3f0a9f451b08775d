"""``datastore ls``."""

from __future__ import annotations

import click

from datastore.cli.arguments import Verb, split_place
from datastore.cli.session import Session


@click.command(cls=Verb)
@click.argument("place", metavar="[REV:][PATH]", default="", type=click.Path())
@click.option("-r", "--recursive", is_flag=True, help="List what is inside directories, too.")
@click.option("-l", "--long", "detailed", is_flag=True, help="Show kind, size and digest.")
@click.pass_obj
def command(session: Session, place: str, *, recursive: bool, detailed: bool) -> None:
    """List the files of a version.

    Whether or not they are in the workspace. Without a PATH: the datasets. Without a REV: the
    versions that the pointers in the workspace name.
    """
    with session.open() as repo:
        revision, path = split_place(repo, session, place)
        entries = repo.ls(path, rev=revision, recursive=recursive)
        if session.json:
            session.emit({"entries": list(entries)})
            return
        from datastore.cli import output  # noqa: PLC0415

        near = session.near(repo)
        session.say(output.ls_line(entry, near, detailed=detailed) for entry in entries)
