"""A stored file as a seekable stream, fetched and verified chunk by chunk."""

from __future__ import annotations

import io
import os
from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Final, Protocol

from datastore.errors import CorruptionError, UsageError
from datastore.kernel.hashing import Digest
from datastore.trees.manifest import ChunkRef, Content, PageReader, iter_chunks

_READ_AHEAD: Final = 64
"""Chunks fetched together when a file is read through: about 2.5 MB."""


class ChunkReader(PageReader, Protocol):
    """Where chunks and pages come from."""

    def read_chunks(self, digests: Iterable[Digest]) -> Iterator[tuple[Digest, bytes]]:
        """Reads many chunks, verified, in any order."""
        ...


def iter_bytes(content: Content, reader: ChunkReader, *, start: int = 0) -> Iterator[bytes]:
    """Reads a file through.

    Args:
        content: What the file's entry says.
        reader: Where chunks come from.
        start: Offset in bytes at which to begin.

    Yields:
        The file's bytes, a chunk at a time.

    Raises:
        NotFoundError: A chunk is not stored.
        CorruptionError: A chunk is damaged.
        FormatError: The manifest is malformed.
    """
    refs = iter_chunks(content, reader, start=start)
    while batch := list(islice(refs, _READ_AHEAD)):
        found = dict(reader.read_chunks([ref.digest for _, ref in batch]))
        for offset, ref in batch:
            data = found[ref.digest]
            _check_size(ref, data)
            yield data[start - offset :] if offset < start else data


def _check_size(ref: ChunkRef, data: bytes) -> None:
    if len(data) != ref.size:
        raise CorruptionError(
            f"a manifest promises {ref.size} bytes of a chunk that has {len(data)}",
            hint="run 'datastore verify' to see which files are affected",
        )


class FileReader(io.RawIOBase):
    """A read-only, seekable stream over a stored file.

    Args:
        content: What the file's entry says.
        reader: Where chunks come from.
    """

    def __init__(self, content: Content, reader: ChunkReader) -> None:
        self._content = content
        self._reader = reader
        self._position = 0
        self._ahead: Iterator[bytes] | None = None
        self._current = memoryview(b"")

    def _check_open(self) -> None:
        if self.closed:
            raise UsageError("the file is closed")

    def readable(self) -> bool:
        """Returns True."""
        return True

    def seekable(self) -> bool:
        """Returns True."""
        return True

    def tell(self) -> int:
        """Returns the position in bytes."""
        return self._position

    def seek(self, offset: int, whence: int = os.SEEK_SET, /) -> int:
        """Moves; the next read fetches only what lies there."""
        self._check_open()
        bases = {
            os.SEEK_SET: 0,
            os.SEEK_CUR: self._position,
            os.SEEK_END: self._content.size,
        }
        if whence not in bases:
            raise UsageError(f"cannot seek from {whence}: expected 0, 1 or 2")
        position = bases[whence] + offset
        if position < 0:
            raise UsageError(f"cannot seek to {position}: there is nothing before the start")
        if position != self._position:
            self._position = position
            self._ahead = None
            self._current = memoryview(b"")
        return position

    def readinto(self, buffer: memoryview, /) -> int:  # type: ignore[override]
        """Reads up to one chunk's worth of bytes.

        Raises:
            NotFoundError: A chunk is not stored.
            CorruptionError: A chunk is damaged.
            FormatError: The manifest is malformed.
        """
        self._check_open()
        while not self._current:
            if self._ahead is None:
                self._ahead = iter_bytes(self._content, self._reader, start=self._position)
            try:
                data = next(self._ahead, None)
            except BaseException:
                # It is at its end now, which the next read must not take for the end of the file.
                self._ahead = None
                raise
            if data is None:
                return 0
            self._current = memoryview(data)
        count = min(len(buffer), len(self._current))
        buffer[:count] = self._current[:count]
        self._current = self._current[count:]
        self._position += count
        return count
