"""Sending packs: as they are, each once, and only sound ones."""

from __future__ import annotations

import pytest

from datastore.errors import CorruptionError, StorageError
from datastore.objects.pack import Kind
from datastore.progress import SILENT
from datastore.sync import upload as upload_module
from datastore.sync.survey import Pack
from datastore.sync.upload import Upload
from tests.kernel.samples import noise
from tests.sync.bucket import Client, Request


def packs_here(clone) -> list[Pack]:
    rows = clone.store.index.packs()
    return [Pack(row.name, Kind(row.kind), row.size, "images") for row in rows]


@pytest.fixture
def packs(clone) -> list[Pack]:
    """Several packs of the clone's store."""
    for number in range(3):
        clone.version({"a": b"%d" % number, "b": noise(10_000, str(number))})
    return packs_here(clone)


def send(clone, packs, client=None, *, lost=()):
    with clone.remote(client) as remote, SILENT.task("push", None, "B") as task:
        remote.connect(create=True)
        remote.catalog.refresh()
        remote.catalog.lost |= set(lost)
        upload = Upload(clone.store, remote, task)
        upload.send(packs, task)
        return upload, remote.catalog.packs()


def test_packs_go_as_they_are(clone, bucket, packs):
    upload, known = send(clone, packs)
    assert upload.names == set(bucket.packs) == known.keys()
    for path in clone.store.pack_files():
        assert bucket.objects[bucket.sent_as(path.stem)] == path.read_bytes()
    assert sorted(known.values()) == sorted(pack.size for pack in packs)


def test_a_name_is_used_once(clone, bucket, packs):
    send(clone, packs)
    first = set(bucket.packs)
    (clone.known / "uploaded").unlink()
    send(clone, packs)
    assert len(bucket.packs) == 2 * len(first)
    assert {name[:64] for name in bucket.packs} == {pack.name[:64] for pack in packs}


def test_one_shard_of_each_kind(clone, bucket, packs):
    send(clone, packs)
    assert sorted(key.partition(".")[2] for key in bucket.keys("index/")) == [
        "data.idx",
        "meta.idx",
    ]


def test_many_rows_make_several_shards(clone, bucket, packs, monkeypatch):
    monkeypatch.setattr(upload_module, "_SHARD_ROWS", 1)
    _, known = send(clone, packs)
    assert len(bucket.keys("index/")) == len(packs)
    assert known.keys() == set(bucket.packs)


def test_lost_packs_are_sent_again_whatever_the_journal_says(clone, bucket, packs):
    send(clone, packs)
    lost = bucket.sent_as(packs[0].name).rpartition("/")[2].removesuffix(".pack")
    upload, known = send(clone, packs, lost=[lost])
    (renamed,) = upload.names
    assert renamed != lost
    assert renamed[:64] == lost[:64]
    assert renamed in known


def test_the_journal_is_believed_where_the_pack_is_there(clone, bucket, packs):
    send(clone, packs)
    index = bucket.keys("index/")
    client = Client(bucket)
    upload, _ = send(clone, packs, client)
    assert client.count("write", "packs/") == 0
    assert not upload.names
    assert len(bucket.keys("index/")) == 2 * len(index)


@pytest.mark.parametrize("at", [20, -30])
def test_a_damaged_pack_is_not_sent(clone, bucket, packs, at):
    path = next(path for path in clone.store.pack_files() if path.stem == packs[0].name)
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises(CorruptionError, match=f"{packs[0].name} is damaged here") as caught:
        send(clone, packs)
    assert caught.value.where == str(path)
    assert "verify" in caught.value.hint
    assert packs[0].name not in bucket.packs
    assert not bucket.keys("index/")


def test_a_pack_that_is_gone_here(clone, bucket, packs):
    path = next(path for path in clone.store.pack_files() if path.stem == packs[0].name)
    path.unlink()
    with pytest.raises(StorageError):
        send(clone, packs)
    assert not bucket.keys("index/")


def test_several_at_once(new_clone, bucket):
    clone = new_clone("several", jobs=8)
    for number in range(20):
        clone.version({"a": b"%d" % number})
    packs = packs_here(clone)
    upload, _ = send(clone, packs)
    assert len(upload.names) == len(packs) == 40


def test_a_failure_ends_the_others(new_clone, bucket):
    clone = new_clone("several", jobs=4)
    for number in range(20):
        clone.version({"a": b"%d" % number})
    packs = packs_here(clone)

    def refuse(request: Request) -> None:
        if request.verb == "write" and len(bucket.packs) > 3:
            raise StorageError("the disk is full")

    client = Client(bucket, before=refuse)
    with pytest.raises(StorageError, match="full"):
        send(clone, packs, client)
    assert client.closed
    assert client.count("write", "packs/") < 15
