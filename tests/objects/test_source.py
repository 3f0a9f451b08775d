"""A store that has a source reads what it lacks from there, and believes it no more than a disk."""

from __future__ import annotations

import os

import pytest

from datastore.errors import CorruptionError, NotFoundError, StorageError
from datastore.kernel.hashing import chunk_digest, node_digest
from datastore.objects import store as store_module
from datastore.objects.pack import Kind, pack_path
from datastore.objects.received import BlockCollector, receive_pack
from datastore.objects.store import ObjectStore
from tests.kernel.samples import noise
from tests.objects.packs import raw, write_pack
from tests.objects.stores import labels, put


class Elsewhere:
    """A source; `asked` holds what each call asked for."""

    name = "elsewhere"

    def __init__(self, *chunks, nodes=()):
        self.held = {Kind.DATA: {chunk_digest(chunk): chunk for chunk in chunks}}
        self.held[Kind.META] = {node_digest(node): node for node in nodes}
        self.asked = []

    def fetch(self, digests, kind):
        self.asked.append(list(digests))
        return {each: self.held[kind][each] for each in digests if each in self.held[kind]}


def pack_of(store, digest):
    return pack_path(store.packs, store.pack_of(digest).removesuffix(".pack"))


def flip(path, at):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


# -- what is not stored ---------------------------------------------------------------------------


def test_what_is_lacking_is_asked_for_at_once(store):
    mine, theirs = labels(0, 50), labels(50, 50)
    digests = put(store, mine) + [chunk_digest(each) for each in theirs]
    store.source = Elsewhere(*theirs)
    assert sorted(dict(store.read_chunks(digests)).items()) == sorted(
        zip(digests, mine + theirs, strict=True)
    )
    assert store.source.asked == [digests[50:]]


def test_nodes_keep_their_order(store):
    nodes = [b"node %d" % number for number in range(6)]
    put(store, [], nodes[::2])
    store.source = Elsewhere(nodes=nodes)
    wanted = [nodes[at] for at in (5, 0, 3, 3, 4, 1)]
    assert store.read_nodes(list(map(node_digest, wanted))) == wanted
    assert store.source.asked == [list(map(node_digest, [b"node 5", b"node 3", b"node 1"]))]


def test_each_batch_asks_once(store, monkeypatch):
    monkeypatch.setattr(store_module, "_READ_BATCH", 10)
    chunks = labels(0, 25)
    store.source = Elsewhere(*chunks)
    assert len(dict(store.read_chunks(map(chunk_digest, chunks)))) == 25
    assert list(map(len, store.source.asked)) == [10, 10, 5]


def test_what_is_stored_is_not_asked_for(store):
    digests = put(store, labels(0, 5))
    store.source = Elsewhere()
    assert len(dict(store.read_chunks(digests))) == 5
    assert store.source.asked == []


def test_only_reading_asks(store):
    digest = chunk_digest(b"a")
    store.source = Elsewhere(b"a")
    assert not store.has(digest)
    assert store.missing([digest]) == [digest]
    assert store.places([digest]) == [None]
    assert store.source.asked == []


def test_what_nobody_has_is_not_found(store):
    store.source = Elsewhere(b"a")
    with pytest.raises(NotFoundError, match="is not in the store") as caught:
        list(store.read_chunks([chunk_digest(b"a"), chunk_digest(b"b")]))
    assert "more" not in str(caught.value)


def test_a_source_that_fails_says_so(store):
    class Offline:
        name = "elsewhere"

        def fetch(self, digests, kind):
            raise StorageError("no network", retryable=True)

    store.source = Offline()
    with pytest.raises(StorageError, match="no network"):
        store.get_chunk(chunk_digest(b"a"))


def test_a_source_is_not_believed(store):
    store.source = Elsewhere()
    store.source.held[Kind.DATA][chunk_digest(b"a")] = b"b"
    with pytest.raises(CorruptionError, match="is something else"):
        store.get_chunk(chunk_digest(b"a"))


def test_a_chunk_for_a_node_is_not_believed(store):
    store.source = Elsewhere()
    store.source.held[Kind.META][chunk_digest(b"a")] = b"a"
    with pytest.raises(CorruptionError):
        store.read_nodes([chunk_digest(b"a")])


def test_more_than_was_asked_for_is_passed_over(store):
    class Generous(Elsewhere):
        def fetch(self, digests, kind):
            return dict(self.held[kind])

    store.source = Generous(b"a", b"b")
    assert list(store.read_chunks([chunk_digest(b"a")])) == [(chunk_digest(b"a"), b"a")]


def test_packs_that_another_process_left_are_looked_at_first(store, directory):
    _, path = write_pack(directory / "packs", [raw(b"a")])
    store.source = Elsewhere(b"a")
    assert path.exists()
    assert store.get_chunk(chunk_digest(b"a")) == b"a"
    assert store.source.asked == []


