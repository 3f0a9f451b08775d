"""The index shard's format, frozen, and what is made of damaged and hostile ones.

``python -m tests.sync.test_shard`` writes the vectors anew, for a new format only.
"""

from __future__ import annotations

import itertools
import json
import random
import struct
import tempfile
import tracemalloc
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datastore.errors import CorruptionError, FormatError, NotFoundError, StorageError
from datastore.kernel.hashing import checksum, chunk_digest, format_digest, parse_digest
from datastore.objects.codec import Codec
from datastore.objects.pack import (
    BLOCK,
    CHUNK_ROW,
    HEADER,
    MAX_BLOCK_CHUNKS,
    MAX_RAW_SIZE,
    SIZE_ROW,
    TRAILER,
    BlockRow,
    Kind,
    Sealed,
)
from datastore.objects.packreader import MAX_FILE_SIZE, read_footer
from datastore.sync import shard as shard_format
from datastore.sync import shardhead, shardreader
from datastore.sync.shard import (
    CHECK,
    MAGIC,
    MAX_FAN_OUT_BITS,
    MAX_NAMES,
    MAX_ROWS,
    NAME_ROW,
    PACK_ROW,
    ROW,
    SHARD_HEADER,
    VERSION,
    Layout,
    Place,
    ShardPack,
    encode_shard,
    fan_out_bits,
    parse_shard_name,
    rows_of,
    shard_name,
)
from datastore.sync.shardhead import ShardHead
from datastore.sync.shardmerge import merge_shards
from datastore.sync.shardreader import Shard
from tests.kernel.samples import noise
from tests.objects.packs import small_blocks, write_pack

TOP = Path(__file__).parents[2]
VECTORS = TOP / "tests" / "vectors" / "shard.json"
PACK_VECTORS = TOP / "tests" / "vectors" / "pack.json"
PAGE = TOP / "docs" / "reference" / "format" / "remote.md"
NONCE = bytes.fromhex("0123456789abcdef")
OTHER_NONCE = bytes.fromhex("fedcba9876543210")
DAMAGE = (FormatError, CorruptionError)


# -- packs that are nowhere ---------------------------------------------------------------------


def make_pack(seed, blocks, kind=Kind.DATA):
    """A pack's table of contents; a block is a codec and, for each member, its digest and size."""
    rows, digests, sizes = [], [], []
    at = HEADER.size
    for codec, members in blocks:
        raw = sum(size for _, size in members)
        stored = raw if codec == Codec.RAW else raw // 2
        rows.append(BlockRow(at, stored, raw, len(members), codec))
        at = rows[-1].payload + stored
        digests += [digest for digest, _ in members]
        sizes += [size for _, size in members]
    tables = len(rows) * 16 + len(digests) * (SIZE_ROW.size + CHUNK_ROW.size)
    name = f"{chunk_digest(b'%d' % seed).hex()}-{NONCE.hex()}"
    return Sealed(name, kind, at + tables + TRAILER.size, digests, sizes, rows)


def numbered(*numbers):
    return [(chunk_digest(b"member %d" % number), 100 + number) for number in numbers]


def many_members(seed, count, kind=Kind.DATA):
    members = numbered(*range(seed * count, (seed + 1) * count))
    return make_pack(seed, [(1, members[at : at + 10]) for at in range(0, count, 10)], kind)


EMPTY = (chunk_digest(b""), 0)
FIRST = make_pack(1, [(0, numbered(1)), (1, [*numbered(2, 3), EMPTY, EMPTY])])
SECOND = make_pack(2, [(1, numbered(3, 4)), (0, [EMPTY]), (3, numbered(1))])
NODES = make_pack(3, [(1, numbered(5, 6, 7))], Kind.META)
OLDER = (f"{'cd' * 32}-{NONCE.hex()}.data.idx", f"{'ab' * 32}-{NONCE.hex()}.data.idx")


def sealed(packs, kind=Kind.DATA, superseded=()):
    """A shard of packs, under its name."""
    data = encode_shard(kind, packs, superseded=superseded)
    return Shard.of(shard_name(data, kind, NONCE), data)


def places_of(packs):
    """What a shard of these packs is to say."""
    found = {}
    for pack in sorted(packs, key=lambda pack: pack.name):
        for digest, place in rows_of(pack):
            found.setdefault(digest, []).append(place)
    return {digest: sorted(found[digest]) for digest in sorted(found)}


def answers(shard, digests):
    """What a shard says of digests, in every way of asking, which must agree."""
    found = {digest: sorted(places) for digest in digests if (places := shard.find(digest))}
    for each in (0, 10**9):  # by passes over all rows, and by looking them up
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(shardreader, "_FIND_PASS", each)
            patch.setattr(shardreader, "_CONTAINS_PASS", each)
            many = shard.find_many(digests)
            assert {digest: sorted(places) for digest, places in many.items()} == found
            assert shard.contains_many(digests) == found.keys()
    return found


