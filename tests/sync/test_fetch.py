"""What comes from a remote: as little as possible, verified, and around what is damaged there."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from datastore.errors import CorruptionError, NotFoundError, StorageError
from datastore.kernel.hashing import chunk_digest
from datastore.objects.pack import Kind
from datastore.objects.packreader import read_footer
from datastore.objects.store import ObjectStore
from datastore.sync import plan
from datastore.sync.keys import MARKER
from datastore.sync.survey import Version
from datastore.trees import files
from tests.kernel.samples import noise
from tests.sync.bucket import Bucket, Client, Request
from tests.sync.clones import Clone, Files

SMALL: Files = {f"labels/{number:03}.json": b'{"class": %d}' % number for number in range(300)}
BIG: Files = {f"images/{number:02}.jpg": noise(100_000, str(number)) for number in range(40)}
LONG: Files = {"video.bin": noise(2_500_000, "video"), "a.txt": b"alpha"}


@pytest.fixture
def pushed(new_clone) -> Callable[[Files], Version]:
    """Pushes a version from another clone."""

    def work(contents: Files) -> Version:
        origin = new_clone(f"origin-{len(contents)}")
        version = origin.version(contents)
        origin.push(version)
        return version

    return work


def pack_keys(bucket: Bucket, kind: Kind) -> list[str]:
    return [key for key in bucket.packs.values() if bucket.objects[key][10] == kind]


def place_of(bucket: Bucket, tmp_path: Path, data: bytes) -> tuple[str, int]:
    """The key of the pack in which a chunk is, and the offset of the block's payload."""
    for key in pack_keys(bucket, Kind.DATA):
        path = tmp_path / key.rpartition("/")[2]
        path.write_bytes(bucket.objects[key])
        for digest, location in read_footer(path).chunks:
            if digest == chunk_digest(data):
                return key, location.offset
    raise AssertionError("it is in no pack")


# -- how much ------------------------------------------------------------------------------------


def test_a_whole_version_comes_as_whole_packs(clone, bucket, pushed):
    version = pushed(SMALL | BIG)
    client = Client(bucket)
    assert clone.pull(version.root, client) == SMALL | BIG
    packs = len(bucket.packs)
    assert client.count("read_range", "packs/") <= packs + 2
    assert client.bytes_down < 1.1 * sum(map(len, bucket.objects.values()))
    assert sorted(path.stem for path in clone.store.pack_files()) == sorted(bucket.packs)


def test_a_version_that_is_here_asks_for_nothing(clone, bucket, pushed):
    version = pushed(SMALL)
    clone.pull(version.root)
    client = Client(bucket)
    assert clone.pull(version.root, client) == SMALL
    assert client.seen == []


def test_one_file_of_many_takes_few_requests_and_bytes(clone, bucket, pushed):
    version = pushed(BIG | SMALL)
    client = Client(bucket)
    with clone.fetching(client):
        assert clone.read(version.root, ["images/07.jpg"]) == {
            "images/07.jpg": BIG["images/07.jpg"]
        }
    assert len(client.seen) <= 8
    assert client.bytes_down < 700_000 < sum(map(len, bucket.objects.values())) / 5


def test_another_version_brings_what_differs(clone, bucket, new_clone):
    origin = new_clone("origin")
    one = origin.version(BIG)
    origin.push(one)
    changed = BIG | {"images/07.jpg": noise(100_000, "changed")}
    two = origin.version(changed)
    origin.push(two, one)
    clone.pull(one.root)
    client = Client(bucket)
    assert clone.pull(two.root, client) == changed
    assert client.bytes_down < 150_000


def test_files_that_lie_together_come_together(clone, bucket, pushed):
    version = pushed(BIG)
    client = Client(bucket)
    with clone.fetching(client) as fetcher:
        loaded = files.load(version.root, clone.store)
        wanted = [
            entry.content
            for name, entry in files.entries(loaded, clone.store)
            if name in {"images/03.jpg", "images/04.jpg", "images/05.jpg", "images/30.jpg"}
        ]
        client.seen.clear()
        fetcher.bring(wanted)
    assert client.count("read_range", "packs/") == 2
    assert client.bytes_down < 1_500_000


