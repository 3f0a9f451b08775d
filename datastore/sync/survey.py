"""What a push has to send: the packs that hold what versions need and the remote lacks."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from itertools import groupby
from typing import Final, NamedTuple

from datastore.errors import CorruptionError, FormatError, NotFoundError
from datastore.kernel.hashing import Digest
from datastore.objects.pack import Kind
from datastore.objects.store import ObjectStore
from datastore.progress import Task
from datastore.sync.catalog import Catalog
from datastore.trees import files
from datastore.trees.closure import needs, node_digests

_BATCH: Final = 100_000
"""Digests held against the index together: one pass over a shard serves them all."""


class Version(NamedTuple):
    """A version that a commit names."""

    path: str
    rev: str
    """Abbreviated commit; empty for the workspace."""
    root: Digest


class Pack(NamedTuple):
    """A pack of the local store."""

    name: str
    kind: Kind
    size: int
    """In bytes."""
    path: str
    """Of a dataset that needs it."""


class Survey:
    """One look at what is to be sent.

    Args:
        store: Has the versions.
        catalog: Says what the remote has.
        task: Told of the versions looked at.
    """

    def __init__(self, store: ObjectStore, catalog: Catalog, task: Task) -> None:
        self._store = store
        self._catalog = catalog
        self._task = task
        self._rows = {row.number: row for row in store.index.packs()}
        self._pending: dict[Kind, dict[Digest, Version]] = {kind: {} for kind in Kind}
        self.packs: dict[str, Pack] = {}
        """To be sent, by name."""
        self.absent: Counter[Version] = Counter()
        """How many chunks of a version are neither here nor there."""
        self.healed: set[str] = set()
        """Packs that the remote lost and that held something of what is to be sent."""

    def look(
        self, versions: Sequence[Version], there: set[Digest], *, trust: bool, alone: bool = False
    ) -> None:
        """Finds what versions need that the remote lacks.

        Args:
            versions: Each dataset's in the order of history.
            there: Roots that the remote acknowledged; these versions are left out.
            trust: Take it that all of an acknowledged version is there, so that only what differs
                from it has to be looked at. Without, all of all versions is.
            alone: Look at each version as if there were no other, so that `absent` names every one
                that lacks something, and not only the first of those that share what is lacking.
        """
        for _, group in groupby(versions, key=lambda version: version.path):
            known: set[Digest] = set()
            for before, version in _pairs(group):
                if trust and version.root in there:
                    continue
                if trust and before is not None and before.root in there:
                    known |= self._nodes_here(before)
                self._look_at(version, set(known) if alone else known)
                if alone:
                    self._settle()
            self._settle()

    def _nodes_here(self, version: Version) -> set[Digest]:
        """Lists the nodes of a version that the remote has; none if it is not here in full."""
        try:
            with self._store.offline():
                return set(node_digests(files.load(version.root, self._store), self._store))
        except (NotFoundError, CorruptionError, FormatError):
            return set()

    def _look_at(self, version: Version, known: set[Digest]) -> None:
        if version.root in known:
            return
        self._task.describe(f"{version.rev}:{version.path}" if version.rev else version.path)
        self._task.advance(1)
        seen: list[Digest] = []
        try:
            tree = files.load(version.root, self._store)
            for batch in needs(tree, self._store, known=known):
                self._ask(Kind.META, batch.nodes, version)
                self._ask(Kind.DATA, (digest for digest, _ in batch.chunks), version)
                seen += batch.nodes
        except NotFoundError:
            self.absent[version] += 1
        else:
            # Only now: a node is listed before what lies below it was looked at.
            known.update(seen)

    def _ask(self, kind: Kind, digests: Iterable[Digest], version: Version) -> None:
        pending = self._pending[kind]
        for digest in digests:
            pending.setdefault(digest, version)
        if len(pending) >= _BATCH:
            self._settle()

    def _settle(self) -> None:
        for kind, pending in self._pending.items():
            if pending:
                self._find(kind, pending)
                pending.clear()

    def _find(self, kind: Kind, pending: dict[Digest, Version]) -> None:
        missing = list(pending.keys() - self._catalog.contains(pending.keys(), kind))
        if self._catalog.lost and missing:
            self.healed |= self._catalog.lost_packs_of(missing, kind)
        places = self._store.places(missing)
        if any(found is not None and found.pack not in self._rows for found in places):
            # Packs came since: another process sealed one, or a node was fetched to be looked at.
            self._rows = {row.number: row for row in self._store.index.packs()}
        for digest, found in zip(missing, places, strict=True):
            if found is None:
                self.absent[pending[digest]] += 1
                continue
            row = self._rows[found.pack]
            if row.name not in self.packs:
                path = pending[digest].path
                self.packs[row.name] = Pack(row.name, Kind(row.kind), row.size, path)


def _pairs(group: Iterable[Version]) -> Iterator[tuple[Version | None, Version]]:
    """Yields each version with a neighbour that it is likely to share most with."""
    listed = list(group)
    for at, version in enumerate(listed):
        yield (listed[at - 1] if at else listed[1] if len(listed) > 1 else None), version
