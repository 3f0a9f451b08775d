"""Packs made by hand, for tests: sound ones, and ones that lie in one place."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from datastore.kernel.hashing import Digest, pack_hasher
from datastore.objects.codec import Codec, encode
from datastore.objects.pack import (
    BLOCK_ROW,
    CHUNK_ROW,
    HEADER,
    HEADER_MAGIC,
    SIZE_ROW,
    TRAILER,
    TRAILER_MAGIC,
    VERSION,
    Kind,
    PackWriter,
    Sealed,
    pack_path,
    row_check,
)
from tests.kernel.samples import noise, text

NONCE = bytes.fromhex("0123456789abcdef")

JPEG = b"\xff\xd8\xff\xe0" + noise(300, "jpeg")
LABELS = [b'{"image": "%04d.jpg", "class": "cat"}' % number for number in range(12)]


class Block(NamedTuple):
    """A block to be written: its members, and how their bytes are stored."""

    members: Sequence[bytes]
    codec: Codec
    payload: bytes


def raw(*members: bytes) -> Block:
    return Block(members, Codec.RAW, b"".join(members))


def packed(*members: bytes) -> Block:
    """Encodes a block as a session does."""
    codec, payload, _ = encode(members, sum(map(len, members)))
    return Block(members, codec, b"".join(payload))


def small_blocks() -> list[Block]:
    """One chunk alone, many small ones together, and one that is empty."""
    return [raw(JPEG), packed(*LABELS), packed(text(3000)), raw(b"", b"end")]


def write_pack(
    directory: Path, blocks: Sequence[Block], kind: Kind = Kind.DATA, nonce: bytes = NONCE
) -> tuple[Sealed, Path]:
    """Writes a pack below `directory`; returns it and where it lies."""
    directory.mkdir(parents=True, exist_ok=True)
    writer = PackWriter(directory, kind)
    for members, codec, payload in blocks:
        digests = [kind.digest(member) for member in members]
        writer.add_block(digests, list(map(len, members)), codec, (payload,), len(payload))
    sealed = writer.seal(directory, nonce)
    return sealed, pack_path(directory, sealed.name)


def members_of(blocks: Sequence[Block], kind: Kind = Kind.DATA) -> dict[Digest, bytes]:
    return {kind.digest(member): member for block in blocks for member in block.members}


class Parts(NamedTuple):
    """A pack taken apart, so that one field can be made to lie; `join` makes the rest agree."""

    version: int
    kind: int
    flags: int
    body: bytes
    blocks: tuple[tuple[int, int, int, int, int], ...]
    sizes: tuple[int, ...]
    chunks: tuple[tuple[bytes, int, int], ...]
    counts: tuple[int, int]

    def join(self) -> bytes:
        head = HEADER.pack(HEADER_MAGIC, self.version, self.kind, self.flags) + self.body
        footer = b"".join(BLOCK_ROW.pack(*row) for row in self.blocks)
        footer += struct.pack(f"<{len(self.sizes)}I", *self.sizes)
        footer += b"".join(CHUNK_ROW.pack(*row) for row in self.chunks)
        hasher = pack_hasher()
        hasher.update(footer)
        trailer = TRAILER.pack(len(head), len(footer), *self.counts, hasher.digest(), TRAILER_MAGIC)
        return head + footer + trailer

    def write(self, path: Path) -> Path:
        path.write_bytes(self.join())
        return path


def take_apart(data: bytes) -> Parts:
    _, version, kind, flags = HEADER.unpack_from(data)
    offset, _, blocks, chunks, _, _ = TRAILER.unpack(data[-TRAILER.size :])
    sizes_at = offset + blocks * BLOCK_ROW.size
    chunks_at = sizes_at + chunks * SIZE_ROW.size
    return Parts(
        version,
        kind,
        flags,
        data[HEADER.size : offset],
        tuple(BLOCK_ROW.iter_unpack(data[offset:sizes_at])),
        struct.unpack(f"<{chunks}I", data[sizes_at:chunks_at]),
        tuple(CHUNK_ROW.iter_unpack(data[chunks_at : -TRAILER.size])),
        (blocks, chunks),
    )


def chunk_row(digest: Digest, ordinal: int) -> tuple[bytes, int, int]:
    return digest, ordinal, row_check(digest, ordinal)


assert VERSION == 1, "a new version of the format wants a kit of its own"
