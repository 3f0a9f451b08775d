"""Teaching Git to show and merge pointers: settings of this clone, and one line for all clones.

Git takes no commands from a repository's files, so each clone has to be told which program its
drivers are. That ``*.ds`` goes to them, and keeps its line endings, is committed in
``.gitattributes``.
"""

from __future__ import annotations

import shlex
from typing import Final

from datastore.errors import ConflictError, UsageError
from datastore.workspace import hooks
from datastore.workspace.git import Git
from datastore.workspace.managed import edit_block, read_block
from datastore.workspace.pointer import POINTER_SUFFIX

ATTRIBUTES: Final = f"*{POINTER_SUFFIX} text eol=lf diff=datastore merge=datastore".encode()
"""The line in ``.gitattributes``."""

_NAME_KEY: Final = "merge.datastore.name"
_NAME: Final = "datastore: merges data file by file"
_COMMANDS: Final = {
    "diff.datastore.command": "driver-diff",
    "diff.datastore.textconv": "driver-textconv",
    "merge.datastore.driver": "driver-merge %O %A %B %P",
}
"""What follows the program, by key. By this a setting is known as ours, whatever the program."""


def install(git: Git, *, program: str = "git-ds") -> None:
    """Enters the drivers into the repository's configuration and ``.gitattributes``.

    Doing it again changes nothing, or only the program.

    Args:
        git: The repository.
        program: Name or path of the program that Git is to call; arguments follow it.

    Raises:
        ConflictError: The user has other drivers under our name.
        UsageError: The program cannot be named in a configuration.
    """
    wanted = _settings(program)
    have = {key: git.config_get(key) for key in wanted}
    foreign = sorted(key for key, value in have.items() if value and not _is_ours(key, value))
    if foreign:
        raise ConflictError(
            f"the Git configuration of {str(git.worktree)!r} has other values for "
            + ", ".join(foreign),
            hint=f"If they are not needed: `git config --local --unset-all {foreign[0]}`.",
            where=str(git.worktree),
        )
    for key, value in wanted.items():
        if have[key] != value:
            git.config_set(key, value)
    edit_block(git.worktree / ".gitattributes", add=[ATTRIBUTES])


def uninstall(git: Git) -> None:
    """Takes out what `install` entered, and our hook, and nothing else."""
    hooks.uninstall(git)
    for key in (*_COMMANDS, _NAME_KEY):
        value = git.config_get(key)
        if value is not None and _is_ours(key, value):
            git.config_unset(key)
    edit_block(git.worktree / ".gitattributes", remove=[ATTRIBUTES])


def installed(git: Git) -> bool:
    """Says whether Git calls our drivers for pointers in this working tree."""
    if ATTRIBUTES not in read_block(git.worktree / ".gitattributes"):
        return False
    return all(_is_ours(key, git.config_get(key) or "") for key in _COMMANDS)


def _settings(program: str) -> dict[str, str]:
    if not program or any(character in program for character in "\0\r\n"):
        raise UsageError(f"{program!r} cannot be the program of a Git driver")
    quoted = shlex.quote(program)  # Git hands a driver's command to a shell
    settings = {key: f"{quoted} {arguments}" for key, arguments in _COMMANDS.items()}
    # In this one, "%" begins a placeholder.
    key = "merge.datastore.driver"
    settings[key] = f"{quoted.replace('%', '%%')} {_COMMANDS[key]}"
    return {**settings, _NAME_KEY: _NAME}


def _is_ours(key: str, value: str) -> bool:
    return value == _NAME if key == _NAME_KEY else value.endswith(f" {_COMMANDS[key]}")
