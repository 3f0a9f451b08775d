"""What a version needs: every node and chunk that somebody who reads it will ask for.

A set of nodes that are known to be somewhere stands for all that lies below them: where two
versions share a subtree, only one of them is walked. Nodes are read many at a time, because a
reader that has them on another machine turns each request into a round trip.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import deque
from collections.abc import Container, Iterable, Iterator
from itertools import islice
from typing import Final, Generic, NamedTuple, TypeVar

from datastore.errors import FormatError
from datastore.kernel.hashing import Digest
from datastore.trees.files import FileTree, decode_entry
from datastore.trees.manifest import FAULTY, MAX_DEPTH, ChunkRef, Content, decode_page
from datastore.trees.node import Leaf
from datastore.trees.tree import NodeReader, Subtree, load, subtrees_within, whole

_LEAVES: Final = 512
"""Leaves, or lowest pages of manifests, read at once: some 60,000 files, and 5 MB of nodes."""
_INNERS: Final = 64
"""Higher nodes read at once; each names hundreds of others, which wait in memory."""
_CONTENTS: Final = 4096

_Item = TypeVar("_Item")


class Needs(NamedTuple):
    """One batch of what a version needs."""

    nodes: list[Digest]
    """The root record, tree nodes and manifest pages."""
    chunks: list[tuple[Digest, int]]
    """Each chunk's digest and its size in bytes, as the manifest gives it."""


def needs(
    version: FileTree,
    reader: NodeReader,
    *,
    known: Container[Digest] = frozenset(),
    start: bytes = b"",
    stop: bytes | None = None,
) -> Iterator[Needs]:
    """Lists what a version needs, in batches; every node is read on the way.

    Memory is bounded by a few batches of nodes, and by the digests of the manifest pages: one for
    about 2 MB of large files.

    Args:
        version: The version.
        reader: Where its nodes are.
        known: Nodes to leave out, with all that lies below them. A node of a batch says nothing
            yet of what lies below it: take it for known when the walk is over, not before.
        start: The first key wanted.
        stop: The key to end before; None for all from `start`.

    Yields:
        Batches in which every node stands once; a chunk stands once in a batch, and again in
        another one where other files have it too.

    Raises:
        FormatError: A node, an entry or a page is malformed, or is not what names it says.
        NotFoundError: A node is not there.
        CorruptionError: A node's bytes do not have its digest.
    """
    if version.root in known:
        return
    yield Needs([version.root], [])
    pages = _Pages(reader, known)
    backlog = _Backlog[Subtree]()
    top = whole(version.tree)
    backlog.add(top.level, [] if top.digest in known else [top])
    while batch := backlog.take():
        contents: list[Content] = []
        for subtree, node in zip(batch, load(batch, reader), strict=True):
            if isinstance(node, Leaf):
                contents += _contents(node, start, stop)
            else:
                below = subtrees_within(node, subtree.after, start, stop)
                backlog.add(node.level - 1, [each for each in below if each.digest not in known])
        yield Needs([subtree.digest for subtree in batch], pages.add(contents))
        yield from pages.read(rest=False)
    yield from pages.read(rest=True)


def node_digests(version: FileTree, reader: NodeReader) -> Iterator[Digest]:
    """Lists the root record and the tree's nodes, to be `known` when another version is walked.

    Only inner nodes are read: leaves, which are nearly all of a tree, are named by their parents.

    Raises:
        FormatError: An inner node is malformed, or is not what its parent says.
        NotFoundError: An inner node is not there.
        CorruptionError: An inner node's bytes do not have its digest.
    """
    yield version.root
    top = whole(version.tree)
    yield top.digest
    backlog = _Backlog[Subtree]()
    backlog.add(top.level, [top] if top.level else [])
    while batch := backlog.take():
        for subtree, node in zip(batch, load(batch, reader), strict=True):
            if not isinstance(node, Leaf):
                yield from (digest for digest, _ in node.children)
                if node.level > 1:
                    backlog.add(node.level - 1, subtrees_within(node, subtree.after, b"", None))


