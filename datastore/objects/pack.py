"""The pack file: many blocks of chunks or nodes, immutable, able to describe itself.

The format is in ``docs/reference/format/pack.md``: header, blocks, footer, trailer. A pack is named
by the digest of its bytes and a nonce that is never used again.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from enum import IntEnum
from pathlib import Path
from typing import Final, NamedTuple

from datastore.errors import FormatError
from datastore.kernel.hashing import (
    Digest,
    checksum,
    checksum_parts,
    chunk_digest,
    node_digest,
    pack_hasher,
)
from datastore.objects.codec import Codec, Part
from datastore.storage.local import DurableFile

TARGET_SIZE: Final = 32 * 1024 * 1024
META_TARGET_SIZE: Final = 4 * 1024 * 1024
MAX_SIZE: Final = 48 * 1024 * 1024
MAX_RAW_SIZE: Final = 16 * 1024 * 1024
"""No block is larger once decoded: the bound that holds before memory is allocated."""
MAX_BLOCK_CHUNKS: Final = 4096
FULL_MEMBERS: Final = 150_000
"""A pack of so many members is full: whoever reads its table holds them all in memory."""
NONCE_SIZE: Final = 8
SUFFIX: Final = ".pack"

VERSION: Final = 1
HEADER: Final = struct.Struct("<8sHBB4x")
HEADER_MAGIC: Final = b"\x89DSPACK\n"
BLOCK: Final = struct.Struct("<4sBxHIIQ")
BLOCK_MAGIC: Final = b"DSB1"
BLOCK_ROW: Final = struct.Struct("<IIIHBx")
SIZE_ROW: Final = struct.Struct("<I")
CHUNK_ROW: Final = struct.Struct("<32sII")
TRAILER: Final = struct.Struct("<QQII32s8s")
TRAILER_MAGIC: Final = b"DSPKEND\n"


class Kind(IntEnum):
    """What a pack holds; a digest is keyed by it."""

    DATA = 1
    META = 2

    def digest(self, data: Part) -> Digest:
        """Names a member of such a pack."""
        return chunk_digest(data) if self is Kind.DATA else node_digest(data)


class Location(NamedTuple):
    """Where a chunk lies: all that one exact read needs. Sizes and offsets in bytes."""

    offset: int
    """Of the block's payload, in the pack."""
    stored: int
    """Size of the block's payload."""
    raw: int
    """Size of the block once decoded."""
    within: int
    """Of the chunk, in the decoded block."""
    size: int
    """Of the chunk."""
    codec: int


class BlockRow(NamedTuple):
    """One row of the footer's block table. Sizes and offsets in bytes."""

    offset: int
    """Of the block's header, in the pack."""
    stored: int
    raw: int
    members: int
    codec: int

    @property
    def payload(self) -> int:
        """Offset of the payload in the pack."""
        return self.offset + BLOCK.size + SIZE_ROW.size * self.members


class Sealed(NamedTuple):
    """A pack that lies durably under its name, and its table of contents."""

    name: str
    kind: Kind
    size: int
    """In bytes."""
    digests: Sequence[Digest]
    """Of its members, in block order."""
    sizes: Sequence[int]
    """Of its members, in bytes, in block order."""
    blocks: Sequence[BlockRow]

    @property
    def chunks(self) -> list[tuple[Digest, Location]]:
        """Each member with its place, in block order."""
        return list(zip(self.digests, locate(self.blocks, self.sizes), strict=True))


def block_check(
    codec: int, count: int, raw: int, stored: int, table: Part, payload: Sequence[Part]
) -> int:
    """Covers a block's header, size table and payload against bit rot; 64 bits."""
    head = BLOCK.pack(BLOCK_MAGIC, codec, count, raw, stored, 0)
    return checksum_parts(payload, checksum(head + table))


def row_check(digest: Digest, ordinal: int) -> int:
    """Checks one row of the footer's chunk table, 32 bits."""
    return checksum(digest, ordinal) & 0xFFFFFFFF


