"""Many transfers at once, bounded in number and in bytes, and stopped at once when asked to."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from types import TracebackType
from typing import Final, Generic, NamedTuple, Self, TypeVar

from datastore.errors import DatastoreError

BUDGET: Final = 128 * 1024 * 1024
"""Bytes in flight: four packs. A client library holds up to two copies of a body."""

Item = TypeVar("Item")
Result = TypeVar("Result")


class Outcome(NamedTuple, Generic[Item, Result]):
    """How one transfer ended: with a result, or with an error."""

    item: Item
    result: Result | None
    error: DatastoreError | None


class Transfers:
    """A pool of threads that move bytes; a context manager.

    Args:
        jobs: The most transfers under way at once.
        budget: The most bytes under way at once; a larger transfer goes alone.
        abort: Called when transfers that are under way are no longer wanted; makes them end.
    """

    def __init__(self, jobs: int, *, budget: int = BUDGET, abort: Callable[[], None]) -> None:
        self.jobs = jobs
        self._budget = budget
        self._abort = abort
        self._executor: ThreadPoolExecutor | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Waits for the threads, which have nothing to do any more."""
        if self._executor is not None:
            self._executor.shutdown(cancel_futures=True)
            self._executor = None

    def run(
        self,
        function: Callable[[Item], Result],
        items: Iterable[Item],
        cost: Callable[[Item], int],
    ) -> Iterator[Outcome[Item, Result]]:
        """Applies a function to items, several at once.

        Args:
            function: Called in the threads.
            items: Taken one by one, as there is room.
            cost: Bytes that an item holds in memory while it is under way.

        Yields:
            Each outcome as it comes; errors of our own tree stand in it, others are raised. Whoever
            stops to listen early ends the transfers that are under way.
        """
        executor = self._executor
        if executor is None:
            # Threads are made as they are needed, so a large number costs nothing.
            executor = self._executor = ThreadPoolExecutor(self.jobs, "datastore-transfer")
        waiting = iter(items)
        running: dict[Future[Result], tuple[Item, int]] = {}
        ahead = next(waiting, None)
        in_flight = 0
        try:
            while running or ahead is not None:
                while (
                    ahead is not None
                    and len(running) < self.jobs
                    and (not running or in_flight + cost(ahead) <= self._budget)
                ):
                    size = cost(ahead)
                    running[executor.submit(function, ahead)] = (ahead, size)
                    in_flight += size
                    ahead = next(waiting, None)
                done, _ = wait(running, return_when=FIRST_COMPLETED)
                for future in done:
                    item, size = running.pop(future)
                    in_flight -= size
                    yield _outcome(item, future)
        except BaseException:
            self._abort()
            for future in running:
                future.cancel()
            raise


def _outcome(item: Item, future: Future[Result]) -> Outcome[Item, Result]:
    try:
        return Outcome(item, future.result(), None)
    except DatastoreError as error:
        return Outcome(item, None, error)
