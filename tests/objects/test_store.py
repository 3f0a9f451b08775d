"""The store gives back what was put into it, or says that it cannot: never a wrong byte."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import xxhash

from datastore.errors import CorruptionError, DatastoreError, NotFoundError, StorageError
from datastore.kernel.hashing import chunk_digest, format_digest, node_digest
from datastore.objects import blockreader
from datastore.objects import store as store_module
from datastore.objects.index import _CHUNK
from datastore.objects.pack import MAX_RAW_SIZE, TRAILER, Kind
from datastore.objects.packreader import read_footer
from datastore.objects.store import ObjectStore
from datastore.storage.local import TEMPORARY_PREFIX
from tests.kernel.samples import noise, text
from tests.objects.forks import in_child
from tests.objects.packs import packed, raw, write_pack
from tests.objects.stores import labels, packs_of, put

ROOT = Path(__file__).parents[2]


def pack_path_of(store, digest):
    (path,) = (path for path in store.pack_files() if path.name == store.pack_of(digest))
    return path


def flip(path, at, bit=0):
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ 1 << bit]))


# -- reading --------------------------------------------------------------------------------------


def test_a_new_store_is_empty(store, directory):
    assert sorted(path.name for path in directory.iterdir()) == ["index", "packs", "tmp"]
    assert list(store.pack_files()) == []
    assert store.missing([chunk_digest(b"a")]) == [chunk_digest(b"a")]
    assert store.read_nodes([]) == []
    assert list(store.read_chunks([])) == []


def test_chunks_are_read_in_the_order_of_the_blocks(store):
    """So that each block is read and decoded once, and the disk is read in one direction."""
    chunks = [noise(200_000, "a"), *labels(0, 100), noise(250_000, "b"), noise(200_000, "c")]
    digests = put(store, chunks)
    read = list(store.read_chunks(reversed(digests)))
    assert dict(read) == dict(zip(digests, chunks, strict=True))
    places = dict(read_footer(next(store.pack_files())).chunks)
    offsets = [places[digest].offset for digest, _ in read]
    assert offsets == sorted(offsets)
    assert len(set(offsets)) == 3


def test_a_chunk_that_is_asked_for_twice_is_read_once(store):
    (digest,) = put(store, [b"a"])
    assert list(store.read_chunks([digest, digest])) == [(digest, b"a")]


def test_more_chunks_than_fit_a_batch(store, monkeypatch):
    monkeypatch.setattr(store_module, "_READ_BATCH", 7)
    chunks = labels(0, 100)
    digests = put(store, chunks)
    assert [data for _, data in store.read_chunks(digests)] == chunks
    assert [data for _, data in store.read_chunks(iter(digests[:14]))] == chunks[:14]


def test_nodes_are_read_in_the_order_asked_for(store):
    nodes = [b"node %d" % number for number in range(50)]
    digests = put(store, [], nodes)
    wanted = [3, 1, 4, 1, 5, 49, 0, 3]
    assert store.read_nodes([digests[at] for at in wanted]) == [nodes[at] for at in wanted]


def test_a_block_is_read_once_for_all_its_chunks(store, monkeypatch):
    digests = put(store, labels(0, 500))
    reads = []
    monkeypatch.setattr(
        store_module.os, "pread", lambda *args, real=os.pread: reads.append(args) or real(*args)
    )
    assert len(list(store.read_chunks(digests))) == 500
    assert len(reads) == 1


def test_of_a_raw_block_only_what_is_wanted_is_read(store, monkeypatch):
    pictures = [b"\xff\xd8\xff" + noise(2000, str(number)) for number in range(20)]
    digests = put(store, pictures)
    sizes = []
    monkeypatch.setattr(
        store_module.os,
        "pread",
        lambda file, size, at, real=os.pread: sizes.append(size) or real(file, size, at),
    )
    assert store.get_chunk(digests[7]) == pictures[7]
    assert dict(store.read_chunks([digests[3], digests[5]]))[digests[5]] == pictures[5]
    assert sizes == [2003, 3 * 2003]


def test_what_is_not_stored_is_not_found(store):
    (known,) = put(store, [b"a"])
    gone = [chunk_digest(b"b"), chunk_digest(b"c")]
    with pytest.raises(NotFoundError, match=f"{format_digest(gone[0])} is not in the store") as one:
        store.get_chunk(gone[0])
    assert one.value.where == str(store.directory)
    with pytest.raises(NotFoundError, match="and 1 more"):
        list(store.read_chunks([known, *gone]))
    with pytest.raises(NotFoundError):
        store.read_nodes([chunk_digest(b"b")])
    assert not store.has(gone[0])
    assert store.missing([gone[1], known, gone[0]]) == [gone[1], gone[0]]
    assert store.pack_of(gone[0]) == ""
    found, *none = store.places([known, *gone])
    assert none == [None, None]
    assert found.location.size == 1


def test_a_chunk_is_no_node_and_a_node_no_chunk(store):
    chunk, node = put(store, [b"the same"], [b"the same"])
    with pytest.raises(NotFoundError, match="is a chunk, but is to be a tree node"):
        store.read_nodes([chunk])
    with pytest.raises(NotFoundError, match="is a tree node, but is to be a chunk"):
        store.get_chunk(node)


# Two pairs of inputs with the same XXH3-128, as a store that names by it would lose one of.
_TAIL = (
    "afc735f82fcd9dff30e9ba5f471d78acc8d2012b7075075be1c940ec82f60f7e"
    "56e88a2252e62b130ea7aa42e6da8ab8"
)
COLLISIONS = [
    ("8949a72b7e5aef1076b658d481a510ef", "76b658d481a510ef8949a72b7e5aef10"),
    ("b4829e625285df114b7d619dad7a20ee", "4b7d619dad7a20eeb4829e625285df11"),
]


@pytest.mark.parametrize("heads", COLLISIONS)
@pytest.mark.parametrize("sessions", [1, 2])
def test_inputs_with_the_same_xxh3_are_stored_side_by_side(store, heads, sessions):
    first, second = (bytes.fromhex(head + _TAIL) for head in heads)
    assert first != second
    assert xxhash.xxh3_128_digest(first) == xxhash.xxh3_128_digest(second)
    if sessions == 1:
        digests = put(store, [first, second])
    else:
        digests = put(store, [first]) + put(store, [second])
    assert digests[0] != digests[1]
    assert [store.get_chunk(digest) for digest in digests] == [first, second]


def test_few_packs_are_open_at_once(store, monkeypatch):
    monkeypatch.setattr(blockreader, "OPEN_PACKS", 2)
    chunks = [b"chunk %d" % number for number in range(6)]
    digests = [digest for chunk in chunks for digest in put(store, [chunk])]
    for _ in range(2):
        assert [store.get_chunk(digest) for digest in digests] == chunks
        assert len(store._blocks._files) == 2
    files = list(store._blocks._files.values())
    store.close()
    for descriptor in files:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(descriptor)


# -- the index is a cache -------------------------------------------------------------------------


@pytest.fixture
def filled(store):
    chunks = [*labels(0, 300), noise(5000), b"\xff\xd8\xff" + noise(100)]
    nodes = [b"node %d" % number for number in range(20)]
    digests = put(store, chunks[:150]) + put(store, chunks[150:]) + put(store, [], nodes)
    store.close()
    return dict(zip(digests, chunks + nodes, strict=True))


def holds(store, contents):
    for digest, data in contents.items():
        if digest == node_digest(data):
            assert store.read_nodes([digest]) == [data]
        else:
            assert store.get_chunk(digest) == data


def ruin_nothing(index):
    pass


def ruin_by_deleting(index):
    shutil.rmtree(index)


def ruin_by_truncating(index):
    os.truncate(index / "data.mdb", (index / "data.mdb").stat().st_size // 2)


def ruin_by_writing_garbage(index):
    (index / "data.mdb").write_bytes(noise(50_000))


def ruin_by_emptying(index):
    (index / "data.mdb").write_bytes(b"")


RUINS = [
    ruin_nothing,
    ruin_by_deleting,
    ruin_by_truncating,
    ruin_by_writing_garbage,
    ruin_by_emptying,
]


@pytest.mark.parametrize("ruin", RUINS)
def test_a_store_works_whatever_became_of_its_index(filled, directory, ruin):
    ruin(directory / "index")
    with ObjectStore(directory) as store:
        assert store.index.created == (ruin is not ruin_nothing)
        holds(store, filled)
        (more,) = put(store, [b"more"])
        assert store.get_chunk(more) == b"more"
        assert len(packs_of(store)) == 4


def test_the_index_may_lie_elsewhere(directory, tmp_path):
    with ObjectStore(directory, index_directory=tmp_path / "fast") as store:
        (digest,) = put(store, [b"a"])
    assert not (directory / "index").exists()
    shutil.rmtree(tmp_path / "fast")
    with ObjectStore(directory, index_directory=tmp_path / "fast") as store:
        assert store.get_chunk(digest) == b"a"


def test_a_cleared_index_is_filled_again(filled, directory):
    with ObjectStore(directory) as store:
        store.clear_index()
        assert store.index.counts()["chunks"] == 0
        rebuilt = store.refresh()
        assert (rebuilt.packs, rebuilt.chunks, rebuilt.damaged) == (3, len(filled), ())
        assert store.refresh().packs == 0
        holds(store, filled)


def test_another_store_in_the_process_is_not_confused_by_a_new_index(filled, directory):
    """The numbers of packs in the old index do not mean other packs in the new one."""
    with ObjectStore(directory) as first, ObjectStore(directory) as second:
        holds(first, filled)
        put(second, [b"x"])
        second.clear_index()
        second.refresh()
        holds(first, filled)
        holds(second, filled)


def test_an_index_that_misses_a_pack_learns_of_it_as_it_is_asked(store, tmp_path):
    """A pack that was copied into the store, or sealed by somebody who was then killed."""
    with ObjectStore(tmp_path / "other") as other:
        (digest,) = put(other, [text(3000)])
        (source,) = other.pack_files()
        target = store.packs / source.parent.name / source.name
        target.parent.mkdir()
        shutil.copy(source, target)
    assert not store.has(digest)
    assert store.get_chunk(digest) == text(3000)
    assert store.has(digest)


def test_other_files_among_the_packs_do_no_harm(store):
    place = store.packs / "ab"
    place.mkdir()
    (place / "notes.txt").write_text("hello", encoding="utf-8")
    (place / "notes.pack").write_text("hello", encoding="utf-8")
    (store.packs / "a file").write_text("hello", encoding="utf-8")
    assert store.refresh() == (0, 0, ("notes.pack",))
    (digest,) = put(store, [b"a"])
    assert store.get_chunk(digest) == b"a"


def lying_row(store, digest, **lies):
    """Changes one field of what the index says of a chunk."""
    environment = store.index._opened()
    with environment.env.begin(write=True, db=environment.chunks) as transaction:
        names = ("pack", "offset", "stored", "raw", "within", "size", "codec")
        row = dict(zip(names, _CHUNK.unpack(transaction.get(digest)), strict=True)) | lies
        transaction.put(digest, _CHUNK.pack(*row.values()))


BIG = 2**32 - 1


@pytest.mark.parametrize("codec", ["raw", "zstd"])
@pytest.mark.parametrize(
    "lies",
    [
        {"pack": BIG},
        {"offset": 0},
        {"offset": 1},
        {"offset": BIG},
        {"stored": 0},
        {"stored": 1},
        {"stored": BIG},
        {"raw": 0},
        {"raw": 1},
        {"raw": MAX_RAW_SIZE},
        {"raw": MAX_RAW_SIZE + 1},
        {"raw": BIG},
        {"within": 1},
        {"within": BIG},
        {"size": 0},
        {"size": 2999},
        {"size": 3001},
        {"size": BIG},
        {"size": BIG, "within": BIG, "raw": BIG, "stored": BIG},
        {"codec": 2},
        {"codec": 255},
    ],
    ids=str,
)
def test_an_index_that_lies_is_found_out(store, codec, lies):
    data = noise(3000) if codec == "raw" else text(3000)
    (digest,) = put(store, [data])
    store.get_chunk(digest)
    lying_row(store, digest, **lies)
    try:
        assert store.get_chunk(digest) == data  # a raw chunk needs less to be found
    except DatastoreError:
        store.clear_index()
        store.refresh()
    assert store.get_chunk(digest) == data


# -- packs that go ---------------------------------------------------------------------------------


def test_a_pack_that_is_gone_is_not_taken_for_stored(store):
    first, second = put(store, [text(3000)]) + put(store, [b"kept"])
    pack_path_of(store, first).unlink()
    assert store.has(first)  # nobody has looked yet
    store.check_packs()
    assert not store.has(first)
    assert store.get_chunk(second) == b"kept"
    with pytest.raises(NotFoundError, match="is not in the store"):
        store.get_chunk(first)
    with store.session() as session:
        session.put_chunk(text(3000))
        session.commit()
        assert session.account.new_chunks == 1
    assert store.get_chunk(first) == text(3000)


def test_a_session_looks_for_itself(store):
    (digest,) = put(store, [text(3000)])
    pack_path_of(store, digest).unlink()
    put(store, [text(3000)])
    assert store.get_chunk(digest) == text(3000)


def test_a_pack_that_goes_while_it_is_needed(store):
    (digest,) = put(store, [text(3000)])
    path = pack_path_of(store, digest)
    path.unlink()
    with pytest.raises(NotFoundError, match=f"pack {path.name} is gone") as caught:
        store.get_chunk(digest)
    assert "verify" in caught.value.hint


def test_a_pack_that_was_opened_can_still_be_read(store):
    (digest,) = put(store, [text(3000)])
    store.get_chunk(digest)
    pack_path_of(store, digest).unlink()
    assert store.get_chunk(digest) == text(3000)


def test_the_directory_of_a_pack_may_become_a_file(store):
    (digest,) = put(store, [text(3000)])
    path = pack_path_of(store, digest)
    path.unlink()
    path.parent.rmdir()
    path.parent.write_bytes(b"")
    store.check_packs()
    assert not store.has(digest)


def test_what_another_pack_holds_too_is_found_there(store):
    """Two writers at once may store a chunk twice; the index knows one place of it."""
    both, alone = text(3000), b"only here"
    (digest,) = put(store, [both])
    first = pack_path_of(store, digest)
    sealed, second = write_pack(store.packs, [packed(both), raw(alone)])
    assert store.get_chunk(chunk_digest(alone)) == alone
    assert store.pack_of(digest) == first.name
    first.unlink()
    store.close()
    with ObjectStore(store.directory) as again:
        again.check_packs()
        assert again.get_chunk(digest) == both
        assert again.pack_of(digest) == second.name == sealed.name + ".pack"


def test_of_a_truncated_pack_what_is_whole_is_kept(store):
    chunks = [noise(200_000, str(number)) for number in range(3)]
    digests = put(store, chunks)
    path = pack_path_of(store, digests[0])
    os.truncate(path, path.stat().st_size - 200_000)
    store.check_packs()
    assert [store.has(digest) for digest in digests] == [True, True, False]
    store.check_packs()
    assert [store.get_chunk(digest) for digest in digests[:2]] == chunks[:2]
    with store.session() as session:
        for chunk in chunks:
            session.put_chunk(chunk)
        session.commit()
        assert session.account.new_chunks == 1
    assert [store.get_chunk(digest) for digest in digests] == chunks


def test_a_pack_whose_footer_is_lost_is_recovered(filled, directory):
    with ObjectStore(directory) as store:
        for path in store.pack_files():
            offset = TRAILER.unpack(path.read_bytes()[-TRAILER.size :])[0]
            os.truncate(path, offset)
        store.clear_index()
        assert store.refresh()[:2] == (3, len(filled))
        assert len(store.refresh().damaged) == 0
        holds(store, filled)


# -- damage ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [noise(3000), text(3000)], ids=["raw", "zstd"])
def test_a_damaged_chunk_is_named_and_not_returned(store, data):
    digest, other = put(store, [data]) + put(store, [b"sound"])
    path = pack_path_of(store, digest)
    flip(path, read_footer(path).blocks[0].payload + 100)
    with pytest.raises(CorruptionError) as caught:
        store.get_chunk(digest)
    assert path.stem in str(caught.value) or path.stem in caught.value.where
    if data == noise(3000):
        assert caught.value.expected == format_digest(digest)
        assert caught.value.actual not in ("", caught.value.expected)
        assert "verify" in caught.value.hint
    assert store.get_chunk(other) == b"sound"


def test_damage_costs_the_chunks_that_it_hits_alone(store):
    pictures = [b"\xff\xd8\xff" + noise(500, str(number)) for number in range(5)]
    digests = put(store, pictures)
    path = pack_path_of(store, digests[0])
    flip(path, read_footer(path).blocks[0].payload + 2 * 503 + 17)
    for number, digest in enumerate(digests):
        if number == 2:
            with pytest.raises(CorruptionError):
                store.get_chunk(digest)
        else:
            assert store.get_chunk(digest) == pictures[number]


def test_a_pack_that_is_cut_while_it_is_open(store):
    (digest,) = put(store, [noise(3000)])
    store.get_chunk(digest)
    os.truncate(pack_path_of(store, digest), 1000)
    with pytest.raises(CorruptionError, match="is truncated") as caught:
        store.get_chunk(digest)
    assert "verify" in caught.value.hint


def test_a_disk_that_cannot_be_read(store, monkeypatch):
    (digest,) = put(store, [noise(3000)])

    def fail(*args):
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(store_module.os, "pread", fail)
    with pytest.raises(StorageError, match="Input/output error"):
        store.get_chunk(digest)


# -- places that cannot be used --------------------------------------------------------------------


def test_a_store_cannot_be_made_in_a_file(tmp_path):
    (tmp_path / "store").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot make the directory"):
        ObjectStore(tmp_path / "store")


def test_a_store_that_vanished(store):
    shutil.rmtree(store.packs)
    with pytest.raises(StorageError, match="cannot list"):
        store.refresh()


def test_packs_that_cannot_be_looked_at(store, monkeypatch):
    put(store, [b"a"])

    def fail(self, **kwargs):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))

    monkeypatch.setattr(store_module.Path, "stat", fail)
    with pytest.raises(StorageError, match="cannot look at"):
        store.check_packs()


def test_a_pack_is_set_aside_and_not_deleted(store):
    (digest,) = put(store, [text(3000)])
    path = pack_path_of(store, digest)
    data = path.read_bytes()
    store.set_aside(path)
    assert [aside.name for aside in store.set_aside_files()] == [path.name]
    assert store.set_aside_files()[0].read_bytes() == data
    store.check_packs()
    assert not store.has(digest)


def test_a_pack_that_cannot_be_set_aside(store):
    (digest,) = put(store, [text(3000)])
    store.quarantine.write_bytes(b"")
    with pytest.raises(StorageError, match="cannot move"):
        store.set_aside(pack_path_of(store, digest))


# -- several at once ------------------------------------------------------------------------------


def test_leftovers_of_the_dead_are_swept_and_those_of_the_living_kept(store, leftovers):
    dead = store.staging / f"{TEMPORARY_PREFIX}1-0123456789abcdef"
    dead.write_bytes(b"half a pack")
    with store.session() as living:
        living.put_chunk(noise(600_000))
        put(store, [b"a"])  # sweeps
        assert not dead.exists()
        living.put_chunk(b"b")
        living.commit()
    assert leftovers() == []
    assert store.get_chunk(chunk_digest(noise(600_000))) == noise(600_000)


def test_threads_with_stores_of_their_own_write_at_once(directory):
    chunks = [text(1000 + 100 * number) for number in range(60)]
    errors = []

    def work(first):
        try:
            with ObjectStore(directory) as store:
                for start in range(first, 60, 10):
                    put(store, chunks[start : start + 20])
        except BaseException as error:  # noqa: BLE001 - looked at below
            errors.append(error)

    threads = [threading.Thread(target=work, args=(first,)) for first in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    with ObjectStore(directory) as store:
        assert all(store.get_chunk(chunk_digest(chunk)) == chunk for chunk in chunks)


WRITER = """
import sys
from pathlib import Path
from datastore.objects.store import ObjectStore
with ObjectStore(Path(sys.argv[1])) as store:
    for turn in range(4):
        with store.session() as session:
            for number in range(turn * 100, turn * 100 + 200):
                session.put_chunk(b"chunk %d" % number)
            session.put_chunk(b"of %s" % sys.argv[2].encode())
            session.commit()
