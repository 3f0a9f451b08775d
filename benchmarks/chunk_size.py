"""What the size of chunks wins and costs: the measurement behind two design pages.

For each size and normalization: version 1 is cut and stored, then version 2; what is new is
compressed in blocks exactly as the store does it, and the metadata is what the store would write:
manifest pages that changed, a row in the pack for every new chunk, a header and a row for every
block. The index, a cache, is left out. Two tables:

- ``sizes``: averages of 16, 32 and 64 KiB and normalization 1, 2 and 3, on the tensors and on JSON
  lines with clustered and with scattered edits;
- ``text``: small chunks for line-based text, on the JSON lines only.

::

    python benchmarks/chunk_size.py --data DIR [--table sizes|text]
"""

from __future__ import annotations

import argparse
import mmap
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from measure import MB, Row, machine, save, table

from datastore.kernel.chunking import KIB, FastCdc2020
from datastore.kernel.hashing import Digest, chunk_digest, node_digest
from datastore.objects.codec import encode
from datastore.objects.pack import BLOCK, BLOCK_ROW, CHUNK_ROW, MAX_BLOCK_CHUNKS, SIZE_ROW
from datastore.objects.session import BLOCK_TARGET
from datastore.trees.manifest import ManifestBuilder

PAIRS = (
    ("tensors", "v2"),
    ("jsonl", "v2c"),
    ("jsonl", "v2"),
)
TABLES = {
    "sizes": ((16, 32, 64), (1, 2, 3), PAIRS),
    "text": ((1, 2, 4, 8, 16, 32), (1,), PAIRS[1:]),
}
CHUNK_BYTES = CHUNK_ROW.size + SIZE_ROW.size
BLOCK_BYTES = BLOCK.size + BLOCK_ROW.size


@dataclass(slots=True)
class Cost:
    """What one version adds.

    Attributes:
        chunks: Chunks of the version.
        new: Chunks that were not stored.
        raw: Bytes of the new chunks.
        packed: The same, compressed in blocks.
        metadata: Bytes of new manifest pages and of rows in packs.
        name_cpu: CPU seconds to cut and name the whole version.
        pack_cpu: CPU seconds to compress what is new.
    """

    chunks: int = 0
    new: int = 0
    raw: int = 0
    packed: int = 0
    metadata: int = 0
    name_cpu: float = 0.0
    pack_cpu: float = 0.0


class Store:
    """Counts what a store would hold, and keeps nothing but digests."""

    def __init__(self, chunker: FastCdc2020) -> None:
        self.chunker = chunker
        self.known: set[Digest] = set()
        self.pages: set[Digest] = set()
        self._cost = Cost()

    def add(self, path: Path) -> Cost:
        """Stores a version of a file and returns what it added."""
        self._cost = cost = Cost()
        with (
            path.open("rb") as file,
            mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
            memoryview(mapped) as view,
        ):
            start = time.process_time()
            fresh = self._name(view)
            cost.name_cpu = time.process_time() - start
            start = time.process_time()
            for parts in blocks(view, fresh):
                cost.packed += encode(parts, sum(map(len, parts)))[2]
                cost.metadata += BLOCK_BYTES
            cost.pack_cpu = time.process_time() - start
        cost.metadata += cost.new * CHUNK_BYTES
        return cost

    def put_chunk(self, data: bytes | memoryview) -> Digest:
        """Part of the product's `ChunkWriter`; the manifest does not call it."""
        return chunk_digest(data)

    def put_node(self, data: bytes) -> Digest:
        """Counts a manifest page if it is new."""
        digest = node_digest(data)
        if digest not in self.pages:
            self.pages.add(digest)
            self._cost.metadata += len(data) + CHUNK_BYTES
        return digest

    def _name(self, view: memoryview) -> list[tuple[int, int]]:
        """Cuts and names; returns offset and length of each new chunk."""
        builder, fresh, start = ManifestBuilder(self), [], 0
        for length in self.chunker.cut(view, final=True):
            digest = chunk_digest(view[start : start + length])
            builder.add(digest, length)
            self._cost.chunks += 1
            if digest not in self.known:
                self.known.add(digest)
                fresh.append((start, length))
            start += length
        builder.finish()
        self._cost.new = len(fresh)
        self._cost.raw = sum(length for _, length in fresh)
        return fresh


def blocks(view: memoryview, chunks: Sequence[tuple[int, int]]) -> Iterator[list[bytes]]:
    """Groups chunks into blocks by the store's rule."""
    parts: list[bytes] = []
    size = 0
    for start, length in chunks:
        if parts and (size + length > BLOCK_TARGET or len(parts) == MAX_BLOCK_CHUNKS):
            yield parts
            parts, size = [], 0
        parts.append(bytes(view[start : start + length]))
        size += length
    if parts:
        yield parts


def one_file(folder: Path) -> Path:
    """Returns the only file of a version."""
    (path,) = (path for path in folder.rglob("*") if path.is_file())
    return path


def measure(data: Path, name: str, version: str, average: int, normalization: int) -> Row:
    """Stores both versions with one chunker."""
    store = Store(
        FastCdc2020(
            f"{average}k",
            min_size=average * KIB // 4,
            avg_size=average * KIB,
            max_size=average * KIB * 4,
            normalization=normalization,
        )
    )
    first = store.add(one_file(data / name / "v1"))
    second = store.add(one_file(data / name / version))
    return {
        "files": f"{name} {version}",
        "average KiB": average,
        "NC": normalization,
        "chunks v1": first.chunks,
        "mean KiB": first.raw / first.chunks / KIB,
        "v1 MB": first.packed / MB,
        "v1 meta MB": first.metadata / MB,
        "v1 CPU s": first.name_cpu + first.pack_cpu,
        "name CPU s": first.name_cpu,
        "new chunks": second.new,
        "new raw MB": second.raw / MB,
        "new MB": second.packed / MB,
        "new meta MB": second.metadata / MB,
        "both MB": (first.packed + first.metadata + second.packed + second.metadata) / MB,
    }


def main() -> None:
    """Measures as the command line asks."""
    parser = argparse.ArgumentParser(description="Measure what the size of chunks wins and costs.")
    parser.add_argument("--data", type=Path, required=True, help="where datasets.py has written")
    parser.add_argument("--table", choices=TABLES, nargs="+", default=list(TABLES))
    parser.add_argument("--out", type=Path, help="write the measurements here as JSON")
    args = parser.parse_args()
    found: dict[str, list[Row]] = {}
    for title in args.table:
        averages, normalizations, pairs = TABLES[title]
        rows = found[title] = []
        for name, version in pairs:
            for average in averages:
                for normalization in normalizations:
                    rows.append(measure(args.data, name, version, average, normalization))
                    sys.stderr.write(
                        f"{title}: {name} {version} {average} KiB NC {normalization}\n"
                    )
        sys.stdout.write(
            f"## {title}\n\n{table(list(rows[0]), [row.values() for row in rows])}\n\n"
        )
        sys.stdout.flush()
    if args.out:
        save(args.out, {"machine": machine(), **found})


if __name__ == "__main__":
    main()
