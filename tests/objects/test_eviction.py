"""Packs go, least recently read first; what other packs hold too stays readable."""

from __future__ import annotations

import os

import pytest

from datastore.errors import FormatError, NotFoundError, StorageError
from datastore.kernel.hashing import chunk_digest
from datastore.objects import eviction
from datastore.objects.store import ObjectStore
from tests.objects.packs import raw, write_pack
from tests.objects.stores import put

LONG_AGO = 1_000_000_000


def entered(store, *blocks, nonce):
    """A pack with these blocks, known to the index; its name."""
    sealed, _ = write_pack(store.packs, blocks, nonce=bytes([nonce] * 8))
    store.enter(sealed)
    return sealed.name


def test_what_is_evicted_is_gone(store):
    first, second = put(store, [b"a"]), put(store, [b"b"])
    name = store.pack_of(first[0]).removesuffix(".pack")
    (path,) = [path for path in store.pack_files() if path.stem == name]
    assert store.get_chunk(first[0]) == b"a"
    size = path.stat().st_size
    assert store.evict([name]) == size
    assert not path.exists()
    assert store.missing(first + second) == first
    with pytest.raises(NotFoundError):
        store.get_chunk(first[0])
    assert store.get_chunk(second[0]) == b"b"
    assert store.refresh().packs == 0
    assert store.evict([name]) == 0
    assert put(store, [b"a"]) == first
    assert store.get_chunk(first[0]) == b"a"


def test_what_another_pack_holds_too_is_found_there(store):
    first = entered(store, raw(b"a", b"b"), nonce=1)
    second = entered(store, raw(b"b", b"c"), nonce=2)
    third = entered(store, raw(b"d"), nonce=3)
    contents = {chunk_digest(each): each for each in (b"a", b"b", b"c", b"d")}
    store.evict([first])
    assert store.missing(contents) == [chunk_digest(b"a")]
    del contents[chunk_digest(b"a")]
    assert dict(store.read_chunks(contents)) == contents
    assert {row.name for row in store.index.packs()} == {second, third}
    store.evict([second, third])
    assert store.index.counts() == {"chunks": 0, "packs": 0, "stat": 0}


def test_a_damaged_pack_can_be_evicted(store):
    name = entered(store, raw(b"a", b"b"), nonce=1)
    entered(store, raw(b"b"), nonce=2)
    (path,) = [path for path in store.pack_files() if path.stem == name]
    path.write_bytes(b"damaged")
    assert store.evict([name]) == 7
    assert store.get_chunk(chunk_digest(b"b")) == b"b"
    assert not store.has(chunk_digest(b"a"))


def test_a_pack_that_is_gone_is_forgotten(store):
    name = entered(store, raw(b"a"), nonce=1)
    next(store.pack_files()).unlink()
    assert store.evict([name]) == 0
    assert not store.has(chunk_digest(b"a"))


def test_a_process_that_is_killed_in_between_loses_nothing(store, directory, monkeypatch):
    names = [entered(store, raw(each), nonce=at) for at, each in enumerate((b"a", b"b"))]

    def killed(path):
        raise KeyboardInterrupt

    monkeypatch.setattr(eviction, "_remove", killed)
    monkeypatch.setattr(eviction, "_find_again", lambda *args: None)
    with pytest.raises(KeyboardInterrupt):
        store.evict(names)
    assert store.index.packs() == []
    with ObjectStore(directory) as again:
        assert again.get_chunk(chunk_digest(b"b")) == b"b"


def test_a_file_that_cannot_be_removed(store, monkeypatch):
    name = entered(store, raw(b"a", b"b"), nonce=1)
    entered(store, raw(b"b"), nonce=2)

    def fail(self):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(eviction.Path, "unlink", fail)
    with pytest.raises(StorageError, match="cannot remove"):
        store.evict([name])
    assert store.get_chunk(chunk_digest(b"b")) == b"b"
    assert store.get_chunk(chunk_digest(b"a")) == b"a"


def test_only_packs_are_evicted(store):
    with pytest.raises(FormatError, match="is not the name of a pack"):
        store.evict(["../../precious"])


# -- what was read last ---------------------------------------------------------------------------


def test_reading_a_pack_notes_the_time_once(store):
    digests = put(store, [b"a"])
    (path,) = store.pack_files()
    os.utime(path, (LONG_AGO, LONG_AGO))
    assert store.has(digests[0])
    assert path.stat().st_mtime == LONG_AGO
    store.get_chunk(digests[0])
    assert path.stat().st_mtime > LONG_AGO
    os.utime(path, (LONG_AGO, LONG_AGO))
    store.forget_packs()
    store.get_chunk(digests[0])
    assert path.stat().st_mtime == LONG_AGO


def test_a_time_that_cannot_be_noted_is_no_error(store, monkeypatch):
    (digest,) = put(store, [b"a"])

    def fail(*args):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr("datastore.objects.blockreader.os.utime", fail)
    assert store.get_chunk(digest) == b"a"
