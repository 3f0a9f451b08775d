"""What arrives is entered in the store; what did not arrive whole is told."""

from __future__ import annotations

import pytest

from datastore.errors import CorruptionError, StorageError
from datastore.kernel.hashing import chunk_digest
from datastore.objects.pack import Kind
from datastore.objects.received import BlockCollector
from datastore.progress import SILENT
from datastore.storage.reasons import SHORT
from datastore.sync.download import Download
from datastore.sync.plan import Load, Span
from tests.kernel.samples import noise
from tests.objects.packs import raw, write_pack
from tests.sync.bucket import Client, Request

MEMBERS = [noise(2000, str(number)) for number in range(6)]
DIGESTS = [chunk_digest(each) for each in MEMBERS]


class Setting:
    """One pack on the remote, of six blocks, and a clone that downloads of it."""

    def __init__(self, clone, bucket, directory) -> None:
        self.sealed, path = write_pack(directory, [raw(each) for each in MEMBERS])
        self.key = f"packs/{self.sealed.name[:2]}/{self.sealed.name}.pack"
        bucket.objects[self.key] = path.read_bytes()
        self.bucket = bucket
        self.clone = clone
        self.client = Client(bucket)
        blocks = self.sealed.blocks
        self.spans = [Span(row.offset, row.payload + row.stored - row.offset) for row in blocks]

    def load(self, *, whole: bool) -> Load:
        start, end = (0, self.sealed.size) if whole else (self.spans[0].start, self.spans[-1].end)
        span = Span(start, end - start)
        return Load(self.sealed.name, Kind.DATA, span, whole=whole, blocks=tuple(self.spans))

    def run(self, *loads: Load, handed=()) -> Download:
        with self.clone.remote(self.client) as remote, SILENT.task("fetch", None, "B") as task:
            collector = BlockCollector(self.clone.store)
            download = Download(self.clone.store, collector, remote, handed=handed)
            for _ in download.run(loads, task):
                pass
            collector.flush()
            return download


@pytest.fixture
def setting(clone, bucket, tmp_path) -> Setting:
    return Setting(clone, bucket, tmp_path / "elsewhere")


@pytest.mark.parametrize("whole", [True, False])
def test_what_arrives_is_in_the_store(setting, whole):
    download = setting.run(setting.load(whole=whole), handed=set(DIGESTS[:2]))
    assert download.arrived == set(DIGESTS)
    assert download.found == dict(zip(DIGESTS[:2], MEMBERS[:2], strict=True))
    assert (download.gone, download.damaged) == (set(), {})
    assert len(setting.client.seen) == 1
    for digest, data in zip(DIGESTS, MEMBERS, strict=True):
        assert setting.clone.store.get_chunk(digest) == data
    names = {path.stem for path in setting.clone.store.pack_files()}
    assert (setting.sealed.name in names) == whole


@pytest.mark.parametrize("whole", [True, False])
def test_one_damaged_block_keeps_nothing_else_back(setting, whole):
    setting.bucket.flip(setting.key, setting.spans[2].start + 100)
    download = setting.run(setting.load(whole=whole), handed=set(DIGESTS))
    assert download.arrived == set(DIGESTS) - {DIGESTS[2]}
    assert download.found.keys() == download.arrived
    assert isinstance(download.damaged[setting.sealed.name], CorruptionError)
    assert setting.clone.store.missing(DIGESTS) == [DIGESTS[2]]


def test_a_damaged_footer_keeps_nothing_back(setting):
    setting.bucket.flip(setting.key, -1)
    download = setting.run(setting.load(whole=True))
    assert download.arrived == set(DIGESTS)
    assert setting.sealed.name in download.damaged
    assert setting.sealed.name not in {p.stem for p in setting.clone.store.pack_files()}


@pytest.mark.parametrize("whole", [True, False])
def test_damage_on_the_way_is_looked_at_twice(setting, whole):
    spoilt: list[str] = []

    def spoil(key: str, data: bytes) -> bytes:
        if spoilt:
            return data
        spoilt.append(key)
        return data[:2500] + bytes([data[2500] ^ 1]) + data[2501:]

    setting.client.spoil = spoil
    download = setting.run(setting.load(whole=whole))
    assert download.arrived == set(DIGESTS)
    assert download.damaged == {}
    assert len(setting.client.seen) == 2


@pytest.mark.parametrize("whole", [True, False])
def test_a_pack_that_was_cut_off(setting, whole):
    cut = setting.spans[3].start + 10
    setting.bucket.objects[setting.key] = setting.bucket.objects[setting.key][:cut]
    download = setting.run(setting.load(whole=whole))
    assert download.arrived == set(DIGESTS[:3])
    error = download.damaged[setting.sealed.name]
    assert isinstance(error, StorageError)
    assert error.reason == SHORT


def test_a_pack_that_is_gone(setting):
    del setting.bucket.objects[setting.key]
    download = setting.run(setting.load(whole=True))
    assert download.gone == {setting.sealed.name}
    assert not download.arrived


def test_a_pack_that_goes_between_two_looks(setting):
    setting.bucket.flip(setting.key, setting.spans[2].start + 100)

    def vanish(_: Request) -> None:
        if len(setting.client.seen) == 1:
            del setting.bucket.objects[setting.key]

    setting.client.after = vanish
    download = setting.run(setting.load(whole=False))
    assert download.arrived == set(DIGESTS) - {DIGESTS[2]}
    assert setting.sealed.name in download.damaged


def test_other_failures_end_it(setting):
    def refuse(_: Request) -> None:
        raise StorageError("no route")

    setting.client.before = refuse
    with pytest.raises(StorageError, match="no route"):
        setting.run(setting.load(whole=True))


def test_a_pack_with_the_bytes_of_another(setting, tmp_path):
    """Sound in itself, but not what the name promises."""
    other, path = write_pack(tmp_path / "third", [raw(noise(2000, f"x{n}")) for n in range(6)])
    assert other.size == setting.sealed.size
    setting.bucket.objects[setting.key] = path.read_bytes()
    download = setting.run(setting.load(whole=True), handed=set(DIGESTS))
    assert not download.found
    assert not download.arrived & set(DIGESTS)
    assert setting.sealed.name in download.damaged
