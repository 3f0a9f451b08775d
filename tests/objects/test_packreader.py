"""Packs that lie, packs that are damaged, and packs that lost their end: never a wrong byte."""

from __future__ import annotations

import errno
import io
import os
import random
import struct

import pytest

from datastore.errors import (
    CorruptionError,
    DatastoreError,
    FormatError,
    NotFoundError,
    StorageError,
)
from datastore.objects import packreader
from datastore.objects.codec import Codec, decode
from datastore.objects.pack import (
    BLOCK,
    BLOCK_MAGIC,
    HEADER,
    MAX_BLOCK_CHUNKS,
    MAX_RAW_SIZE,
    TRAILER,
    Kind,
    block_check,
)
from datastore.objects.packreader import (
    MAX_FILE_SIZE,
    Block,
    block_members,
    open_pack,
    read_footer,
    recover,
    scan_blocks,
)
from tests.kernel.samples import noise, text
from tests.objects.packs import (
    chunk_row,
    members_of,
    packed,
    raw,
    small_blocks,
    take_apart,
    write_pack,
)

CONTENTS = members_of(small_blocks())


@pytest.fixture
def path(tmp_path):
    return write_pack(tmp_path, small_blocks())[1]


@pytest.fixture
def parts(path):
    return take_apart(path.read_bytes())


def fetch(path, sealed):
    """Reads the members as a store does, and holds them against their digests."""
    data = path.read_bytes()
    for digest, at in sealed.chunks:
        block = data[at.offset : at.offset + at.stored]
        try:
            whole = bytes(decode(at.codec, block, at.raw, where=path.name))
        except DatastoreError:
            continue
        member = whole[at.within : at.within + at.size]
        if sealed.kind.digest(member) == digest:
            yield digest, member


def flipped(data, at, bit):
    damaged = bytearray(data)
    damaged[at] ^= 1 << bit
    return bytes(damaged)


# -- sound packs ----------------------------------------------------------------------------------


def test_taking_a_pack_apart_loses_nothing(path, parts):
    """The kit for packs that lie must not lie by itself."""
    assert parts.join() == path.read_bytes()


def test_a_footer_says_where_everything_is(path):
    sealed = read_footer(path)
    assert dict(fetch(path, sealed)) == CONTENTS
    assert (sealed.kind, sealed.size) == (Kind.DATA, path.stat().st_size)


def test_an_empty_pack_is_a_pack(tmp_path):
    _, path = write_pack(tmp_path, [])
    assert path.stat().st_size == HEADER.size + TRAILER.size
    assert read_footer(path).chunks == []
    assert recover(path).chunks == []
    assert list(scan_blocks(path)) == []


def test_blocks_are_walked_without_the_footer(path):
    blocks = list(scan_blocks(path))
    assert [len(block.sizes) for block in blocks] == [1, 12, 1, 2]
    found = {
        digest: bytes(data)
        for block in blocks
        for digest, data in block_members(block, Kind.DATA, path)
    }
    assert found == CONTENTS


def test_the_digests_of_a_block_depend_on_what_it_holds(path):
    (block, *_) = scan_blocks(path)
    ((as_chunk, _),) = block_members(block, Kind.DATA, path)
    ((as_node, _),) = block_members(block, Kind.META, path)
    assert as_chunk != as_node


# -- files that are no packs ----------------------------------------------------------------------


@pytest.mark.parametrize("read", [read_footer, recover, lambda path: list(scan_blocks(path))])
def test_a_pack_that_is_gone(path, read):
    path.unlink()
    with pytest.raises(NotFoundError, match="is gone"):
        read(path)


@pytest.mark.parametrize("read", [read_footer, recover, lambda path: list(scan_blocks(path))])
def test_a_pack_that_cannot_be_opened(path, read):
    path.unlink()
    path.mkdir()
    with pytest.raises(StorageError):
        read(path)


