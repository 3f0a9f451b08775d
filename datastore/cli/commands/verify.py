"""``datastore verify``."""

from __future__ import annotations

import click

from datastore.cli import text
from datastore.cli.arguments import Verb
from datastore.cli.failures import EXIT_CODES
from datastore.cli.session import Session
from datastore.errors import CorruptionError


@click.command(cls=Verb)
@click.option(
    "--rev", "revisions", metavar="REV", multiple=True, help="Check this version only; repeatable."
)
@click.option("--quick", is_flag=True, help="Check that everything is there, not every byte.")
@click.option(
    "--rebuild-index", is_flag=True, help="First make the index anew from the packs, its truth."
)
@click.pass_obj
def command(
    session: Session, revisions: tuple[str, ...], *, quick: bool, rebuild_index: bool
) -> None:
    """Check that everything stored can be read back.

    Looks at every byte of every version in Git's history, unless told otherwise. Exits with 7 if
    anything is damaged, and says which files of which versions are concerned.
    """
    progress = session.progress()
    more: dict[str, object] = {}
    with session.open() as repo:
        if rebuild_index:
            rebuilt = repo.rebuild_index(progress=progress)
            more = {"rebuilt": rebuilt}
            counts = f"{rebuilt.packs:,} packs, {rebuilt.chunks:,} chunks"
            session.report([f"Rebuilt the index: {counts}."])
            damaged = text.some(rebuilt.damaged, lambda pack: f"only in part: {text.quote(pack)}")
            session.report(damaged)
        result = repo.verify(revs=revisions or None, quick=quick, progress=progress)
    if session.json:
        session.emit(result, more)
    elif not (session.quiet and result.ok):
        from datastore.cli import output  # noqa: PLC0415

        session.say(output.verified(result, session.shown))
    if not result.ok:
        click.get_current_context().exit(EXIT_CODES[CorruptionError])
