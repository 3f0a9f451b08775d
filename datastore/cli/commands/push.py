"""``datastore push``."""

from __future__ import annotations

import click

from datastore.cli.arguments import Revision, Verb
from datastore.cli.failures import EXIT_CODES, if_interrupted
from datastore.cli.session import Session
from datastore.errors import NotFoundError, UsageError

STAYS = "What was sent stays there; run the same command again to go on from there."
"""What a push that was interrupted leaves."""


@click.command(cls=Verb)
@click.argument("revisions", metavar="[REV | A..B]...", nargs=-1, type=Revision())
@click.option("--all", "all_refs", is_flag=True, help="The history of every branch and tag.")
@click.option("--remote", metavar="NAME", help="Send it there, not to the default remote.")
@click.option("--verify", is_flag=True, help="Look at all that was sent before, too, and mend it.")
@click.option("--read-data", is_flag=True, help="Read it all back, every byte; implies --verify.")
@click.pass_obj
def command(
    session: Session,
    revisions: tuple[str, ...],
    *,
    all_refs: bool,
    remote: str | None,
    verify: bool,
    read_data: bool,
) -> None:
    """Send the data of commits to a remote.

    Of HEAD and its whole history, unless told otherwise: every version that a commit names and the
    remote does not have. What is there already is not sent again, so a push that was broken off
    is simply run again. Exits with 3 if a version could not be sent because parts of it are neither
    here nor there; the others were.

    \b
    datastore push                          what HEAD and its history need
    datastore push v1.0 main~3..main        a tag with its history, and three commits
    datastore push --all --remote backup
    """  # noqa: D301  (the backspace keeps click from joining the lines)
    if all_refs and revisions:
        raise UsageError("--all and revisions exclude each other", hint="Choose one.")
    with session.open() as repo, if_interrupted(STAYS):
        result = repo.push(
            revisions or None,
            all_refs=all_refs,
            remote=remote,
            verify=verify,
            read_data=read_data,
            progress=session.progress(),
        )
    if session.json:
        session.emit(result)
    elif result.absent or not session.quiet:
        from datastore.cli import sharing_output  # noqa: PLC0415

        session.say(sharing_output.pushed(result, session.shown))
    if result.absent:
        click.get_current_context().exit(EXIT_CODES[NotFoundError])
