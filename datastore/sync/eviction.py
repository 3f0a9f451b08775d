"""Choosing packs to drop from the local store: never one that holds what no remote has."""

from __future__ import annotations

from collections.abc import Container

from datastore.kernel.hashing import Digest
from datastore.objects.pack import Kind, pack_path
from datastore.objects.packreader import read_footer
from datastore.objects.store import ObjectStore
from datastore.sync.remote import Remote
from datastore.sync.validation import find_lost


def evict_to(
    limit: int, store: ObjectStore, remote: Remote, *, kept: Container[Digest] = frozenset()
) -> int:
    """Drops packs until the store is no larger than a limit, or nothing more may go.

    A pack may go when all of its members lie in packs that the remote has right now, looked up
    there and not in what is remembered. Those that were read longest ago go first.

    Args:
        limit: In bytes, of all packs together.
        store: What is made smaller.
        remote: Connected, its index fresh.
        kept: What stays whatever the remote has: a version that was not acknowledged yet is not
            kept from a gc there.

    Returns:
        How many bytes were dropped.
    """
    rows = store.index.packs()
    excess = sum(row.size for row in rows) - limit
    if excess <= 0:
        return 0
    catalog = remote.catalog
    catalog.lost |= find_lost(remote.storage, catalog.packs(), remote.transfers)
    there = catalog.packs().keys() - catalog.lost
    dropped: list[str] = []
    for row in sorted(rows, key=lambda row: _last_read(store, row.name)):
        if excess <= 0:
            break
        members = set(read_footer(pack_path(store.packs, row.name)).digests)
        if any(map(kept.__contains__, members)):
            continue
        if row.name not in there and catalog.contains(members, Kind(row.kind)) != members:
            continue
        dropped.append(row.name)
        excess -= row.size
    return store.evict(dropped)


def _last_read(store: ObjectStore, name: str) -> float:
    try:
        return pack_path(store.packs, name).stat().st_mtime
    except FileNotFoundError:
        return 0.0
