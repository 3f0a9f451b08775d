"""``datastore add``."""

from __future__ import annotations

import click

from datastore.cli import text
from datastore.cli.arguments import Verb
from datastore.cli.session import Session


@click.command(cls=Verb)
@click.argument("paths", metavar="PATH...", nargs=-1, required=True, type=click.Path())
@click.pass_obj
def command(session: Session, paths: tuple[str, ...]) -> None:
    """Store files and directories as a new version.

    Each PATH becomes a dataset of its own, with a pointer PATH.ds to commit; a PATH inside a data
    set updates that dataset. Your files are read, never moved or changed.
    """
    with session.open() as repo:
        result = repo.add(paths, progress=session.progress())
        near = session.near(repo)
    if session.json:
        session.emit(result)
        return
    from datastore.cli import output  # noqa: PLC0415

    session.report(line for pointer in result.pointers for line in output.added(pointer))
    changed = [pointer.path + ".ds" for pointer in result.pointers if pointer.changed]
    if changed:
        to_commit = text.shell_paths(map(near, [*changed, ".gitignore"]))
        session.hint(f"Next: git add {to_commit} && git commit")