@pytest.mark.parametrize("read", [read_footer, recover])
def test_a_file_with_another_name_is_no_pack(path, read):
    other = path.rename(path.with_name("other.pack"))
    with pytest.raises(FormatError, match="is not the name of a pack"):
        read(other)


class Failing(io.FileIO):
    def read(self, *_):
        raise OSError(errno.EIO, os.strerror(errno.EIO))


@pytest.mark.parametrize("read", [read_footer, recover, lambda path: list(scan_blocks(path))])
def test_a_disk_that_fails_is_a_storage_error(path, monkeypatch, read):
    monkeypatch.setattr(packreader, "open_pack", Failing)
    with pytest.raises(StorageError, match="Input/output error") as caught:
        read(path)
    assert caught.value.where == str(path)


def test_short_reads_are_read_on(path, monkeypatch):
    class Short(io.FileIO):
        def read(self, size=-1, /):
            return super().read(min(size, 7))

    monkeypatch.setattr(packreader, "open_pack", Short)
    assert dict(fetch(path, read_footer(path))) == CONTENTS
    assert dict(fetch(path, recover(path))) == CONTENTS


@pytest.mark.parametrize("size", [0, 1, HEADER.size, HEADER.size + TRAILER.size - 1])
def test_a_file_that_is_too_small(path, size):
    os.truncate(path, size)
    with pytest.raises(CorruptionError, match=f"it has {size} bytes"):
        read_footer(path)
    assert recover(path).chunks == []
    assert all(isinstance(found, int) for found in scan_blocks(path))


def test_a_file_that_is_too_large_is_refused_unread(path):
    os.truncate(path, MAX_FILE_SIZE + 1)
    with pytest.raises(CorruptionError, match="it has 268435457 bytes"):
        read_footer(path)


# -- headers, trailers and tables that lie --------------------------------------------------------


@pytest.mark.parametrize("change", [{"version": 2}, {"flags": 1}])
def test_a_newer_version_is_not_damage(path, parts, change):
    parts._replace(**change).write(path)
    with pytest.raises(FormatError, match="this version knows 1") as caught:
        read_footer(path)
    assert "upgrade" in caught.value.hint


@pytest.mark.parametrize("kind", [0, 3, 255])
def test_an_unknown_kind_is_refused(path, parts, kind):
    parts._replace(kind=kind).write(path)
    with pytest.raises(CorruptionError, match="of no known kind"):
        read_footer(path)


def test_spare_bytes_of_the_header_are_zero(path):
    path.write_bytes(flipped(path.read_bytes(), HEADER.size - 1, 0))
    with pytest.raises(CorruptionError, match="of no known kind"):
        read_footer(path)


def test_another_file_is_no_pack(path):
    path.write_bytes(noise(5000))
    with pytest.raises(CorruptionError, match="does not begin as a pack"):
        read_footer(path)


@pytest.mark.parametrize("counts", [(2**32 - 1, 0), (0, 2**32 - 1), (2**32 - 1, 2**32 - 1), (0, 0)])
def test_counts_are_held_against_the_file_before_anything_is_read(path, parts, counts):
    parts._replace(counts=counts).write(path)
    with pytest.raises(CorruptionError, match="trailer does not fit the file"):
        read_footer(path)


@pytest.mark.parametrize("field", [0, 1])
def test_offset_and_length_are_held_against_the_file(path, field):
    data = path.read_bytes()
    fields = list(TRAILER.unpack(data[-TRAILER.size :]))
    for value in (0, 1, fields[field] + 1, 2**64 - 1):
        changed = [*fields[:field], value, *fields[field + 1 :]]
        path.write_bytes(data[: -TRAILER.size] + TRAILER.pack(*changed))
        with pytest.raises(CorruptionError, match="trailer does not fit the file"):
            read_footer(path)


def first_block(parts, **change):
    """Changes the first row of the block table."""
    names = ("offset", "stored", "raw", "members", "codec")
    row = dict(zip(names, parts.blocks[0], strict=True)) | change
    return parts._replace(blocks=(tuple(row.values()), *parts.blocks[1:]))


