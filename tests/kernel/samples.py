"""Data to be cut, the same on every machine, and the ways to cut it."""

from __future__ import annotations

import hashlib
import itertools

from datastore.kernel.chunking import KIB, FastCdc2020
from datastore.kernel.reference import cut_lengths

# The same algorithm with smaller chunks, so that a test sees many of them.
SMALL = FastCdc2020(
    "small", min_size=4 * KIB, avg_size=16 * KIB, max_size=32 * KIB, normalization=1
)


def noise(size, seed="noise"):
    """The format page's reproducible bytes: SHA-256 of the seed, a colon and a counter."""
    blocks = (size + 31) // 32
    words = (hashlib.sha256(f"{seed}:{number}".encode()).digest() for number in range(blocks))
    return b"".join(words)[:size]


def text(size):
    lines = itertools.count()
    made = bytearray()
    while len(made) < size:
        number = next(lines)
        made += b'{"id": %d, "label": "class %d", "box": [%d, %d]}\n' % (
            number,
            number % 17,
            number * 7919 % 640,
            number * 104729 % 480,
        )
    return bytes(made[:size])


CONTENTS = {
    "noise": noise,
    "text": text,
    "zeros": bytes,
    "ones": lambda size: b"\xff" * size,
    "a short period": lambda size: (noise(100) * (size // 100 + 1))[:size],
    "zeros between noise": lambda size: (noise(size // 3) + bytes(size // 3) + noise(size))[:size],
}


def reference(chunker, data):
    return cut_lengths(
        data,
        min_size=chunker.min_size,
        avg_size=chunker.avg_size,
        max_size=chunker.max_size,
        normalization=chunker.normalization,
    )


def cut_in_windows(chunker, data, sizes):
    """Cuts as a reader does that never has the whole file."""
    lengths = []
    start = end = 0
    while True:
        end += next(sizes)
        final = end >= len(data)
        some = chunker.cut(memoryview(data)[start:end], final=final)
        lengths += some
        start += sum(some)
        if final:
            return lengths
