"""Running the git program: what it inherits, and what its failures mean. Only here is it run."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Container, Sequence
from pathlib import Path
from typing import IO, Final

from datastore.errors import DatastoreError, LockedError, NotFoundError, StorageError
from datastore.storage.failures import storage_error

Ended = subprocess.CompletedProcess[bytes]
"""A git process that has ended, and what it printed."""
Running = subprocess.Popen[bytes]
"""A git process under way."""

# Inside a hook Git names the repository, the index and more in the environment; but a repository is
# meant to be the one that a directory lies in, and a pathspec to be what it is made here.
_NOT_INHERITED: Final = (
    "GIT_COMMON_DIR",
    "GIT_DIR",
    "GIT_GLOB_PATHSPECS",
    "GIT_ICASE_PATHSPECS",
    "GIT_INDEX_FILE",
    "GIT_LITERAL_PATHSPECS",
    "GIT_NAMESPACE",
    "GIT_NOGLOB_PATHSPECS",
    "GIT_OBJECT_DIRECTORY",
    "GIT_PREFIX",
    "GIT_WORK_TREE",
)
# Our own environment belongs to the command line and is out of reach here. env(1) changes what the
# child sees of it, for 1 ms a process. LC_ALL: messages are looked into, so they must be English.
_PROGRAM: Final = (
    "/usr/bin/env",
    *(part for name in _NOT_INHERITED for part in ("-u", name)),
    "LC_ALL=C",
    "GIT_OPTIONAL_LOCKS=0",
    "git",
    "-c",
    "core.quotePath=false",
)
_NO_PROGRAM: Final = 127
_MAX_MESSAGE: Final = 1000  # characters of Git's own words in ours
_SUBCOMMAND: Final = re.compile(r"[a-z]+(-[a-z]+)*")
_LOCK: Final = re.compile(r"could not lock|Unable to create '.*\.lock'")


def run(directory: Path, arguments: Sequence[str], *, accept: Container[int] = (0,)) -> Ended:
    """Runs git to its end.

    Args:
        directory: Where it runs.
        arguments: Begin with git's own options or the name of a subcommand; without NUL.
        accept: The exit codes that are answers and not failures.

    Raises:
        NotFoundError: There is no git program.
        LockedError: Another git process is writing what this one was to write.
        StorageError: It failed in any other way.
    """
    try:
        ended = subprocess.run(
            [*_PROGRAM, "-C", str(directory), *arguments],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
    except OSError as error:
        raise storage_error(error, "start", _PROGRAM[0]) from error
    if ended.returncode not in accept:
        raise failure(directory, arguments, ended.returncode, ended.stderr)
    return ended


def start(
    directory: Path,
    arguments: Sequence[str],
    *,
    stdin: int = subprocess.DEVNULL,
    stderr: int | IO[bytes] = subprocess.DEVNULL,
    buffered: bool = True,
) -> Running:
    """Starts git with a pipe at its end; the caller ends it, and reads why it failed.

    Args:
        directory: Where it runs.
        arguments: As for `run`.
        stdin: What it reads, as `subprocess.Popen` takes it.
        stderr: Where it complains.
        buffered: Whether a read waits for as many bytes as were asked for.

    Raises:
        StorageError: It could not be started.
    """
    try:
        return subprocess.Popen(
            [*_PROGRAM, "-C", str(directory), *arguments],
            bufsize=-1 if buffered else 0,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=stderr,
        )
    except OSError as error:
        raise storage_error(error, "start", _PROGRAM[0]) from error


def failure(directory: Path, arguments: Sequence[str], code: int, stderr: bytes) -> DatastoreError:
    """Says what a failed git process has to say."""
    if code == _NO_PROGRAM and shutil.which("git") is None:
        return NotFoundError(
            "there is no git program on the PATH, and datastore keeps its versions in Git",
            hint="Install Git (https://git-scm.com/downloads), or mend the PATH.",
        )
    what = next(filter(_SUBCOMMAND.fullmatch, arguments), "")
    said = message(stderr) or f"exit code {code}"
    if _LOCK.search(said):
        return LockedError(
            f"git {what} in {str(directory)!r} must wait: {said}",
            holder="another git process",
            hint="Wait for it to end, then run the command again; if none is at work, delete the "
            "lock file.",
            where=str(directory),
        )
    return StorageError(
        f"git {what} failed in {str(directory)!r}: {said}",
        hint="Run `git status` there; if Git itself is in trouble, `git fsck` says more.",
        where=str(directory),
    )


def message(stderr: bytes) -> str:
    """Makes one line of what git has said."""
    text = stderr.decode("utf-8", "backslashreplace").strip()
    lines = (line.removeprefix("fatal: ").removeprefix("error: ") for line in text.splitlines())
    return "; ".join(filter(None, map(str.strip, lines)))[:_MAX_MESSAGE]
