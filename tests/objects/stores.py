"""Short ways to fill a store and to look into it, for tests."""

from __future__ import annotations

from collections.abc import Iterable

from datastore.kernel.hashing import Digest
from datastore.objects.pack import Kind
from datastore.objects.packreader import Block, read_footer, scan_blocks
from datastore.objects.store import ObjectStore


def put(
    store: ObjectStore, chunks: Iterable[bytes] = (), nodes: Iterable[bytes] = ()
) -> list[Digest]:
    """Stores chunks and nodes in one session."""
    with store.session() as session:
        digests = [session.put_chunk(chunk) for chunk in chunks]
        digests += [session.put_node(node) for node in nodes]
        session.commit()
    return digests


def labels(first: int, count: int) -> list[bytes]:
    return [
        b'{"image": "%06d.jpg", "class": "cat"}' % number for number in range(first, first + count)
    ]


def packs_of(store: ObjectStore, kind: Kind | None = None) -> list[str]:
    """Names the packs on disk, of one kind or of all."""
    return [
        path.name for path in store.pack_files() if kind is None or read_footer(path).kind is kind
    ]


def blocks_of(store: ObjectStore) -> list[Block]:
    """All blocks on disk, pack by pack."""
    found = [block for path in store.pack_files() for block in scan_blocks(path)]
    assert all(isinstance(block, Block) for block in found)
    return found
