"""What block parameters win and cost: the measurement behind the store's block compression.

Blocks of 64, 128 and 256 KiB of three data sets are compressed one by one, as the store does, by
zstd's levels and by the "fast" strategy with chosen tables. Ratio is compressed by raw size; speeds
are raw MB per CPU second on one thread, medians over the repetitions::

    python benchmarks/compression.py --data DIR
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path

import zstandard
from measure import MB, Row, machine, save, table, timed

KIB = 1024
BLOCKS = (64, 128, 256)
DATASETS = ("tiny", "jsonl", "tensors")
PIECES = 64


def fast(*, hash_log: int, min_match: int) -> zstandard.ZstdCompressionParameters:
    """Returns zstd's simplest search with a chosen table and shortest match."""
    return zstandard.ZstdCompressionParameters(
        strategy=zstandard.STRATEGY_FAST,
        window_log=18,
        hash_log=hash_log,
        chain_log=hash_log,
        search_log=1,
        min_match=min_match,
        target_length=0,
        write_content_size=False,
    )


def level(number: int) -> zstandard.ZstdCompressionParameters:
    """Returns what zstd chooses for a level when it knows the size of a block of 128 KiB."""
    return zstandard.ZstdCompressionParameters.from_level(
        number, source_size=128 * KIB, write_content_size=False
    )


PARAMETERS: Mapping[str, zstandard.ZstdCompressionParameters] = {
    "level 1": level(1),
    "level 2": level(2),
    "level 3": level(3),
    "fast, hash 14, match 6": fast(hash_log=14, min_match=6),
    "fast, hash 16, match 6": fast(hash_log=16, min_match=6),
    "fast, hash 17, match 5": fast(hash_log=17, min_match=5),
    "fast, hash 17, match 6": fast(hash_log=17, min_match=6),
    "fast, hash 17, match 7": fast(hash_log=17, min_match=7),
}


def sample(top: Path, size: int) -> list[bytes]:
    """Reads about `size` bytes of a version: small files in a row, or pieces all over a large one.

    A piece is a whole number of the largest blocks, so that no block is short but a piece's last.
    """
    paths = sorted(path for path in top.rglob("*") if path.is_file())
    if len(paths) > 1:
        joined, total = [], 0
        for path in paths:
            joined.append(path.read_bytes())
            total += len(joined[-1])
            if total >= size:
                break
        return [b"".join(joined)]
    length = paths[0].stat().st_size
    largest = max(BLOCKS) * KIB
    piece = max(largest, size // PIECES // largest * largest)
    step = max(piece, length * piece // max(size, piece))
    with paths[0].open("rb") as file:
        pieces = []
        for start in range(0, length - piece + 1, step):
            file.seek(start)
            pieces.append(file.read(piece))
        return pieces or [paths[0].read_bytes()]


def measure(runs: list[bytes], block: int, title: str, repeats: int) -> Row:
    """Compresses and restores every block."""
    parts = [
        run[start : start + block * KIB]
        for run in runs
        for start in range(0, len(run), block * KIB)
    ]
    total = sum(map(len, parts))
    packer = zstandard.ZstdCompressor(compression_params=PARAMETERS[title])
    packed = [packer.compress(part) for part in parts]
    opener = zstandard.ZstdDecompressor()
    _, pack_cpu = timed(lambda: [packer.compress(part) for part in parts], repeats)
    _, open_cpu = timed(
        lambda: [opener.decompress(part, max_output_size=block * KIB) for part in packed], repeats
    )
    return {
        "block KiB": block,
        "zstd": title,
        "raw MB": total / MB,
        "ratio": sum(map(len, packed)) / total,
        "MB/s": total / MB / pack_cpu,
        "restore MB/s": total / MB / open_cpu,
    }


def main() -> None:
    """Measures as the command line asks."""
    parser = argparse.ArgumentParser(description="Measure what block parameters win and cost.")
    parser.add_argument("--data", type=Path, required=True, help="where datasets.py has written")
    parser.add_argument("--only", nargs="+", choices=DATASETS, default=list(DATASETS))
    parser.add_argument("--megabytes", type=int, default=64, help="how much of each data set")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path, help="write the measurements here as JSON")
    args = parser.parse_args()
    rows: list[Row] = []
    for name in args.only:
        runs = sample(args.data / name / "v1", args.megabytes * MB)
        for block in BLOCKS:
            rows.extend(
                {"files": name} | measure(runs, block, title, args.repeats) for title in PARAMETERS
            )
            sys.stderr.write(f"{name} {block} KiB\n")
    sys.stdout.write(table(list(rows[0]), [row.values() for row in rows]) + "\n")
    if args.out:
        save(args.out, {"machine": machine(), "rows": rows})


if __name__ == "__main__":
    main()
