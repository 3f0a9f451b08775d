"""Nodes in a dictionary, for tests: every read and every write is counted."""

from __future__ import annotations

import random
from collections.abc import Iterable, Sequence

from datastore.errors import NotFoundError
from datastore.kernel.hashing import Digest, format_digest, node_digest
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
