"""What naming bytes costs: cut, digest and look-up beside BLAKE3 alone, from the page cache.

Four questions, answered in one process, one after the other in each repetition:

- how fast is BLAKE3 alone over the file, on one thread: the reference;
- how fast are cutting, and cutting with a digest and a look-up in a dictionary, for several chunk
  sizes, on one thread, window by window;
- how fast is the product's own path: read, cut, digest and look-up in the real index, every chunk
  known already, so that nothing is compressed or written;
- how much CPU time does hf_xet's ``hash_files`` (its cutting and hashing) take for the same file.

By default the file is random bytes, which nothing compresses::

    python benchmarks/kernel.py [--file weights.tensors] [--hf-xet-python PYTHON]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from statistics import median

from blake3 import blake3
from measure import MB, Row, figure, machine, save, table

from datastore.kernel.chunking import CHUNKERS, DEFAULT_CHUNKER, KIB, Chunker, FastCdc2020
from datastore.kernel.hashing import chunk_digest
from datastore.objects.store import ObjectStore
from datastore.trees.filewriter import WINDOW, DigestOnly, write_stream
from datastore.trees.manifest import ChunkWriter

GB = 1_000_000_000
PIECE = 1 << 20
AVERAGES = (8, 16, 32, 64, 128)
BAR = 0.5

# Run by an interpreter that has hf_xet, which need not be this one.
HASH_FILES = """
import json, sys, time, hf_xet
wall, cpu = time.perf_counter(), time.process_time()
hf_xet.hash_files([sys.argv[1]])
print(json.dumps([time.perf_counter() - wall, time.process_time() - cpu]))
"""


def read_only(path: Path) -> None:
    """Copies the file out of the page cache, piece by piece."""
    buffer = bytearray(PIECE)
    with open(path, "rb", buffering=0) as file:
        while file.readinto(buffer):
            pass


def blake3_alone(path: Path) -> None:
    """Takes the BLAKE3 of the whole file on one thread."""
    buffer, state = memoryview(bytearray(PIECE)), blake3()
    with open(path, "rb", buffering=0) as file:
        while size := file.readinto(buffer):
            state.update(buffer[:size])
    state.digest()


def windows(path: Path, chunker: Chunker) -> Iterator[tuple[memoryview, list[int]]]:
    """Yields the file in windows that begin at a chunk boundary, with the lengths of the chunks."""
    view, rest = memoryview(bytearray(WINDOW + chunker.max_size)), b""
    with open(path, "rb", buffering=0) as file:
        final = False
        while not final:
            view[: len(rest)] = rest
            filled = len(rest)
            while filled < len(view) and (size := file.readinto(view[filled:])):
                filled += size
            final = filled < len(view)
            lengths = chunker.cut(view[:filled], final=final)
            rest = bytes(view[sum(lengths) : filled])
            yield view, lengths


def cut(path: Path, chunker: Chunker) -> int:
    """Cuts the file; returns the number of chunks."""
    return sum(len(lengths) for _, lengths in windows(path, chunker))


def cut_digest_look_up(path: Path, chunker: Chunker) -> int:
    """Cuts the file, names every chunk, looks it up in a dictionary; returns how many are new."""
    known: dict[bytes, int] = {}
    for view, lengths in windows(path, chunker):
        start = 0
        for length in lengths:
            digest = chunk_digest(view[start : start + length])
            if digest not in known:
                known[digest] = length
            start += length
    return len(known)


def product(path: Path, writer: ChunkWriter) -> None:
    """Sends the file through the product's path into a writer."""
    with open(path, "rb", buffering=0) as file:
        write_stream(lambda view: file.readinto(view) or 0, writer)


def known_to(store: ObjectStore, path: Path) -> None:
    """Sends a stored file through a write session: cut, digest, look-up, nothing to write."""
    with store.session() as session:
        product(path, session)
        session.commit()


def chunker_of(average: int) -> Chunker:
    """Returns the product's chunker for an average size in KiB, with its proportions."""
    own = CHUNKERS[DEFAULT_CHUNKER]
    if isinstance(own, FastCdc2020) and own.avg_size == average * KIB:
        return own
    return FastCdc2020(
        f"{average}k",
        min_size=average * KIB // 4,
        avg_size=average * KIB,
        max_size=average * KIB * 4,
        normalization=1,
    )


