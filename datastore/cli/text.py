"""Words, numbers and paths as people read them, safe to print whatever a path holds."""

from __future__ import annotations

import os
import shlex
import unicodedata
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

import click

SHOWN = 20
"""How many paths of a kind are listed before "... and N more", without ``--verbose``."""

COLOURS = {
    "added": "green",
    "removed": "red",
    "deleted": "red",
    "modified": "yellow",
    "renamed": "cyan",
}

T = TypeVar("T")

_ESCAPES = {
    "\a": "\\a",
    "\b": "\\b",
    "\t": "\\t",
    "\n": "\\n",
    "\v": "\\v",
    "\f": "\\f",
    "\r": "\\r",
    '"': '\\"',
    "\\": "\\\\",
}


def quote(path: str) -> str:
    r"""Writes a path so that it stays one line and cannot steer a terminal.

    As Git does: a path with control characters, quotes or backslashes goes into double quotes, with
    the escapes of C and octal bytes. So do bytes that are not UTF-8, and characters that show
    nothing or turn the writing direction.
    """
    if path.isprintable() and '"' not in path and "\\" not in path:
        return path
    body = "".join(_escaped(char) for char in path)
    return path if body == path else f'"{body}"'


Near = Callable[[str], str]
"""Turns a path in the workspace into one that starts where the user is."""


def as_is(path: str) -> str:
    """A `Near` for whoever is at the top of the workspace."""
    return path


def near(top: Path, directory: Path) -> Near:
    """Makes a `Near`.

    Args:
        top: The top of the workspace.
        directory: Where the user is, or says to be.
    """
    start = os.path.relpath(directory.resolve(), top)
    return as_is if start == "." else lambda path: os.path.relpath(path, start)


def plain(text: str) -> str:
    """Makes a message safe to print: what a path brought along cannot steer a terminal.

    Newlines stay: a message may list what it is about.
    """
    if text.isprintable():
        return text
    return "".join(char if char in '"\\\n' else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    if char in _ESCAPES:
        return _ESCAPES[char]
    if char.isprintable() or unicodedata.category(char) == "Zs":
        return char
    handler = "surrogateescape" if "\udc80" <= char <= "\udcff" else "surrogatepass"
    return "".join(f"\\{byte:03o}" for byte in char.encode("utf-8", handler))


def size(count: int) -> str:
    """Writes a number of bytes for people, in powers of 1000: ``484.4 MB``."""
    value = float(count)
    for unit in ("B", "kB", "MB", "GB", "TB"):
        if abs(value) < 999.95 or unit == "TB":
            return f"{count} B" if unit == "B" else f"{value:,.1f} {unit}"
        value /= 1000
    raise AssertionError


def many(count: int, noun: str) -> str:
    """Counts things: ``1 file``, ``20,000 files``."""
    return f"{count:,} {noun}" if count == 1 else f"{count:,} {noun}s"


def shell_paths(paths: Iterable[str]) -> str:
    """Writes paths so that they can be pasted into a shell."""
    return " ".join(shlex.quote(path) for path in paths)


def some(
    items: Sequence[T], write: Callable[[T], str], *, indent: str = "    ", most: int = SHOWN
) -> Iterator[str]:
    """Writes the first items, a line each, and says how many there are besides."""
    yield from (indent + write(item) for item in items[:most])
    if len(items) > most:
        yield f"{indent}... and {len(items) - most:,} more"


def bold(text: str) -> str:
    """Makes a heading."""
    return click.style(text, bold=True)


def changes(**kinds: int) -> str:
    """Counts changes: ``1 added, 3 modified``."""
    return ", ".join(
        click.style(f"{count:,} {kind}", fg=COLOURS[kind]) for kind, count in kinds.items() if count
    )


def signs(counts: Mapping[str, int]) -> str:
    """Writes counts of changes short: ``+12 -3 ~40 >1`` (added, removed, modified, renamed)."""
    marks = {"added": "+", "removed": "-", "modified": "~", "renamed": ">"}
    return " ".join(
        click.style(f"{mark}{counts[kind]:,}", fg=COLOURS[kind])
        for kind, mark in marks.items()
        if counts.get(kind)
    )
