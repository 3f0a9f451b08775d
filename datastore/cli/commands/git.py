"""``datastore git install`` and ``datastore git uninstall``."""

from __future__ import annotations

import click

from datastore.cli.arguments import VerbGroup
from datastore.cli.session import Session, driver_program


@click.group(cls=VerbGroup)
def command() -> None:
    """Teach Git to show and merge pointers.

    After 'datastore git install', 'git diff' and 'git log -p' say which files changed, and a merge
    of branches that changed different files of one dataset succeeds. With --pre-push, 'git push'
    sends the data of what it pushes first.
    """


@command.command()
@click.option("--pre-push", is_flag=True, help="Also let 'git push' send the data first.")
@click.pass_obj
def install(session: Session, *, pre_push: bool) -> None:
    """Set up this repository's diff and merge drivers.

    With --pre-push also a hook: it sends the data of the commits that 'git push' is about to push,
    and keeps Git from pushing where that fails. A hook of your own is never replaced.
    """
    with session.open() as repo:
        hook = repo.git_install(program=driver_program(), pre_push=pre_push)
    if session.json:
        session.emit({"installed": True, **({"hook": str(hook)} if hook else {})})
    session.report(["Git now shows and merges pointers by their files."])
    if hook:
        session.report(["'git push' now sends the data first."])


@command.command()
@click.pass_obj
def uninstall(session: Session) -> None:
    """Take this repository's drivers and our hook out again."""
    with session.open() as repo:
        repo.git_uninstall()
    if session.json:
        session.emit({"installed": False})
    session.report(["Git treats pointers as plain text again."])
