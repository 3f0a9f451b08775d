"""The object store: digests to bytes on this disk, verified at every read."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final, NamedTuple, Self

from datastore.errors import CorruptionError, DatastoreError, NotFoundError
from datastore.kernel.hashing import Digest, format_digest
from datastore.objects.blockreader import BlockReader, Placed
from datastore.objects.eviction import evict
from datastore.objects.index import Found, Index
from datastore.objects.pack import SUFFIX, Kind, Sealed, pack_path
from datastore.objects.packer import Packer
from datastore.objects.packreader import read_footer, recover
from datastore.objects.session import WriteSession
from datastore.objects.source import Source, fetch_verified
from datastore.storage.local import storage_error, sweep

_READ_BATCH: Final = 1024
"""Digests looked up and read together: enough to read each block once, few enough to stream."""


class Rebuilt(NamedTuple):
    """What an index rebuild found."""

    packs: int
    chunks: int
    damaged: tuple[str, ...]
    """Names of the packs that were not sound; what is sound in them was kept."""


class ObjectStore:
    """Chunks and nodes in packs, found through the index. One thread reads through it.

    Args:
        directory: Holds ``packs/`` and ``tmp/``; made if missing.
        index_directory: On a local disk; ``index/`` in `directory` where None.

    Attributes:
        source: Asked, when chunks or nodes are read, for those that are not stored here or are
            damaged. `has`, `missing` and `places` answer for this disk alone.

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
        self.source: Source | None = None
        self._blocks = BlockReader(self.packs, self.index)
        self._refreshed = False
        if self.index.created:
            self.refresh()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def offline(self) -> Iterator[None]:
        """Lets the source rest for a while: what is not here is not there to be read."""
        source, self.source = self.source, None
        try:
            yield
        finally:
            self.source = source

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

    def enter(self, sealed: Sealed) -> None:
        """Makes a pack that lies durably in `packs` findable.

        Raises:
            StorageError: The index cannot be written.
        """
        self.index.add_pack(sealed)

    def evict(self, names: Iterable[str]) -> int:
        """Removes packs, of which the caller knows that what they hold can be had again.

        Args:
            names: Of packs; one that is not there is passed over.

        Returns:
            How many bytes their files had.

        Raises:
            FormatError: That is not the name of a pack.
            StorageError: The index cannot be written, or a file cannot be removed.
        """
        self.forget_packs()
        return evict(self.index, self.packs, names)

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
        return self._blocks.name(found.pack) + SUFFIX if found is not None else ""

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
        self._blocks.close()

    def _read_batch(self, digests: list[Digest], kind: Kind) -> Iterator[tuple[Digest, bytes]]:
        places, lost = self._places(digests)
        if lost:
            found, fetched = self._search(lost, kind)
            places += found
            yield from fetched.items()
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

    def _read_block(self, places: list[Placed], kind: Kind) -> Iterable[tuple[Digest, bytes]]:
        try:
            return self._blocks.read(places, kind)
        except (NotFoundError, CorruptionError):
            if self.source is None:
                raise
            wanted = [digest for _, digest in places]
            if self._forget_gone():
                return self._read_batch(wanted, kind)
            fetched = fetch_verified(self.source, wanted, kind)
            if len(fetched) < len(wanted):
                raise
            return fetched.items()

    def _forget_gone(self) -> bool:
        """Drops packs of which the file is gone, so that what they held can be stored again."""
        gone = [row.name for row in self.index.packs() if self._size_of(row.name) < 0]
        if gone:
            self.evict(gone)
        return bool(gone)

    def _places(self, digests: list[Digest]) -> tuple[list[Placed], list[Digest]]:
        """Returns where chunks lie, and those that the index does not have."""
        places = []
        lost: list[Digest] = []
        with self.index.lookup() as lookup:
            for digest in digests:
                found = lookup.find(digest)
                if found is None:
                    lost.append(digest)
                else:
                    places.append((found, digest))
        return places, lost

    def _search(self, lost: list[Digest], kind: Kind) -> tuple[list[Placed], dict[Digest, bytes]]:
        """Looks for what the index does not have: in packs it does not know, then elsewhere."""
        places: list[Placed] = []
        fetched: dict[Digest, bytes] = {}
        # Listing the packs for each batch would cost more than the batch where most is elsewhere.
        if self.source is None or not self._refreshed:
            self._refreshed = True
            if self.refresh().packs:
                places, lost = self._places(lost)
        if lost and self.source is not None:
            fetched = fetch_verified(self.source, lost, kind)
            # The source may have entered whole packs without handing out all that is in them.
            found, lost = self._places([digest for digest in lost if digest not in fetched])
            if lost and self.refresh().packs:
                more, lost = self._places(lost)
                found += more
            places += found
        if lost:
            raise NotFoundError(
                f"{format_digest(lost[0])} is not in the store"
                + (f", nor on {self.source.name}" if self.source is not None else "")
                + (f" (and {len(lost) - 1} more)" if len(lost) > 1 else ""),
                where=str(self.directory),
                hint="run 'datastore verify' to see which versions are incomplete"
                if self.source is None
                else "push from a clone that has the data: datastore push --verify",
            )
        return places, fetched
