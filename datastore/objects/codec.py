"""Block compression: which blocks are worth it, and how they are written and read back.

Codec numbers are part of the pack format (``docs/reference/format/pack.md``).
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from enum import IntEnum
from typing import Final

import zstandard

from datastore.errors import CorruptionError, FormatError

Part = bytes | memoryview
"""Bytes to be written, not necessarily owned."""


class Codec(IntEnum):
    """How a block's payload is stored."""

    RAW = 0
    ZSTD = 1
    BYTE_PLANES = 2
    DELTA = 3


# Strategy "fast" with a hash table wider than zstd's own choice for this size: a tenth smaller than
# level 1 on JSON lines at three quarters of its speed, equal on labels and tensors. Figures:
# docs/design/0002-block-format.md.
_PARAMETERS: Final = zstandard.ZstdCompressionParameters(
    window_log=18,
    hash_log=17,
    chain_log=17,
    min_match=6,
    search_log=1,
    target_length=0,
    strategy=zstandard.STRATEGY_FAST,
    write_content_size=False,
)
_MAX_WINDOW: Final = 16 * 1024 * 1024
"""No frame may ask for more memory to be decoded; ours ask for 256 KiB."""
_PROBE_SIZE: Final = 4096
_PROBE_FROM: Final = 16 * 1024

_COMPRESSED_MAGIC: Final = (
    b"\xff\xd8\xff",  # JPEG
    b"\x89PNG\r\n\x1a\n",
    b"GIF8",
    b"PK\x03\x04",  # zip, npz, docx
    b"\x1f\x8b",  # gzip
    b"\x28\xb5\x2f\xfd",  # zstd
    b"\xfd7zXZ\x00",
    b"7z\xbc\xaf\x27\x1c",
    b"BZh",
    b"OggS",
    b"fLaC",
    b"ID3",  # MP3
    b"\x1aE\xdf\xa3",  # Matroska, WebM
    b"\x00\x00\x00\x0cjP  ",  # JPEG 2000
)
COMPRESSED_FIRST_BYTES: Final = frozenset(magic[0] for magic in _COMPRESSED_MAGIC) | {0}
"""What `looks_compressed` needs to see first; MP4 begins with a length below 16 MiB."""


class _Tools(threading.local):
    """zstd contexts, one set a thread: they are not safe to share."""

    def __init__(self) -> None:
        self.compressor = zstandard.ZstdCompressor(compression_params=_PARAMETERS)
        self.probe = zstandard.ZstdCompressor(level=1)
        self.decompressor = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
        self.paid = False


_tools = _Tools()


def looks_compressed(data: Part) -> bool:
    """Tells by its first bytes whether a file is of a format that is compressed already."""
    head = bytes(data[:16])
    # RIFF holds WebP (compressed) and WAV (not): the block's probe decides there. "ftyp" is in MP4,
    # MOV, HEIC and AVIF.
    return head.startswith(_COMPRESSED_MAGIC) or head[4:8] == b"ftyp"


def encode(parts: Sequence[Part], raw_size: int) -> tuple[Codec, Sequence[Part], int]:
    """Compresses a block where that saves at least one part in 32.

    Args:
        parts: The block's chunks in order.
        raw_size: Their total size in bytes.

    Returns:
        The codec, the payload's parts and the payload's size in bytes.
    """
    # Neighbours are alike: after a block that compressed well the next one needs no probe.
    if not _tools.paid and raw_size >= _PROBE_FROM and not _probe_pays(parts):
        return Codec.RAW, parts, raw_size
    joined = parts[0] if len(parts) == 1 else b"".join(parts)
    packed = _tools.compressor.compress(joined)
    _tools.paid = len(packed) <= raw_size - raw_size // 32
    if not _tools.paid:
        return Codec.RAW, parts, raw_size
    return Codec.ZSTD, (packed,), len(packed)


def _probe_pays(parts: Sequence[Part]) -> bool:
    """Compresses the middle of the first, middle and last chunk: 10 us instead of 100."""
    picks = {0, len(parts) // 2, len(parts) - 1}
    sample = b"".join(_middle(parts[pick]) for pick in sorted(picks))
    return len(_tools.probe.compress(sample)) < len(sample) - len(sample) // 32


def _middle(part: Part) -> Part:
    start = max(0, len(part) - _PROBE_SIZE) // 2
    return part[start : start + _PROBE_SIZE]


def decode(codec: int, payload: Part, raw_size: int, *, where: str) -> Part:
    """Restores a block.

    Args:
        codec: The number in the block's header or in the index.
        payload: The stored bytes.
        raw_size: The size the block must have, in bytes; already bounded by the caller.
        where: The pack, for the message.

    Raises:
        FormatError: The codec is unknown.
        CorruptionError: The payload does not restore to exactly `raw_size` bytes.
    """
    if codec == Codec.RAW:
        if len(payload) != raw_size:
            raise CorruptionError(
                f"a raw block has {len(payload)} of {raw_size} bytes", where=where
            )
        return payload
    if codec != Codec.ZSTD:
        raise FormatError(
            f"a block in {where} uses codec {codec}, which this version does not know",
            hint="a newer datastore wrote it: pip install --upgrade datastore-ml",
            where=where,
        )
    try:
        # What the frame itself states would be allocated, whatever the limit in the call.
        if zstandard.frame_content_size(payload) > raw_size:
            raise CorruptionError(f"a block claims more than {raw_size} bytes", where=where)
        raw = _tools.decompressor.decompress(
            payload, max_output_size=raw_size, allow_extra_data=False
        )
    except zstandard.ZstdError as error:
        raise CorruptionError(f"a block does not decompress: {error}", where=where) from error
    if len(raw) != raw_size:
        raise CorruptionError(f"a block has {len(raw)} of {raw_size} bytes", where=where)
    return raw
