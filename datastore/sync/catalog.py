"""What lies where on a remote, read from its index shards.

Shards never change, so each is fetched once and kept. Small ones, and all that many look-ups go to,
are fetched whole; of a large one only the rows around the digests that are asked for.
"""

from __future__ import annotations

import contextlib
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Iterator
from pathlib import Path
from typing import Final, TypeVar

from datastore.errors import CorruptionError, DatastoreError, FormatError, NotFoundError
from datastore.kernel.hashing import Digest
from datastore.objects.pack import Kind
from datastore.storage.base import Storage
from datastore.storage.local import storage_error, write_durably
from datastore.sync.keys import INDEX
from datastore.sync.plan import Span, coalesce
from datastore.sync.shard import Place, parse_shard_name
from datastore.sync.shardhead import ShardHead
from datastore.sync.shardreader import Shard
from datastore.sync.transfer import Transfers
from datastore.sync.validation import find_present

WHOLE_SIZE: Final = 1024 * 1024
"""A shard up to this size in bytes is fetched whole at once: 17,000 chunks."""
WHOLE_META_SIZE: Final = 4 * 1024 * 1024
WHOLE_LOOKUPS: Final = 64
"""So many look-ups at once in a larger shard fetch it whole: each costs a range of 10 KB."""
_PIECE: Final = 8 * 1024 * 1024
"""Bytes of a shard that one request asks for."""

_TRIES: Final = 3
"""How often the shards are listed anew because some went away while they were looked at."""

_Answer = TypeVar("_Answer")


class _ChangedError(Exception):
    """A shard was merged meanwhile, or its copy here is damaged; it is no longer known."""