def test_a_long_file(clone, pushed):
    version = pushed(LONG)
    assert clone.pull(version.root) == LONG


def test_metadata_that_is_asked_for_bit_by_bit_comes_whole_in_the_end(
    clone, bucket, pushed, monkeypatch
):
    monkeypatch.setattr(plan, "SMALL_PACK", 0)
    version = pushed({f"{number:05}/file": b"%d" % number for number in range(6000)})
    client = Client(bucket)
    with clone.fetching(client):
        assert len(clone.read(version.root, ["00017/file", "05000/file"])) == 2
    (key,) = pack_keys(bucket, Kind.META)
    assert client.count("read_range", key) <= 6


# -- what stays ----------------------------------------------------------------------------------


def test_what_was_read_on_demand_is_there_for_the_next_process(clone, bucket, pushed, tmp_path):
    version = pushed(BIG)
    with clone.fetching():
        clone.read(version.root, ["images/07.jpg", "images/21.jpg"])
    clone.close()
    with ObjectStore(clone.directory) as store:
        for name in ("images/07.jpg", "images/21.jpg"):
            assert store.get_chunk(chunk_digest(BIG[name])) == BIG[name]
        with pytest.raises(NotFoundError):
            store.get_chunk(chunk_digest(BIG["images/10.jpg"]))


def test_what_was_fetched_before_an_error_stays(clone, bucket, pushed):
    version = pushed(BIG)
    broken: list[bool] = []

    def break_off(_: Request) -> None:
        if broken:
            raise StorageError("the line is cut")

    with clone.fetching(Client(bucket, before=break_off)):
        clone.read(version.root, ["images/07.jpg"])
        broken.append(True)
        with pytest.raises(StorageError, match="cut"):
            clone.read(version.root, ["images/30.jpg"])
    assert clone.store.get_chunk(chunk_digest(BIG["images/07.jpg"]))


def test_a_fetcher_goes_on_after_an_error(clone, bucket, pushed):
    """The transfers were ended; what is asked for next begins anew."""
    version = pushed(BIG)
    failing: list[int] = [0]

    def fail_once(request: Request) -> None:
        if request.key.startswith("packs/") and not failing[0]:
            failing[0] = 1
            raise StorageError("once")

    opened: list[Client] = []

    def connect(traffic):
        opened.append(Client(bucket, before=fail_once))
        return clone.remote(opened[-1], traffic)

    with clone.fetching() as fetcher:
        fetcher._open_remote = connect
        with pytest.raises(StorageError, match="once"):
            clone.read(version.root)
        assert opened[0].closed
        assert clone.read(version.root) == BIG
    assert all(client.closed for client in opened)


def test_a_later_push_is_seen_by_who_has_read_before(clone, bucket, new_clone):
    """A process that stays open must not need to be started anew."""
    origin = new_clone("origin")
    one = origin.version({"a": b"first"})
    origin.push(one)
    with clone.fetching():
        assert clone.read(one.root) == {"a": b"first"}
        for number in range(3):
            contents = {"a": b"version %d" % number}
            later = origin.version(contents)
            origin.push(later, one)
            assert clone.read(later.root) == contents


def test_what_nobody_has_is_not_asked_for_time_and_again(clone, bucket, pushed):
    version = pushed(SMALL)
    client = Client(bucket)
    with clone.fetching(client):
        clone.read(version.root, ["labels/000.json"])
        before = len(client.seen)
        for number in range(50):
            with pytest.raises(NotFoundError):
                clone.store.get_chunk(bytes([number]) * 32)
        assert len(client.seen) - before <= 3


# -- what is wrong -------------------------------------------------------------------------------


def test_nothing_was_ever_pushed(clone):
    with pytest.raises(NotFoundError, match="nothing was ever pushed"):
        clone.pull(bytes(32))


def test_a_version_that_the_remote_lacks(clone, pushed):
    pushed(SMALL)
    with pytest.raises(NotFoundError):
        clone.pull(bytes(32))


