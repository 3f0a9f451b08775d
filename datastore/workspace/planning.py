"""Deciding what a checkout does to each file, before the first one is touched.

No file on disk is removed or replaced whose content no version knows, whatever stands in the way of
whatever: that is a conflict, and of a plan with conflicts nothing is carried out.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from datastore.errors import ConflictError, CorruptionError, FormatError, NotFoundError
from datastore.trees import files, prolly
from datastore.trees.files import Entry, FileTree, Kind
from datastore.trees.manifest import FAULTY
from datastore.workspace.changes import Delta, full_path
from datastore.workspace.dataset import Dataset, key_of
from datastore.workspace.paths import check_path, collisions, printable
from datastore.workspace.scan import SINGLE
from datastore.workspace.status import Examined

_LISTED: Final = 10


@dataclass(slots=True)
class Plan:
    """What is to be done, in dataset paths as the file system spells them."""

    write: list[tuple[str, Entry]] = field(default_factory=list)
    remove: list[str] = field(default_factory=list)
    clear: list[str] = field(default_factory=list)
    """Taken away before something of another kind, or the same in another spelling, is written."""
    kept: list[str] = field(default_factory=list)
    """Files of no version, which stay."""
    hollow: list[str] = field(default_factory=list)
    """Empty directories of no version, which stay unless something needs their place."""
    conflicts: list[str] = field(default_factory=list)


def make_plan(
    dataset: Dataset,
    deltas: list[Delta],
    examined: Examined,
    safe: list[FileTree],
    *,
    force: bool = False,
) -> Plan:
    """Decides what happens to each file that is not as the target version has it.

    Args:
        dataset: What is checked out.
        deltas: The target version (old) against the disk (new).
        examined: What the files on disk are.
        safe: Versions whose files may be replaced, because their content is not lost.
        force: Replace files whose content no version knows.
    """
    owned, tracked = _knowledge(dataset, deltas, examined, safe)
    plan = Plan()
    fresh: set[str] = set()
    for key, new, old in deltas:
        wanted, there = _decoded(key, new), _decoded(key, old)
        path = _spelled(key, wanted or there)
        # An empty directory holds nothing that could be lost.
        mine = there is not None and there.kind is not Kind.DIRECTORY and key not in owned
        if wanted is None and key not in tracked:
            (plan.kept if mine else plan.hollow).append(path)
        elif mine and not force:
            plan.conflicts.append(path)
        elif wanted is None:
            plan.remove.append(path)
        else:
            plan.write.append((path, wanted))
            if there is not None and _must_go(wanted, there):
                plan.clear.append(_spelled(key, there))
            if there is None or there.kind is Kind.DIRECTORY:
                fresh.add(path)
    _make_way(dataset, plan, fresh, force=force)
    return plan


def _knowledge(
    dataset: Dataset, deltas: list[Delta], examined: Examined, safe: list[FileTree]
) -> tuple[set[bytes], set[bytes]]:
    """Returns the keys whose content on disk a version has, and the keys that any version has."""
    on_disk = [key for key, _, there in deltas if there is not None]
    owned = {key for key in on_disk if key not in examined.edits}
    tracked = set(owned)
    doubtful = sorted(set(on_disk) - owned)
    versions = [*safe, examined.known] if examined.known else safe
    for version in versions if doubtful else ():
        try:
            values = prolly.get_many(version.tree, doubtful, dataset.store)
        except (NotFoundError, FormatError, CorruptionError):
            continue  # what cannot be read back vouches for nothing
        for key, value in zip(doubtful, values, strict=True):
            if value is not None:
                tracked.add(key)
                if value == examined.edits[key]:
                    owned.add(key)
    return owned, tracked


def _decoded(key: bytes, value: bytes | None) -> Entry | None:
    try:
        return files.decode_entry(value) if value is not None else None
    except FormatError as error:
        raise _refused(repr(key.decode(errors="backslashreplace")), error.message) from error


def _spelled(key: bytes, entry: Entry | None) -> str:
    path = (entry.name if entry is not None else "") or files.decode_key(key)
    if key_of(path) != key:
        # Two entries could be for one file.
        raise _refused(repr(key.decode()), f"its spelling is {path!r}, of which it is not the key")
    return path


def _refused(path: str, why: str) -> FormatError:
    return FormatError(
        f"refused the entry {path}: {why}",
        hint=FAULTY,
        where=path,
    )


def _must_go(wanted: Entry, there: Entry) -> bool:
    """Whether what is there cannot simply be replaced: a directory, or under another spelling."""
    folder = (wanted.kind is Kind.DIRECTORY, there.kind is Kind.DIRECTORY)
    return wanted.name != there.name or folder in {(True, False), (False, True)}


def _make_way(dataset: Dataset, plan: Plan, fresh: set[str], *, force: bool) -> None:
    """Finds what would stay and stand in the way; by force it goes, else it is a conflict."""
    solid = {path for path, entry in plan.write if entry.kind is not Kind.DIRECTORY}
    needed = _directories(path for path, _ in plan.write)

    def blocks(path: str) -> bool:
        if SINGLE in solid or (path == SINGLE and plan.write):
            return True
        return path in needed or not solid.isdisjoint(_parents(path))

    blocked = [path for path in plan.kept if blocks(path)]
    plan.clear += [path for path in plan.hollow if path not in needed and blocks(path)]
    unlisted = _unlisted(dataset, plan, fresh)
    if not force:
        plan.conflicts += [*blocked, *unlisted]
        return
    plan.remove += [*blocked, *(path for path in unlisted if path not in solid)]
    plan.kept = [path for path in plan.kept if path not in blocked]


def _unlisted(dataset: Dataset, plan: Plan, fresh: set[str]) -> list[str]:
    """Finds what stands in the way that the scan did not list, such as ignored files.

    Args:
        dataset: What is checked out.
        plan: What is to be done so far.
        fresh: Paths to be written where the scan found nothing that they replace.
    """
    listed = {*plan.remove, *plan.clear, *plan.kept}
    kinds = {"": kind_on_disk(dataset.top)}
    found: dict[str, None] = {}
    for path, entry in plan.write:
        if path not in fresh:
            continue
        at = dataset.top if path == SINGLE else dataset.top / path
        if path != SINGLE and _note_parents(dataset, path, kinds) != stat.S_IFDIR:
            continue
        kind = kind_on_disk(at)
        if kind == stat.S_IFDIR and entry.kind is not Kind.DIRECTORY:
            found.update(dict.fromkeys(_below(dataset, path, listed)))
        elif kind not in (0, stat.S_IFDIR):
            found[path] = None
    found.update({path: None for path, kind in kinds.items() if kind not in (0, stat.S_IFDIR)})
    return [path for path in found if path and path not in listed]


def kind_on_disk(path: Path) -> int:
    """Returns the type bits of what is there; 0 where nothing is."""
    try:
        return stat.S_IFMT(os.lstat(path).st_mode)
    except OSError:
        return 0


def _note_parents(dataset: Dataset, path: str, kinds: dict[str, int]) -> int:
    """Notes what lies at each directory above a path; returns that of the one it is in."""
    parent = path.rpartition("/")[0]
    if parent not in kinds:
        kind = kinds[""]
        for directory in reversed(list(_parents(path))):
            if directory not in kinds:
                below = kind == stat.S_IFDIR
                kinds[directory] = kind_on_disk(dataset.top / directory) if below else 0
            kind = kinds[directory]
    return kinds[parent]


def _below(dataset: Dataset, path: str, listed: set[str]) -> Iterator[str]:
    """Yields what is in a directory that must go and is not listed."""
    top = dataset.top if path == SINGLE else dataset.top / path
    for directory, directories, names in os.walk(top):
        inside = os.path.relpath(directory, dataset.top)
        links = [name for name in directories if os.path.islink(os.path.join(directory, name))]
        here = [f"{inside}/{name}" if inside != "." else name for name in [*names, *links]]
        if not here and not directories and inside not in (".", path):
            here = [inside]
        yield from (each for each in here if each not in listed)


def _directories(paths: Iterable[str]) -> set[str]:
    """Returns all directories that are above paths."""
    found: set[str] = set()
    for path in paths:
        for parent in _parents(path):
            if parent in found:
                break
            found.add(parent)
    return found


def _parents(path: str) -> Iterator[str]:
    while (path := path.rpartition("/")[0]) != "":
        yield path


def check_target(dataset: Dataset, plan: Plan, target: FileTree) -> None:
    """Refuses a version in which something lies in a file or a link; nothing was written yet.

    Args:
        dataset: What is checked out.
        plan: What is to be done.
        target: The version.

    Raises:
        FormatError: The version is faulty or hostile.
    """
    keys = sorted(map(key_of, _directories(path for path, _ in plan.write)))
    if target.tree.rows > 1:
        keys = sorted({*keys, files.SELF_KEY})
    found = prolly.get_many(target.tree, keys, dataset.store)
    for key, value in zip(keys, found, strict=True):
        if value is not None:
            path = full_path(dataset.path, key)
            below = [each for each, _ in plan.write if is_below(each, key)]
            raise _refused(repr(path), f"it is no directory, but would hold {below[:1]}")


def is_below(path: str, key: bytes) -> bool:
    """Whether a path is in what has a key."""
    return path != SINGLE and files.is_within(key_of(path), b"" if key == files.SELF_KEY else key)


def check_plan(
    dataset: Dataset,
    plan: Plan,
    folding: tuple[bool, bool],
    target: FileTree | None = None,
) -> None:
    """Refuses a plan that would lose work or leave the dataset; nothing was written yet.

    Args:
        dataset: What is checked out.
        plan: What is to be done.
        folding: Whether the file system ignores case, and whether it normalizes Unicode.
        target: The version, whose other names are looked at too where names are folded.

    Raises:
        ConflictError: Files on disk hold content that no version knows, or two of the version's
            names are one file on this file system.
        FormatError: The version holds a path that must not be written.
    """
    for path, _ in plan.write:
        if path != SINGLE:
            check_path(path)
    if any(folding):
        case, normalize = folding
        paths = (path for path, _ in plan.write)
        if plan.write and target is not None:
            rows = files.scan(target, dataset.store)
            paths = (_spelled(key, _decoded(key, value)) for key, value in rows)
        same = collisions(paths, case=case, normalize=normalize)
        if same:
            raise ConflictError(
                f"names of {dataset.path} that are one file on this file system:\n"
                + _listing(f"{one!r} and {other!r}" for one, other in same),
                paths=tuple(name for pair in same for name in pair),
                hint="rename one of each pair on a system that tells them apart",
                where=dataset.path,
            )
    if plan.conflicts:
        raise ConflictError(
            f"{len(plan.conflicts)} file(s) of {dataset.path} have changes that no version has:\n"
            + _listing(f"{dataset.path}/{path}" for path in plan.conflicts),
            paths=tuple(sorted(f"{dataset.path}/{path}" for path in plan.conflicts)),
            hint=f"'datastore add {dataset.path}' keeps them, '--force' throws them away",
            where=dataset.path,
        )


def _listing(lines: Iterable[str]) -> str:
    listed = list(lines)
    shown = [f"  {printable(line)}" for line in listed[:_LISTED]]
    if len(listed) > _LISTED:
        shown.append(f"  ... and {len(listed) - _LISTED} more")
    return "\n".join(shown)
