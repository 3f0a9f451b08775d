"""Reading chunks out of packs whose place is known: one exact read a block, verified.

Packs stay open, a bounded number of them. The first time that one is opened its modification time
is set to now: what was not read for longest is what `ObjectStore.evict` is given first.
"""

from __future__ import annotations

import contextlib
import os
from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Final, TypeAlias

from datastore.errors import CorruptionError, NotFoundError, StorageError
from datastore.kernel.hashing import Digest, format_digest
from datastore.objects.codec import Codec, Part, decode
from datastore.objects.index import Found, Index
from datastore.objects.pack import MAX_RAW_SIZE, Kind, pack_path

OPEN_PACKS: Final = 64

Placed: TypeAlias = tuple[Found, Digest]
"""A digest and where the index says that it lies."""


class BlockReader:
    """Reads blocks of the packs of a store. For one thread at a time.

    Args:
        packs: The directory of packs.
        index: Knows the packs by their numbers.
    """

    def __init__(self, packs: Path, index: Index) -> None:
        self._packs = packs
        self._index = index
        self._names: dict[int, str] = {}
        self._files: OrderedDict[int, int] = OrderedDict()
        self._touched: set[str] = set()

    def close(self) -> None:
        """Closes all packs: one that was removed meanwhile can then no longer be read."""
        while self._files:
            os.close(self._files.popitem()[1])
        self._names.clear()

    def name(self, pack: int) -> str:
        """Returns the name of a pack by its number in the index.

        Raises:
            CorruptionError: The index does not know it.
        """
        if pack not in self._names:
            self._names = {row.number: row.name for row in self._index.packs()}
        try:
            return self._names[pack]
        except KeyError:
            raise CorruptionError(
                f"the index names pack number {pack}, which it does not know",
                where=str(self._index.directory),
                hint="it is a cache: run 'datastore verify --rebuild-index'",
            ) from None

    def read(self, places: Sequence[Placed], kind: Kind) -> list[tuple[Digest, bytes]]:
        """Reads the wanted chunks of one block with one read.

        Args:
            places: All in one block.
            kind: What the digests are to name.

        Raises:
            NotFoundError: The pack is gone, or a digest names something of the other kind.
            CorruptionError: What is stored is not what a digest names.
            StorageError: The disk fails.
        """
        pack, block = places[0][0]
        spans = [found.location for found, _ in places]
        end = max(span.within + span.size for span in spans)
        if not (end <= block.raw <= MAX_RAW_SIZE and block.stored <= block.raw):
            raise self._damage(pack, places[0][1], "")
        start = 0
        if block.codec == Codec.RAW:
            start = min(span.within for span in spans)
            raw: Part = self._read_at(pack, block.offset + start, end - start)
        else:
            payload = self._read_at(pack, block.offset, block.stored)
            raw = decode(block.codec, payload, block.raw, where=self.name(pack))
        view = memoryview(raw)
        read = []
        for found, digest in places:
            at = found.location.within - start
            data = bytes(view[at : at + found.location.size])
            if kind.digest(data) != digest:
                raise self._mismatch(pack, digest, data, kind)
            read.append((digest, data))
        return read

    def _mismatch(
        self, pack: int, digest: Digest, data: bytes, kind: Kind
    ) -> CorruptionError | NotFoundError:
        names = {Kind.DATA: "a chunk", Kind.META: "a tree node"}
        for other in Kind:
            if other.digest(data) == digest:
                return NotFoundError(
                    f"{format_digest(digest)} is {names[other]}, but is to be {names[kind]}",
                    where=str(self._packs.parent),
                    hint="what names it is wrong: run 'datastore verify' to see which versions are",
                )
        return self._damage(pack, digest, format_digest(kind.digest(data)))

    def _damage(self, pack: int, digest: Digest, actual: str) -> CorruptionError:
        name = self.name(pack)
        return CorruptionError(
            f"pack {name} is damaged: it does not hold what {format_digest(digest)} names",
            expected=format_digest(digest),
            actual=actual,
            where=str(pack_path(self._packs, name)),
            hint="run 'datastore verify' to see what is affected and how to heal it",
        )

    def _read_at(self, pack: int, offset: int, size: int) -> bytes:
        try:
            data = os.pread(self._file(pack), size, offset)
        except OSError as error:
            raise StorageError(
                f"pack {self.name(pack)} cannot be read: {error}", where=self.name(pack)
            ) from error
        if len(data) != size:
            raise CorruptionError(
                f"pack {self.name(pack)} is truncated: {len(data)} of {size} bytes at {offset}",
                where=str(pack_path(self._packs, self.name(pack))),
                hint="run 'datastore verify' to see what is affected and how to heal it",
            )
        return data

    def _file(self, pack: int) -> int:
        descriptor = self._files.get(pack)
        if descriptor is not None:
            self._files.move_to_end(pack)
            return descriptor
        path = pack_path(self._packs, self.name(pack))
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise NotFoundError(
                f"pack {path.name} is gone",
                where=str(path),
                hint="run 'datastore verify' to see which versions need it",
            ) from error
        self._touch(path)
        self._files[pack] = descriptor
        if len(self._files) > OPEN_PACKS:
            os.close(self._files.popitem(last=False)[1])
        return descriptor

    def _touch(self, path: Path) -> None:
        if path.name not in self._touched:
            self._touched.add(path.name)
            with contextlib.suppress(OSError):  # a store that may only be read is not evicted from
                os.utime(path)
