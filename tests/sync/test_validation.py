"""The last look: tombstones first, then whether packs are there in their full size."""

from __future__ import annotations

import pytest

from datastore.errors import StorageError
from datastore.kernel.hashing import pack_hasher
from datastore.progress import SILENT
from datastore.sync.keys import pack_key
from datastore.sync.transfer import Transfers
from datastore.sync.validation import find_lost, find_present, find_rotten
from tests.sync.bucket import Bucket, Client, Request

NAMES = [f"{number:064x}-{number:016x}" for number in range(6)]


@pytest.fixture
def client(bucket) -> Client:
    for name in NAMES:
        bucket.objects[pack_key(name)] = b"12345"
    return Client(bucket)


@pytest.fixture
def transfers(client):
    with Transfers(2, abort=client.close) as made:
        yield made


def wanted(*names: str) -> dict[str, int]:
    return dict.fromkeys(names, 5)


def harm(bucket: Bucket) -> None:
    del bucket.objects[pack_key(NAMES[0])]
    bucket.objects[pack_key(NAMES[1])] = b"1234"
    bucket.objects[f"gc/tomb/{NAMES[2]}.json"] = b"{}"
    bucket.objects[f"gc/tomb/{'f' * 64}-{'f' * 16}.json"] = b"{}"


def test_what_is_lost(bucket, client, transfers):
    harm(bucket)
    assert find_lost(client, wanted(*NAMES), transfers) == set(NAMES[:3])


def test_tombstones_are_listed_to_the_end_before_anything_else(client, transfers):
    find_lost(client, wanted(*NAMES), transfers)
    assert client.seen == [Request("list", "gc/tomb/"), Request("list", "packs/")]


def test_few_packs_are_asked_for_by_name(client, transfers):
    find_lost(client, wanted(*NAMES[:2]), transfers)
    assert [each.verb for each in client.seen] == ["list", "size", "size"]


def test_what_was_just_sent_is_not_looked_for_but_may_be_buried(bucket, client, transfers):
    harm(bucket)
    lost = find_lost(client, wanted(*NAMES), transfers, seen=set(NAMES))
    assert lost == {NAMES[2]}
    assert [each.verb for each in client.seen] == ["list"]


def test_a_listing_that_lacks_packs_is_not_believed(bucket, client, transfers):
    harm(bucket)
    client.stale = ("packs/",)
    assert find_present(client, wanted(*NAMES), transfers) == set(NAMES[2:])


def test_no_packs(client, transfers):
    assert find_present(client, {}, transfers) == set()
    assert client.seen == []


def test_a_look_that_fails_is_an_error(bucket, transfers, client):
    def refuse(request: Request) -> None:
        if request.verb == "size":
            raise StorageError("denied")

    client.before = refuse
    with pytest.raises(StorageError, match="denied"):
        find_lost(client, wanted(NAMES[0]), transfers)


def test_other_objects_beside_packs(bucket, client, transfers):
    bucket.objects["packs/readme.txt"] = b"hello"
    bucket.objects["gc/tomb/readme.txt"] = b"hello"
    assert find_lost(client, wanted(*NAMES), transfers) == set()


def sound_pack(bucket: Bucket, data: bytes) -> str:
    hasher = pack_hasher()
    hasher.update(data)
    name = f"{hasher.digest().hex()}-{'0' * 16}"
    bucket.objects[pack_key(name)] = data
    return name


def test_what_is_rotten(bucket, client, transfers):
    names = [sound_pack(bucket, b"pack %d" % number) for number in range(4)]
    bucket.flip(pack_key(names[0]), 3)
    del bucket.objects[pack_key(names[1])]
    with SILENT.task("read", None, "B") as task:
        packs = dict.fromkeys(names, 6)
        assert find_rotten(client, packs, transfers, task) == set(names[:2])
    assert not client.closed


def test_what_is_turned_on_the_way_is_not_rotten(bucket, client, transfers):
    name = sound_pack(bucket, b"a pack")
    spoilt: list[str] = []

    def spoil(key: str, data: bytes) -> bytes:
        if spoilt:
            return data
        spoilt.append(key)
        return b"A" + data[1:]

    client.spoil = spoil
    with SILENT.task("read", None, "B") as task:
        assert find_rotten(client, {name: 6}, transfers, task) == set()
    assert spoilt
