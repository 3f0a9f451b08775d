"""What comes from another store is believed only as far as it was computed here."""

from __future__ import annotations

import errno
import os
import struct
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest

from datastore.errors import CorruptionError, FormatError, StorageError
from datastore.kernel.hashing import chunk_digest, pack_hasher
from datastore.objects import received
from datastore.objects.codec import Codec
from datastore.objects.pack import (
    BLOCK,
    BLOCK_MAGIC,
    MAX_BLOCK_CHUNKS,
    MAX_RAW_SIZE,
    Kind,
    block_check,
    pack_path,
)
from datastore.objects.packreader import read_footer, scan_blocks
from datastore.objects.received import BlockCollector, receive_pack
from datastore.storage.local import DurableFile
from tests.kernel.samples import noise, text
from tests.objects.packs import members_of, packed, raw, small_blocks, take_apart, write_pack
from tests.objects.stores import blocks_of, packs_of, put

CONTENTS = members_of(small_blocks())


@pytest.fixture
def elsewhere(tmp_path):
    """A pack of another store: its table of contents and its bytes."""
    sealed, path = write_pack(tmp_path / "elsewhere", small_blocks())
    return sealed, path.read_bytes()


@pytest.fixture
def collector(store):
    made = BlockCollector(store)
    yield made
    made.discard()


def receive(store, name, data):
    return receive_pack(store.packs, store.staging, name, data)


def blocks(tmp_path, members, kind=Kind.DATA):
    """The bytes of each block of a pack of another store."""
    path = write_pack(tmp_path / "elsewhere", members, kind)[1]
    data = path.read_bytes()
    return [
        data[block.row.offset : block.row.payload + block.row.stored] for block in scan_blocks(path)
    ]


# -- whole packs ----------------------------------------------------------------------------------


def test_a_pack_is_written_as_it_came_and_can_be_entered(store, elsewhere):
    sealed, data = elsewhere
    taken = receive(store, sealed.name, data)
    path = pack_path(store.packs, sealed.name)
    assert path.read_bytes() == data
    assert taken == read_footer(path)
    assert taken.chunks == sealed.chunks
    assert store.missing(CONTENTS) == list(CONTENTS)
    store.enter(taken)
    store.enter(taken)
    assert dict(store.read_chunks(CONTENTS)) == CONTENTS


def test_a_pack_that_is_there_is_not_written_again(store, elsewhere, monkeypatch):
    sealed, data = elsewhere
    taken = receive(store, sealed.name, data)
    monkeypatch.setattr(received, "DurableFile", None)
    assert receive(store, sealed.name, data) == taken


def test_a_pack_that_was_cut_short_here_is_written_again(store, elsewhere):
    sealed, data = elsewhere
    receive(store, sealed.name, data)
    path = pack_path(store.packs, sealed.name)
    os.truncate(path, 100)
    receive(store, sealed.name, data)
    assert path.read_bytes() == data


@pytest.mark.parametrize("at", [0, 20, -1])
def test_a_pack_that_is_not_what_its_name_promises_is_refused(store, elsewhere, leftovers, at):
    sealed, data = elsewhere
    damaged = bytearray(data)
    damaged[at] ^= 1
    for wrong in (bytes(damaged), data[:-1], data + b"\x00", b""):
        with pytest.raises(CorruptionError, match=f"pack {sealed.name} did not arrive") as caught:
            receive(store, sealed.name, wrong)
        assert caught.value.expected == sealed.name[:64] != caught.value.actual
    assert not list(store.pack_files())
    assert not leftovers()


def test_a_pack_that_lies_about_itself_is_refused(store, elsewhere):
    """Its name is right, as whoever made it would make it."""
    lies = take_apart(elsewhere[1])
    for data, why in (
        (lies._replace(kind=7).join(), "no known kind"),
        (lies._replace(counts=(2**32 - 1, 2**32 - 1)).join(), "trailer"),
        (lies._replace(sizes=(2**32 - 1, *lies.sizes[1:])).join(), "block table"),
        (lies._replace(chunks=(lies.chunks[1], *lies.chunks[1:])).join(), "chunk table"),
        (b"", "0 bytes"),
        (noise(5000), "begin as a pack"),
    ):
        hasher = pack_hasher()
        hasher.update(data)
        with pytest.raises(CorruptionError, match=why):
            receive(store, f"{hasher.digest().hex()}-{'0' * 16}", data)
    assert not list(store.pack_files())


@pytest.mark.parametrize("name", ["", "../../etc/passwd", "a" * 64, "A" * 64 + "-" + "0" * 16])
def test_a_name_that_is_none_is_refused(store, elsewhere, name):
    with pytest.raises(FormatError, match="is not the name of a pack"):
        receive(store, name, elsewhere[1])


