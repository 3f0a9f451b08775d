"""The program as a process: pipes, signals, terminals."""

from __future__ import annotations

import contextlib
import json
import os
import pty
import signal
import subprocess
import sys

import pytest

COMMAND = [sys.executable, "-m", "datastore"]


def test_a_reader_that_stops_is_no_error(project):
    for number in range(1000):
        project.write(f"images/many/{number:05}-{'x' * 200}", "same\n")
    project.ok("add", "-q", "images")
    with subprocess.Popen(
        [*COMMAND, "ls", "-r", "images"],
        cwd=project.top,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        assert process.stdout.readline() == b"images/cats/a.png\n"
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_a_reader_that_stops_before_the_error(project):
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run(
        [*COMMAND, "cat", "nope", "--json"],
        cwd=project.top,
        stdout=write,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(write)
    assert done.returncode == 3
    assert done.stderr == b""


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_an_interrupt_says_what_is_safe(project, options):
    with (project.top / "endless").open("wb") as file:
        file.truncate(1 << 40)  # a hole, which takes no room
    master, slave = pty.openpty()
    with subprocess.Popen(
        [*COMMAND, "add", "endless", *options],
        cwd=project.top,
        env={**os.environ, "TERM": "xterm"},
        stdout=subprocess.PIPE,
        stderr=slave,
        # Whoever runs the tests in the background may have had interrupts ignored.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509
    ) as process:
        os.close(slave)
        shown = os.read(master, 100)  # the first bar: work has begun
        process.send_signal(signal.SIGINT)
        shown += rest_of(master)
        out = process.stdout.read()
    assert process.returncode == 130
    if options:
        assert json.loads(out)["error"]["code"] == "interrupted"
    else:
        assert "interrupted\r\n" in shown.decode()
        assert "Nothing was lost: " in shown.decode()
    assert project.ok("status").startswith("Everything matches")


def rest_of(master: int) -> bytes:
    """Reads what a terminal shows until nobody writes to it any more."""
    shown = b""
    with contextlib.suppress(OSError):  # how Linux says that the other side is closed
        while piece := os.read(master, 65536):
            shown += piece
    os.close(master)
    return shown


def on_a_terminal(project, *args: str, **environment: str) -> str:
    """Runs the program with a terminal for stdout and stderr; gives what it shows."""
    master, slave = pty.openpty()
    process = subprocess.Popen(
        [*COMMAND, *args],
        cwd=project.top,
        env={**os.environ, "TERM": "xterm", **environment},
        stdout=slave,
        stderr=slave,
    )
    os.close(slave)
    shown = rest_of(master)
    process.wait()
    return shown.decode()


def test_colour_is_for_terminals(changed, execute):
    assert "\x1b[32m" in on_a_terminal(changed, "status")
    assert b"\x1b" not in execute("status").stdout


@pytest.mark.parametrize("args", [["status"], ["cat", "nope"]])
def test_no_color(changed, args):
    assert "\x1b" in on_a_terminal(changed, *args)
    assert "\x1b" not in on_a_terminal(changed, *args, NO_COLOR="1")


def test_a_bar_is_for_terminals(project, execute):
    with (project.top / "large").open("wb") as file:
        file.truncate(1 << 28)
    assert "add: " in on_a_terminal(project, "add", "large")
    (project.top / "large").write_bytes(b"new")
    done = execute("add", "large")
    assert done.stderr.startswith(b"Next: ")


def test_a_terminal_that_cannot_show_a_character(project, execute):
    project.write("images/日本.png", "x")
    done = execute("status", env={**os.environ, "PYTHONIOENCODING": "latin-1"})
    assert done.returncode == 0
    assert rb"\u65e5\u672c.png" in done.stdout


def test_names_and_versions(project):
    for name in ("datastore", "git-ds"):
        done = subprocess.run([name, "--version"], capture_output=True, text=True, check=True)
        assert done.stdout.startswith("datastore ")
