"""The head of an index shard: all but its rows, which says where a digest's row must be.

Nothing that a shard says is believed before it is checked: lengths against its size, buckets
against their checks, places against the bounds of packs. What lies at a place is held against its
digest by whoever reads it.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from struct import unpack
from typing import Final, Self, TypeAlias

from datastore.errors import FormatError
from datastore.kernel.hashing import DIGEST_SIZE, Digest, checksum
from datastore.objects.pack import HEADER, TRAILER, Kind
from datastore.objects.packreader import MAX_FILE_SIZE
from datastore.sync.shard import (
    CHECK,
    MAGIC,
    MAX_FAN_OUT_BITS,
    MAX_NAMES,
    MAX_ROWS,
    NAME_ROW,
    PACK_ROW,
    ROW,
    SHARD_HEADER,
    SUFFIXES,
    VERSION,
    Layout,
    Place,
    ShardPack,
    damaged,
    parse_shard_name,
)

Row: TypeAlias = tuple[bytes, int, int, int, int, int, int, int, int, int]
"""Digest, ordinal of the pack, offset, stored, raw, within, size, members, codec, spare."""

_MIN_PACK: Final = HEADER.size + TRAILER.size
_NEWER: Final = "a newer datastore wrote it: pip install --upgrade datastore-ml"


class ShardHead:
    """All of a shard but its rows: says where a digest's row must be.

    For a large shard on a remote: fetch `HEAD_SIZE` bytes, then what `needed` says is missing, then
    of the rows only the buckets that are asked for.

    Args:
        name: The shard's file name.
        data: Its first bytes, at least as many as `needed` says.
        size: Of the whole shard, in bytes.

    Raises:
        FormatError: A newer program wrote it, or this is not the name of a shard.
        CorruptionError: It is damaged, or no shard.
    """

    HEAD_SIZE: Final = 64 * 1024
    """Bytes to ask for first: the whole of most shards, the head of almost any."""

    def __init__(self, name: str, data: bytes, size: int) -> None:
        self.name = name
        self._layout = layout = _read_layout(name, data[: SHARD_HEADER.size], size)
        if len(data) < layout.rows_at:
            raise damaged(name, f"it ends at byte {len(data)}")
        if checksum(data[SHARD_HEADER.size : layout.rows_at]) != layout.check:
            raise damaged(name, "its tables do not match their check")
        self.packs: Sequence[ShardPack] = _read_packs(
            name, data[SHARD_HEADER.size : layout.superseded_at]
        )
        self.superseded: Sequence[str] = _read_superseded(
            name, data[layout.superseded_at : layout.fan_out_at], layout.kind
        )
        self._counts = unpack(
            f"<{(1 << layout.bits) + 1}I", data[layout.fan_out_at : layout.checks_at]
        )
        if (
            self._counts[0]
            or self._counts[-1] != layout.rows
            or any(one > other for one, other in pairwise(self._counts))
        ):
            raise damaged(name, "its fan-out is wrong")
        self._checks = data[layout.checks_at : layout.rows_at]
        self._shift = 32 - layout.bits
        self._rows_at = layout.rows_at

    @classmethod
    def needed(cls, name: str, data: bytes, size: int) -> int:
        """Returns how many bytes the head has, as the header says that is at the start of `data`.

        Raises:
            FormatError: A newer program wrote it, or this is not the name of a shard.
            CorruptionError: It is damaged, or no shard; never more than `size` is asked for.
        """
        return _read_layout(name, data[: SHARD_HEADER.size], size).rows_at

    @classmethod
    def parse(cls, name: str, data: bytes, size: int) -> Self:
        """Reads a head; see the class."""
        return cls(name, data, size)

    @property
    def kind(self) -> Kind:
        """What the packs hold."""
        return self._layout.kind

    def __len__(self) -> int:
        return self._layout.rows

    @property
    def buckets(self) -> int:
        """How many buckets there are."""
        return 1 << self._layout.bits

    def bucket_of(self, digest: Digest) -> int:
        """Returns the number of the bucket in which a digest's rows are."""
        return int.from_bytes(digest[:4], "big") >> self._shift

    def bucket_at(self, number: int) -> tuple[int, int]:
        """Returns where a bucket lies in the shard: offset and length in bytes."""
        start = self._counts[number]
        return self._rows_at + start * ROW.size, (self._counts[number + 1] - start) * ROW.size

    def bucket_range(self, digest: Digest) -> tuple[int, int]:
        """Returns where the bucket of a digest lies: offset and length in bytes.

        A length of 0 says that the digest is not in the shard. A bucket has some 10 KB, but a
        hostile shard may have all its rows in one.
        """
        return self.bucket_at(self.bucket_of(digest))

    def check_bucket(self, number: int, bucket: bytes) -> None:
        """Holds the bytes of a bucket against its check.

        Raises:
            CorruptionError: They are others, or too few.
        """
        if (
            len(bucket) != self.bucket_at(number)[1]
            or checksum(bucket, number) != CHECK.unpack_from(self._checks, number * CHECK.size)[0]
        ):
            raise damaged(self.name, f"rows {self._counts[number]} and on do not match their check")

    def find_in_bucket(self, digest: Digest, bucket: bytes) -> list[Place]:
        """Returns all places of a digest.

        Args:
            digest: What is looked for.
            bucket: The bytes of `bucket_range`.

        Raises:
            CorruptionError: They are damaged, or a place is out of bounds.
        """
        self.check_bucket(self.bucket_of(digest), bucket)
        places = []
        at = _first(digest, bucket)
        while bucket[at : at + DIGEST_SIZE] == digest:
            places.append(self.place(ROW.unpack_from(bucket, at)))
            at += ROW.size
        return places

    def place(self, row: Row) -> Place:
        """Turns a row into the place that it names.

        Raises:
            CorruptionError: No member of a pack can be there.
        """
        _, ordinal, offset, stored, raw, within, size, members, codec, spare = row
        if ordinal < len(self.packs) and not spare:
            pack = self.packs[ordinal]
            place = Place(pack.name, offset, stored, raw, members, codec, within, size)
            if place.fits(pack.size):
                return place
        raise damaged(self.name, f"the place of {row[0].hex()} is out of bounds")

    def check_rows(self, number: int, bucket: bytes) -> None:
        """Checks all of a bucket: order, and every place.

        Raises:
            CorruptionError: Something is wrong.
        """
        self.check_bucket(number, bucket)
        last = b""
        for at in range(0, len(bucket), ROW.size):
            row = bucket[at : at + ROW.size]
            if row < last or self.bucket_of(row) != number:
                raise damaged(
                    self.name, f"row {self._counts[number] + at // ROW.size} is misplaced"
                )
            self.place(ROW.unpack(row))
            last = row