def ranged(name, data):
    """A head that was read as from a remote."""
    start = data[: ShardHead.HEAD_SIZE]
    needed = ShardHead.needed(name, start, len(data))
    assert needed <= len(data)
    return ShardHead.parse(name, data[:needed], len(data))


def ranged_answers(name, data, digests):
    head = ranged(name, data)
    found = {}
    for digest in digests:
        start, length = head.bucket_range(digest)
        if length and (places := head.find_in_bucket(digest, data[start : start + length])):
            found[digest] = sorted(places)
    return found


# -- frozen vectors -----------------------------------------------------------------------------

PACK_OF_ONE = json.loads(PACK_VECTORS.read_text(encoding="utf-8"))[0]


def pack_of_one(directory):
    path = directory / PACK_OF_ONE["file"]
    path.write_bytes(bytes.fromhex(PACK_OF_ONE["hex"]))
    return read_footer(path)


FROZEN = {
    "one chunk": (Kind.DATA, None, ()),
    "two packs, one chunk in both": (Kind.DATA, [SECOND, FIRST], OLDER),
    "nodes": (Kind.META, [NODES], ()),
    "two buckets": (Kind.DATA, [many_members(1, 100), many_members(2, 50)], ()),
}


def vector(name, directory):
    kind, packs, superseded = FROZEN[name]
    packs = packs or [pack_of_one(directory)]
    data = encode_shard(kind, packs, superseded=superseded)
    return {
        "name": name,
        "kind": kind.name.lower(),
        "nonce": NONCE.hex(),
        "file": shard_name(data, kind, NONCE),
        "hex": data.hex(),
        "superseded": sorted(superseded),
        "packs": [
            {
                "name": pack.name,
                "size": pack.size,
                "blocks": [list(block) for block in pack.blocks],
                "members": [
                    [format_digest(digest), size]
                    for digest, size in zip(pack.digests, pack.sizes, strict=True)
                ],
            }
            for pack in sorted(packs, key=lambda pack: pack.name)
        ],
    }


@pytest.fixture(scope="module")
def golden():
    return {each["name"]: each for each in json.loads(VECTORS.read_text(encoding="utf-8"))}


def packs_of(expected):
    return [
        Sealed(
            pack["name"],
            Kind[expected["kind"].upper()],
            pack["size"],
            [parse_digest(digest) for digest, _ in pack["members"]],
            [size for _, size in pack["members"]],
            [BlockRow(*block) for block in pack["blocks"]],
        )
        for pack in expected["packs"]
    ]


def test_every_vector_is_checked(golden, tmp_path):
    assert list(golden) == list(FROZEN)
    for name in FROZEN:
        assert vector(name, tmp_path) == golden[name]


@pytest.mark.parametrize("name", FROZEN)
def test_a_shard_has_the_bytes_and_the_name_that_it_always_had(golden, name):
    expected = golden[name]
    kind = Kind[expected["kind"].upper()]
    data = encode_shard(kind, packs_of(expected), superseded=expected["superseded"])
    assert data.hex() == expected["hex"]
    assert shard_name(data, kind, NONCE) == expected["file"]


@pytest.mark.parametrize("name", FROZEN)
def test_a_shard_that_was_written_then_is_read_now(golden, tmp_path, name):
    expected = golden[name]
    path = tmp_path / expected["file"]
    path.write_bytes(bytes.fromhex(expected["hex"]))
    packs = packs_of(expected)
    with Shard.open(path, verify=True) as shard:
        assert list(shard.superseded) == expected["superseded"]
        assert answers(shard, [*places_of(packs)]) == places_of(packs)
        assert list(shard.listings()) == packs


def test_the_format_page_shows_the_smallest_shard(golden):
    page = PAGE.read_text(encoding="utf-8")
    shown = golden["one chunk"]
    assert shown["file"] in page
    assert shown["hex"] in "".join(
        line.split("  ")[0].replace(" ", "") for line in page.splitlines()
    )


# -- writing ------------------------------------------------------------------------------------


def test_a_shard_says_of_a_real_pack_what_its_footer_says(tmp_path):
    pack, path = write_pack(tmp_path, small_blocks())
    shard = sealed([pack])
    data = path.read_bytes()
    assert shard.members_of(pack.name) == read_footer(path)._replace(
        digests=pack.digests, sizes=pack.sizes, blocks=pack.blocks
    )
    for digest, location in pack.chunks:
        [place] = shard.find(digest)
        assert data[place.offset :].startswith(b"DSB1")
        assert place.payload == location.offset
        assert (place.stored, place.raw, place.codec) == location[1:3] + location[5:]
        assert (place.within, place.size) == location[3:5]