def measures(path: Path, store: ObjectStore) -> dict[str, Callable[[], object]]:
    """Returns what is measured, by its title."""
    todo: dict[str, Callable[[], object]] = {
        "read": partial(read_only, path),
        "BLAKE3 alone": partial(blake3_alone, path),
    }
    for average in AVERAGES:
        chunker = chunker_of(average)
        todo[f"cut, {average} KiB"] = partial(cut, path, chunker)
        todo[f"cut, digest, look-up, {average} KiB"] = partial(cut_digest_look_up, path, chunker)
    todo["product: cut and digest"] = partial(product, path, DigestOnly())
    todo["product: cut, digest, look-up"] = partial(known_to, store, path)
    return todo


def take(path: Path, store: ObjectStore, python: str, repeats: int) -> list[Row]:
    """Measures everything `repeats` times, one after the other in each repetition."""
    rows: list[Row] = []
    todo = measures(path, store)
    read_only(path)
    for repetition in range(repeats):
        for title, work in todo.items():
            wall, cpu = time.perf_counter(), time.process_time()
            work()
            wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
            rows.append({"measure": title, "rep": repetition, "wall": wall, "cpu": cpu})
        if (times := hash_files(path, python)) is not None:
            title = "hf_xet hash_files"
            rows.append({"measure": title, "rep": repetition, "wall": times[0], "cpu": times[1]})
    return rows


def hash_files(path: Path, python: str) -> tuple[float, float] | None:
    """Returns wall and CPU seconds of hf_xet's cutting and hashing, or None if not installed."""
    command = [python, "-c", HASH_FILES, str(path)]
    answer = subprocess.run(command, capture_output=True, text=True, check=False)
    if answer.returncode != 0:
        return None
    wall, cpu = json.loads(answer.stdout)
    return wall, cpu


def random_file(path: Path, size: int) -> None:
    """Writes bytes that nothing compresses and no chunk repeats."""
    with path.open("wb") as file:
        for start in range(0, size, PIECE):
            file.write(os.urandom(min(PIECE, size - start)))


def report(rows: list[Row], size: int) -> str:
    """Returns the table and what it says about the two bars."""
    titles = list(dict.fromkeys(row["measure"] for row in rows))
    times = {
        title: tuple(
            median(row[field] for row in rows if row["measure"] == title)
            for field in ("wall", "cpu")
        )
        for title in titles
    }
    base = times["BLAKE3 alone"]
    lines = [
        [title, wall, cpu, size / GB / wall, size / GB / cpu, base[0] / wall, base[1] / cpu]
        for title, (wall, cpu) in times.items()
    ]
    head = ["", "wall s", "CPU s", "GB/s", "GB/CPU s", "of BLAKE3, wall", "of BLAKE3, CPU"]
    wall, cpu = (a / b for a, b in zip(base, times["product: cut, digest, look-up"], strict=True))
    met = "met" if min(wall, cpu) >= BAR else "met only by wall" if wall >= BAR else "missed"
    bar = f"- bar: cut, digest and look-up reach {BAR:.0%} of BLAKE3 alone"
    verdict = [f"{bar}: wall {wall:.0%}, CPU {cpu:.0%}: {met}"]
    if (other := times.get("hf_xet hash_files")) is not None:
        ratio = other[1] / times["product: cut and digest"][1]
        verdict.append(
            f"- bar: cut and digest per CPU second beside hf_xet: {figure(ratio)} times its rate: "
            f"{'met' if ratio >= 1 else 'missed'}"
        )
    else:
        verdict.append("- hf_xet: not installed")
    return table(head, lines) + "\n\n" + "\n".join(verdict)


def main() -> None:
    """Measures as the command line asks."""
    parser = argparse.ArgumentParser(description="Measure cutting and naming beside BLAKE3.")
    parser.add_argument("--file", type=Path, help="an existing file instead of random bytes")
    parser.add_argument("--megabytes", type=int, default=512, help="size of the random file")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--work", type=Path, help="where to write (default: a temporary one)")
    parser.add_argument("--out", type=Path, help="write the measurements here as JSON")
    parser.add_argument(
        "--hf-xet-python",
        default=os.environ.get("HF_XET_PYTHON", sys.executable),
        help="an interpreter that has hf_xet (default: $HF_XET_PYTHON or this one)",
    )
    args = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=args.work) as work:
        path = args.file or Path(work) / "random"
        if args.file is None:
            random_file(path, args.megabytes * MB)
        size = path.stat().st_size
        with ObjectStore(Path(work) / "store") as store:
            known_to(store, path)
            os.sync()
            rows = take(path, store, args.hf_xet_python, args.repeats)
    if args.out:
        save(args.out, {"machine": machine(), "bytes": size, "rows": rows})
    sys.stdout.write(f"{size / MB:,.0f} MB, {args.repeats} repetitions\n\n")
    sys.stdout.write(report(rows, size) + "\n")


if __name__ == "__main__":
    main()
