"""The program: finds the verb, runs it, and turns every way it can end into a message and a code.

Exit codes are in `datastore.cli.failures`.
"""

from __future__ import annotations

import dataclasses
import difflib
import gc
import importlib
import io
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple, NoReturn

import click
from click.exceptions import Exit

from datastore import errors
from datastore.cli.arguments import HELP_OPTIONS, shared_options
from datastore.cli.failures import EXIT_CODES, OUTPUT_CLOSED, failure, tell
from datastore.cli.session import OutputClosed, Session, write


class Entry(NamedTuple):
    """Where a verb lives, and what ``--help`` says of it without loading it."""

    section: str
    summary: str
    module: str
    name: str = "command"


VERBS: Mapping[str, Entry] = {
    "init": Entry("Daily", "Begin to version data in this Git repository.", "init"),
    "add": Entry("Daily", "Store files and directories as a new version.", "add"),
    "status": Entry("Daily", "Show what differs from the versions in the workspace.", "status"),
    "diff": Entry("Daily", "Show what changed between two versions.", "diff"),
    "log": Entry("Daily", "List the versions of the data.", "log"),
    "checkout": Entry("Daily", "Put a version of the data into the workspace.", "checkout"),
    "ls": Entry("Daily", "List the files of a version.", "ls"),
    "cat": Entry("Daily", "Print a file of a version.", "cat"),
    "remote": Entry("Sharing", "Name the places that data is shared through.", "remote"),
    "push": Entry("Sharing", "Send the data of commits to a remote.", "push"),
    "fetch": Entry("Sharing", "Bring the data of versions into the store.", "fetch"),
    "pull": Entry("Sharing", "Bring the data of a version into the workspace.", "pull"),
    "get": Entry("Sharing", "Get data of another repository, without a clone.", "get"),
    "verify": Entry("Care", "Check that everything stored can be read back.", "verify"),
    "doctor": Entry("Care", "Check that this machine and repository are set up well.", "doctor"),
    "git": Entry("Care", "Teach Git to show and merge pointers.", "git"),
    "completion": Entry("Care", "Print a script that completes commands in a shell.", "completion"),
    "demo": Entry("Care", "Take a tour in a temporary directory.", "demo"),
    "driver-diff": Entry("", "Show a pointer's changes to Git.", "driver", "diff"),
    "driver-textconv": Entry("", "Show a pointer's content to Git.", "driver", "textconv"),
    "driver-merge": Entry("", "Merge two versions of a pointer for Git.", "driver", "merge"),
    "hook-pre-push": Entry("", "Send the data of a push for Git.", "hook", "pre_push"),
}
"""Every verb. One without a section is for Git, not for people, and is not listed."""


class Program(click.Group):
    """The verbs, each loaded when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Names the verbs for people."""
        return [name for name, entry in VERBS.items() if entry.section]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Loads a verb."""
        entry = VERBS.get(cmd_name)
        if entry is None:
            return None
        module = importlib.import_module(f"datastore.cli.commands.{entry.module}")
        command: click.Command = getattr(module, entry.name)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Finds the verb, or suggests one that is spelled alike."""
        if args[0] not in VERBS and not args[0].startswith("-") and not ctx.resilient_parsing:
            alike = difflib.get_close_matches(args[0], self.list_commands(ctx), n=2)
            raise errors.UsageError(
                f"there is no command '{args[0]}'",
                hint=f"Did you mean {' or '.join(alike)}?" if alike else "See 'datastore --help'.",
                where=args[0],
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Lists the verbs by section."""
        sections: dict[str, list[tuple[str, str]]] = {}
        for name, entry in VERBS.items():
            if entry.section:
                sections.setdefault(entry.section, []).append((name, entry.summary))
        for section, rows in sections.items():
            with formatter.section(section):
                formatter.write_dl(rows)

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,  # noqa: FBT001, FBT002  (click's signature)
        **extra: Any,
    ) -> NoReturn:
        """Runs a command line and exits."""
        arguments = sys.argv[1:] if args is None else list(args)
        name = prog_name or program_name(sys.argv[0])
        self._main_shell_completion(extra, name, complete_var)
        sys.exit(self.run(arguments, name.replace("git-ds", "git ds"), **extra))

    def run(self, args: list[str], name: str, **extra: Any) -> int:
        """Runs a command line and gives the exit code."""
        options = args[: args.index("--")] if "--" in args else args
        try:
            with self.make_context(name, list(args), **extra) as context:
                self.invoke(context)
        except Exit as end:
            return end.exit_code
        except OutputClosed:
            _silence_stdout()
            return OUTPUT_CLOSED
        except (Exception, KeyboardInterrupt) as error:
            verbose = any(each in {"-v", "--verbose"} for each in options)
            found = failure(error)
            if verbose:
                _print_traceback(error)
            try:
                tell(found, as_json="--json" in options)
            except (OutputClosed, BrokenPipeError):
                _silence_stdout()
            raise SystemExit(found.exit_code) from error
        return 0


def _print_traceback(error: BaseException) -> None:
    import traceback  # noqa: PLC0415  (for -v only)

    click.echo("".join(traceback.format_exception(error)), err=True, nl=False)


def _silence_stdout() -> None:
    """Keeps Python from complaining at exit that it could not write the rest."""
    try:
        descriptor = sys.stdout.fileno()
    except (io.UnsupportedOperation, ValueError):
        return
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, descriptor)
    os.close(nowhere)


def program_name(argument: str) -> str:
    """Finds the name that the user typed, whatever a launcher put around it."""
    stem = PurePath(argument).stem
    return stem if stem == "git-ds" else "datastore"


def _print_version(context: click.Context, _option: click.Parameter, value: object) -> None:
    if value and not context.resilient_parsing:
        from datastore import __version__  # noqa: PLC0415

        write(f"datastore {__version__}\n")
        context.exit()


@click.pass_context
def _begin(context: click.Context, directory: str) -> None:
    if os.environ.get("NO_COLOR"):
        context.color = False
    session = context.ensure_object(Session)
    context.obj = dataclasses.replace(session, directory=directory)
    if context.invoked_subcommand is None:
        if session.json:
            raise errors.UsageError("no command given", hint="See 'datastore --help'.")
        click.echo(context.get_help(), err=True)
        context.exit(EXIT_CODES[errors.UsageError])


program = Program(
    name="datastore",
    invoke_without_command=True,
    callback=_begin,
    help="Versions data and labels with Git: deduplicated, verified, diffed by the sample.",
    epilog="'datastore VERB --help' explains a command; 'datastore demo' shows most of them.",
    context_settings=HELP_OPTIONS,
    params=[
        click.Option(
            ["-C", "directory"],
            default=".",
            metavar="DIR",
            type=click.Path(exists=True, file_okay=False),
            help="Run as if started in DIR.",
        ),
        *shared_options(),
        click.Option(
            ["--version"],
            is_flag=True,
            is_eager=True,
            expose_value=False,
            callback=_print_version,
            help="Print the version.",
        ),
    ],
)
"""The whole command line."""


def main() -> NoReturn:
    """Runs the program, as ``datastore``, ``git-ds`` and ``python -m datastore`` do."""
    # A command that handles a hundred thousand files makes no garbage cycles worth looking for, and
    # the collector looks after every 700 objects: a sixth of the time of `add`.
    gc.freeze()
    gc.set_threshold(50_000, 20, 50)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A terminal that cannot show a character gets an escape of it, not a traceback.
            stream.reconfigure(errors="backslashreplace")
    program.main()
