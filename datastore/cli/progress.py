"""Progress bars on a terminal.

A worker only adds to a counter. One thread of our own draws: so a bar appears and its clock moves
even while a worker sits in a long read, several workers may report at once, and work that is over
in a blink draws nothing and never loads tqdm.
"""

from __future__ import annotations

import contextlib
import os
import threading
import time
from types import TracebackType
from typing import TYPE_CHECKING, NoReturn, Self, TextIO

from datastore.cli.text import quote

if TYPE_CHECKING:
    from tqdm import tqdm

FIRST_SIGN = 0.1
"""Seconds of work before the first bar; loading tqdm adds to it, and 0.2 is what people notice."""

EVERY = 0.1
"""Seconds between two drawings."""

_WITH_TOTAL = (
    "{desc}: {percentage:3.0f}%|{bar:12}| {n_fmt}/{total_fmt}{unit} {rate_fmt}, "
    "{remaining} left{postfix}"
)
_WITHOUT_TOTAL = "{desc}: {n_fmt}{unit} {rate_fmt}, {elapsed} so far{postfix}"
_NOTHING_YET = "{desc}: {elapsed} so far{postfix}"
_USUAL = (80, 24)
_PATIENCE = 1.0  # seconds for the last drawing
_SLACK = 12  # columns that the numbers may grow by from one drawing to the next
_SHORTEST = 8  # less of a path says nothing


class Bars:
    """A `datastore.progress.Progress` that draws with tqdm.

    Args:
        stream: The terminal to draw on.
        first_sign: Seconds of work before anything is drawn.
        every: Seconds between two drawings.
    """

    def __init__(
        self, stream: TextIO, *, first_sign: float = FIRST_SIGN, every: float = EVERY
    ) -> None:
        self._screen = Screen(stream)
        self._first_sign = first_sign
        self._every = every
        self._tasks: list[BarTask] = []
        self._lock = threading.Lock()
        self._closed = threading.Event()
        self._drawer: threading.Thread | None = None

    def task(self, name: str, total: int | None, unit: str) -> BarTask:
        """Begins a task; see `datastore.progress.Progress.task`."""
        task = BarTask(self, name, total, unit)
        with self._lock:
            self._tasks.append(task)
            if self._drawer is None and not self._closed.is_set():
                self._drawer = threading.Thread(target=self._draw, name="progress", daemon=True)
                self._drawer.start()
        return task

    def close(self) -> None:
        """Takes the bars off the screen, for good."""
        self._closed.set()
        if self._drawer is not None:
            self._drawer.join(_PATIENCE)
            if self._drawer.is_alive():  # a terminal that takes nothing, as after Ctrl-S
                return
        with self._lock:
            for task in self._tasks:
                task.erase()
            self._tasks.clear()

    def end(self, task: BarTask) -> None:
        """Takes the bar of a finished task off the screen."""
        with self._lock:
            if task in self._tasks:
                self._tasks.remove(task)
            task.erase()

    def _draw(self) -> None:
        pause = self._first_sign
        while not self._closed.wait(pause):
            with self._lock:
                for task in self._tasks:
                    task.draw(self._screen)
            pause = self._every


class Screen:
    """A terminal that may go away: the work does not end with it.

    tqdm must not see the error. It would keep its lock, and so stop every thread that draws.

    Args:
        stream: The terminal.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream = stream
        self.encoding = stream.encoding

    def write(self, text: str) -> int:
        """Writes as far as there is somebody to read it."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.write(text)
        return len(text)

    def flush(self) -> None:
        """Brings what was written onto the terminal."""
        with contextlib.suppress(OSError, ValueError):
            self._stream.flush()

    def size(self) -> tuple[int, int]:
        """Finds how many columns and lines there are; a terminal that says 0 has the usual."""
        try:
            found = os.get_terminal_size(self._stream.fileno())
        except (OSError, ValueError):
            return _USUAL
        return found.columns or _USUAL[0], found.lines or _USUAL[1]


class BarTask:
    """One piece of work, with a bar once it has taken long enough to deserve one."""

    def __init__(self, bars: Bars, name: str, total: int | None, unit: str) -> None:
        self._bars = bars
        self._name = name
        self._total = total
        self._unit = unit
        self._count = 0
        self._item = ""
        self._counting = threading.Lock()
        self._bar: tqdm[NoReturn] | None = None
        self._started = time.time()  # tqdm's clock

    def advance(self, count: int, /) -> None:
        """Says that `count` more units are done."""
        with self._counting:
            self._count += count

    def describe(self, item: str, /) -> None:
        """Names the item now worked on."""
        self._item = item

    def draw(self, screen: Screen) -> None:
        """Draws the bar as things stand; called by the drawing thread only."""
        if self._bar is None:
            self._bar = self._make(screen)
        columns, self._bar.nrows = screen.size()
        self._bar.ncols = columns - 1  # a full line would wrap
        self._bar.bar_format = self._format()
        # Into the field, and not through the setter: that would draw a second time.
        self._bar.postfix = ""
        room = columns - len(str(self._bar)) - _SLACK
        self._bar.postfix = shorten(quote(self._item), room) if self._item else ""
        if not self._bar.update(self._count - self._bar.n):
            self._bar.refresh()  # nothing new: only the clock goes on

    def _format(self) -> str:
        if self._total is None:
            return _WITHOUT_TOTAL if self._count else _NOTHING_YET
        return _WITH_TOTAL

    def erase(self) -> None:
        """Takes the bar off the screen."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None

    def _make(self, screen: Screen) -> tqdm[NoReturn]:
        from tqdm import tqdm  # noqa: PLC0415  (60 ms, which short work need not pay)

        tqdm.monitor_interval = 0  # its watchdog thread does what ours does already
        bar: tqdm[NoReturn] = tqdm(
            desc=self._name,
            total=self._total,
            unit="B" if self._unit == "B" else f" {self._unit}",
            unit_scale=True,
            file=screen,
            leave=False,
            ncols=_USUAL[0],  # what tqdm would find draws nothing where a terminal says 0
            mininterval=0,
            miniters=0,
            delay=1e-9,  # draw when there is something to tell, not here
        )
        bar.start_t = bar.last_print_t = self._started  # else the first rate is a fantasy
        return bar

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._bars.end(self)


def shorten(path: str, width: int) -> str:
    """Keeps the end of a long path, which tells more than its beginning."""
    if len(path) <= width:
        return path
    return "..." + path[3 - width :] if width >= _SHORTEST else ""
