"""The verbs of `datastore.repository.Repository` that need a remote."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from datastore.progress import SILENT, Progress
from datastore.sharing import bringing, remotes, sending
from datastore.sync.results import FetchResult, PushResult, RemoteStatus
from datastore.workspace.layout import Workspace
from datastore.workspace.remotes import (
    RemoteCheck,
    RemoteInfo,
    add_remote,
    list_remotes,
    remove_remote,
)
from datastore.workspace.steps import PullResult

StrPath = str | os.PathLike[str]


class RemoteVerbs:
    """What a repository does with its remotes.

    Args:
        workspace: The opened workspace.
    """

    def __init__(self, workspace: Workspace) -> None:
        self._workspace = workspace
        self._fetcher = remotes.attach(workspace)

    def remote_add(
        self,
        name: str,
        url: str,
        *,
        options: Mapping[str, str] | None = None,
        default: bool = False,
    ) -> RemoteInfo:
        """Writes a remote into the settings that everybody shares; it is not contacted.

        Args:
            name: What to call it; the first one is the default.
            url: A URL, or the path of a directory.
            options: For the storage, such as ``region``; nothing secret.
            default: Make it the default remote.

        Raises:
            UsageError: Something of that cannot be used, or the name is taken.
        """
        info = add_remote(self._workspace, name, url, options or {}, default=default)
        self._attach()
        return info

    def remotes(self) -> tuple[RemoteInfo, ...]:
        """Lists the remotes that the settings name."""
        return list_remotes(self._workspace)

    def remote_remove(self, name: str) -> None:
        """Takes a remote out of the settings; what is on it stays.

        Raises:
            UsageError: There is no such remote.
        """
        remove_remote(self._workspace, name)
        self._attach()

    def remote_check(self, name: str | None = None) -> RemoteCheck:
        """Tries out whether a remote, the default one where None, can be read and written."""
        return remotes.check_remote(self._workspace, name)

    def push(
        self,
        revs: str | Sequence[str] | None = None,
        *,
        all_refs: bool = False,
        remote: str | None = None,
        verify: bool = False,
        read_data: bool = False,
        progress: Progress = SILENT,
    ) -> PushResult:
        """Sends to a remote all that commits need; what is there already is not sent again.

        Args:
            revs: Revisions, each with its history, and ranges; HEAD where None.
            all_refs: All branches and tags instead.
            remote: Its name; the default remote where None.
            verify: Look whether all that was sent before is still there, and send again what is
                not.
            read_data: Also read every pack on the remote back, and send again what is damaged.
            progress: Told of bytes sent.

        Raises:
            NotFoundError: No such revision, or a version is neither here nor there.
            CorruptionError: A pack here is damaged; nothing of it is sent.
            StorageError: The remote cannot be reached, or refuses.
        """
        return sending.push(
            self._workspace,
            _words(revs),
            all_refs=all_refs,
            remote=remote,
            verify=verify,
            read_data=read_data,
            progress=progress,
        )

    def fetch(
        self,
        revs: str | Sequence[str] | None = None,
        paths: StrPath | Sequence[StrPath] = (),
        *,
        all_refs: bool = False,
        remote: str | None = None,
        progress: Progress = SILENT,
    ) -> FetchResult:
        """Brings versions into the store; the workspace stays as it is.

        Args:
            revs: Revisions; the pointers in the workspace where None.
            paths: Datasets or paths in them; all datasets where empty.
            all_refs: All versions of all branches and tags.
            remote: Its name; the default remote where None.
            progress: Told of bytes fetched.

        Raises:
            NotFoundError: No such revision or path, or the remote lacks a version.
            StorageError: The remote cannot be reached.
        """
        return bringing.fetch(
            self._workspace,
            _words(revs),
            self._relative(paths),
            all_refs=all_refs,
            remote=remote,
            progress=progress,
        )

    def pull(
        self,
        rev: str | None = None,
        paths: StrPath | Sequence[StrPath] = (),
        *,
        out: StrPath | None = None,
        force: bool = False,
        remote: str | None = None,
        progress: Progress = SILENT,
    ) -> PullResult:
        """Brings a version's files into the workspace, fetching only what is missing.

        Args:
            rev: The revision; the pointers in the workspace where None.
            paths: Datasets or paths in them; all datasets where empty.
            out: Write below this directory instead, and leave the workspace alone.
            force: Replace files whose content no version has.
            remote: Its name; the default remote where None.
            progress: Told of bytes fetched and written.

        Raises:
            ConflictError: Files would be lost; nothing was changed.
            NotFoundError: No such revision or path, or the remote lacks a version.
            CorruptionError: Something on the remote is damaged; every other file was written.
            StorageError: The remote cannot be reached.
        """
        return bringing.pull(
            self._workspace,
            rev,
            self._relative(paths),
            out=Path(out) if out is not None else None,
            force=force,
            remote=remote,
            progress=progress,
        )

    def remote_status(
        self,
        revs: str | Sequence[str] | None = None,
        *,
        all_refs: bool = False,
        remote: str | None = None,
    ) -> RemoteStatus:
        """Says which versions of the history are not on a remote, or no longer whole there.

        Args:
            revs: See `push`.
            all_refs: See `push`.
            remote: Its name; the default remote where None.

        Raises:
            NotFoundError: No such revision, or nothing was ever pushed.
            StorageError: The remote cannot be reached.
        """
        return sending.remote_status(
            self._workspace, _words(revs), all_refs=all_refs, remote=remote
        )

    def _attach(self) -> None:
        """Lets reading fetch from what is the default remote now."""
        if self._fetcher is not None:
            self._fetcher.close()
        self._workspace.store.source = None
        self._fetcher = remotes.attach(self._workspace)

    def _relative(self, paths: StrPath | Sequence[StrPath]) -> list[str]:
        listed = [paths] if isinstance(paths, str | os.PathLike) else list(paths)
        return [self._workspace.relative(path) for path in listed]


def _words(revs: str | Sequence[str] | None) -> list[str] | None:
    if revs is None:
        return None
    return [revs] if isinstance(revs, str) else list(revs)