print("done")
"""


def test_processes_write_at_once(directory):
    """The index does not exist yet: they also make it at once."""
    writers = [
        subprocess.Popen(
            [sys.executable, "-c", WRITER, str(directory), str(number)],
            env={**os.environ, "PYTHONPATH": str(ROOT)},
            stdout=subprocess.PIPE,
            text=True,
        )
        for number in range(3)
    ]
    assert [writer.communicate(timeout=60)[0] for writer in writers] == ["done\n"] * 3
    with ObjectStore(directory) as store:
        expected = [b"chunk %d" % number for number in range(500)]
        expected += [b"of %d" % number for number in range(3)]
        assert all(store.get_chunk(chunk_digest(data)) == data for data in expected)
        store.clear_index()
        assert store.refresh().damaged == ()
        assert all(store.get_chunk(chunk_digest(data)) == data for data in expected)


def test_a_child_reads_and_writes_after_the_parent_opened(store):
    (before,) = put(store, [b"before"])
    assert store.get_chunk(before) == b"before"

    def child():
        assert store.get_chunk(before) == b"before"
        (own,) = put(store, [b"of the child"])
        return store.get_chunk(own)

    assert in_child(child) == b"of the child"
    assert store.get_chunk(chunk_digest(b"of the child")) == b"of the child"
    put(store, [b"after"])
    assert in_child(lambda: store.get_chunk(chunk_digest(b"after"))) == b"after"


def test_a_child_does_not_disturb_a_session_of_its_parent(store):
    with store.session() as session:
        session.put_chunk(b"1")
        in_child(lambda: put(store, [b"of the child"]))
        session.put_chunk(b"2")
        session.commit()
    assert store.missing([chunk_digest(data) for data in (b"1", b"2", b"of the child")]) == []


def test_kinds_of_packs_are_kept_apart(store):
    put(store, [b"chunk"], [b"node"])
    (data,), (meta,) = packs_of(store, Kind.DATA), packs_of(store, Kind.META)
    assert store.pack_of(chunk_digest(b"chunk")) == data
    assert store.pack_of(node_digest(b"node")) == meta
