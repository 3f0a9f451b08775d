"""The pack format, frozen: other bytes here mean that old stores can no longer be read alike.

``python -m tests.objects.test_pack`` writes the vectors anew, for a new format only.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pytest

from datastore.errors import FormatError, StorageError, UsageError
from datastore.kernel.hashing import format_digest, pack_hasher
from datastore.objects import pack
from datastore.objects.codec import Codec, decode
from datastore.objects.pack import (
    BLOCK,
    HEADER,
    MAX_SIZE,
    TRAILER,
    Kind,
    PackWriter,
    pack_path,
    parse_name,
)
from datastore.objects.packreader import read_footer
from tests.kernel.samples import noise
from tests.objects.packs import NONCE, Block, packed, raw, small_blocks, write_pack

TOP = Path(__file__).parents[2]
VECTORS = TOP / "tests" / "vectors" / "pack.json"
PAGE = TOP / "docs" / "reference" / "format" / "pack.md"


# -- frozen vectors -------------------------------------------------------------------------------

FROZEN = {
    "one chunk": (Kind.DATA, [raw(b"datastore\n")]),
    "labels and a picture": (Kind.DATA, small_blocks()),
    "nodes": (Kind.META, [packed(bytes.fromhex("93009090"), b"\x93\x00\x90\x90" * 40)]),
    "nothing": (Kind.DATA, []),
}


def vector(name, directory):
    kind, blocks = FROZEN[name]
    path = write_pack(directory, blocks, kind)[1]
    return {
        "name": name,
        "kind": kind.name.lower(),
        "nonce": NONCE.hex(),
        "file": path.name,
        "hex": path.read_bytes().hex(),
        "blocks": [
            {
                "codec": int(block.codec),
                "payload": block.payload.hex(),
                "members": [
                    {"digest": format_digest(kind.digest(member)), "hex": member.hex()}
                    for member in block.members
                ],
            }
            for block in blocks
        ],
    }


@pytest.fixture(scope="module")
def golden():
    return {each["name"]: each for each in json.loads(VECTORS.read_text(encoding="utf-8"))}


def test_every_vector_is_checked(golden):
    assert list(golden) == list(FROZEN)


def blocks_of(expected):
    """The blocks as they were stored: what zstd makes of their content may change, this may not."""
    return [
        Block(
            [bytes.fromhex(member["hex"]) for member in block["members"]],
            Codec(block["codec"]),
            bytes.fromhex(block["payload"]),
        )
        for block in expected["blocks"]
    ]


@pytest.mark.parametrize("name", FROZEN)
def test_a_pack_has_the_bytes_and_the_name_that_it_always_had(golden, tmp_path, name):
    expected = golden[name]
    sealed, path = write_pack(tmp_path, blocks_of(expected), Kind[expected["kind"].upper()])
    assert path.read_bytes().hex() == expected["hex"]
    assert path.name == expected["file"] == sealed.name + ".pack"


@pytest.mark.parametrize("name", FROZEN)
def test_a_pack_that_was_written_then_is_read_now(golden, tmp_path, name):
    expected = golden[name]
    path = tmp_path / expected["file"]
    data = bytes.fromhex(expected["hex"])
    path.write_bytes(data)
    sealed = read_footer(path)
    found = {
        format_digest(digest): bytes(
            decode(at.codec, data[at.offset : at.offset + at.stored], at.raw, where="")
        )[at.within : at.within + at.size].hex()
        for digest, at in sealed.chunks
    }
    assert found == {
        member["digest"]: member["hex"]
        for block in expected["blocks"]
        for member in block["members"]
    }


def test_the_vectors_hold_what_they_are_said_to_hold(golden):
    for name, (_, blocks) in FROZEN.items():
        assert [block.members for block in blocks_of(golden[name])] == [
            list(block.members) for block in blocks
        ]


def test_the_format_page_shows_the_smallest_pack(golden):
    page = PAGE.read_text(encoding="utf-8")
    shown = golden["one chunk"]
    assert shown["file"] in page
    assert shown["hex"] in "".join(
        line.split("  ")[0].replace(" ", "") for line in page.splitlines()
    )


# -- writing --------------------------------------------------------------------------------------


def test_a_pack_is_named_by_its_bytes_and_the_nonce(tmp_path):
    sealed, path = write_pack(tmp_path, small_blocks())
    hasher = pack_hasher()
    hasher.update(path.read_bytes())
    assert sealed.name == f"{hasher.digest().hex()}-{NONCE.hex()}"
    assert path == tmp_path / sealed.name[:2] / f"{sealed.name}.pack"


def test_equal_packs_with_other_nonces_stand_side_by_side(tmp_path):
    paths = [write_pack(tmp_path, small_blocks(), nonce=bytes(7) + b"%d" % n)[1] for n in range(2)]
    assert paths[0].read_bytes() == paths[1].read_bytes()
    assert paths[0] != paths[1]


def test_what_sealing_returns_is_what_the_footer_says(tmp_path):
    sealed, path = write_pack(tmp_path, small_blocks())
    read = read_footer(path)
    assert (read.name, read.kind, read.size) == (sealed.name, sealed.kind, sealed.size)
    assert read.chunks == sealed.chunks
    assert sealed.size == path.stat().st_size


def test_a_raw_chunk_lies_in_the_pack_as_it_is(tmp_path):
    sealed, path = write_pack(tmp_path, [raw(b"first", b"second")])
    data = path.read_bytes()
    places = [data[at.offset + at.within :][: at.size] for _, at in sealed.chunks]
    assert places == [b"first", b"second"]


def test_the_size_is_known_before_the_end(tmp_path):
    writer = PackWriter(tmp_path, Kind.DATA)
    assert writer.size == HEADER.size + TRAILER.size
    for size in (1, 100, 5000):
        data = noise(size)
        writer.add_block([Kind.DATA.digest(data)], [size], Codec.RAW, (data,), size)
    expected = writer.size
    assert writer.seal(tmp_path, NONCE).size == expected


def test_a_block_has_room_when_the_pack_stays_below_the_cap(tmp_path, monkeypatch):
    writer = PackWriter(tmp_path, Kind.DATA)
    data = noise(1000)
    digests, sizes = [Kind.DATA.digest(data[:400]), Kind.DATA.digest(data[400:])], [400, 600]
    with monkeypatch.context() as patch:
        patch.setattr(pack, "MAX_SIZE", writer.size + BLOCK.size + 1000 + 16 + 2 * 48)
        assert writer.has_room(2, 1000)
        patch.setattr(pack, "MAX_SIZE", pack.MAX_SIZE - 1)
        assert not writer.has_room(2, 1000)
    before = writer.size
    writer.add_block(digests, sizes, Codec.RAW, (data,), 1000)
    assert writer.size == before + BLOCK.size + 1000 + 16 + 2 * 48
    writer.discard()


def test_a_pack_of_very_many_members_is_full(tmp_path, monkeypatch):
    monkeypatch.setattr(pack, "FULL_MEMBERS", 3)
    writer = PackWriter(tmp_path, Kind.DATA)
    assert writer.has_room(4, 4)  # else it would fit nowhere
    writer.add_block(
        [Kind.DATA.digest(b"a"), Kind.DATA.digest(b"b")], [1, 1], Codec.RAW, (b"ab",), 2
    )
    assert writer.has_room(1, 1)
    assert not writer.has_room(2, 2)
    writer.discard()


def test_the_largest_block_has_room_in_an_empty_pack(tmp_path):
    writer = PackWriter(tmp_path, Kind.DATA)
    assert writer.has_room(pack.MAX_BLOCK_CHUNKS, pack.MAX_RAW_SIZE)
    assert not writer.has_room(1, MAX_SIZE)
    writer.discard()


def test_nothing_is_seen_of_a_pack_that_is_not_sealed(tmp_path):
    writer = PackWriter(tmp_path, Kind.DATA)
    writer.add_block([Kind.DATA.digest(b"a")], [1], Codec.RAW, (b"a",), 1)
    assert not list(tmp_path.rglob("*.pack"))
    writer.discard()
    writer.discard()
    assert not list(tmp_path.iterdir())


def test_a_sealed_pack_takes_nothing_more(tmp_path):
    writer = PackWriter(tmp_path, Kind.DATA)
    writer.seal(tmp_path, NONCE)
    writer.discard()  # does nothing now
    assert len(list(tmp_path.rglob("*.pack"))) == 1
    with pytest.raises(UsageError):
        writer.add_block([Kind.DATA.digest(b"a")], [1], Codec.RAW, (b"a",), 1)


def test_a_pack_cannot_be_made_where_there_is_no_directory(tmp_path):
    with pytest.raises(StorageError):
        PackWriter(tmp_path / "missing", Kind.DATA)


def test_many_parts_are_one_payload(tmp_path):
    parts = [b"%d" % number for number in range(3000)]  # more than one writev takes
    writer = PackWriter(tmp_path, Kind.DATA)
    digests = [Kind.DATA.digest(part) for part in parts]
    writer.add_block(digests, list(map(len, parts)), Codec.RAW, parts, sum(map(len, parts)))
    sealed = writer.seal(tmp_path, NONCE)
    assert b"".join(parts) in pack_path(tmp_path, sealed.name).read_bytes()
    assert read_footer(pack_path(tmp_path, sealed.name)).chunks == sealed.chunks


# -- names ----------------------------------------------------------------------------------------

NAME = "ab" * 32 + "-" + "0123456789abcdef"


def test_a_name_is_read_from_the_name_of_the_file():
    assert parse_name(NAME + ".pack") == NAME


@pytest.mark.parametrize(
    "name",
    [
        "",
        ".pack",
        NAME,
        NAME + ".idx",
        NAME.upper() + ".pack",
        NAME[:-1] + ".pack",
        NAME + "0.pack",
        NAME.replace("-", "_") + ".pack",
        NAME[1:] + ".pack",
        "0" + NAME[:-1] + ".pack",
        NAME[:-1] + "g.pack",
        NAME[:-1] + "\u0661.pack",
        "../" + NAME[3:] + ".pack",
    ],
)
def test_another_name_is_no_name_of_a_pack(name):
    with pytest.raises(FormatError, match="is not the name of a pack"):
        parse_name(name)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as made:
        vectors = [vector(name, Path(made) / name) for name in FROZEN]
    VECTORS.write_text(json.dumps(vectors, indent=1) + "\n", encoding="utf-8")
