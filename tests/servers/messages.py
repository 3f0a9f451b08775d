"""HTTP/1.1 messages on streams, as far as a proxy has to understand them."""

from __future__ import annotations

import asyncio
import socket
import struct
from collections.abc import AsyncIterator
from dataclasses import dataclass

LIMIT = 1 << 20
"""Bytes that a head may have."""

_PIECE = 1 << 18


@dataclass(frozen=True, slots=True)
class Head:
    """The first line and the header fields of a request or an answer.

    Attributes:
        raw: As received, with the empty line.
        start: The words of the first line, three at most.
        fields: By name in lower case.
    """

    raw: bytes
    start: tuple[str, ...]
    fields: dict[str, str]

    @property
    def method(self) -> str:
        return self.start[0]

    @property
    def target(self) -> str:
        """Path and query of a request."""
        return self.start[1]

    @property
    def status(self) -> int:
        return int(self.start[1])

    @property
    def chunked(self) -> bool:
        return "chunked" in self.fields.get("transfer-encoding", "").lower()

    @property
    def length(self) -> int | None:
        """Bytes of the body, where the head says it."""
        text = self.fields.get("content-length")
        return None if text is None else int(text)

    @property
    def waits(self) -> bool:
        """Whether the client sends the body only when it is told to go on."""
        return "100-continue" in self.fields.get("expect", "").lower()

    @property
    def last(self) -> bool:
        """Whether the connection ends after this message."""
        return "close" in self.fields.get("connection", "").lower() or "HTTP/1.0" in self.start


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """Reads a head; None at the end of the connection."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    first, *lines = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
    split = [line.partition(":") for line in lines]
    fields = {name.strip().lower(): value.strip() for name, _, value in split}
    return Head(raw, tuple(first.split(" ", 2)), fields)


async def body(
    reader: asyncio.StreamReader, head: Head, *, open_end: bool = False
) -> AsyncIterator[bytes]:
    """Reads a body, without its framing, in pieces.

    Args:
        reader: Just behind the head.
        head: Tells how long the body is.
        open_end: It goes on to the end of the connection if the head says nothing.

    Raises:
        asyncio.IncompleteReadError: The connection ended before the body did.
    """
    if head.chunked:
        while size := int((await reader.readuntil(b"\r\n")).split(b";")[0], 16):
            async for piece in _exactly(reader, size):
                yield piece
            await reader.readexactly(2)
        while await reader.readuntil(b"\r\n") != b"\r\n":
            pass  # trailing fields, which nobody here sends
    elif head.length is not None:
        async for piece in _exactly(reader, head.length):
            yield piece
    elif open_end:
        while piece := await reader.read(_PIECE):
            yield piece


async def _exactly(reader: asyncio.StreamReader, size: int) -> AsyncIterator[bytes]:
    while size:
        piece = await reader.read(min(size, _PIECE))
        if not piece:
            raise asyncio.IncompleteReadError(b"", size)
        size -= len(piece)
        yield piece


def framed(head: Head, piece: bytes) -> bytes:
    """A piece of the body as it goes over the wire."""
    return b"%x\r\n%b\r\n" % (len(piece), piece) if head.chunked else piece


def end_of_body(head: Head) -> bytes:
    return b"0\r\n\r\n" if head.chunked else b""


def reset(writer: asyncio.StreamWriter) -> None:
    """Ends a connection with a RST instead of a FIN, as a crashed machine or a firewall does."""
    connection: socket.socket | None = writer.get_extra_info("socket")
    if connection is not None and connection.fileno() >= 0:
        connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.transport.abort()