class Catalog:
    """The index of a remote.

    Args:
        storage: The remote.
        directory: Where shards are kept; made if missing.
        transfers: Fetches them.

    Attributes:
        lost: Names of packs that are to be taken as gone, whatever the index says.
        damaged: Shards that are not what their names promise, with what was seen; passed over.
    """

    def __init__(self, storage: Storage, directory: Path, transfers: Transfers) -> None:
        self._storage = storage
        self._directory = directory
        self._transfers = transfers
        self._listed: dict[str, int] = {}
        self._there: set[str] = set()
        self._whole: dict[str, Shard] = {}
        self._heads: dict[str, ShardHead] = {}
        self.lost: set[str] = set()
        self.damaged: dict[str, DatastoreError] = {}
        self._open_kept()

    def close(self) -> None:
        """Closes the shards."""
        for shard in self._whole.values():
            shard.close()
        self._whole.clear()

    def _open_kept(self) -> None:
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            names = sorted(path.name for path in self._directory.glob("*.idx"))
        except OSError as error:
            raise storage_error(error, "make the directory", self._directory) from error
        for name in names:
            try:
                self._whole[name] = Shard.open(self._directory / name)
            except NotFoundError:
                continue  # another process has just dropped it
            except (CorruptionError, FormatError):
                (self._directory / name).unlink(missing_ok=True)  # fetched again when it is needed

    def refresh(self) -> None:
        """Lists the shards anew.

        A shard that was known and is not in the listing stays known until one that supersedes it is
        found: a listing may be stale, and what a row says is never believed without a look.
        """
        for _ in range(_TRIES):
            self._list()
            complete = self._fetch(n for n, size in self._listed.items() if size <= WHOLE_SIZE)
            self._drop_superseded()
            if complete:
                break  # else some were merged since they were listed, into one that is listed now

    def _list(self) -> None:
        superseded = self._superseded()
        self._there.clear()
        for key, size in self._storage.list(INDEX):
            name = key.rpartition("/")[2]
            try:
                parse_shard_name(name)
            except FormatError:
                continue  # not ours, or of a kind that is yet to come
            self._there.add(name)
            if name not in self._whole and name not in superseded | self.damaged.keys():
                self._listed[name] = size

    def restore(self) -> None:
        """Writes shards again that are known here and gone from the remote, merged into none.

        What they list would be found by nobody who does not happen to have a copy. Where the packs
        are gone too, as a gc leaves it, the shard is forgotten.
        """
        for name in sorted(self._unlisted()):
            if self._has_packs(name):
                self._storage.write(INDEX + name, self._whole[name].encoded())
            else:
                self._forget(name)

    def gone(self) -> list[str]:
        """Lists the shards that are known here and gone from the remote, unlike their packs."""
        return [name for name in sorted(self._unlisted()) if self._has_packs(name)]

    def _has_packs(self, name: str) -> bool:
        packs = {pack.name: pack.size for pack in self._whole[name].packs}
        return bool(find_present(self._storage, packs, self._transfers))

    def _unlisted(self) -> set[str]:
        """Returns the shards that are known here and not on the remote; a listing may be stale."""
        doubtful = self._whole.keys() - self._there
        return {name for name in doubtful if self._storage.size(INDEX + name) is None}

    def rewrite_damaged(self) -> None:
        """Reads the shards back that are known here, and writes those again that are damaged."""
        for name in sorted(self._whole.keys() & self._there):
            data = self._whole[name].encoded()
            with contextlib.suppress(NotFoundError):  # merged away since it was listed
                if self._storage.read(INDEX + name) != data:
                    self._storage.write(INDEX + name, data)

    def drop_damaged(self) -> None:
        """Deletes shards that are damaged; whoever has a sound copy writes it again with a push."""
        for name in sorted(self.damaged):
            self._storage.delete(INDEX + name)

    def shard_names(self, kind: Kind) -> dict[str, int]:
        """Lists the shards of a kind that are in use, with their sizes in bytes."""
        whole = {name: shard.size for name, shard in self._whole.items()}
        names = {**whole, **self._listed}
        return {name: size for name, size in names.items() if parse_shard_name(name).kind is kind}

    def whole_shards(self, names: Iterable[str]) -> list[Shard]:
        """Returns shards, fetched if they were not here; those that are gone are left out."""
        wanted = list(names)
        self._fetch(name for name in wanted if name not in self._whole)
        return [self._whole[name] for name in wanted if name in self._whole]

    def adopt(self, name: str, data: bytes) -> None:
        """Keeps a shard that this process just wrote, and drops what it supersedes."""
        self._keep(name, data, verify=False)
        self._drop_superseded()

    def packs(self) -> dict[str, int]:
        """Returns the name and size of every pack that the index knows, lost ones too."""
        return self._settled(self._packs)

    def _packs(self) -> dict[str, int]:
        found: dict[str, int] = {}
        for name in list(self._listed):
            found |= {pack.name: pack.size for pack in self._head(name).packs}
        for shard in self._whole.values():
            found |= {pack.name: pack.size for pack in shard.packs}
        return found

    def packs_of(self, places: Iterable[Place]) -> dict[str, int]:
        """Returns the sizes in bytes of the packs in which places are."""
        wanted = {place.pack for place in places}
        tables: list[Shard | ShardHead] = [*self._whole.values(), *self._heads.values()]
        return {
            pack.name: pack.size for each in tables for pack in each.packs if pack.name in wanted
        }

    def contains(self, digests: Collection[Digest], kind: Kind) -> set[Digest]:
        """Returns which digests lie in packs that are not lost."""
        if self.lost:
            return set(self.locate(digests, kind))
        return self._settled(lambda: self._contained(digests, kind))

    def _contained(self, digests: Collection[Digest], kind: Kind) -> set[Digest]:
        found: set[Digest] = set()
        for shard in self._consulted(kind, digests):
            if isinstance(shard, Shard):
                found |= self._checked(shard, lambda sound: sound.contains_many(digests))
            else:
                found |= self._find_ranged(shard, digests).keys()
        return found

    def lost_packs_of(self, digests: Collection[Digest], kind: Kind) -> set[str]:
        """Returns the lost packs that the index names for digests."""
        found = self._settled(lambda: self._places(digests, kind))
        packs = {place.pack for places in found.values() for place in places}
        return packs & self.lost

    def locate(self, digests: Collection[Digest], kind: Kind) -> dict[Digest, list[Place]]:
        """Returns all places of digests in packs that are not lost; nothing for those without."""
        found: dict[Digest, list[Place]] = {}
        located = self._settled(lambda: self._places(digests, kind))
        for digest, places in located.items():
            there = [place for place in places if place.pack not in self.lost]
            if there:
                found[digest] = there
        return found

    def _places(self, digests: Collection[Digest], kind: Kind) -> dict[Digest, list[Place]]:
        found: dict[Digest, list[Place]] = defaultdict(list)
        for shard in self._consulted(kind, digests):
            if isinstance(shard, Shard):
                places = self._checked(shard, lambda sound: sound.find_many(digests))
            else:
                places = self._find_ranged(shard, digests)
            for digest, listed in places.items():
                found[digest] += listed
        return found

    def _consulted(self, kind: Kind, digests: Collection[Digest]) -> Iterator[Shard | ShardHead]:
        """Yields all shards of a kind, fetched whole where that is cheaper than asking them."""
        whole_size = WHOLE_META_SIZE if kind is Kind.META else WHOLE_SIZE
        sizes = [(n, s) for n, s in self._listed.items() if parse_shard_name(n).kind is kind]
        many = len(digests) >= WHOLE_LOOKUPS
        complete = self._fetch(name for name, size in sizes if size <= whole_size or many)
        # One whose rows are all in a few buckets is not worth the care.
        left = [name for name, _ in sizes if name in self._listed]
        complete &= self._fetch(
            name
            for name in left
            if any(self._head(name).bucket_range(digest)[1] > _PIECE for digest in digests)
        )
        self._drop_superseded()
        if not complete:
            raise _ChangedError
        for name in list(self._whole):
            if parse_shard_name(name).kind is kind:
                yield self._whole[name]
        for name in list(self._listed):
            if parse_shard_name(name).kind is kind:
                yield self._head(name)

    def _checked(self, shard: Shard, ask: Callable[[Shard], _Answer]) -> _Answer:
        try:
            return ask(shard)
        except CorruptionError as error:
            self._forget(shard.name)
            raise _ChangedError from error

    def _settled(self, look: Callable[[], _Answer]) -> _Answer:
        """Looks at the shards, and again from the beginning where they changed meanwhile.

        That ends: what changed is not known any more, and shards are listed a few times at most.
        """
        tries = 0
        while True:
            try:
                return look()
            except _ChangedError:
                tries += 1
                if tries < _TRIES:
                    self.refresh()

    def _superseded(self) -> set[str]:
        return {name for shard in self._whole.values() for name in shard.superseded}

    def _drop_superseded(self) -> None:
        gone = self._superseded()
        for name in gone & self._whole.keys():
            self._forget(name)
        for name in gone & self._listed.keys():
            del self._listed[name]

    def _forget(self, name: str) -> None:
        self._whole.pop(name).close()
        self._path(name).unlink(missing_ok=True)

    def _path(self, name: str) -> Path:
        return self._directory / name

    def _fetch(self, names: Iterable[str]) -> bool:
        """Fetches whole shards; tells whether none of them was gone."""
        pieces = [
            (name, start, min(_PIECE, self._listed[name] - start))
            for name in sorted(names)
            for start in range(0, max(1, self._listed[name]), _PIECE)
        ]
        parts: dict[str, dict[int, bytes]] = defaultdict(dict)
        gone = set()
        for (name, start, _), data, error in self._transfers.run(
            self._piece, pieces, lambda piece: piece[2]
        ):
            if isinstance(error, NotFoundError):
                gone.add(name)
                self._listed.pop(name, None)
            elif error is not None:
                raise error
            elif data is not None:
                parts[name][start] = data
        for name in parts.keys() - gone:
            fetched = parts.pop(name)
            self._keep_sound(name, b"".join(fetched[start] for start in sorted(fetched)))
        return not gone

    def _keep_sound(self, name: str, data: bytes) -> None:
        size = self._listed[name]
        try:
            self._keep(name, data)
        except CorruptionError:
            # Bytes may have been turned on the way: a second look tells.
            again = self._storage.read_range(INDEX + name, 0, size)
            try:
                # In memory: for what the disk here does wrong, nothing may be deleted there.
                Shard.of(name, again).check()
            except CorruptionError as error:
                # All that other shards list stays within reach, of a push that heals this, too.
                self.damaged[name] = self._located(error, name)
                del self._listed[name]
            else:
                self._keep(name, again)

    def _piece(self, piece: tuple[str, int, int]) -> bytes:
        name, start, length = piece
        return self._storage.read_range(INDEX + name, start, length)

    def _keep(self, name: str, data: bytes, *, verify: bool = True) -> None:
        path = self._path(name)
        write_durably(path, data)
        try:
            self._whole[name] = Shard.open(path, verify=verify)
        except DatastoreError as error:
            path.unlink(missing_ok=True)
            raise self._located(error, name) from error
        self._listed.pop(name, None)

    def _located(self, error: DatastoreError, name: str) -> DatastoreError:
        error.where = f"{self._storage.url}/{INDEX}{name}"
        error.message = f"on the remote {self._storage.url}: {error.message}"
        return error

    def _head(self, name: str) -> ShardHead:
        if name not in self._heads:
            try:
                self._heads[name] = self._read_head(name)
            except CorruptionError:
                # Bytes may have been turned on the way: a second look tells.
                try:
                    self._heads[name] = self._read_head(name)
                except DatastoreError as error:
                    raise self._located(error, name) from error
        return self._heads[name]

    def _read_head(self, name: str) -> ShardHead:
        size = self._listed[name]
        data = self._part(name, 0, min(size, ShardHead.HEAD_SIZE))
        needed = ShardHead.needed(name, data, size)
        if needed > len(data):
            data += self._part(name, len(data), needed - len(data))
        return ShardHead.parse(name, data, size)

    def _part(self, name: str, start: int, length: int) -> bytes:
        try:
            return self._piece((name, start, length))
        except NotFoundError as error:
            raise self._gone(name) from error

    def _gone(self, name: str) -> _ChangedError:
        self._listed.pop(name, None)
        return _ChangedError(name)

    def _find_ranged(
        self, head: ShardHead, digests: Collection[Digest]
    ) -> dict[Digest, list[Place]]:
        wanted: dict[tuple[int, int], list[Digest]] = defaultdict(list)
        for digest in digests:
            bucket = head.bucket_range(digest)
            if bucket[1]:
                wanted[bucket].append(digest)
        spans = coalesce([Span(*bucket) for bucket in sorted(wanted)])
        found: dict[Digest, list[Place]] = {}
        gone = False
        for span, data, error in self._transfers.run(
            lambda span: self._piece((head.name, *span)), spans, lambda span: span.length
        ):
            if isinstance(error, NotFoundError):
                gone = True  # raised below: raised here, it would end all other transfers
                continue
            if error is not None:
                raise error
            for (start, length), looked_up in wanted.items():
                if data is not None and span.start <= start < span.start + span.length:
                    rows = data[start - span.start :][:length]
                    found |= self._find_in_rows(head, start, rows, looked_up)
        if gone:
            raise self._gone(head.name)
        return {digest: places for digest, places in found.items() if places}

    def _find_in_rows(
        self, head: ShardHead, start: int, rows: bytes, digests: Iterable[Digest]
    ) -> dict[Digest, list[Place]]:
        try:
            return {digest: head.find_in_bucket(digest, rows) for digest in digests}
        except CorruptionError:
            again = self._part(head.name, start, len(rows))
        try:
            return {digest: head.find_in_bucket(digest, again) for digest in digests}
        except CorruptionError as error:
            raise self._located(error, head.name) from error
