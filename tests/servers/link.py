"""One client's connection to the fault proxy, and the one to the server on its behalf."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from tests.servers import answers
from tests.servers.answers import Answer
from tests.servers.messages import LIMIT, Head, body, end_of_body, framed, read_head, reset

if TYPE_CHECKING:
    from tests.servers.faultproxy import FaultProxy, Request, Rule

_CUTS = ("reset_body", "truncate", "stall")
_LOST = (ConnectionError, OSError, asyncio.IncompleteReadError)


class Link:
    """Carries the requests of one connection, one after the other.

    Args:
        proxy: Whose link this is.
        reader: What the client says.
        writer: What it is told.
    """

    def __init__(
        self, proxy: FaultProxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.proxy = proxy
        self.reader = reader
        self.writer = writer
        self._server: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def run(self) -> None:
        """Carries requests until either side has had enough."""
        try:
            while await self._next():
                pass
        except* _LOST:
            reset(self.writer)  # what a client would see of a server that has gone
        finally:
            self.writer.close()
            self._hang_up()

    def _hang_up(self) -> None:
        if self._server is not None:
            self._server[1].transport.abort()

    async def _next(self) -> bool:
        head = await read_head(self.reader)
        if head is None:
            return False
        request, rule = self.proxy.arrived(head)
        try:
            return await self._fault(head, request, rule)
        finally:
            self.proxy.done()

    async def _fault(self, head: Head, request: Request, rule: Rule | None) -> bool:
        """Does what a rule says instead of passing the request on, or passes it on."""
        if rule is None:
            return await self._forward(head, request, None)
        request.fault = rule.action
        match rule.action:
            case "reset":
                rule.hits += 1
                reset(self.writer)
                return False
            case "stall" if rule.number is None:
                rule.hits += 1
                return await self._stall()
            case "status":
                rule.hits += 1
                made_up = answers.error(head, int(rule.number or 0), rule.retry_after)
                return await self._answer(head, request, made_up)
            case "empty_listing":
                rule.hits += 1
                return await self._answer(head, request, answers.empty_listing(head))
            case "stale_listing" if head.target in self.proxy.listings:
                rule.hits += 1
                return await self._answer(head, request, self.proxy.listings[head.target])
            case "delay":
                rule.hits += 1
                await asyncio.sleep(rule.number or 0)
        return await self._forward(head, request, rule)

    async def _stall(self) -> bool:
        """Says nothing until the client hangs up."""
        while await self.reader.read(LIMIT):
            pass
        return False

    async def _answer(self, head: Head, request: Request, answer: Answer) -> bool:
        """Answers in the server's place, after the request has come in as a whole."""
        if not head.waits:
            async for _ in body(self.reader, head):
                pass
        await asyncio.sleep(self.proxy.latency)
        request.status = answer.status
        request.down = len(answer.content) if head.method != "HEAD" else 0
        self.writer.write(answer.message(with_body=head.method != "HEAD"))
        await self.writer.drain()
        return not head.waits and not head.last

    # -- to the server and back ----------------------------------------------------------------

    async def _forward(self, head: Head, request: Request, rule: Rule | None) -> bool:
        reader, writer = await self._connected()
        writer.write(head.raw)
        async with asyncio.TaskGroup() as group:
            sending = group.create_task(self._send(head, request, rule, writer))
            goes_on = await self._receive(head, request, rule, reader)
            if not goes_on:
                sending.cancel()
        return goes_on

    async def _connected(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The connection to the server: a new one where it has ended the last."""
        if self._server is None or self._server[0].at_eof() or self._server[0].exception():
            self._hang_up()
            upstream = self.proxy.upstream
            self._server = await asyncio.open_connection(*upstream, limit=LIMIT)
        return self._server

    async def _send(
        self, head: Head, request: Request, rule: Rule | None, writer: asyncio.StreamWriter
    ) -> None:
        """Passes the request's body on."""
        at = 0
        async for piece in body(self.reader, head):
            await self.proxy.pace("up", len(piece))
            passed = piece
            if rule is not None and rule.action == "corrupt_up":
                passed = _flipped(piece, at, rule)
            at += len(piece)
            request.up += len(piece)
            writer.write(framed(head, passed))
            await writer.drain()
        writer.write(end_of_body(head))
        await writer.drain()

    async def _receive(
        self, head: Head, request: Request, rule: Rule | None, reader: asyncio.StreamReader
    ) -> bool:
        """Passes the answer on, and tells whether another request may follow."""
        told_to_go_on = not head.waits
        while True:
            answer = await read_head(reader)
            if answer is None:
                raise ConnectionResetError("the server has ended the connection")
            if answer.status != 100:
                break
            told_to_go_on = True
            self.writer.write(answer.raw)
        await asyncio.sleep(self.proxy.latency)
        request.status = answer.status
        if rule is not None and rule.action == "commit_then_reset":
            rule.hits += 1
            reset(self.writer)
            return False
        self.writer.write(answer.raw)
        bare = head.method == "HEAD" or answer.status in {204, 304}
        whole = bare or await self._deliver(head, answer, request, rule, reader)
        await self.writer.drain()
        endless = not bare and answer.length is None and not answer.chunked
        return whole and told_to_go_on and not (endless or head.last or answer.last)

    async def _deliver(
        self,
        head: Head,
        answer: Head,
        request: Request,
        rule: Rule | None,
        reader: asyncio.StreamReader,
    ) -> bool:
        """Passes the answer's body on, and tells whether it did so to the end."""
        listing = bytearray() if answers.is_listing(head) and answer.status == 200 else None
        async for piece in body(reader, answer, open_end=True):
            passed, cut = piece, False
            if rule is not None:
                passed, cut = _damaged(piece, request.down, rule)
            await self.proxy.pace("down", len(passed))
            request.down += len(passed)
            if passed:
                self.writer.write(framed(answer, passed))
                await self.writer.drain()
            if cut:
                assert rule is not None
                return await self._cut(rule)
            if listing is not None:
                listing += piece
        self.writer.write(end_of_body(answer))
        if listing is not None:
            kept = {n: v for n, v in answer.fields.items() if n.startswith(("content-t", "x-"))}
            self.proxy.listings.setdefault(head.target, Answer(200, bytes(listing), kept))
        return True

    async def _cut(self, rule: Rule) -> bool:
        rule.hits += 1
        if rule.action == "stall":
            return await self._stall()
        if rule.action == "reset_body":
            reset(self.writer)
        return False


def _damaged(piece: bytes, at: int, rule: Rule) -> tuple[bytes, bool]:
    """What is passed on of a piece that begins at byte `at`, and whether the body ends there."""
    if rule.action == "corrupt":
        return _flipped(piece, at, rule), False
    if rule.action in _CUTS:
        left = int(rule.number or 0) - at
        if left < len(piece):
            return piece[:left], True
    return piece, False


def _flipped(piece: bytes, at: int, rule: Rule) -> bytes:
    index = int(rule.number or 0) - at
    if not 0 <= index < len(piece):
        return piece
    rule.hits += 1
    flipped = bytearray(piece)
    flipped[index] ^= 1
    return bytes(flipped)
