"""The object store: digests to bytes on this disk, verified at every read."""

from __future__ import annotations

import os
from collections import OrderedDict
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Self

from datastore.errors import CorruptionError, DatastoreError, NotFoundError, StorageError
from datastore.kernel.hashing import Digest, format_digest
from datastore.objects.codec import Codec, Part, decode
from datastore.objects.index import Found, Index
from datastore.objects.pack import MAX_RAW_SIZE, SUFFIX, Kind, Sealed, pack_path
from datastore.objects.packer import Packer
from datastore.objects.packreader import read_footer, recover
from datastore.objects.session import WriteSession
from datastore.storage.local import storage_error, sweep

_OPEN_PACKS: Final = 64
_READ_BATCH: Final = 1024
"""Digests looked up and read together: enough to read each block once, few enough to stream."""


class Rebuilt(NamedTuple):
    """What an index rebuild found."""

    packs: int
    chunks: int
    damaged: tuple[str, ...]
    """Names of the packs that were not sound; what is sound in them was kept."""


class ObjectStore:
    """Chunks and nodes in packs, found through the index.

    Args:
        directory: Holds ``packs/`` and ``tmp/``; made if missing.
        index_directory: On a local disk; ``index/`` in `directory` where None.

    Raises:
        StorageError: The directories or the index cannot be made or opened.
    """

    def __init__(self, directory: Path, *, index_directory: Path | None = None) -> None:
        self.directory = directory
        self.packs = directory / "packs"
        self.staging = directory / "tmp"
        self.quarantine = directory / "quarantine"
        for made in (self.packs, self.staging):
            try:
                made.mkdir(parents=True, exist_ok=True)
            except OSError as error:
                raise storage_error(error, "make the directory", made) from error
        self.index = Index(index_directory or directory / "index")
        self._names: dict[int, str] = {}
        self._files: OrderedDict[int, int] = OrderedDict()
        if self.index.created:
            self.refresh()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Closes packs and index."""
        self.forget_packs()
        self.index.close()

    def session(self, *, threads: int | None = None) -> WriteSession:
        """Begins to write.

        Args:
            threads: How many blocks are compressed at once; by default the number of cores, at
                most four.
        """
        sweep(self.staging)
        self.check_packs()
        count = threads or min(4, os.cpu_count() or 1)
        return WriteSession(self.index, Packer(self.packs, self.staging, self.index, threads=count))

    def has(self, digest: Digest) -> bool:
        """Tells whether a chunk or node is stored."""
        with self.index.lookup() as lookup:
            return lookup.has(digest)

    def missing(self, digests: Iterable[Digest]) -> list[Digest]:
        """Returns those that are not stored, in order."""
        with self.index.lookup() as lookup:
            return [digest for digest in digests if not lookup.has(digest)]

    def places(self, digests: Iterable[Digest]) -> list[Found | None]:
        """Returns where chunks lie, in order; None for what is not stored."""
        with self.index.lookup() as lookup:
            return [lookup.find(digest) for digest in digests]

    def get_chunk(self, digest: Digest) -> bytes:
        """Returns a chunk.

        Raises:
            NotFoundError: It is not stored here.
            CorruptionError: What is stored is not what the digest names.
        """
        return next(self.read_chunks((digest,)))[1]

    def read_chunks(self, digests: Iterable[Digest]) -> Iterator[tuple[Digest, bytes]]:
        """Reads many chunks, each block once.

        Yields:
            Digest and bytes, in the order of their blocks on disk; once where a digest is asked for
            twice in a batch.

        Raises:
            NotFoundError: One is not stored here.
            CorruptionError: What is stored is not what the digest names.
        """
        batch: dict[Digest, None] = {}
        for digest in digests:
            batch[digest] = None
            if len(batch) == _READ_BATCH:
                yield from self._read_batch(list(batch), Kind.DATA)
                batch = {}
        yield from self._read_batch(list(batch), Kind.DATA)

    def read_nodes(self, digests: Sequence[Digest]) -> list[bytes]:
        """Reads nodes, in the order asked for.

        Raises:
            NotFoundError: One is not stored here.
            CorruptionError: What is stored is not what the digest names.
        """
        found = dict(self._read_batch(list(dict.fromkeys(digests)), Kind.META))
        return [found[digest] for digest in digests]

    def pack_files(self) -> Iterator[Path]:
        """Lists the pack files on disk, sorted by name."""
        try:
            directories = sorted(self.packs.iterdir())
        except OSError as error:
            raise storage_error(error, "list", self.packs) from error
        for directory in directories:
            if directory.is_dir():
                yield from sorted(directory.glob(f"*{SUFFIX}"))

    def refresh(self) -> Rebuilt:
        """Enters packs that lie on disk and are not in the index yet."""
        known = {row.name for row in self.index.packs()}
        fresh = [path for path in self.pack_files() if path.name.removesuffix(SUFFIX) not in known]
        return self._enter(fresh)

    def set_aside(self, path: Path) -> None:
        """Takes a damaged pack out of the store, without deleting it.

        Raises:
            StorageError: It cannot be moved.
        """
        try:
            self.quarantine.mkdir(exist_ok=True)
            path.rename(self.quarantine / path.name)
        except OSError as error:
            raise storage_error(error, "move", path) from error

    def set_aside_files(self) -> list[Path]:
        """Lists the packs that were set aside, sorted by name."""
        return sorted(self.quarantine.glob(f"*{SUFFIX}"))

    def clear_index(self) -> None:
        """Empties the index, the stat cache too."""
        self.forget_packs()
        self.index.clear()

    def pack_of(self, digest: Digest) -> str:
        """Returns the file name of the pack that holds a digest; empty where there is none."""
        with self.index.lookup() as lookup:
            found = lookup.find(digest)
        return self._name(found.pack) + SUFFIX if found is not None else ""

    def check_packs(self) -> None:
        """Makes the index agree with the packs on disk.

        What is placed in packs that are gone, or have another size than when they were sealed, is
        no longer taken for stored. Packs that are not known, of another process or of one that was
        killed, are entered, so that what they hold is not stored again.

        Raises:
            StorageError: The packs cannot be looked at, or the index cannot be written.
        """
        rows = self.index.packs()
        if any(self._size_of(row.name) != row.size for row in rows):
            self.forget_packs()
            # All of them: other packs may hold too what the index places in those that are gone.
            self.index.drop_packs(row.number for row in rows)
        self.refresh()

    def _size_of(self, name: str) -> int:
        path = pack_path(self.packs, name)
        try:
            return path.stat().st_size
        except (FileNotFoundError, NotADirectoryError):
            return -1
        except OSError as error:
            raise storage_error(error, "look at", path) from error

    def _enter(self, paths: Iterable[Path]) -> Rebuilt:
        packs = chunks = 0
        damaged = []
        for path in paths:
            sealed: Sealed | None
            try:
                sealed = read_footer(path)
            except DatastoreError:
                damaged.append(path.name)
                sealed = self._recovered(path)
            if sealed is not None:
                self.index.add_pack(sealed)
                packs += 1
                chunks += len(sealed.digests)
        return Rebuilt(packs, chunks, tuple(damaged))

    @staticmethod
    def _recovered(path: Path) -> Sealed | None:
        try:
            return recover(path)
        except DatastoreError:
            return None

    def forget_packs(self) -> None:
        """Closes all packs: one that was removed meanwhile can then no longer be read."""
        while self._files:
            os.close(self._files.popitem()[1])
        self._names.clear()

    def _read_batch(self, digests: list[Digest], kind: Kind) -> Iterator[tuple[Digest, bytes]]:
        places = self._places(digests)
        places.sort(key=lambda place: (place[0].pack, place[0].location.offset))
        start = 0
        while start < len(places):
            first = places[start][0]
            block = (first.pack, first.location.offset)
            end = start + 1
            while end < len(places) and block == (
                places[end][0].pack,
                places[end][0].location.offset,
            ):
                end += 1
            yield from self._read_block(places[start:end], kind)
            start = end

    def _places(self, digests: list[Digest]) -> list[tuple[Found, Digest]]:
        places = []
        lost: list[Digest] = []
        with self.index.lookup() as lookup:
            for digest in digests:
                found = lookup.find(digest)
                if found is None:
                    lost.append(digest)
                else:
                    places.append((found, digest))
        if lost and self.refresh().packs:
            return self._places(digests)
        if lost:
            raise NotFoundError(
                f"{format_digest(lost[0])} is not in the store"
                + (f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""),
                where=str(self.directory),
                hint="run 'datastore verify' to see which versions are incomplete",
            )
        return places

    def _read_block(
        self, places: list[tuple[Found, Digest]], kind: Kind
    ) -> Iterator[tuple[Digest, bytes]]:
        """Reads the wanted chunks of one block with one read."""
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
            raw = decode(block.codec, payload, block.raw, where=self._name(pack))
        view = memoryview(raw)
        for found, digest in places:
            at = found.location.within - start
            data = bytes(view[at : at + found.location.size])
            if kind.digest(data) != digest:
                raise self._mismatch(pack, digest, data, kind)
            yield digest, data

    def _mismatch(
        self, pack: int, digest: Digest, data: bytes, kind: Kind
    ) -> CorruptionError | NotFoundError:
        names = {Kind.DATA: "a chunk", Kind.META: "a tree node"}
        for other in Kind:
            if other.digest(data) == digest:
                return NotFoundError(
                    f"{format_digest(digest)} is {names[other]}, but is to be {names[kind]}",
                    where=str(self.directory),
                    hint="what names it is wrong: run 'datastore verify' to see which versions are",
                )
        return self._damage(pack, digest, format_digest(kind.digest(data)))

    def _damage(self, pack: int, digest: Digest, actual: str) -> CorruptionError:
        name = self._name(pack)
        return CorruptionError(
            f"pack {name} is damaged: it does not hold what {format_digest(digest)} names",
            expected=format_digest(digest),
            actual=actual,
            where=str(pack_path(self.packs, name)),
            hint="run 'datastore verify' to see what is affected and how to heal it",
        )

    def _read_at(self, pack: int, offset: int, size: int) -> bytes:
        try:
            data = os.pread(self._file(pack), size, offset)
        except OSError as error:
            raise StorageError(
                f"pack {self._name(pack)} cannot be read: {error}", where=self._name(pack)
            ) from error
        if len(data) != size:
            raise CorruptionError(
                f"pack {self._name(pack)} is truncated: {len(data)} of {size} bytes at {offset}",
                where=str(pack_path(self.packs, self._name(pack))),
                hint="run 'datastore verify' to see what is affected and how to heal it",
            )
        return data

    def _file(self, pack: int) -> int:
        descriptor = self._files.get(pack)
        if descriptor is not None:
            self._files.move_to_end(pack)
            return descriptor
        path = pack_path(self.packs, self._name(pack))
        try:
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError as error:
            raise NotFoundError(
                f"pack {path.name} is gone",
                where=str(path),
                hint="run 'datastore verify' to see which versions need it",
            ) from error
        self._files[pack] = descriptor
        if len(self._files) > _OPEN_PACKS:
            os.close(self._files.popitem(last=False)[1])
        return descriptor

    def _name(self, pack: int) -> str:
        if pack not in self._names:
            self._names = {row.number: row.name for row in self.index.packs()}
        try:
            return self._names[pack]
        except KeyError:
            raise CorruptionError(
                f"the index names pack number {pack}, which it does not know",
                where=str(self.index.directory),
                hint="it is a cache: run 'datastore verify --rebuild-index'",
            ) from None
