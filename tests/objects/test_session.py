"""What is put is there after the commit, and not before; and a disk that fails is heard of."""

from __future__ import annotations

import errno
import os
import threading
import time

import pytest

from datastore.errors import NotFoundError, StorageError, UsageError
from datastore.kernel.hashing import chunk_digest, node_digest
from datastore.objects import packer, session
from datastore.objects.codec import Codec
from datastore.objects.index import Index
from datastore.objects.pack import MAX_BLOCK_CHUNKS, MAX_RAW_SIZE, Kind
from datastore.objects.session import BLOCK_TARGET
from datastore.objects.store import ObjectStore
from tests.kernel.samples import noise, text
from tests.objects.stores import blocks_of, labels, packs_of, put

JPEG = b"\xff\xd8\xff\xe0"


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = threading.active_count()
    yield
    assert threading.active_count() == before


@pytest.fixture
def small_packs(monkeypatch):
    """Packs of a few kilobytes, so that a session seals many."""
    monkeypatch.setattr(packer, "_TARGETS", {Kind.DATA: 10_000, Kind.META: 3_000})
    monkeypatch.setattr(session, "BLOCK_TARGET", 3_000)


def wait_for_a_pack(opened):
    """Waits for the thread that packs."""
    for _ in range(2000):
        if opened._packer.indexed:
            return
        time.sleep(0.01)
    pytest.fail("no pack was sealed")


# -- commit and abort -----------------------------------------------------------------------------


def test_what_is_put_is_there_after_the_commit_and_not_before(store):
    with store.session() as session:
        chunk, node = session.put_chunk(b"a chunk"), session.put_node(b"a node")
        assert not store.has(chunk)
        assert not store.has(node)
        assert packs_of(store) == []
        session.commit()
    assert (chunk, node) == (chunk_digest(b"a chunk"), node_digest(b"a node"))
    assert store.get_chunk(chunk) == b"a chunk"
    assert store.read_nodes([node]) == [b"a node"]


def test_another_store_on_the_same_directory_sees_it(store, directory):
    with ObjectStore(directory) as other:
        (digest,) = put(store, [b"a chunk"])
        assert other.get_chunk(digest) == b"a chunk"


def test_without_a_commit_nothing_stays(store, leftovers):
    with store.session() as session:
        digest = session.put_chunk(noise(100_000))
        session.put_node(b"a node")
    assert packs_of(store) == leftovers() == []
    with pytest.raises(NotFoundError):
        store.get_chunk(digest)


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_an_error_in_the_block_aborts_and_goes_on_up(store, leftovers, error):
    with pytest.raises(error), store.session() as session:  # noqa: PT012
        for number in range(200):
            session.put_chunk(noise(50_000, str(number)))
        raise error
    assert packs_of(store) == leftovers() == []


def test_packs_that_were_sealed_before_an_abort_stay_and_are_found_again(
    store, small_packs, leftovers
):
    chunks = [noise(9000, str(number)) for number in range(80)]
    with store.session() as session:
        for chunk in chunks:
            session.put_chunk(chunk)
        wait_for_a_pack(session)
    sealed = [chunk for chunk in chunks if store.has(chunk_digest(chunk))]
    assert 0 < len(sealed) <= len(chunks)
    assert all(store.get_chunk(chunk_digest(chunk)) == chunk for chunk in sealed)
    assert leftovers() == []
    with store.session() as session:
        for chunk in chunks:
            session.put_chunk(chunk)
        session.commit()
        assert session.account.new_chunks == len(chunks) - len(sealed)


def test_an_empty_session_writes_nothing(store):
    with store.session() as session:
        session.commit()
    assert packs_of(store) == []


def test_a_session_commits_once(store):
    with store.session() as session:
        session.put_chunk(b"a")
        session.commit()
        with pytest.raises(UsageError, match="the session is over"):
            session.put_chunk(JPEG)
        with pytest.raises(UsageError, match="the session is over"):
            session.put_node(b"node")
        with pytest.raises(UsageError, match="the session is over"):
            session.commit()
    with store.session() as session:
        pass
    with pytest.raises(UsageError, match="the session is over"):
        session.commit()


def test_sessions_follow_one_another(store):
    for number in range(5):
        put(store, [b"chunk %d" % number])
    assert len(packs_of(store)) == 5
    assert all(store.has(chunk_digest(b"chunk %d" % number)) for number in range(5))


# -- deduplication --------------------------------------------------------------------------------


def test_equal_chunks_are_stored_once_in_a_session(store):
    with store.session() as session:
        digests = {session.put_chunk(text(5000)) for _ in range(10)}
        session.commit()
    assert len(digests) == 1
    assert [block.sizes for block in blocks_of(store)] == [(5000,)]


def test_equal_chunks_are_stored_once_across_sessions(store, directory):
    put(store, [text(5000)], [b"node"])
    put(store, [text(5000)], [b"node"])
    with ObjectStore(directory) as other:
        put(other, [text(5000)], [b"node"])
    assert len(packs_of(store)) == 2  # one of chunks, one of nodes


