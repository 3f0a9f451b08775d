"""Index shards: where the chunks of a remote's packs lie, as one push found it.

The format is in ``docs/reference/format/remote.md``: header, table of packs, table of superseded
shards, fan-out, checks, rows in order of their digests. A shard is immutable and named by its
bytes. Each bucket of rows can be checked by itself, so that a large shard need not be fetched to be
looked into. `datastore.sync.shardreader` reads them.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Final, NamedTuple

from datastore.errors import CorruptionError, FormatError
from datastore.kernel.hashing import Digest, checksum, pack_hasher
from datastore.objects.codec import Codec
from datastore.objects.pack import (
    BLOCK,
    HEADER,
    MAX_BLOCK_CHUNKS,
    MAX_RAW_SIZE,
    SIZE_ROW,
    TRAILER,
    Kind,
    Sealed,
)

SUFFIXES: Final = {Kind.DATA: ".data.idx", Kind.META: ".meta.idx"}

VERSION: Final = 1
MAGIC: Final = b"\x89DSSHRD\n"
SHARD_HEADER: Final = struct.Struct("<8sHBBIIIQQQQQ")
PACK_ROW: Final = struct.Struct("<32s8sI")
NAME_ROW: Final = struct.Struct("<32s8s")
COUNT: Final = struct.Struct("<I")
CHECK: Final = struct.Struct("<Q")
ROW: Final = struct.Struct("<32sIIIIIIHBB")

MAX_ROWS: Final = 1 << 24
"""1 GB of rows, for about half a terabyte of chunks. Who has more writes several shards."""
MAX_NAMES: Final = 1 << 20
"""Of packs in a shard, and of shards that it supersedes."""
MAX_FAN_OUT_BITS: Final = 20
_BUCKET_ROWS: Final = 128
"""On average, at most; at least half of it."""

# Of packs: looked at for every row, so not looked up every time.
_FIRST_BLOCK: Final = HEADER.size
_BLOCK_HEAD: Final = BLOCK.size
_SIZE: Final = SIZE_ROW.size
_PACK_END: Final = TRAILER.size
_RAW: Final = int(Codec.RAW)

_FILE_NAME: Final = re.compile(r"([0-9a-f]{64})-([0-9a-f]{16})(\.data|\.meta)\.idx")


class ShardPack(NamedTuple):
    """A pack whose members stand in a shard."""

    name: str
    size: int
    """In bytes."""


class Place(NamedTuple):
    """Where a chunk or node lies on a remote. Sizes and offsets in bytes."""

    pack: str
    """The pack's name."""
    offset: int
    """Of the block's header, in the pack."""
    stored: int
    """Size of the block's payload."""
    raw: int
    """Size of the block once decoded."""
    members: int
    """Of the block."""
    codec: int
    within: int
    """Of the chunk, in the decoded block."""
    size: int
    """Of the chunk."""

    @property
    def payload(self) -> int:
        """Offset of the block's payload in the pack."""
        return self.offset + _BLOCK_HEAD + _SIZE * self.members

    def fits(self, pack_size: int) -> bool:
        """Tells whether there can be such a block in a pack, and such a member in the block.

        Args:
            pack_size: Of the pack, in bytes.
        """
        _, offset, stored, raw, members, codec, within, size = self
        return (
            0 < members <= MAX_BLOCK_CHUNKS
            and stored <= raw <= MAX_RAW_SIZE
            and within + size <= raw
            and offset >= _FIRST_BLOCK
            and offset + _BLOCK_HEAD + _SIZE * members + stored <= pack_size - _PACK_END
            and (codec != _RAW or stored == raw)
        )


class ShardName(NamedTuple):
    """What the name of a shard's file says."""

    digest: str
    """Of the file, 64 hexadecimal digits."""
    nonce: str
    kind: Kind


class Layout(NamedTuple):
    """What a shard's header says: how many of what, and so where. Offsets and sizes in bytes."""

    kind: Kind
    bits: int
    """The fan-out has two to the power of this many buckets."""
    packs: int
    superseded: int
    rows: int
    check: int
    """Of all between header and rows."""

    @property
    def superseded_at(self) -> int:
        """Offset of the table of superseded shards."""
        return SHARD_HEADER.size + self.packs * PACK_ROW.size

    @property
    def fan_out_at(self) -> int:
        """Offset of the fan-out."""
        return self.superseded_at + self.superseded * NAME_ROW.size

    @property
    def checks_at(self) -> int:
        """Offset of the buckets' checks."""
        return self.fan_out_at + COUNT.size * ((1 << self.bits) + 1)

    @property
    def rows_at(self) -> int:
        """Offset of the rows: the size of all before them."""
        return self.checks_at + CHECK.size * (1 << self.bits)

    @property
    def size(self) -> int:
        """Size of the whole shard."""
        return self.rows_at + self.rows * ROW.size

    def pack_header(self) -> bytes:
        """Encodes the header."""
        head = SHARD_HEADER.pack(
            MAGIC,
            VERSION,
            self.kind,
            0,
            self.bits,
            self.packs,
            self.superseded,
            self.rows,
            self.rows_at,
            self.size,
            self.check,
            0,
        )[: -CHECK.size]
        return head + CHECK.pack(checksum(head))