class PackWriter:
    """Writes one pack aside; `seal` gives it its name.

    Args:
        directory: Where to write aside, on the same file system as `packs`.
        kind: What the pack holds.
    """

    def __init__(self, directory: Path, kind: Kind) -> None:
        self.kind = kind
        self._file = DurableFile(directory)
        self._hasher = pack_hasher()
        self._blocks: list[BlockRow] = []
        self._digests: list[Digest] = []
        self._sizes: list[int] = []
        self._size = 0
        self._append((HEADER.pack(HEADER_MAGIC, VERSION, kind, 0),))

    def discard(self) -> None:
        """Removes what was written aside; does nothing after `seal`."""
        self._file.discard()

    @property
    def size(self) -> int:
        """Bytes that the pack will have if it is sealed now."""
        return (
            self._size
            + len(self._blocks) * BLOCK_ROW.size
            + len(self._digests) * (SIZE_ROW.size + CHUNK_ROW.size)
            + TRAILER.size
        )

    def has_room(self, members: int, stored: int) -> bool:
        """Tells whether one block more fits into the pack.

        Args:
            members: Of the block.
            stored: Size of its payload in bytes.
        """
        if self._digests and len(self._digests) + members > FULL_MEMBERS:
            return False
        rows = BLOCK_ROW.size + members * (2 * SIZE_ROW.size + CHUNK_ROW.size)
        return self.size + BLOCK.size + rows + stored <= MAX_SIZE

    def add_block(
        self,
        digests: Sequence[Digest],
        sizes: Sequence[int],
        codec: Codec,
        payload: Sequence[Part],
        stored: int,
    ) -> None:
        """Appends a block.

        Args:
            digests: Of its chunks, in order.
            sizes: Of its chunks, in bytes.
            codec: How the payload is stored.
            payload: Its parts.
            stored: Their total size in bytes.

        Raises:
            StorageError: The disk is full or fails.
        """
        raw = sum(sizes)
        row = BlockRow(self._size, stored, raw, len(digests), codec)
        table = struct.pack(f"<{len(sizes)}I", *sizes)
        check = block_check(codec, len(sizes), raw, stored, table, payload)
        head = BLOCK.pack(BLOCK_MAGIC, codec, len(digests), raw, stored, check)
        self._append((head + table, *payload))
        self._blocks.append(row)
        self._digests.extend(digests)
        self._sizes.extend(sizes)

    def seal(self, packs: Path, nonce: bytes) -> Sealed:
        """Writes footer and trailer and publishes the pack durably.

        Args:
            packs: The directory of packs.
            nonce: `NONCE_SIZE` random bytes.

        Raises:
            StorageError: The disk is full or fails; nothing is published.
        """
        footer = self._footer()
        hasher = pack_hasher()
        hasher.update(footer)
        trailer = TRAILER.pack(
            self._size,
            len(footer),
            len(self._blocks),
            len(self._digests),
            hasher.digest(),
            TRAILER_MAGIC,
        )
        self._append((footer, trailer))
        name = f"{self._hasher.digest().hex()}-{nonce.hex()}"
        self._file.publish(pack_path(packs, name))
        return Sealed(name, self.kind, self._size, self._digests, self._sizes, self._blocks)

    def _append(self, parts: Sequence[Part]) -> None:
        self._file.write(parts)
        for part in parts:
            self._hasher.update(part)
            self._size += len(part)

    def _footer(self) -> bytes:
        blocks = b"".join([BLOCK_ROW.pack(*row) for row in self._blocks])
        sizes = struct.pack(f"<{len(self._sizes)}I", *self._sizes)
        ordered = sorted(range(len(self._digests)), key=self._digests.__getitem__)
        chunks = b"".join(
            [
                CHUNK_ROW.pack(
                    self._digests[ordinal], ordinal, row_check(self._digests[ordinal], ordinal)
                )
                for ordinal in ordered
            ]
        )
        return blocks + sizes + chunks


def locate(blocks: Sequence[BlockRow], sizes: Sequence[int]) -> list[Location]:
    """Computes each chunk's location from the block table and the chunk sizes, in block order."""
    locations = []
    ordinal = 0
    for row in blocks:
        payload = row.payload
        within = 0
        for size in sizes[ordinal : ordinal + row.members]:
            locations.append(Location(payload, row.stored, row.raw, within, size, row.codec))
            within += size
        ordinal += row.members
    return locations


def pack_path(packs: Path, name: str) -> Path:
    """Returns where a pack lies: 256 directories by the first two digits of its name."""
    return packs / name[:2] / (name + SUFFIX)


def parse_name(file_name: str) -> str:
    """Returns the pack's name from its file name.

    Raises:
        FormatError: It is not 64 and 16 hexadecimal digits and the suffix.
    """
    name = file_name.removesuffix(SUFFIX)
    digest, _, nonce = name.partition("-")
    if (
        file_name == name
        or len(digest) != 2 * 32
        or len(nonce) != 2 * NONCE_SIZE
        or not set(digest + nonce) <= set("0123456789abcdef")
    ):
        raise FormatError(f"{file_name!r} is not the name of a pack", where=file_name)
    return name
