"""The index of a remote, as a client knows it: fetched once, held against digests, never stale."""

from __future__ import annotations

import threading

import pytest

from datastore.errors import CorruptionError, NotFoundError
from datastore.kernel.hashing import chunk_digest
from datastore.objects.pack import Kind
from datastore.storage.counting import Counted, Traffic
from datastore.sync import catalog as catalog_module
from datastore.sync import merging, shard
from datastore.sync.catalog import Catalog
from datastore.sync.keys import new_nonce, pack_key
from datastore.sync.shard import encode_shard, shard_name
from datastore.sync.shardmerge import merge_shards
from datastore.sync.shardreader import Shard
from datastore.sync.transfer import Transfers
from tests.objects.packs import raw, write_pack
from tests.sync.bucket import Bucket, Client, Request


def members(number: int, count: int = 40) -> list[bytes]:
    return [b"%d of pack %d" % (each, number) for each in range(count)]


def digests(number: int, count: int = 40) -> list[bytes]:
    return [chunk_digest(each) for each in members(number, count)]


class Setting:
    """A bucket with shards, each of one pack, and a client's catalog."""

    def __init__(self, directory, bucket: Bucket) -> None:
        self.directory = directory
        self.bucket = bucket
        self.client = Client(bucket)
        self.transfers = Transfers(2, abort=self.client.close)
        self.catalog = Catalog(self.client, directory / "index", self.transfers)

    def add(self, number: int, count: int = 40, *, bucket: bool = True) -> tuple[str, str]:
        """Adds a shard; returns its name and that of its pack."""
        held = members(number, count)
        blocks = [raw(*held[at : at + 1000]) for at in range(0, count, 1000)]
        sealed, path = write_pack(self.directory / "packs", blocks)
        self.bucket.objects[pack_key(sealed.name)] = path.read_bytes()
        data = encode_shard(Kind.DATA, [sealed])
        name = shard_name(data, Kind.DATA, new_nonce())
        if bucket:
            self.bucket.objects[f"index/{name}"] = data
        return name, sealed.name

    def merge(self, names: list[str]) -> str:
        """Merges shards, as another client does."""
        data = merge_shards([Shard.of(n, self.bucket.objects[f"index/{n}"]) for n in names])
        assert data is not None
        merged = shard_name(data, Kind.DATA, new_nonce())
        self.bucket.objects[f"index/{merged}"] = data
        for name in names:
            del self.bucket.objects[f"index/{name}"]
        return merged

    def reopen(self) -> Catalog:
        self.catalog.close()
        self.client.seen.clear()
        self.catalog = Catalog(self.client, self.directory / "index", self.transfers)
        return self.catalog

    def close(self) -> None:
        self.catalog.close()
        self.transfers.close()


@pytest.fixture
def setting(tmp_path, bucket):
    opened = Setting(tmp_path, bucket)
    yield opened
    opened.close()


@pytest.fixture
def all_large(monkeypatch):
    """Every shard is one that is not fetched whole unless much is asked of it."""
    monkeypatch.setattr(catalog_module, "WHOLE_SIZE", 0)
    monkeypatch.setattr(catalog_module, "WHOLE_META_SIZE", 0)


def test_small_shards_are_fetched_whole_and_once(setting):
    for number in range(3):
        setting.add(number)
    setting.catalog.refresh()
    assert [each.verb for each in setting.client.seen] == ["list", *["read_range"] * 3]
    for number in range(3):
        assert setting.catalog.contains(digests(number), Kind.DATA) == set(digests(number))
    assert len(setting.client.seen) == 4
    catalog = setting.reopen()
    catalog.refresh()
    assert setting.client.seen == [Request("list", "index/")]
    assert catalog.contains(digests(1), Kind.DATA) == set(digests(1))


def test_what_is_not_there(setting):
    setting.add(0)
    setting.catalog.refresh()
    assert setting.catalog.contains(digests(7), Kind.DATA) == set()
    assert setting.catalog.locate(digests(7), Kind.DATA) == {}
    assert setting.catalog.locate(digests(0), Kind.META) == {}


