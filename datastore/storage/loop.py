"""An event loop in a thread of its own, so that asynchronous clients can be called from threads.

The client libraries share one loop by default, on which a call that nobody waits for any longer
goes on: after Ctrl-C hundreds of requests would still be sent. This one ends them all at once.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
import threading
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

_T = TypeVar("_T")

_PATIENCE: Final = 2.0  # seconds for each step of closing: a library may block the loop


class LoopClosedError(RuntimeError):
    """The loop was closed before or during the call."""


class Loop:
    """An event loop; calls may come from any thread.

    Args:
        name: Of its thread.
    """

    def __init__(self, name: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._lock = threading.Lock()
        self._waiting: set[concurrent.futures.Future[Any]] = set()
        self._closed = False
        self._thread = threading.Thread(target=self._loop.run_forever, name=name, daemon=True)
        self._thread.start()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The loop itself, for libraries that want to be told."""
        return self._loop

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """Runs a coroutine on the loop and waits for its result.

        An exception of the waiting thread, such as Ctrl-C, cancels it.

        Raises:
            LoopClosedError: `close` was called.
        """
        with self._lock:
            if self._closed:
                work.close()  # or Python warns that it was never awaited
                raise LoopClosedError
            future = asyncio.run_coroutine_threadsafe(work, self._loop)
            self._waiting.add(future)
        try:
            return future.result()
        except concurrent.futures.CancelledError as error:
            raise LoopClosedError from error
        except BaseException:
            future.cancel()
            raise
        finally:
            with self._lock:
                self._waiting.discard(future)

    def close(self, finish: Coroutine[Any, Any, None] | None = None) -> None:
        """Cancels what is under way, waits a moment for it to end, and stops the thread.

        Who waits in `run` is told at once, also where a library blocks the loop.

        Args:
            finish: What is run last, to let go of connections.
        """
        with self._lock:
            if self._closed:
                if finish is not None:
                    finish.close()
                return
            self._closed = True
            waiting = list(self._waiting)
        for future in waiting:
            future.cancel()
        try:
            self._last(self._drain())
            if finish is not None:
                self._last(finish)
        finally:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join(_PATIENCE)
            if not self._thread.is_alive():
                self._loop.close()

    def _last(self, work: Coroutine[Any, Any, None]) -> None:
        # How it ends is of no account: connections that do not close in peace die with the loop.
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        concurrent.futures.wait([future], _PATIENCE)
        future.cancel()

    async def _drain(self) -> None:
        """Ends every task but this one."""
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._loop.shutdown_asyncgens()