def test_the_order_of_packs_does_not_matter():
    forth = encode_shard(Kind.DATA, [FIRST, SECOND], superseded=OLDER)
    assert encode_shard(Kind.DATA, [SECOND, FIRST], superseded=OLDER[::-1] * 2) == forth


def test_what_a_shard_is_made_of():
    shard = sealed([FIRST, SECOND], superseded=OLDER)
    assert shard.kind is Kind.DATA
    assert len(shard) == len(FIRST.digests) + len(SECOND.digests)
    assert list(shard.packs) == sorted(ShardPack(pack.name, pack.size) for pack in (FIRST, SECOND))
    assert list(shard.superseded) == sorted(OLDER)
    assert list(shard.digests()) == sorted({*FIRST.digests, *SECOND.digests})
    assert shard.members_of(FIRST.name) == FIRST
    assert [pack.name for pack in shard.listings({SECOND.name, "other"})] == [SECOND.name]
    with pytest.raises(NotFoundError, match="has no pack other"):
        shard.members_of("other")


def test_a_digest_may_have_many_places():
    found = sealed([FIRST, SECOND]).find(EMPTY[0])
    assert [place.pack for place in found].count(FIRST.name) == 2
    assert len(found) == 3


def test_a_pack_without_members_is_left_out():
    nothing = make_pack(9, [])
    assert encode_shard(Kind.DATA, [FIRST, nothing]) == encode_shard(Kind.DATA, [FIRST])


@pytest.mark.parametrize(
    ("kind", "packs", "superseded"),
    [
        (Kind.DATA, [], ()),
        (Kind.DATA, [make_pack(9, [])], ()),
        (Kind.DATA, [FIRST, FIRST], ()),
        (Kind.DATA, [FIRST, NODES], ()),
        (Kind.META, [FIRST], ()),
        (Kind.DATA, [FIRST], [OLDER[0].replace(".data.", ".meta.")]),
        (Kind.DATA, [FIRST], ["x.data.idx"]),
    ],
)
def test_what_is_no_shard_is_not_written(kind, packs, superseded):
    with pytest.raises(ValueError):
        encode_shard(kind, packs, superseded=superseded)


def test_too_many_rows_are_not_written(monkeypatch):
    monkeypatch.setattr(shard_format, "MAX_ROWS", 4)
    with pytest.raises(ValueError, match="no shard"):
        encode_shard(Kind.DATA, [FIRST])


def test_a_bucket_has_64_to_128_rows_on_average():
    assert [fan_out_bits(rows) for rows in (1, 128, 129, 256, 257)] == [0, 0, 1, 1, 2]
    for rows in (129, 1000, 10**6, 10**7, MAX_ROWS):
        assert 64 <= rows / 2 ** fan_out_bits(rows) <= 128
    assert fan_out_bits(MAX_ROWS) <= MAX_FAN_OUT_BITS


# -- laws ---------------------------------------------------------------------------------------

# Few digests, so that some are in many packs, and some that begin alike, as if chosen to.
digests_in_use = st.one_of(
    st.integers(0, 30).map(lambda number: chunk_digest(b"%d" % number)),
    st.integers(0, 30).map(lambda number: bytes(31) + bytes([number])),
    st.integers(0, 30).map(lambda number: b"\xff" * 31 + bytes([225 + number])),
)
blocks_of_packs = st.lists(
    st.tuples(
        st.integers(0, 3),
        st.lists(st.tuples(digests_in_use, st.integers(0, 300)), min_size=1, max_size=6),
    ),
    min_size=1,
    max_size=4,
)


@st.composite
def pack_sets(draw):
    """Packs, and how they are divided among pushes; a pack may be in several."""
    contents = draw(st.lists(blocks_of_packs, min_size=1, max_size=6))
    packs = [make_pack(number, blocks) for number, blocks in enumerate(contents)]
    pushes = st.sets(st.sampled_from(range(len(packs))), min_size=1)
    return packs, draw(st.lists(pushes, min_size=1, max_size=4))


@settings(max_examples=150)
@given(sets=pack_sets(), rows=st.sampled_from([1, 2, 5, 128]))
def test_a_shard_answers_as_the_packs_do(sets, rows):
    packs, _ = sets
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard_format, "_BUCKET_ROWS", rows)
        data = encode_shard(Kind.DATA, packs)
    name = shard_name(data, Kind.DATA, NONCE)
    shard = Shard.of(name, data)
    shard.check()
    expected = places_of(packs)
    asked = [*expected, bytes(32), b"\xff" * 32, chunk_digest(b"nowhere")]
    assert answers(shard, asked) == expected
    assert ranged_answers(name, data, asked) == expected
    assert list(shard.digests()) == list(expected)
    assert len(shard) == sum(map(len, expected.values()))
    for listed in shard.listings():
        [pack] = [pack for pack in packs if pack.name == listed.name]
        assert listed.blocks == pack.blocks
        # Members of no size may change places with each other: they are where they are.
        assert sorted(rows_of(listed)) == sorted(rows_of(pack))