def damaged(name: str, why: str) -> CorruptionError:
    """Returns the error that says what is wrong with a shard."""
    return CorruptionError(
        f"index shard {name} is damaged: {why}",
        where=name,
        hint="run the command again; if it fails again, push from a clone that has the data",
    )


# -- names ----------------------------------------------------------------------------------------


def shard_name(data: bytes, kind: Kind, nonce: bytes) -> str:
    """Returns the file name of a shard.

    Args:
        data: The whole shard.
        kind: What its packs hold.
        nonce: `NONCE_SIZE` random bytes.
    """
    hasher = pack_hasher()
    hasher.update(data)
    return f"{hasher.digest().hex()}-{nonce.hex()}{SUFFIXES[kind]}"


def parse_shard_name(file_name: str) -> ShardName:
    """Takes apart the name of a shard's file.

    Raises:
        FormatError: It is not 64 and 16 hexadecimal digits, a kind and the suffix.
    """
    match = _FILE_NAME.fullmatch(file_name)
    if match is None:
        raise FormatError(f"{file_name!r} is not the name of an index shard", where=file_name)
    digest, nonce, suffix = match.groups()
    return ShardName(digest, nonce, Kind.DATA if suffix == ".data" else Kind.META)


def _pack_name(name: str) -> tuple[bytes, bytes]:
    digest, _, nonce = name.partition("-")
    return bytes.fromhex(digest), bytes.fromhex(nonce)


# -- writing --------------------------------------------------------------------------------------


def rows_of(sealed: Sealed) -> Iterator[tuple[Digest, Place]]:
    """Yields each member of a pack with its place, in block order."""
    members = zip(sealed.digests, sealed.sizes, strict=True)
    for offset, stored, raw, count, codec in sealed.blocks:
        within = 0
        for _ in range(count):
            digest, size = next(members)
            yield digest, Place(sealed.name, offset, stored, raw, count, codec, within, size)
            within += size


def encode_shard(kind: Kind, packs: Iterable[Sealed], *, superseded: Iterable[str] = ()) -> bytes:
    """Encodes the tables of contents of packs; the same packs in any order make the same bytes.

    Args:
        kind: What all the packs hold.
        packs: Packs without members are left out: nothing is found in them.
        superseded: File names of shards whose rows are all in this one.

    Raises:
        ValueError: There is no member, too many, a pack twice, or one of another kind.
    """
    held = sorted((each for each in packs if each.digests), key=lambda each: each.name)
    if any(each.kind is not kind for each in held):
        raise ValueError("a shard holds packs of one kind")
    return assemble(
        kind,
        [ShardPack(each.name, each.size) for each in held],
        superseded,
        sum(len(each.digests) for each in held),
        _encoded_rows(held),
    )


def _encoded_rows(packs: Iterable[Sealed]) -> Iterator[bytes]:
    pack = ROW.pack
    for ordinal, sealed in enumerate(packs):
        for digest, place in rows_of(sealed):
            _, offset, stored, raw, members, codec, within, size = place
            yield pack(digest, ordinal, offset, stored, raw, within, size, members, codec, 0)


def assemble(
    kind: Kind,
    packs: list[ShardPack],
    superseded: Iterable[str],
    count: int,
    rows: Iterable[bytes],
) -> bytes:
    """Encodes a shard from encoded rows.

    Args:
        kind: What the packs hold.
        packs: Sorted by name.
        superseded: File names of shards.
        count: How many rows there are.
        rows: In any order; the pack's ordinal is its place in `packs`.

    Raises:
        ValueError: There is no row or pack, too many, or a pack twice.
    """
    names = sorted({_superseded_row(name, kind) for name in superseded})
    if not 0 < count <= MAX_ROWS or len(packs) > MAX_NAMES or len(names) > MAX_NAMES:
        raise ValueError(f"{count} rows, {len(packs)} packs and {len(names)} shards are no shard")
    if len({each.name for each in packs}) != len(packs):
        raise ValueError("a pack is given twice")
    bits = fan_out_bits(count)
    shift = 32 - bits
    # A million rows as objects would take three times their size: each bucket is one run of bytes.
    buckets = [bytearray() for _ in range(1 << bits)]
    for row in rows:
        buckets[int.from_bytes(row[:4], "big") >> shift] += row
    checks = []
    for number, bucket in enumerate(buckets):
        bucket[:] = b"".join(sorted(row for (row,) in struct.iter_unpack("60s", bucket)))
        checks.append(checksum(bucket, number))
    counts = accumulate((len(bucket) // ROW.size for bucket in buckets), initial=0)
    tables = b"".join(
        [
            *(PACK_ROW.pack(*_pack_name(name), size) for name, size in packs),
            *names,
            struct.pack(f"<{len(buckets) + 1}I", *counts),
            struct.pack(f"<{len(buckets)}Q", *checks),
        ]
    )
    layout = Layout(kind, bits, len(packs), len(names), count, checksum(tables))
    return b"".join([layout.pack_header(), tables, *buckets])


def _superseded_row(file_name: str, kind: Kind) -> bytes:
    name = parse_shard_name(file_name)
    if name.kind is not kind:
        raise ValueError(f"{file_name} is of another kind")
    return bytes.fromhex(name.digest + name.nonce)


def fan_out_bits(rows: int) -> int:
    """Returns how many leading bits of a digest choose its bucket."""
    return min((-(-rows // _BUCKET_ROWS) - 1).bit_length(), MAX_FAN_OUT_BITS)
