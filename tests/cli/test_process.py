"""The program as a process: pipes, signals, terminals."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time

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
    with subprocess.Popen(
        [*COMMAND, "add", "endless", *options],
        cwd=project.top,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    ) as process:
        time.sleep(1.5)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    if options:
        assert json.loads(out)["error"]["code"] == "interrupted"
    else:
        assert err.decode().startswith("error: interrupted\nhint: Nothing was lost: ")
    assert project.ok("status").startswith("Everything matches")


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
    shown = b""
    while True:
        try:
            piece = os.read(master, 65536)
        except OSError:  # how Linux says that the other side is closed
            break
        if not piece:
            break
        shown += piece
    os.close(master)
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
    assert "large" in on_a_terminal(project, "add", "large")
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
