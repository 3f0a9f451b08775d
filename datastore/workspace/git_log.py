"""Git's history as values: what ``git log`` is asked to print, and how that is read back."""

from __future__ import annotations

import itertools
import os
import re
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Final, NamedTuple, cast

from datastore.errors import StorageError
from datastore.workspace import git_program

# What a user may have set otherwise. Asked to follow renames of a pattern for paths, Git 2.39 even
# ends with a BUG.
_LOG: Final = ("-c", "log.follow=false", "-c", "log.showRoot=true", "log")
# Every field ends in NUL, which Git lets into none of them; -z ends the last one the same way.
LOG_ARGUMENTS: Final = (
    *_LOG,
    "-z",
    "--format=tformat:%H%x00%P%x00%an%x00%ae%x00%aI%x00%s",
    "--encoding=UTF-8",
    "--no-show-signature",
    "--no-color",
    "--no-patch",
)
"""Arguments of git; revisions, ``--`` and paths follow."""

VERSION_ARGUMENTS: Final = (
    *_LOG,
    "-z",
    "--format=tformat:%H",
    "--no-show-signature",
    "--no-color",
    # A merge is held against each parent, and no branch is left out for ending up without effect.
    "-m",
    "--full-history",
    "--raw",
    "--no-abbrev",
    "--no-renames",
    "--diff-filter=AMT",
)
"""Arguments of git that list the contents files have had; revisions, ``--`` and paths follow."""

_FIELDS: Final = 6
_PIECE: Final = 64 * 1024
_CHANGE: Final = re.compile(rb"\n?:[0-7]+ 100[0-7]{3} [0-9a-f]+ ([0-9a-f]+) [A-Z]")


@dataclass(frozen=True, slots=True)
class Commit:
    """One commit.

    Args:
        digest: Git's name for it, in full.
        parents: The names of its parents, none for a first commit, several for a merge.
        author: Name as Git recorded it.
        email: Address as Git recorded it.
        date: When it was authored, as strict ISO 8601 with the author's offset.
        subject: The first paragraph of the message, on one line.
    """

    digest: str
    parents: tuple[str, ...]
    author: str
    email: str
    date: str
    subject: str


def read_commits(directory: Path, arguments: Sequence[str]) -> Iterator[Commit]:
    """Runs git, and reads commits as it finds them.

    Args:
        directory: Where it runs.
        arguments: `LOG_ARGUMENTS`, revisions, ``--``, paths.

    Raises:
        StorageError: Git failed, or its output ended in the middle of a commit.
    """
    fields = _fields(directory, arguments)
    while chunk := list(itertools.islice(fields, _FIELDS)):
        if len(chunk) < _FIELDS:
            raise _cut_off()
        yield _commit(chunk)


class Version(NamedTuple):
    """A content that a regular file has had."""

    commit: str
    """A commit that has it and of which a parent has not, in full."""
    path: str
    content: str
    """Git's name for the content, in hexadecimal."""


def read_versions(directory: Path, arguments: Sequence[str]) -> Iterator[Version]:
    """Runs git, and reads which contents files have had, as it finds them.

    Args:
        directory: Where it runs.
        arguments: `VERSION_ARGUMENTS`, revisions, ``--``, paths.

    Raises:
        StorageError: Git failed, or its output ended in the middle of a commit.
    """
    fields = _fields(directory, arguments)
    commit = ""
    for field in fields:
        if b":" not in field:
            commit = field.decode()
            continue
        path = next(fields, None)
        if path is None:
            raise _cut_off()
        if match := _CHANGE.fullmatch(field):
            yield Version(commit, os.fsdecode(path), match[1].decode())


def _fields(directory: Path, arguments: Sequence[str]) -> Iterator[bytes]:
    """Runs git, and splits what it prints at NULs."""
    with _scratch() as errors:
        process = git_program.start(directory, arguments, stderr=errors, buffered=False)
        stream = cast("IO[bytes]", process.stdout)
        rest = b""
        try:
            while piece := stream.read(_PIECE):
                *whole, rest = (rest + piece).split(b"\0")
                yield from whole
            if code := process.wait():
                errors.seek(0)
                raise git_program.failure(directory, arguments, code, errors.read())
            if rest:
                raise _cut_off()
        finally:  # also where the caller has seen enough
            process.kill()
            process.communicate()


def _scratch() -> IO[bytes]:
    """Makes a file for what Git complains of: a pipe could fill up while nobody reads it."""
    try:
        return tempfile.TemporaryFile()
    except OSError as error:
        raise StorageError(
            f"cannot make a temporary file: {error.strerror or error}",
            hint="free some space, or let TMPDIR name a directory that can be written",
            where="TMPDIR",
        ) from error


def _cut_off() -> StorageError:
    return StorageError("git log ended in the middle of a commit", hint="Run `git fsck`.")


def _commit(fields: list[bytes]) -> Commit:
    digest, parents, author, email, date, subject = (
        field.decode("utf-8", "replace") for field in fields
    )
    return Commit(digest, tuple(parents.split()), author, email, date, subject)
