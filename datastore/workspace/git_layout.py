"""Finding the Git repository that a directory lies in."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Final, NamedTuple

from datastore.errors import DatastoreError, NotFoundError, StorageError, UsageError
from datastore.workspace import git_program

_SEPARATOR: Final = "--datastore-next"  # git rev-parse repeats an argument that it does not know
_QUESTIONS: Final = ("--is-bare-repository", "--show-toplevel", "--absolute-git-dir")


class Layout(NamedTuple):
    """Where the parts of a repository are."""

    worktree: Path
    """The top of the working tree."""
    git_dir: Path
    """Git's own directory for this working tree."""
    common_dir: Path
    """The directory that all working trees of the repository share."""


def locate(start: Path) -> Layout:
    """Finds the repository that a file or directory lies in.

    Raises:
        NotFoundError: It is in no Git repository, is not there, or there is no git program.
        UsageError: It is in a bare repository, or one that Git does not trust.
    """
    if not os.path.lexists(start):
        raise NotFoundError(f"there is no {str(start)!r}", where=str(start))
    directory = start if start.is_dir() else start.parent
    # A path may hold a newline, so newlines alone cannot separate the answers.
    command = ["rev-parse", *(part for each in _QUESTIONS for part in (each, _SEPARATOR))]
    ended = git_program.run(directory, [*command, "--git-common-dir"], accept=(0, 128))
    answers = os.fsdecode(ended.stdout).removesuffix("\n").split(f"\n{_SEPARATOR}\n")
    if ended.returncode or len(answers) != len(_QUESTIONS) + 1:
        raise _undiscovered(start, ended)
    _, worktree, git_dir, common_dir = answers
    # The last one may be relative to where Git ran: Git before 2.31 knows no other way.
    return Layout(Path(worktree), Path(git_dir), (directory / common_dir).resolve())


def _undiscovered(start: Path, ended: git_program.Ended) -> DatastoreError:
    said = git_program.message(ended.stderr)
    where = str(start)
    if ended.stdout.startswith(b"true\n"):
        return UsageError(
            f"{where!r} is in a bare Git repository, which has no working tree for data",
            hint="Make one with `git worktree add DIRECTORY` or `git clone`, and work there.",
            where=where,
        )
    if "must be run in a work tree" in said:
        return UsageError(
            f"{where!r} is inside Git's own directory",
            hint="Change to the working tree.",
            where=where,
        )
    if "dubious ownership" in said or "unsafe repository" in said:
        return UsageError(
            f"{where!r} is in a Git repository of another user, which Git does not trust",
            hint="If you do: `git config --global --add safe.directory DIRECTORY`.",
            where=where,
        )
    if "not a git repository" in said.lower():
        return NotFoundError(
            f"{where!r} is not in a Git repository",
            hint="Make one with `git init`, then run `datastore init`.",
            where=where,
        )
    return StorageError(
        f"Git cannot say in which repository {where!r} is: {said or 'no answer'}",
        hint="Run `git status` there.",
        where=where,
    )
