"""Bringing what the local store lacks: on demand, when something is read, or much at once."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import (
    Callable,
    Collection,
    Container,
    Generator,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from itertools import islice
from typing import Final

from datastore.errors import CorruptionError, DatastoreError, FormatError, NotFoundError
from datastore.kernel.hashing import Digest, format_digest
from datastore.objects.pack import Kind
from datastore.objects.received import BlockCollector
from datastore.objects.store import ObjectStore
from datastore.progress import SILENT, Progress
from datastore.storage.counting import Traffic
from datastore.storage.local import sweep
from datastore.sync.download import Download
from datastore.sync.plan import Wanted, choose, gather, plan_loads
from datastore.sync.remote import Remote
from datastore.trees.closure import content_needs
from datastore.trees.manifest import Content

_BATCH: Final = 100_000
"""Digests brought together: their places take some 60 MB."""
_ROUNDS: Final = 3
_EAGER_VISITS: Final = 5
"""A metadata pack that is asked for so often is fetched whole: there will be more."""
_FILES: Final = 4096
"""Files looked at together."""
_LISTINGS: Final = 3
"""The index is listed so often in a row without finding what is asked for; then not for a while."""
_WHILE: Final = 10.0
"""Seconds after which what failed is tried again: a process may stay open for days."""


class Fetcher:
    """The source of a store: what is not here comes from a remote. For one thread.

    Args:
        store: What is filled up; its `source` is to be this.
        open_remote: Opens the remote, at the first thing that is missing; what it transfers is to
            be counted as told.
        progress: Told of bytes that come when much is brought.
    """

    def __init__(
        self,
        store: ObjectStore,
        open_remote: Callable[[Traffic], Remote],
        *,
        progress: Progress = SILENT,
    ) -> None:
        self._store = store
        self._open_remote = open_remote
        self._remote: Remote | None = None
        self._collector = BlockCollector(store)
        self._failed: dict[Digest, DatastoreError] = {}
        self._visits: Counter[str] = Counter()
        self._listed_at: float | None = None
        self._in_vain = 0
        self._ahead: Iterator[None] | None = None
        self._refusal: tuple[DatastoreError, float] | None = None
        self.progress = progress
        self.traffic = Traffic()
        """Of all remotes that this opens."""
        self.packs = 0
        """How many packs something was fetched of."""
        self.unmet: DatastoreError | None = None
        """Why something that was to be brought is still not here; None where all came."""

    @property
    def remote(self) -> Remote:
        """The remote, connected.

        Raises:
            NotFoundError: Nothing was ever pushed to it.
            StorageError: It cannot be reached.
        """
        if self._refusal is not None and time.monotonic() < self._refusal[1] + _WHILE:
            raise self._refusal[0]  # once is enough: a log asks for a hundred versions
        if self._remote is None:
            remote = self._open_remote(self.traffic)
            try:
                remote.connect(create=False)
            except BaseException as error:
                remote.close()
                if isinstance(error, DatastoreError):
                    self._refusal = error, time.monotonic()
                raise
            sweep(self._store.staging)  # what a killed pull left half written
            self._remote = remote
            self._listed_at = None
        return self._remote

    def elsewhere(self, digests: Collection[Digest], kind: Kind) -> set[Digest]:
        """Returns which digests the remote has, by its index.

        Raises:
            NotFoundError: Nothing was ever pushed to it.
            StorageError: It cannot be reached.
        """
        catalog = self.remote.catalog
        if self._listed_at is None:
            self._list()
        return catalog.contains(digests, kind)

    def _list(self) -> None:
        self.remote.catalog.refresh()
        self._listed_at = time.monotonic()

    @property
    def name(self) -> str:
        """See `datastore.objects.store.Source`."""
        if self._remote is None:
            return "the remote"  # not asked yet
        return f"the remote {self._remote.name} ({self._remote.url})"

    def keep(self) -> None:
        """Makes all that was fetched durable and findable in the store.

        Raises:
            StorageError: The disk is full or fails.
        """
        self._collector.flush()

    def close(self) -> None:
        """Keeps what was fetched and lets go of the remote."""
        try:
            self.keep()
        finally:
            self._collector.discard()
            self._disconnect()

    def _disconnect(self) -> None:
        self._ahead = None
        if self._remote is not None:
            self._remote.close()
            self._remote = None

    def fetch(self, digests: Sequence[Digest], kind: Kind) -> dict[Digest, bytes]:
        """Brings what somebody is about to read; see `datastore.objects.store.Source`.

        Raises:
            CorruptionError: It is damaged on the remote.
            StorageError: The remote cannot be reached.
        """
        missing = dict.fromkeys(digests)
        if kind is Kind.DATA:
            self._await(missing)
        found: dict[Digest, bytes] = {}
        for digest in list(missing):
            held = self._collector.get(digest)
            if held is not None:
                found[digest] = held
        for digest in found:
            del missing[digest]
        if missing and kind is Kind.DATA:
            # What came in a whole pack meanwhile the store finds for itself.
            missing = dict.fromkeys(self._store.missing(missing))
        self._raise_failed(missing)
        if missing:
            found |= self._bring(missing, kind, handed=missing)
            self._raise_failed(missing)
        return found

    def _await(self, digests: Iterable[Digest]) -> None:
        """Goes on with what `begin` began, until some chunks have come or it is at its end."""
        for digest in digests:
            while (
                self._ahead is not None
                and digest not in self._failed
                and self._collector.get(digest) is None
                and not self._store.has(digest)
            ):
                self._go_on(self._ahead)

    def _go_on(self, ahead: Iterator[None]) -> None:
        try:
            if next(ahead, self) is self:
                self._ahead = None
        except BaseException:
            self._ahead = None
            self._disconnect()
            raise

    def _raise_failed(self, digests: Iterable[Digest]) -> None:
        for digest in digests:
            if digest in self._failed:
                raise self._failed[digest]

    def begin(self, contents: Iterable[Content]) -> None:
        """Begins to bring what some files need, in their order, and does not wait for it.

        It comes while other files are written; who reads what is still to come waits for it.
        """
        if self._ahead is not None:
            self._disconnect()  # what was begun before is given up, and its transfers with it
        self._ahead = self._steps(contents)

    def bring(self, contents: Iterable[Content]) -> None:
        """Brings all that some files need and that is not here, in few requests.

        What is damaged on the remote is left out; reading it raises an error that says so.

        Raises:
            StorageError: The remote cannot be reached.
        """
        self.begin(contents)
        while self._ahead is not None:
            self._go_on(self._ahead)
        self._collector.flush()

    def _steps(self, contents: Iterable[Content]) -> Iterator[None]:
        pending: dict[Digest, None] = {}
        for batch in self._chunks_of(contents):
            pending.update(dict.fromkeys(batch))
            if len(pending) >= _BATCH:
                yield from self._bring_pending(pending)
                pending = {}
        yield from self._bring_pending(pending)

    def _bring_pending(self, pending: Iterable[Digest]) -> Iterator[None]:
        left = yield from self._bring_in_rounds(self._store.missing(pending), Kind.DATA)
        for digest in left:
            self.unmet = self._failed.get(digest) or self.unmet or self._nowhere(digest)

    def _chunks_of(self, contents: Iterable[Content]) -> Iterator[list[Digest]]:
        """Lists the chunks of files; a page that cannot be had keeps back no other file."""
        waiting = iter(contents)
        while some := list(islice(waiting, _FILES)):
            try:
                yield from self._listed_in(some)
            except (CorruptionError, NotFoundError, FormatError):
                for content in some:
                    try:
                        yield from self._listed_in([content])
                    except (CorruptionError, NotFoundError, FormatError) as error:
                        self.unmet = error  # whoever reads that file meets it again

    def _listed_in(self, contents: Iterable[Content]) -> Iterator[list[Digest]]:
        for batch in content_needs(contents, self._store):
            yield [digest for digest, _ in batch.chunks]

    def _bring(
        self, digests: Iterable[Digest], kind: Kind, *, handed: Collection[Digest]
    ) -> dict[Digest, bytes]:
        found: dict[Digest, bytes] = {}
        try:
            for _ in self._bring_in_rounds(digests, kind, handed=handed, found=found):
                pass
        except BaseException:
            # Its transfers were ended: whoever wants more of it begins anew.
            self._disconnect()
            raise
        return found

    def _bring_in_rounds(
        self,
        digests: Iterable[Digest],
        kind: Kind,
        *,
        handed: Collection[Digest] = (),
        found: dict[Digest, bytes] | None = None,
    ) -> Generator[None, None, Mapping[Digest, None]]:
        """Goes on until all came, or what is left is not to be had, which is returned."""
        left = dict.fromkeys(digests)
        bad: dict[str, DatastoreError] = {}
        for _ in range(_ROUNDS):
            wanted = self._wanted(left, kind, bad) if left else []
            if not wanted:
                break
            download = Download(self._store, self._collector, self.remote, handed=handed)
            yield from self._run(download, wanted, kind)
            if found is not None:
                found |= download.found
            left = {digest: None for digest in left if digest not in download.arrived}
            bad |= download.damaged
            if download.gone or download.damaged:
                # Copied elsewhere by gc, or sent again by who healed it: the index may know.
                self.remote.catalog.lost |= download.gone
                self.remote.catalog.refresh()
        self._note_failed(left, bad, kind)
        return left

    def _wanted(
        self, digests: Mapping[Digest, None], kind: Kind, bad: Container[str]
    ) -> list[Wanted]:
        """Decides which blocks to fetch, in the order of the digests."""
        catalog = self.remote.catalog
        places = catalog.locate(digests.keys(), kind)
        if len(places) < len(digests) and self._worth_listing():
            before = len(places)
            self._list()
            places = catalog.locate(digests.keys(), kind)
            self._in_vain = 0 if len(places) > before else self._in_vain + 1
        good = {
            digest: sound
            for digest, listed in places.items()
            if (sound := [place for place in listed if place.pack not in bad])
        }
        chosen = choose(good)
        ordered = [chosen[digest] for digest in digests if digest in chosen]
        return gather(ordered, kind, catalog.packs_of(ordered))

    def _worth_listing(self) -> bool:
        """Whether the index may say more by now; somebody may have pushed a moment ago."""
        if self._listed_at is None or self._in_vain < _LISTINGS:
            return True
        return time.monotonic() > self._listed_at + _WHILE

    def _run(self, download: Download, wanted: Sequence[Wanted], kind: Kind) -> Iterator[None]:
        self._visits.update(each.pack for each in wanted)
        eager = {
            each.pack
            for each in wanted
            if kind is Kind.META
            and (self._visits[each.pack] >= _EAGER_VISITS or 8 * each.bytes >= each.size)
        }
        loads = plan_loads(wanted, eager=eager)
        total = sum(load.span.length for load in loads)
        with self.progress.task(f"fetch from {self.remote.name}", total, "B") as task:
            task.describe("metadata" if kind is Kind.META else f"{len(wanted)} pack(s)")
            yield from download.run(loads, task)
        self.packs += len(download.packs)

    def _note_failed(
        self, left: Mapping[Digest, None], bad: dict[str, DatastoreError], kind: Kind
    ) -> None:
        if not left:
            return
        for error in self.remote.catalog.damaged.values():
            # One that is passed over may be the one that lists them.
            error.hint = "heal it from a clone that has the data: datastore push --verify"
            self._failed.update(dict.fromkeys(left, error))
        if not bad:
            return
        places = self.remote.catalog.locate(left.keys(), kind)
        for digest, listed in places.items():
            for place in listed:
                if place.pack in bad:
                    self._failed[digest] = self._damage(digest, place.pack)

    def _nowhere(self, digest: Digest) -> NotFoundError:
        return NotFoundError(
            f"{format_digest(digest)} is neither here nor on the remote {self.remote.name}",
            where=self.remote.url,
            hint="push from a clone that has the data: datastore push --verify",
        )

    def _damage(self, digest: Digest, pack: str) -> CorruptionError:
        return CorruptionError(
            f"pack {pack} is damaged on the remote {self.remote.name}: "
            f"it does not hold what {format_digest(digest)} names",
            expected=format_digest(digest),
            where=f"{self.remote.url}/packs/{pack[:2]}/{pack}.pack",
            hint="heal it from a clone that has the data: datastore push --read-data",
        )
