"""The index: where each chunk lies, and what the workspace looked like. A cache on LMDB.

Everything in here can be made again from packs and files; deleting the directory loses nothing. The
tables are described in ``docs/reference/format/index.md``.
"""

from __future__ import annotations

import contextlib
import os
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final, NamedTuple, Self, cast

import lmdb

from datastore.errors import LockedError, StorageError
from datastore.kernel.hashing import Digest
from datastore.objects.environment import DAMAGE, Environment, failure, translated
from datastore.objects.mapfile import fill_up, is_whole
from datastore.objects.pack import Location, Sealed

SCHEMA: Final = b"1"

_CHUNK: Final = struct.Struct("<6IB")
_CHUNK_HEAD: Final = struct.Struct("<4I")
_CHUNK_TAIL: Final = struct.Struct("<2IB")
_PACK: Final = struct.Struct("<QB")
_NUMBER: Final = struct.Struct(">I")


class PackRow(NamedTuple):
    """One pack that the index knows."""

    number: int
    name: str
    size: int
    kind: int


class Found(NamedTuple):
    """Where a chunk lies."""

    pack: int
    """Number of the pack in this index."""
    location: Location


class Lookup:
    """A short read transaction; made by `Index.lookup`, valid inside its ``with`` block."""

    def __init__(self, transaction: lmdb.Transaction, directory: Path) -> None:
        self._transaction = transaction
        self._directory = directory

    def has(self, digest: Digest) -> bool:
        """Tells whether the digest is indexed.

        Raises:
            StorageError: The index is damaged.
        """
        return self._get(digest) is not None

    def find(self, digest: Digest) -> Found | None:
        """Returns where the digest lies, or None.

        Raises:
            StorageError: The index is damaged.
        """
        value = self._get(digest)
        if value is None or len(value) != _CHUNK.size:
            return None
        pack, *fields = _CHUNK.unpack(value)
        return Found(pack, Location(*fields))

    def _get(self, digest: Digest) -> bytes | None:
        # A session keeps its lookup for long: no context manager around it sees the errors.
        try:
            return cast("bytes | None", self._transaction.get(digest))
        except lmdb.Error as error:
            raise failure(self._directory, error) from error


