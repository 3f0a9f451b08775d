"""What differs between two versions of a dataset, file by file, with renames found."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal, NamedTuple

from datastore.kernel.hashing import Digest
from datastore.objects.store import ObjectStore
from datastore.trees import diff, files, prolly
from datastore.trees.files import Entry, FileTree, Kind

ChangeKind = Literal["added", "removed", "modified", "renamed"]


@dataclass(frozen=True, slots=True)
class FileChange:
    """One file that differs."""

    kind: ChangeKind
    path: str
    """Ends in a slash for an empty directory."""
    old_path: str | None = None
    """Where a renamed file was."""
    old_size: int | None = None
    """In bytes; None where there was no file."""
    new_size: int | None = None


@dataclass(frozen=True, slots=True)
class DiffCounts:
    """How many files differ, and how."""

    added: int = 0
    removed: int = 0
    modified: int = 0
    renamed: int = 0


@dataclass(frozen=True, slots=True)
class DiffResult:
    """All files that differ, sorted by path."""

    files: DiffCounts
    changes: tuple[FileChange, ...]


class Delta(NamedTuple):
    """One key with its encoded entries on both sides; None where there is none."""

    key: bytes
    old: bytes | None
    new: bytes | None


def version_deltas(
    old: FileTree | None,
    new: FileTree | None,
    store: ObjectStore,
    *,
    start: bytes = b"",
    stop: bytes | None = None,
) -> Iterator[Delta]:
    """Compares two versions; None stands for an empty one.

    Args:
        old: The version before.
        new: The version after.
        store: Where their nodes are.
        start: First key looked at.
        stop: First key no longer looked at; None for no bound.

    Yields:
        Differing keys in order, streamed: subtrees that are equal are not read.
    """
    if old is not None and new is not None:
        for key, before, after in diff.diff(old.tree, new.tree, store, start=start, stop=stop):
            yield Delta(key, before, after)
    elif new is not None:
        for key, value in prolly.scan(new.tree, store, start=start, stop=stop):
            yield Delta(key, None, value)
    elif old is not None:
        for key, value in prolly.scan(old.tree, store, start=start, stop=stop):
            yield Delta(key, value, None)


def file_changes(deltas: Iterable[Delta], prefix: str) -> list[FileChange]:
    """Names the changes for people and finds renames.

    A file that went and a file that came with the same content (and size above 0) are one rename;
    among several candidates one with the same base name is taken first. An empty directory is a
    change only where no file says so: one that was emptied or filled is not.

    Args:
        deltas: Differing keys.
        prefix: The dataset's path, put before each key.

    Returns:
        Changes sorted by path.
    """
    removed: dict[bytes, Entry] = {}
    added: dict[bytes, Entry] = {}
    changes: list[FileChange] = []
    for key, old, new in deltas:
        before = files.decode_entry(old) if old is not None else None
        after = files.decode_entry(new) if new is not None else None
        if before is not None and after is not None and _comparable(before, after):
            path = _shown(prefix, key, after)
            changes.append(FileChange("modified", path, None, before.size, after.size))
            continue
        if before is not None:
            removed[key] = before
        if after is not None:
            added[key] = after
    _drop_implied(removed, list(added))
    _drop_implied(added, list(removed))
    for source, target in _renames(removed, added):
        size = removed.pop(source).size
        del added[target]
        where = full_path(prefix, target)
        changes.append(FileChange("renamed", where, full_path(prefix, source), size, size))
    for key, entry in removed.items():
        changes.append(FileChange("removed", _shown(prefix, key, entry), None, entry.size, None))
    for key, entry in added.items():
        changes.append(FileChange("added", _shown(prefix, key, entry), None, None, entry.size))
    changes.sort(key=lambda change: change.path)
    return changes


def count_files(deltas: Iterable[Delta]) -> Counter[str]:
    """Counts files that were added, removed and modified, by these words."""
    counts: Counter[str] = Counter()
    for _, old, new in deltas:
        before = files.decode_entry(old) if old is not None else None
        after = files.decode_entry(new) if new is not None else None
        if before is not None and after is not None and _comparable(before, after):
            counts["modified"] += before.kind is not Kind.DIRECTORY
            continue
        counts["removed"] += before is not None and before.kind is not Kind.DIRECTORY
        counts["added"] += after is not None and after.kind is not Kind.DIRECTORY
    return counts


def _comparable(before: Entry, after: Entry) -> bool:
    """Whether one can have become the other; an empty directory never becomes a file."""
    return (before.kind is Kind.DIRECTORY) == (after.kind is Kind.DIRECTORY)


def _drop_implied(directories: dict[bytes, Entry], others: list[bytes]) -> None:
    """Drops empty directories below which files went or came on the other side."""
    for key in [key for key, entry in directories.items() if entry.kind is Kind.DIRECTORY]:
        at = bisect_left(others, key + b"/")
        if at < len(others) and others[at].startswith(key + b"/"):
            del directories[key]


def _shown(prefix: str, key: bytes, entry: Entry) -> str:
    return full_path(prefix, key) + ("/" if entry.kind is Kind.DIRECTORY else "")


def _renames(removed: dict[bytes, Entry], added: dict[bytes, Entry]) -> list[tuple[bytes, bytes]]:
    """Pairs equal contents: same base name first, then in key order."""
    sources: defaultdict[Digest, dict[bytes, list[bytes]]] = defaultdict(dict)
    for key, entry in removed.items():
        if entry.is_file and entry.size:
            base = key.rpartition(b"/")[2]
            sources[entry.content.digest].setdefault(base, []).append(key)
    pairs: list[tuple[bytes, bytes]] = []
    waiting: list[tuple[bytes, Entry]] = []
    for key, entry in added.items():
        names = sources.get(entry.content.digest)
        if not names or not entry.size:
            continue
        base = key.rpartition(b"/")[2]
        if base in names:
            pairs.append((_take(names, base), key))
        else:
            waiting.append((key, entry))
    for key, entry in waiting:
        names = sources[entry.content.digest]
        if names:
            pairs.append((_take(names, min(names)), key))
    return pairs


def _take(names: dict[bytes, list[bytes]], base: bytes) -> bytes:
    key = names[base].pop(0)
    if not names[base]:
        del names[base]
    return key


def full_path(prefix: str, key: bytes) -> str:
    """Returns the workspace path of an entry; a single file's is the dataset's own."""
    path = files.decode_key(key)
    return prefix if path == "." else f"{prefix}/{path}"


def count_changes(changes: Iterable[FileChange]) -> DiffCounts:
    """Counts changes by kind."""
    kinds = [change.kind for change in changes]
    return DiffCounts(
        added=kinds.count("added"),
        removed=kinds.count("removed"),
        modified=kinds.count("modified"),
        renamed=kinds.count("renamed"),
    )
