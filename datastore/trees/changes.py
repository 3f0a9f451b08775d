"""What differs between two trees, in key order and without reading what they share.

Both trees are walked from the left at once. Wherever the walks meet nodes with equal digests, both
drop them unread. Other nodes are read in batches, a level at a time, and memory stays bounded by a
batch a level. The trees may differ in height and even in shape.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Iterable, Iterator
from itertools import compress, starmap
from operator import ne
from typing import Final, NamedTuple

from datastore.trees.node import Leaf, Node
from datastore.trees.tree import NodeReader, Subtree, Tree, load, subtrees_within, whole

_SIDE_BATCH: Final = 128  # nodes read at once from one tree: 256 from both


class Change(NamedTuple):
    """One key whose value differs.

    Attributes:
        key: The key.
        old: Its value in the old tree; None where it is not there.
        new: Its value in the new tree; None where it is not there.
    """

    key: bytes
    old: bytes | None
    new: bytes | None


def diff(
    old: Tree, new: Tree, reader: NodeReader, *, start: bytes = b"", stop: bytes | None = None
) -> Iterator[Change]:
    """Iterates over the changes from one tree to another, in key order.

    Reads are in proportion to the changes and the height, whatever the size of the trees.

    Args:
        old: The tree to begin with.
        new: The tree to end with.
        reader: Where the nodes of both are.
        start: The first key wanted.
        stop: The key to end before; None for all from `start`.

    Raises:
        FormatError: A node is malformed.
        NotFoundError: A node is not there.
        CorruptionError: A node's bytes do not have its digest.
    """
    if (old.top, old.level) != (new.top, new.level):
        yield from _Walk(old, new, reader, start, stop).changes()


class _Side:
    """What is left of one tree: first rows that were read, then subtrees that were not.

    In key order come `leaves`, then ``unread[0]`` (subtrees of level 0), ``unread[1]`` and so on:
    opening a subtree puts its children after all that is left of their own level.
    """

    def __init__(self, height: int, start: bytes, stop: bytes | None) -> None:
        self.leaves: deque[Leaf] = deque()
        self.unread: list[deque[Subtree]] = [deque() for _ in range(height)]
        self._start = start
        self._stop = stop

    def front(self, level: int = 0) -> Subtree | None:
        """Returns the first subtree of a level or above; None where there is none."""
        return next((queue[0] for queue in self.unread[level:] if queue), None)

    def open(self, node: Node, after: bytes | None) -> None:
        """Takes in a node that was read, within the range wanted."""
        if not isinstance(node, Leaf):
            below = subtrees_within(node, after, self._start, self._stop)
            self.unread[node.level - 1].extend(below)
            return
        keys = node.keys
        first = bisect_left(keys, self._start)
        end = len(keys) if self._stop is None else bisect_left(keys, self._stop)
        if end - first == len(keys) > 0:
            self.leaves.append(node)  # slicing each leaf in full took a tenth of a diff
        elif first < end:
            self.leaves.append(Leaf(keys[first:end], node.values[first:end]))

    def lacks(self, subtree: Subtree) -> bool:
        """Tells whether nothing unread here can be equal to the next subtree of the other tree."""
        queue = self.unread[subtree.level]
        if queue:
            return _end(subtree) < _end(queue[0])
        front = self.front(subtree.level + 1)
        return front is None or _before(subtree, front)

    def take(self, upto: bytes | None) -> Leaf:
        """Takes the rows of the first leaf up to a key; None for all of them."""
        leaf = self.leaves.popleft()
        keys, values = leaf.keys, leaf.values
        if upto is None or keys[-1] <= upto:
            return leaf
        split = bisect_right(keys, upto)
        self.leaves.appendleft(Leaf(keys[split:], values[split:]))
        return Leaf(keys[:split], values[:split])


class _Walk:
    def __init__(
        self, old: Tree, new: Tree, reader: NodeReader, start: bytes, stop: bytes | None
    ) -> None:
        height = max(old.level, new.level) + 1
        self._old = _Side(height, start, stop)
        self._new = _Side(height, start, stop)
        self._reader = reader
        self._read([whole(old)], [whole(new)])

    def changes(self) -> Iterator[Change]:
        old, new = self._old, self._new
        while True:
            if old.leaves and new.leaves:
                upto = min(old.leaves[0].keys[-1], new.leaves[0].keys[-1])
                yield from _compared(old.take(upto), new.take(upto))
            elif old.leaves:
                yield from (Change(k, v, None) for k, v in self._unmatched(old, new))
            elif new.leaves:
                yield from (Change(k, None, v) for k, v in self._unmatched(new, old))
            elif not self._descend():
                return

    def _unmatched(self, side: _Side, other: _Side) -> Iterable[tuple[bytes, bytes]]:
        """Takes rows that the other tree cannot have; if there may be others, reads on there."""
        front = other.front()
        if front is None:
            leaf = side.take(None)
        elif front.after is not None and side.leaves[0].keys[0] <= front.after:
            leaf = side.take(front.after)
        else:
            self._open(front.level, other)
            return ()
        return zip(leaf.keys, leaf.values, strict=True)

    def _descend(self) -> bool:
        """Reads on where neither tree has rows at hand; False where nothing is left.

        What lies wholly before the rest of the other tree goes first, else the higher level: the
        walks then meet on equal levels, and no queue grows by more than a batch.
        """
        old, new = self._old.front(), self._new.front()
        if old is not None and (new is None or _first(old, new)):
            self._open(old.level, self._old)
        elif new is not None:
            self._open(new.level, self._new)
        return old is not None or new is not None

    def _open(self, level: int, needed: _Side) -> None:
        """Reads a batch of differing nodes of a level, and in any case moves `needed` on."""
        front = needed.front()
        old, new = self._differing(level)
        if needed.front() is front:
            # Whether the other tree has this node further on is not known. Reading it in vain
            # costs one node a level; waiting could fill the memory.
            chosen = old if needed is self._old else new
            chosen.append(needed.unread[level].popleft())
        self._read(old, new)

    def _differing(self, level: int) -> tuple[list[Subtree], list[Subtree]]:
        """Takes subtrees of a level that the other tree lacks, and drops those that both have."""
        olds, news = self._old.unread[level], self._new.unread[level]
        old: list[Subtree] = []
        new: list[Subtree] = []
        while len(old) < _SIDE_BATCH and len(new) < _SIDE_BATCH:
            if olds and news and olds[0].last == news[0].last:
                left, right = olds.popleft(), news.popleft()
                if left.digest != right.digest:
                    old.append(left)
                    new.append(right)
            elif olds and self._new.lacks(olds[0]):
                old.append(olds.popleft())
            elif news and self._old.lacks(news[0]):
                new.append(news.popleft())
            else:
                break
        return old, new

    def _read(self, old: list[Subtree], new: list[Subtree]) -> None:
        nodes = load(old + new, self._reader) if old or new else []
        for index, (subtree, node) in enumerate(zip(old + new, nodes, strict=True)):
            (self._old if index < len(old) else self._new).open(node, subtree.after)


def _first(subtree: Subtree, other: Subtree) -> bool:
    """Tells whether a subtree is to be read before one of the other tree."""
    higher = subtree.level >= other.level
    return _before(subtree, other) or (higher and not _before(other, subtree))


def _before(subtree: Subtree, other: Subtree) -> bool:
    """Tells whether a subtree ends before another one can begin."""
    return other.after is not None and _end(subtree) <= other.after


def _end(subtree: Subtree) -> bytes:
    return subtree.last or b""  # None for a whole tree only, and those are opened at once


def _compared(old: Leaf, new: Leaf) -> Iterable[Change]:
    """Compares all rows of two key ranges."""
    if old.keys == new.keys:
        rows = zip(old.keys, old.values, new.values, strict=True)
        return starmap(Change, compress(rows, map(ne, old.values, new.values)))
    was_at = dict(zip(old.keys, old.values, strict=True))
    now_at = dict(zip(new.keys, new.values, strict=True))
    # Set operations of C on whole rows: several times faster than a merge of the keys in Python.
    keys = {key for key, _ in was_at.items() ^ now_at.items()}
    return [Change(key, was_at.get(key), now_at.get(key)) for key in sorted(keys)]
