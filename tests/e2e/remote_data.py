"""A dataset of several hundred files of every sort, in three versions."""

from __future__ import annotations

import os
import random
from hashlib import sha256
from pathlib import Path

from tests.project import tree

IMAGES = 160
NOTES = 120
LARGE = 20_000_000
"""Bytes of the one large file."""


def write_version(top: Path, version: int) -> None:
    """Makes a directory hold version 1, or turns one into the next.

    Args:
        top: The dataset. For versions 2 and 3 it holds the version before.
        version: 1, 2 or 3.
    """
    {1: _first, 2: _second, 3: _third}[version](top, random.Random(version))


def snapshot(top: Path) -> dict[str, tuple[str, ...]]:
    """Describes what lies on disk: kind, and SHA-256 of each file, by relative path."""
    return {
        path: (
            str(kind),
            *(sha256(c).hexdigest() if isinstance(c, bytes) else str(c) for c in rest),
        )
        for path, (kind, *rest) in tree(top).items()
    }


def image(chance: random.Random) -> bytes:
    """Bytes as a camera's: a header that all have, and the rest cannot be compressed."""
    return b"\xff\xd8\xff\xe0\x00\x10JFIF" + chance.randbytes(chance.randrange(4_000, 90_000))


def table(rows: int, chance: random.Random) -> bytes:
    """A CSV file."""
    lines = [
        f"images/{n % 9}/{n:05}.jpg,{chance.choice(['cat', 'dog'])},{n * 37 % 640}\n"
        for n in range(rows)
    ]
    return ("file,class,x\n" + "".join(lines)).encode()


def _first(top: Path, chance: random.Random) -> None:
    for number in range(IMAGES):
        _write(
            top, f"images/{('cat', 'dog', 'owl', 'yak')[number % 4]}/{number:05}.jpg", image(chance)
        )
    for number in range(NOTES):
        words = " ".join(chance.choices(["red", "green", "left", "right", "blurred"], k=40))
        _write(top, f"notes/{number:03}.txt", f"{number}: {words}\n".encode())
    _write(top, "labels/train.csv", table(20_000, chance))
    _write(top, "labels/val.csv", table(500, chance))
    _write(top, "empty.dat", b"")
    _write(top, "notes/empty.txt", b"")
    _write(top, "tools/convert.sh", b'#!/bin/sh\nexec convert "$@"\n')
    (top / "tools/convert.sh").chmod(0o755)
    for name in (
        "Grüße/naïve.txt",
        "猫/三毛.jpg",
        "emoji 🐈/a b.txt",
        "q'uo\"te$.txt",
        "-dash.txt",
    ):
        _write(top, name, name.encode() * 50)
    (top / "latest").symlink_to("images/cat")
    (top / "to/be/filled").mkdir(parents=True)
    # Half of it compresses, half does not, as in a file of arrays.
    large = b"".join(chance.randbytes(50_000) + bytes(50_000) for _ in range(LARGE // 100_000))
    _write(top, "arrays/train.bin", large)


def _second(top: Path, chance: random.Random) -> None:
    for number in range(IMAGES, IMAGES + 24):
        _write(top, f"images/cat/{number:05}.jpg", image(chance))
    rows = (top / "labels/train.csv").read_bytes().splitlines(keepends=True)
    rows[7_000] = b"images/0/07000.jpg,owl,1\n"
    _write(top, "labels/train.csv", b"".join(rows))
    large = (top / "arrays/train.bin").read_bytes()
    _write(top, "arrays/train.bin", large[:9_000_000] + b"an insertion" + large[9_000_000:])
    (top / "images/owl").rename(top / "images/owls")
    (top / "to/be/filled/at-last.txt").write_text("filled\n")


def _third(top: Path, chance: random.Random) -> None:
    for number in range(0, IMAGES, 8):
        (top / f"images/cat/{number:05}.jpg").unlink()
    (top / "tools/convert.sh").chmod(0o644)
    (top / "latest").unlink()
    (top / "latest").symlink_to("images/dog")
    (top / "notes/empty.txt").write_bytes(b"no longer\n")
    (top / "empty.dat").unlink()
    (top / "empty.dat").mkdir()
    _write(top, "empty.dat/now a directory", b"yes\n")
    _write(top, "arrays/val.bin", chance.randbytes(300_000))


def _write(top: Path, name: str, content: bytes) -> None:
    path = top / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    os.chmod(path, 0o644)
