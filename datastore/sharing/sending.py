"""``push`` and ``status --remote``."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

from datastore.errors import DatastoreError, NotFoundError, StorageError
from datastore.kernel.hashing import Digest, format_digest
from datastore.objects.pack import SUFFIX, Kind
from datastore.progress import Progress
from datastore.sharing.eviction import make_room
from datastore.sharing.remotes import open_remote
from datastore.storage.reasons import NO_DIRECTORY
from datastore.sync.push import push as push_versions
from datastore.sync.remote import Remote
from datastore.sync.results import PushedRoot, PushResult, RemoteDamage, RemoteStatus
from datastore.sync.survey import Version
from datastore.sync.validation import find_lost
from datastore.trees import files
from datastore.trees.closure import needs
from datastore.workspace import history
from datastore.workspace.layout import Workspace


def push(
    workspace: Workspace,
    revs: Sequence[str] | None,
    *,
    all_refs: bool,
    remote: str | None,
    verify: bool,
    read_data: bool,
    progress: Progress,
) -> PushResult:
    """Sends versions; see `Repository.push`."""
    versions = _versions(workspace, revs, all_refs=all_refs)
    with open_remote(workspace, remote) as opened:
        # What a killed process sealed, or another one just now, counts as here.
        workspace.store.check_packs()
        result = push_versions(
            versions,
            workspace.store,
            opened,
            verify=verify or read_data,
            read_data=read_data,
            progress=progress,
        )
        make_room(workspace, opened)
    return result


def _versions(workspace: Workspace, revs: Sequence[str] | None, *, all_refs: bool) -> list[Version]:
    found = history.committed(workspace, None if all_refs else (revs or ("HEAD",)))
    return [Version(*each) for each in found]


def remote_status(
    workspace: Workspace, revs: Sequence[str] | None, *, all_refs: bool, remote: str | None
) -> RemoteStatus:
    """Compares history with a remote; see `Repository.remote_status`."""
    versions = _versions(workspace, revs, all_refs=all_refs)
    distinct = list({version.root: version for version in reversed(versions)}.values())
    with open_remote(workspace, remote) as opened:
        there, damaged = _looked_at(workspace, opened, distinct)
        missing = [version for version in distinct if version.root not in there]
        return RemoteStatus(
            remote=opened.name,
            url=opened.url,
            versions=len(distinct),
            missing=tuple(PushedRoot(v.path, v.rev, format_digest(v.root)) for v in missing),
            damaged=tuple(damaged),
        )


def _looked_at(
    workspace: Workspace, remote: Remote, versions: Sequence[Version]
) -> tuple[set[Digest], list[RemoteDamage]]:
    """Returns the roots that are on a remote, and what of them is not whole."""
    try:
        remote.connect(create=False)
    except (NotFoundError, StorageError) as error:
        absent = isinstance(error, NotFoundError) or error.reason == NO_DIRECTORY
        if remote.is_known or not absent:
            raise
        return set(), []  # nothing was pushed yet
    there = remote.roots()
    remote.catalog.refresh()
    lost = find_lost(remote.storage, remote.catalog.packs(), remote.transfers)
    remote.catalog.lost |= lost
    return there, _damaged(workspace, remote, [v for v in versions if v.root in there])


def _damaged(
    workspace: Workspace, remote: Remote, versions: Sequence[Version]
) -> list[RemoteDamage]:
    """Finds which versions need packs that are gone; a pack that none needs does not matter."""
    damaged = [
        RemoteDamage("", "", name, "this part of the index is damaged on the remote")
        for name in sorted(remote.catalog.damaged)
    ]
    damaged += [
        RemoteDamage("", "", name, "this part of the index is gone from the remote")
        for name in remote.catalog.gone()
    ]
    if not remote.catalog.lost:
        return damaged
    for version in versions:
        needed: dict[Kind, set[Digest]] = defaultdict(set)
        try:
            tree = files.load(version.root, workspace.store)
            for batch in needs(tree, workspace.store):
                needed[Kind.META].update(batch.nodes)
                needed[Kind.DATA].update(digest for digest, _ in batch.chunks)
        except DatastoreError as error:
            damaged.append(RemoteDamage(version.path, version.rev, "", error.message))
            continue
        for kind, digests in needed.items():
            lacking = digests - remote.catalog.contains(digests, kind)
            for pack in sorted(remote.catalog.lost_packs_of(lacking, kind)):
                reason = "the pack is gone from the remote, or is about to be deleted"
                damaged.append(RemoteDamage(version.path, version.rev, pack + SUFFIX, reason))
    return damaged
