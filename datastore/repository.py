"""`Repository`: everything that the command line can do, as one typed object."""

from __future__ import annotations

import io
import os
import platform
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from datastore import config, maintenance
from datastore.errors import FormatError, NotFoundError
from datastore.maintenance import RebuildResult, VerifyResult
from datastore.progress import SILENT, Progress
from datastore.sharing import getting
from datastore.sharing.verbs import RemoteVerbs, StrPath
from datastore.sync.results import FetchResult, PushedRoot, PushResult, RemoteStatus
from datastore.workspace import (
    adding,
    comparing,
    drivers,
    history,
    hooks,
    merging,
    reading,
    restoring,
)
from datastore.workspace.changes import DiffCounts, DiffResult
from datastore.workspace.checkout import CheckedOut
from datastore.workspace.comparing import LogEntry
from datastore.workspace.diagnosis import Check, DoctorResult, diagnose
from datastore.workspace.git import Git
from datastore.workspace.ingest import AddResult
from datastore.workspace.layout import Workspace, initialize
from datastore.workspace.merging import MergeResult
from datastore.workspace.reading import LsEntry
from datastore.workspace.remotes import RemoteCheck, RemoteInfo
from datastore.workspace.status import StatusResult
from datastore.workspace.steps import CheckoutResult, PullResult

__all__ = [
    "AddResult",
    "Check",
    "CheckedOut",
    "CheckoutResult",
    "DiffCounts",
    "DiffResult",
    "DoctorResult",
    "FetchResult",
    "LogEntry",
    "LsEntry",
    "MergeResult",
    "PullResult",
    "PushResult",
    "PushedRoot",
    "RebuildResult",
    "RemoteCheck",
    "RemoteInfo",
    "RemoteStatus",
    "Repository",
    "StatusResult",
    "VerifyResult",
    "get",
]