@settings(max_examples=100)
@given(sets=pack_sets(), drop=st.sets(st.integers(0, 5)), seed=st.randoms())
def test_merging_is_writing_all_packs_at_once(sets, drop, seed):
    packs, pushes = sets
    shards = [
        sealed([packs[number] for number in sorted(push)], superseded=[OLDER[0]]) for push in pushes
    ]
    shards = list({shard.name: shard for shard in shards}.values())
    seed.shuffle(shards)
    dropped = {packs[number].name for number in drop if number < len(packs)}
    kept = [packs[number] for number in set().union(*pushes) if packs[number].name not in dropped]
    names = [OLDER[0], *(shard.name for shard in shards)]
    merged = merge_shards(shards, drop=dropped)
    assert merged == (encode_shard(Kind.DATA, kept, superseded=names) if kept else None)


@settings(max_examples=200)
@given(data=st.binary(max_size=400), begins=st.booleans())
def test_any_bytes_are_an_error(data, begins):
    data = MAGIC + struct.pack("<HBB", VERSION, 1, 0) + data if begins else data
    name = shard_name(data, Kind.DATA, NONCE)
    with pytest.raises(DAMAGE):
        Shard.of(name, data)
    with pytest.raises(DAMAGE):
        ShardHead.needed(name, data, len(data))


def test_a_larger_shard_answers_too():
    packs = [many_members(number, 400) for number in range(5)]
    shard = sealed(packs)
    assert ranged(shard.name, encode_shard(Kind.DATA, packs)).buckets == 16
    assert answers(shard, [*places_of(packs), bytes(32)]) == places_of(packs)
    assert list(shard.listings()) == sorted(packs, key=lambda pack: pack.name)


def test_digests_that_all_begin_alike_are_found():
    members = [(bytes(8) + noise(24, str(number)), 10) for number in range(1000)]
    pack = make_pack(1, [(1, members)])
    shard = sealed([pack])
    shard.check()
    assert answers(shard, [digest for digest, _ in members]) == places_of([pack])
    assert shard.members_of(pack.name) == pack


def test_a_digest_in_an_empty_bucket_costs_no_request():
    members = [(bytes(8) + noise(24, str(number)), 10) for number in range(300)]
    data = encode_shard(Kind.DATA, [make_pack(1, [(1, members)])])
    head = ranged(shard_name(data, Kind.DATA, NONCE), data)
    assert head.bucket_range(b"\xff" * 32)[1] == 0
    assert head.find_in_bucket(b"\xff" * 32, b"") == []


# -- merging ------------------------------------------------------------------------------------


def test_what_was_superseded_stays_superseded():
    old = sealed([FIRST], superseded=OLDER)
    middle_data = merge_shards([old, sealed([SECOND])])
    middle = Shard.of(shard_name(middle_data, Kind.DATA, OTHER_NONCE), middle_data)
    last = merge_shards([middle, sealed([many_members(7, 20)])])
    names = set(Shard.of(shard_name(last, Kind.DATA, NONCE), last).superseded)
    assert names > {*OLDER, old.name, middle.name}
    assert len(names) == 6


def test_shards_of_two_kinds_are_not_merged():
    for shards in ([], [sealed([FIRST]), sealed([NODES], Kind.META)]):
        with pytest.raises(ValueError, match="one kind"):
            merge_shards(shards)


def test_a_damaged_shard_is_not_merged():
    data = bytearray(encode_shard(Kind.DATA, [FIRST]))
    name = shard_name(data, Kind.DATA, NONCE)
    data[-1] ^= 1
    with pytest.raises(CorruptionError, match=name):
        merge_shards([Shard.of(name, bytes(data)), sealed([SECOND])])


def test_a_shard_that_lies_is_not_merged():
    for parts in (SOUND._replace(rows=SOUND.rows[::-1]), with_row(members=0)[0]):
        with pytest.raises(CorruptionError, match=parts.name()):
            merge_shards([Shard.of(parts.name(), parts.join())])


@pytest.mark.parametrize(
    "other",
    [
        FIRST._replace(size=FIRST.size + 1),
        FIRST._replace(digests=[*FIRST.digests[:-1], chunk_digest(b"another")]),
        FIRST._replace(blocks=FIRST.blocks[:1], digests=FIRST.digests[:1], sizes=FIRST.sizes[:1]),
    ],
)
def test_shards_that_do_not_agree_on_a_pack_are_not_merged(other):
    with pytest.raises(CorruptionError, match="other things to say"):
        merge_shards([sealed([FIRST]), sealed([other, SECOND])])


# -- files --------------------------------------------------------------------------------------


def stored(directory, packs):
    data = encode_shard(Kind.DATA, packs)
    path = directory / shard_name(data, Kind.DATA, NONCE)
    path.write_bytes(data)
    return path


