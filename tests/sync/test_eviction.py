"""Room is made at the expense of what the remote has, and of nothing else."""

from __future__ import annotations

import os

import pytest

from datastore.errors import NotFoundError
from datastore.kernel.hashing import chunk_digest
from datastore.objects.pack import pack_path
from datastore.sync.eviction import evict_to
from tests.kernel.samples import noise
from tests.sync.bucket import Client
from tests.sync.clones import Files

DATA: list[Files] = [{"file": noise(50_000, str(number))} for number in range(4)]


def evict(clone, limit: int, storage=None) -> int:
    with clone.remote(storage) as remote:
        remote.connect(create=False)
        remote.catalog.refresh()
        return evict_to(limit, clone.store, remote)


def size(clone) -> int:
    return sum(path.stat().st_size for path in clone.store.pack_files())


def pack_of(clone, number: int) -> str:
    return clone.store.pack_of(chunk_digest(DATA[number]["file"])).removesuffix(".pack")


@pytest.fixture
def versions(clone):
    """Four versions, the last of which is not pushed."""
    made = [clone.version(each) for each in DATA]
    clone.push(*made[:3])
    return made


def test_what_the_remote_lacks_stays(clone, versions):
    before = size(clone)
    dropped = evict(clone, 0)
    assert dropped == before - size(clone) > 150_000
    assert clone.read(versions[3].root) == DATA[3]
    for version in versions[:3]:
        with pytest.raises(NotFoundError):
            clone.read(version.root)


def test_what_was_dropped_comes_back(clone, versions):
    evict(clone, 0)
    with clone.fetching():
        for version, data in zip(versions, DATA, strict=True):
            assert clone.read(version.root) == data


def test_no_more_than_needed_goes(clone, versions):
    limit = size(clone) - 60_000
    evict(clone, limit)
    assert limit - 52_000 < size(clone) <= limit


def test_a_store_that_is_small_enough_asks_for_nothing(clone, bucket, versions):
    client = Client(bucket)
    with clone.remote(client) as remote:
        assert evict_to(size(clone), clone.store, remote) == 0
    assert client.seen == []


def test_what_was_read_longest_ago_goes_first(clone, versions):
    for age, number in enumerate([1, 2, 0]):
        path = pack_path(clone.store.packs, pack_of(clone, number))
        os.utime(path, (1_000_000 - age * 1000, 1_000_000 - age * 1000))
    last = pack_of(clone, 0)
    evict(clone, size(clone) - 10_000)
    assert last not in {path.stem for path in clone.store.pack_files()}
    assert clone.store.has(chunk_digest(DATA[1]["file"]))
    assert clone.store.has(chunk_digest(DATA[2]["file"]))


@pytest.mark.parametrize("harm", ["gone", "short", "buried"])
def test_what_the_remote_is_about_to_lack_stays(clone, bucket, versions, harm):
    """The index still names the packs; what counts is what is there right now."""
    for name, key in bucket.packs.items():
        if harm == "gone":
            del bucket.objects[key]
        elif harm == "short":
            bucket.objects[key] = bucket.objects[key][:-1]
        else:
            bucket.objects[f"gc/tomb/{name}.json"] = b"{}"
    assert evict(clone, 0) == 0
    for version, data in zip(versions, DATA, strict=True):
        assert clone.read(version.root) == data


def test_a_pack_of_which_the_remote_has_a_part_stays(new_clone, bucket):
    one, two = new_clone("one"), new_clone("two")
    both = DATA[0] | {"other": noise(50_000, "other")}
    one.push(one.version(DATA[0]))
    version = two.version(both)
    evict(two, 0)
    assert two.read(version.root) == both


def test_what_lies_in_other_packs_there_may_go(new_clone, bucket):
    """Another clone pushed the same content in packs of its own."""
    one, two = new_clone("one"), new_clone("two")
    version = two.version(DATA[0])
    one.push(one.version(DATA[0]), one.version(DATA[1]))
    names = {path.stem for path in two.store.pack_files()}
    assert not names <= set(bucket.packs)
    assert evict(two, 0) > 50_000
    with two.fetching():
        assert two.read(version.root) == DATA[0]


def test_a_stale_listing_drops_nothing_that_is_not_there(clone, bucket, versions):
    client = Client(bucket)
    client.stale = ("packs/", "index/")
    evict(clone, 0, client)
    with clone.fetching():
        for version, data in zip(versions, DATA, strict=True):
            assert clone.read(version.root) == data