def _first(digest: Digest, bucket: bytes) -> int:
    """Returns the offset of the first row that is not below a digest."""
    low, high = 0, len(bucket) // ROW.size
    while low < high:
        middle = (low + high) // 2
        at = middle * ROW.size
        if bucket[at : at + DIGEST_SIZE] < digest:
            low = middle + 1
        else:
            high = middle
    return low * ROW.size


def _read_layout(name: str, header: bytes, size: int) -> Layout:
    """Checks a header.

    Args:
        name: The shard's file name, for messages; its kind must be the header's.
        header: The shard's first bytes.
        size: Of the whole shard, in bytes: nothing in it is larger.

    Raises:
        FormatError: A newer program wrote it.
        CorruptionError: It is damaged, or no shard.
    """
    expected = parse_shard_name(name).kind
    if len(header) < SHARD_HEADER.size:
        raise damaged(name, f"it has {len(header)} bytes")
    magic, version, kind, flags, bits, packs, superseded, rows, _, _, check, _ = (
        SHARD_HEADER.unpack_from(header)
    )
    if magic != MAGIC:
        raise damaged(name, "it does not begin as an index shard")
    if version != VERSION or flags:
        raise FormatError(
            f"index shard {name} has format {version} (flags {flags}); this version knows 1",
            hint=_NEWER,
            where=name,
        )
    if (
        kind != expected
        or bits > MAX_FAN_OUT_BITS
        or not 0 < rows <= MAX_ROWS
        or packs > MAX_NAMES
        or superseded > MAX_NAMES
    ):
        raise damaged(name, "its header is out of bounds")
    layout = Layout(expected, bits, packs, superseded, rows, check)
    # Written again, the header must be the same: that is its check and every derived field.
    if layout.pack_header() != header[: SHARD_HEADER.size]:
        raise damaged(name, "its header does not match its check")
    if layout.size != size:
        raise damaged(name, f"it has {size} of {layout.size} bytes")
    return layout


def _read_packs(name: str, table: bytes) -> list[ShardPack]:
    """Reads the table of packs.

    Raises:
        CorruptionError: It is not sorted, or a pack's size is out of bounds.
    """
    packs = [
        ShardPack(f"{digest.hex()}-{nonce.hex()}", size)
        for digest, nonce, size in PACK_ROW.iter_unpack(table)
    ]
    if not _increasing([each.name for each in packs]) or not all(
        _MIN_PACK <= each.size <= MAX_FILE_SIZE for each in packs
    ):
        raise damaged(name, "its table of packs is wrong")
    return packs


def _read_superseded(name: str, table: bytes, kind: Kind) -> list[str]:
    """Reads the table of superseded shards: their file names.

    Raises:
        CorruptionError: It is not sorted.
    """
    names = [
        f"{digest.hex()}-{nonce.hex()}{SUFFIXES[kind]}"
        for digest, nonce in NAME_ROW.iter_unpack(table)
    ]
    if not _increasing(names):
        raise damaged(name, "its table of superseded shards is not sorted")
    return names


def _increasing(names: list[str]) -> bool:
    return all(one < other for one, other in pairwise(names))
