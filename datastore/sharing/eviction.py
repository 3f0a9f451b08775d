"""Keeping the local store below its size limit, at the expense of what a remote has."""

from __future__ import annotations

import contextlib
from collections.abc import Container

from datastore.errors import CorruptionError, FormatError, NotFoundError, StorageError
from datastore.kernel.hashing import Digest
from datastore.sharing.remotes import open_remote
from datastore.sync.eviction import evict_to
from datastore.sync.remote import Remote
from datastore.trees import files
from datastore.trees.closure import needs
from datastore.workspace import history
from datastore.workspace.layout import Workspace


def make_room(workspace: Workspace, remote: Remote | None) -> int:
    """Drops packs that a remote has, least recently used first, down to ``store.max_size``.

    Only for what the default remote has: what is read later is looked for there. Where that cannot
    be asked just now, or a version here cannot be read through, nothing is dropped: that room could
    not be made is no reason to call a push or a pull failed, and `verify` says what is damaged.

    Args:
        workspace: Whose store.
        remote: A connected one, to be used if it is the default; that is opened where None.

    Returns:
        How many bytes were dropped; 0 where there is no limit, or it is kept already.
    """
    limit = workspace.config.max_size
    if limit is None or sum(row.size for row in workspace.store.index.packs()) <= limit:
        return 0
    with contextlib.suppress(StorageError, NotFoundError, CorruptionError, FormatError):
        if remote is not None and remote.name == workspace.config.default_remote:
            return _make_room(workspace, remote, limit)
        with open_remote(workspace, None) as opened:
            opened.connect(create=False)
            opened.catalog.refresh()
            return _make_room(workspace, opened, limit)
    return 0


def _make_room(workspace: Workspace, remote: Remote, limit: int) -> int:
    kept = _unacknowledged(workspace, remote.roots())
    return evict_to(limit, workspace.store, remote, kept=kept)


def _unacknowledged(workspace: Workspace, there: Container[Digest]) -> set[Digest]:
    """Lists what the versions need that no root on the remote stands for.

    A push that was interrupted has left packs there, and a gc may take them for garbage. Of a
    version that was never here there is nothing to keep.

    Raises:
        NotFoundError: A version is here in part, so that nobody can say what of it is to stay;
            likewise `CorruptionError` and `FormatError`.
    """
    kept: set[Digest] = set()
    with workspace.store.offline():
        for version in history.versions(workspace, None):
            if version.root in there:
                continue
            try:
                tree = files.load(version.root, workspace.store)
            except NotFoundError:
                continue
            for batch in needs(tree, workspace.store, known=kept):
                kept.update(batch.nodes)
                kept.update(digest for digest, _ in batch.chunks)
    return kept