def test_many_threads_receive_the_same_packs(store, tmp_path, leftovers):
    made = {}
    for number in range(6):
        sealed, path = write_pack(
            tmp_path / "elsewhere", [raw(b"chunk %d" % number)], nonce=bytes([number] * 8)
        )
        made[sealed.name] = path.read_bytes()
    barrier = threading.Barrier(8)

    def work(_):
        barrier.wait()
        return [receive(store, name, data) for name, data in made.items()]

    with ThreadPoolExecutor(8) as pool:
        results = list(pool.map(work, range(8)))
    assert all(result == results[0] for result in results)
    assert {path.stem: path.read_bytes() for path in store.pack_files()} == made
    assert not leftovers()


def test_a_full_disk_leaves_nothing(store, elsewhere, monkeypatch, leftovers):
    def fail(self, parts):
        self.discard()
        raise StorageError("cannot write", where="") from OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(DurableFile, "write", fail)
    with pytest.raises(StorageError, match="cannot write"):
        receive(store, *[elsewhere[0].name, elsewhere[1]])
    assert not list(store.pack_files())
    assert not leftovers()


def test_a_place_that_cannot_be_looked_at(store, elsewhere):
    (store.packs / elsewhere[0].name[:2]).write_bytes(b"a file where a directory should be")
    with pytest.raises(StorageError, match="cannot look at"):
        receive(store, elsewhere[0].name, elsewhere[1])


# -- blocks ---------------------------------------------------------------------------------------


def test_blocks_come_back_as_their_members(store, collector, tmp_path):
    members = {}
    for data in blocks(tmp_path, small_blocks()):
        members |= dict(collector.add(Kind.DATA, data))
    assert members == CONTENTS
    assert {digest: collector.get(digest) for digest in CONTENTS} == CONTENTS
    assert store.missing(CONTENTS) == list(CONTENTS)
    collector.flush()
    assert dict(store.read_chunks(CONTENTS)) == CONTENTS
    assert [collector.get(digest) for digest in CONTENTS] == [None] * len(CONTENTS)


def test_blocks_are_kept_unchanged(store, collector, tmp_path):
    fetched = blocks(tmp_path, small_blocks())
    for data in fetched:
        collector.add(Kind.DATA, data)
    collector.flush()
    (path,) = store.pack_files()
    end = read_footer(path).blocks[-1]
    assert path.read_bytes()[16 : end.payload + end.stored] == b"".join(fetched)


def test_nodes_and_chunks_go_to_packs_of_their_own(store, collector, tmp_path):
    (data,) = blocks(tmp_path, [packed(b"same", b"other")])
    chunks = collector.add(Kind.DATA, data)
    nodes = collector.add(Kind.META, data)
    assert not {digest for digest, _ in chunks} & {digest for digest, _ in nodes}
    collector.flush()
    assert len(packs_of(store, Kind.DATA)) == len(packs_of(store, Kind.META)) == 1
    assert store.read_nodes([nodes[0][0]]) == [b"same"]


def test_what_is_stored_is_not_kept_again(store, collector, tmp_path):
    put(store, [b"a", b"b"])
    fetched = blocks(tmp_path, [raw(b"a", b"b"), raw(b"b", b"c"), raw(b"c", b"a")])
    for data in fetched * 2:
        assert len(collector.add(Kind.DATA, data)) == 2
    collector.flush()
    assert [block.row.members for block in blocks_of(store)].count(2) == 2
    collector.flush()
    assert len(list(store.pack_files())) == 2


def test_nothing_added_makes_no_pack(store, collector):
    collector.flush()
    collector.discard()
    assert not list(store.pack_files())
    assert collector.get(chunk_digest(b"a")) is None


def test_what_is_discarded_leaves_nothing(store, collector, tmp_path, leftovers):
    (data,) = blocks(tmp_path, [raw(b"a")])
    collector.add(Kind.DATA, data)
    assert leftovers()
    collector.discard()
    assert not leftovers()
    assert collector.get(chunk_digest(b"a")) is None
    collector.flush()
    assert not list(store.pack_files())
    collector.add(Kind.DATA, data)
    collector.flush()
    assert store.get_chunk(chunk_digest(b"a")) == b"a"


