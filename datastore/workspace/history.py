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
