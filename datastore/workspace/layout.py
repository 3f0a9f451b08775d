"""One workspace: its Git worktree, its store, and the way from a path to a dataset."""

from __future__ import annotations

import errno
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple

from datastore import config
from datastore.errors import CorruptionError, FormatError, NotFoundError, UsageError
from datastore.kernel.hashing import checksum
from datastore.objects.store import ObjectStore
from datastore.storage.local import is_network, storage_error, write_durably
from datastore.storage.lock import FileLock
from datastore.trees import files
from datastore.trees.files import FileTree
from datastore.workspace.dataset import Dataset
from datastore.workspace.git import Git
from datastore.workspace.ignore import Ignore
from datastore.workspace.paths import printable
from datastore.workspace.pointer import Pointer, data_path, pointer_path
from datastore.workspace.statcache import StatCache

STORE_NAME: Final = "datastore"
"""Of the store's directory inside Git's common directory."""
STAGING_NAME: Final = "tmp"
"""Of the directory in ``.datastore`` where files are written aside; Git ignores it."""
_MAX_POINTER: Final = 16 * 1024 * 1024
"""Bytes that are read: far more than a pointer has, also one that lists the conflicts of a merge,
and far less than data that is named like one may have."""
LOCK_TIMEOUT: Final = 600.0
"""Seconds to wait for another command that writes to the workspace."""


class Place(NamedTuple):
    """Where a path leads."""

    dataset: str
    """Path of the dataset in the workspace."""
    inner: str
    """Path inside the dataset; ``""`` for the dataset itself."""


def initialize(top: Path) -> None:
    """Writes the committed files of a workspace that are not there yet.

    Raises:
        StorageError: They cannot be written.
    """
    project = top / config.DIRECTORY
    try:
        project.mkdir(exist_ok=True)
    except OSError as error:
        raise storage_error(error, "make the directory", project) from error
    settings = config.project_text(config.new_repository())
    texts = {config.PROJECT_FILE: settings, ".gitignore": f"/{STAGING_NAME}/\n"}
    for name, text in texts.items():
        if not (project / name).exists():
            write_durably(project / name, text.encode())


