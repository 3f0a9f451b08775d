"""What the user is told when a command does not end well, and the exit code.

=====  ==============================================================
0      done
1      differences or findings, where they were asked for
2      usage
3      not found
4      conflict
5      remote, authentication or disk
6      bad format
7      corruption
8      locked
70     a defect in this program
130    interrupted
141    whoever read the output stopped reading
=====  ==============================================================
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator, Mapping
from typing import NamedTuple

import click

from datastore import errors
from datastore.cli import text
from datastore.cli.session import write

EXIT_CODES: Mapping[type[BaseException], int] = {
    errors.UsageError: 2,
    errors.NotFoundError: 3,
    errors.ConflictError: 4,
    errors.StorageError: 5,
    errors.FormatError: 6,
    errors.CorruptionError: 7,
    errors.LockedError: 8,
}
"""What a library error means to a script. A subclass ends as its base does."""

DEFECT = 70
INTERRUPTED = 130
OUTPUT_CLOSED = 141


class Interrupted(KeyboardInterrupt):
    """An interrupt of a command that has a word of its own on what is kept.

    Args:
        hint: What is kept, and what to do next.
    """

    def __init__(self, hint: str) -> None:
        super().__init__()
        self.hint = hint


@contextlib.contextmanager
def if_interrupted(hint: str) -> Iterator[None]:
    """Lets an interrupt of the block be told with this hint."""
    try:
        yield
    except KeyboardInterrupt as error:
        raise Interrupted(hint) from error


class Failure(NamedTuple):
    """An error as the user gets it."""

    exit_code: int
    code: str
    message: str
    hint: str = ""
    where: str = ""
    paths: tuple[str, ...] = ()


def failure(error: BaseException) -> Failure:
    """Decides what the user is told about an error, and the exit code. Nothing else does."""
    if isinstance(error, errors.DatastoreError):
        return _known_failure(error)
    if isinstance(error, Interrupted):
        return Failure(INTERRUPTED, "interrupted", "interrupted", error.hint)
    if isinstance(error, click.Abort | KeyboardInterrupt):
        hint = (
            "Nothing was lost: everything stored so far is kept; run the same command again to go "
            "on."
        )
        return Failure(INTERRUPTED, "interrupted", "interrupted", hint)
    if isinstance(error, click.ClickException):
        context = getattr(error, "ctx", None)
        hint = f"See '{context.command_path if context else 'datastore'} --help'."
        return Failure(2, errors.UsageError.code, _sentence(error.format_message()), hint)
    if isinstance(error, OSError):
        return _system_failure(error)
    return Failure(
        DEFECT,
        "internal",
        f"this is a defect in datastore: {type(error).__name__}: {error}",
        "Nothing was lost; run the command again with -v and report the traceback.",
    )


def _known_failure(error: errors.DatastoreError) -> Failure:
    kinds = (kind for kind in type(error).__mro__ if kind in EXIT_CODES)
    exit_code = next((EXIT_CODES[kind] for kind in kinds), DEFECT)
    message = error.message
    if isinstance(error, errors.LockedError) and error.holder not in message:
        message = f"{message} (held by {error.holder})"
    paths = error.paths if isinstance(error, errors.ConflictError) else ()
    return Failure(exit_code, error.code, message, error.hint, error.where, paths)


def _system_failure(error: OSError) -> Failure:
    where = "" if error.filename is None else os.fsdecode(error.filename)
    what = error.strerror or str(error) or type(error).__name__
    hint = "Check that the path can be read and written."
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        hint = "Nothing was lost: free some space and run the same command again."
    message = f"'{where}': {what}" if where else what
    exit_code = EXIT_CODES[errors.StorageError]
    return Failure(exit_code, errors.StorageError.code, message, hint, where)


def _sentence(text: str) -> str:
    """Fits click's words to ours: no capital, no full stop."""
    text = text.strip().removesuffix(".")
    return text[:1].lower() + text[1:]


def tell(found: Failure, *, as_json: bool) -> None:
    """Says what went wrong: to people on stderr, to programs on stdout."""
    if as_json:
        from datastore.cli.output import json_text  # noqa: PLC0415  (json is for --json only)

        fields: dict[str, object] = {
            "code": found.code,
            "message": found.message,
            "hint": found.hint,
            "where": found.where,
        }
        if found.paths:
            fields["paths"] = found.paths
        write(json_text({"error": fields}, {}) + "\n")
        return
    lines = [f"{click.style('error:', fg='red', bold=True)} {text.plain(found.message)}"]
    if "\n" not in found.message:  # else it has its list
        lines += text.some(found.paths, text.quote)
    if found.hint:
        lines.append(f"{click.style('hint:', fg='cyan')} {text.plain(found.hint)}")
    click.echo("\n".join(lines), err=True, color=False if os.environ.get("NO_COLOR") else None)