def delivered(clone: Clone, version: Version, storage=None) -> tuple[Files, dict[str, Exception]]:
    """Brings a version, then reads file by file: what came, and why the rest did not."""
    found: Files = {}
    failed: dict[str, Exception] = {}
    with clone.fetching(storage) as fetcher:
        loaded = files.load(version.root, clone.store)
        entries = list(files.entries(loaded, clone.store))
        fetcher.bring(entry.content for _, entry in entries)
        for name, _ in entries:
            try:
                found |= clone.read(version.root, [name])
            except (CorruptionError, NotFoundError) as error:
                failed[name] = error
    return found, failed


@pytest.mark.parametrize("whole", [True, False])
def test_a_bit_flipped_in_the_data(clone, bucket, pushed, tmp_path, monkeypatch, whole):
    """All other files come; the error of those in the block names the pack."""
    version = pushed(BIG)
    key, offset = place_of(bucket, tmp_path, BIG["images/07.jpg"])
    bucket.flip(key, offset + 17)
    if not whole:
        monkeypatch.setattr("datastore.sync.fetch.plan_loads", never_whole)
    found, failed = delivered(clone, version)
    assert "images/07.jpg" in failed
    assert len(failed) <= 3  # those of the same block
    assert found == {name: BIG[name] for name in BIG.keys() - failed.keys()}
    for error in failed.values():
        assert isinstance(error, CorruptionError)
        assert key.rpartition("/")[2].removesuffix(".pack") in str(error)
        assert error.where.endswith(key)
    with pytest.raises(NotFoundError):
        clone.store.get_chunk(chunk_digest(BIG["images/07.jpg"]))


def never_whole(wanted, *, eager=()):
    return [
        plan.Load(each.pack, each.kind, plan.Span(b.start, b.length), whole=False, blocks=(b,))
        for each in wanted
        for b in each.blocks
    ]


def test_a_bit_flipped_in_the_footer_costs_nothing(clone, bucket, pushed):
    version = pushed(BIG | SMALL)
    for key in bucket.packs.values():
        bucket.flip(key, -20)
    assert clone.pull(version.root) == BIG | SMALL
    # What is not what its name promises is not kept under that name.
    assert not {path.stem for path in clone.store.pack_files()} & set(bucket.packs)


@pytest.mark.parametrize("cut", [1, 500_000])
def test_a_pack_that_is_cut_off(clone, bucket, pushed, cut):
    """All that is in front of the cut comes."""
    version = pushed(BIG)
    (key,) = pack_keys(bucket, Kind.DATA)
    bucket.objects[key] = bucket.objects[key][:-cut]
    found, failed = delivered(clone, version)
    assert len(failed) < (10 if cut > 1 else 1)
    assert found == {name: BIG[name] for name in BIG.keys() - failed.keys()}
    for error in failed.values():
        assert isinstance(error, CorruptionError)
        assert error.where.endswith(key)


def test_a_manifest_page_that_is_damaged_keeps_nothing_else_back(clone, bucket, new_clone):
    """The nodes of the tree are sound, but a page of one long file is not."""
    origin = new_clone("origin")
    long_file = noise(3_000_000, "long")
    first = origin.version({"long.bin": long_file})  # its page gets a pack of its own
    page_keys = {row.name for row in origin.store.index.packs() if row.kind == Kind.META}
    both = origin.version({"long.bin": long_file, "short.txt": b"short"})
    origin.push(first, both)
    for name in page_keys:
        bucket.flip(bucket.sent_as(name), 60)
    found, failed = delivered(clone, both)
    assert found == {"short.txt": b"short"}
    assert isinstance(failed["long.bin"], CorruptionError)


def test_a_damaged_page_is_not_blamed_on_what_is_read_first(clone, bucket, new_clone):
    """What comes ahead of its reader fails in its own place, not in that of another file."""
    origin = new_clone("origin")
    long_file = noise(3_000_000, "long")
    origin.version({"long.bin": long_file})
    (page_pack,) = [row.name for row in origin.store.index.packs() if row.kind == Kind.META]
    both = origin.version({"a.txt": b"short", "long.bin": long_file})
    origin.push(both)
    bucket.flip(bucket.sent_as(page_pack), 60)
    with clone.fetching() as fetcher:
        loaded = files.load(both.root, clone.store)
        fetcher.begin([entry.content for _, entry in files.entries(loaded, clone.store)])
        assert clone.read(both.root, ["a.txt"]) == {"a.txt": b"short"}
        with pytest.raises(CorruptionError):
            clone.read(both.root, ["long.bin"])
        assert isinstance(fetcher.unmet, CorruptionError)