def test_where_things_lie(setting):
    _, pack = setting.add(0)
    setting.catalog.refresh()
    wanted = digests(0)[:3]
    places = setting.catalog.locate(wanted, Kind.DATA)
    assert places.keys() == set(wanted)
    assert {place.pack for listed in places.values() for place in listed} == {pack}
    sizes = setting.catalog.packs_of(place for listed in places.values() for place in listed)
    assert sizes == setting.catalog.packs()
    assert sizes.keys() == {pack}


def test_a_large_shard_is_looked_into(setting):
    name, _ = setting.add(0, 40_000)
    assert len(setting.bucket.objects[f"index/{name}"]) > catalog_module.WHOLE_SIZE
    setting.catalog.refresh()
    assert setting.client.count("read_range") == 0
    wanted = digests(0, 40_000)[:2]
    assert setting.catalog.contains([*wanted, bytes(32)], Kind.DATA) == set(wanted)
    assert setting.catalog.locate(wanted, Kind.DATA).keys() == set(wanted)
    assert setting.client.bytes_down < 60 * 40_000 / 4
    assert not list((setting.directory / "index").iterdir())


def test_many_look_ups_fetch_a_large_shard_whole(setting, all_large):
    setting.add(0, 3000)
    setting.catalog.refresh()
    wanted = digests(0, 3000)[:100]
    assert setting.catalog.contains(wanted, Kind.DATA) == set(wanted)
    assert len(list((setting.directory / "index").iterdir())) == 1


def test_a_shard_in_pieces(setting, monkeypatch):
    monkeypatch.setattr(catalog_module, "_PIECE", 1000)
    setting.add(0, 300)
    setting.catalog.refresh()
    assert setting.client.count("read_range") > 15
    assert setting.catalog.contains(digests(0, 300), Kind.DATA) == set(digests(0, 300))


def test_lost_packs_do_not_count(setting):
    _, first = setting.add(0)
    setting.add(1)
    setting.catalog.refresh()
    setting.catalog.lost.add(first)
    both = digests(0) + digests(1)
    assert setting.catalog.contains(both, Kind.DATA) == set(digests(1))
    assert setting.catalog.locate(both, Kind.DATA).keys() == set(digests(1))
    assert setting.catalog.lost_packs_of(both, Kind.DATA) == {first}


def test_superseded_shards_are_dropped(setting):
    names = [setting.add(number)[0] for number in range(3)]
    setting.catalog.refresh()
    merged = setting.merge(names[:2])
    setting.catalog.refresh()
    assert set(setting.catalog.shard_names(Kind.DATA)) == {merged, names[2]}
    kept = {path.name for path in (setting.directory / "index").iterdir()}
    assert kept == {merged, names[2]}
    for number in range(3):
        assert setting.catalog.contains(digests(number), Kind.DATA) == set(digests(number))


def test_superseded_shards_that_nobody_deleted_are_not_fetched_again(setting):
    """Whoever merged them was killed before it came to that."""
    names = [setting.add(number)[0] for number in range(3)]
    left = {f"index/{name}": setting.bucket.objects[f"index/{name}"] for name in names}
    setting.merge(names)
    setting.bucket.objects |= left
    setting.catalog.refresh()
    setting.client.seen.clear()
    setting.catalog.refresh()
    assert setting.client.seen == [Request("list", "index/")]


def test_a_listing_that_lacks_a_shard_does_not_forget_it(setting):
    setting.add(0)
    setting.catalog.refresh()
    setting.client.stale = ("index/",)
    setting.catalog.refresh()
    assert setting.catalog.contains(digests(0), Kind.DATA)
    catalog = setting.reopen()
    catalog.refresh()
    assert catalog.contains(digests(0), Kind.DATA)


@pytest.mark.parametrize("large", [False, True])
def test_shards_that_are_merged_while_they_are_read(setting, monkeypatch, large):
    """The listing still has the old ones; they are gone when they are asked for."""
    if large:
        monkeypatch.setattr(catalog_module, "WHOLE_SIZE", 0)
    names = [setting.add(number)[0] for number in range(3)]
    merged: list[str] = []
    one_by_one = threading.Lock()

    def merge_now(request: Request) -> None:
        with one_by_one:
            if request.verb == "read_range" and not merged:
                merged.append(setting.merge(names))

    setting.client.before = merge_now
    setting.catalog.refresh()
    for number in range(3):
        wanted = digests(number)[:3]
        assert setting.catalog.contains(wanted, Kind.DATA) == set(wanted)
        assert setting.catalog.locate(wanted, Kind.DATA).keys() == set(wanted)
    assert len(setting.catalog.packs()) == 3


