"""Bars: drawn in time, silent where nobody looks, and no burden on short work."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import time

import pytest

from datastore.cli.progress import Bars, Screen, shorten
from datastore.cli.session import Session
from datastore.progress import SILENT


class Terminal(io.StringIO):
    """A terminal that remembers when it was first written to."""

    first: float = 0.0

    def isatty(self) -> bool:
        return True

    def write(self, text: str) -> int:
        self.first = self.first or time.monotonic()
        return super().write(text)


def wait_until(condition) -> None:
    give_up = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def test_a_bar_shows_path_bytes_rate_and_time_left():
    terminal = Terminal()
    bars = Bars(terminal, first_sign=0.01, every=0.01)
    with bars.task("add images", 4_000_000, "B") as task:
        task.describe("images/cats/a.png")
        task.advance(1_000_000)
        wait_until(lambda: "25%" in terminal.getvalue() and "/a.png" in terminal.getvalue())
    bars.close()
    drawn = terminal.getvalue()
    assert "add images:" in drawn
    assert "1.00M/4.00MB" in drawn
    assert "B/s" in drawn
    assert " left" in drawn


def test_the_screen():
    import os
    import pty
    import termios

    master, slave = pty.openpty()
    with os.fdopen(slave, "w") as terminal:
        assert Screen(terminal).size() == (80, 24)  # it says 0 by 0
        termios.tcsetwinsize(slave, (50, 132))
        assert Screen(terminal).size() == (132, 50)
    os.close(master)
    assert Screen(io.StringIO()).size() == (80, 24)


def test_the_work_goes_on_without_a_terminal():
    class Gone(Terminal):
        tries = 0

        def write(self, text: str) -> int:
            self.tries += 1
            raise OSError

    terminal = Gone()
    bars = Bars(terminal, first_sign=0.01, every=0.01)
    with bars.task("add", 5, "files") as task:
        wait_until(lambda: terminal.tries > 3)
        task.advance(5)
    bars.close()


def test_the_first_sign_of_life_is_in_time():
    subprocess.run([sys.executable, "-c", "import tqdm"], check=True)  # off a cold disk
    terminal = Terminal()
    bars = Bars(terminal)
    began = time.monotonic()
    with bars.task("add images", None, "files") as task:
        task.advance(1)
        wait_until(lambda: terminal.first)
    bars.close()
    assert terminal.first - began < 0.2 + 0.3  # 0.2 is the promise; the rest is for a busy machine


def test_the_clock_goes_on_while_a_worker_is_stuck():
    terminal = Terminal()
    bars = Bars(terminal, first_sign=0.01, every=0.01)
    with bars.task("add images", 10, "files"):
        wait_until(lambda: terminal.getvalue().count("add images") > 3)
    bars.close()


def test_short_work_draws_nothing_and_loads_nothing():
    program = """
import io, sys
from datastore.cli.progress import Bars
stream = io.StringIO()
bars = Bars(stream, first_sign=60)
with bars.task("add", 3, "files") as task:
    task.advance(3)
bars.close()
print(repr(stream.getvalue()), "tqdm" in sys.modules)
"""
    command = [sys.executable, "-c", program]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stdout == "'' False\n", done.stderr


def test_finished_bars_leave_nothing_behind():
    terminal = Terminal()
    bars = Bars(terminal, first_sign=0.01, every=0.01)
    with bars.task("scan", None, "files"), bars.task("add", 5, "files"):
        wait_until(lambda: "add:" in terminal.getvalue())
    bars.close()
    assert terminal.getvalue().rpartition("\r")[0].endswith(" ")  # wiped
    assert not [each for each in threading.enumerate() if each.name == "progress"]


def test_a_task_that_is_never_ended_is_taken_down():
    terminal = Terminal()
    bars = Bars(terminal, first_sign=0.01, every=0.01)
    bars.task("add", 5, "files").advance(1)
    wait_until(lambda: "add:" in terminal.getvalue())
    bars.close()
    after = terminal.getvalue()
    time.sleep(0.05)
    assert terminal.getvalue() == after


def test_counts_of_several_threads_add_up():
    terminal = Terminal()
    bars = Bars(terminal, first_sign=0.01, every=0.01)
    with bars.task("add", 40_000, "files") as task:
        workers = [
            threading.Thread(target=lambda: [task.advance(1) for _ in range(10_000)])
            for _ in range(4)
        ]
        for worker in workers:
            worker.start()
        for worker in workers:
            worker.join()
        wait_until(lambda: "100%" in terminal.getvalue())
    bars.close()


def test_a_path_cannot_steer_the_terminal():
    terminal = Terminal()
    bars = Bars(terminal, first_sign=0.01, every=0.01)
    with bars.task("add", 5, "files") as task:
        task.describe("a\x1b[2J\nb")
        wait_until(lambda: r"\n" in terminal.getvalue())
    bars.close()
    assert "\x1b[2J" not in terminal.getvalue()


def test_the_end_of_a_long_path_is_kept():
    assert shorten("images/a.png", 16) == "images/a.png"
    assert shorten("images/cats/0001.png", 16) == "...cats/0001.png"
    assert shorten("images/cats/0001.png", 7) == ""


@pytest.mark.parametrize("quiet", [True, False])
def test_silence_where_nobody_looks(quiet, monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal() if quiet else io.StringIO())
    assert Session(quiet=quiet).progress() is SILENT


def test_silence_on_a_dumb_terminal(monkeypatch):
    monkeypatch.setattr(sys, "stderr", Terminal())
    monkeypatch.setenv("TERM", "dumb")
    assert Session().progress() is SILENT
