"""``datastore remote``: add, list, remove, check."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING

import click

from datastore.cli import text
from datastore.cli.arguments import Verb, VerbGroup
from datastore.cli.failures import EXIT_CODES
from datastore.cli.session import Session
from datastore.errors import DatastoreError, StorageError, UsageError

if TYPE_CHECKING:
    from datastore.repository import Repository
    from datastore.workspace.remotes import RemoteCheck


@click.group(cls=VerbGroup)
def command() -> None:
    """Name the places that data is shared through.

    A remote is a directory or a bucket, with a name. Remotes are kept in .datastore/config.yaml,
    for everybody who clones the repository; what only this machine needs goes into local.yaml.
    """


@command.command(cls=Verb)
@click.argument("name")
@click.argument("url")
@click.option(
    "-o",
    "--option",
    "options",
    metavar="KEY=VALUE",
    multiple=True,
    help="For the storage, such as region=eu-central-1; repeatable.",
)
@click.option("--default", is_flag=True, help="Use it where no remote is named.")
@click.option("--no-check", is_flag=True, help="Do not try whether it works.")
@click.pass_obj
def add(
    session: Session,
    name: str,
    url: str,
    options: tuple[str, ...],
    *,
    default: bool,
    no_check: bool,
) -> None:
    """Name a remote, then try whether it works.

    The first remote is the one that is used where none is named. Passwords and keys are refused:
    they belong where the provider's own tools look for them. A remote that does not work is added
    all the same, with a warning.

    \b
    datastore remote add origin s3://bucket/path -o region=eu-central-1
    datastore remote add backup gs://bucket/path
    datastore remote add nas sftp://nas/srv/data
    datastore remote add team /mnt/team/data          a directory that is shared
    """  # noqa: D301  (the backspace keeps click from joining the lines)
    fields = _parsed(options)
    with session.open() as repo:
        added = repo.remote_add(name, url, options=fields, default=default)
        check = None if no_check else _tried(repo, added.name, added.url)
        settings = text.shell_paths([session.near(repo)(".datastore")])
    if session.json:
        session.emit(added, {"check": check})
        return
    also = ", the default remote" if added.default else ""
    session.report([f"Added {text.bold(added.name)} ({text.plain(added.url)}){also}."])
    if check is not None and not check.ok:
        from datastore.cli import sharing_output  # noqa: PLC0415

        lines = ["warning: the remote was added, but it does not work yet"]
        _warn([*lines, *sharing_output.remote_checked(check)])
    session.hint(f"Next: git add {settings} && git commit, then: datastore push")


def _parsed(options: Iterable[str]) -> dict[str, str]:
    fields: dict[str, str] = {}
    for option in options:
        key, equals, value = option.partition("=")
        if not equals or not key:
            raise UsageError("an option is no KEY=VALUE", hint="Write -o region=eu-central-1.")
        if key == "url" or key in fields:
            raise UsageError(f"the option '{key}' is given twice", hint="Leave one out.", where=key)
        fields[key] = value
    return fields


def _tried(repo: Repository, name: str, url: str) -> RemoteCheck:
    """Tries a remote; one that cannot even be tried has failed."""
    from datastore.workspace.diagnosis import Check  # noqa: PLC0415
    from datastore.workspace.remotes import RemoteCheck  # noqa: PLC0415

    try:
        return repo.remote_check(name)
    except DatastoreError as error:
        failed = Check("remote", ok=False, value=error.message, hint=error.hint)
        return RemoteCheck(ok=False, remote=name, url=url, checks=(failed,))


def _warn(lines: Iterable[str]) -> None:
    click.echo("\n".join(lines), err=True)


@command.command(name="list", cls=Verb)
@click.pass_obj
def list_remotes(session: Session) -> None:
    """List the remotes; with -v also their options."""
    with session.open() as repo:
        listed = tuple(repo.remotes())
    if session.json:
        session.emit({"remotes": listed})
        return
    from datastore.cli import sharing_output  # noqa: PLC0415

    session.say(sharing_output.remotes(listed, detailed=session.verbose))
    if not listed:
        session.hint("No remote is named yet: datastore remote add origin URL")


@command.command(cls=Verb)
@click.argument("name")
@click.pass_obj
def remove(session: Session, name: str) -> None:
    """Forget a remote; the data on it stays."""
    with session.open() as repo:
        repo.remote_remove(name)
        left = next((each.name for each in repo.remotes() if each.default), None)
    if session.json:
        session.emit({"removed": name, "default": left})
        return
    now = f" The default remote is {text.plain(left)}." if left else ""
    session.report([f"Forgot {text.bold(text.plain(name))}; the data on it stays.{now}"])


@command.command(cls=Verb)
@click.argument("name", required=False)
@click.pass_obj
def check(session: Session, name: str | None) -> None:
    """Try whether a remote can be reached, read and written.

    Without NAME: the default remote. Exits with 5 if something is wrong, and says how to put it
    right.
    """
    with session.open() as repo:
        result = repo.remote_check(name)
    if session.json:
        session.emit(result)
    elif not (session.quiet and result.ok):
        from datastore.cli import sharing_output  # noqa: PLC0415

        session.say(sharing_output.remote_checked(result))
    if not result.ok:
        click.get_current_context().exit(EXIT_CODES[StorageError])
