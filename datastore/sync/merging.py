"""Keeping the index of a remote in few shards."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from typing import Final

from datastore.errors import CorruptionError, StorageError
from datastore.objects.pack import Kind
from datastore.sync.keys import INDEX, new_nonce
from datastore.sync.remote import Remote
from datastore.sync.shard import shard_name
from datastore.sync.shardmerge import merge_shards

MOST_SHARDS: Final = 16
"""Of a kind; with more, small ones are merged. Each costs a fresh clone a request."""
MERGED_SIZE: Final = 48 * 1024 * 1024
"""Bytes that a merged shard has at most, about: 800,000 rows."""


def merge_small_shards(remote: Remote) -> None:
    """Merges shards of which there are many; what keeps it from doing so leaves them as they are.

    The new shard stands before the old ones go, and names them, so that a reader who listed the old
    ones finds everything; one who asks for a shard that is gone lists again.
    """
    for kind in Kind:
        names = remote.catalog.shard_names(kind)
        if len(names) <= MOST_SHARDS:
            continue
        # The push is over. That the index is untidy must not make it look as if it had failed.
        with contextlib.suppress(StorageError, CorruptionError):
            _merge(remote, kind, _smallest(names))


def _smallest(names: Mapping[str, int]) -> list[str]:
    chosen, total = [], 0
    for name, size in sorted(names.items(), key=lambda each: each[1]):
        total += size
        if total > MERGED_SIZE:
            break
        chosen.append(name)
    return chosen


def _merge(remote: Remote, kind: Kind, names: list[str]) -> None:
    if len(names) <= MOST_SHARDS // 2:
        return  # large ones: they are fetched in parts, if at all
    # The rows of lost packs too: that a pack is lost is for gc to decide, not for a push.
    shards = remote.catalog.whole_shards(names)
    data = merge_shards(shards) if shards else None
    if data is None:
        return
    merged = [shard.name for shard in shards]
    name = shard_name(data, kind, new_nonce())
    remote.storage.write(INDEX + name, data)
    remote.catalog.adopt(name, data)
    # One that cannot be deleted is left: raising here would end all transfers of the remote.
    for _ in remote.transfers.run(
        lambda old: remote.storage.delete(INDEX + old), merged, lambda _: 0
    ):
        pass
