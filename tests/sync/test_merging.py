"""An index that stays small: many shards become one, and nothing is lost on the way."""

from __future__ import annotations

import pytest

from datastore.errors import StorageError
from datastore.objects.pack import Kind
from datastore.sync import merging
from datastore.sync.merging import MOST_SHARDS
from tests.sync.bucket import Bucket, Client, Request
from tests.sync.clones import Clone, Files


def shards(bucket: Bucket, kind: str) -> list[str]:
    return [key for key in bucket.keys("index/") if key.endswith(f".{kind}.idx")]


def contents(number: int) -> Files:
    return {"number.txt": b"%d" % number}


def push_many(clone: Clone, first: int, count: int, **options) -> dict[bytes, Files]:
    """One push a version, as a team does in weeks."""
    expected = {}
    for number in range(first, first + count):
        version = clone.version(contents(number))
        clone.push(version, **options)
        expected[version.root] = contents(number)
    return expected


def test_few_shards_are_left_alone(clone, bucket):
    push_many(clone, 0, MOST_SHARDS)
    assert len(shards(bucket, "data")) == len(shards(bucket, "meta")) == MOST_SHARDS


def test_many_shards_become_one(clone, bucket, pull_afresh):
    expected = push_many(clone, 0, MOST_SHARDS + 1)
    assert len(shards(bucket, "data")) == len(shards(bucket, "meta")) == 1
    for root, files in expected.items():
        assert pull_afresh(root) == files


def test_a_merged_shard_is_there_before_the_old_ones_go(clone, bucket):
    push_many(clone, 0, MOST_SHARDS)
    client = Client(bucket)
    push_many(clone, MOST_SHARDS, 1, storage=client)
    index = [each for each in client.seen if each.key.startswith("index/")]
    roots = [at for at, each in enumerate(client.seen) if each.key.startswith("roots/")]
    verbs = [each.verb for each in index if each.verb in {"write", "delete"}]
    # Two for what was pushed, then for each kind one merged, and the old ones.
    assert verbs == [*["write"] * 2, *(["write"] + ["delete"] * (MOST_SHARDS + 1)) * 2]
    assert client.seen.index(next(e for e in index if e.verb == "delete")) > max(roots)


def test_a_merge_that_stops_anywhere_loses_nothing(clone, bucket, pull_afresh):
    expected = push_many(clone, 0, MOST_SHARDS)
    before = dict(bucket.objects)
    for number in range(0, 40, 3):
        bucket.objects.clear()
        bucket.objects |= before
        left = [number]

        seen: set[str] = set()

        def refuse(request: Request, left: list[int] = left, seen: set[str] = seen) -> None:
            if request.verb == "delete" or "root" in seen:
                left[0] -= 1
                if left[0] < 0:
                    raise StorageError("stopped")
            if request.key.startswith("roots/") and request.verb == "write":
                seen.add("root")

        version = clone.version(contents(MOST_SHARDS))
        # A push that has acknowledged its roots is over, whatever becomes of the index.
        result = clone.push(version, storage=Client(bucket, before=refuse))
        assert len(result.roots) == 1
        some = next(iter(expected))
        assert pull_afresh(some) == expected[some]
        assert pull_afresh(version.root) == contents(MOST_SHARDS)


def test_a_storage_that_deletes_nothing_stays_usable(clone, bucket):
    """The merge is no part of the push: what comes after it must find the remote open."""
    push_many(clone, 0, MOST_SHARDS)

    def refuse(request: Request) -> None:
        if request.verb == "delete":
            raise StorageError("nothing may be deleted here")

    client = Client(bucket, before=refuse)
    push_many(clone, MOST_SHARDS, 1, storage=client)
    assert client.count("delete") == 2 * (MOST_SHARDS + 1)


def test_a_storage_that_refuses_the_merged_shard(clone, bucket):
    push_many(clone, 0, MOST_SHARDS)
    written: list[Request] = []

    def refuse(request: Request) -> None:
        if request.verb == "write" and request.key.startswith("index/"):
            written.append(request)
            if len(written) > 2:
                raise StorageError("the disk is full")

    push_many(clone, MOST_SHARDS, 1, storage=Client(bucket, before=refuse))
    assert len(shards(bucket, "data")) == MOST_SHARDS + 1


def test_two_merges_at_once(new_clone, bucket, pull_afresh):
    """Rows stand in two shards then, which is harmless; the next merge ends that."""
    one, two = new_clone("one"), new_clone("two")
    expected = push_many(one, 0, MOST_SHARDS - 1)
    inner: list[Request] = []

    def merge_too(request: Request) -> None:
        merged = request.verb == "write" and len(shards(bucket, "data")) > MOST_SHARDS
        if merged and request.key.startswith("index/") and not inner:
            inner.append(request)
            expected.update(push_many(two, 500, 1))

    for number in (MOST_SHARDS - 1, MOST_SHARDS):
        expected |= push_many(one, number, 1, storage=Client(bucket, before=merge_too))
    assert inner
    for root, files in expected.items():
        assert pull_afresh(root) == files
    expected |= push_many(two, 600, MOST_SHARDS)
    assert len(shards(bucket, "data")) <= MOST_SHARDS
    for root in list(expected)[::7]:
        assert pull_afresh(root) == expected[root]


def test_large_shards_are_not_merged_again(clone, bucket, monkeypatch):
    monkeypatch.setattr(merging, "MERGED_SIZE", 400)
    push_many(clone, 0, MOST_SHARDS + 2)
    assert len(shards(bucket, "data")) == MOST_SHARDS + 2


def test_a_reader_from_before_the_merge(new_clone, bucket, pull_afresh):
    clone, reader = new_clone("one"), new_clone("reader")
    expected = push_many(clone, 0, 3)
    with reader.fetching() as fetcher:
        fetcher.remote.catalog.refresh()
        expected |= push_many(clone, 3, MOST_SHARDS)
        for root, files in expected.items():
            assert reader.read(root) == files
        assert len(fetcher.remote.catalog.shard_names(Kind.DATA)) <= 3


@pytest.mark.parametrize("kind", ["data", "meta"])
def test_a_shard_that_is_damaged_here_is_not_merged(clone, bucket, kind):
    push_many(clone, 0, MOST_SHARDS)
    for path in (clone.known / "index").glob(f"*.{kind}.idx"):
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    expected = push_many(clone, MOST_SHARDS, 1)
    assert len(shards(bucket, kind)) in {1, MOST_SHARDS + 1}
    assert expected
