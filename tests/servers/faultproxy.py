"""A proxy that does to HTTP what networks and servers do on a bad day, on demand and on record.

It stands between any client and any HTTP/1.1 server, in a thread of its own::

    with FaultProxy(server.address) as proxy:
        proxy.latency = 0.02
        proxy.add("PUT", r"/packs/", "status", 503, times=2)
        ...  # a client that talks to proxy.address.url
        assert len(proxy.seen("PUT")) == 3

The Host field is passed on as the client sent it, so that signed requests stay valid. For use from
a benchmark it is a program as well: ``python -m tests.servers.faultproxy 9000 8333 --latency .02``.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import re
import socket
import threading
import time
from collections.abc import Coroutine
from dataclasses import dataclass
from typing import Any, Literal, Self, get_args

from tests.servers.answers import Answer, is_listing
from tests.servers.link import Link
from tests.servers.messages import LIMIT, Head, reset
from tests.servers.processes import LOOPBACK, Address

Action = Literal[
    "status",  # answers N without asking the server
    "reset",  # resets the connection, instead of passing the request on
    "commit_then_reset",  # the server does what it is asked to; the client only sees a reset
    "reset_body",  # resets the connection after N bytes of the answer's body
    "truncate",  # ends the connection, in good order, after N bytes of the answer's body
    "stall",  # says no more after N bytes of the answer's body; nothing at all without an N
    "corrupt",  # flips a bit of byte N of the answer's body
    "corrupt_up",  # flips a bit of byte N of the request's body
    "delay",  # passes the request on after N seconds
    "empty_listing",  # answers a listing with one in which there is nothing
    "stale_listing",  # answers a listing as it was answered the first time
]
_LISTINGS = ("empty_listing", "stale_listing")
_WITH_NUMBER = ("status", "reset_body", "truncate", "corrupt", "corrupt_up", "delay")


@dataclass(slots=True)
class Rule:
    """One fault, and the requests that it befalls.

    Attributes:
        hits: How often it was really put in: a body may be too short to be damaged at byte N.
    """

    method: re.Pattern[str]
    path: re.Pattern[str]
    action: Action
    number: float | None
    retry_after: float | None
    times: int | None
    skip: int
    probability: float
    hits: int = 0

    def befalls(self, head: Head, chance: random.Random) -> bool:
        """Tells whether a request is to have this fault; it then counts as one of `times`."""
        if self.times == 0 or not self.method.fullmatch(head.method):
            return False
        if not self.path.search(head.target):
            return False
        if self.action in _LISTINGS and not is_listing(head):
            return False
        if self.skip:
            self.skip -= 1
            return False
        if chance.random() >= self.probability:
            return False
        if self.times is not None:
            self.times -= 1
        return True


@dataclass(slots=True)
class Request:
    """One request that came by.

    Attributes:
        path: With the query.
        status: Of the answer; None where none came, or none has come yet.
        fault: What was done to it.
        up: Bytes of the request's body that were passed on.
        down: Bytes of the answer's body that were passed on.
    """

    method: str
    path: str
    status: int | None = None
    fault: Action | None = None
    up: int = 0
    down: int = 0


class FaultProxy:
    """The proxy. Every attribute may be changed and read while requests go through.

    Args:
        upstream: The server.
        listen: Port to listen on; 0 takes a free one.

    Attributes:
        address: Where it listens.
        latency: Seconds by which each answer comes later.
        bandwidth: Bytes per second, in each direction, that all connections share.
        requests: Every request so far, in the order of their arrival.
        most_at_once: The highest number of requests under way at one time.
    """

    def __init__(
        self,
        upstream: Address,
        listen: int = 0,
        *,
        latency: float = 0.0,
        bandwidth: float | None = None,
    ) -> None:
        self.upstream = upstream
        self.address = Address(LOOPBACK, listen)
        self.latency = latency
        self.bandwidth = bandwidth
        self.requests: list[Request] = []
        self.most_at_once = 0
        self.listings: dict[str, Answer] = {}  # the first answer to each, by target
        self._rules: list[Rule] = []
        self._chance = random.Random(0)  # the same in each run
        self._under_way = 0
        self._free_at: dict[str, float] = {}  # when a direction has carried what was paced so far
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(
            target=self._loop.run_forever, name="faultproxy", daemon=True
        )
        self._server: asyncio.Server | None = None
        self._placeholder: socket.socket | None = None
        self._links: dict[asyncio.Task[None], Link] = {}

    # -- what a test asks for ------------------------------------------------------------------

    def add(
        self,
        method: str,
        path: str,
        action: Action,
        number: float | None = None,
        *,
        retry_after: float | None = None,
        times: int | None = None,
        skip: int = 0,
        probability: float = 1.0,
    ) -> Rule:
        """Puts a fault into requests from now on; of several rules the first that fits is taken.

        Args:
            method: Regular expression of the whole method.
            path: Regular expression, looked for in path and query.
            action: What to do.
            number: Its N.
            retry_after: Seconds that a status asks the client to wait.
            times: How many requests; without it, all.
            skip: Requests to leave alone at first.
            probability: Of each request, to have it.
        """
        if action not in get_args(Action) or (action in _WITH_NUMBER and number is None):
            raise ValueError(f"{action} is no fault, or needs a number")
        patterns = re.compile(method), re.compile(path)
        rule = Rule(*patterns, action, number, retry_after, times, skip, probability)
        self._rules.append(rule)
        return rule

    def clear(self) -> None:
        """Forgets rules, records and limits."""
        self._rules.clear()
        self.requests.clear()
        self.listings.clear()
        self.latency, self.bandwidth, self.most_at_once = 0.0, None, self._under_way

    def seen(self, method: str = ".*", path: str = "") -> list[Request]:
        """The requests that fit two regular expressions, taken as `add` takes them."""
        fits = re.compile(method), re.compile(path)
        return [r for r in self.requests if fits[0].fullmatch(r.method) and fits[1].search(r.path)]

    @property
    def bytes_up(self) -> int:
        """Of all bodies that were passed to the server."""
        return sum(request.up for request in list(self.requests))

    @property
    def bytes_down(self) -> int:
        """Of all bodies that were passed to the client."""
        return sum(request.down for request in list(self.requests))

    def down(self) -> None:
        """Resets all connections and refuses new ones."""
        self._run(self._down())

    def up(self) -> None:
        """Listens again, on the same port."""
        self._run(self._up())

    # -- its life ------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        self._thread.start()
        try:
            self.up()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self._run(self._down())
        self._end()

    def _end(self) -> None:
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        if self._placeholder is not None:
            self._placeholder.close()

    def _run(self, work: Coroutine[Any, Any, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout=30)

    async def _up(self) -> None:
        if self._server is not None:
            return
        if self._placeholder is not None:
            self._placeholder.close()
            self._placeholder = None
        self._server = await asyncio.start_server(
            self._serve, *self.address, limit=LIMIT, backlog=1024, reuse_address=True
        )
        self.address = Address(LOOPBACK, self._server.sockets[0].getsockname()[1])

    async def _down(self) -> None:
        if self._server is None:
            return
        self._server.close()
        self._server = None
        self._placeholder = socket.socket()  # bound, not listening: keeps the port from others
        self._placeholder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self._placeholder.bind(self.address)
        for task, link in self._links.items():
            reset(link.writer)
            task.cancel()
        await asyncio.gather(*self._links, return_exceptions=True)
        await asyncio.sleep(
            0
        )  # the loop closes the sockets of aborted connections in its next turn

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        link = Link(self, reader, writer)
        task = asyncio.current_task()
        assert task is not None
        self._links[task] = link
        try:
            await link.run()
        except asyncio.CancelledError:
            pass  # by _down; the stream server would log it
        finally:
            del self._links[task]

    # -- what a link asks for ------------------------------------------------------------------

    def arrived(self, head: Head) -> tuple[Request, Rule | None]:
        """Records a request, and says which fault it is to have."""
        request = Request(head.method, head.target)
        self.requests.append(request)
        self._under_way += 1
        self.most_at_once = max(self.most_at_once, self._under_way)
        rules = (rule for rule in list(self._rules) if rule.befalls(head, self._chance))
        return request, next(rules, None)

    def done(self) -> None:
        """A request is no longer under way."""
        self._under_way -= 1

    async def pace(self, direction: str, size: int) -> None:
        """Waits until so many bytes have gone over a line of the given bandwidth."""
        if self.bandwidth:
            now = time.monotonic()
            end = max(self._free_at.get(direction, now), now) + size / self.bandwidth
            self._free_at[direction] = end
            await asyncio.sleep(end - now)


def main() -> None:
    """Runs a proxy until it is interrupted."""
    parser = argparse.ArgumentParser(prog="faultproxy", description="Slows HTTP down.")
    parser.add_argument("listen", type=int, help="port")
    parser.add_argument("upstream", help="port of the server, or host:port")
    parser.add_argument("--latency", type=float, default=0.0, help="seconds for each answer")
    parser.add_argument("--bandwidth", type=float, help="bytes per second in each direction")
    given = parser.parse_args()
    host, _, port = given.upstream.rpartition(":")
    upstream = Address(host or LOOPBACK, int(port))
    proxy = FaultProxy(upstream, given.listen, latency=given.latency, bandwidth=given.bandwidth)
    with proxy, contextlib.suppress(KeyboardInterrupt):
        print("ready", proxy.address.url, flush=True)
        threading.Event().wait()


if __name__ == "__main__":
    main()
