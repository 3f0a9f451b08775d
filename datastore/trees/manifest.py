"""The manifest of a file: its chunks in order, split into pages by content.

A file of one chunk is named by that chunk; of up to four, its manifest stands in the file's entry;
a longer one is a small tree of pages, so that an edit of a large file rewrites the pages around it
and not the whole list. The format is in ``docs/reference/format/manifest.md``.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple, Protocol

import msgpack

from datastore.errors import FormatError
from datastore.kernel.hashing import DIGEST_SIZE, Digest, chunk_digest, node_digest

INLINE_CHUNKS: Final = 4
PAGE_ROWS: Final = 64
"""Target rows a page: 36 bytes each, so one changed chunk costs about 2.3 KB of manifest."""
MAX_DEPTH: Final = 8
_MIN_ROWS: Final = PAGE_ROWS // 4
_MAX_ROWS: Final = PAGE_ROWS * 2
_MAX_PAGE_SIZE: Final = 8 * 1024
FAULTY: Final = "whoever made this version had a faulty or hostile program: take another version"
"""What to do about bytes that are what their digest names and yet not what they should be."""
_BOUNDARY: Final = (1 << 64) // (PAGE_ROWS - _MIN_ROWS)

EMPTY_DIGEST: Final = chunk_digest(b"")
"""Names the empty file; no chunk is stored for it."""


class ChunkWriter(Protocol):
    """Where chunks and pages go: a write session, or a counterfeit that only names them."""

    def put_chunk(self, data: bytes | memoryview) -> Digest:
        """Takes a chunk that no longer changes; returns its digest."""
        ...

    def put_node(self, data: bytes) -> Digest:
        """Takes an encoded page; returns its digest."""
        ...


class PageReader(Protocol):
    """Where pages come from."""

    def read_nodes(self, digests: Sequence[Digest]) -> list[bytes]:
        """Returns encoded pages, verified, in order."""
        ...


class ChunkRef(NamedTuple):
    """One chunk (or page) of a file."""

    digest: Digest
    size: int
    """Bytes of the file that it covers."""


class Content(NamedTuple):
    """What a file holds."""

    size: int
    """In bytes."""
    digest: Digest
    """Names the content: of the one chunk, or of the manifest's top page."""
    depth: int = 0
    """0: at most one chunk. Else how many levels of pages the manifest has."""
    chunks: tuple[ChunkRef, ...] = ()
    """The manifest itself where it is inline; its `depth` is then 1 and no page is stored."""


class ManifestBuilder:
    """Collects a file's chunks in order; memory is bounded by a page a level.

    Args:
        writer: Where full pages go.
    """

    def __init__(self, writer: ChunkWriter) -> None:
        self._writer = writer
        self._levels: list[list[ChunkRef]] = [[]]
        self._size = 0

    def add(self, digest: Digest, size: int) -> None:
        """Appends the file's next chunk."""
        self._size += size
        self._push(0, ChunkRef(digest, size))

    def finish(self) -> Content:
        """Returns the content; pages of a manifest that is not inline have been written."""
        chunks = self._levels[0]
        if len(self._levels) == 1 and len(chunks) <= INLINE_CHUNKS:
            return self._inline(tuple(chunks))
        level = 0
        while level < len(self._levels) - 1 or len(self._levels[level]) > 1:
            if self._levels[level]:
                self._close(level)
            level += 1
        (top,) = self._levels[level]
        return Content(self._size, top.digest, level)

    def _inline(self, chunks: tuple[ChunkRef, ...]) -> Content:
        if not chunks:
            return Content(0, EMPTY_DIGEST)
        if len(chunks) == 1:
            return Content(self._size, chunks[0].digest)
        return Content(self._size, node_digest(encode_page(1, chunks)), 1, chunks)

    def _push(self, level: int, row: ChunkRef) -> None:
        if level == len(self._levels):
            self._levels.append([])
        rows = self._levels[level]
        rows.append(row)
        if len(rows) >= _MIN_ROWS and (
            len(rows) == _MAX_ROWS or int.from_bytes(row.digest[:8], "big") < _BOUNDARY
        ):
            self._close(level)

    def _close(self, level: int) -> None:
        rows = self._levels[level]
        digest = self._writer.put_node(encode_page(level + 1, rows))
        size = sum(row.size for row in rows)
        self._levels[level] = []
        self._push(level + 1, ChunkRef(digest, size))


def encode_page(depth: int, rows: Sequence[ChunkRef]) -> bytes:
    """Encodes one page: its depth, the sizes, the digests in one run of bytes."""
    packed: bytes = msgpack.packb(
        [depth, [row.size for row in rows], b"".join([row.digest for row in rows])]
    )
    return packed


def decode_page(data: bytes, depth: int, size: int) -> list[ChunkRef]:
    """Decodes a page and holds it against what is known about it.

    Args:
        data: The encoded page, its digest already verified.
        depth: The depth that it must have.
        size: Bytes of the file that it must cover.

    Raises:
        FormatError: It is not such a page.
    """
    if len(data) > _MAX_PAGE_SIZE:
        raise FormatError(f"a manifest page has {len(data)} bytes", hint=FAULTY)
    try:
        found, sizes, joined = msgpack.unpackb(data, max_array_len=_MAX_ROWS)
        refs = [
            ChunkRef(joined[at * DIGEST_SIZE : (at + 1) * DIGEST_SIZE], length)
            for at, length in enumerate(sizes)
        ]
        sound = (
            found == depth
            and len(joined) == len(refs) * DIGEST_SIZE
            and all(type(length) is int and length > 0 for length in sizes)
            and sum(sizes) == size
            and encode_page(depth, refs) == data
        )
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise FormatError(f"a manifest page is malformed: {error}", hint=FAULTY) from error
    if not sound:
        raise FormatError("a manifest page does not fit the file that names it", hint=FAULTY)
    return refs


def iter_chunks(
    content: Content, reader: PageReader, *, start: int = 0
) -> Iterator[tuple[int, ChunkRef]]:
    """Lists a file's chunks with their offsets.

    Args:
        content: What the file's entry says.
        reader: Where pages come from.
        start: Offset in bytes; chunks that end at or before it are left out, and pages that hold
            only such chunks are not read.

    Yields:
        Offset in the file and chunk.

    Raises:
        FormatError: A page is malformed.
        NotFoundError: A page is not stored.
    """
    if content.depth == 0:
        if content.size > start:
            yield 0, ChunkRef(content.digest, content.size)
        return
    if content.chunks:
        yield from _after(0, content.chunks, start)
        return
    yield from _descend(0, ChunkRef(content.digest, content.size), content.depth, reader, start)


def _after(offset: int, rows: Sequence[ChunkRef], start: int) -> Iterator[tuple[int, ChunkRef]]:
    for row in rows:
        if offset + row.size > start:
            yield offset, row
        offset += row.size


def _descend(
    offset: int, page: ChunkRef, depth: int, reader: PageReader, start: int
) -> Iterator[tuple[int, ChunkRef]]:
    if not 0 < depth <= MAX_DEPTH:
        raise FormatError(f"a manifest of depth {depth} is not allowed", hint=FAULTY)
    rows = decode_page(reader.read_nodes((page.digest,))[0], depth, page.size)
    if depth == 1:
        yield from _after(offset, rows, start)
        return
    for at, row in _after(offset, rows, start):
        yield from _descend(at, row, depth - 1, reader, start)
