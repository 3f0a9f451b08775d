"""Where a level of a tree is cut into nodes: by keys and row numbers, never by values.

The rule is part of the format (``docs/reference/format/tree.md``) and uses integers only: a
floating-point rule could cut differently on another machine, and equal rows would differ in digest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import repeat
from typing import Final

# Called through a wrapper, one call a row would cost as much as all the rest of a build.
from xxhash import xxh3_64_intdigest

from datastore.errors import UsageError

MIN_TARGET: Final = 4
MAX_TARGET: Final = 1024
"""The row-count targets allowed: twice the largest is `datastore.trees.node.MAX_NODE_ROWS`."""

_LEAF_BYTES: Final = 16384
_SPACE: Final = 2**64


@dataclass(frozen=True, slots=True)
class Shape:
    """Row-count targets of a tree, chosen once and recorded with its root.

    Two trees of the same rows have the same root only if they have the same shape.

    Attributes:
        leaf_rows: How many rows a leaf has on average, 4 to 1024.
        inner_rows: How many children an inner node has on average, 4 to 1024.

    Raises:
        UsageError: A target is out of range.
    """

    leaf_rows: int
    inner_rows: int = 512

    def __post_init__(self) -> None:
        for name, target in (("leaf_rows", self.leaf_rows), ("inner_rows", self.inner_rows)):
            if not MIN_TARGET <= target <= MAX_TARGET:
                raise UsageError(
                    f"{name} is {target}: a tree needs {MIN_TARGET} to {MAX_TARGET} rows a node"
                )

    @classmethod
    def fitting(cls, row_bytes: int) -> Shape:
        """Chooses leaves of about 16 KiB.

        Args:
            row_bytes: The mean size of a row, key and value together, in bytes.
        """
        return cls(leaf_rows=min(max(_LEAF_BYTES // max(row_bytes, 1), 16), 512))

    def target(self, level: int) -> int:
        """Returns the row-count target of a level."""
        return self.inner_rows if level else self.leaf_rows


class Boundary:
    """The rule that ends nodes on one level."""

    __slots__ = ("_high", "_least", "_level", "_low", "_middle", "_most")

    def __init__(self, level: int, shape: Shape) -> None:
        target = shape.target(level)
        self._level = level
        # Two rows at least, even for a target below eight: each level is then at most half of the
        # one below, and a tree ends however its keys were chosen.
        self._least = max(target // 4, 2)
        self._middle = -(-8 * target // 10)
        self._most = 2 * target
        self._low = _SPACE // (4 * target)
        self._high = min(4 * _SPACE // target, _SPACE - 1)

    def find(self, keys: Sequence[bytes], start: int, seen: int) -> int:
        """Finds the end of the node that begins at `start`.

        Args:
            keys: The keys of consecutive rows of the level.
            start: The index of the node's first key.
            seen: Ends up to this index are known to be none.

        Returns:
            The index after the node's last key; 0 where the node goes on beyond `keys`.
        """
        first = max(start + self._least, seen + 1)
        middle = start + self._middle
        most = start + self._most
        return (
            self._below(self._low, keys, first, middle)
            or self._below(self._high, keys, max(first, middle), most)
            or (most if len(keys) >= most else 0)
        )

    def _below(self, threshold: int, keys: Sequence[bytes], first: int, stop: int) -> int:
        """Finds the first end, from `first` and before `stop`, whose key is below a threshold."""
        if first >= stop:
            return 0
        values = map(xxh3_64_intdigest, keys[first - 1 : stop - 1], repeat(self._level))
        for end, value in enumerate(values, first):
            if value < threshold:
                return end
        return 0
