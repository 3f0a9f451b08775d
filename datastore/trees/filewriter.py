"""From a file's bytes to its content: cut, name, store.

A long file is read and cut by one thread while another names and stores the chunks: on two cores
that reaches twice the speed (``benchmarks/kernel.py``).
"""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Final

from datastore.errors import UsageError
from datastore.kernel.chunking import CHUNKERS, DEFAULT_CHUNKER, WHOLE_FILE_SIZE, Chunker
from datastore.kernel.hashing import Digest, chunk_digest, node_digest
from datastore.trees.manifest import ChunkWriter, Content, ManifestBuilder

WINDOW: Final = 4 * 1024 * 1024
"""Bytes read and cut at a time."""
_WINDOWS: Final = 3

ReadInto = Callable[[memoryview], int]
"""Fills a buffer from a file and returns how many bytes it got; 0 at the end."""

_Window = tuple[memoryview, list[int]]


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
        read: Gives the file's bytes in order; called from another thread.
        writer: Where chunks and pages go; called from this thread only.
        on_bytes: Told how many more bytes are done.

    Returns:
        The content, of which the size is what `read` gave.
    """
    cutter = _Cutter(read, CHUNKERS[DEFAULT_CHUNKER])
    builder = ManifestBuilder(writer)
    try:
        while (window := cutter.next()) is not None:
            view, lengths = window
            start = 0
            for length in lengths:
                # The buffer is used again: what goes on to be compressed is copied out of it.
                data = bytes(view[start : start + length])
                builder.add(writer.put_chunk(data), length)
                start += length
            if on_bytes is not None:
                on_bytes(start)
            cutter.give_back(view)
    finally:
        cutter.stop()
    return builder.finish()


class _Cutter:
    """Reads and cuts in a thread of its own, a few windows ahead."""

    def __init__(self, read: ReadInto, chunker: Chunker) -> None:
        self._read = read
        self._chunker = chunker
        self._free: queue.SimpleQueue[memoryview | None] = queue.SimpleQueue()
        self._full: queue.SimpleQueue[_Window | BaseException | None] = queue.SimpleQueue()
        for _ in range(_WINDOWS):
            self._free.put(memoryview(bytearray(WINDOW + chunker.max_size)))
        self._thread = threading.Thread(target=self._run, name="datastore-cut", daemon=True)
        self._thread.start()

    def next(self) -> _Window | None:
        """Returns the next window and the lengths of its chunks, or None at the end."""
        window = self._full.get()
        if isinstance(window, BaseException):
            raise window
        return window

    def give_back(self, view: memoryview) -> None:
        """Lets the buffer be filled again."""
        self._free.put(view)

    def stop(self) -> None:
        """Ends the thread."""
        self._free.put(None)
        self._thread.join()

    def _run(self) -> None:
        try:
            self._cut_all()
        except BaseException as error:  # noqa: BLE001 - raised again in the caller's thread
            self._full.put(error)

    def _cut_all(self) -> None:
        rest = b""
        begun = False
        while (view := self._free.get()) is not None:
            view[: len(rest)] = rest
            filled = self._fill(view, len(rest))
            final = filled < len(view)
            if final and not begun and 0 < filled <= WHOLE_FILE_SIZE:
                lengths = [filled]  # as `write_bytes` stores it
            else:
                lengths = self._chunker.cut(view[:filled], final=final)
            begun = True
            used = sum(lengths)
            rest = bytes(view[used:filled])
            if lengths:
                self._full.put((view, lengths))
            if final:
                self._full.put(None)
                return

    def _fill(self, view: memoryview, filled: int) -> int:
        while filled < len(view):
            count = self._read(view[filled:])
            if not count:
                break
            filled += count
        return filled