class Repository(RemoteVerbs):
    """Data versions beside the code, in one Git worktree; a context manager.

    Made by `init` or `open`. Paths are relative to the directory that was opened. An instance
    belongs to one thread; several instances, processes and machines may work at once.

    Args:
        workspace: The opened workspace.
    """

    @classmethod
    def init(
        cls,
        path: StrPath = ".",
        *,
        index_directory: StrPath | None = None,
        program: str = "git-ds",
    ) -> Repository:
        """Begins to version data in the Git repository that `path` is in; fine to call again.

        Writes ``.datastore/config.yaml`` and ``.gitattributes``, and tells Git how to show and
        merge pointers. Nothing is staged or committed.

        Args:
            path: A directory in the worktree.
            index_directory: See `open`.
            program: What Git is to call to show and merge pointers: a name on its PATH, or a path.

        Raises:
            NotFoundError: There is no Git repository.
            StorageError: The files cannot be written.
        """
        git = Git.discover(Path(path))
        initialize(git.worktree)
        drivers.install(git, program=program)
        git.close()
        return cls.open(path, index_directory=index_directory)

    @classmethod
    def open(cls, path: StrPath = ".", *, index_directory: StrPath | None = None) -> Repository:
        """Opens the repository that `path` is in.

        Args:
            path: A directory in the worktree; relative paths start here.
            index_directory: A directory on a local disk: the index of a repository on a network
            file
                system lies there. It is not looked at otherwise.

        Raises:
            NotFoundError: There is no Git repository, or `init` was never run in it.
            FormatError: A newer version made it.
        """
        git = Git.discover(Path(path))
        if not (git.worktree / config.DIRECTORY / config.PROJECT_FILE).exists():
            raise NotFoundError(
                f"no datastore in the Git repository {git.worktree}",
                hint="begin with: datastore init",
                where=str(git.worktree),
            )
        index = Path(index_directory) if index_directory is not None else None
        return cls(Workspace(git, Path(path).resolve(), index_directory=index))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Keeps what was fetched meanwhile, and closes the store."""
        try:
            if self._fetcher is not None:
                self._fetcher.close()
        finally:
            self._workspace.close()

    @property
    def top(self) -> Path:
        """The top of the Git worktree."""
        return self._workspace.top

    def add(self, paths: StrPath | Sequence[StrPath], *, progress: Progress = SILENT) -> AddResult:
        """Stores files and directories as new versions and writes their pointers.

        The user's files are read, never moved, linked or changed. A path inside a dataset renews
        that part only; one that is gone from disk is taken out.

        Args:
            paths: One path or several.
            progress: Told of bytes done.

        Raises:
            NotFoundError: A path does not exist.
            UsageError: A path cannot be a dataset, or holds something that cannot be in one.
            ConflictError: A file changed while it was read.
            StorageError: A file cannot be read, or the store cannot be written.
        """
        return adding.add(self._workspace, self._relative(paths), progress)

    def status(
        self, paths: StrPath | Sequence[StrPath] = (), *, progress: Progress = SILENT
    ) -> StatusResult:
        """Compares the files on disk with the versions that their pointers name.

        Args:
            paths: Datasets, directories of datasets, or paths in a dataset; none for all.
            progress: Told of bytes read.

        Raises:
            NotFoundError: A path leads to no dataset.
            StorageError: A file cannot be read.
        """
        with self._workspace.store.offline():
            return comparing.status(self._workspace, self._relative(paths), progress)

    def diff(
        self,
        old: str | None = None,
        new: str | None = None,
        paths: StrPath | Sequence[StrPath] = (),
        *,
        progress: Progress = SILENT,
    ) -> DiffResult:
        """Compares two versions file by file, or one with the files on disk.

        Args:
            old: A revision, or a range ``A..B`` or ``A...B``; HEAD where None.
            new: A revision; the files on disk where None.
            paths: Only these; all datasets where empty.
            progress: Told of bytes read.

        Raises:
            NotFoundError: No such revision or path, or the store lacks a version.
        """
        return comparing.diff(self._workspace, old, new, self._relative(paths), progress)

    def log(
        self, paths: StrPath | Sequence[StrPath] = (), *, limit: int | None = None
    ) -> Iterator[LogEntry]:
        """Lists the versions in Git's history, newest first.

        Args:
            paths: Datasets; all where empty.
            limit: At most so many entries.

        Raises:
            NotFoundError: There are no commits.
        """
        return comparing.log(self._workspace, self._relative(paths), limit)

    def checkout(
        self,
        rev: str | None = None,
        paths: StrPath | Sequence[StrPath] = (),
        *,
        force: bool = False,
        progress: Progress = SILENT,
    ) -> CheckoutResult:
        """Puts a version's files into the workspace.

        No Git ref moves. With a revision, the pointers of whole datasets follow in the workspace,
        as Git's own ``checkout REV -- PATH`` changes files.

        Args:
            rev: The revision; the pointers in the workspace where None.
            paths: Datasets or paths in them; all datasets where empty.
            force: Replace files whose content no version has.
            progress: Told of bytes written.

        Raises:
            ConflictError: Files would be lost; nothing was changed.
            NotFoundError: No such revision or path, or the store lacks the version.
            CorruptionError: The store is damaged.
        """
        bring = self._fetcher.begin if self._fetcher is not None else None
        return restoring.checkout(
            self._workspace, rev, self._relative(paths), progress, force=force, bring=bring
        )

    def ls(
        self, path: StrPath = "", *, rev: str | None = None, recursive: bool = False
    ) -> Iterator[LsEntry]:
        """Lists datasets, or what is in one.

        Args:
            path: A dataset or a path in one; every dataset where empty.
            rev: The revision; the pointers in the workspace where None.
            recursive: List every file, not one level.

        Raises:
            NotFoundError: No such revision or path, or the store lacks the version.
        """
        return reading.ls(self._workspace, self._path(path), rev, recursive=recursive)

    def open_file(self, path: StrPath, *, rev: str | None = None) -> io.BufferedReader:
        """Opens a stored file for reading: seekable, every byte verified, no checkout needed.

        Args:
            path: A file in a dataset, or a dataset that is a file.
            rev: The revision; the pointers in the workspace where None.

        Raises:
            NotFoundError: No such revision or path, or the store lacks the version.
            UsageError: It is a directory or a link.
        """
        return reading.open_file(self._workspace, self._path(path), rev)

    def read(self, path: StrPath, *, rev: str | None = None) -> bytes:
        """Returns the content of a stored file; see `open_file`."""
        with self.open_file(path, rev=rev) as file:
            return file.read()

    def verify(
        self,
        *,
        revs: Sequence[str] | None = None,
        quick: bool = False,
        progress: Progress = SILENT,
    ) -> VerifyResult:
        """Checks that all that is stored can be read back, and that no version lacks anything.

        What is not here but on the default remote, by its index, is counted as ``elsewhere``.

        Args:
            revs: Revisions; every version in the history of every ref, and the pointers in the
                workspace, where None.
            quick: Leave out the content of the packs.
            progress: Told of bytes read.
        """
        store = self._workspace.store
        elsewhere = self._fetcher.elsewhere if self._fetcher is not None else None
        total = None if quick else sum(path.stat().st_size for path in store.pack_files())
        with progress.task("verify", total, "B") as task:
            verifier = maintenance.Verifier(store, task, quick=quick, elsewhere=elsewhere)
            verifier.check_packs()
            verifier.check_versions(
                maintenance.Version(*each) for each in history.versions(self._workspace, revs)
            )
            return verifier.result()

    def rebuild_index(self, *, progress: Progress = SILENT) -> RebuildResult:
        """Makes the index again from the packs; what is not sound counts as not stored."""
        with progress.task("rebuild the index", None, "B") as task:
            return maintenance.rebuild_index(self._workspace.store, task)

    def doctor(self) -> DoctorResult:
        """Checks that machine, Git and store are set up well."""
        with self._workspace.store.offline():
            return diagnose(self._workspace, f"Python {platform.python_version()}")

    def git_install(self, *, program: str = "git-ds", pre_push: bool = False) -> Path | None:
        """Tells Git in this clone how to show and merge pointers.

        Args:
            program: What Git is to call: a name on its PATH, or a path.
            pre_push: Also let ``git push`` send the data first, by a hook.

        Returns:
            The hook; None where none was asked for.

        Raises:
            ConflictError: There is another pre-push hook; the hint has the line to add to it.
        """
        drivers.install(self._workspace.git, program=program)
        return hooks.install(self._workspace.git, program=program) if pre_push else None

    def git_uninstall(self) -> None:
        """Takes back what `git_install` told Git."""
        drivers.uninstall(self._workspace.git)

    def render_pointer(self, data: bytes) -> str:
        """Renders a pointer with the files of its version, for ``git log -p``."""
        return merging.render_pointer(self._workspace, data)

    def diff_pointers(self, old: bytes | None, new: bytes | None, path: str) -> DiffResult:
        """Compares the versions that two pointers name, for ``git diff``."""
        return comparing.diff_pointers(self._workspace, old, new, path)

    def merge_pointers(self, base: bytes, ours: bytes, theirs: bytes, path: str) -> MergeResult:
        """Merges two versions of a dataset file by file, for ``git merge``."""
        return merging.merge_pointers(self._workspace, base, ours, theirs, path)

    def is_revision(self, text: str) -> bool:
        """Whether a word names a revision, or a range of two."""
        try:
            if ".." in text:
                old, new = self._workspace.git.parse_range(text)
                self._workspace.git.resolve(old)
                text = new
            self._workspace.git.resolve(text)
        except (NotFoundError, ValueError):
            return False
        return True

    def is_tracked(self, path: StrPath) -> bool:
        """Whether a path is a dataset or in one, in the workspace or in HEAD."""
        try:
            relative = self._path(path)
            if self._workspace.place(relative) is not None:
                return True
            return self._workspace.place(relative, "HEAD") is not None
        except (NotFoundError, FormatError, ValueError):
            return False

    def _path(self, path: StrPath) -> str:
        return self._workspace.relative(path) if os.fspath(path) else ""


def get(
    source: str,
    path: str,
    *,
    rev: str | None = None,
    out: StrPath,
    progress: Progress = SILENT,
) -> PullResult:
    """Brings data of a repository that is not cloned here; see `Repository.pull`.

    Args:
        source: A Git URL, or the directory of a clone.
        path: A dataset or a path in one, from the top of that repository.
        rev: The revision; HEAD where None.
        out: The directory below which `path` is written.
        progress: Told of bytes fetched and written.

    Raises:
        NotFoundError: No such repository, revision or path.
        StorageError: Git or the remote cannot be reached.
    """
    return getting.get(source, path, rev, Path(out), progress)
