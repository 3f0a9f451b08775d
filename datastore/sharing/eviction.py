"""Keeping the local store below its size limit, at the expense of what a remote has."""

from __future__ import annotations

from datastore.sharing.remotes import open_remote
from datastore.sync.eviction import evict_to
from datastore.sync.remote import Remote
from datastore.workspace.layout import Workspace


def make_room(workspace: Workspace, remote: Remote | None) -> int:
    """Drops packs that a remote has, least recently used first, down to ``store.max_size``.

    Args:
        workspace: Whose store.
        remote: Connected; the default remote is asked where None.

    Returns:
        How many bytes were dropped; 0 where there is no limit, or it is kept already.

    Raises:
        StorageError: The remote cannot be reached.
    """
    limit = workspace.config.max_size
    if limit is None or sum(row.size for row in workspace.store.index.packs()) <= limit:
        return 0
    if remote is not None:
        return evict_to(limit, workspace.store, remote)
    with open_remote(workspace, None) as opened:
        opened.connect(create=False)
        opened.catalog.refresh()
        return evict_to(limit, workspace.store, opened)