def test_equal_bytes_as_chunk_and_as_node_are_two_things(store):
    chunk, node = put(store, [b"the same"], [b"the same"])
    assert chunk != node
    assert [len(packs_of(store, kind)) for kind in Kind] == [1, 1]


def test_a_session_sees_what_another_committed_meanwhile(store, directory, monkeypatch):
    monkeypatch.setattr(session, "_LOOKUPS_PER_TRANSACTION", 1)
    with store.session() as slow:
        slow.put_chunk(b"1")
        with ObjectStore(directory) as other:
            put(other, [b"2"])
        slow.put_chunk(b"3")
        slow.put_chunk(b"2")
        slow.commit()
        assert slow.account.new_chunks == 2


def test_digests_leave_the_memory_of_a_session_once_they_are_indexed(
    store, small_packs, monkeypatch
):
    monkeypatch.setattr(session, "_LOOKUPS_PER_TRANSACTION", 4)
    chunks = [noise(9000, str(number)) for number in range(120)]
    with store.session() as opened:
        for chunk in chunks:
            opened.put_chunk(chunk)
        wait_for_a_pack(opened)
        opened.put_chunk(b"another")
        for chunk in chunks:
            opened.put_chunk(chunk)
        assert len(opened._pending) < len(chunks)
        opened.commit()
        assert opened.account.chunks == 241
        assert opened.account.new_chunks == 121
    assert sum(len(block.sizes) for block in blocks_of(store)) == 121


# -- accounts -------------------------------------------------------------------------------------


def test_an_account_tells_what_a_part_of_a_session_cost(store):
    put(store, [text(4000)])
    with store.session() as session:
        first = session.begin_account()
        session.put_chunk(text(4000))
        session.put_chunk(noise(3000))
        session.put_chunk(noise(3000))
        second = session.begin_account()
        session.put_chunk(text(9000))
        session.put_node(b"a node")
        session.commit()
    assert (first.chunks, first.new_chunks, first.new_bytes) == (3, 1, 3000)
    assert first.stored_bytes == 3000
    assert (second.chunks, second.new_chunks, second.new_bytes) == (1, 1, 9000)
    assert 6 < second.stored_bytes < 9000


# -- blocks ---------------------------------------------------------------------------------------


def test_small_chunks_share_a_block(store):
    chunks = labels(0, 20_000)
    put(store, chunks)
    blocks = blocks_of(store)
    assert all(block.row.codec == Codec.ZSTD for block in blocks)
    assert all(len(block.sizes) <= MAX_BLOCK_CHUNKS for block in blocks)
    assert all(block.row.raw <= BLOCK_TARGET for block in blocks)
    assert len(blocks) < 20
    assert dict(store.read_chunks(map(chunk_digest, chunks))) == {
        chunk_digest(chunk): chunk for chunk in chunks
    }


def test_a_block_has_a_limited_number_of_chunks(store):
    chunks = [b"%d" % number for number in range(MAX_BLOCK_CHUNKS + 1)]
    put(store, chunks, [b"node %d" % number for number in range(MAX_BLOCK_CHUNKS + 1)])
    assert sorted(len(block.sizes) for block in blocks_of(store)) == [
        1,
        1,
        MAX_BLOCK_CHUNKS,
        MAX_BLOCK_CHUNKS,
    ]


def test_a_large_chunk_has_a_block_of_its_own(store):
    sizes = [BLOCK_TARGET, BLOCK_TARGET + 1, 1, BLOCK_TARGET]
    put(store, [noise(size, str(number)) for number, size in enumerate(sizes)])
    assert [block.row.raw for block in blocks_of(store)] == sizes


def test_pictures_are_stored_as_they_are_and_apart_from_text(store):
    pictures = [JPEG + b"picture %d" % number + bytes(500) for number in range(20)]
    notes = labels(0, 20)
    put(store, [each for pair in zip(pictures, notes, strict=True) for each in pair])
    compressed, stored = sorted(blocks_of(store), key=lambda block: -block.row.codec)
    assert (compressed.row.codec, stored.row.codec) == (Codec.ZSTD, Codec.RAW)
    assert stored.payload == b"".join(pictures)


def test_an_empty_chunk_is_a_chunk(store):
    (digest,) = put(store, [b""])
    assert store.get_chunk(digest) == b""


@pytest.mark.parametrize("wrap", [bytes, memoryview])
def test_bytes_may_be_lent(store, wrap):
    data = noise(1000)
    assert store.get_chunk(*put(store, [wrap(data)])) == data


@pytest.mark.parametrize("method", ["put_chunk", "put_node"])
def test_a_chunk_that_is_too_large_is_refused_and_not_taken_for_stored(store, method):
    huge = bytes(MAX_RAW_SIZE + 1)
    with store.session() as session:
        put_one = getattr(session, method)
        for _ in range(2):
            with pytest.raises(UsageError, match="larger than the format allows"):
                put_one(huge)
        fine = put_one(huge[:-1])
        session.commit()
    assert store.has(fine)
    assert not store.has(chunk_digest(huge))
    assert not store.has(node_digest(huge))


# -- packs ----------------------------------------------------------------------------------------


