"""The writing end of a session, in threads of its own.

Blocks are compressed by a small pool and packed, in order, by one thread, while the caller goes on
reading and naming chunks.

Write order (``docs/explanation/durability.md``): pack bytes, fsync, rename, fsync of the directory,
index transaction. Whoever writes a reference to a chunk does so after `Packer.finish`.
"""

from __future__ import annotations

import os
import queue
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Final, NamedTuple

from datastore.kernel.hashing import Digest
from datastore.objects.codec import Codec, Part, encode
from datastore.objects.index import Index
from datastore.objects.pack import META_TARGET_SIZE, NONCE_SIZE, TARGET_SIZE, Kind, PackWriter

_QUEUED_BLOCKS: Final = 64
"""Back-pressure: about 8 MiB of blocks wait at most."""

_TARGETS: Final = {Kind.DATA: TARGET_SIZE, Kind.META: META_TARGET_SIZE}

_Encoded = tuple[Codec, Sequence[Part], int]


@dataclass(slots=True)
class Account:
    """What one part of a session cost. Sizes in bytes."""

    chunks: int = 0
    """Chunks put, new or not."""
    new_chunks: int = 0
    new_bytes: int = 0
    stored_bytes: int = 0
    """What the new chunks and nodes take in packs; known once the session is committed."""


class _Job(NamedTuple):
    kind: Kind
    digests: list[Digest]
    sizes: list[int]
    encoded: Future[_Encoded] | _Encoded
    account: Account


class Packer:
    """Packs blocks in a thread of its own.

    Args:
        packs: The directory of packs.
        staging: Where packs are written aside, on the same file system.
        index: Entered after each pack is durable.
        threads: How many blocks are compressed at once.
    """

    def __init__(self, packs: Path, staging: Path, index: Index, *, threads: int) -> None:
        self._packs = packs
        self._staging = staging
        self._index = index
        self._jobs: queue.Queue[_Job | None] = queue.Queue(_QUEUED_BLOCKS)
        self._writers: dict[Kind, PackWriter] = {}
        self._error: BaseException | None = None
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="datastore-compress")
        self._thread = threading.Thread(target=self._run, name="datastore-pack", daemon=True)
        self._thread.start()
        self.indexed: deque[Sequence[Digest]] = deque()
        """Digests that a sealed pack has brought into the index, a list a pack."""

    def submit(
        self,
        kind: Kind,
        digests: list[Digest],
        parts: list[Part],
        *,
        compressed: bool,
        account: Account,
    ) -> None:
        """Takes a block; returns at once unless the queue is full.

        Args:
            kind: Which pack it belongs to.
            digests: Of its chunks.
            parts: Its chunks, no longer changed by the caller.
            compressed: Whether its content is known to be compressed already.
            account: Charged with the stored size.

        Raises:
            StorageError: An earlier block could not be written.
        """
        self._raise_failure()
        sizes = [len(part) for part in parts]
        raw = sum(sizes)
        encoded = (Codec.RAW, parts, raw) if compressed else self._pool.submit(encode, parts, raw)
        self._jobs.put(_Job(kind, digests, sizes, encoded, account))

    def finish(self) -> None:
        """Waits until every block is packed, durable and indexed.

        Raises:
            StorageError: A block could not be written; nothing after it was.
        """
        self._jobs.put(None)
        self._thread.join()
        self._pool.shutdown()
        self._raise_failure()

    def abort(self) -> None:
        """Stops; packs sealed so far stay, the one being written is dropped."""
        self._error = self._error or KeyboardInterrupt()
        self._jobs.put(None)
        self._thread.join()
        self._pool.shutdown(cancel_futures=True)

    def _raise_failure(self) -> None:
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            self._attempt(partial(self._pack, job))
        for kind in (Kind.DATA, Kind.META):
            self._attempt(partial(self._seal, kind))
        for writer in self._writers.values():
            writer.discard()

    def _attempt(self, step: Callable[[], None]) -> None:
        """Takes a step unless an earlier one failed; the queue is emptied in any case."""
        if self._error is None:
            try:
                step()
            except BaseException as error:  # noqa: BLE001 - raised in the caller's thread
                self._error = error

    def _pack(self, job: _Job) -> None:
        encoded = job.encoded
        codec, payload, stored = encoded if isinstance(encoded, tuple) else encoded.result()
        writer = self._writers.get(job.kind)
        if writer is not None and not writer.has_room(len(job.digests), stored):
            self._seal(job.kind)
            writer = None
        if writer is None:
            writer = self._writers[job.kind] = PackWriter(self._staging, job.kind)
        writer.add_block(job.digests, job.sizes, codec, payload, stored)
        job.account.stored_bytes += stored
        if writer.size >= _TARGETS[job.kind]:
            self._seal(job.kind)

    def _seal(self, kind: Kind) -> None:
        writer = self._writers.pop(kind, None)
        if writer is None:
            return
        try:
            sealed = writer.seal(self._packs, os.urandom(NONCE_SIZE))
        finally:
            writer.discard()
        self._index.add_pack(sealed)
        self.indexed.append(sealed.digests)