@pytest.mark.parametrize(
    "change",
    [
        {"offset": 0},
        {"offset": HEADER.size + 1},
        {"offset": 2**32 - 1},
        {"stored": 2**32 - 1},
        {"stored": 0},
        {"raw": 0},
        {"raw": MAX_RAW_SIZE + 1},
        {"raw": 2**32 - 1},
        {"members": 0},
        {"members": 2},
        {"members": MAX_BLOCK_CHUNKS + 1},
        {"members": 65535},
    ],
)
def test_a_block_table_that_lies_is_refused(path, parts, change):
    first_block(parts, **change).write(path)
    with pytest.raises(CorruptionError, match="its block table"):
        read_footer(path)


def test_a_block_is_never_larger_than_what_it_holds(tmp_path):
    """Else a compressed block could be read as one of any size."""
    sealed, path = write_pack(tmp_path, [raw(b"abc")])
    parts = take_apart(path.read_bytes())
    assert sealed.blocks[0].stored == 3
    parts = parts._replace(body=parts.body + b"x")
    first_block(parts, stored=4).write(path)
    with pytest.raises(CorruptionError, match="its block table is wrong"):
        read_footer(path)


@pytest.mark.parametrize("sizes", [(), (2**32 - 1,), (0,), (1, 1)])
def test_sizes_that_lie_are_refused(path, parts, sizes):
    changed = (*sizes, *parts.sizes[len(sizes) :])
    if not sizes:
        changed = tuple(reversed(parts.sizes))
    parts._replace(sizes=changed).write(path)
    with pytest.raises(CorruptionError, match="its block table"):
        read_footer(path)


def test_blocks_that_the_footer_leaves_out_are_missed(path, parts):
    parts._replace(
        blocks=parts.blocks[:-1],
        sizes=parts.sizes[:-2],
        chunks=tuple(row for row in parts.chunks if row[1] < len(parts.sizes) - 2),
        counts=(len(parts.blocks) - 1, len(parts.sizes) - 2),
    ).write(path)
    with pytest.raises(CorruptionError, match="does not cover the file"):
        read_footer(path)


@pytest.mark.parametrize("row", ["beyond", "twice", "unchecked", "moved"])
def test_a_chunk_table_that_lies_is_refused(path, parts, row):
    (digest, ordinal, check), *others = parts.chunks
    rows = {
        "beyond": chunk_row(digest, len(parts.chunks)),
        "twice": chunk_row(digest, others[0][1]),
        "unchecked": (digest, ordinal, check ^ 1),
        "moved": (digest, others[0][1], check),
    }
    parts._replace(chunks=(rows[row], *others)).write(path)
    with pytest.raises(CorruptionError, match="its chunk table is wrong"):
        read_footer(path)


def test_a_footer_that_names_other_chunks_is_found_out_by_the_reader(path, parts):
    """All that a footer can do is to send the reader to the wrong place: the digest tells."""
    (digest, ordinal, _), *others = parts.chunks
    other = Kind.DATA.digest(b"never stored")
    parts._replace(chunks=(chunk_row(other, ordinal), *others)).write(path)
    found = dict(fetch(path, read_footer(path)))
    assert found == {each: CONTENTS[each] for each in CONTENTS if each != digest}


# -- blocks that lie ------------------------------------------------------------------------------


def block_bytes(members, *, codec=Codec.RAW, payload=None, **lies):
    """A block with a check that holds, whatever its fields say."""
    payload = b"".join(members) if payload is None else payload
    sizes = [len(member) for member in members]
    fields = {"count": len(sizes), "raw": sum(sizes), "stored": len(payload)} | lies
    table = b"".join(size.to_bytes(4, "little") for size in sizes)
    count, whole, stored = fields["count"], fields["raw"], fields["stored"]
    check = block_check(codec, count, whole, stored, table, (payload,))
    return BLOCK.pack(BLOCK_MAGIC, codec, count, whole, stored, check) + table + payload


