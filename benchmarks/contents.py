"""What the files of the benchmark data sets hold: seeded pictures, labels, tensors, rows of text.

numpy is loaded by the functions, not by the module: the runner imports `datasets` to apply changes,
and must stay a small process, because a child's peak memory begins with its parent's.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import IO, TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np

RUN = 64 * 1024
LAYER = 8_000_000
PIECE = 1 << 24
VOCABULARY = 6000


def source(seed: int, *use: int) -> np.random.Generator:
    """Returns the random numbers of one use; other uses do not move them."""
    import numpy as np  # noqa: PLC0415

    return np.random.Generator(np.random.PCG64(np.random.SeedSequence((seed, *use))))


def picture(rng: np.random.Generator) -> bytes:
    """Makes a file that looks like a JPEG: a short header, then bytes that nothing compresses."""
    size = min(200_000, max(3_000, round(rng.lognormal(math.log(22_000), 0.42))))
    head = b"\xff\xd8\xff\xe0\0\x10JFIF\0\1\1\0\0\x48\0\x48\0\0\xff\xdb\0\x43\0"
    tables = bytes(16 + 3 * i % 99 for i in range(64))
    return head + tables + rng.bytes(size) + b"\xff\xd9"


def polygons(rng: np.random.Generator) -> bytes:
    """Makes a label file: a class and the corners of a polygon on each line."""
    left = math.exp(rng.uniform(math.log(200), math.log(2000)))
    lines = []
    while left > 40:
        corners = int(rng.integers(4, 13))
        numbers = " ".join(f"{x:.6f}" for x in rng.random(2 * corners).tolist())
        line = f"{int(rng.integers(80))} {numbers}\n"
        lines.append(line[: int(left) - 1].rstrip() + "\n")
        left -= len(line)
    return "".join(lines).encode()


def layer(rng: np.random.Generator, number: int) -> bytes:
    """Makes one tensor: of ten, six are bf16, two fp32, one int8, one fp32 with 90 % zeros."""
    import numpy as np  # noqa: PLC0415

    spread = np.float32(0.01 + 0.005 * (number % 9))
    kind = number % 10
    values: np.ndarray[Any, Any]
    if kind < 6:
        wide = rng.standard_normal(LAYER // 2, dtype=np.float32) * spread
        values = (wide.view(np.uint32) >> np.uint32(16)).astype(np.uint16)
    elif kind < 8:
        values = rng.standard_normal(LAYER // 4, dtype=np.float32) * spread
    elif kind == 8:
        steps = np.rint(rng.standard_normal(LAYER, dtype=np.float32) * np.float32(20))
        values = np.clip(steps, -127, 127).astype(np.int8)
    else:
        values = rng.standard_normal(LAYER // 4, dtype=np.float32)
        values[rng.random(LAYER // 4, dtype=np.float32) < np.float32(0.9)] = 0
    return values.tobytes()


def overwritten(file: IO[bytes], size: int, rng: np.random.Generator) -> Iterator[bytes]:
    """Yields a file with 0.5 % of it overwritten in 64 KiB runs and three insertions of 1-9 KB."""
    import numpy as np  # noqa: PLC0415

    runs = max(1, size // 200 // RUN)
    places = rng.choice(size // RUN - 1, runs, replace=False) * RUN + rng.integers(RUN // 2)
    events = [(int(place), True) for place in places]
    events += [(int(place), False) for place in rng.integers(size // 20, size, 3)]
    for place, overwrite in sorted(events):
        while (here := file.tell()) < place:
            yield file.read(min(PIECE, place - here))
        if overwrite:
            yield (rng.standard_normal(RUN // 4, dtype=np.float32) * np.float32(0.02)).tobytes()
            file.seek(place + RUN)
        else:
            yield rng.bytes(int(rng.integers(1000, 9000)))
    while piece := file.read(PIECE):
        yield piece


class Rows:
    """Makes rows of text: an id, an address, a sentence from a vocabulary, a box, a score."""

    def __init__(self, seed: int) -> None:
        rng = source(seed, 4)
        sizes = rng.integers(3, 10, VOCABULARY).tolist()
        letters = rng.integers(97, 123, sum(sizes), dtype="uint8").tobytes().decode()
        self.words, start = [], 0
        for size in sizes:
            self.words.append(letters[start : start + size])
            start += size

    def make(self, rng: np.random.Generator, first: int, count: int) -> Iterator[bytes]:
        """Yields `count` rows whose ids begin at `first`."""
        picks = rng.integers(0, VOCABULARY, (count, 21)).tolist()
        facts = rng.integers(0, [14, 1 << 32, 1000], (count, 3)).tolist()
        numbers = rng.random((count, 5)).tolist()
        for i, (pick, (more, key, label), (a, b, c, d, score)) in enumerate(
            zip(picks, facts, numbers, strict=True)
        ):
            text = " ".join([self.words[j] for j in pick[: 8 + more]])
            yield (
                f'{{"id": {first + i}, "image": "s3://photos/train/{key:08x}.jpg", '
                f'"caption": "{text}", "box": [{a:.4f}, {b:.4f}, {c:.4f}, {d:.4f}], '
                f'"label": {label}, "score": {score:.5f}}}\n'
            ).encode()
