"""Nodes in a dictionary, for tests: every read and every write is counted."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from xxhash import xxh3_64_intdigest

from datastore.errors import NotFoundError
from datastore.kernel.hashing import Digest, format_digest, node_digest
from datastore.trees.node import decode
from datastore.trees.prolly import Shape, Tree, build

Rows = dict[bytes, bytes]

TINY = Shape(leaf_rows=4, inner_rows=4)
SMALL = Shape(leaf_rows=16, inner_rows=8)


class MemoryNodes:
    """A node reader and writer. `requests` holds the size of each batch read."""

    def __init__(self) -> None:
        self.nodes: dict[Digest, bytes] = {}
        self.read: list[Digest] = []
        self.written: list[Digest] = []
        self.requests: list[int] = []

    def read_nodes(self, digests: Sequence[Digest]) -> list[bytes]:
        self.read += digests
        self.requests.append(len(digests))
        try:
            return [self.nodes[digest] for digest in digests]
        except KeyError as error:
            raise NotFoundError(f"no node {format_digest(error.args[0])}") from error

    def put_node(self, data: bytes) -> Digest:
        digest = node_digest(data)
        self.nodes[digest] = data
        self.written.append(digest)
        return digest

    def forget_counts(self) -> None:
        self.read, self.written, self.requests = [], [], []

    def build(self, rows: Rows, shape: Shape = TINY) -> Tree:
        return build(sorted(rows.items()), shape, self)


def numbered(count: int, *, step: int = 1, value: bytes = b"v") -> Rows:
    return {b"images/%08d.jpg" % (number * step): value for number in range(count)}


def shuffled(items: Iterable[bytes], seed: int = 0) -> list[bytes]:
    mixed = sorted(items)
    random.Random(seed).shuffle(mixed)
    return mixed


def edited(rows: Rows, edits: dict[bytes, bytes | None]) -> Rows:
    """What a dictionary makes of edits."""
    merged = {**rows, **edits}
    return {key: value for key, value in merged.items() if value is not None}


def levels_of(tree: Tree, nodes: MemoryNodes) -> list[list[list[bytes]]]:
    """Lists the keys of each node of each level, from the leaves up."""
    levels = []
    digests = [tree.top]
    for _ in range(tree.level + 1):
        row = [decode(data) for data in nodes.read_nodes(digests)]
        levels.append([node.keys for node in row])
        if tree.level >= len(levels):
            digests = [digest for node in row for digest, _ in node.children]
    return levels[::-1]


def rule(keys: list[bytes], level: int, target: int) -> list[list[bytes]]:
    """Cuts keys by the text of the format page, a row at a time."""
    cut, start = [], 0
    for end in range(1, len(keys) + 1):
        n = end - start
        h = xxh3_64_intdigest(keys[end - 1], level)
        if n < max(target // 4, 2):
            ends = False
        elif n >= 2 * target:
            ends = True
        elif n * 10 < 8 * target:
            ends = h < 2**64 // (4 * target)
        else:
            ends = h < min(4 * 2**64 // target, 2**64 - 1)
        if ends or end == len(keys):
            cut.append(keys[start:end])
            start = end
    return cut
