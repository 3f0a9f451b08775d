"""The stat cache: what the files of a dataset looked like when their content was last known.

It holds, for each dataset path, the root that the files made up and, for each directory, one record
of its files' stat values. Where a directory's fresh record equals the cached one, none of its files
needs a second look. It is a cache: losing it costs time, never data.
``docs/reference/format/index.md`` has the layout.

A file may be changed again within the clock tick of its time stamps without any of them moving (Git
calls this the racy problem). A row is therefore trusted only if it was captured clearly after its
own newest time stamp; other rows are stored so that they match nothing.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Sequence
from typing import Final, NamedTuple

import msgpack
import xxhash
import zstandard

from datastore.errors import StorageError
from datastore.kernel.hashing import DIGEST_SIZE, Digest, checksum, node_digest
from datastore.objects.index import Index

RACY_MARGIN: Final = 100_000_000
"""Nanoseconds; covers the clock tick of local file systems (4 to 10 ms)."""
COARSE_MARGIN: Final = 2_100_000_000
"""Nanoseconds; for time stamps in whole seconds, as FAT (2 s), HFS+ and old NFS servers give."""
_SECOND: Final = 1_000_000_000
_SLICE: Final = 32 * 1024
"""LMDB values are kept small: py-lmdb has had bugs with large ones."""
_NO_SUM: Final = bytes(16)
_MAX_ANNOUNCED: Final = 64
STALE: Final = -1
"""Time stamp of a row that matches no file."""


class CacheDamagedError(Exception):
    """A record is lost or damaged: the cache must be forgotten, and nothing else is affected."""


class Row(NamedTuple):
    """One file of a directory as `os.lstat` sees it."""

    name: str
    mode: int
    inode: int
    size: int
    mtime_ns: int
    ctime_ns: int


class Snapshot(NamedTuple):
    """What is remembered of one directory."""

    directory: str
    rows: tuple[Row, ...]


def pack_rows(rows: Sequence[Row]) -> bytes:
    """Encodes rows; equal rows give equal bytes."""
    packed: bytes = msgpack.packb(rows, unicode_errors="surrogateescape")
    return packed


def compress(packed: bytes) -> bytes:
    """Makes packed rows small: names and numbers of neighbours are alike."""
    return zstandard.ZstdCompressor(level=1).compress(packed)


def unpack_rows(compressed: bytes) -> list[Row]:
    """Restores rows.

    Raises:
        CacheDamagedError: They were not written by `compress` and `pack_rows`.
    """
    try:
        packed = zstandard.ZstdDecompressor().decompress(compressed)
        rows = msgpack.unpackb(packed, unicode_errors="surrogateescape")
        return [Row(*row) for row in rows]
    except (zstandard.ZstdError, ValueError, TypeError, msgpack.UnpackException) as error:
        raise CacheDamagedError from error


def summarize(packed: bytes) -> bytes:
    """Returns 16 bytes that two lists of packed rows share only if they are equal."""
    return xxhash.xxh3_128_digest(packed)


def is_racy(row: Row, captured_ns: int) -> bool:
    """Whether the file could have changed unseen after a stat at `captured_ns`."""
    newest = max(row.mtime_ns, row.ctime_ns)
    margin = RACY_MARGIN if newest % _SECOND else COARSE_MARGIN
    return newest + margin >= captured_ns


def settled(rows: Iterable[Row], captured_ns: int) -> tuple[Row, ...]:
    """Replaces the rows that cannot be trusted by rows that match no file."""
    return tuple(row._replace(mtime_ns=STALE) if is_racy(row, captured_ns) else row for row in rows)


class StatCache:
    """The cached state of one dataset path in one workspace.

    Args:
        index: Where it is kept.
        identity: Workspace and dataset path; other clones that share the store have their own.
    """

    def __init__(self, index: Index, identity: str) -> None:
        self._index = index
        self._prefix = node_digest(identity.encode(errors="surrogateescape"))[:16]
        self._sums: dict[bytes, bytes] = {}
        self._meta: bytes | None = None
        self.root: Digest | None = None
        """The root that the files made up when the records were written."""
        self._load()

    def _load(self) -> None:
        self.root, self._sums, self._meta = None, {}, None
        head, last = self._prefix + b"h", self._prefix + b"m"
        rows = self._index.stat_scan(head, last + b"\0")
        if not rows or rows[-1][0] != last:
            return
        self._meta = meta = rows.pop()[1]
        # A record that went missing would hide the deletion of its files.
        count = int.from_bytes(meta[DIGEST_SIZE : DIGEST_SIZE + 8], "big")
        if len(meta) == DIGEST_SIZE + 16 and len(rows) == count:
            self.root = meta[:DIGEST_SIZE]
            self._sums = {key[len(head) :]: value for key, value in rows}

    def matches(self, directory: str, summary: bytes) -> bool:
        """Whether the directory's files are as they were, by the summary of their rows."""
        known = self._sums.get(identity_of(directory))
        return known is not None and known[:16] == summary

    def directories(self) -> set[bytes]:
        """Returns the identities of the directories that have a record."""
        return set(self._sums)

    def read(self, identity: bytes) -> Snapshot | None:
        """Returns a directory's record, or None where there is none.

        Raises:
            CacheDamagedError: There is one and it cannot be read.
        """
        head = self._sums.get(identity)
        if head is None:
            return None
        slices = self._index.stat_get(self._slice_keys(identity, _slices(head)))
        stored = b"".join(each or b"" for each in slices)
        name, _, compressed = stored.partition(b"\0")
        if head[18:] != _seal(stored) or identity_of(os.fsdecode(name)) != identity:
            raise CacheDamagedError
        return Snapshot(os.fsdecode(name), tuple(unpack_rows(compressed)))

    def save(
        self,
        root: Digest,
        written: Iterable[Snapshot],
        dropped: Iterable[bytes],
        *,
        arrived: bool = False,
    ) -> None:
        """Writes the new state in one transaction.

        Where another process wrote meanwhile, its state stands and nothing is written: every state
        is true on its own, a mixture of two would not be.

        Args:
            root: What the files now make up.
            written: Records of the directories that changed, already `settled`.
            dropped: Identities of directories that are gone.
            arrived: Whether these are all files there are: no version is on its way any more.
        """
        puts: list[tuple[bytes, bytes]] = []
        # What a state that could not be trusted left behind would spoil the next one's count.
        deletes = self._everything() if self.root is None else []
        directories = set(self._sums)
        for snapshot in written:
            directories.add(identity_of(snapshot.directory))
            puts += self._records(snapshot)
        for identity in dropped:
            directories.discard(identity)
            deletes.append(self._prefix + b"h" + identity)
            deletes += self._slice_keys(identity, _slices(self._sums.get(identity, b"")))
        if arrived:
            deletes.append(self._prefix + b"t")
        # The random part makes every state differ from all before, for the comparison below.
        meta = root + len(directories).to_bytes(8, "big") + os.urandom(8)
        puts.append((self._prefix + b"m", meta))
        try:
            self._index.stat_update(puts, deletes, expected=(self._prefix + b"m", self._meta))
        except StorageError:
            return  # a full disk, perhaps: what is not remembered is looked at again
        self._load()

    def announce(self, root: Digest) -> None:
        """Notes which version is on its way into the workspace, before its first file is."""
        others = [known for known in self.announced() if known != root]
        joined = b"".join([*others, root][-_MAX_ANNOUNCED:])
        self._index.stat_update([(self._prefix + b"t", joined)], ())

    def announced(self) -> list[Digest]:
        """Returns the versions that were on their way into the workspace and have not all arrived.

        There are several where a killed checkout was given up for another one.
        """
        joined = self._index.stat_get((self._prefix + b"t",))[0] or b""
        return [joined[at : at + DIGEST_SIZE] for at in range(0, len(joined), DIGEST_SIZE)]

    def forget(self) -> None:
        """Drops all that is remembered of this dataset path, but not what is on its way there."""
        self._index.stat_update((), self._everything())
        self._load()

    def _everything(self) -> list[bytes]:
        rows = self._index.stat_scan(self._prefix + b"a", self._prefix + b"t")
        return [key for key, _ in rows]

    def _records(self, snapshot: Snapshot) -> list[tuple[bytes, bytes]]:
        identity = identity_of(snapshot.directory)
        # A row that matches nothing must not let the summary match either.
        stale = any(row.mtime_ns == STALE for row in snapshot.rows)
        packed = pack_rows(snapshot.rows)
        stored = os.fsencode(snapshot.directory) + b"\0" + compress(packed)
        slices = [stored[at : at + _SLICE] for at in range(0, len(stored), _SLICE)]
        summary = _NO_SUM if stale else summarize(packed)
        head = summary + len(slices).to_bytes(2, "big") + _seal(stored)
        keys = self._slice_keys(identity, len(slices))
        return [(self._prefix + b"h" + identity, head), *zip(keys, slices, strict=True)]

    def _slice_keys(self, identity: bytes, count: int) -> list[bytes]:
        return [self._prefix + b"s" + identity + at.to_bytes(2, "big") for at in range(count)]


def _slices(head: bytes) -> int:
    return int.from_bytes(head[16:18], "big")


def _seal(stored: bytes) -> bytes:
    """Guards a record against bit rot."""
    return checksum(stored).to_bytes(8, "big")


def identity_of(directory: str) -> bytes:
    """Returns the 16 bytes by which a directory of the dataset is found; ``""`` is its top."""
    return node_digest(directory.encode(errors="surrogateescape"))[:16]