def test_large_shards_that_go_between_two_looks(setting, all_large):
    names = [setting.add(number)[0] for number in range(3)]
    setting.catalog.refresh()
    assert setting.catalog.contains(digests(0)[:2], Kind.DATA)
    setting.merge(names)
    for number in range(3):
        wanted = digests(number)[:3]
        assert setting.catalog.contains(wanted, Kind.DATA) == set(wanted)


def damage(path, at: int = -1) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize("at", [0, 100, -1])
def test_a_damaged_copy_is_fetched_again(setting, at):
    name, _ = setting.add(0)
    setting.catalog.refresh()
    damage(setting.directory / "index" / name, at)
    catalog = setting.reopen()
    catalog.refresh()
    assert catalog.contains(digests(0), Kind.DATA) == set(digests(0))
    assert set(catalog.locate(digests(0), Kind.DATA)) == set(digests(0))
    assert (setting.directory / "index" / name).read_bytes() == setting.bucket.objects[
        f"index/{name}"
    ]


def test_a_damaged_copy_of_a_shard_that_was_merged_meanwhile(setting):
    names = [setting.add(number)[0] for number in range(2)]
    setting.catalog.refresh()
    damage(setting.directory / "index" / names[0])
    catalog = setting.reopen()
    setting.merge(names)
    assert catalog.contains(digests(0), Kind.DATA) == set(digests(0))
    assert catalog.contains(digests(1), Kind.DATA) == set(digests(1))


def test_a_damaged_copy_of_a_shard_that_the_listing_lacks(setting):
    """What is left then is to say that nothing is there: it is sent again, or asked for later."""
    name, _ = setting.add(0)
    setting.catalog.refresh()
    damage(setting.directory / "index" / name)
    catalog = setting.reopen()
    setting.client.stale = ("index/",)
    assert catalog.contains(digests(0), Kind.DATA) == set()
    setting.client.stale = ()
    catalog.refresh()
    assert catalog.contains(digests(0), Kind.DATA) == set(digests(0))


def test_copies_that_another_process_removed(setting):
    """Two processes of one clone keep their copies in one directory."""
    names = [setting.add(number)[0] for number in range(2)]
    setting.catalog.refresh()
    for name in names:
        (setting.directory / "index" / name).unlink()
    assert setting.catalog.shard_names(Kind.DATA).keys() == set(names)
    assert setting.catalog.contains(digests(0), Kind.DATA) == set(digests(0))
    assert setting.catalog.whole_shards(names)


def test_a_shard_that_is_damaged_on_the_way_is_fetched_again(setting):
    setting.add(0)
    spoilt: list[str] = []

    def once(key: str, data: bytes) -> bytes:
        if key.startswith("index/") and not spoilt:
            spoilt.append(key)
            return data[:-1] + bytes([data[-1] ^ 1])
        return data

    setting.client.spoil = once
    setting.catalog.refresh()
    assert setting.catalog.contains(digests(0), Kind.DATA) == set(digests(0))


def test_a_shard_that_is_damaged_there_is_named(setting):
    name, _ = setting.add(0)
    setting.bucket.flip(f"index/{name}", 200)
    setting.catalog.refresh()
    assert setting.catalog.damaged[name].where == f"memory://bucket/index/{name}"
    assert "memory://bucket" in setting.catalog.damaged[name].message
    assert not list((setting.directory / "index").iterdir())


def test_a_disk_here_that_fails_is_not_blamed_on_the_remote(setting, monkeypatch):
    """What is taken for damaged there is deleted there in the end."""
    setting.add(0)
    real = catalog_module.write_durably
    monkeypatch.setattr(
        catalog_module, "write_durably", lambda path, data: real(path, data[:-1] + b"!")
    )
    with pytest.raises(CorruptionError):
        setting.catalog.refresh()
    assert not setting.catalog.damaged


