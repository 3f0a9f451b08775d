"""Editing a tree: only nodes that hold an edited key, and a neighbour now and then, are read.

Edits walk the old tree from the left and feed a builder. Where an edit falls, the rows of its leaf
are cut anew from the leaf's start. As soon as a cut meets an old boundary, untouched nodes go to
the builder whole, at the highest level that is aligned. The result is the tree that a build would
give, because the rule that ends a node looks at nothing before the node's first row.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from itertools import islice
from typing import Final

from datastore.trees.builder import Builder, check_order
from datastore.trees.lookup import READ_BATCH
from datastore.trees.node import Child, Inner, Leaf, Node
from datastore.trees.tree import NodeReader, NodeWriter, Tree, load, subtrees, whole

_WINDOW: Final = 4096  # edits held at once: enough to fill a batch of reads

_Edit = tuple[bytes, bytes | None]


def edit(tree: Tree, edits: Iterable[_Edit], reader: NodeReader, writer: NodeWriter) -> Tree:
    """Returns a tree with edits applied: the same tree as a build of the edited rows.

    Reads and writes are in proportion to the number of edits and the tree's height. `reader` is
    asked for nodes of `tree` only, so nodes just written need not be readable yet.

    Args:
        tree: The tree to begin with; it stays as it is.
        edits: Keys and new values, by strictly increasing key. None deletes a key; deleting a key
            that is not there does nothing. Taken as they come, never held at once.
        reader: Where the nodes of `tree` are.
        writer: Where new nodes go, children before parents.

    Raises:
        UsageError: The keys of `edits` do not strictly increase, or rows are too large for a node.
        FormatError: A node is malformed.
        NotFoundError: A node is not there.
        CorruptionError: A node's bytes do not have its digest.
    """
    pending = _Edits(edits)
    if not pending.ready():
        return tree
    return _Editor(tree, pending, reader, writer).run()


class _Edits:
    """Edits yet to be applied, a window of them at a time."""

    def __init__(self, edits: Iterable[_Edit]) -> None:
        self.keys: list[bytes] = []
        self.at = 0
        self._values: list[bytes | None] = []
        self._source = iter(edits)

    def ready(self) -> bool:
        """Fills the window if it is empty; tells whether any edit is left."""
        if self.at < len(self.keys):
            return True
        batch = list(islice(self._source, _WINDOW))
        if batch:
            last = self.keys[-1] if self.keys else None
            self.keys = [key for key, _ in batch]
            self._values = [value for _, value in batch]
            self.at = 0
            check_order(last, self.keys)
        return bool(batch)

    def end(self, upto: bytes | None) -> int:
        """Returns the index after the last edit in the window that is not beyond a key."""
        return len(self.keys) if upto is None else bisect_right(self.keys, upto, self.at)

    def take(self, upto: bytes | None) -> list[_Edit]:
        """Takes edits up to a key, None for all; at most a window, empty where there are none."""
        if not self.ready():
            return []
        start, self.at = self.at, self.end(upto)
        return list(zip(self.keys[start : self.at], self._values[start : self.at], strict=True))


class _Editor:
    def __init__(self, tree: Tree, edits: _Edits, reader: NodeReader, writer: NodeWriter) -> None:
        self._tree = tree
        self._edits = edits
        self._reader = reader
        self._builder = Builder(tree.shape, writer)

    def run(self) -> Tree:
        top = whole(self._tree)
        (node,) = load([top], self._reader)
        self._edit(node, (top.digest, top.rows), None, None)
        return self._lowered(self._builder.finish())

    def _edit(self, node: Node, child: Child, after: bytes | None, upto: bytes | None) -> None:
        """Adds the rows of a node with all edits up to a key; None on the tree's right edge."""
        self._builder.replace(node, child)
        if isinstance(node, Leaf):
            self._edit_leaf(node, upto)
        else:
            self._edit_inner(node, after, upto)

    def _edit_leaf(self, leaf: Leaf, upto: bytes | None) -> None:
        keys, values = leaf.keys, leaf.values
        # More edits than a window can fall into one leaf, above all on the right edge.
        while batch := self._edits.take(upto):
            split = bisect_right(keys, batch[-1][0])
            self._builder.add_rows(*_applied(keys[:split], values[:split], batch))
            keys, values = keys[split:], values[split:]
        self._builder.add_rows(keys, values)

    def _edit_inner(self, inner: Inner, after: bytes | None, upto: bytes | None) -> None:
        done = 0
        while indexes := self._edited_children(inner, done, upto):
            children = [subtrees(inner, after, index, index + 1)[0] for index in indexes]
            nodes = load(children, self._reader)
            for index, child, node in zip(indexes, children, nodes, strict=True):
                self._keep(inner, after, done, index)
                on_edge = upto is None and index == len(inner.keys) - 1
                self._edit(
                    node, inner.children[index], child.after, None if on_edge else child.last
                )
                done = index + 1
        self._keep(inner, after, done, len(inner.keys))

    def _edited_children(self, inner: Inner, first: int, upto: bytes | None) -> list[int]:
        """Lists the next children that edits in the window fall into, a batch at most."""
        found: list[int] = []
        edits = self._edits
        at, end = (edits.at, edits.end(upto)) if edits.ready() else (0, 0)
        while at < end and len(found) < READ_BATCH:
            # Beyond the last key is the last child, which then is on the tree's right edge.
            index = min(bisect_left(inner.keys, edits.keys[at], first), len(inner.keys) - 1)
            found.append(index)
            first = index + 1
            if first == len(inner.keys):
                break
            at = bisect_right(edits.keys, inner.keys[index], at, end)
        return found

    def _keep(self, inner: Inner, after: bytes | None, first: int, stop: int) -> None:
        """Adds children without edits: whole, as soon as the levels below are aligned."""
        level = inner.level - 1
        while first < stop and not self._builder.aligned(level):
            (child,) = subtrees(inner, after, first, first + 1)
            (node,) = load([child], self._reader)
            if isinstance(node, Leaf):
                self._builder.add_rows(node.keys, node.values)
            else:
                self._keep(node, child.after, 0, len(node.keys))
            first += 1
        self._builder.add_nodes(level, inner.keys[first:stop], inner.children[first:stop])

    def _lowered(self, tree: Tree) -> Tree:
        """Strips old top nodes that were left with a single child by the removal of all others."""
        while self._builder.passed_top and tree.level:
            (node,) = load([whole(tree)], self._reader)
            if not isinstance(node, Inner) or len(node.keys) > 1:
                break
            tree = Tree(tree.shape, node.children[0][0], node.level - 1, tree.rows)
        return tree


def _applied(
    keys: list[bytes], values: list[bytes], edits: list[_Edit]
) -> tuple[list[bytes], list[bytes]]:
    """Applies edits to rows, in place."""
    at = 0
    for key, value in edits:
        at = bisect_left(keys, key, at)
        found = at < len(keys) and keys[at] == key
        if value is None:
            if found:
                del keys[at], values[at]
        elif found:
            values[at] = value
        else:
            keys.insert(at, key)
            values.insert(at, value)
    return keys, values