class Index:
    """Digest -> place, the packs known, and the stat cache.

    Args:
        directory: On a local disk; made if missing.

    Raises:
        StorageError: The directory cannot be made or opened.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._file = directory / "data.mdb"
        self._environment: Environment | None = None
        self.created = self._prepare()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of the environment; the last user of the process closes it."""
        if self._environment is not None:
            self._environment.release()
        self._environment = None

    def _opened(self) -> Environment:
        known = self._environment
        if known is None or known.closed or known.process != os.getpid():
            with translated(self.directory):
                known = self._environment = Environment.acquire(self.directory)
        return known

    def _prepare(self) -> bool:
        """Opens the environment; throws away one that is damaged or of another schema."""
        with translated(self.directory):
            self.directory.mkdir(parents=True, exist_ok=True)
            if not is_whole(self._file):
                Environment.discard(self.directory)
        try:
            schema = self._schema()
        except StorageError as error:
            if not isinstance(error.__cause__, DAMAGE):
                raise
            schema = b"damaged"
        if schema == SCHEMA:
            return False
        if schema is not None:
            with translated(self.directory):
                Environment.discard(self.directory)
        with self._writing() as (transaction, opened):
            transaction.put(b"schema", SCHEMA, db=opened.meta)
        return True

    def _schema(self) -> bytes | None:
        opened = self._opened()
        with translated(self.directory), opened.env.begin(db=opened.meta) as transaction:
            return transaction.get(b"schema")

    @contextlib.contextmanager
    def _writing(self) -> Iterator[tuple[lmdb.Transaction, Environment]]:
        opened = self._opened()
        with translated(self.directory):
            with opened.env.begin(write=True) as transaction:
                yield transaction, opened
            fill_up(self._file)

    @contextlib.contextmanager
    def lookup(self) -> Iterator[Lookup]:
        """Opens a read transaction. Keep it short: it holds back the reuse of pages."""
        opened = self._opened()
        with translated(self.directory), opened.env.begin(db=opened.chunks) as transaction:
            yield Lookup(transaction, self.directory)

    def add_pack(self, sealed: Sealed) -> None:
        """Enters a durable pack and all its chunks, in one transaction.

        A chunk that is known already keeps its old place. A pack that is known is left as it is.
        """
        with self._writing() as (transaction, opened):
            key = sealed.name.encode()
            if transaction.get(key, db=opened.meta):
                return
            last = transaction.get(b"packs", db=opened.meta)
            # Not from 1: a store may still remember the numbers of an index that was discarded.
            number = _NUMBER.unpack(last)[0] + 1 if last else 1 + int.from_bytes(os.urandom(3))
            transaction.put(b"packs", _NUMBER.pack(number), db=opened.meta)
            transaction.put(key, _NUMBER.pack(number), db=opened.meta)
            row = _PACK.pack(sealed.size, sealed.kind) + key
            transaction.put(_NUMBER.pack(number), row, db=opened.packs)
            rows = _chunk_rows(number, sealed)
            rows.sort()
            with transaction.cursor(opened.chunks) as cursor:
                cursor.putmulti(rows, dupdata=False, overwrite=False)

    def packs(self) -> list[PackRow]:
        """Lists the packs that the index knows, by number."""
        opened = self._opened()
        rows = []
        with translated(self.directory), opened.env.begin(db=opened.packs) as transaction:
            for key, value in transaction.cursor():
                size, kind = _PACK.unpack_from(value)
                name = value[_PACK.size :].decode("ascii", "replace")
                rows.append(PackRow(_NUMBER.unpack(key)[0], name, size, kind))
        return rows

    def digests_of(self, number: int) -> list[Digest]:
        """Lists the digests that are placed in a pack; reads the whole table."""
        opened = self._opened()
        with translated(self.directory), opened.env.begin(db=opened.chunks) as transaction:
            wanted = struct.pack("<I", number)
            return [key for key, value in transaction.cursor() if value[:4] == wanted]

    def drop_packs(self, numbers: Iterable[int]) -> int:
        """Forgets packs and every chunk placed in them.

        Returns:
            How many chunks were forgotten.
        """
        gone = set(numbers)
        if not gone:
            return 0
        dropped = 0
        with self._writing() as (transaction, opened):
            with transaction.cursor(opened.chunks) as cursor:
                alive = cursor.first()
                while alive:
                    if _CHUNK.unpack(cursor.value())[0] in gone:
                        dropped += 1
                        cursor.delete()
                        alive = bool(cursor.key())
                    else:
                        alive = cursor.next()
            for number in gone:
                row = transaction.pop(_NUMBER.pack(number), db=opened.packs)
                if row:
                    transaction.delete(row[_PACK.size :], db=opened.meta)
        return dropped

    def clear(self) -> None:
        """Makes the index anew, without a row; the stat cache goes too.

        The files are replaced: emptying tables that are damaged would carry the damage on. Only
        while other processes have the index open the tables are emptied instead.

        Raises:
            StorageError: The files cannot be removed or made, or are in use and damaged.
        """
        try:
            with translated(self.directory):
                Environment.discard(self.directory)
        except LockedError:
            with self._writing() as (transaction, opened):
                # A number never comes to mean another pack: other processes remember it.
                last = transaction.get(b"packs", db=opened.meta)
                for table in (opened.chunks, opened.packs, opened.stat, opened.meta):
                    transaction.drop(table, delete=False)
                if last:
                    transaction.put(b"packs", last, db=opened.meta)
        self._prepare()

    def counts(self) -> dict[str, int]:
        """Counts the rows of each table."""
        opened = self._opened()
        tables = {"chunks": opened.chunks, "packs": opened.packs, "stat": opened.stat}
        with translated(self.directory), opened.env.begin() as transaction:
            return {name: transaction.stat(table)["entries"] for name, table in tables.items()}

    def stat_get(self, keys: Iterable[bytes]) -> list[bytes | None]:
        """Reads stat cache records, in the order of the keys."""
        opened = self._opened()
        with translated(self.directory), opened.env.begin(db=opened.stat) as transaction:
            return [transaction.get(key) for key in keys]

    def stat_scan(self, start: bytes, stop: bytes) -> list[tuple[bytes, bytes]]:
        """Lists stat cache records from a key to before another, in key order, as of one moment."""
        opened = self._opened()
        rows = []
        with translated(self.directory), opened.env.begin(db=opened.stat) as transaction:
            cursor = transaction.cursor()
            if cursor.set_range(start):
                for key, value in cursor:
                    if key >= stop:
                        break
                    rows.append((key, value))
        return rows

    def stat_update(
        self,
        puts: Iterable[tuple[bytes, bytes]],
        deletes: Iterable[bytes],
        *,
        expected: tuple[bytes, bytes | None] | None = None,
    ) -> bool:
        """Changes stat cache records in one transaction: readers see all of it or none.

        Args:
            puts: Keys and new values.
            deletes: Keys to drop.
            expected: Does nothing unless this key still has this value.

        Returns:
            Whether the records were changed.
        """
        with self._writing() as (transaction, opened):
            table = opened.stat
            if expected is not None and transaction.get(expected[0], db=table) != expected[1]:
                return False
            for key in deletes:
                transaction.delete(key, db=table)
            with transaction.cursor(table) as cursor:
                cursor.putmulti(sorted(puts), dupdata=False, overwrite=True)
        return True


def _chunk_rows(number: int, sealed: Sealed) -> list[tuple[Digest, bytes]]:
    """Makes the rows of a pack; what a block's members share is packed once."""
    rows: list[tuple[Digest, bytes]] = []
    tail = _CHUNK_TAIL.pack
    ordinal = 0
    for block in sealed.blocks:
        head = _CHUNK_HEAD.pack(number, block.payload, block.stored, block.raw)
        codec = block.codec
        within = 0
        end = ordinal + block.members
        for digest, size in zip(
            sealed.digests[ordinal:end], sealed.sizes[ordinal:end], strict=True
        ):
            rows.append((digest, head + tail(within, size, codec)))
            within += size
        ordinal = end
    return rows
