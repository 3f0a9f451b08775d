"""Which versions Git's history names."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from datastore.errors import ConflictError, FormatError, NotFoundError
from datastore.kernel.hashing import Digest
from datastore.workspace.layout import Workspace
from datastore.workspace.pointer import Pointer, data_path, pointer_path

_SHORT = 12


class Recorded(NamedTuple):
    """A version that a commit, or the workspace, names."""

    path: str
    rev: str
    """Abbreviated commit; empty for the workspace."""
    root: Digest


def versions(workspace: Workspace, revs: Sequence[str] | None) -> Iterator[Recorded]:
    """Lists versions, each dataset's in the order of history.

    Args:
        workspace: Where to look.
        revs: Only these revisions; where None, all commits of all refs, and the workspace.

    Raises:
        NotFoundError: There is no such revision.
    """
    if revs is None:
        for path in workspace.dataset_paths():
            data = workspace.pointer_data(path)
            yield from _recorded(path, "", data)
        found = _everywhere(workspace)
    else:
        found = [
            (workspace.git.resolve(rev), path)
            for rev in revs
            for path in workspace.git.pointers(rev)
        ]
    contents = workspace.git.read_many(found)
    for (rev, name), data in sorted(zip(found, contents, strict=True), key=lambda each: each[0][1]):
        yield from _recorded(data_path(name), rev[:_SHORT], data)


def committed(workspace: Workspace, revs: Sequence[str] | None) -> list[Recorded]:
    """Lists the versions that commits need, each dataset's newest first.

    Args:
        workspace: Where to look.
        revs: Revisions, each with its whole history, and ranges ``A..B``, whose last commit counts
            with all its datasets; all refs where None.

    Raises:
        NotFoundError: There is no such revision.
    """
    if revs is None:
        found = _everywhere(workspace)
    else:
        found = [each for rev in revs for each in _history_of(workspace, rev)]
    contents = workspace.git.read_many(found)
    listed = [
        recorded
        for (rev, name), data in zip(found, contents, strict=True)
        for recorded in _recorded(data_path(name), rev[:_SHORT], data)
    ]
    return sorted(listed, key=lambda each: each.path)


def _history_of(workspace: Workspace, rev: str) -> list[tuple[str, str]]:
    old, new = workspace.git.parse_range(rev) if ".." in rev else (None, rev)
    tip = workspace.git.resolve(new)
    walk = [tip] if old is None else [tip, f"^{workspace.git.resolve(old)}"]
    tips = [(tip, path) for path in workspace.git.pointers(tip)]
    return tips + workspace.git.pointer_versions(walk)


def _everywhere(workspace: Workspace) -> list[tuple[str, str]]:
    try:
        return workspace.git.pointer_versions()
    except NotFoundError:
        return []  # no commits yet


def _recorded(path: str, rev: str, data: bytes | None) -> Iterator[Recorded]:
    if data is None:
        return
    try:
        pointer = Pointer.decode(data, where=f"{rev}:{pointer_path(path)}")
    except (FormatError, ConflictError):
        return
    yield Recorded(path, rev, pointer.root)