class Workspace:
    """A Git worktree with datasets.

    Args:
        git: The worktree.
        directory: Where relative paths start; inside the worktree.
        index_directory: On a local disk; the index lies below it if the repository is on a network
            file system, and is not looked at otherwise.
    """

    def __init__(self, git: Git, directory: Path, *, index_directory: Path | None = None) -> None:
        self.git = git
        self.top = git.worktree
        self.directory = directory
        self.project_directory = self.top / config.DIRECTORY
        self.staging = self.project_directory / STAGING_NAME
        self.home = home = git.common_dir / STORE_NAME
        self.config = config.load(
            self.project_directory / config.PROJECT_FILE, home / config.LOCAL_FILE
        )
        self.store_directory = self.config.store_path or home
        self.store = ObjectStore(
            self.store_directory,
            index_directory=self._index_directory(home, index_directory),
        )

    def close(self) -> None:
        """Closes the store and the process that reads Git's objects."""
        self.store.close()
        self.git.close()

    def _index_directory(self, home: Path, given: Path | None) -> Path:
        home.mkdir(parents=True, exist_ok=True)
        # LMDB maps the file into memory and locks it: neither works over a network.
        if not is_network(home):
            return home / "index"
        if given is None:
            raise UsageError(
                f"{home} is on a network file system, where the index must not lie",
                hint="pass index_directory=, a directory on a local disk",
                where=str(home),
            )
        return given / f"{checksum(os.fsencode(home)):016x}"

    def lock(self) -> FileLock:
        """Returns the lock that commands take while they change pointers."""
        return self._lock("workspace.lock", shared=False)

    def files_lock(self, *, shared: bool) -> FileLock:
        """Returns the lock on the files of datasets; taken before `lock` where both are needed.

        Args:
            shared: To read files that no `checkout` may change meanwhile, beside others who read;
                otherwise to change them.
        """
        return self._lock("files.lock", shared=shared)

    def _lock(self, name: str, *, shared: bool) -> FileLock:
        directory = self.git.git_dir / STORE_NAME
        try:
            directory.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise storage_error(error, "make the directory", directory) from error
        return FileLock(directory / name, command=" ".join(sys.orig_argv[:6]), shared=shared)

    def relative(self, path: str | os.PathLike[str]) -> str:
        """Returns a path relative to the worktree's top, POSIX; ``""`` is the top itself.

        The last component is not resolved, so that a link stays a link.

        Raises:
            UsageError: The path is not in the worktree.
        """
        given = Path(os.path.normpath(self.directory / path))
        for base in (given, given.parent.resolve() / given.name):
            if base.is_relative_to(self.top):
                found = base.relative_to(self.top).as_posix()
                return "" if found == "." else found
        raise UsageError(
            f"{os.fspath(path)!r} is not in the workspace {self.top}", where=os.fspath(path)
        )

    def dataset_paths(self, rev: str | None = None) -> list[str]:
        """Lists datasets by their pointers, in the workspace or at a revision."""
        pointers = self.git.workspace_pointers() if rev is None else self.git.pointers(rev)
        return [data_path(pointer) for pointer in pointers]

    def pointer_data(self, path: str, rev: str | None = None) -> bytes | None:
        """Returns the bytes of a dataset's pointer, or None where there is none.

        Raises:
            StorageError: It cannot be read.
        """
        name = pointer_path(path)
        if rev is not None:
            return self.git.read(rev, name)
        at = self.top / name
        try:
            # A link is no pointer; and a fifo of that name would be waited for.
            if not stat.S_ISREG(at.lstat().st_mode):
                return None
            with at.open("rb") as file:
                return file.read(_MAX_POINTER)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno == errno.ENAMETOOLONG:
                return None
            raise storage_error(error, "read", at) from error

    def pointer(self, path: str, rev: str | None = None) -> Pointer | None:
        """Reads a dataset's pointer, in the workspace or at a revision.

        Raises:
            FormatError: It is malformed.
            ConflictError: It holds Git's conflict markers.
        """
        data = self.pointer_data(path, rev)
        name = pointer_path(path)
        where = f"{rev}:{name}" if rev else name
        return Pointer.decode(data, where=where) if data is not None else None

    def version(self, path: str, rev: str | None = None) -> FileTree | None:
        """Loads the version that a dataset's pointer names, or None where there is no pointer.

        Raises:
            NotFoundError: The store does not have the version.
        """
        pointer = self.pointer(path, rev)
        return self.load(pointer, path, rev) if pointer is not None else None

    def load(self, pointer: Pointer, path: str, rev: str | None = None) -> FileTree:
        """Loads the version that a pointer names.

        Raises:
            NotFoundError: The store does not have the version.
            FormatError: What the pointer names is no version.
            CorruptionError: The version is damaged.
        """
        where = f"{rev}:{path}" if rev else path
        try:
            return files.load(pointer.root, self.store)
        except (FormatError, CorruptionError) as error:
            error.message = f"{printable(where)}: {error.message}"
            raise
        except NotFoundError as error:
            missing = f"the store does not have the version of {path} that " + (
                f"{rev} names" if rev else "its pointer names"
            )
            if self.store.source is not None:
                # The remote was asked, so to pull would not help: it says itself what would.
                raise NotFoundError(
                    f"{missing}: {error.message}", hint=error.hint, where=where
                ) from error
            raise NotFoundError(
                missing,
                hint="bring it here: datastore pull"
                if self.config.default_remote
                else "it was added in another clone and never brought here; add it again there",
                where=where,
            ) from error

    def place(self, path: str, rev: str | None = None) -> Place | None:
        """Finds the dataset that a workspace path is, or is in; None where there is none.

        Datasets are never nested, so the outermost pointer decides: beside a file in a dataset may
        lie data that is named as its pointer would be.
        """
        end = path.find("/")
        while path:
            dataset = path[:end] if end >= 0 else path
            if self.pointer_data(dataset, rev) is not None:
                return Place(dataset, path[len(dataset) + 1 :])
            if end < 0:
                break
            end = path.find("/", end + 1)
        return None

    def places(self, paths: Sequence[str], rev: str | None = None) -> list[Place]:
        """Turns workspace paths into datasets and paths inside them.

        A directory that is no dataset stands for all datasets below it; no path at all stands for
        every dataset. What lies inside another of the paths is left out.

        Raises:
            NotFoundError: A path leads to no dataset.
        """
        found: dict[Place, None] = {}
        for path in paths or ("",):
            place = self.place(path, rev)
            if place is not None:
                found[place] = None
                continue
            below = list(self._below(path, rev))
            if path and not below:
                where = f" at {rev}" if rev else ""
                raise NotFoundError(
                    f"{path!r} is not a dataset, nor in one{where}",
                    hint=f"'datastore add {path}' makes it one; 'datastore ls' lists them",
                    where=path,
                )
            found.update(dict.fromkeys(below))
        return [place for place in found if not any(map(found.__contains__, _around(place)))]

    def _below(self, path: str, rev: str | None) -> Iterator[Place]:
        for dataset in self.dataset_paths(rev):
            if not path or dataset.startswith(path + "/"):
                yield Place(dataset, "")

    def dataset(self, path: str) -> Dataset:
        """Returns a dataset as it lies in the workspace."""
        return Dataset(
            path,
            self.top / path,
            self.store,
            StatCache(self.store.index, f"{self.top}\0{path}"),
            Ignore(self.top, path),
        )


def _around(place: Place) -> Iterator[Place]:
    """Yields the places that a place is part of."""
    inner = place.inner
    while inner:
        inner = inner.rpartition("/")[0]
        yield Place(place.dataset, inner)
