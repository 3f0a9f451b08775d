"""``datastore diff``."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click

from datastore.cli import text
from datastore.cli.arguments import Revision, RevisionVerb, split_revisions
from datastore.cli.session import Session
from datastore.errors import UsageError

if TYPE_CHECKING:
    from datastore.workspace.changes import DiffResult


@click.command(cls=RevisionVerb)
@click.argument("given", metavar="[A [B] | A..B | A...B] [--] [PATH]...", nargs=-1, type=Revision())
@click.option("--stat", is_flag=True, help="Count the changes in each directory.")
@click.option("--name-only", is_flag=True, help="List the paths and nothing else.")
@click.option("--md", is_flag=True, help="Print Markdown, for a pull request's comment.")
@click.option(
    "--html", metavar="FILE", type=click.Path(dir_okay=False), help="Write a page to FILE."
)
@click.option("--exit-code", is_flag=True, help="Exit with 1 if anything differs.")
@click.pass_obj
def command(
    session: Session,
    given: tuple[str, ...],
    *,
    stat: bool,
    name_only: bool,
    md: bool,
    html: str | None,
    exit_code: bool,
) -> None:
    """Show what changed between two versions.

    Without a revision: from HEAD to the workspace. With A: from A to the workspace. With A and B,
    or A..B: from A to B. With A...B: what B changed since it left A. Revisions are Git's.
    """
    if stat + name_only + md > 1:
        raise UsageError("--stat, --name-only and --md exclude each other", hint="Choose one.")
    with session.open() as repo:
        revisions, paths = split_revisions(repo, session, given, most=2)
        old, new = (*revisions, None, None)[:2]
        result = repo.diff(old, new, paths, progress=session.progress())
        near = session.near(repo)
    title = f"Changes {' to '.join(revisions) or 'since HEAD'}"
    if html is not None:
        _write_page(session, result, title, html)
    if session.json:
        more: dict[str, object] = {} if hasattr(result, "labels") else {"labels": []}
        session.emit(result, more)
    elif html is None:
        _show(session, result, title, near, stat=stat, name_only=name_only, md=md)
    if exit_code and result.changes:
        click.get_current_context().exit(1)


def _show(
    session: Session,
    result: DiffResult,
    title: str,
    near: text.Near,
    *,
    stat: bool,
    name_only: bool,
    md: bool,
) -> None:
    from datastore.cli import output, reports  # noqa: PLC0415

    if md:
        session.say(reports.markdown(result, title))
    elif name_only:
        session.say(text.quote(near(change.path)) for change in result.changes)
    else:
        session.say(output.diff_stat(result, near) if stat else output.diff(result, near))


def _write_page(session: Session, result: DiffResult, title: str, name: str) -> None:
    from datastore.cli import reports  # noqa: PLC0415

    path = session.path(name)
    path.write_text(reports.page(result, title), encoding="utf-8", errors="backslashreplace")
    session.hint(f"Wrote {text.quote(str(path))}.")
