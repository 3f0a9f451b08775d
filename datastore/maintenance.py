"""Proving that what is stored can be read back, and saying which files it costs if not.

``verify`` trusts nothing: not the index, not a pack's footer, not its name.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeAlias

from datastore.errors import (
    CorruptionError,
    DatastoreError,
    FormatError,
    NotFoundError,
    StorageError,
)
from datastore.kernel.hashing import Digest, format_digest, pack_hasher
from datastore.objects.index import Found
from datastore.objects.pack import SUFFIX, Kind
from datastore.objects.packreader import (
    Block,
    block_members,
    open_pack,
    read_footer,
    recover,
    scan_blocks,
    sound_blocks,
)
from datastore.objects.store import ObjectStore
from datastore.progress import Task
from datastore.storage.local import storage_error
from datastore.trees import files
from datastore.trees.files import FileTree
from datastore.trees.manifest import ChunkRef, iter_chunks
from datastore.workspace.changes import full_path, version_deltas

_READ: int = 1024 * 1024


@dataclass(frozen=True, slots=True)
class Damage:
    """Something that cannot be read back."""

    path: str
    """Of the file that needs it; empty where no checked version does, or none is known."""
    rev: str
    """The version of that file."""
    pack: str
    """The damaged pack; empty where something is missing."""
    reason: str


@dataclass(frozen=True, slots=True)
class VerifyResult:
    """What was checked, and what is damaged."""

    ok: bool
    checked: dict[str, int]
    damaged: tuple[Damage, ...]


@dataclass(frozen=True, slots=True)
class RebuildResult:
    """What an index rebuild found."""

    packs: int
    chunks: int
    damaged: tuple[str, ...]
    """File names of packs of which only the sound part was entered."""


Elsewhere: TypeAlias = Callable[[Collection[Digest], Kind], set[Digest]]


class Version(NamedTuple):
    """A version to check."""

    path: str
    rev: str
    root: Digest


class Verifier:
    """One verification of a store.

    Args:
        store: What is verified.
        task: Told of bytes read.
        quick: Only sizes, headers, footers and metadata; no content.
        elsewhere: Says which of some digests are to be had from a remote: these may be missing
            here. None where there is no remote.
    """

    def __init__(
        self, store: ObjectStore, task: Task, *, quick: bool, elsewhere: Elsewhere | None = None
    ) -> None:
        self._store = store
        self._task = task
        self._quick = quick
        self._elsewhere = elsewhere
        self._bad: set[Digest] = set()
        self._node_packs: set[int] = set()
        self._last: dict[str, FileTree] = {}
        self._roots: set[Digest] = set()
        names = ("packs", "chunks", "nodes", "bytes", "versions", "files", "elsewhere")
        self.counts = dict.fromkeys(names, 0)
        self.damaged: list[Damage] = []

    def result(self) -> VerifyResult:
        """Returns what was found so far."""
        return VerifyResult(not self.damaged, dict(self.counts), tuple(self.damaged))

    def check_packs(self) -> None:
        """Checks every pack file, and that none that the index knows is gone."""
        self._store.forget_packs()
        self._store.refresh()  # a process that was killed may have left one unknown
        rows = {row.name: row for row in self._store.index.packs()}
        self._node_packs = {row.number for row in rows.values() if row.kind == Kind.META}
        for path in self._store.pack_files():
            self._task.describe(f"pack {self.counts['packs'] + 1}")
            self.counts["packs"] += 1
            row = rows.pop(path.name.removesuffix(SUFFIX), None)
            sound: set[Digest] = set()
            problems = self._all_problems(path, sound)
            self.damaged += [Damage("", "", path.name, problem) for problem in problems]
            if problems and row is not None:
                self._bad |= set(self._store.index.digests_of(row.number)) - sound
        for row in rows.values():
            self.damaged.append(Damage("", "", row.name + SUFFIX, "the pack is gone"))
            self._bad |= set(self._store.index.digests_of(row.number))

    def _all_problems(self, path: Path, sound: set[Digest]) -> list[str]:
        found: list[str] = []
        try:
            found += self._pack_problems(path, sound)
        except (NotFoundError, StorageError) as error:
            found.append(str(error))
        return found

    def _pack_problems(self, path: Path, sound: set[Digest]) -> Iterator[str]:
        sealed = None
        try:
            sealed = read_footer(path)
        except DatastoreError as error:
            yield str(error)
        if self._quick:
            if sealed is not None:
                self._count(sealed.kind, len(sealed.digests))
                sound.update(sealed.digests)
            return
        if not self._has_its_name(path):
            yield "its bytes are not what its name promises"
        for kind in (sealed.kind,) if sealed is not None else Kind:
            for member in _members(path, kind):
                if isinstance(member, str):
                    yield member
                else:
                    sound.add(member)
        if sealed is not None:
            lost = set(sealed.digests) - sound
            if lost:
                sound.update(recover(path).digests)
                lost -= sound
            self._count(sealed.kind, len(sealed.digests) - len(lost))
            if lost:
                yield f"{len(lost)} of its {len(sealed.digests)} members cannot be read"

    def pack_problems(self, path: Path) -> list[str]:
        """Checks one pack file; returns what is wrong with it.

        Raises:
            NotFoundError: It is gone.
            StorageError: It cannot be read, which says nothing about what it holds.
        """
        return list(self._pack_problems(path, set()))

    def _count(self, kind: Kind, members: int) -> None:
        self.counts["nodes" if kind is Kind.META else "chunks"] += members

    def _has_its_name(self, path: Path) -> bool:
        hasher = pack_hasher()
        with open_pack(path) as file:
            try:
                while piece := file.read(_READ):
                    hasher.update(piece)
                    self.counts["bytes"] += len(piece)
                    self._task.advance(len(piece))
            except OSError as error:
                raise storage_error(error, "read", path) from error
        return hasher.digest().hex() == path.name.partition("-")[0]

    def check_versions(self, versions: Iterable[Version]) -> None:
        """Checks that all that versions need is stored and sound; run `check_packs` first.

        Of two versions of one dataset in a row only what differs is looked at again.
        """
        for version in versions:
            self.counts["versions"] += 1
            if version.root not in self._roots:
                self._roots.add(version.root)
                self._task.describe(f"{version.rev}:{version.path}")
                self.damaged += self._version_problems(version)

    def _version_problems(self, version: Version) -> Iterator[Damage]:
        before = self._last.pop(version.path, None)
        try:
            loaded = files.load(version.root, self._store)
            for key, _, value in version_deltas(before, loaded, self._store):
                if value is not None:
                    self.counts["files"] += 1
                    yield from self._file_problem(version, key, value)
        except DatastoreError as error:
            if isinstance(error, StorageError) and error.reason:
                raise  # a remote that cannot be asked says nothing of what it has
            yield Damage(version.path, version.rev, "", str(error))
            return
        self._last[version.path] = loaded

    def _file_problem(self, version: Version, key: bytes, value: bytes) -> Iterator[Damage]:
        path = full_path(version.path, key)
        try:
            entry = files.decode_entry(value)
            refs = [ref for _, ref in iter_chunks(entry.content, self._store)]
        except DatastoreError as error:
            yield Damage(path, version.rev, "", str(error))
            return
        places = self._store.places(ref.digest for ref in refs)
        elsewhere = self._absent_but_elsewhere(refs, places)
        for (digest, size), found in zip(refs, places, strict=True):
            name, pack = format_digest(digest), ""
            if digest in elsewhere:
                continue
            if found is None:
                reason = f"{name} is not in the store"
            elif digest in self._bad:
                reason, pack = f"{name} is damaged", self._store.pack_of(digest)
            elif found.pack in self._node_packs:
                reason = f"{name} is a tree node, where a chunk is promised"
            elif found.location.size != size:
                reason = f"{name} has {found.location.size} bytes, where {size} are promised"
            else:
                continue
            yield Damage(path, version.rev, pack, reason)
            return

    def _absent_but_elsewhere(
        self, refs: Sequence[ChunkRef], places: Sequence[Found | None]
    ) -> set[Digest]:
        absent = {ref.digest for ref, found in zip(refs, places, strict=True) if found is None}
        if not absent or self._elsewhere is None:
            return set()
        there = self._elsewhere(absent, Kind.DATA)
        self.counts["elsewhere"] += bool(there)
        return there


def _members(path: Path, kind: Kind) -> Iterator[Digest | str]:
    """Yields the digest of each sound chunk, and a sentence for each damaged place."""
    for block in scan_blocks(path):
        if not isinstance(block, Block):
            yield f"it is damaged at byte {block}"
            continue
        try:
            yield from (digest for digest, _ in block_members(block, kind, path))
        except (CorruptionError, FormatError) as error:
            yield str(error)


def rebuild_index(store: ObjectStore, task: Task) -> RebuildResult:
    """Makes the index again from the packs.

    A pack that is not sound in every byte is set aside, never deleted, and what proves to be what
    its digest names is stored again; what is lost counts as not stored, so adding the file again
    heals it.
    """
    verifier = Verifier(store, task, quick=False)
    store.clear_index()
    packs = chunks = 0
    damaged = []
    for path in list(store.pack_files()):
        if verifier.pack_problems(path):
            damaged.append(path.name)
            store.set_aside(path)
        else:
            sealed = read_footer(path)
            store.index.add_pack(sealed)
            packs += 1
            chunks += len(sealed.digests)
    # Also of packs that an earlier rebuild set aside, and was killed before it had saved.
    for path in store.set_aside_files():
        _salvage(store, path)
    return RebuildResult(packs, chunks, tuple(damaged))


def _salvage(store: ObjectStore, path: Path) -> None:
    """Stores what is sound in a damaged pack again."""
    with store.session() as session:
        for kind, _, members in sound_blocks(path):
            put = session.put_chunk if kind is Kind.DATA else session.put_node
            for _, part in members:
                put(bytes(part))
        session.commit()