def test_reading_beside_what_comes_ahead(new_clone, bucket, pushed, monkeypatch):
    """Nodes and other files are fetched while the transfers that were begun are under way."""
    monkeypatch.setattr("datastore.sync.fetch.plan_loads", never_whole)
    version = pushed(BIG | SMALL)
    clone = new_clone("reader", jobs=3)
    client = Client(bucket)
    with clone.fetching(client) as fetcher:
        loaded = files.load(version.root, clone.store)
        contents = dict(files.entries(loaded, clone.store))
        fetcher.begin(contents[name].content for name in sorted(BIG))
        assert clone.read(version.root, ["images/00.jpg"])
        assert clone.read(version.root, ["labels/299.json"])
        assert clone.read(version.root) == BIG | SMALL
        assert fetcher.unmet is None
    assert client.bytes_down < 1.2 * sum(map(len, bucket.objects.values()))


def test_what_comes_ahead_may_be_given_up(new_clone, bucket, pushed, monkeypatch):
    monkeypatch.setattr("datastore.sync.fetch.plan_loads", never_whole)
    version = pushed(BIG)
    clone = new_clone("reader", jobs=3)
    client = Client(bucket)
    with clone.fetching(client) as fetcher:
        loaded = files.load(version.root, clone.store)
        fetcher.begin([entry.content for _, entry in files.entries(loaded, clone.store)])
        clone.read(version.root, ["images/00.jpg"])
    assert client.closed
    assert not [each for each in threading.enumerate() if "datastore-transfer" in each.name]
    assert client.count("read_range", "packs/") < 30
    assert clone.pull(version.root) == BIG


def test_what_was_not_to_be_had_is_told(clone, bucket, pushed):
    version = pushed(BIG)
    for key in pack_keys(bucket, Kind.DATA):
        del bucket.objects[key]
    with clone.fetching() as fetcher:
        loaded = files.load(version.root, clone.store)
        assert fetcher.unmet is None
        fetcher.bring([entry.content for _, entry in files.entries(loaded, clone.store)])
        assert isinstance(fetcher.unmet, NotFoundError)
        assert "neither here nor on the remote origin" in str(fetcher.unmet)


def test_bytes_turned_once_on_the_way_are_fetched_again(clone, bucket, pushed, monkeypatch):
    version = pushed(BIG | SMALL)
    spoilt: set[str] = set()

    def spoil(key: str, data: bytes) -> bytes:
        if key in spoilt or key == MARKER:
            return data
        spoilt.add(key)
        return data[:100] + bytes([data[100] ^ 1]) + data[101:]

    client = Client(bucket)
    client.spoil = spoil
    assert clone.pull(version.root, client) == BIG | SMALL
    assert len(spoilt) > 2


def test_a_range_turned_once_on_the_way_is_fetched_again(clone, bucket, pushed, monkeypatch):
    monkeypatch.setattr("datastore.sync.fetch.plan_loads", never_whole)
    version = pushed(BIG)
    spoilt: list[str] = []

    def spoil(key: str, data: bytes) -> bytes:
        if key.startswith("packs/") and not spoilt:
            spoilt.append(key)
            return data[:-1] + bytes([data[-1] ^ 1])
        return data

    client = Client(bucket)
    client.spoil = spoil
    assert clone.pull(version.root, client) == BIG


def test_a_pack_that_is_gone(clone, bucket, pushed):
    version = pushed(BIG)
    for key in pack_keys(bucket, Kind.DATA):
        del bucket.objects[key]
    found, failed = delivered(clone, version)
    assert not found
    assert failed.keys() == BIG.keys()


