"""``datastore git install`` and ``datastore git uninstall``."""

from __future__ import annotations

import click

from datastore.cli.arguments import VerbGroup
from datastore.cli.session import Session, driver_program


@click.group(cls=VerbGroup)
def command() -> None:
    """Teach Git to show and merge pointers.

    After 'datastore git install', 'git diff' and 'git log -p' say which files changed, and a merge
    of branches that changed different files of one dataset succeeds.
    """


@command.command()
@click.pass_obj
def install(session: Session) -> None:
    """Set up this repository's diff and merge drivers."""
    with session.open() as repo:
        repo.git_install(program=driver_program())
    if session.json:
        session.emit({"installed": True})
    session.report(["Git now shows and merges pointers by their files."])


@command.command()
@click.pass_obj
def uninstall(session: Session) -> None:
    """Take this repository's diff and merge drivers out again."""
    with session.open() as repo:
        repo.git_uninstall()
    if session.json:
        session.emit({"installed": False})
    session.report(["Git treats pointers as plain text again."])
