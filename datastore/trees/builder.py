"""Writing a tree: rows go in at the bottom, nodes fall out at every level.

A builder holds one open node a level, so a build needs no more memory however many rows it takes.
Edits use the same builder: they hand over untouched nodes whole where the levels below are aligned.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice, pairwise
from operator import itemgetter
from typing import Final, Generic, TypeVar

from datastore.errors import UsageError
from datastore.trees.node import (
    Child,
    Inner,
    Leaf,
    Node,
    encode_inner,
    encode_leaf,
    increasing,
)
from datastore.trees.shape import Boundary, Shape
from datastore.trees.tree import NodeWriter, Tree

_BATCH: Final = 1024  # rows handled in one go: larger ones gain nothing

_Item = TypeVar("_Item")


def build(rows: Iterable[tuple[bytes, bytes]], shape: Shape, writer: NodeWriter) -> Tree:
    """Writes a tree.

    Args:
        rows: Keys and values, by strictly increasing key. Taken as they come, never held at once.
        shape: The tree's row-count targets.
        writer: Where the nodes go, children before parents.

    Raises:
        UsageError: The keys do not strictly increase, or rows are too large for a node.
    """
    builder = Builder(shape, writer)
    source = iter(rows)
    last: bytes | None = None
    while batch := list(islice(source, _BATCH)):
        # Not zip(*batch): its iterator for each row wakes the garbage collector, at twice the cost.
        keys = [key for key, _ in batch]
        values = [value for _, value in batch]
        check_order(last, keys)
        last = keys[-1]
        builder.add_rows(keys, values)
    return builder.finish()


def check_order(last: bytes | None, keys: Sequence[bytes]) -> None:
    """Checks that a batch of keys strictly increases and follows the batch before.

    Args:
        last: The last key of the batch before; None for the first batch.
        keys: The batch, not empty.

    Raises:
        UsageError: A key is not greater than the one before it.
    """
    if (last is None or last < keys[0]) and increasing(keys):
        return
    befores = keys if last is None else [last, *keys]
    before, key = next(pair for pair in pairwise(befores) if pair[0] >= pair[1])
    raise UsageError(
        f"tree keys must strictly increase: {key[:64]!r} comes after {before[:64]!r}",
        hint="Sort the rows bytewise by key and give each key once.",
    )


class _Level(ABC, Generic[_Item]):
    """The open node of one level: rows that wait for their node to end.

    Attributes:
        level: 0 for the leaves.
        keys: The open node's keys.
        items: The open node's values or children.
        closed: Whether a node of this level was ended.
        passed: Whether a node of this level went to the parent without being opened.
    """

    def __init__(self, level: int, shape: Shape, writer: NodeWriter) -> None:
        self.level = level
        self.keys: list[bytes] = []
        self.items: list[_Item] = []
        self.closed = False
        self.passed = False
        self._shape = shape
        self._writer = writer
        self._boundary = Boundary(level, shape)
        self._seen = 0
        self._parent: _Inners | None = None
        self._old: tuple[list[bytes], list[_Item], Child] | None = None

    @property
    def parent(self) -> _Inners:
        """The level above."""
        if self._parent is None:
            self._parent = _Inners(self.level + 1, self._shape, self._writer)
        return self._parent

    @property
    def single(self) -> bool:
        """Whether the open node is all that this level has so far."""
        return not (self.closed or self.passed)

    def add(self, keys: Sequence[bytes], items: Sequence[_Item]) -> None:
        """Takes in rows and ends the nodes that they complete."""
        self.keys += keys
        self.items += items
        start = 0
        while end := self._boundary.find(self.keys, start, self._seen):
            self._close(self.keys[start:end], self.items[start:end])
            start = end
        del self.keys[:start], self.items[:start]
        self._seen = len(self.keys)

    def flush(self) -> None:
        """Ends the last node. A level without any rows gets one empty node."""
        if self.keys or self.single:
            self._close(self.keys, self.items)

    def replace(self, keys: list[bytes], items: list[_Item], child: Child) -> None:
        """Remembers a node whose rows come next: coming unchanged, it is not written again."""
        self._old = keys, items, child

    def _close(self, keys: list[bytes], items: list[_Item]) -> None:
        old = self._old
        if old is not None and keys == old[0] and items == old[1]:
            child = old[2]
        else:
            child = self._writer.put_node(self._encode(keys, items)), self._rows(items)
        self.closed = True
        self.parent.add(keys[-1:] or [b""], [child])

    @abstractmethod
    def _encode(self, keys: list[bytes], items: list[_Item]) -> bytes: ...

    @abstractmethod
    def _rows(self, items: list[_Item]) -> int: ...


class _Leaves(_Level[bytes]):
    def _encode(self, keys: list[bytes], items: list[bytes]) -> bytes:
        return encode_leaf(keys, items)

    def _rows(self, items: list[bytes]) -> int:
        return len(items)


class _Inners(_Level[Child]):
    def _encode(self, keys: list[bytes], items: list[Child]) -> bytes:
        return encode_inner(self.level, keys, items)

    def _rows(self, items: list[Child]) -> int:
        return sum(map(itemgetter(1), items))


class Builder:
    """Cuts rows into nodes, level by level.

    Attributes:
        passed_top: After `finish`: whether the top is a node that was added whole. It may then
            have a single child, which the builder cannot know.
    """

    def __init__(self, shape: Shape, writer: NodeWriter) -> None:
        self.passed_top = False
        self._shape = shape
        self._leaves = _Leaves(0, shape, writer)

    def add_rows(self, keys: Sequence[bytes], values: Sequence[bytes]) -> None:
        """Adds rows after all that were added before."""
        self._leaves.add(keys, values)

    def aligned(self, level: int) -> bool:
        """Tells whether no node is open from the leaves up to a level.

        A row that begins a node in an older tree of this shape then begins one here as well, so
        that the old node can be added whole.
        """
        return not any(below.keys for below in self._up_to(level))

    def add_nodes(self, level: int, keys: Sequence[bytes], children: Sequence[Child]) -> None:
        """Adds consecutive whole nodes of a level, which MUST be `aligned`.

        Args:
            level: The level of the nodes.
            keys: The last key of each.
            children: The digest and the row count of each.
        """
        if not keys:
            return
        below: _Leaves | _Inners = self._leaves
        for below in self._up_to(level):
            below.passed = True
        below.parent.add(keys, children)

    def replace(self, node: Node, child: Child) -> None:
        """Says that the rows of an old node come next, perhaps with changes.

        Args:
            node: The old node.
            child: Its digest and row count.
        """
        if isinstance(node, Leaf):
            self._leaves.replace(node.keys, node.values, child)
        else:
            self._inner(node).replace(node.keys, node.children, child)

    def finish(self) -> Tree:
        """Ends all open nodes and returns the tree: its top is the lowest level with one node."""
        below: _Leaves | _Inners = self._leaves
        below.flush()
        level = below.parent
        while not (level.single and len(level.keys) == 1):
            level.flush()
            below, level = level, level.parent
        self.passed_top = not below.closed
        digest, rows = level.items[0]
        return Tree(self._shape, digest, below.level, rows)

    def _up_to(self, level: int) -> Iterator[_Leaves | _Inners]:
        below: _Leaves | _Inners = self._leaves
        yield below
        while below.level < level:
            below = below.parent
            yield below

    def _inner(self, node: Inner) -> _Inners:
        level = self._leaves.parent
        while level.level < node.level:
            level = level.parent
        return level
