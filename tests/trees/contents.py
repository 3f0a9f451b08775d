"""Chunks and nodes in dictionaries, for tests: what was put in is counted, what is read is too."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from datastore.errors import CorruptionError, NotFoundError
from datastore.kernel.hashing import Digest, chunk_digest, format_digest
from datastore.trees.manifest import ChunkRef
from tests.trees.memory import MemoryNodes


class MemoryContents(MemoryNodes):
    """A writer and reader of chunks and nodes."""

    def __init__(self) -> None:
        super().__init__()
        self.chunks: dict[Digest, bytes] = {}
        self.put: list[Digest] = []
        self.fetched: list[Digest] = []
        self.damaged: set[Digest] = set()

    def put_chunk(self, data: bytes | memoryview) -> Digest:
        digest = chunk_digest(data)
        self.chunks[digest] = bytes(data)
        self.put.append(digest)
        return digest

    def read_chunks(self, digests: Iterable[Digest]) -> Iterator[tuple[Digest, bytes]]:
        """In another order than asked for, and each once, as a store does."""
        for digest in sorted(set(digests)):
            self.fetched.append(digest)
            if digest in self.damaged:
                raise CorruptionError(f"{format_digest(digest)} is damaged")
            if digest not in self.chunks:
                raise NotFoundError(f"no chunk {format_digest(digest)}")
            yield digest, self.chunks[digest]


def refs(count: int, *, seed: str = "", size: int = 7) -> list[ChunkRef]:
    """Names chunks that need not exist."""
    return [
        ChunkRef(chunk_digest(f"{seed}{number}".encode()), size + number % 3)
        for number in range(count)
    ]
