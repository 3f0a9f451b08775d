"""Carrying out what `datastore.sync.plan` decided: packs and blocks go into the store."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from datastore.errors import (
    CorruptionError,
    DatastoreError,
    FormatError,
    NotFoundError,
    StorageError,
)
from datastore.kernel.hashing import Digest
from datastore.objects.pack import Sealed
from datastore.objects.packreader import block_at, block_members
from datastore.objects.received import BlockCollector, receive_pack
from datastore.objects.store import ObjectStore
from datastore.progress import Task
from datastore.storage.reasons import SHORT
from datastore.sync.keys import pack_key
from datastore.sync.plan import Load, Span
from datastore.sync.remote import Remote


class _Arrived:
    """One load that came: of a whole pack its table too, unless the pack is damaged."""

    __slots__ = ("damage", "data", "sealed")

    def __init__(
        self, data: bytes, sealed: Sealed | None = None, damage: DatastoreError | None = None
    ) -> None:
        self.data = data
        self.sealed = sealed
        self.damage = damage


class Download:
    """Fetches loads and enters what is sound in the store.

    Args:
        store: Where it goes.
        collector: Takes single blocks.
        remote: Where it comes from.
        handed: Members to be handed out, also of packs that are taken whole; none where None.

    Attributes:
        found: The members asked for in `handed`, verified.
        arrived: Digests that are in the store now, or held by the collector.
        gone: Packs that are not on the remote any more.
        damaged: Packs that are not what their names promise, with what was seen.
        packs: How many loads came.
    """

    def __init__(
        self,
        store: ObjectStore,
        collector: BlockCollector,
        remote: Remote,
        *,
        handed: Collection[Digest] = (),
    ) -> None:
        self._store = store
        self._collector = collector
        self._remote = remote
        self._handed = handed
        self.found: dict[Digest, bytes] = {}
        self.arrived: set[Digest] = set()
        self.gone: set[str] = set()
        self.damaged: dict[str, DatastoreError] = {}
        self.packs: set[str] = set()

    def run(self, loads: Iterable[Load], task: Task) -> Iterator[None]:
        """Fetches, several loads at once.

        Yields:
            After each load that ended; transfers go on meanwhile.

        Raises:
            StorageError: The remote cannot be reached, or the disk is full.
        """
        for load, arrived, error in self._remote.transfers.run(
            self._fetch, loads, lambda load: load.span.length
        ):
            if isinstance(error, NotFoundError):
                self.gone.add(load.pack)
            elif isinstance(error, StorageError) and error.reason == SHORT:
                self._take_what_is_left(load, error)
            elif error is not None:
                raise error
            elif arrived is not None:
                self.packs.add(load.pack)
                self._take(load, arrived)
                task.advance(load.span.length)
            yield

    def _fetch(self, load: Load) -> _Arrived:
        """Runs in a transfer's thread: fetches, and of a whole pack checks and writes it."""
        key = pack_key(load.pack)
        data = self._remote.storage.read_range(key, *load.span)
        if not load.whole:
            return _Arrived(data)
        for attempt in range(2):
            try:
                packs, staging = self._store.packs, self._store.staging
                sealed = receive_pack(packs, staging, load.pack, data)
                return _Arrived(data if self._handed else b"", sealed)
            except CorruptionError as error:
                if attempt:
                    return _Arrived(data, damage=error)
            # Bytes may have been turned on the way: a second look tells.
            data = self._remote.storage.read_range(key, *load.span)
        raise AssertionError("unreachable")

    def _take(self, load: Load, arrived: _Arrived) -> None:
        if arrived.sealed is not None:
            self._store.enter(arrived.sealed)
            self.arrived.update(arrived.sealed.digests)
            if self._handed:
                for block in load.blocks:
                    self._hand_out(load, arrived.data, block)
            return
        for block in load.blocks:
            data = arrived.data[block.start - load.span.start :][: block.length]
            try:
                self._keep(load, data)
            except (CorruptionError, FormatError) as error:
                self._keep_again(load, block, error)
        if arrived.damage is not None:
            self.damaged[load.pack] = arrived.damage

    def _take_what_is_left(self, load: Load, error: DatastoreError) -> None:
        """Takes the blocks that lie in front of the end of a pack that was cut off."""
        self.damaged[load.pack] = error
        for block in load.blocks:
            self._keep_again(load, block, error)

    def _keep_again(self, load: Load, block: Span, error: DatastoreError) -> None:
        try:
            data = self._remote.storage.read_range(pack_key(load.pack), *block)
            self._keep(load, data)
        except (CorruptionError, FormatError, NotFoundError):
            self.damaged[load.pack] = error
        except StorageError as short:
            if short.reason != SHORT:
                raise
            self.damaged[load.pack] = error

    def _keep(self, load: Load, data: bytes) -> None:
        for digest, member in self._collector.add(load.kind, data, where=load.pack):
            self.arrived.add(digest)
            if digest in self._handed:
                self.found[digest] = member

    def _hand_out(self, load: Load, data: bytes, span: Span) -> None:
        block = block_at(data, span.start)
        if block is None:
            return
        for digest, member in block_members(block, load.kind, Path(load.pack)):
            if digest in self._handed:
                self.found[digest] = bytes(member)
