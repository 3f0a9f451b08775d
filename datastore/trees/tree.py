"""Trees as values, and the one way in which nodes are read: in batches, checked on arrival."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple, NoReturn, Protocol

from datastore.errors import FormatError
from datastore.kernel.hashing import Digest, format_digest
from datastore.trees.node import Inner, Node, decode
from datastore.trees.shape import Shape


class NodeReader(Protocol):
    """Where nodes are read from."""

    def read_nodes(self, digests: Sequence[Digest]) -> list[bytes]:
        """Reads nodes, in the order asked for.

        Raises:
            NotFoundError: There is no such node.
            CorruptionError: A node's bytes do not have its digest.
        """
        ...


class NodeWriter(Protocol):
    """Where nodes are written to."""

    def put_node(self, data: bytes) -> Digest:
        """Keeps an encoded node and returns its digest. Putting a node twice is harmless."""
        ...


@dataclass(frozen=True, slots=True)
class Tree:
    """An ordered map from keys to values. A value itself: looking into it needs a reader.

    Attributes:
        shape: The targets that the tree was cut by.
        top: The digest of the top node.
        level: The level of the top node; 0 where it is a leaf.
        rows: How many rows the tree has.
    """

    shape: Shape
    top: Digest
    level: int
    rows: int


class Subtree(NamedTuple):
    """A node that is not read yet, and what is known of it.

    Attributes:
        digest: The node's digest.
        level: The node's level.
        rows: How many rows stand below it.
        after: All its keys are greater; None where nothing comes before it.
        last: Its last key; None for a whole tree, where no parent says it.
    """

    digest: Digest
    level: int
    rows: int
    after: bytes | None
    last: bytes | None


def whole(tree: Tree) -> Subtree:
    """Returns a tree as a subtree of nothing."""
    return Subtree(tree.top, tree.level, tree.rows, None, None)


def subtrees(
    inner: Inner, after: bytes | None, first: int = 0, stop: int | None = None
) -> list[Subtree]:
    """Lists children of an inner node.

    Args:
        inner: The node.
        after: All keys of the node are greater; None where nothing comes before it.
        first: The index of the first child wanted.
        stop: The index after the last child wanted; None for all.
    """
    keys = inner.keys[first:stop]
    befores = [inner.keys[first - 1] if first else after, *keys]
    level = inner.level - 1
    return [
        Subtree(digest, level, rows, before, key)
        for (digest, rows), before, key in zip(
            inner.children[first:stop], befores[:-1], keys, strict=True
        )
    ]


def subtrees_within(
    inner: Inner, after: bytes | None, start: bytes, stop: bytes | None
) -> list[Subtree]:
    """Lists the children that may hold keys from `start` and before `stop` (None: no end)."""
    first = bisect_left(inner.keys, start)
    end = None if stop is None else bisect_left(inner.keys, stop) + 1
    return subtrees(inner, after, first, end)


def load(wanted: Sequence[Subtree], reader: NodeReader) -> list[Node]:
    """Reads nodes in one request and checks them against what their parents say.

    Without these checks a hostile tree could give rows out of order or recurse without end.

    Raises:
        NotFoundError: A node is not there.
        CorruptionError: A node's bytes do not have its digest.
        FormatError: A node is malformed, or is not what its parent says.
    """
    encoded = reader.read_nodes([subtree.digest for subtree in wanted])
    return [_checked(subtree, data) for subtree, data in zip(wanted, encoded, strict=True)]


def _checked(subtree: Subtree, data: bytes) -> Node:
    node = decode(data, where=format_digest(subtree.digest))
    if node.level != subtree.level:
        _refuse(subtree, f"its level is {node.level} instead of {subtree.level}")
    if node.rows != subtree.rows:
        _refuse(subtree, f"it has {node.rows} rows instead of {subtree.rows}")
    if subtree.last is not None and node.keys[-1] != subtree.last:
        _refuse(subtree, "its last key is another one")
    if subtree.after is not None and node.keys[0] <= subtree.after:
        _refuse(subtree, "its first key belongs to the node before it")
    return node


def _refuse(subtree: Subtree, why: str) -> NoReturn:
    where = format_digest(subtree.digest)
    raise FormatError(
        f"tree node {where} is not what its parent says: {why}",
        where=where,
        hint="The writer of this tree was faulty or hostile: fetch the version from another copy.",
    )
