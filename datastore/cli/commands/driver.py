"""The drivers that Git calls for pointers; see ``datastore git install``.

Git calls them in the middle of its own work, maybe in a clone that has no data yet. So none of them
ever fails: one that cannot look inside a version shows the pointer as the text it is, or merges as
text, which leaves a conflict for a person.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import click

from datastore.cli import text
from datastore.cli.arguments import HELP_OPTIONS
from datastore.cli.session import OutputClosed, Session, write
from datastore.errors import DatastoreError

if TYPE_CHECKING:
    from datastore.workspace.merging import FileConflict, MergeResult

_SETTINGS = {**HELP_OPTIONS, "ignore_unknown_options": True}  # a path may begin with a dash


@click.command(hidden=True, context_settings=_SETTINGS)
@click.argument("file", type=click.Path())
@click.pass_obj
def textconv(session: Session, file: str) -> None:
    """Print a readable form of a pointer, for 'git log -p'."""
    data = Path(file).read_bytes()
    with _or_else(lambda _reason: write(data), 0), session.open() as repo:
        write(repo.render_pointer(data))


@click.command(hidden=True, context_settings=_SETTINGS)
@click.argument("given", metavar="PATH OLD HEX MODE NEW HEX MODE", nargs=-1, required=True)
@click.pass_context
def diff(context: click.Context, given: tuple[str, ...]) -> None:
    """Print what changed between two versions of a pointer, for 'git diff'."""
    from datastore.cli import output  # noqa: PLC0415

    context.color = _colour()
    session: Session = context.obj
    name = text.quote(given[0])
    if len(given) < 7:
        write(f"* Unmerged path {name}\n")
        return
    old, new = _content(given[1]), _content(given[4])
    session.say([text.bold(f"diff --datastore a/{name} b/{name}")])
    with _or_else(lambda reason: session.say(_text_diff(old, new, reason)), 0):
        with session.open() as repo:
            result = repo.diff_pointers(old, new, given[0])
        listed = text.some(result.changes, output.change_line)
        session.say([*output.diff_stat(result), *listed])


@click.command(hidden=True, context_settings=_SETTINGS)
@click.argument("base", type=click.Path())
@click.argument("ours", type=click.Path())
@click.argument("theirs", type=click.Path())
@click.argument("path")
@click.pass_context
def merge(context: click.Context, base: str, ours: str, theirs: str, path: str) -> None:
    """Merge two versions of a pointer into OURS; exit with 1 if they conflict."""
    session: Session = context.obj
    before, mine, other = (Path(side).read_bytes() for side in (base, ours, theirs))

    def merge_as_text(reason: str) -> None:
        Path(ours).write_bytes(_conflict_text(mine, other))
        click.echo(f"{text.quote(path)}: merged as text: {reason}", err=True)

    with _or_else(merge_as_text, 1), session.open() as repo:
        result = repo.merge_pointers(before, mine, other, path)
        Path(ours).write_bytes(result.data)
    if result.conflicts:
        click.echo("\n".join(_conflicts(result, path)), err=True)
        context.exit(1)


@contextlib.contextmanager
def _or_else(fall_back: Callable[[str], None], exit_code: int) -> Iterator[None]:
    """Runs `fall_back` with the reason, and ends, if the block cannot be done.

    Whatever the reason: a driver that dies makes ``git diff`` and ``git merge`` useless, for the
    whole repository, until somebody finds out why.
    """
    try:
        yield
    except (OutputClosed, click.exceptions.Exit):
        raise
    except Exception as error:
        known = isinstance(error, DatastoreError)
        fall_back(text.plain(str(error) if known else f"{type(error).__name__}: {error}"))
        raise click.exceptions.Exit(exit_code) from error


def _content(file: str) -> bytes | None:
    """Reads one side of a diff; Git names the null device for a side that does not exist."""
    return None if file in {os.devnull, "/dev/null"} else Path(file).read_bytes()


def _text_diff(old: bytes | None, new: bytes | None, reason: str) -> Iterator[str]:
    import difflib  # noqa: PLC0415

    yield f"(the files are not shown: {reason})"
    before, after = ((side or b"").decode("utf-8", "replace").splitlines() for side in (old, new))
    for number, line in enumerate(difflib.unified_diff(before, after, lineterm="", n=9)):
        if number >= 2:  # the first two name files, which we have done
            yield line


def _conflict_text(ours: bytes, theirs: bytes) -> bytes:
    """Marks a conflict of whole pointers as Git would."""
    marked = [b"<<<<<<< ours\n", ours, b"=======\n", theirs, b">>>>>>> theirs\n"]
    return b"".join(part if part.endswith(b"\n") or not part else part + b"\n" for part in marked)


def _conflicts(result: MergeResult, path: str) -> Iterator[str]:
    yield f"Both sides changed the same files of {text.quote(path)}, and differently:"
    yield from text.some(result.conflicts, _conflict)
    chosen = text.shell_paths([path])
    yield f"{text.quote(path)} now has two blocks. Both hold all changes that do not conflict;"
    yield "of these files the first block has ours and the second theirs. Keep one block, then:"
    yield f"    datastore checkout && git add {chosen} && git commit"


def _conflict(conflict: FileConflict) -> str:
    how = {
        (True, False): "deleted by us, changed by them",
        (False, True): "changed by us, deleted by them",
    }.get((conflict.ours == "-", conflict.theirs == "-"), "changed by both")
    if conflict.base == "-":
        how = "added by both"
    return f"{text.quote(conflict.path)}: {how}"


def _colour() -> bool | None:
    """Says yes where Git shows our output in its pager; else stdout decides."""
    if os.environ.get("NO_COLOR"):
        return False
    return True if os.environ.get("GIT_PAGER_IN_USE") in {"1", "true"} else None
