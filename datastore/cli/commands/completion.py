"""``datastore completion``."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from datastore.cli.arguments import Verb
from datastore.cli.session import Session, write

_PROGRAMS = {"datastore": "_DATASTORE_COMPLETE", "git-ds": "_GIT_DS_COMPLETE"}

# Git's own completion calls _git_ds for "git ds", with the words in variables of its own.
_GIT_BASH = """
_git_ds() {
    local IFS=$'\\n'
    local completion type value
    for completion in $(env COMP_WORDS="git-ds ${words[*]:2}" COMP_CWORD=$((cword - 1)) \\
        _GIT_DS_COMPLETE=bash_complete git-ds); do
        IFS=',' read -r type value <<< "$completion"
        if [[ $type == 'plain' ]]; then
            COMPREPLY+=("$value")
        else
            compopt -o default
        fi
    done
}
"""


@click.command(cls=Verb)
@click.argument("shell", metavar="bash|zsh|fish", type=click.Choice(["bash", "zsh", "fish"]))
@click.pass_obj
def command(session: Session, shell: str) -> None:
    """Print a script that completes commands in a shell.

    \b
    bash:  eval "$(datastore completion bash)"           in ~/.bashrc
    zsh:   eval "$(datastore completion zsh)"            in ~/.zshrc
    fish:  datastore completion fish | source            in ~/.config/fish/config.fish
    """  # noqa: D301  (the backspace keeps click from joining the lines)
    script = completion_script(shell)
    if session.json:
        session.emit({"shell": shell, "script": script})
    else:
        write(script)


def completion_script(shell: str) -> str:
    """Writes the script for both names of the program."""
    root = click.get_current_context().find_root().command
    kind = get_completion_class(shell)
    if kind is None:
        raise AssertionError(shell)
    parts = [kind(root, {}, program, variable).source() for program, variable in _PROGRAMS.items()]
    return "\n".join([*parts, _GIT_BASH] if shell == "bash" else parts)
