"""What the machine itself needs for the same files: the floor under every tool's time.

Every measure runs in a process of its own and times only its work, not the start of Python. The
files come from the page cache. `run.py` takes these figures in the same run as the tools; alone::

    python benchmarks/limits.py DIR [DIR ...]
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import median

from measure import MB, Row, table, warm

PIECE = 1 << 20


def listed(top: Path) -> list[str]:
    """Returns the paths of all files below a directory."""
    return [
        os.path.join(folder, name) for folder, _, names in os.walk(top) for name in sorted(names)
    ]


def walk(top: Path, work: Path) -> int:
    """Lists every directory and asks for the facts of every entry: ``scandir`` and ``stat``."""
    del work
    total, folders = 0, [os.fspath(top)]
    while folders:
        with os.scandir(folders.pop()) as entries:
            for entry in entries:
                facts = entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    total += facts.st_size
    return total


def read(top: Path, work: Path) -> int:
    """Opens, reads and closes every file, without Python's buffer, into one piece of memory."""
    del work
    total, buffer = 0, bytearray(PIECE)
    for path in listed(top):
        with open(path, "rb", buffering=0) as file:
            while size := file.readinto(buffer):
                total += size
    return total


def read_plain(top: Path, work: Path) -> int:
    """Opens, reads and closes every file as a short script would: ``open``, ``read``."""
    del work
    total = 0
    for path in listed(top):
        with open(path, "rb") as file:
            while data := file.read(PIECE):
                total += len(data)
    return total


def blake3(top: Path, work: Path) -> int:
    """Reads every file and takes its BLAKE3 on one thread."""
    from blake3 import blake3 as hasher  # noqa: PLC0415 - the other measures do without

    del work
    total, buffer = 0, memoryview(bytearray(PIECE))
    for path in listed(top):
        state = hasher()
        with open(path, "rb", buffering=0) as file:
            while size := file.readinto(buffer):
                state.update(buffer[:size])
                total += size
        state.digest()
    return total


def zstd1(top: Path, work: Path) -> int:
    """Compresses all files as one stream with zstd at level 1; returns the compressed bytes."""
    import zstandard  # noqa: PLC0415 - the other measures do without

    del work
    packer = zstandard.ZstdCompressor(level=1).compressobj()
    total, buffer = 0, memoryview(bytearray(PIECE))
    for path in listed(top):
        with open(path, "rb", buffering=0) as file:
            while size := file.readinto(buffer):
                total += len(packer.compress(buffer[:size]))
    return total + len(packer.flush())


def copy(top: Path, work: Path) -> int:
    """Copies the tree with ``cp -r``; nothing is written back to the disk before it returns."""
    subprocess.run(["cp", "-r", str(top), str(work / "copy")], check=True)
    return 0


LIMITS: Mapping[str, Callable[[Path, Path], int]] = {
    "walk": walk,
    "read": read,
    "read-plain": read_plain,
    "blake3": blake3,
    "zstd1": zstd1,
    "copy": copy,
}


def measure_here(name: str, top: Path, work: Path) -> Row:
    """Runs one measure in this process."""
    wall, cpu = time.perf_counter(), _cpu()
    count = LIMITS[name](top, work)
    wall, cpu = time.perf_counter() - wall, _cpu() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return {"limit": name, "wall": wall, "cpu": cpu, "rss": peak, "bytes": count}


def _cpu() -> float:
    total = 0.0
    for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN):
        usage = resource.getrusage(who)
        total += usage.ru_utime + usage.ru_stime
    return total


def measure(name: str, top: Path, work: Path) -> Row:
    """Runs one measure in a process of its own; `copy` leaves its copy in `work`."""
    os.sync()
    answer = subprocess.run(
        [sys.executable, __file__, "--one", name, "--work", str(work), str(top)],
        check=True,
        capture_output=True,
    )
    row: Row = json.loads(answer.stdout)
    return row


def main() -> None:
    """Measures directories as the command line asks and prints a table."""
    parser = argparse.ArgumentParser(description="Measure what the machine needs for some files.")
    parser.add_argument("tops", nargs="+", type=Path, metavar="DIR")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--work", type=Path, help="where to copy to (default: a temporary one)")
    parser.add_argument("--one", choices=LIMITS, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.one:
        sys.stdout.write(json.dumps(measure_here(args.one, args.tops[0], args.work)))
        return
    lines = []
    with tempfile.TemporaryDirectory(dir=args.work) as work:
        for top in args.tops:
            warm(top)
            for name in LIMITS:
                # Deleted together at the end: `run.py` says why.
                works = [Path(tempfile.mkdtemp(dir=work)) for _ in range(args.repeats)]
                rows = [measure(name, top, each) for each in works]
                wall, cpu = (median(row[field] for row in rows) for field in ("wall", "cpu"))
                lines.append([top, name, wall, cpu, rows[0]["bytes"] / MB])
    sys.stdout.write(table(["files", "limit", "wall s", "CPU s", "MB"], lines) + "\n")


if __name__ == "__main__":
    main()
