"""Taking in what comes from another store: whole packs, and single blocks.

Nothing is believed that was not computed here: a pack has to be what its name promises, and the
digests of a block's members are those of its content. Blocks go into local packs as they are, so
nothing is compressed again.
"""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final, NamedTuple

from datastore.errors import CorruptionError
from datastore.kernel.hashing import Digest, pack_hasher
from datastore.objects.codec import Codec, decode
from datastore.objects.pack import (
    META_TARGET_SIZE,
    NONCE_SIZE,
    SUFFIX,
    Kind,
    PackWriter,
    Sealed,
    pack_path,
    parse_name,
)
from datastore.objects.packreader import Block, block_at, block_members, parse_footer
from datastore.objects.store import ObjectStore
from datastore.storage.local import DurableFile, storage_error

_TARGETS: Final = {Kind.DATA: 16 * 1024 * 1024, Kind.META: META_TARGET_SIZE}
"""Bytes of a pack made of single blocks. They stay in memory until it is sealed."""

_AGAIN: Final = "the copy or the way here is damaged: try again, or take it from another copy"


def receive_pack(packs: Path, staging: Path, name: str, data: bytes) -> Sealed:
    """Checks a pack that came from elsewhere and writes it durably under its name.

    The index is left alone: `ObjectStore.enter` takes what this returns. Any number of threads may
    do this at once, also with the same pack.

    Args:
        packs: The directory of packs.
        staging: Where to write aside, on the same file system.
        name: The pack's name.
        data: The whole pack.

    Raises:
        FormatError: `name` is no pack's name, or the pack is of a newer version.
        CorruptionError: The bytes are not what the name promises, or are no pack.
        StorageError: The disk is full or fails; nothing is left behind.
    """
    path = pack_path(packs, parse_name(name + SUFFIX))
    hasher = pack_hasher()
    hasher.update(data)
    expected, actual = name.partition("-")[0], hasher.digest().hex()
    if actual != expected:
        raise CorruptionError(
            f"pack {name} did not arrive as it was stored: "
            "its bytes are not what its name promises",
            expected=expected,
            actual=actual,
            where=name,
            hint=_AGAIN,
        )
    sealed = parse_footer(io.BytesIO(data), path)
    if _size_of(path) != len(data):
        with DurableFile(staging) as file:
            file.write((data,))
            file.publish(path)
    return sealed


def _size_of(path: Path) -> int:
    try:
        return path.stat().st_size
    except FileNotFoundError:
        return -1
    except OSError as error:
        raise storage_error(error, "look at", path) from error


class _Held(NamedTuple):
    """Where a member lies that is in no sealed pack yet."""

    block: Block
    within: int
    size: int


class BlockCollector:
    """Gathers blocks that were fetched one by one into new local packs.

    What was added can be had from `get` until it is sealed, and from the store after that. For the
    thread that reads through the store. Memory is bounded by one pack of each kind.

    Args:
        store: Where the packs go.
    """

    def __init__(self, store: ObjectStore) -> None:
        self._store = store
        self._writers: dict[Kind, PackWriter] = {}
        self._held: dict[Kind, dict[Digest, _Held]] = {kind: {} for kind in Kind}
        self._decoded: tuple[Block, memoryview] | None = None

    def add(self, kind: Kind, data: bytes, *, where: str = "") -> list[tuple[Digest, bytes]]:
        """Takes in a block, unless all that it holds is stored or was added before.

        Args:
            kind: Of the pack that it comes from.
            data: The block's header, size table and payload, and nothing else.
            where: The pack that it comes from, for messages.

        Returns:
            Each member's digest, computed from its content, and its bytes.

        Raises:
            CorruptionError: That is no sound block.
            FormatError: It is stored in a way that this version does not know.
            StorageError: The disk is full or fails.
        """
        block = block_at(data, 0)
        if block is None or block.row.payload + len(block.payload) != len(data):
            origin = f" of pack {where}" if where else ""
            raise CorruptionError(
                f"a block{origin} did not arrive as it was stored", where=where, hint=_AGAIN
            )
        source = Path(where or "another store")
        members = [(digest, bytes(part)) for digest, part in block_members(block, kind, source)]
        digests = [digest for digest, _ in members]
        held = self._held[kind]
        if self._store.missing(digest for digest in digests if digest not in held):
            self._keep(kind, block, digests)
        return members

    def get(self, digest: Digest) -> bytes | None:
        """Returns a member of a block that is not sealed yet; None where there is none."""
        for held in self._held.values():
            found = held.get(digest)
            if found is not None:
                return bytes(self._raw(found.block)[found.within : found.within + found.size])
        return None

    def flush(self) -> None:
        """Makes all that was added durable and findable in the store.

        Raises:
            StorageError: The disk is full or fails.
        """
        for kind in list(self._writers):
            self._seal(kind)

    def discard(self) -> None:
        """Drops what is not sealed yet; harmless when repeated."""
        for kind in list(self._writers):
            self._writers.pop(kind).discard()
            self._forget(kind)

    def _keep(self, kind: Kind, block: Block, digests: Sequence[Digest]) -> None:
        row = block.row
        writer = self._writers.get(kind)
        if writer is not None and not writer.has_room(row.members, row.stored):
            self._seal(kind)
            writer = None
        if writer is None:
            writer = self._writers[kind] = PackWriter(self._store.staging, kind)
        # The writer makes header and table anew, of the same numbers: the block stays as it is.
        writer.add_block(digests, block.sizes, Codec(row.codec), (block.payload,), row.stored)
        within = 0
        for digest, size in zip(digests, block.sizes, strict=True):
            self._held[kind].setdefault(digest, _Held(block, within, size))
            within += size
        if writer.size >= _TARGETS[kind]:
            self._seal(kind)

    def _seal(self, kind: Kind) -> None:
        writer = self._writers.pop(kind)
        try:
            sealed = writer.seal(self._store.packs, os.urandom(NONCE_SIZE))
        finally:
            writer.discard()
            self._forget(kind)
        self._store.enter(sealed)

    def _forget(self, kind: Kind) -> None:
        self._held[kind].clear()
        self._decoded = None

    def _raw(self, block: Block) -> memoryview:
        # Members of one block are asked for one after the other.
        if self._decoded is None or self._decoded[0] is not block:
            raw = decode(block.row.codec, block.payload, block.row.raw, where="a block")
            self._decoded = (block, memoryview(raw))
        return self._decoded[1]