def test_the_packs_are_not_listed_for_every_batch(store, directory, monkeypatch):
    chunks = labels(0, 20)
    store.source = Elsewhere(*chunks)
    listed = []
    monkeypatch.setattr(
        ObjectStore,
        "pack_files",
        lambda self, real=ObjectStore.pack_files: listed.append(1) or real(self),
    )
    for chunk in chunks:
        assert store.get_chunk(chunk_digest(chunk)) == chunk
    assert len(listed) == 1
    write_pack(directory / "packs", [raw(b"late")])
    assert store.get_chunk(chunk_digest(b"late")) == b"late"


def test_a_source_that_brings_packs_need_not_hand_out_what_is_in_them(store, tmp_path):
    sealed, path = write_pack(tmp_path / "elsewhere", [raw(b"a", b"b")])

    class Packs:
        name = "elsewhere"

        def fetch(self, digests, kind):
            store.enter(receive_pack(store.packs, store.staging, sealed.name, path.read_bytes()))
            return {}

    store.source = Packs()
    assert store.get_chunk(chunk_digest(b"b")) == b"b"
    assert store.missing([chunk_digest(b"a")]) == []


def test_a_source_that_collects_blocks(store, tmp_path):
    """What was collected can be read before and after it is sealed, and is fetched once."""
    sealed, path = write_pack(tmp_path / "elsewhere", [raw(b"a", b"b"), raw(b"c")])
    data = path.read_bytes()
    fetched = []

    class Blocks:
        name = "elsewhere"

        def __init__(self):
            self.collector = BlockCollector(store)

        def fetch(self, digests, kind):
            found = {each: self.collector.get(each) for each in digests}
            for digest, location in sealed.chunks:
                if digest in found and found[digest] is None:
                    fetched.append(location.offset)
                    row = next(row for row in sealed.blocks if row.payload == location.offset)
                    block = data[row.offset : row.payload + row.stored]
                    found |= dict(self.collector.add(kind, block))
            return {digest: each for digest, each in found.items() if each is not None}

    store.source = Blocks()
    for _ in range(2):
        assert store.get_chunk(chunk_digest(b"a")) == b"a"
        assert store.get_chunk(chunk_digest(b"b")) == b"b"
    assert len(fetched) == 1
    store.source.collector.flush()
    assert store.missing([chunk_digest(b"a"), chunk_digest(b"b")]) == []
    assert dict(store.read_chunks(map(chunk_digest, [b"a", b"b"]))) != {}
    assert len(fetched) == 1


# -- what is stored and cannot be read ------------------------------------------------------------


@pytest.fixture
def pictures():
    return [b"\xff\xd8\xff" + noise(2000, str(number)) for number in range(5)]


def test_a_damaged_chunk_is_read_from_the_source(store, pictures):
    digests = put(store, pictures)
    flip(pack_of(store, digests[0]), 16 + 24 + 4 * 5 + 100)
    with pytest.raises(CorruptionError):
        list(store.read_chunks(digests))
    store.source = Elsewhere(*pictures)
    assert dict(store.read_chunks(digests)) == dict(zip(digests, pictures, strict=True))
    assert len(list(store.read_chunks(digests))) == 5
    assert store.get_chunk(digests[0]) == pictures[0]
    asked = len(store.source.asked)
    assert store.get_chunk(digests[1]) == pictures[1]
    assert len(store.source.asked) == asked


def test_a_truncated_pack_is_read_from_the_source(store, pictures):
    digests = put(store, pictures)
    os.truncate(pack_of(store, digests[0]), 5000)
    store.source = Elsewhere(*pictures)
    assert dict(store.read_chunks(digests)) == dict(zip(digests, pictures, strict=True))


def test_damage_that_the_source_cannot_heal_is_the_error(store, pictures):
    digests = put(store, pictures)
    path = pack_of(store, digests[0])
    os.truncate(path, 5000)
    store.source = Elsewhere(*pictures[:-1])
    with pytest.raises(CorruptionError, match="is truncated"):
        list(store.read_chunks(digests))


def test_a_pack_that_is_gone_is_forgotten_and_read_from_the_source(store, pictures):
    digests = put(store, pictures)
    kept = put(store, [b"kept"])
    pack_of(store, digests[0]).unlink()
    with pytest.raises(NotFoundError, match="is gone"):
        list(store.read_chunks(digests))
    store.source = Elsewhere(*pictures)
    found = dict(store.read_chunks([*digests, *kept]))
    assert found == dict(zip([*digests, *kept], [*pictures, b"kept"], strict=True))
    assert store.source.asked == [digests]
    assert store.missing([*digests, *kept]) == digests


def test_a_pack_that_is_gone_and_nobody_has_it(store, pictures):
    digests = put(store, pictures)
    pack_of(store, digests[0]).unlink()
    store.source = Elsewhere()
    for _ in range(2):
        with pytest.raises(NotFoundError):
            list(store.read_chunks(digests))


def test_a_node_asked_for_as_a_chunk_is_still_an_error(store):
    (node,) = put(store, [], [b"node"])
    store.source = Elsewhere()
    with pytest.raises(NotFoundError, match="is a tree node, but is to be a chunk"):
        store.get_chunk(node)
