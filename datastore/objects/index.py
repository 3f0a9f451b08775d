"""The index: where each chunk lies, and what the workspace looked like. A cache on LMDB.

Everything in here can be made again from packs and files; deleting the directory loses nothing. The
tables are described in ``docs/reference/format/index.md``. This is the only module that knows LMDB.
"""

from __future__ import annotations

import contextlib
import os
import struct
import threading
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import ClassVar, Final, NamedTuple, Self

import lmdb

from datastore.errors import StorageError
from datastore.kernel.hashing import Digest
from datastore.objects.pack import Location, Sealed

SCHEMA: Final = b"1"
MAP_SIZE: Final = 64 << 30
"""A sparse reservation of address space, fixed at open: growing a map under traffic is unsafe."""
MAX_READERS: Final = 2048

_CHUNK: Final = struct.Struct("<6IB")
_CHUNK_HEAD: Final = struct.Struct("<4I")
_CHUNK_TAIL: Final = struct.Struct("<2IB")
_PACK: Final = struct.Struct("<QB")
_NUMBER: Final = struct.Struct(">I")
_META_PAGE: Final = struct.Struct("<16xIIQQ")
_LMDB_MAGIC: Final = 0xBEEFC0DE


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

    def __init__(self, transaction: lmdb.Transaction) -> None:
        self._transaction = transaction

    def has(self, digest: Digest) -> bool:
        """Tells whether the digest is indexed."""
        return self._transaction.get(digest) is not None

    def find(self, digest: Digest) -> Found | None:
        """Returns where the digest lies, or None."""
        value = self._transaction.get(digest)
        if value is None or len(value) != _CHUNK.size:
            return None
        pack, *fields = _CHUNK.unpack(value)
        return Found(pack, Location(*fields))


@contextlib.contextmanager
def _translated(directory: Path) -> Iterator[None]:
    """Turns LMDB's errors into ours at the edge."""
    try:
        yield
    except lmdb.Error as error:
        raise StorageError(
            f"the index in {directory} failed: {error}",
            where=str(directory),
            hint="it is a cache: 'datastore verify --rebuild-index' makes it again",
        ) from error


class _Environment:
    """One open LMDB environment a process and directory; LMDB forbids a second one."""

    _open: ClassVar[dict[tuple[int, int], _Environment]] = {}
    _lock: ClassVar[threading.Lock] = threading.Lock()

    def __init__(self, directory: Path) -> None:
        self.users = 0
        self.process = os.getpid()
        self.env = lmdb.open(
            str(directory),
            map_size=MAP_SIZE,
            max_dbs=8,
            max_readers=MAX_READERS,
            max_spare_txns=4,
            writemap=False,
            # LMDB 1.0's file format is not readable by 0.9, and the reverse.
            lib_version=0,
        )
        self.env.reader_check()
        self.chunks = self.env.open_db(b"chunk")
        self.packs = self.env.open_db(b"pack")
        self.meta = self.env.open_db(b"meta")
        self.stat = self.env.open_db(b"stat")

    @classmethod
    def acquire(cls, directory: Path) -> _Environment:
        status = directory.stat()
        key = (status.st_dev, status.st_ino)
        with cls._lock:
            environment = cls._open.get(key)
            if environment is not None and environment.process != os.getpid():
                # After a fork the parent's environment is unusable here; closing the child's copy
                # leaves the parent's alone.
                environment.env.close()
                environment = None
            if environment is None:
                environment = cls._open[key] = cls(directory)
            environment.users += 1
        return environment

    def release(self) -> None:
        """Gives up one use; the last one closes."""
        if self.process != os.getpid():
            return
        with self._lock:
            self.users -= 1
            if not self.users:
                for key in [key for key, value in self._open.items() if value is self]:
                    del self._open[key]
                self.env.close()

    @classmethod
    def after_fork(cls) -> None:
        """Gives the child a lock of its own: another thread may have held it at the fork."""
        cls._lock = threading.Lock()


os.register_at_fork(after_in_child=_Environment.after_fork)


