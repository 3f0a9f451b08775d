"""Reading packs as a whole: by their footer, or block by block where the footer is lost.

Nothing that a pack says is believed before it is checked: every length is held against the file's
size and the format's bounds before memory is allocated for it.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final, NamedTuple

from datastore.errors import CorruptionError, FormatError, NotFoundError
from datastore.kernel.hashing import Digest, pack_hasher
from datastore.objects.codec import Part, decode
from datastore.objects.pack import (
    BLOCK,
    BLOCK_MAGIC,
    BLOCK_ROW,
    CHUNK_ROW,
    HEADER,
    HEADER_MAGIC,
    MAX_BLOCK_CHUNKS,
    MAX_RAW_SIZE,
    SIZE_ROW,
    TRAILER,
    TRAILER_MAGIC,
    VERSION,
    BlockRow,
    Kind,
    Sealed,
    block_check,
    parse_name,
    row_check,
)
from datastore.storage.local import storage_error

MAX_FILE_SIZE: Final = 256 * 1024 * 1024
"""A larger file is refused unread: writers stop at 48 MiB."""
_MIN_FILE_SIZE: Final = HEADER.size + TRAILER.size


class Block(NamedTuple):
    """A block as it lies in a pack, its check already held."""

    row: BlockRow
    sizes: tuple[int, ...]
    payload: bytes


def open_pack(path: Path) -> BinaryIO:
    """Opens a pack for reading.

    Raises:
        NotFoundError: There is no such file.
        StorageError: The disk fails.
    """
    try:
        return path.open("rb", buffering=0)
    except FileNotFoundError as error:
        raise NotFoundError(f"pack {path.name} is gone", where=str(path)) from error
    except OSError as error:
        raise storage_error(error, "read", path) from error


def read_footer(path: Path) -> Sealed:
    """Reads a pack's table of contents; the blocks are not touched.

    Raises:
        NotFoundError: There is no such file.
        FormatError: It is no pack, or of a newer version.
        CorruptionError: Header, trailer or footer are damaged.
    """
    with open_pack(path) as file:
        return parse_footer(file, path)


def parse_footer(file: BinaryIO, path: Path) -> Sealed:
    """Reads the table of contents of a pack that is open, or in memory (`io.BytesIO`).

    Args:
        file: The whole pack.
        path: Where it lies or is to lie; it has the pack's name.

    Raises:
        FormatError: It is no pack, or of a newer version.
        CorruptionError: Header, trailer or footer are damaged.
    """
    name = parse_name(path.name)
    size = file.seek(0, 2)
    kind = _read_header(file, path, size)
    blocks, sizes, digests = _read_tables(file, path, size)
    return Sealed(name, kind, size, digests, sizes, blocks)


def _damaged(path: Path, why: str) -> CorruptionError:
    return CorruptionError(
        f"pack {path.name} is damaged: {why}",
        where=str(path),
        hint="run 'datastore verify' to see which files need it",
    )


def _read_at(file: BinaryIO, offset: int, size: int, path: Path) -> bytes:
    file.seek(offset)
    data = bytearray()
    while len(data) < size:
        try:
            piece = file.read(size - len(data))
        except OSError as error:
            raise storage_error(error, "read", path) from error
        if not piece:
            raise _damaged(path, f"it ends at byte {offset + len(data)}")
        data += piece
    return bytes(data)


def _read_header(file: BinaryIO, path: Path, size: int) -> Kind:
    if not _MIN_FILE_SIZE <= size <= MAX_FILE_SIZE:
        raise _damaged(path, f"it has {size} bytes")
    header = _read_at(file, 0, HEADER.size, path)
    magic, version, kind, flags = HEADER.unpack(header)
    if magic != HEADER_MAGIC:
        raise _damaged(path, "it does not begin as a pack")
    if version != VERSION or flags:
        raise FormatError(
            f"pack {path.name} has format {version} (flags {flags}); this version knows 1",
            hint="a newer datastore wrote it: pip install --upgrade datastore-ml",
            where=str(path),
        )
    if kind not in Kind.__members__.values() or header != HEADER.pack(magic, version, kind, flags):
        raise _damaged(path, f"its header is of no known kind ({kind})")
    return Kind(kind)


def _read_tables(
    file: BinaryIO, path: Path, size: int
) -> tuple[list[BlockRow], tuple[int, ...], list[Digest]]:
    trailer = _read_at(file, size - TRAILER.size, TRAILER.size, path)
    offset, length, block_count, chunk_count, digest, magic = TRAILER.unpack(trailer)
    expected = block_count * BLOCK_ROW.size + chunk_count * (SIZE_ROW.size + CHUNK_ROW.size)
    if magic != TRAILER_MAGIC or length != expected or offset + length + TRAILER.size != size:
        raise _damaged(path, "its trailer does not fit the file")
    footer = _read_at(file, offset, length, path)
    hasher = pack_hasher()
    hasher.update(footer)
    if hasher.digest() != digest:
        raise _damaged(path, "its footer does not match the digest in the trailer")
    blocks_end = block_count * BLOCK_ROW.size
    sizes_end = blocks_end + chunk_count * SIZE_ROW.size
    blocks = [BlockRow(*row) for row in BLOCK_ROW.iter_unpack(footer[:blocks_end])]
    sizes = struct.unpack(f"<{chunk_count}I", footer[blocks_end:sizes_end])
    _check_blocks(blocks, sizes, offset, path)
    return blocks, sizes, _digests(footer[sizes_end:], chunk_count, path)


def _check_blocks(blocks: list[BlockRow], sizes: tuple[int, ...], end: int, path: Path) -> None:
    """Holds the block table against itself: blocks follow one another without a gap."""
    at = HEADER.size
    ordinal = 0
    for row in blocks:
        own = sum(sizes[ordinal : ordinal + row.members])
        if row.offset != at or not _bounded(row) or own != row.raw:
            raise _damaged(path, f"its block table is wrong at byte {row.offset}")
        at = row.payload + row.stored
        ordinal += row.members
    if at != end or ordinal != len(sizes):
        raise _damaged(path, "its block table does not cover the file")


def _bounded(row: BlockRow) -> bool:
    return 0 < row.members <= MAX_BLOCK_CHUNKS and row.stored <= row.raw <= MAX_RAW_SIZE


def _digests(table: bytes, count: int, path: Path) -> list[Digest]:
    digests = [b""] * count
    for digest, ordinal, check in CHUNK_ROW.iter_unpack(table):
        if ordinal >= count or digests[ordinal] or check != row_check(digest, ordinal):
            raise _damaged(path, "its chunk table is wrong")
        digests[ordinal] = digest
    return digests


def scan_blocks(path: Path) -> Iterator[Block | int]:
    """Walks a pack's blocks from its start, footer or not.

    Yields:
        Each sound block; for a stretch of damage, the offset where it begins. After damage the walk
        goes on at the next place that is a sound block.

    Raises:
        NotFoundError: There is no such file.
        StorageError: The disk fails.
    """
    with open_pack(path) as file:
        size = file.seek(0, 2)
        data = _read_at(file, 0, min(size, MAX_FILE_SIZE), path)
    at, damage = HEADER.size, -1
    while at + BLOCK.size <= len(data):
        block = block_at(data, at)
        if block is not None:
            damage = -1
            yield block
            at = block.row.payload + block.row.stored
            continue
        if _is_footer(data, at):
            return
        if damage < 0:
            damage = at
            yield at
        found = data.find(BLOCK_MAGIC, at + 1)
        if found < 0:
            return
        at = found


def block_at(data: bytes, at: int) -> Block | None:
    """Parses the block at an offset, header and size table included; None where none is sound.

    Every length is held against the format's bounds and the data; the check covers the payload.
    """
    if at + BLOCK.size > len(data):
        return None
    magic, codec, count, raw, stored, check = BLOCK.unpack_from(data, at)
    row = BlockRow(at, stored, raw, count, codec)
    if magic != BLOCK_MAGIC or not _bounded(row):
        return None
    end = row.payload + stored
    if end > len(data):
        return None
    table = data[at + BLOCK.size : row.payload]
    sizes = struct.unpack(f"<{count}I", table)
    payload = data[row.payload : end]
    if sum(sizes) != raw or check != block_check(codec, count, raw, stored, table, (payload,)):
        return None
    # The spare byte of the header is not in the check: it must be as the writer leaves it.
    if data[at : at + BLOCK.size] != BLOCK.pack(magic, codec, count, raw, stored, check):
        return None
    return Block(row, sizes, payload)


def _is_footer(data: bytes, at: int) -> bool:
    """Whether the blocks end here because a sound trailer says that the footer begins."""
    if len(data) < _MIN_FILE_SIZE:
        return False
    offset, length, *_, magic = TRAILER.unpack(data[-TRAILER.size :])
    return bool(magic == TRAILER_MAGIC and offset == at and at + length + TRAILER.size == len(data))


def block_members(block: Block, kind: Kind, path: Path) -> Iterator[tuple[Digest, Part]]:
    """Decodes a block and names what it holds.

    Yields:
        For each chunk or node its digest, computed from its content, and its bytes.

    Raises:
        CorruptionError: The payload does not decode.
    """
    raw = memoryview(decode(block.row.codec, block.payload, block.row.raw, where=path.name))
    within = 0
    for size in block.sizes:
        part = raw[within : within + size]
        yield kind.digest(part), part
        within += size


def _listed_blocks(path: Path) -> Iterator[Block]:
    """Yields a pack's blocks where its footer lists them, unchecked; none where that is lost."""
    try:
        sealed = read_footer(path)
    except (CorruptionError, FormatError):
        return
    ordinal = 0
    with open_pack(path) as file:
        for row in sealed.blocks:
            sizes = tuple(sealed.sizes[ordinal : ordinal + row.members])
            ordinal += row.members
            yield Block(row, sizes, _read_at(file, row.payload, row.stored, path))


