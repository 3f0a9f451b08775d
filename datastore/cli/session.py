"""What a verb has at hand: the options that every verb knows, and the two ways out.

stdout is for results, stderr for everything else: hints, progress, warnings, errors. With
``--json`` stdout holds one JSON object and nothing more.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from datastore.cli import text
from datastore.progress import SILENT, Progress

if TYPE_CHECKING:
    from datastore.cli.text import Near
    from datastore.repository import Repository

# A listing goes out in pieces: a write per line costs more than the line, and a pipe's reader
# should not wait for the end.
_PIECE_LINES = 512
_PIECE_SECONDS = 0.1


class OutputClosed(Exception):  # noqa: N818  (an event, not an error: the reader has seen enough)
    """Whoever read stdout has gone away, as ``head`` does."""


@dataclass(frozen=True, slots=True)
class Session:
    """One run of the program.

    Args:
        directory: Where relative paths start: ``-C DIR``, else the current directory.
        json: One JSON object on stdout instead of text for people.
        quiet: No progress, no hints, and no text where all went as asked.
        verbose: Lists in full, and a traceback with an error.
    """

    directory: str = "."
    json: bool = False
    quiet: bool = False
    verbose: bool = False

    def open(self) -> Repository:
        """Opens the repository that `directory` is in; the caller closes it."""
        from datastore.repository import Repository  # noqa: PLC0415  (--version must not load it)

        return Repository.open(self.directory, index_directory=index_directory())

    def path(self, given: str) -> Path:
        """Finds a file that was named on the command line, such as a report to write."""
        return Path(self.directory, given)

    @property
    def shown(self) -> int:
        """How many paths of a kind are listed."""
        return sys.maxsize if self.verbose else text.SHOWN

    def near(self, repo: Repository) -> Near:
        """Says how paths in the workspace are called from where the user is."""
        return text.near(repo.top, Path(self.directory))

    def progress(self) -> Progress:
        """Makes the bars of this run, or silence where nobody looks."""
        if self.quiet or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
            return SILENT
        from datastore.cli.progress import Bars  # noqa: PLC0415  (starts a thread: not for a pipe)

        bars = Bars(sys.stderr)
        click.get_current_context().call_on_close(bars.close)
        return bars

    def emit(self, result: object, more: Mapping[str, object] | None = None) -> None:
        """Writes the JSON object of a result.

        Args:
            result: A dataclass or a mapping.
            more: Keys that the result does not have itself.
        """
        from datastore.cli.output import json_text  # noqa: PLC0415  (json is for --json only)

        write(json_text(result, more or {}) + "\n")

    def say(self, lines: Iterable[str]) -> None:
        """Writes lines that a verb is asked for; ``-q`` does not silence these."""
        for piece in _pieces(lines):
            write(piece)

    def report(self, lines: Iterable[str]) -> None:
        """Writes what was done, unless ``-q`` or ``--json`` says otherwise."""
        if not self.quiet and not self.json:
            self.say(lines)

    def hint(self, text: str) -> None:
        """Says on stderr what could come next, unless ``-q`` or ``--json`` says otherwise."""
        if not self.quiet and not self.json:
            with contextlib.suppress(BrokenPipeError):
                click.echo(text, err=True)


def index_directory() -> Path:
    """Finds where the index of a repository on a network file system lies: in the user's cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(cache, "datastore")


def driver_program() -> str:
    """Finds what Git is to call for pointers: our name, or our path where PATH lacks us."""
    beside = Path(sys.executable).with_name("git-ds")
    return "git-ds" if shutil.which("git-ds") or not beside.exists() else str(beside)


def write(data: str | bytes) -> None:
    """Writes to stdout, all of it, now.

    Raises:
        OutputClosed: The reader has gone away.
    """
    try:
        click.echo(data, nl=False)
    except BrokenPipeError:
        raise OutputClosed from None


def _pieces(lines: Iterable[str]) -> Iterator[str]:
    piece: list[str] = []
    since = time.monotonic()
    for line in lines:
        piece.append(line)
        if len(piece) >= _PIECE_LINES or time.monotonic() - since > _PIECE_SECONDS:
            yield "\n".join(piece) + "\n"
            piece.clear()
            since = time.monotonic()
    if piece:
        yield "\n".join(piece) + "\n"
