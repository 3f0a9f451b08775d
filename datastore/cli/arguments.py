"""What the verbs' command lines have in common: shared options, revisions beside paths."""

from __future__ import annotations

import dataclasses
import os
from typing import TYPE_CHECKING, Any

import click

from datastore.cli.session import Session
from datastore.errors import DatastoreError, NotFoundError, UsageError

if TYPE_CHECKING:
    from click.shell_completion import CompletionItem

    from datastore.repository import Repository

_AFTER_DASHES = "datastore.after_dashes"
_REFS = ("refs/heads", "refs/tags", "refs/remotes")

HELP_OPTIONS = {"help_option_names": ["-h", "--help"]}
"""``git ds --help`` would look for a manual page; ``git ds -h`` reaches us."""


def _remember(context: click.Context, option: click.Parameter, value: object) -> None:
    if value and option.name is not None:
        session = context.ensure_object(Session)
        changes: dict[str, Any] = {option.name: True}
        context.obj = dataclasses.replace(session, **changes)


def shared_options() -> list[click.Parameter]:
    """Makes the options that every verb takes, before the verb and after it."""

    def flag(*names: str, text: str) -> click.Option:
        return click.Option(names, is_flag=True, expose_value=False, callback=_remember, help=text)

    return [
        flag("--json", text="Print one JSON object."),
        flag("-q", "--quiet", text="Print no progress, hints or summaries."),
        flag("-v", "--verbose", text="Print lists in full, and a traceback with an error."),
    ]


class Verb(click.Command):
    """A command with the shared options."""

    def __init__(self, name: str | None, **attributes: Any) -> None:
        super().__init__(name, **{"context_settings": HELP_OPTIONS, **attributes})
        self.params = [*self.params, *shared_options()]


class VerbGroup(click.Group):
    """A verb with verbs of its own, and the shared options."""

    command_class = Verb

    def __init__(self, name: str | None, **attributes: Any) -> None:
        # Without arguments: an error that names the help, the same in every version of click.
        settings = {"context_settings": HELP_OPTIONS, "no_args_is_help": False}
        super().__init__(name, **{**settings, **attributes})
        self.params = [*self.params, *shared_options()]


class RevisionVerb(Verb):
    """A verb that takes revisions, then paths, with ``--`` between them where it matters."""

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Puts what follows ``--`` aside, which click would mix with what comes before."""
        if "--" in args:
            cut = args.index("--")
            ctx.meta[_AFTER_DASHES] = tuple(args[cut + 1 :])
            args = args[:cut]
        return super().parse_args(ctx, args)


class Revision(click.Path):
    """An argument that may be a revision or a path; completes both."""

    def shell_complete(
        self, ctx: click.Context, param: click.Parameter, incomplete: str
    ) -> list[CompletionItem[str]]:
        """Offers branches and tags, then files."""
        import subprocess  # noqa: PLC0415  (neither is needed to run a command)

        from click.shell_completion import CompletionItem  # noqa: PLC0415

        given = ctx.find_root().params.get("directory") or "."
        listing = subprocess.run(  # noqa: S603  (arguments of our own)
            ["git", "-C", given, "for-each-ref", "--format=%(refname:short)", *_REFS],  # noqa: S607
            capture_output=True,
            check=False,
            text=True,
        )
        names = [name for name in listing.stdout.splitlines() if name.startswith(incomplete)]
        files = super().shell_complete(ctx, param, incomplete)
        # A shell that is told to offer files forgets what came before.
        return [CompletionItem(name) for name in names] if names else files


def split_revisions(
    repo: Repository, session: Session, given: tuple[str, ...], *, most: int
) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Tells revisions from paths, as ``git diff`` does.

    Args:
        repo: Says what is a revision.
        session: Says where paths start.
        given: The arguments of a `RevisionVerb`, without those after ``--``.
        most: How many revisions the verb takes.

    Returns:
        The revisions and the paths.

    Raises:
        UsageError: An argument could be either, or there are too many revisions.
        NotFoundError: An argument is neither.
    """
    after: tuple[str, ...] | None = click.get_current_context().meta.get(_AFTER_DASHES)
    if after is not None:
        if len(given) > most:
            raise UsageError(
                f"{len(given)} revisions before '--', at most {most} can be used",
                hint="Put '--' between the revisions and the paths.",
            )
        return given, after
    count = 0
    while count < min(most, len(given)) and _is_revision(repo, session, given[count]):
        count += 1
        if ".." in given[count - 1]:
            break
    revisions, paths = given[:count], given[count:]
    for path in paths:
        _check_path(repo, session, path)
    return revisions, paths


def _is_revision(repo: Repository, session: Session, text: str) -> bool:
    if not repo.is_revision(text):
        return False
    if _exists(repo, session, text):
        raise UsageError(
            f"'{text}' is both a revision and a path",
            hint=f"Write '{text} --' for the revision or '-- {text}' for the path.",
            where=text,
        )
    return True


def _exists(repo: Repository, session: Session, text: str) -> bool:
    """Says whether a path is there: in the workspace, or at least in a version."""
    if os.path.lexists(session.path(text)) or os.path.lexists(session.path(text + ".ds")):
        return True
    try:
        return next(repo.ls(text, recursive=True), None) is not None
    except DatastoreError:  # whatever is wrong with it, it does not make this word a path
        return False


def _check_path(repo: Repository, session: Session, text: str) -> None:
    if os.path.lexists(session.path(text)) or repo.is_tracked(text):
        return
    revision, colon, path = text.partition(":")
    if colon and repo.is_revision(revision):
        raise UsageError(
            f"'{text}' names a file in a revision, which is not taken here",
            hint=f"Write '{revision} -- {path}'.",
            where=text,
        )
    if repo.is_revision(text):
        raise UsageError(
            f"the revision '{text}' is one too many, or stands after a path",
            hint="Put revisions first, then '--', then paths.",
            where=text,
        )
    raise NotFoundError(
        f"'{text}' is neither a revision nor a path here",
        hint="Put '--' before a path that only another version has.",
        where=text,
    )


def split_place(repo: Repository, session: Session, text: str) -> tuple[str | None, str]:
    """Takes ``REV:PATH`` or ``PATH`` apart.

    Returns:
        The revision, None for the pointers in the workspace, and the path.

    Raises:
        NotFoundError: What stands before the colon is no revision, and no such path exists.
    """
    revision, colon, path = text.partition(":")
    if not colon:
        return None, text
    if revision and repo.is_revision(revision):
        return revision, path
    if _exists(repo, session, text):
        return None, text
    raise NotFoundError(
        f"there is no revision '{revision}'",
        hint="'git log --oneline' and 'git tag' list revisions; write ./PATH where the path itself "
        "holds a colon.",
        where=text,
    )
