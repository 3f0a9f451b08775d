"""How the library tells what it is doing: a small protocol, silent by default.

The command line draws bars from it; a service may log from it. Core code never formats anything.
"""

from __future__ import annotations

from types import TracebackType
from typing import Protocol, Self


class Task(Protocol):
    """One piece of work under way; safe to advance from several threads."""

    def advance(self, count: int, /) -> None:
        """Says that `count` more units are done."""
        ...

    def describe(self, item: str, /) -> None:
        """Names the item now worked on, for people: a path, never a digest."""
        ...

    def __enter__(self) -> Self: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...


class Progress(Protocol):
    """A sink for progress."""

    def task(self, name: str, total: int | None, unit: str) -> Task:
        """Begins a task.

        Args:
            name: A verb for people: ``"add images"``.
            total: How many units there are; None where it is not known yet.
            unit: ``"B"`` for bytes, else a plural noun such as ``"files"``.
        """
        ...


class _SilentTask:
    def advance(self, count: int, /) -> None:
        pass

    def describe(self, item: str, /) -> None:
        pass

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        pass


class _Silent:
    _task = _SilentTask()

    def task(self, name: str, total: int | None, unit: str) -> Task:
        return self._task


SILENT: Progress = _Silent()
"""Says nothing."""