def scanned(path, body):
    data = path.read_bytes()
    path.write_bytes(data[: HEADER.size] + body)
    return list(scan_blocks(path))


def test_a_block_made_by_hand_is_a_block(path):
    (block,) = scanned(path, block_bytes([b"ab", b"c"]))
    assert (block.sizes, block.payload) == ((2, 1), b"abc")


@pytest.mark.parametrize(
    "lies",
    [
        {"count": 0},
        {"count": MAX_BLOCK_CHUNKS + 1},
        {"count": 65535},
        {"raw": 2},
        {"raw": MAX_RAW_SIZE + 1},
        {"raw": 2**32 - 1},
        {"stored": 2**32 - 1},
        {"stored": 4},
    ],
)
def test_a_block_header_that_lies_is_damage(path, lies):
    assert scanned(path, block_bytes([b"ab", b"c"], **lies) + bytes(100)) == [HEADER.size]


def test_the_spare_byte_of_a_block_header_is_zero(path):
    """No check covers it: a flip there would otherwise go unseen."""
    body = bytearray(block_bytes([b"abc"]))
    body[5] ^= 1
    assert scanned(path, bytes(body)) == [HEADER.size]


def test_sizes_that_change_places_are_damage(path):
    """Their sum is as before: it is the check that tells."""
    body = bytearray(block_bytes([b"ab", b"c"]))
    body[BLOCK.size : BLOCK.size + 8] = struct.pack("<2I", 1, 2)
    assert scanned(path, bytes(body)) == [HEADER.size]


def test_a_walk_goes_on_behind_damage(path):
    good = block_bytes([b"good"])
    bad = bytearray(block_bytes([b"bad"]))
    bad[-1] ^= 1
    found = scanned(path, good + bytes(bad) + b"noise" + bytes(bad) + good + bytes(9))
    assert [each if isinstance(each, int) else each.payload for each in found] == [
        b"good",
        HEADER.size + len(good),
        b"good",
    ]


def test_a_block_inside_a_block_is_not_seen(path):
    """A pack may be stored in a pack: its blocks are content there."""
    inner = block_bytes([b"inner"])
    (block,) = scanned(path, block_bytes([inner]))
    assert block.payload == inner


def test_what_is_in_a_damaged_block_may_come_to_light(path):
    """It is what it says, and its digest is its own: nobody is deceived."""
    outer = bytearray(block_bytes([block_bytes([b"inner"])]))
    outer[5] ^= 1
    found = scanned(path, bytes(outer))
    assert found[0] == HEADER.size
    assert found[1].payload == b"inner"


@pytest.mark.parametrize("codec", [Codec.BYTE_PLANES, Codec.DELTA, 9, 255])
def test_a_block_of_an_unknown_codec_is_there_and_cannot_be_read(path, codec):
    (block,) = scanned(path, block_bytes([b"abc"], codec=codec))
    with pytest.raises(FormatError, match=f"uses codec {codec}"):
        list(block_members(block, Kind.DATA, path))
    assert recover(path).chunks == []


def test_a_block_that_does_not_decode_is_left_out(path):
    good = block_bytes([b"good"])
    found = scanned(path, block_bytes([bytes(100)], codec=Codec.ZSTD, payload=b"no zstd") + good)
    assert all(isinstance(each, Block) for each in found)
    with pytest.raises(CorruptionError):
        list(block_members(found[0], Kind.DATA, path))
    assert recover(path).digests == [Kind.DATA.digest(b"good")]


# -- recovery -------------------------------------------------------------------------------------


def test_a_pack_without_its_end_is_recovered(path):
    sealed = read_footer(path)
    offset = TRAILER.unpack(path.read_bytes()[-TRAILER.size :])[0]
    for size in (sealed.size - 1, offset + 1, offset):
        os.truncate(path, size)
        with pytest.raises(CorruptionError):
            read_footer(path)
        found = recover(path)
        assert found.chunks == sealed.chunks
        assert (found.name, found.kind, found.size) == (sealed.name, sealed.kind, size)