def test_a_full_pack_is_sealed_and_the_next_begun(store, small_packs):
    chunks = [noise(3000, str(number)) for number in range(40)]
    put(store, chunks, [noise(1000, f"node {number}") for number in range(20)])
    assert len(packs_of(store, Kind.DATA)) > 8
    assert len(packs_of(store, Kind.META)) > 3
    assert all(store.get_chunk(chunk_digest(chunk)) == chunk for chunk in chunks)


def test_a_pack_does_not_grow_over_its_cap(store, monkeypatch):
    monkeypatch.setattr("datastore.objects.pack.MAX_SIZE", 500_000)
    monkeypatch.setattr(session, "BLOCK_TARGET", 1000)
    sizes = [300_000, 150_000, 300_000, 10_000, 400_000]
    put(store, [JPEG + noise(size, str(number)) for number, size in enumerate(sizes)])
    assert all(path.stat().st_size <= 500_000 for path in store.pack_files())
    assert len(packs_of(store)) == 3


def test_blocks_wait_for_a_slow_disk(store, monkeypatch):
    monkeypatch.setattr(packer, "_QUEUED_BLOCKS", 1)
    chunks = [noise(BLOCK_TARGET, str(number)) for number in range(12)]
    put(store, chunks)
    assert [block.payload for block in blocks_of(store)] == chunks


def test_one_thread_compresses_as_well(store):
    with store.session(threads=1) as session:
        digest = session.put_chunk(text(100_000))
        session.commit()
    assert store.get_chunk(digest) == text(100_000)


# -- failures -------------------------------------------------------------------------------------


class FailingCall:
    """A function of the system that fails from a given call on."""

    def __init__(self, monkeypatch, name, first, number=errno.ENOSPC):
        self.calls = 0
        self._first = first
        self._number = number
        self._real = getattr(os, name)
        monkeypatch.setattr(os, name, self)

    def __call__(self, *args, **kwargs):
        self.calls += 1
        if self.calls >= self._first:
            raise OSError(self._number, os.strerror(self._number))
        return self._real(*args, **kwargs)


def fill(store):
    with store.session() as opened:
        for number in range(30):
            opened.put_chunk(noise(3000, str(number)))
            opened.put_node(noise(300, f"node {number}"))
        opened.commit()


@pytest.mark.parametrize("first", [1, 2, 3, 5, 9])
@pytest.mark.parametrize("call", ["writev", "fsync", "replace"])
def test_a_full_disk_is_an_error_for_the_caller_and_the_store_stays_usable(
    store, small_packs, monkeypatch, leftovers, call, first
):
    (before,) = put(store, [b"before"])
    with monkeypatch.context() as patch:
        patch.setattr(session, "BLOCK_TARGET", 5000)
        failing = FailingCall(patch, call, first)
        with pytest.raises(StorageError, match="No space left"):
            fill(store)
        assert failing.calls >= first
    assert leftovers() == []
    assert store.get_chunk(before) == b"before"
    fill(store)
    chunks = [noise(3000, str(number)) for number in range(30)]
    assert all(store.get_chunk(chunk_digest(chunk)) == chunk for chunk in chunks)


def test_a_disk_that_fails_is_heard_of_before_the_commit(store, monkeypatch):
    """Nobody wants to read a terabyte first."""
    monkeypatch.setattr(session, "BLOCK_TARGET", 5000)
    with monkeypatch.context() as patch, store.session() as opened:
        FailingCall(patch, "writev", 1, errno.EIO)
        with pytest.raises(StorageError, match="Input/output error"):  # noqa: PT012
            for number in range(100_000):
                opened.put_chunk(noise(3000, str(number)))
        with pytest.raises(StorageError, match="Input/output error"):
            opened.commit()
    assert packs_of(store) == []


def test_a_fault_in_a_compressing_thread_reaches_the_caller(store, monkeypatch, leftovers):
    def fail(parts, raw):
        raise MemoryError("no memory to compress")

    with monkeypatch.context() as patch:
        patch.setattr(packer, "encode", fail)
        with pytest.raises(MemoryError, match="no memory to compress"):
            put(store, [text(5000)])
    assert leftovers() == packs_of(store) == []
    put(store, [text(5000)])


def test_a_pack_that_did_not_reach_the_index_is_found_by_the_next_session(store, monkeypatch):
    """As when the program is killed between the two."""

    def fail(self, sealed):
        raise StorageError("the index is on fire")

    with monkeypatch.context() as patch:
        patch.setattr(Index, "add_pack", fail)
        with pytest.raises(StorageError, match="on fire"):
            put(store, [text(5000)])
    assert len(packs_of(store)) == 1
    assert not store.has(chunk_digest(text(5000)))
    with store.session() as opened:
        opened.put_chunk(text(5000))
        opened.commit()
        assert opened.account.new_chunks == 0
    assert len(packs_of(store)) == 1


def test_a_damaged_index_is_a_storage_error_in_the_session_too(store):
    with store.session() as opened:
        opened.put_chunk(b"a")
        store.index.clear()  # closes the transaction that the session reads from
        with pytest.raises(StorageError, match=r"the index in .* failed"):
            opened.put_chunk(b"b")
