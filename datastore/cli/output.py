"""How results look: text for people, one JSON object for programs.

Everything here takes a result and gives text; nothing writes. Text is styled as if for a terminal,
and whoever writes it strips the colours where they are not wanted. A dataset is called by its path
from the top of the workspace; a file by its path from where the user is, so that it can be pasted.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import click

from datastore.cli.text import (
    COLOURS,
    SHOWN,
    Near,
    as_is,
    bold,
    changes,
    many,
    plain,
    quote,
    shell_paths,
    signs,
    size,
    some,
)

if TYPE_CHECKING:
    from datastore.maintenance import Damage, VerifyResult
    from datastore.sync.results import RemoteDamage
    from datastore.workspace.changes import DiffResult, FileChange
    from datastore.workspace.checkout import CheckedOut
    from datastore.workspace.comparing import LogEntry
    from datastore.workspace.diagnosis import Check
    from datastore.workspace.ingest import AddedPointer
    from datastore.workspace.reading import LsEntry
    from datastore.workspace.status import PointerStatus

_DIGEST = re.compile(r"b3:[0-9a-f]{64}")

SCHEMA = 1
"""The version of the JSON: additions are allowed, a change needs a new number."""


# -- JSON -----------------------------------------------------------------------------------------


def json_text(result: object, more: Mapping[str, object]) -> str:
    """Writes the JSON object of a result: ``"schema"`` first, then its fields, then `more`.

    Paths are exact. A byte that is not UTF-8 stands as the escape of a lone surrogate, as Python's
    file system encoding has it, so the text itself is always plain ASCII.
    """
    fields = result if isinstance(result, Mapping) else _fields(result)
    return json.dumps({"schema": SCHEMA, **fields, **more}, default=_fields)


def _fields(value: Any) -> dict[str, object]:
    # Not dataclasses.asdict: it copies everything, which a listing of a million files would feel.
    return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}


# -- add, checkout --------------------------------------------------------------------------------


def added(pointer: AddedPointer) -> Iterator[str]:
    """Says what a path holds now, what of it was new, and what that cost."""
    path = bold(quote(pointer.path))
    total = f"{path}: {many(pointer.files, 'file')}, {size(pointer.bytes)}."
    if not pointer.changed and not pointer.new_bytes:
        yield f"{total} Nothing has changed."
        return
    counts = changes(added=pointer.added, removed=pointer.removed, modified=pointer.modified)
    yield f"{total} {counts[:1].upper()}{counts[1:]}." if counts else total
    if not pointer.new_bytes:
        yield "  All of the data was stored already."
        return
    known = pointer.bytes - pointer.new_bytes
    already = f" {size(known)} was stored already." if known > 0 else ""
    cost = size(pointer.stored_bytes)
    yield f"  New data: {size(pointer.new_bytes)}, stored as {cost}.{already}"


def checked_out(pointer: CheckedOut) -> str:
    """Says what a checkout did to one path."""
    done = []
    if pointer.written:
        done.append(f"{many(pointer.written, 'file')} written ({size(pointer.bytes)})")
    if pointer.removed:
        done.append(f"{pointer.removed:,} removed")
    if pointer.kept:
        done.append(f"{pointer.kept:,} that no version has left alone")
    return f"{bold(quote(pointer.path))}: {', '.join(done) or 'nothing to do'}"


# -- status ---------------------------------------------------------------------------------------


def status(
    pointers: Sequence[PointerStatus], near: Near = as_is, most: int = SHOWN
) -> Iterator[str]:
    """Says what differs from its pointer, the way ``git status`` does."""
    if not pointers:
        yield "No data is tracked here yet."
        yield '  (use "datastore add PATH..." to begin)'
        return
    changed = [pointer for pointer in pointers if pointer.state != "clean"]
    paragraphs = [list(_one_status(pointer, near, most)) for pointer in changed]
    paragraphs.append(list(_the_rest(pointers, len(changed), near)))
    for number, paragraph in enumerate(filter(None, paragraphs)):
        if number:
            yield ""
        yield from paragraph


def _the_rest(pointers: Sequence[PointerStatus], changed: int, near: Near) -> Iterator[str]:
    clean = len(pointers) - changed
    if not changed:
        yield f"Everything matches its pointer ({many(clean, 'pointer')})."
    elif clean:
        yield f"{many(clean, 'other pointer')}: everything matches."
    files = [
        near(pointer.path + ".ds")
        for pointer in pointers
        if not pointer.committed and pointer.state not in {"broken", "conflict"}
    ]
    if files:
        yield f"Not committed: {many(len(files), 'pointer')}"
        yield f'  (use "git add {shell_paths(files[:SHOWN])} && git commit")'


def _one_status(pointer: PointerStatus, near: Near, most: int) -> Iterator[str]:
    path = bold(quote(pointer.path))
    again = shell_paths([near(pointer.path)])
    if pointer.state == "missing":
        yield f"{path}: {click.style('missing', fg='red')}"
        yield f'  (use "datastore checkout -- {again}" to get it back)'
    elif pointer.state in {"conflict", "broken"}:
        yield f"{path}: {click.style(pointer.state, fg='red')}: {plain(pointer.message)}"
    else:
        yield f"{path}: {_status_counts(pointer)}"
        yield f'  (use "datastore add {again}" to keep this as a new version)'
        yield f'  (use "datastore checkout --force -- {again}" to discard the changes)'
        if pointer.modified != (pointer.path,):  # a dataset that is one file has named it already
            yield from _changed_paths(pointer, near, most)


def _changed_paths(pointer: PointerStatus, near: Near, most: int) -> Iterator[str]:
    def line(kind: str, *paths: str) -> str:
        what = " -> ".join(quote(near(path)) for path in paths)
        return click.style(f"{kind + ':':<10} {what}", fg=COLOURS[kind])

    yield from some(pointer.added, lambda path: line("added", path), most=most)
    yield from some(pointer.modified, lambda path: line("modified", path), most=most)
    yield from some(pointer.deleted, lambda path: line("deleted", path), most=most)
    yield from some(pointer.renamed, lambda pair: line("renamed", *pair), most=most)


def _status_counts(pointer: PointerStatus) -> str:
    counts = changes(
        added=len(pointer.added),
        modified=len(pointer.modified),
        deleted=len(pointer.deleted),
        renamed=len(pointer.renamed),
    )
    return counts or click.style("modified", fg=COLOURS["modified"])


# -- diff -----------------------------------------------------------------------------------------


def diff(result: DiffResult, near: Near = as_is) -> Iterator[str]:
    """Lists every change, then the total."""
    for change in result.changes:
        yield change_line(change, near)
    yield from _total(result)


def change_line(change: FileChange, near: Near = as_is) -> str:
    """Says in one line how one file differs."""
    path = quote(near(change.path))
    if change.old_path is not None:
        path = f"{quote(near(change.old_path))} -> {path}"
    return click.style(f"{change.kind + ':':<10}", fg=COLOURS[change.kind]) + path + sizes(change)


def sizes(change: FileChange) -> str:
    """Says what a change means in bytes, in brackets, where it means anything."""
    old, new = change.old_size, change.new_size
    if old is not None and new is not None and change.kind != "renamed":
        same = size(old) == size(new)
        return f"  ({size(new)})" if same else f"  ({size(old)} -> {size(new)})"
    only = new if new is not None else old
    return "" if only is None or change.kind == "renamed" else f"  ({size(only)})"


def diff_stat(result: DiffResult, near: Near = as_is) -> Iterator[str]:
    """Counts the changes in each directory, those with most changes first, then the total.

    A file at the top of the workspace, which is a dataset of its own, stands for itself.
    """
    folders: dict[str, Counter[str]] = {}
    for change in result.changes:
        folder = near(change.path.rpartition("/")[0] or change.path)
        folders.setdefault(folder, Counter())[change.kind] += 1
    order = sorted(folders, key=lambda folder: (-folders[folder].total(), folder))
    width = max((len(quote(folder)) for folder in order[:SHOWN]), default=0)

    def row(folder: str) -> str:
        return f"{quote(folder):<{width}} | {signs(folders[folder])}"

    yield from some(order, row, indent=" ")
    yield from _total(result)


def _total(result: DiffResult) -> Iterator[str]:
    files = result.files
    counts = changes(
        added=files.added, removed=files.removed, modified=files.modified, renamed=files.renamed
    )
    number = files.added + files.removed + files.modified + files.renamed
    yield f"{many(number, 'file')} changed: {counts}{_grown(result)}" if number else "No changes."


def _grown(result: DiffResult) -> str:
    gone = sum(each.old_size or 0 for each in result.changes if each.kind != "renamed")
    come = sum(each.new_size or 0 for each in result.changes if each.kind != "renamed")
    if come == gone:
        return ""
    return f" ({'+' if come > gone else '-'}{size(abs(come - gone))})"


# -- log, ls --------------------------------------------------------------------------------------


def log_line(entry: LogEntry) -> str:
    """Describes one version in one line."""
    counts = {"added": entry.added, "removed": entry.removed, "modified": entry.modified}
    fields = (
        click.style(entry.commit[:9], fg="yellow"),
        entry.date[:10],
        plain(entry.author),
        bold(quote(entry.path)),
        f"{many(entry.files, 'file')}, {size(entry.bytes)}",
        signs(counts) or "=",
        plain(entry.subject),
    )
    return "  ".join(fields)


def ls_line(entry: LsEntry, near: Near = as_is, *, detailed: bool = False) -> str:
    """Names one entry; a directory ends in a slash."""
    path = near(entry.path)
    name = quote(path + "/" if entry.kind == "dir" else path)
    if not detailed:
        return name
    return f"{entry.kind:<7} {entry.size:>14,} {entry.digest[:19]:<19} {name}"


# -- care -----------------------------------------------------------------------------------------


def verified(result: VerifyResult, most: int = SHOWN) -> Iterator[str]:
    """Says what was checked, then what is damaged, the same damage once."""
    counts = [
        size(count) if what == "bytes" else f"{count:,} {what}"
        for what, count in result.checked.items()
        if count and what != "elsewhere"
    ]
    yield f"Checked {', '.join(counts) or 'nothing: nothing is stored yet'}."
    elsewhere = result.checked.get("elsewhere")
    if elsewhere:
        yield f"{elsewhere:,} of the files are not here in full; by its index the remote has them."
    yield from damages(result.damaged, most)
    if result.ok:
        yield click.style("Everything is as it was stored.", fg="green")


def damages(found: Sequence[Damage | RemoteDamage], most: int = SHOWN) -> Iterator[str]:
    """Says what is damaged, the same damage once, and what that costs."""
    packs: dict[str, dict[str, list[str]]] = {}
    for damage in found:
        reason = _DIGEST.sub("a chunk", damage.reason)  # else no two would be the same
        named = packs.setdefault(damage.pack, {}).setdefault(reason, [])
        if damage.path:
            named.append(f"{damage.rev}:{damage.path}" if damage.rev else damage.path)
    for pack, reasons in packs.items():
        where = f"pack {quote(pack)}" if pack else "versions"
        yield click.style(f"damaged: {where}", fg="red")
        for reason, named in reasons.items():
            yield f"  {plain(reason)}"
            yield from some(list(dict.fromkeys(named)), quote, most=most)


def doctor(checks: Sequence[Check]) -> Iterator[str]:
    """Lists what was looked at, with advice where something is wrong."""
    width = max((len(check.name) for check in checks), default=0)
    for check in checks:
        mark = click.style("ok ", fg="green") if check.ok else click.style("BAD", fg="red")
        yield f"{mark} {check.name:<{width}}  {plain(check.value)}".rstrip()
        if check.hint and not check.ok:
            yield f"    {' ' * width}  {plain(check.hint)}"