def content_needs(
    contents: Iterable[Content], reader: NodeReader, *, known: Container[Digest] = frozenset()
) -> Iterator[Needs]:
    """Lists what some files need: their manifest pages and their chunks.

    The pages of many files are read together. Batches and `known` are those of `needs`.

    Raises:
        FormatError: A page is malformed, or does not fit the file that names it.
        NotFoundError: A page is not there.
        CorruptionError: A page's bytes do not have its digest.
    """
    pages = _Pages(reader, known)
    waiting = iter(contents)
    while batch := list(islice(waiting, _CONTENTS)):
        chunks = pages.add(batch)
        if chunks:
            yield Needs([], chunks)
        yield from pages.read(rest=False)
    yield from pages.read(rest=True)


def _contents(leaf: Leaf, start: bytes, stop: bytes | None) -> Iterator[Content]:
    first = bisect_left(leaf.keys, start)
    end = len(leaf.keys) if stop is None else bisect_left(leaf.keys, stop)
    for value in leaf.values[first:end]:
        entry = decode_entry(value)
        if entry.is_file:
            yield entry.content


class _Backlog(Generic[_Item]):
    """What is to be read yet, by its height above the lowest nodes.

    Full batches are taken as low as there is one, so that little waits; where there is none, more
    is read at the top first, so that what is read below does come in full batches.
    """

    def __init__(self) -> None:
        self._heights: dict[int, deque[_Item]] = {}

    def add(self, height: int, items: Iterable[_Item]) -> None:
        self._heights.setdefault(height, deque()).extend(items)

    def take(self, *, rest: bool = True) -> list[_Item]:
        """Takes a batch in the order of adding; empty where there is none.

        Args:
            rest: Whether a batch that is not full will do.
        """
        waiting = sorted(height for height, items in self._heights.items() if items)
        for height in waiting:
            if len(self._heights[height]) >= _batch(height):
                return self._first(height)
        return self._first(waiting[-1]) if rest and waiting else []

    def _first(self, height: int) -> list[_Item]:
        items = self._heights[height]
        return [items.popleft() for _ in range(min(_batch(height), len(items)))]


def _batch(height: int) -> int:
    return _INNERS if height else _LEAVES


class _Page(NamedTuple):
    digest: Digest
    size: int
    depth: int


class _Pages:
    """Manifest pages that wait until there are enough of them for a request."""

    def __init__(self, reader: NodeReader, known: Container[Digest]) -> None:
        self._reader = reader
        self._known = known
        # Files share pages. A hostile manifest of eight pages, each naming the next a hundred
        # times, would otherwise be walked without end.
        self._seen: set[Digest] = set()
        self._backlog = _Backlog[_Page]()

    def add(self, contents: Iterable[Content]) -> list[tuple[Digest, int]]:
        """Takes in files; returns the chunks that are known without reading a page."""
        chunks: dict[Digest, int] = {}
        for content in contents:
            if content.chunks:
                chunks.update(content.chunks)
            elif content.depth:
                self._put(content.depth, (ChunkRef(content.digest, content.size),))
            elif content.size:
                chunks[content.digest] = content.size
        return list(chunks.items())

    def read(self, *, rest: bool) -> Iterator[Needs]:
        """Reads all full batches; with `rest` everything that waits."""
        while batch := self._backlog.take(rest=rest):
            chunks: dict[Digest, int] = {}
            encoded = self._reader.read_nodes([page.digest for page in batch])
            for page, data in zip(batch, encoded, strict=True):
                rows = decode_page(data, page.depth, page.size)
                if page.depth > 1:
                    self._put(page.depth - 1, rows)
                else:
                    chunks.update(rows)
            yield Needs([page.digest for page in batch], list(chunks.items()))

    def _put(self, depth: int, refs: Iterable[ChunkRef]) -> None:
        if not 0 < depth <= MAX_DEPTH:
            raise FormatError(f"a manifest of depth {depth} is not allowed", hint=FAULTY)
        for digest, size in refs:
            if digest not in self._seen and digest not in self._known:
                self._seen.add(digest)
                self._backlog.add(depth - 1, (_Page(digest, size, depth),))
