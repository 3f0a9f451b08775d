"""``datastore fetch``."""

from __future__ import annotations

import click

from datastore.cli.arguments import Revision, RevisionVerb, split_revisions
from datastore.cli.failures import EXIT_CODES, if_interrupted
from datastore.cli.session import Session
from datastore.errors import NotFoundError, UsageError

KEPT = "What has arrived is kept; run the same command again to go on from there."
"""What a fetch that was interrupted leaves."""
_MANY = 1_000_000


@click.command(cls=RevisionVerb)
@click.argument("given", metavar="[REV]... [--] [PATH]...", nargs=-1, type=Revision())
@click.option("--all", "all_refs", is_flag=True, help="The history of every branch and tag.")
@click.option("--remote", metavar="NAME", help="Bring it from there, not from the default remote.")
@click.pass_obj
def command(
    session: Session, given: tuple[str, ...], *, all_refs: bool, remote: str | None
) -> None:
    """Bring the data of versions into the store.

    Of the pointers in the workspace, unless told otherwise. The workspace stays as it is:
    'datastore checkout' then finds everything here.

    \b
    datastore fetch                         what the pointers in the workspace name
    datastore fetch v1.0 -- images/cats     a part of a version
    datastore fetch --all                   everything, as for a mirror
    """  # noqa: D301  (the backspace keeps click from joining the lines)
    with session.open() as repo, if_interrupted(KEPT):
        revisions, paths = split_revisions(repo, session, given, most=_MANY)
        if all_refs and revisions:
            raise UsageError("--all and revisions exclude each other", hint="Choose one.")
        result = repo.fetch(
            revisions or None,
            paths,
            all_refs=all_refs,
            remote=remote,
            progress=session.progress(),
        )
    if session.json:
        session.emit(result)
    elif result.absent or not session.quiet:
        from datastore.cli import sharing_output  # noqa: PLC0415

        session.say(sharing_output.fetched(result, session.shown))
    if result.absent:
        click.get_current_context().exit(EXIT_CODES[NotFoundError])