def recover(path: Path) -> Sealed:
    """Rebuilds a pack's table of contents from its blocks.

    Each digest is computed from the content, so what this returns is known to be sound. Blocks that
    do not decode are left out; of one that is not compressed only the chunks that are damaged are
    lost, which then stand under digests that nobody asks for.

    Raises:
        NotFoundError: There is no such file.
        StorageError: The disk fails.
    """
    name = parse_name(path.name)
    digests: list[Digest] = []
    sizes: list[int] = []
    blocks: list[BlockRow] = []
    kinds, size = _kinds(path)
    for _, block, members in sound_blocks(path):
        digests += [digest for digest, _ in members]
        sizes += block.sizes
        blocks.append(block.row)
    return Sealed(name, kinds[0], size, digests, sizes, blocks)


def sound_blocks(path: Path) -> Iterator[tuple[Kind, Block, list[tuple[Digest, Part]]]]:
    """Decodes all that can be decoded in a pack, whatever else is damaged.

    Yields:
        For each block the kind of its members, the block, and each member's digest and bytes. A
        pack that lost its header may be of either kind, so its blocks come once for each: what no
        one asks for by a digest is never found, and both readings can stand in a store.

    Raises:
        NotFoundError: There is no such file.
        StorageError: The disk fails.
    """
    for kind in _kinds(path)[0]:
        found = {each.row.offset: each for each in _listed_blocks(path)}
        found |= {each.row.offset: each for each in scan_blocks(path) if isinstance(each, Block)}
        for _, block in sorted(found.items()):
            try:
                yield kind, block, list(block_members(block, kind, path))
            except (CorruptionError, FormatError):
                continue


def _kinds(path: Path) -> tuple[list[Kind], int]:
    """Returns what kinds of pack a file may be, and its size in bytes."""
    with open_pack(path) as file:
        size = file.seek(0, 2)
        head = _read_at(file, 0, min(size, HEADER.size), path)
    kinds = [kind for kind in Kind if head == HEADER.pack(HEADER_MAGIC, VERSION, kind, 0)]
    return kinds or list(Kind), size
