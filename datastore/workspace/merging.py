"""What Git's drivers need of pointers: a three-way merge and a text to diff."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from datastore.errors import FormatError, NotFoundError
from datastore.kernel.hashing import checksum, format_digest
from datastore.trees import files, prolly
from datastore.trees.diff import Conflict, diff, merge
from datastore.trees.files import Entry, FileTree, Kind
from datastore.trees.prolly import Tree
from datastore.workspace.changes import full_path
from datastore.workspace.ingest import recount
from datastore.workspace.layout import Workspace
from datastore.workspace.pointer import Pointer

LISTED_FILES: Final = 10_000
"""Larger versions are shown to Git by directory: it compares the texts line by line."""
_SHORT: Final = 12


@dataclass(frozen=True, slots=True)
class FileConflict:
    """One file that two branches changed differently."""

    path: str
    base: str
    """What the common ancestor had: ``"12 B b3:..."``, or ``"-"`` where there was no file."""
    ours: str
    theirs: str


@dataclass(frozen=True, slots=True)
class MergeResult:
    """A merged pointer, or the text that shows why there is none."""

    data: bytes
    conflicts: tuple[FileConflict, ...]


def merge_pointers(
    workspace: Workspace, base: bytes, ours: bytes, theirs: bytes, path: str
) -> MergeResult:
    """Merges two versions of a dataset file by file; see `Repository.merge_pointers`."""
    name = path.removesuffix(".ds")
    loaded = [_version(workspace, data, path) for data in (base, ours, theirs)]
    before, mine, other = (version.tree for version in loaded)
    with workspace.store.session() as session:
        merged = merge(before, mine, other, workspace.store, session)
        session.commit()
    found = [*merged.conflicts, *_misplaced(workspace, mine, merged.tree)]
    if found:
        conflicts = tuple(
            FileConflict(full_path(name, each.key), *map(_describe, each[1:])) for each in found
        )
        return MergeResult(_markers(ours, theirs, conflicts), conflicts)
    with workspace.store.session() as session:
        version = recount(loaded[1], merged.tree, workspace.store, session)
        session.commit()
    pointer = Pointer("files", version.files, version.bytes, version.root)
    return MergeResult(pointer.encode(), ())


def _misplaced(workspace: Workspace, ours: Tree, merged: Tree) -> Iterator[Conflict]:
    """Finds files that one side has where the other has a directory."""
    store = workspace.store
    for key, old, new in diff(ours, merged, store):
        if old is not None or new is None:
            continue
        parents = [key[:at] for at in range(len(key)) if key[at : at + 1] == b"/"]
        above = prolly.get_many(merged, parents, store) if parents else []
        below = prolly.scan(merged, store, start=key + b"/", stop=key + b"0")
        if any(value is not None for value in above) or next(below, None) is not None:
            yield Conflict(key, None, None, new)


def _version(workspace: Workspace, data: bytes, path: str) -> FileTree:
    if not data:
        # Both branches added the dataset: their common ancestor is the empty one.
        with workspace.store.session() as session:
            version = files.seal(files.build((), session), 0, 0, session)
            session.commit()
        return version
    return workspace.load(Pointer.decode(data, where=path), path)


def _describe(value: bytes | None) -> str:
    if value is None:
        return "-"
    entry = files.decode_entry(value)
    if entry.is_file:
        return f"{entry.size} B {format_digest(entry.content.digest)[: _SHORT + 3]}"
    return entry.kind.name.lower()


def _markers(ours: bytes, theirs: bytes, conflicts: tuple[FileConflict, ...]) -> bytes:
    lines = [
        f"# {each.path!r}: base {each.base}, ours {each.ours}, theirs {each.theirs}"
        for each in conflicts
    ]
    count = f"# datastore: {len(conflicts)} file(s) changed on both sides."
    text = "\n".join([count, *lines]) + "\n"
    return (
        b"<<<<<<< ours\n"
        + ours
        + b"=======\n"
        + theirs
        + b">>>>>>> theirs\n"
        + text.encode("utf-8", "backslashreplace")
    )


def render_pointer(workspace: Workspace, data: bytes) -> str:
    """Renders a pointer with its files for ``git log -p``; see `Repository.render_pointer`."""
    text = data.decode("utf-8", "replace")
    pointer = Pointer.decode(data, where="pointer")
    try:
        version = files.load(pointer.root, workspace.store)
    except (NotFoundError, FormatError):
        return text + "\n(this store does not have the version, so its files are not listed)\n"
    lines = _by_file if version.files <= LISTED_FILES else _by_directory
    return text + "\n" + "".join(line + "\n" for line in lines(workspace, version))


def _by_file(workspace: Workspace, version: FileTree) -> Iterator[str]:
    for path, entry in files.entries(version, workspace.store):
        yield f"{_quoted(path)}  {_content(entry)}"


def _content(entry: Entry) -> str:
    if entry.is_file:
        mode = " x" if entry.kind is Kind.EXECUTABLE else ""
        return f"{entry.size} {entry.content.digest.hex()[:_SHORT]}{mode}"
    return f"-> {entry.target!r}" if entry.kind is Kind.LINK else "(empty directory)"


def _by_directory(workspace: Workspace, version: FileTree) -> Iterator[str]:
    counts: Counter[str] = Counter()
    sizes: Counter[str] = Counter()
    sums: Counter[str] = Counter()
    for key, value in prolly.scan(version.tree, workspace.store):
        path = files.decode_key(key)
        directory = path.rpartition("/")[0] or "."
        entry = files.decode_entry(value)
        counts[directory] += 1
        sizes[directory] += entry.size
        # Any change of any file changes the sum, and with it the line.
        sums[directory] += checksum(key + value)
    for directory in sorted(counts):
        mark = f"{sums[directory] % (1 << 64):016x}"[:_SHORT]
        yield f"{_quoted(directory)}/  {counts[directory]} files, {sizes[directory]} bytes, {mark}"


def _quoted(path: str) -> str:
    return path if path.isprintable() else repr(path)
