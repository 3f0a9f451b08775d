"""Git's pre-push hook: the data of what is pushed goes to its remote first.

Only a hook that we wrote is ever replaced or removed, and only inside of this repository: a
directory of hooks that several repositories share belongs to the user.
"""

from __future__ import annotations

import os
import shlex
from pathlib import Path
from typing import Final

from datastore.errors import ConflictError, UsageError
from datastore.storage.failures import storage_error
from datastore.storage.local import fsync_directory, write_durably
from datastore.workspace import git_program
from datastore.workspace.git import Git

VERB: Final = "hook-pre-push"
"""What the hook calls of the program."""
_MARK: Final = (
    "# Written by 'datastore git install --pre-push'; 'datastore git uninstall' removes it."
)
_MAX_BYTES: Final = 1024 * 1024


def install(git: Git, *, program: str = "git-ds") -> Path:
    """Writes the hook; doing it again changes nothing, or only the program.

    Args:
        git: The repository.
        program: Name or path of the program that the hook is to call.

    Returns:
        The file, also where it is the user's and calls us already.

    Raises:
        ConflictError: There is another hook, or hooks lie in a directory outside of this
            repository; the hint has the line to add.
        UsageError: The program cannot be named in a shell script.
        StorageError: The hook cannot be written.
    """
    if not program or any(character in program for character in "\0\r\n"):
        raise UsageError(f"{program!r} cannot be the program of a Git hook")
    path = _location(git)
    line = f'{shlex.quote(program)} {VERB} "$@" || exit 1'
    found = _read(path)
    if found is not None and _MARK not in found:
        if VERB in found:
            return path
        raise ConflictError(
            f"there is a pre-push hook already: {str(path)!r}",
            paths=(str(path),),
            hint=f"add this line to it, before anything that reads its input: {line}",
            where=str(path),
        )
    if not _is_ours(git, path):
        raise ConflictError(
            f"core.hooksPath leads out of this repository, to {str(path.parent)!r}: a hook there "
            "would be run for other repositories, too",
            paths=(str(path),),
            hint=f"if it may, write {str(path)!r} yourself, executable, with this line: {line}",
            where=str(path),
        )
    text = _text(program)
    if found != text or not os.access(path, os.X_OK):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(error, "make the directory", path.parent) from error
        write_durably(path, text.encode("utf-8", "surrogateescape"), mode=0o777)
    return path


def uninstall(git: Git) -> bool:
    """Removes the hook if it is ours.

    Returns:
        Whether there was one.

    Raises:
        StorageError: It cannot be read or removed.
    """
    path = _location(git)
    found = _read(path)
    if found is None or _MARK not in found:
        return False
    try:
        path.unlink()
    except OSError as error:
        raise storage_error(error, "remove", path) from error
    fsync_directory(path.parent)
    return True


def _text(program: str) -> str:
    """Writes the hook, with a sentence for the day that the program is gone."""
    quoted = shlex.quote(program)
    return f"""\
#!/bin/sh
{_MARK}
# It sends the data of the commits that Git is about to push; if that fails, Git does not push.
if ! command -v {quoted} >/dev/null 2>&1; then
    echo "datastore: there is no" {quoted} "to send the data of this push" >&2
    echo "'git push --no-verify' pushes without the data" >&2
    exit 1
fi
exec {quoted} {VERB} "$@"
"""


def _location(git: Git) -> Path:
    """Finds where Git looks for the hook; ``core.hooksPath`` may say where."""
    ended = git_program.run(git.worktree, ["rev-parse", "--git-path", "hooks/pre-push"])
    return Path(os.path.normpath(git.worktree / os.fsdecode(ended.stdout).removesuffix("\n")))


def _is_ours(git: Git, path: Path) -> bool:
    return any(path.is_relative_to(each) for each in (git.worktree, git.common_dir))


def _read(path: Path) -> str | None:
    try:
        with path.open("rb") as file:
            return file.read(_MAX_BYTES).decode("utf-8", "surrogateescape")
    except FileNotFoundError:
        return None
    except OSError as error:
        raise storage_error(error, "read", path) from error
