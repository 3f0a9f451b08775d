"""What Git's drivers need of pointers: a three-way merge and a text to diff."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from datastore.errors import FormatError, NotFoundError
from datastore.kernel.hashing import checksum, format_digest
from datastore.objects.store import ObjectStore
from datastore.trees import files, prolly
from datastore.trees.diff import Conflict, diff, merge
from datastore.trees.files import Entry, FileTree, Kind
from datastore.trees.prolly import Tree
from datastore.workspace.changes import full_path
from datastore.workspace.ingest import recount
from datastore.workspace.layout import Workspace
from datastore.workspace.pointer import POINTER_SUFFIX, Pointer

LISTED_FILES: Final = 10_000
"""Larger versions are shown to Git by directory: it compares the texts line by line."""
_SHORT: Final = 12
_SIDES: Final = (2, 3)
"""Where ours and theirs stand in a `Conflict`."""


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
    """With conflicts, two pointers between Git's markers: both hold all changes that do not
    conflict, and for the files that do, the first has ours and the second theirs."""
    conflicts: tuple[FileConflict, ...]


def merge_pointers(
    workspace: Workspace, base: bytes, ours: bytes, theirs: bytes, path: str
) -> MergeResult:
    """Merges two versions of a dataset file by file; see `Repository.merge_pointers`."""
    name = path.removesuffix(POINTER_SUFFIX)
    store = workspace.store
    pointers = [Pointer.decode(data, where=path) if data else None for data in (base, ours, theirs)]
    loaded = [_version(workspace, pointer, name) for pointer in pointers]
    misplaced, filled = _misplaced(store, *(version.tree for version in loaded))
    extra = _merged_extra([pointer.extra if pointer else () for pointer in pointers])
    conflicts: list[Conflict] = []
    kept = [
        Pointer("files", version.files, version.bytes, version.root, extra).encode()
        for version in (
            _settled(store, loaded, misplaced, filled, side, conflicts) for side in _SIDES
        )
    ]
    found = [*dict.fromkeys(conflicts), *misplaced]
    if not found:
        return MergeResult(kept[0], ())
    named = tuple(
        FileConflict(full_path(name, each.key), *map(_describe, each[1:])) for each in found
    )
    return MergeResult(_markers(kept[0], kept[1], named), named)


def _settled(
    store: ObjectStore,
    loaded: list[FileTree],
    misplaced: list[Conflict],
    filled: list[bytes],
    side: int,
    conflicts: list[Conflict],
) -> FileTree:
    """Merges with one side's word on every conflict; notes the conflicts."""

    def resolve(conflict: Conflict) -> bytes | None:
        conflicts.append(conflict)
        value: bytes | None = conflict[side]
        return value

    with store.session() as session:
        trees = [version.tree for version in loaded]
        merged = merge(trees[0], trees[1], trees[2], store, session, resolve=resolve)
        session.commit()
    edits: dict[bytes, bytes | None] = dict.fromkeys(filled)
    for conflict in misplaced:
        edits[conflict.key] = conflict[side]
        if conflict[side] is not None:
            below = prolly.scan(
                merged.tree, store, start=conflict.key + b"/", stop=conflict.key + b"0"
            )
            edits.update((key, None) for key, _ in below)
    with store.session() as session:
        tree = prolly.edit(merged.tree, sorted(edits.items()), store, session)
        session.commit()
    with store.session() as session:
        version = recount(loaded[1], tree, store, session)
        session.commit()
    return version


def _merged_extra(sides: list[tuple[tuple[str, str], ...]]) -> tuple[tuple[str, str], ...]:
    """Merges what base, ours and theirs say beyond what this version knows; nothing is dropped."""
    base, ours, theirs = sides
    if ours == base:
        return theirs
    known = dict(ours)
    return ours + tuple(each for each in theirs if each not in base and each[0] not in known)


def _misplaced(
    store: ObjectStore, base: Tree, ours: Tree, theirs: Tree
) -> tuple[list[Conflict], list[bytes]]:
    """Finds what one side added at a path where the other added a directory.

    Each side is sound in itself and what only one side has changed is as that side has it, so it
    takes an addition on either side.

    Returns:
        Files there, which are conflicts; and rows that stand for an empty directory of one side,
        which the other has filled.
    """
    mine, other = _added(store, base, ours), _added(store, base, theirs)
    taken = {
        parent
        for keys, files_there in ((mine, other), (other, mine))
        for key in keys
        for parent in _above(key)
        if parent in files_there
    }
    conflicts, filled = [], []
    for key in sorted(taken):
        conflict = Conflict(key, None, mine.get(key), other.get(key))
        if all(value is None or _is_directory(value) for value in conflict[2:]):
            filled.append(key)
        else:
            conflicts.append(conflict)
    return conflicts, filled


def _added(store: ObjectStore, base: Tree, side: Tree) -> dict[bytes, bytes]:
    return {
        key: new for key, old, new in diff(base, side, store) if old is None and new is not None
    }


def _above(key: bytes) -> Iterator[bytes]:
    end = key.find(b"/")
    while end >= 0:
        yield key[:end]
        end = key.find(b"/", end + 1)


def _is_directory(value: bytes) -> bool:
    return files.decode_entry(value).kind is Kind.DIRECTORY


def _version(workspace: Workspace, pointer: Pointer | None, name: str) -> FileTree:
    if pointer is not None:
        return workspace.load(pointer, name)
    # Both branches added the dataset: their common ancestor is the empty one.
    with workspace.store.session() as session:
        version = files.seal(files.build((), session), 0, 0, session)
        session.commit()
    return version


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
