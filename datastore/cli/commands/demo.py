"""``datastore demo``: a tour, as a list of steps that run for real.

A further feature is shown by further steps in `TOUR`; nothing else knows what they do.
"""

from __future__ import annotations

import contextlib
import math
import os
import random
import shlex
import shutil
import struct
import subprocess
import sys
import tempfile
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import click

import datastore
from datastore.cli.arguments import Verb
from datastore.cli.session import Session
from datastore.errors import NotFoundError, UsageError

SIDE = 32  # pixels
PER_CLASS = 20


@dataclass(frozen=True, slots=True)
class Say:
    """Words between commands."""

    text: str


@dataclass(frozen=True, slots=True)
class Do:
    """A change of the user's files, and the words for it.

    Args:
        text: What is being done.
        act: Does it, given the demo's Git repository.
    """

    text: str
    act: Callable[[Path], None]


@dataclass(frozen=True, slots=True)
class Run:
    """A command, shown and run as a user would type it; no shell takes part.

    Args:
        command: The command line.
        lines: How much of a long output is shown.
        at: The directory that it runs in.
    """

    command: str
    lines: int = 40
    at: str = "tour"


Step = Say | Do | Run


# -- the data -------------------------------------------------------------------------------------


def png(pixel: Callable[[int, int], tuple[int, int, int]]) -> bytes:
    """Draws a small picture.

    Args:
        pixel: Gives the red, green and blue at column x of row y.
    """

    def part(kind: bytes, data: bytes) -> bytes:
        checked = kind + data
        return struct.pack(">I", len(data)) + checked + struct.pack(">I", zlib.crc32(checked))

    rows = (b"\0" + b"".join(bytes(pixel(x, y)) for x in range(SIDE)) for y in range(SIDE))
    header = struct.pack(">IIBBBBB", SIDE, SIDE, 8, 2, 0, 0, 0)
    body = part(b"IDAT", zlib.compress(b"".join(rows), 9))
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", header) + body + part(b"IEND", b"")


def picture(kind: str, number: int) -> bytes:
    """Draws a circle or a square on grainy paper; the number gives its colour and size."""
    grain = random.Random(f"{kind} {number}")
    radius = 7 + number % 6
    colour = (60 + number * 37 % 190, 60 + number * 61 % 190, 60 + number * 83 % 190)
    middle = SIDE / 2

    def pixel(x: int, y: int) -> tuple[int, int, int]:
        across, down = abs(x - middle), abs(y - middle)
        distance = math.hypot(across, down) if kind == "circles" else max(across, down)
        if distance <= radius:
            return colour
        shade = 225 + grain.randrange(30)
        return (shade, shade, shade - 8)

    return png(pixel)


def draw_data(top: Path) -> None:
    """Writes 40 pictures in two folders, and their labels."""
    labels = ["file,label,width,height"]
    for kind in ("circles", "squares"):
        folder = top / "images" / kind
        folder.mkdir(parents=True)
        for number in range(PER_CLASS):
            (folder / f"{number:03}.png").write_bytes(picture(kind, number))
            labels.append(f"{kind}/{number:03}.png,{kind.removesuffix('s')},{SIDE},{SIDE}")
    (top / "labels.csv").write_text("\n".join(labels) + "\n", encoding="utf-8")


def change_data(top: Path) -> None:
    """Changes one picture, adds one, renames one, and corrects a label."""
    circles = top / "images" / "circles"
    (circles / "003.png").write_bytes(picture("circles", 77))
    (circles / "020.png").write_bytes(picture("circles", 20))
    (circles / "007.png").rename(circles / "seven.png")
    labels = top / "labels.csv"
    text = labels.read_text(encoding="utf-8")
    labels.write_text(text.replace("squares/004.png,square", "squares/004.png,diamond"), "utf-8")


# -- the tour -------------------------------------------------------------------------------------

TOUR: tuple[Step, ...] = (
    Say("A Git repository, and data that does not belong into it: 40 pictures and a label file."),
    Run("git init -q -b main ."),
    Do("(draws images/circles/*.png, images/squares/*.png and labels.csv)", draw_data),
    Run("datastore init"),
    Say("The bytes go to a store; small pointers to them are for Git."),
    Run("datastore add images labels.csv"),
    Run("cat images.ds"),
    Run("git add ."),
    Run("git commit -q -m 'First version'"),
    Run("git tag v1"),
    Do("(changes a picture, adds one, renames one, and corrects a label)", change_data),
    Run("datastore status"),
    Run("datastore add images labels.csv"),
    Say("Git's own commands now speak of files, not of digests."),
    Run("git diff"),
    Run("git commit -q -a -m 'Second version'"),
    Run("git tag v2"),
    Run("datastore diff v1..v2"),
    Run("datastore log images"),
    Say("Any version can be read where it lies ..."),
    Run("datastore ls v1:images/circles --long", lines=5),
    Run("datastore cat v1:labels.csv", lines=5),
    Say("... or be put back into the workspace. Git's HEAD stays where it is."),
    Run("datastore checkout v1"),
    Run("datastore diff v2"),
    Run("datastore checkout v2"),
    Run("datastore status"),
    Run("datastore verify"),
    Say("A remote shares it: a bucket, or as here a directory. Its name goes into Git."),
    Run("datastore remote add origin ../bucket"),
    Run("git add ."),
    Run("git commit -q -m 'Name the remote'"),
    Run("datastore push"),
    Run("datastore push"),
    Say("Somebody else clones the repository, and pulls what its commit names ..."),
    Run("git clone -q tour colleague", at="."),
    Run("datastore pull", at="colleague"),
    Run("datastore status", at="colleague"),
    Say("... or an older version, or a part of one, without touching the workspace."),
    Run("datastore pull --rev v1 --out ../first images/circles", at="colleague"),
    Run("datastore cat v1:labels.csv", lines=3, at="colleague"),
    Say(
        "That was it. In a Git repository of your own, begin with:\n"
        "    datastore init && datastore add PATH...\n"
        "'datastore --help' lists the commands, 'datastore VERB --help' explains one."
    ),
)