LARGE = [many_members(number, 400) for number in range(4)]


@pytest.mark.parametrize("packs", [[FIRST, SECOND], LARGE], ids=["small", "large"])
def test_a_file_is_read(tmp_path, packs):
    path = stored(tmp_path, packs)
    assert (path.stat().st_size > ShardHead.HEAD_SIZE) == (packs is LARGE)
    with Shard.open(path, verify=True) as shard:
        assert answers(shard, [*places_of(packs)]) == places_of(packs)
        shard.close()
    shard.close()


def test_a_large_shard_that_is_closed_answers_no_more(tmp_path):
    shard = Shard.open(stored(tmp_path, LARGE))
    shard.close()
    with pytest.raises(ValueError):
        shard.find(LARGE[0].digests[0])


@pytest.mark.parametrize("packs", [[FIRST, SECOND], LARGE], ids=["small", "large"])
def test_a_file_with_another_content_is_found_out(tmp_path, packs):
    path = stored(tmp_path, packs)
    other = path.with_name("0" + path.name[1:])
    path.rename(other)
    Shard.open(other).close()
    with pytest.raises(CorruptionError, match="do not have the digest in its name"):
        Shard.open(other, verify=True)


def test_a_file_that_is_cut_while_it_is_open_is_found_out(tmp_path):
    path = stored(tmp_path, LARGE)
    with Shard.open(path) as shard:
        with path.open("r+b") as file:
            file.truncate(ShardHead.HEAD_SIZE)
        with pytest.raises(CorruptionError, match="do not match their check"):
            list(shard.digests())
        with pytest.raises(CorruptionError):
            shard.check()


def test_what_is_no_file_is_not_opened(tmp_path):
    path = stored(tmp_path, [FIRST])
    with pytest.raises(FormatError, match="not the name of an index shard"):
        Shard.open(path.rename(tmp_path / "shard.idx"))
    with pytest.raises(NotFoundError, match="is gone"):
        Shard.open(path)
    path.mkdir()
    with pytest.raises(StorageError, match="cannot read"):
        Shard.open(path)


def test_a_disk_that_fails_is_not_damage(tmp_path, monkeypatch):
    path = stored(tmp_path, LARGE)

    def fail(*_):
        raise OSError(5, "Input/output error")

    with Shard.open(path) as shard:
        for call in ("pread", "fstat"):
            with monkeypatch.context() as patch:
                patch.setattr(shardreader.os, call, fail)
                with pytest.raises(StorageError, match="Input/output error"):
                    shard.find(LARGE[0].digests[0]) if call == "pread" else Shard.open(path)


def test_a_system_that_reads_little_at_a_time_is_borne_with(tmp_path, monkeypatch):
    path = stored(tmp_path, LARGE)
    pread = shardreader.os.pread
    monkeypatch.setattr(
        shardreader.os, "pread", lambda fd, size, at: pread(fd, min(size, 1000), at)
    )
    with Shard.open(path, verify=True) as shard:
        assert shard.find(LARGE[0].digests[0])


# -- names --------------------------------------------------------------------------------------

NAME = "ab" * 32 + "-" + "0123456789abcdef"


def test_a_name_says_digest_nonce_and_kind():
    assert parse_shard_name(NAME + ".data.idx") == ("ab" * 32, NAME[-16:], Kind.DATA)
    assert parse_shard_name(NAME + ".meta.idx") == ("ab" * 32, NAME[-16:], Kind.META)


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".data.idx",
        NAME,
        NAME + ".idx",
        NAME + ".pack",
        NAME + ".data.pack",
        NAME + ".data.idx\n",
        NAME + ".DATA.idx",
        NAME + ".data.idx.part",
        NAME.upper() + ".data.idx",
        NAME[:-1] + ".data.idx",
        NAME + "0.data.idx",
        NAME[:-1] + "\u0661.data.idx",
        "../" + NAME[3:] + ".data.idx",
        "index/" + NAME + ".data.idx",
    ],
)
def test_another_name_is_no_name_of_a_shard(name):
    with pytest.raises(FormatError, match="is not the name of an index shard"):
        parse_shard_name(name)


# -- damage -------------------------------------------------------------------------------------

SMALL = encode_shard(Kind.DATA, [FIRST, SECOND], superseded=OLDER[:1])
SMALL_NAME = shard_name(SMALL, Kind.DATA, NONCE)
SMALL_PLACES = places_of([FIRST, SECOND])
MISSING = [bytes(32), b"\xff" * 32, chunk_digest(b"nowhere")]


def check_answer(ask, expected):
    """An error, or the right answer; returns whether it was the error."""
    try:
        answer = ask()
    except DAMAGE:
        return True
    assert answer == expected
    return False


