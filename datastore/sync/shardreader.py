"""Index shards, whole: looking up digests, and what each pack holds.

A shard is read with `pread`, a bucket at a time: with a mapping, a file that is cut short or a disk
that fails would end the process, and it would not be quicker.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Collection, Container, Iterator, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path
from struct import Struct
from typing import BinaryIO, Final, Protocol, Self

from datastore.errors import NotFoundError
from datastore.kernel.hashing import Digest, pack_hasher
from datastore.objects.pack import BlockRow, Kind, Sealed
from datastore.storage.failures import storage_error
from datastore.sync.shard import (
    ROW,
    Place,
    ShardPack,
    damaged,
    parse_shard_name,
)
from datastore.sync.shardhead import Row, ShardHead

__all__ = ["Shard", "ShardHead"]

_PIECE: Final = 1024 * 1024
_DIGESTS: Final = Struct("<32s28x")
_ORDINALS: Final = Struct("<32xI24x")
_FIND_PASS: Final = 25
"""A pass over all rows costs about as much as finding one digest for each so many rows."""
_CONTAINS_PASS: Final = 60
"""The same where only the digests are looked at."""


class _Source(Protocol):
    """Where the bytes of a shard come from."""

    def read(self, start: int, length: int) -> bytes:
        """Returns those bytes; fewer where it ends before."""
        ...

    def close(self) -> None: ...


class _Memory:
    def __init__(self, data: bytes) -> None:
        self._data = data

    def read(self, start: int, length: int) -> bytes:
        return self._data[start : start + length]

    def close(self) -> None:
        """There is nothing to let go of."""


class _File:
    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file: BinaryIO = path.open("rb", buffering=0)
        except FileNotFoundError as error:
            raise NotFoundError(f"index shard {path.name} is gone", where=str(path)) from error
        except OSError as error:
            raise storage_error(error, "read", path) from error

    def size(self) -> int:
        try:
            return os.fstat(self._file.fileno()).st_size
        except OSError as error:
            raise storage_error(error, "read", self._path) from error

    def read(self, start: int, length: int) -> bytes:
        try:
            data = os.pread(self._file.fileno(), length, start)
            # The system may return less than there is, above all of more than 2 GiB.
            while len(data) < length:
                more = os.pread(self._file.fileno(), length - len(data), start + len(data))
                if not more:
                    break
                data += more
        except OSError as error:
            raise storage_error(error, "read", self._path) from error
        return data

    def close(self) -> None:
        self._file.close()


class Shard:
    """A whole shard; `of` and `open` make one. May be used from several threads.

    Args:
        name: Its file name.
        source: Where its bytes are read; the shard closes it.
        size: Of all of it, in bytes.

    Raises:
        FormatError: A newer program wrote it, or this is not the name of a shard.
        CorruptionError: Its head is damaged. The rows are checked as they are read.
    """

    def __init__(self, name: str, source: _Source, size: int) -> None:
        self._source = source
        self._size = size
        start = source.read(0, min(size, ShardHead.HEAD_SIZE))
        needed = ShardHead.needed(name, start, size)
        if needed > len(start):
            start += source.read(len(start), needed - len(start))
        self._head = ShardHead(name, start, size)

    @classmethod
    def of(cls, name: str, data: bytes) -> Self:
        """Opens a shard that is in memory; raises what the class does."""
        return cls(name, _Memory(data), len(data))

    @classmethod
    def open(cls, path: Path, *, verify: bool = False) -> Self:
        """Opens a shard that lies on disk under its name.

        Args:
            path: The file.
            verify: Check the file's digest, and every row: for one that was just fetched.

        Raises:
            NotFoundError: There is no such file.
            FormatError: A newer program wrote it, or this is not the name of a shard.
            CorruptionError: It is damaged.
            StorageError: The disk fails.
        """
        parse_shard_name(path.name)
        file = _File(path)
        try:
            size = file.size()
            if size <= ShardHead.HEAD_SIZE:
                # Most are small: these keep no descriptor, of which there are not many.
                shard = cls.of(path.name, file.read(0, size))
                file.close()
            else:
                shard = cls(path.name, file, size)
            if verify:
                shard.check()
        except BaseException:
            file.close()
            raise
        return shard

    def close(self) -> None:
        """Lets go of the file. Fine when called again; nothing else may be called then."""
        self._source.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def name(self) -> str:
        """Its file name."""
        return self._head.name

    @property
    def kind(self) -> Kind:
        """What its packs hold."""
        return self._head.kind

    @property
    def packs(self) -> Sequence[ShardPack]:
        """The packs whose members it lists, sorted by name."""
        return self._head.packs

    @property
    def superseded(self) -> Sequence[str]:
        """File names of the shards whose rows are all in this one, sorted."""
        return self._head.superseded

    @property
    def size(self) -> int:
        """Of its file, in bytes."""
        return self._size

    def __len__(self) -> int:
        return len(self._head)

    def encoded(self) -> bytes:
        """Returns all bytes of its file.

        Raises:
            CorruptionError: They do not have the digest in its name.
            StorageError: The disk fails.
        """
        self.check()
        return self._source.read(0, self._size)

    def find(self, digest: Digest) -> list[Place]:
        """Returns all places of a digest; none where it is not in the shard.

        Raises:
            CorruptionError: The rows are damaged.
            StorageError: The disk fails.
        """
        start, length = self._head.bucket_range(digest)
        if not length:
            return []
        return self._head.find_in_bucket(digest, self._source.read(start, length))

    def find_many(self, digests: Collection[Digest]) -> dict[Digest, list[Place]]:
        """Returns all places of each digest that is in the shard.

        Raises:
            CorruptionError: The rows are damaged.
            StorageError: The disk fails.
        """
        if len(digests) * _FIND_PASS < len(self):
            return {digest: found for digest in digests if (found := self.find(digest))}
        wanted = digests if isinstance(digests, AbstractSet) else set(digests)
        places: dict[Digest, list[Place]] = {}
        for bucket in self.buckets():
            row: Row
            for row in ROW.iter_unpack(bucket):
                if row[0] in wanted:
                    places.setdefault(row[0], []).append(self._head.place(row))
        return places

    def contains_many(self, digests: Collection[Digest]) -> set[Digest]:
        """Returns those of the digests that are in the shard.

        Raises:
            CorruptionError: The rows are damaged.
            StorageError: The disk fails.
        """
        if len(digests) * _CONTAINS_PASS < len(self):
            return {digest for digest in digests if self.find(digest)}
        wanted = digests if isinstance(digests, AbstractSet) else set(digests)
        found: set[Digest] = set()
        for bucket in self.buckets():
            found.update([each for (each,) in _DIGESTS.iter_unpack(bucket) if each in wanted])
        return found

    def digests(self) -> Iterator[Digest]:
        """Yields each digest once, in order.

        Raises:
            CorruptionError: The rows are damaged.
            StorageError: The disk fails.
        """
        last = b""
        for bucket in self.buckets():
            for (digest,) in _DIGESTS.iter_unpack(bucket):
                if digest != last:
                    yield digest
                last = digest

    def buckets(self) -> Iterator[bytes]:
        """Yields the encoded rows, bucket by bucket, held against their checks.

        Raises:
            CorruptionError: The rows are damaged.
            StorageError: The disk fails.
        """
        for number in range(self._head.buckets):
            start, length = self._head.bucket_at(number)
            if length:
                bucket = self._source.read(start, length)
                self._head.check_bucket(number, bucket)
                yield bucket

    def check(self) -> None:
        """Checks the digest in its name, and every row.

        Raises:
            CorruptionError: Something is wrong.
            StorageError: The disk fails.
        """
        hasher = pack_hasher()
        for at in range(0, self._size, _PIECE):
            hasher.update(self._source.read(at, _PIECE))
        if hasher.digest().hex() != parse_shard_name(self.name).digest:
            raise damaged(self.name, "its bytes do not have the digest in its name")
        for number in range(self._head.buckets):
            start, length = self._head.bucket_at(number)
            self._head.check_rows(number, self._source.read(start, length))

    # -- by pack --------------------------------------------------------------------------------

    def members_of(self, pack: str) -> Sealed:
        """Returns a pack's table of contents, as its footer has it.

        Raises:
            NotFoundError: The pack is not in this shard.
            CorruptionError: The rows are damaged, or make no sound table.
            StorageError: The disk fails.
        """
        for sealed in self.listings({pack}):
            return sealed
        raise NotFoundError(f"index shard {self.name} has no pack {pack}", where=self.name)

    def listings(self, wanted: Container[str] | None = None) -> Iterator[Sealed]:
        """Yields the tables of contents of packs, in one pass over the rows.

        Args:
            wanted: Names of packs; all of them where it is not given.

        Raises:
            CorruptionError: The rows are damaged, or make no sound table.
            StorageError: The disk fails.
        """
        ordinals = {
            ordinal
            for ordinal, pack in enumerate(self.packs)
            if wanted is None or pack.name in wanted
        }
        rows: defaultdict[int, bytearray] = defaultdict(bytearray)
        for bucket in self.buckets():
            for at, (ordinal,) in enumerate(_ORDINALS.iter_unpack(bucket)):
                if ordinal in ordinals:
                    rows[ordinal] += bucket[at * ROW.size : (at + 1) * ROW.size]
        for ordinal in sorted(ordinals):
            yield self._sealed(self.packs[ordinal], rows.pop(ordinal, bytearray()))

    def _sealed(self, pack: ShardPack, rows: bytearray) -> Sealed:
        """Puts a pack's table of contents together from its rows."""
        found: list[tuple[int, int, int, Digest, Place]] = []
        row: Row
        for row in ROW.iter_unpack(rows):
            place = self._head.place(row)
            found.append((place.offset, place.within, place.size, row[0], place))
        found.sort()
        blocks: list[BlockRow] = []
        at = 0
        while at < len(found):
            first = found[at][-1]
            members = [each[-1] for each in found[at : at + first.members]]
            within = 0
            for place in members:
                if place[:6] != first[:6] or place.within != within:
                    raise damaged(self.name, f"its rows for pack {pack.name} are wrong")
                within += place.size
            end = blocks[-1].payload + blocks[-1].stored if blocks else 0
            if within != first.raw or len(members) != first.members or first.offset < end:
                raise damaged(self.name, f"its rows for pack {pack.name} do not make blocks")
            blocks.append(BlockRow(*first[1:6]))
            at += first.members
        digests, sizes = [each[3] for each in found], [each[2] for each in found]
        return Sealed(pack.name, self.kind, pack.size, digests, sizes, blocks)