def test_packs_are_sealed_at_their_size(store, collector, tmp_path, monkeypatch):
    monkeypatch.setattr(received, "_TARGETS", {Kind.DATA: 10_000, Kind.META: 3_000})
    chunks = [noise(4000, str(number)) for number in range(10)]
    for kind, expected in ((Kind.DATA, 3), (Kind.META, 10)):
        for data in blocks(tmp_path, [raw(chunk) for chunk in chunks], kind):
            ((digest, member),) = collector.add(kind, data)
            held = collector.get(digest)
            found = store.missing([digest])
            assert (held, found) in ((member, [digest]), (None, []))
        assert len(packs_of(store, kind)) == expected
    collector.flush()
    assert len(packs_of(store, Kind.DATA)) == 4
    assert sorted(data for _, data in store.read_chunks(map(chunk_digest, chunks))) == sorted(
        chunks
    )


def test_a_pack_stays_below_the_largest_size(store, collector, tmp_path, monkeypatch):
    monkeypatch.setattr("datastore.objects.pack.MAX_SIZE", 10_000)
    for data in blocks(tmp_path, [raw(noise(4000, str(number))) for number in range(5)]):
        collector.add(Kind.DATA, data)
    collector.flush()
    assert [path.stat().st_size < 10_000 for path in store.pack_files()] == [True] * 3


def test_a_pack_that_cannot_be_sealed(store, collector, tmp_path, monkeypatch, leftovers):
    (data,) = blocks(tmp_path, [raw(b"a")])
    collector.add(Kind.DATA, data)

    def fail(self, target):
        raise StorageError("cannot write", where="")

    monkeypatch.setattr(DurableFile, "publish", fail)
    with pytest.raises(StorageError, match="cannot write"):
        collector.flush()
    assert not leftovers()
    assert collector.get(chunk_digest(b"a")) is None


# -- hostile blocks -------------------------------------------------------------------------------


def block_of(sizes, payload, codec=Codec.RAW, raw_size=None, stored=None):
    """A block of which the check is right and the rest is as it is told to be."""
    table = struct.pack(f"<{len(sizes)}I", *sizes)
    total = sum(sizes) if raw_size is None else raw_size
    stored = len(payload) if stored is None else stored
    check = block_check(codec, len(sizes), total, stored, table, (payload,))
    return BLOCK.pack(BLOCK_MAGIC, codec, len(sizes), total, stored, check) + table + payload


def test_a_block_made_by_hand_is_taken(collector):
    assert collector.add(Kind.DATA, block_of((1, 2), b"abc")) == [
        (chunk_digest(b"a"), b"a"),
        (chunk_digest(b"bc"), b"bc"),
    ]


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"DSB1",
        block_of((3,), b"abc")[:-1],
        block_of((3,), b"abc") + b"\x00",
        block_of((3,), b"abc") * 2,
        block_of((), b""),
        block_of((4,), b"abc"),
        block_of((2,), b"abc"),
        block_of((3,), b"abc", raw_size=4),
        block_of((2**32 - 1,), b"abc", stored=3, raw_size=2**32 - 1),
        block_of((MAX_RAW_SIZE + 1,), b"abc", Codec.ZSTD),
        block_of((1,) * (MAX_BLOCK_CHUNKS + 1), b"a" * (MAX_BLOCK_CHUNKS + 1)),
        block_of((100,), b"no frame of zstd", Codec.ZSTD),
    ],
    ids=range(13),
)
def test_a_block_that_is_none_is_refused(store, collector, data):
    with pytest.raises(CorruptionError):
        collector.add(Kind.DATA, data, where="ab-cd")
    collector.flush()
    assert not list(store.pack_files())


def test_every_flipped_bit_is_found(collector):
    sound = block_of((5, 3), b"abcdefgh")
    for at in range(len(sound)):
        for bit in range(8):
            data = bytearray(sound)
            data[at] ^= 1 << bit
            with pytest.raises((CorruptionError, FormatError)):
                collector.add(Kind.DATA, bytes(data))


def test_the_error_names_the_pack(collector):
    with pytest.raises(CorruptionError, match="a block of pack ab-cd did not arrive"):
        collector.add(Kind.DATA, b"", where="ab-cd")
    with pytest.raises(CorruptionError, match="a block did not arrive"):
        collector.add(Kind.DATA, b"")


@pytest.mark.parametrize("codec", [Codec.BYTE_PLANES, Codec.DELTA, 9])
def test_a_block_of_a_newer_version_is_refused(store, collector, codec):
    with pytest.raises(FormatError, match="uses codec"):
        collector.add(Kind.DATA, block_of((3,), b"abc", codec))
    collector.flush()
    assert not list(store.pack_files())


def test_text_compresses_as_it_came(store, collector, tmp_path):
    (data,) = blocks(tmp_path, [packed(text(20_000))])
    assert len(data) < 15_000
    collector.add(Kind.DATA, data)
    collector.flush()
    assert store.get_chunk(chunk_digest(text(20_000))) == text(20_000)
    assert next(store.pack_files()).stat().st_size < len(data) + 200