def test_a_damaged_shard_is_written_again_or_dropped(setting):
    names = [setting.add(number)[0] for number in range(2)]
    before = dict(setting.bucket.objects)
    setting.catalog.refresh()
    setting.bucket.flip(f"index/{names[0]}", 200)
    del setting.bucket.objects[f"index/{names[1]}"]
    setting.catalog.refresh()
    setting.catalog.restore()
    assert setting.bucket.objects[f"index/{names[1]}"] == before[f"index/{names[1]}"]
    stranger = Catalog(setting.client, setting.directory / "other", setting.transfers)
    stranger.refresh()
    assert stranger.damaged.keys() == {names[0]}
    stranger.drop_damaged()
    stranger.close()
    assert f"index/{names[0]}" not in setting.bucket.objects


def test_a_shard_that_was_deleted_there_is_written_again(setting):
    """Only who has a copy would find what it lists."""
    names = [setting.add(number)[0] for number in range(4)]
    before = dict(setting.bucket.objects)
    setting.catalog.refresh()
    del setting.bucket.objects[f"index/{names[0]}"]
    setting.merge(names[1:3])
    setting.catalog.refresh()
    setting.client.seen.clear()
    setting.catalog.restore()
    assert setting.bucket.objects[f"index/{names[0]}"] == before[f"index/{names[0]}"]
    assert len(setting.bucket.keys("index/")) == 3
    assert [each.verb for each in setting.client.seen] == ["size", "size", "write"]


def test_a_shard_that_was_deleted_there_with_its_packs_is_forgotten(setting):
    """So does a gc: nobody is to bring the shard back."""
    name, pack = setting.add(0)
    setting.catalog.refresh()
    del setting.bucket.objects[f"index/{name}"], setting.bucket.objects[pack_key(pack)]
    setting.catalog.refresh()
    setting.catalog.restore()
    assert setting.bucket.keys("index/") == []
    assert setting.catalog.contains(digests(0), Kind.DATA) == set()
    assert not list((setting.directory / "index").iterdir())


def test_a_shard_that_only_the_listing_lacks_is_not_written_again(setting):
    setting.add(0)
    setting.catalog.refresh()
    setting.client.stale = ("index/",)
    setting.catalog.refresh()
    setting.catalog.restore()
    assert setting.client.count("write") == 0


def test_objects_that_are_no_shards_are_left_alone(setting):
    setting.add(0)
    setting.bucket.objects |= {"index/readme.txt": b"hello", "index/ab/deep.data.idx": b""}
    setting.catalog.refresh()
    assert setting.catalog.contains(digests(0), Kind.DATA)
    assert setting.client.count("read_range", "index/readme") == 0


def test_the_listing_may_say_a_wrong_size(setting):
    """A shard that was cut off on the remote: nothing of it is believed."""
    name, _ = setting.add(0)
    key = f"index/{name}"
    setting.bucket.objects[key] = setting.bucket.objects[key][:-60]
    setting.catalog.refresh()
    assert setting.catalog.damaged.keys() == {name}
    assert setting.catalog.packs() == {}


def test_two_catalogs_in_one_directory(setting):
    for number in range(3):
        setting.add(number)
    other = Catalog(setting.client, setting.directory / "index", setting.transfers)
    try:
        threads = [threading.Thread(target=each.refresh) for each in (setting.catalog, other)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        for each in (setting.catalog, other):
            assert each.contains(digests(2), Kind.DATA) == set(digests(2))
    finally:
        other.close()


def test_requests_are_counted(tmp_path, bucket):
    traffic = Traffic()
    client = Counted(Client(bucket), traffic)
    transfers = Transfers(1, abort=client.close)
    catalog = Catalog(client, tmp_path / "index", transfers)
    catalog.refresh()
    assert traffic.requests == 1
    assert catalog.packs() == {}
    catalog.close()
    transfers.close()


def test_constants_fit_each_other():
    assert shard.MAX_ROWS * shard.ROW.size > merging.MERGED_SIZE
    assert catalog_module.WHOLE_SIZE < merging.MERGED_SIZE


def test_a_shard_that_is_gone_for_good(setting):
    """It is listed and cannot be read, time and again: as if it were not there."""
    name, _ = setting.add(0)
    setting.add(1)

    def gone(request: Request) -> None:
        if request.key == f"index/{name}":
            raise NotFoundError("gone")

    setting.client.before = gone
    setting.catalog.refresh()
    assert setting.catalog.contains(digests(0), Kind.DATA) == set()
    assert setting.catalog.contains(digests(1), Kind.DATA) == set(digests(1))
