"""A write session: chunks and nodes go in, digests come out, `commit` makes them durable."""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self

from datastore.errors import UsageError
from datastore.kernel.hashing import Digest, chunk_digest, node_digest
from datastore.objects.codec import COMPRESSED_FIRST_BYTES, Part, looks_compressed
from datastore.objects.pack import MAX_BLOCK_CHUNKS, MAX_RAW_SIZE, Kind
from datastore.objects.packer import Account, Packer

if TYPE_CHECKING:
    from datastore.objects.index import Index

BLOCK_TARGET: Final = 256 * 1024
"""Small chunks share a block up to this raw size, in bytes."""
_LOOKUPS_PER_TRANSACTION: Final = 8192


def _over(_: Digest) -> bool:
    raise UsageError("the session is over: nothing more can be stored in it")


class _Group:
    """The block being filled for one kind of content."""

    __slots__ = ("compressed", "digests", "kind", "parts", "raw")

    def __init__(self, kind: Kind, *, compressed: bool) -> None:
        self.kind = kind
        self.compressed = compressed
        self.clear()

    def clear(self) -> None:
        self.digests: list[Digest] = []
        self.parts: list[Part] = []
        self.raw = 0


class WriteSession:
    """Writes to a store; made by `ObjectStore.session`, used as a context manager.

    What is put is durable, and may be referred to, once `commit` has returned. Leaving the block
    without a commit drops what was not packed yet; packs that are sealed stay and are found again.
    A session belongs to one thread.
    """

    def __init__(self, index: Index, packer: Packer) -> None:
        self._index = index
        self._packer = packer
        self._pending: set[Digest] = set()
        self._plain = _Group(Kind.DATA, compressed=False)
        self._compressed = _Group(Kind.DATA, compressed=True)
        self._nodes = _Group(Kind.META, compressed=False)
        self._transaction = contextlib.ExitStack()
        self._is_indexed: Callable[[Digest], bool] = _over
        self._lookups_left = 0
        self._open = True
        self.account = Account()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self._open:
            self._end()
            self._packer.abort()

    def begin_account(self) -> Account:
        """Charges what follows to a new account and returns it."""
        self._flush_all()
        self.account = Account()
        return self.account

    def put_chunk(self, data: Part) -> Digest:
        """Stores a run of user bytes unless it is known.

        Args:
            data: At most 16 MiB; must not change afterwards.

        Raises:
            StorageError: An earlier write failed.
        """
        # This runs once for every file there is: the calls that it saves are a tenth of its time.
        digest = chunk_digest(data)
        account = self.account
        account.chunks += 1
        if digest in self._pending:
            return digest
        self._lookups_left -= 1
        if self._lookups_left < 0:
            self._renew()
        if self._is_indexed(digest):
            return digest
        size = len(data)
        account.new_chunks += 1
        account.new_bytes += size
        group = self._plain
        if size and data[0] in COMPRESSED_FIRST_BYTES and looks_compressed(data):
            group = self._compressed
        if group.raw + size > BLOCK_TARGET or len(group.digests) == MAX_BLOCK_CHUNKS:
            self._start_block(group, size)
        self._pending.add(digest)
        group.digests.append(digest)
        group.parts.append(data)
        group.raw += size
        return digest

    def put_node(self, data: bytes) -> Digest:
        """Stores an encoded tree node, manifest page or root record unless it is known.

        Raises:
            StorageError: An earlier write failed.
        """
        digest = node_digest(data)
        if digest in self._pending:
            return digest
        self._lookups_left -= 1
        if self._lookups_left < 0:
            self._renew()
        if not self._is_indexed(digest):
            group = self._nodes
            if group.raw + len(data) > BLOCK_TARGET or len(group.digests) == MAX_BLOCK_CHUNKS:
                self._start_block(group, len(data))
            self._pending.add(digest)
            group.digests.append(digest)
            group.parts.append(data)
            group.raw += len(data)
        return digest

    def commit(self) -> None:
        """Makes all that was put durable and findable.

        Raises:
            StorageError: The disk is full or fails; nothing put in this session may be relied on.
            UsageError: The session is over.
        """
        if not self._open:
            raise UsageError("the session is over: it was committed or given up before")
        self._flush_all()
        self._end()
        self._packer.finish()

    def _end(self) -> None:
        self._open = False
        self._transaction.close()
        self._is_indexed = _over
        self._lookups_left = sys.maxsize

    def _start_block(self, group: _Group, size: int) -> None:
        if size > MAX_RAW_SIZE:
            raise UsageError(f"a chunk of {size} bytes is larger than the format allows")
        self._flush(group)

    def _flush(self, group: _Group) -> None:
        if group.digests:
            self._packer.submit(
                group.kind,
                group.digests,
                group.parts,
                compressed=group.compressed,
                account=self.account,
            )
            group.clear()

    def _flush_all(self) -> None:
        for group in (self._plain, self._compressed, self._nodes):
            self._flush(group)

    def _renew(self) -> None:
        """Opens a fresh read transaction, which also sees the packs sealed meanwhile."""
        self._transaction.close()
        sealed = []
        while self._packer.indexed:
            sealed.append(self._packer.indexed.popleft())
        self._is_indexed = self._transaction.enter_context(self._index.lookup()).has
        self._lookups_left = _LOOKUPS_PER_TRANSACTION
        for digests in sealed:
            self._pending.difference_update(digests)
