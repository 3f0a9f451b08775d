"""Bytes on their way up, and how to tell a slow line from a dead one."""

from __future__ import annotations

import asyncio
import io
import time
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

_T = TypeVar("_T")

STALL: Final = 120.0
"""Seconds without a byte going up after which a call is given up."""


class Body(io.BytesIO):
    """The bytes of an upload, shared and not copied, that know when they were last asked for.

    The clients' own timeouts watch only the answer: an upload that the other side does not take in
    would wait for ever.

    Args:
        data: All bytes.
    """

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self._data = data
        self.moved = time.monotonic()

    def read(self, size: int | None = -1, /) -> bytes:
        """See `io.BytesIO.read`."""
        self.moved = time.monotonic()
        return super().read(size)

    def getbuffer(self) -> memoryview:
        """All bytes, to be read only: the usual way would copy them, and aiohttp goes it."""
        return memoryview(self._data)


async def sent(body: Body, work: Coroutine[Any, Any, _T], *, stall: float = STALL) -> _T:
    """Waits for an upload as long as it moves.

    Args:
        body: What `work` sends.
        work: The call that sends it.
        stall: Seconds without progress that are waited for.

    Raises:
        TimeoutError: Nothing moved for that long, or no answer came.
    """
    task = asyncio.ensure_future(work)
    try:
        while not task.done():
            left = body.moved + stall - time.monotonic()
            if left <= 0:
                raise TimeoutError(f"nothing could be sent for {stall:.0f} s")
            await asyncio.wait({task}, timeout=left)
        return task.result()
    finally:
        task.cancel()  # harmless once it is done
