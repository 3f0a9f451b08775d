"""The chunking rule in plain Python: slow, short, and the definition of the format.

Tests hold the compiled chunker to this one, cut for cut. Source of the algorithm: W. Xia et al.,
"The Design of Fast Content-Defined Chunking for Data Deduplication Based Storage Systems", IEEE
TPDS 31(9), 2020. Its 64-bit gear table is the first half of the MD5 of 64 equal bytes, big-endian.
"""

from __future__ import annotations

import hashlib
from typing import Final

_WORD: Final = (1 << 64) - 1

GEAR: Final = tuple(
    int.from_bytes(hashlib.md5(bytes([value]) * 64, usedforsecurity=False).digest()[:8], "big")
    for value in range(256)
)
"""One pseudo-random 64-bit word for each byte value."""

MASKS: Final = {
    13: 0x0000_D903_0353_0000,
    14: 0x0000_D903_1353_0000,
    15: 0x0000_D90F_0353_0000,
    16: 0x0000_D903_0353_7000,
    17: 0x0000_D907_0353_7000,
}
"""Cut masks of the publication: the key is the number of one bits wanted for an average of
``2**key`` bytes."""


def cut_lengths(
    data: bytes, *, min_size: int, avg_size: int, max_size: int, normalization: int
) -> list[int]:
    """Cuts a whole file.

    Args:
        data: The whole content.
        min_size: Bytes skipped at each chunk's start, even.
        avg_size: Where the strict mask gives way to the loose one, a power of two.
        max_size: The longest chunk, even.
        normalization: Distance of the masks from the average, in bits.

    Returns:
        The lengths of all chunks, in order.
    """
    bits = avg_size.bit_length() - 1
    strict, loose = MASKS[bits + normalization], MASKS[bits - normalization]
    lengths = []
    start = 0
    while start < len(data):
        end = min(start + max_size, len(data))
        length = _first_cut(data[start:end], min_size, avg_size, strict, loose)
        lengths.append(length)
        start += length
    return lengths


def _first_cut(window: bytes, min_size: int, avg_size: int, strict: int, loose: int) -> int:
    """Returns the first chunk's length in a window that is at most max_size long."""
    fingerprint = 0
    # Two bytes a step in the publication: an odd last byte of the window is never tested.
    for position in range(min_size, len(window) // 2 * 2):
        fingerprint = ((fingerprint << 1) + GEAR[window[position]]) & _WORD
        mask = strict if position < avg_size else loose
        if not fingerprint & mask:
            return position
    return len(window)
