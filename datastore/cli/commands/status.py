"""``datastore status``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from datastore.cli.arguments import Verb
from datastore.cli.session import Session
from datastore.errors import UsageError

if TYPE_CHECKING:
    from datastore.cli.text import Near
    from datastore.sync.results import RemoteStatus
    from datastore.workspace.status import StatusResult


@click.command(cls=Verb)
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=click.Path())
@click.option("--remote", is_flag=True, help="Also show what the default remote lacks.")
@click.option("--all", "all_refs", is_flag=True, help="Of every branch and tag, with --remote.")
@click.option("--exit-code", is_flag=True, help="Exit with 1 if anything differs.")
@click.pass_obj
def command(
    session: Session, paths: tuple[str, ...], *, remote: bool, all_refs: bool, exit_code: bool
) -> None:
    """Show what differs from the versions in the workspace.

    Compares the data with the pointers that lie beside it; 'git status' shows which of those
    pointers are committed. With --remote: also which versions in the history of HEAD are not on the
    default remote.
    """
    if all_refs and not remote:
        raise UsageError("--all is for --remote", hint="Write: datastore status --remote --all")
    with session.open() as repo:
        result = repo.status(paths, progress=session.progress())
        near = session.near(repo)
        there = repo.remote_status(all_refs=all_refs) if remote else None
    if session.json:
        session.emit(result, {"remote": there} if there is not None else {})
    else:
        _show(session, result, there, near, all_refs=all_refs)
    sound = there is None or not (there.missing or there.damaged)
    if exit_code and not (result.clean and sound):
        click.get_current_context().exit(1)


def _show(
    session: Session,
    result: StatusResult,
    there: RemoteStatus | None,
    near: Near,
    *,
    all_refs: bool,
) -> None:
    from datastore.cli import output  # noqa: PLC0415

    session.say(output.status(result.pointers, near, session.shown))
    if there is not None:
        from datastore.cli import sharing_output  # noqa: PLC0415

        again = "datastore push --all" if all_refs else "datastore push"
        session.say(["", *sharing_output.remote_status(there, again=again, most=session.shown)])