@click.command(cls=Verb)
@click.option(
    "--keep", metavar="DIR", type=click.Path(), help="Work in DIR, a new directory, and leave it."
)
@click.pass_obj
def command(session: Session, keep: str | None) -> None:
    """Take a tour in a temporary directory.

    Runs real commands on pictures that it draws itself, and shows what they print. Needs no
    network, reads and writes nothing of yours.
    """
    done: list[dict[str, object]] = []
    with _directory(session, keep) as base:
        for step in TOUR:
            if not session.json:
                session.say(_announced(step))
            if isinstance(step, Do):
                step.act(base / "tour")
            elif isinstance(step, Run):
                done.append(_run(step, base))
                if not session.json:
                    session.say(_first(str(done[-1]["output"]).splitlines(), step.lines))
                if done[-1]["exit_code"]:
                    break
    if session.json:
        session.emit({"steps": done})
    if done[-1]["exit_code"]:
        click.get_current_context().exit(1)


def _first(lines: list[str], count: int) -> list[str]:
    left = len(lines) - count
    return lines if left <= 0 else [*lines[:count], f"... (and {left} more lines)"]


def _announced(step: Step) -> Iterator[str]:
    if isinstance(step, Run):
        place = "" if step.at == "tour" else f"({step.at})"
        yield click.style(f"{place}$ {step.command}", bold=True)
        return
    if isinstance(step, Say):
        yield ""
    yield click.style(step.text, fg="cyan")


@contextlib.contextmanager
def _directory(session: Session, keep: str | None) -> Iterator[Path]:
    if keep is None:
        with tempfile.TemporaryDirectory(prefix="datastore-demo-") as name:
            yield _furnish(Path(name))
        return
    base = session.path(keep)
    if base.exists():
        raise UsageError(f"'{keep}' exists already", hint="Name a new directory.", where=keep)
    base.mkdir(parents=True)
    yield _furnish(base.resolve())
    session.hint(f"The tour's repository is {base / 'tour'}.")


def _furnish(base: Path) -> Path:
    """Makes the surroundings: a Git identity, a home, and our program on the PATH."""
    for folder in ("tour", "home", "bin"):
        (base / folder).mkdir()
    (base / "home" / "gitconfig").write_text(
        "[user]\n\tname = Ada\n\temail = ada@example.com\n", encoding="utf-8"
    )
    for name in ("datastore", "git-ds"):
        launcher = base / "bin" / name
        launcher.write_text(
            f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m datastore "$@"\n', encoding="utf-8"
        )
        launcher.chmod(0o755)
    return base


def _environment(base: Path) -> dict[str, str]:
    """Gives commands nothing of the user's Git: a tour must show the same everywhere."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    package = str(Path(datastore.__file__).parents[1])
    paths = [package, *filter(None, [os.environ.get("PYTHONPATH")])]
    return {
        **kept,
        "HOME": str(base / "home"),
        "XDG_CONFIG_HOME": str(base / "home"),
        "GIT_CONFIG_GLOBAL": str(base / "home" / "gitconfig"),
        "GIT_CONFIG_NOSYSTEM": "1",
        "GIT_PAGER": "cat",
        "GIT_CEILING_DIRECTORIES": str(base),
        "LC_ALL": "C",
        "PATH": os.pathsep.join([str(base / "bin"), os.environ.get("PATH", os.defpath)]),
        "PYTHONPATH": os.pathsep.join(paths),
        "PYTHONUTF8": "1",
    }


def _run(step: Run, base: Path) -> dict[str, object]:
    arguments = shlex.split(step.command)
    environment = _environment(base)
    program = shutil.which(arguments[0], path=environment["PATH"])
    if program is None:
        raise NotFoundError(f"the tour needs the program '{arguments[0]}'", hint="Install it.")
    ended = subprocess.run(  # noqa: S603  (the commands are those of TOUR)
        [program, *arguments[1:]],
        cwd=base / step.at,
        env=environment,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        check=False,
    )
    output = ended.stdout.decode("utf-8", "replace")
    return {"command": step.command, "exit_code": ended.returncode, "output": output}