def test_a_pack_that_is_gone_is_looked_for_elsewhere(clone, bucket, new_clone):
    """Another clone healed it after this one had listed the index."""
    origin = new_clone("origin")
    version = origin.version(BIG | SMALL)
    origin.push(version)
    with clone.fetching() as fetcher:
        fetcher.remote.catalog.refresh()
        for key in list(bucket.packs.values()):
            del bucket.objects[key]
        origin.push(version, verify=True)
        assert clone.read(version.root) == BIG | SMALL


def test_a_pack_that_goes_between_the_look_and_the_read(clone, bucket, new_clone):
    origin = new_clone("origin")
    version = origin.version(BIG)
    origin.push(version)
    gone: list[str] = []

    def remove(request: Request) -> None:
        if request.key.startswith("packs/") and not gone:
            gone.append(request.key)
            for key in list(bucket.packs.values()):
                del bucket.objects[key]
            origin.push(version, verify=True)

    assert clone.pull(version.root, Client(bucket, before=remove)) == BIG
    assert gone


def test_of_two_copies_one_is_sound(clone, bucket, new_clone, tmp_path):
    """Two clones pushed the same content at once; one of the packs rots."""
    first, second = new_clone("one"), new_clone("two")
    version = first.version(BIG)
    second.version(BIG)
    first.push(version)
    client = Client(bucket)
    client.stale = ("index/", "roots/")
    second.push(version, storage=client)
    keys = pack_keys(bucket, Kind.DATA)
    assert len(keys) == 2
    bucket.flip(keys[0], 5000)
    assert clone.pull(version.root) == BIG


def test_a_shard_that_lies(clone, bucket, new_clone):
    """Its rows point at other blocks: nothing wrong comes of it."""
    origin, liar = new_clone("origin"), new_clone("liar")
    version = origin.version(SMALL)
    origin.push(version)
    # The packs change places: each key has the bytes of another pack.
    other = liar.version(BIG)
    liar.push(other)
    one, two = pack_keys(bucket, Kind.DATA)
    bucket.objects[one], bucket.objects[two] = bucket.objects[two], bucket.objects[one]
    for wanted in (version, other):
        with contextlib.suppress(CorruptionError, NotFoundError, StorageError):
            assert clone.pull(wanted.root) in (SMALL, BIG)
    for digest in map(chunk_digest, SMALL.values()):
        if clone.store.has(digest):
            assert chunk_digest(clone.store.get_chunk(digest)) == digest


# -- another remote ------------------------------------------------------------------------------


def test_a_remote_that_was_replaced(clone, bucket, new_clone):
    origin = new_clone("origin")
    version = origin.version(SMALL)
    origin.push(version)
    clone.pull(version.root)
    bucket.objects.clear()
    other = new_clone("other")
    again = other.version(BIG)
    other.push(again)
    assert clone.pull(again.root) == BIG
    assert len(list((clone.known / "index").iterdir())) == 2


def test_a_remote_that_was_wiped(clone, bucket, pushed):
    version = pushed(SMALL)
    with clone.fetching():
        clone.read(version.root, ["labels/000.json"])
    bucket.objects.clear()
    with pytest.raises(NotFoundError, match="is empty, but was not") as caught:
        clone.pull(bytes(32))
    assert str(clone.known) in caught.value.hint


def test_only_the_index_listing_is_empty(clone, bucket, pushed):
    version = pushed(SMALL)
    client = Client(bucket)
    client.stale = ("index/",)
    with pytest.raises(NotFoundError):
        clone.pull(version.root, client)
    assert clone.pull(version.root) == SMALL


# -- stopping ------------------------------------------------------------------------------------


def test_ctrl_c_in_the_middle_of_transfers(new_clone, bucket, pushed):
    version = pushed(BIG | LONG)
    clone = new_clone("several", jobs=4)
    client = Client(bucket)

    def interrupt(load, arrived) -> None:
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datastore.sync.download.Download._take", lambda *_: interrupt(None, None))
        with pytest.raises(KeyboardInterrupt), clone.fetching(client):
            clone.read(version.root)
    assert client.closed
    assert not [each for each in threading.enumerate() if "datastore-transfer" in each.name]
    assert clone.pull(version.root) == BIG | LONG