class Index:
    """Digest -> place, the packs known, and the stat cache.

    Args:
        directory: On a local disk; made if missing.

    Raises:
        StorageError: The directory cannot be made or opened.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self._environment: _Environment | None = None
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

    def _opened(self) -> _Environment:
        if self._environment is None or self._environment.process != os.getpid():
            with _translated(self.directory):
                self._environment = _Environment.acquire(self.directory)
        return self._environment

    def _prepare(self) -> bool:
        """Opens the environment; throws away one that is truncated or of another schema."""
        self.directory.mkdir(parents=True, exist_ok=True)
        if not _sound(self.directory / "data.mdb"):
            self._discard_files()
        try:
            opened = self._opened()
            with opened.env.begin(db=opened.meta) as transaction:
                schema = transaction.get(b"schema")
        except StorageError:
            schema = b""
        if schema == SCHEMA:
            return False
        if schema is not None:
            self.close()
            self._discard_files()
        with _translated(self.directory), self._opened().env.begin(write=True) as transaction:
            transaction.put(b"schema", SCHEMA, db=self._opened().meta, overwrite=True)
        return True

    def _discard_files(self) -> None:
        for name in ("data.mdb", "lock.mdb"):
            (self.directory / name).unlink(missing_ok=True)

    @contextlib.contextmanager
    def lookup(self) -> Iterator[Lookup]:
        """Opens a read transaction. Keep it short: it holds back the reuse of pages."""
        opened = self._opened()
        with _translated(self.directory), opened.env.begin(db=opened.chunks) as transaction:
            yield Lookup(transaction)

    def add_pack(self, sealed: Sealed) -> None:
        """Enters a durable pack and all its chunks, in one transaction.

        A chunk that is known already keeps its old place. A pack that is known is left as it is.
        """
        opened = self._opened()
        with _translated(self.directory), opened.env.begin(write=True) as transaction:
            key = sealed.name.encode()
            if transaction.get(key, db=opened.meta):
                return
            last = transaction.get(b"packs", db=opened.meta)
            number = _NUMBER.unpack(last)[0] + 1 if last else 1
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
        with _translated(self.directory), opened.env.begin(db=opened.packs) as transaction:
            for key, value in transaction.cursor():
                size, kind = _PACK.unpack_from(value)
                name = value[_PACK.size :].decode("ascii", "replace")
                rows.append(PackRow(_NUMBER.unpack(key)[0], name, size, kind))
        return rows

    def digests_of(self, number: int) -> list[Digest]:
        """Lists the digests that are placed in a pack; reads the whole table."""
        opened = self._opened()
        with _translated(self.directory), opened.env.begin(db=opened.chunks) as transaction:
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
        opened = self._opened()
        dropped = 0
        with _translated(self.directory), opened.env.begin(write=True) as transaction:
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
        """Empties every table, the stat cache too."""
        opened = self._opened()
        with _translated(self.directory), opened.env.begin(write=True) as transaction:
            last = transaction.get(b"packs", db=opened.meta)
            for table in (opened.chunks, opened.packs, opened.stat, opened.meta):
                transaction.drop(table, delete=False)
            transaction.put(b"schema", SCHEMA, db=opened.meta)
            if last:
                # A number never comes to mean another pack: other processes remember it.
                transaction.put(b"packs", last, db=opened.meta)

    def counts(self) -> dict[str, int]:
        """Counts the rows of each table."""
        opened = self._opened()
        tables = {"chunks": opened.chunks, "packs": opened.packs, "stat": opened.stat}
        with _translated(self.directory), opened.env.begin() as transaction:
            return {name: transaction.stat(table)["entries"] for name, table in tables.items()}

    def stat_get(self, keys: Iterable[bytes]) -> list[bytes | None]:
        """Reads stat cache records, in the order of the keys."""
        opened = self._opened()
        with _translated(self.directory), opened.env.begin(db=opened.stat) as transaction:
            return [transaction.get(key) for key in keys]

    def stat_scan(self, start: bytes, stop: bytes) -> list[tuple[bytes, bytes]]:
        """Lists stat cache records from a key to before another, in key order, as of one moment."""
        opened = self._opened()
        rows = []
        with _translated(self.directory), opened.env.begin(db=opened.stat) as transaction:
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
        opened = self._opened()
        begin = opened.env.begin(write=True, db=opened.stat)
        with _translated(self.directory), begin as transaction:
            if expected is not None and transaction.get(expected[0]) != expected[1]:
                return False
            for key in deletes:
                transaction.delete(key)
            with transaction.cursor() as cursor:
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


def _sound(file: Path) -> bool:
    """Whether the map file is as long as its newest meta page says.

    Touching a page that a truncated file lacks would end the process with SIGBUS.
    """
    try:
        with file.open("rb", buffering=0) as opened:
            page_size = os.sysconf("SC_PAGE_SIZE")
            pages = [os.pread(opened.fileno(), 256, at) for at in (0, page_size)]
            # Only after the pages: another process may be growing the file.
            size = opened.seek(0, 2)
    except FileNotFoundError:
        return True
    except OSError:
        return False
    if not size:
        return True  # as another process leaves it for a moment when it makes the file
    newest = max(_last_page(page) for page in pages)
    return newest[0] >= 0 and size >= (newest[1] + 1) * page_size


def _last_page(page: bytes) -> tuple[int, int]:
    """Returns a meta page's transaction number and the number of the last page in use."""
    # 16 bytes page header; magic, version, address, map size; two 48-byte database records; last
    # page; transaction.
    if len(page) < 152:
        return -1, -1
    magic, _, _, _ = _META_PAGE.unpack_from(page)
    if magic != _LMDB_MAGIC:
        return -1, -1
    last, transaction = struct.unpack_from("<QQ", page, 16 + 24 + 2 * 48)
    return transaction, last
