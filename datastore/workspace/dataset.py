"""A dataset as it lies in the workspace: where it is, what is remembered of it, what is ignored."""

from __future__ import annotations

import unicodedata
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from datastore.errors import ConflictError, DatastoreError, NotFoundError, StorageError, UsageError
from datastore.objects.store import ObjectStore
from datastore.trees import files
from datastore.trees.files import FileTree
from datastore.workspace.paths import printable
from datastore.workspace.problems import Problem, Trouble
from datastore.workspace.scan import SINGLE, Ignoring, Walk
from datastore.workspace.statcache import StatCache

_LISTED: int = 10


@dataclass(slots=True)
class Dataset:
    """One tracked path of a workspace.

    Args:
        path: Relative to the top of the Git worktree, POSIX.
        top: The directory or file on disk.
        store: Where its versions are.
        cache: What is remembered of its files.
        ignoring: What is left out of it, or None.
    """

    path: str
    top: Path
    store: ObjectStore
    cache: StatCache
    ignoring: Ignoring | None = None

    def walk(self, prefix: str = "") -> Walk:
        """Begins a pass over the files on disk."""
        return Walk(self.top, self.cache, ignoring=self.ignoring, prefix=prefix)

    def remembered(self) -> FileTree | None:
        """Returns the version that the stat cache describes, or None where there is none.

        A cache that names a version which the store no longer has is forgotten.
        """
        if self.cache.root is None:
            return None
        try:
            return files.load(self.cache.root, self.store)
        except NotFoundError:
            self.cache.forget()
            return None

    def exists(self) -> bool:
        """Whether anything lies at the path."""
        return self.top.is_symlink() or self.top.exists()


def key_of(path: str) -> bytes:
    """Returns the dataset key of a path as the file system spells it."""
    return (path if path.isascii() else unicodedata.normalize("NFC", path)).encode()


def keys_within(path: str) -> tuple[bytes, bytes, bytes | None]:
    """Returns the key of a path in the dataset, and the range of what may be at or below it.

    The key decides, by `datastore.trees.files.is_within`; ``""`` is the whole dataset.
    """
    key = key_of(path)
    return key, *files.key_range(key.decode())


def raise_problems(dataset: str, problems: Iterable[Problem]) -> None:
    """Raises one error for all that cannot be part of the dataset; returns if there is nothing.

    Raises:
        ConflictError: A file changed or vanished while it was read.
        StorageError: A file cannot be read.
        UsageError: A file is of a kind, or has a name, that a dataset cannot hold.
    """
    found = sorted(problems)
    if not found:
        return
    paths = [dataset if path == SINGLE else f"{dataset}/{path}" for path, _, _ in found]
    shown = [
        f"  {printable(path)}: {problem.reason}"
        for path, problem in zip(paths[:_LISTED], found, strict=False)
    ]
    if len(found) > _LISTED:
        shown.append(f"  ... and {len(found) - _LISTED} more")
    noun = "file" if len(found) == 1 else "files"
    message = f"{len(found)} {noun} of {printable(dataset)} cannot be added:\n" + "\n".join(shown)
    worst = max(trouble for _, _, trouble in found)
    error: DatastoreError
    if worst is Trouble.BUSY:
        error = ConflictError(
            message,
            paths=tuple(f"{dataset}/{path}" for path, _, _ in found),
            hint="run the command again when nothing writes to them; nothing was recorded",
            where=dataset,
        )
    elif worst is Trouble.UNREADABLE:
        error = StorageError(
            message, hint="check owner and permissions; nothing was recorded", where=dataset
        )
    else:
        error = UsageError(
            message,
            hint="rename or remove them, or list them in .datastoreignore; nothing was recorded",
            where=dataset,
        )
    raise error
