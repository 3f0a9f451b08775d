"""Reading a tree: one key, many keys, a range."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain
from operator import le
from typing import Final, TypeAlias, TypeVar

from datastore.errors import UsageError
from datastore.trees.node import Inner, Leaf
from datastore.trees.tree import (
    NodeReader,
    Subtree,
    Tree,
    load,
    subtrees,
    subtrees_within,
    whole,
)

READ_BATCH: Final = 64
"""The most nodes asked for at once: about 1 MiB of leaves."""

_Item = TypeVar("_Item")


def get(tree: Tree, key: bytes, reader: NodeReader) -> bytes | None:
    """Returns the value of a key; None where the tree does not have it.

    Reads one node a level.

    Raises:
        FormatError: A node is malformed.
        NotFoundError: A node is not there.
        CorruptionError: A node's bytes do not have its digest.
    """
    return get_many(tree, (key,), reader)[0]


def get_many(tree: Tree, keys: Sequence[bytes], reader: NodeReader) -> list[bytes | None]:
    """Returns the value of each key; None where the tree does not have it.

    Reads each node that is needed once, the nodes of a level together.

    Args:
        tree: The tree.
        keys: Sorted bytewise; a key may be repeated.
        reader: Where the nodes are.

    Raises:
        UsageError: `keys` are not sorted.
        FormatError: A node is malformed.
        NotFoundError: A node is not there.
        CorruptionError: A node's bytes do not have its digest.
    """
    if not all(map(le, keys, keys[1:])):
        raise UsageError("the keys to look up are not sorted")
    found: list[bytes | None] = [None] * len(keys)
    if keys:
        _look_up([(whole(tree), 0, len(keys))], keys, reader, found)
    return found


_Wanted: TypeAlias = tuple[Subtree, int, int]  # a node and the range of `keys` that it may hold


def _look_up(
    wanted: list[_Wanted], keys: Sequence[bytes], reader: NodeReader, found: list[bytes | None]
) -> None:
    for at in range(0, len(wanted), READ_BATCH):
        batch = wanted[at : at + READ_BATCH]
        below: list[_Wanted] = []
        nodes = load([subtree for subtree, _, _ in batch], reader)
        for (subtree, first, stop), node in zip(batch, nodes, strict=True):
            if isinstance(node, Leaf):
                _pick(node, keys, range(first, stop), found)
            else:
                below += _narrow(node, subtree, keys, first, stop)
        _look_up(below, keys, reader, found)


def _pick(leaf: Leaf, keys: Sequence[bytes], wanted: range, found: list[bytes | None]) -> None:
    at = 0
    for index in wanted:
        key = keys[index]
        at = bisect_left(leaf.keys, key, at)
        if at < len(leaf.keys) and leaf.keys[at] == key:
            found[index] = leaf.values[at]


def _narrow(
    inner: Inner, subtree: Subtree, keys: Sequence[bytes], first: int, stop: int
) -> Iterator[_Wanted]:
    """Divides a range of wanted keys among the children of a node."""
    child = 0
    while first < stop:
        child = bisect_left(inner.keys, keys[first], child)
        if child == len(inner.keys):
            return
        end = bisect_right(keys, inner.keys[child], first, stop)
        yield subtrees(inner, subtree.after, child, child + 1)[0], first, end
        first = end


def scan(
    tree: Tree, reader: NodeReader, *, start: bytes = b"", stop: bytes | None = None
) -> Iterator[tuple[bytes, bytes]]:
    """Iterates over the rows of a range in key order.

    Reads ahead in growing batches: the first row comes after one node a level, and memory is
    bounded whatever the range.

    Args:
        tree: The tree.
        reader: Where the nodes are.
        start: The first key wanted.
        stop: The key to end before; None for all from `start`.

    Raises:
        FormatError: A node is malformed.
        NotFoundError: A node is not there.
        CorruptionError: A node's bytes do not have its digest.
    """
    # Chained in C: a generator that yields each row would take twice as long.
    return chain.from_iterable(
        _rows_within(leaf, start, stop) for leaf in _leaves([whole(tree)], reader, start, stop)
    )


def _leaves(
    wanted: list[Subtree], reader: NodeReader, start: bytes, stop: bytes | None
) -> Iterator[Leaf]:
    for batch in _growing(wanted):
        for subtree, node in zip(batch, load(batch, reader), strict=True):
            if isinstance(node, Leaf):
                yield node
            else:
                below = subtrees_within(node, subtree.after, start, stop)
                yield from _leaves(below, reader, start, stop)


def _rows_within(leaf: Leaf, start: bytes, stop: bytes | None) -> Iterable[tuple[bytes, bytes]]:
    first = bisect_left(leaf.keys, start)
    end = len(leaf.keys) if stop is None else bisect_left(leaf.keys, stop)
    return zip(leaf.keys[first:end], leaf.values[first:end], strict=True)


def _growing(items: list[_Item]) -> Iterator[list[_Item]]:
    """Cuts a list into batches of 1, 2, 4 ... `READ_BATCH` items."""
    at, size = 0, 1
    while at < len(items):
        yield items[at : at + size]
        at += size
        size = min(2 * size, READ_BATCH)