def test_the_kind_of_a_pack_stands_in_its_header(tmp_path):
    _, path = write_pack(tmp_path, [raw(b"a node")], Kind.META)
    os.truncate(path, path.stat().st_size - 1)
    found = recover(path)
    assert (found.kind, found.digests) == (Kind.META, [Kind.META.digest(b"a node")])


def test_a_pack_without_its_header_is_read_as_both_kinds(path):
    path.write_bytes(bytes(HEADER.size) + path.read_bytes()[HEADER.size :])
    found = recover(path)
    expected = members_of(small_blocks(), Kind.DATA) | members_of(small_blocks(), Kind.META)
    assert set(found.digests) == set(expected)
    places = {}
    for digest, at in found.chunks:
        places.setdefault((at.offset, at.within, at.size), set()).add(digest)
    assert all(len(digests) == 2 for digests in places.values())


def test_a_damaged_block_costs_only_itself(path):
    sealed = read_footer(path)
    hit = sealed.blocks[1]
    data = flipped(path.read_bytes(), hit.payload + 5, 3)
    path.write_bytes(data[:-1])
    found = dict(fetch(path, recover(path)))
    lost = {Kind.DATA.digest(member) for member in small_blocks()[1].members}
    assert found == {digest: data for digest, data in CONTENTS.items() if digest not in lost}


# -- every byte -----------------------------------------------------------------------------------


def test_a_pack_cut_anywhere_gives_what_is_whole(path):
    data = path.read_bytes()
    counts = set()
    starts = [block.offset for block in read_footer(path).blocks]
    for size in sorted({*range(0, len(data), 5), *starts, *(start - 1 for start in starts)}):
        path.write_bytes(data[:size])
        with pytest.raises(CorruptionError):
            read_footer(path)
        sealed = recover(path)
        found = dict(fetch(path, sealed))
        assert len(found) == len(sealed.digests)
        if size >= HEADER.size:
            assert found.items() <= CONTENTS.items()
        counts.add(len(found))
    assert counts == {0, 1, 13, 14, 16}


def check_flip(path, data, at, bit):
    """A flip is either seen in the footer, or costs only members that the digest then refuses."""
    path.write_bytes(flipped(data, at, bit))
    try:
        sealed = read_footer(path)
    except (CorruptionError, FormatError):
        sealed = recover(path)
        if sealed.kind is Kind.DATA and at >= HEADER.size:
            assert set(sealed.digests) <= set(CONTENTS)
    found = dict(fetch(path, sealed))
    assert all(CONTENTS.get(digest, member) == member for digest, member in found.items())
    return len(found)


def test_no_flipped_bit_gives_a_wrong_byte(path):
    data = path.read_bytes()
    rng = random.Random(7)
    for _ in range(400):
        check_flip(path, data, rng.randrange(len(data)), rng.randrange(8))


@pytest.mark.slow
def test_no_flipped_bit_anywhere_gives_a_wrong_byte(path):
    data = path.read_bytes()
    for at in range(len(data)):
        for bit in range(8):
            check_flip(path, data, at, bit)


@pytest.mark.parametrize("seed", range(30))
def test_noise_with_the_marks_of_a_pack_is_survived(tmp_path, seed):
    rng = random.Random(seed)
    _, path = write_pack(tmp_path, [packed(text(2000)), raw(b"abc")])
    data = bytearray(path.read_bytes())
    for _ in range(rng.randint(1, 40)):
        at = rng.randrange(len(data))
        data[at : at + 4] = rng.choice([BLOCK_MAGIC, rng.randbytes(4), b"\xff\xff\xff\xff"])
    path.write_bytes(bytes(data))
    try:
        sealed = read_footer(path)
    except (CorruptionError, FormatError):
        sealed = recover(path)
    assert set(fetch(path, sealed)) <= set(members_of([packed(text(2000)), raw(b"abc")]).items())


def test_an_open_pack_is_a_file(path):
    with open_pack(path) as file:
        assert file.read(8) == b"\x89DSPACK\n"