def check_damaged(name, data, places):
    """Asks a damaged shard for all that it can be asked."""
    asked = [*places, *MISSING]
    refused = check_answer(lambda: ranged_answers(name, data, asked), places)
    try:
        shard = Shard.of(name, data)
    except DAMAGE:
        return
    # Where the head is whole each bucket is right or refused, so not all can be answered.
    assert refused
    for digest in asked:
        check_answer(lambda digest=digest: sorted(shard.find(digest)), places.get(digest, []))
    assert check_answer(lambda: list(shard.digests()), None)
    assert check_answer(lambda: shard.contains_many(asked), None)
    assert check_answer(lambda: list(shard.listings()), None)
    assert check_answer(shard.check, None)


def flip(data, at):
    damaged = bytearray(data)
    damaged[at // 8] ^= 1 << at % 8
    return bytes(damaged)


def test_no_flipped_bit_makes_a_wrong_answer():
    for at in range(len(SMALL) * 8):
        check_damaged(SMALL_NAME, flip(SMALL, at), SMALL_PLACES)


def test_no_flipped_bit_of_a_shard_with_buckets_makes_a_wrong_answer():
    packs = [many_members(1, 300)]
    data = encode_shard(Kind.DATA, packs)
    name = shard_name(data, Kind.DATA, NONCE)
    places = dict(random.Random(1).sample(sorted(places_of(packs).items()), 10))
    head_bits = 8 * ShardHead.needed(name, data, len(data))
    for at in [*range(head_bits), *random.Random(2).sample(range(head_bits, len(data) * 8), 300)]:
        flipped = flip(data, at)
        try:
            shard = Shard.of(name, flipped)
        except DAMAGE:
            with pytest.raises(DAMAGE):
                ranged(name, flipped)
            continue
        assert at >= head_bits
        for digest, expected in places.items():
            check_answer(lambda digest=digest, shard=shard: shard.find(digest), expected)
        assert check_answer(lambda shard=shard: list(shard.digests()), None)
        assert check_answer(shard.check, None)


@pytest.mark.parametrize("more", [1, 60, 10_000])
def test_a_shard_that_is_cut_or_goes_on_is_refused(more):
    for data in [*(SMALL[:length] for length in range(len(SMALL))), SMALL + bytes(more)]:
        with pytest.raises(DAMAGE):
            Shard.of(SMALL_NAME, data)
        with pytest.raises(DAMAGE):
            ranged(SMALL_NAME, data)


def test_a_part_that_is_cut_is_refused():
    head = ranged(SMALL_NAME, SMALL)
    digest = FIRST.digests[0]
    start, length = head.bucket_range(digest)
    bucket = SMALL[start:]
    assert len(bucket) == length
    for part in [*(bucket[:size] for size in range(length)), bucket + bytes(60)]:
        with pytest.raises(CorruptionError, match="do not match their check"):
            head.find_in_bucket(digest, part)
    for size in range(start):
        with pytest.raises(CorruptionError):
            ShardHead.parse(SMALL_NAME, SMALL[:size], len(SMALL))


def test_buckets_that_changed_places_are_refused():
    pack = make_pack(1, [(1, [(bytes([n]) * 32, 10) for n in (1, 255)])])
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(shard_format, "_BUCKET_ROWS", 1)
        data = encode_shard(Kind.DATA, [pack])
    head = ranged(shard_name(data, Kind.DATA, NONCE), data)
    one, other = head.bucket_range(b"\x01" * 32), head.bucket_range(b"\xff" * 32)
    assert one[1] == other[1] == ROW.size
    with pytest.raises(CorruptionError):
        head.find_in_bucket(b"\x01" * 32, data[other[0] :][: other[1]])


# -- lies: every check is made to agree ---------------------------------------------------------


class Parts(NamedTuple):
    """A shard taken apart, so that one field can be made to lie; `join` makes the rest agree."""

    packs: tuple[tuple[bytes, bytes, int], ...]
    superseded: tuple[tuple[bytes, bytes], ...]
    counts: tuple[int, ...]
    rows: tuple[tuple, ...]
    kind: int = Kind.DATA
    bits: int = 0
    header: tuple[tuple[str, int], ...] = ()
    """Fields that are not as they follow from the rest."""

    def join(self):
        rows = b"".join(ROW.pack(*row) for row in self.rows)
        bounds = [min(count, len(self.rows)) * ROW.size for count in self.counts]
        checks = [
            checksum(rows[start:stop], number)
            for number, (start, stop) in enumerate(itertools.pairwise(bounds))
        ]
        tables = b"".join(
            [
                *(PACK_ROW.pack(*pack) for pack in self.packs),
                *(NAME_ROW.pack(*name) for name in self.superseded),
                *(struct.pack("<I", count) for count in self.counts),
                *(CHECK.pack(check) for check in checks),
            ]
        )
        layout = Layout(
            self.kind,
            self.bits,
            len(self.packs),
            len(self.superseded),
            len(self.rows),
            checksum(tables),
        )
        return layout._replace(**dict(self.header)).pack_header() + tables + rows

    def name(self):
        return shard_name(self.join(), Kind.DATA, NONCE)


def taken_apart():
    layout = Layout(Kind.DATA, 0, 2, 1, len(sealed([FIRST, SECOND])), 0)
    return Parts(
        tuple(PACK_ROW.iter_unpack(SMALL[SHARD_HEADER.size : layout.superseded_at])),
        tuple(NAME_ROW.iter_unpack(SMALL[layout.superseded_at : layout.fan_out_at])),
        (0, layout.rows),
        tuple(ROW.iter_unpack(SMALL[layout.rows_at :])),
    )


SOUND = taken_apart()
PACK, ROWS = SOUND.packs[0], len(SOUND.rows)


def test_a_shard_that_is_put_together_again_is_the_same():
    assert SOUND.join() == SMALL


@pytest.mark.parametrize(
    "parts",
    [
        SOUND._replace(kind=Kind.META),
        SOUND._replace(kind=0),
        SOUND._replace(kind=3),
        SOUND._replace(packs=SOUND.packs[::-1]),
        SOUND._replace(packs=(PACK, PACK)),
        SOUND._replace(packs=((*PACK[:2], HEADER.size + TRAILER.size - 1), SOUND.packs[1])),
        SOUND._replace(packs=((*PACK[:2], MAX_FILE_SIZE + 1), SOUND.packs[1])),
        SOUND._replace(superseded=SOUND.superseded * 2),
        SOUND._replace(counts=(0, ROWS - 1)),
        SOUND._replace(counts=(0, ROWS + 1)),
        SOUND._replace(counts=(1, ROWS)),
        SOUND._replace(bits=1),
        SOUND._replace(bits=1, counts=(0, ROWS + 1, ROWS)),
        SOUND._replace(bits=2, counts=(0, 3, 2, 4, ROWS)),
        SOUND._replace(counts=(0, 0), rows=()),
        *(
            SOUND._replace(header=((field, value),))
            for field, value in [
                ("bits", MAX_FAN_OUT_BITS),
                ("bits", MAX_FAN_OUT_BITS + 1),
                ("bits", 31),
                ("packs", 1),
                ("packs", MAX_NAMES),
                ("packs", 2**32 - 1),
                ("superseded", 0),
                ("superseded", MAX_NAMES),
                ("superseded", 2**32 - 1),
                ("rows", ROWS - 1),
                ("rows", MAX_ROWS),
                ("rows", 2**50),
                ("check", 1),
            ]
        ),
    ],
)
def test_a_head_that_lies_is_refused_at_once(parts):
    data = parts.join()
    tracemalloc.start()
    try:
        with pytest.raises(CorruptionError, match="index shard"):
            Shard.of(parts.name(), data)
        with pytest.raises(CorruptionError):
            ranged(parts.name(), data)
        assert tracemalloc.get_traced_memory()[1] < 200_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("most", ["MAX_ROWS", "MAX_NAMES"])
def test_what_is_too_large_is_refused_even_if_it_is_there(monkeypatch, most):
    Shard.of(SMALL_NAME, SMALL)
    monkeypatch.setattr(shardhead, most, 1)
    with pytest.raises(CorruptionError, match="out of bounds"):
        Shard.of(SMALL_NAME, SMALL)


@pytest.mark.parametrize(("version", "flags"), [(0, 0), (2, 0), (1, 1), (1, 128)])
def test_a_newer_shard_is_not_called_damaged(version, flags):
    data = SMALL[:8] + struct.pack("<H", version) + SMALL[10:11] + bytes([flags]) + SMALL[12:]
    with pytest.raises(FormatError, match="this version knows 1") as caught:
        Shard.of(SMALL_NAME, data)
    assert "pip install --upgrade" in caught.value.hint
    assert caught.value.where == SMALL_NAME


def test_a_shard_of_the_other_kind_is_refused():
    with pytest.raises(CorruptionError, match="out of bounds"):
        Shard.of(SMALL_NAME.replace(".data.", ".meta."), SMALL)


FIELDS = ("pack", "offset", "stored", "raw", "within", "size", "members", "codec", "spare")


def with_row(**fields):
    """A shard whose first row lies, and the row's digest."""
    digest, *values = SOUND.rows[0]
    row = (digest, *(fields.get(name, value) for name, value in zip(FIELDS, values, strict=True)))
    return SOUND._replace(rows=(row, *SOUND.rows[1:])), digest


LARGEST = SOUND.packs[SOUND.rows[0][1]][2]


@pytest.mark.parametrize(
    "fields",
    [
        {"pack": 2},
        {"pack": 2**32 - 1},
        {"offset": HEADER.size - 1},
        {"offset": 2**32 - 1},
        {"offset": LARGEST - TRAILER.size},
        {"stored": MAX_RAW_SIZE + 1, "raw": MAX_RAW_SIZE + 1},
        {"raw": 2**32 - 1},
        {"stored": 10, "raw": 9, "within": 0, "size": 9, "codec": 1},
        {"stored": 9, "raw": 10, "within": 0, "size": 9, "codec": 0},
        {"stored": LARGEST, "raw": LARGEST},
        {"within": 2**32 - 1},
        {"size": 2**32 - 1},
        {"raw": 10, "stored": 10, "within": 8, "size": 3},
        {"members": 0},
        {"members": MAX_BLOCK_CHUNKS + 1},
        {"spare": 1},
    ],
    ids=str,
)
def test_a_place_that_cannot_be_is_not_believed(fields):
    parts, digest = with_row(**fields)
    shard = Shard.of(parts.name(), parts.join())
    with pytest.raises(CorruptionError, match=f"{shard.name}.*the place of {digest.hex()}"):
        shard.find(digest)
    with pytest.raises(CorruptionError, match="out of bounds"):
        shard.find_many([row[0] for row in parts.rows])
    with pytest.raises(CorruptionError, match="out of bounds"):
        ranged_answers(shard.name, parts.join(), [digest])
    with pytest.raises(CorruptionError):
        shard.check()


@pytest.mark.parametrize("over", [0, 1])
def test_a_block_may_end_where_the_pack_does_and_no_further(over):
    digest, ordinal = SOUND.rows[0][:2]
    heads = HEADER.size + BLOCK.size + SIZE_ROW.size + TRAILER.size
    raw = SOUND.packs[ordinal][2] - heads + over
    row = (digest, ordinal, HEADER.size, raw, raw, 0, raw, 1, 0, 0)
    parts = SOUND._replace(rows=(row, *SOUND.rows[1:]))
    shard = Shard.of(parts.name(), parts.join())
    if over:
        with pytest.raises(CorruptionError, match="out of bounds"):
            shard.find(digest)
    else:
        place = Place(shard_pack(ordinal), HEADER.size, raw, raw, 1, 0, 0, raw)
        assert place in shard.find(digest)


def shard_pack(ordinal):
    digest, nonce, _ = SOUND.packs[ordinal]
    return f"{digest.hex()}-{nonce.hex()}"


def test_rows_that_are_not_sorted_are_found_out_when_fetched():
    parts = SOUND._replace(rows=SOUND.rows[::-1])
    shard = Shard.of(parts.name(), parts.join())
    for digest, places in SMALL_PLACES.items():
        # What is found is bounded and so harmless; some is not found.
        assert not shard.find(digest) or set(shard.find(digest)) <= set(places)
    with pytest.raises(CorruptionError, match="misplaced"):
        shard.check()


def test_rows_in_the_wrong_bucket_are_found_out_when_fetched(tmp_path):
    parts = SOUND._replace(bits=1, counts=(0, ROWS, ROWS))
    assert any(row[0][0] >= 128 for row in parts.rows)
    shard = Shard.of(parts.name(), parts.join())
    with pytest.raises(CorruptionError, match="misplaced"):
        shard.check()
    path = tmp_path / parts.name()
    path.write_bytes(parts.join())
    with pytest.raises(CorruptionError, match="misplaced"):
        Shard.open(path, verify=True)


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(SOUND.rows[1:], id="one is missing"),
        pytest.param(tuple(sorted((*SOUND.rows, SOUND.rows[0]))), id="one is there twice"),
        *(
            pytest.param(
                tuple((*row[:at], row[at] + by, *row[at + 1 :]) for row in SOUND.rows),
                id=f"{field} {by:+}",
            )
            for at, field, by in [(5, "within", -1), (6, "size", -1), (7, "members", 1)]
        ),
    ],
)
def test_rows_that_make_no_blocks_are_no_listing(rows):
    rows = tuple(tuple(max(0, each) if i else each for i, each in enumerate(row)) for row in rows)
    parts = SOUND._replace(rows=rows, counts=(0, len(rows)))
    shard = Shard.of(parts.name(), parts.join())
    with pytest.raises(CorruptionError, match=r"rows for pack|out of bounds"):
        list(shard.listings())


def test_blocks_that_overlap_are_no_listing():
    one, other = make_pack(1, [(0, numbered(1))]), make_pack(1, [(0, numbered(2, 2))])
    size = other.size + 100
    moved = [BlockRow(block.offset + 1, *block[1:]) for block in other.blocks]
    pack = Sealed(
        one.name,
        Kind.DATA,
        size,
        [*one.digests, *other.digests],
        [*one.sizes, *other.sizes],
        [*one.blocks, *moved],
    )
    with pytest.raises(CorruptionError, match="do not make blocks"):
        sealed([pack]).members_of(pack.name)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        vectors = [vector(name, Path(made)) for name in FROZEN]
    VECTORS.write_text(json.dumps(vectors, indent=1) + "\n", encoding="utf-8")
