"""From a file's bytes to its content: cut, name, store.

One thread reads, cuts and names: with a second one for the cutting, both wait for each other at
every chunk, and 1.5 GB take a fifth longer. Compression does run beside it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from datastore.errors import UsageError
from datastore.kernel.chunking import CHUNKERS, DEFAULT_CHUNKER, WHOLE_FILE_SIZE
from datastore.kernel.hashing import Digest, chunk_digest, node_digest
from datastore.trees.manifest import ChunkWriter, Content, ManifestBuilder

WINDOW: Final = 4 * 1024 * 1024
"""Bytes read and cut at a time."""

ReadInto = Callable[[memoryview], int]
"""Fills a buffer from a file and returns how many bytes it got; 0 at the end."""


class DigestOnly:
    """A `ChunkWriter` that names content and keeps nothing: what `status` compares with."""

    def put_chunk(self, data: bytes | memoryview) -> Digest:
        """Returns the chunk's digest."""
        return chunk_digest(data)

    def put_node(self, data: bytes) -> Digest:
        """Returns the page's digest."""
        return node_digest(data)


def write_bytes(data: bytes, writer: ChunkWriter) -> Content:
    """Stores a file of up to `WHOLE_FILE_SIZE` bytes, which is one chunk.

    Raises:
        UsageError: There are more.
    """
    if len(data) > WHOLE_FILE_SIZE:
        raise UsageError(f"{len(data)} bytes are not a small file")
    if not data:
        return ManifestBuilder(writer).finish()
    return Content(len(data), writer.put_chunk(data))


def write_stream(
    read: ReadInto, writer: ChunkWriter, *, on_bytes: Callable[[int], None] | None = None
) -> Content:
    """Stores a file of any size.

    Args:
        read: Gives the file's bytes in order.
        writer: Where chunks and pages go.
        on_bytes: Told how many more bytes are done.

    Returns:
        The content, of which the size is what `read` gave.
    """
    chunker = CHUNKERS[DEFAULT_CHUNKER]
    builder = ManifestBuilder(writer)
    view = memoryview(bytearray(WINDOW + chunker.max_size))
    filled = 0
    begun = final = False
    while not final:
        filled = _fill(read, view, filled)
        final = filled < len(view)
        if final and not begun and 0 < filled <= WHOLE_FILE_SIZE:
            lengths = [filled]  # as `write_bytes` stores it
        else:
            lengths = chunker.cut(view[:filled], final=final)
        begun = True
        start = 0
        for length in lengths:
            # The buffer is used again: what goes on to be compressed is copied out of it.
            builder.add(writer.put_chunk(bytes(view[start : start + length])), length)
            start += length
        if on_bytes is not None:
            on_bytes(start)
        view[: filled - start] = view[start:filled]
        filled -= start
    return builder.finish()


def _fill(read: ReadInto, view: memoryview, filled: int) -> int:
    """Reads until the buffer is full or the file ends; returns how many bytes are in it."""
    while filled < len(view):
        count = read(view[filled:])
        if not count:
            break
        filled += count
    return filled
