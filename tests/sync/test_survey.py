"""What a push finds to be sent."""

from __future__ import annotations

import pytest

from datastore.objects.pack import Kind
from datastore.progress import SILENT
from datastore.sync.survey import Survey, Version
from tests.kernel.samples import noise
from tests.sync.clones import Files

ONE: Files = {"a": b"alpha", "b": noise(300_000, "b")}
TWO: Files = ONE | {"a": b"another"}


@pytest.fixture
def survey(clone):
    """Makes surveys of the clone's store against the remote."""
    with clone.remote() as remote, SILENT.task("compare", None, "versions") as task:
        remote.connect(create=True)
        remote.catalog.refresh()
        yield lambda: Survey(clone.store, remote.catalog, task)


def test_all_is_new(clone, survey):
    one = clone.version(ONE)
    looked = survey()
    looked.look([one], set(), trust=True)
    assert {pack.kind for pack in looked.packs.values()} == {Kind.DATA, Kind.META}
    assert {pack.name: pack.size for pack in looked.packs.values()} == {
        path.stem: path.stat().st_size for path in clone.store.pack_files()
    }
    assert not looked.absent
    assert not looked.healed


def test_what_was_acknowledged_is_believed(clone, survey):
    one = clone.version(ONE)
    looked = survey()
    looked.look([one], {one.root}, trust=True)
    assert not looked.packs
    looked.look([one], {one.root}, trust=False)
    assert len(looked.packs) == 2


def test_what_shares_with_an_acknowledged_version_is_not_looked_at(clone, survey, monkeypatch):
    """Of two versions of 2,000 files that differ in one, a few nodes are read."""
    many = {f"{number:04}": b"%d" % number for number in range(2000)}
    one = clone.version(many)
    clone.push(one)
    two = clone.version(many | {"0007": b"changed"})
    read: list[bytes] = []
    real = clone.store.read_nodes
    monkeypatch.setattr(clone.store, "read_nodes", lambda d: read.extend(d) or real(d))
    looked = survey()
    looked._catalog.refresh()
    looked.look([two, one], {one.root}, trust=True)
    assert len(set(read)) <= 6
    assert len(looked.packs) == 2


def test_packs_that_were_lost_are_named(clone, survey):
    one = clone.version(ONE)
    clone.push(one)
    looked = survey()
    looked._catalog.refresh()
    looked._catalog.lost |= set(clone.bucket.packs)
    looked.look([one], {one.root}, trust=False)
    assert looked.healed == set(clone.bucket.packs)
    assert {name[:64] for name in looked.healed} == {name[:64] for name in looked.packs}


def test_absent_versions_are_told_apart(clone, survey):
    lost = clone.version({"x": b"lost"}, rev="1")
    sharing = clone.version({"x": b"lost", "y": b"more"}, rev="2")
    unknown = Version("images", "3", bytes(32))
    one = clone.version(ONE, rev="4")
    row = clone.store.index.packs()[0]
    assert row.kind == Kind.DATA
    clone.store.evict([row.name])
    looked = survey()
    looked.look([one, sharing, unknown, lost], set(), trust=True, alone=True)
    assert {version.rev for version in looked.absent} == {"1", "2", "3"}


def test_small_batches_find_the_same(clone, survey, monkeypatch):
    monkeypatch.setattr("datastore.sync.survey._BATCH", 3)
    many = {f"{number:04}": b"%d" % number for number in range(300)}
    versions = [clone.version(many), clone.version(many | {"0007": b"changed"})]
    looked = survey()
    looked.look(versions, set(), trust=True)
    assert len(looked.packs) == 4


def test_absent_versions_that_share_what_is_lacking(clone, survey):
    """The node that leads to the lost chunk is the same in both: neither may be taken for whole."""
    many = {f"{number:04}": b"%d" % number for number in range(2000)}
    lost = clone.version({"0000": many["0000"]}, rev="0")
    one = clone.version(many, rev="1")
    two = clone.version(many | {"1999": b"changed"}, rev="2")
    row = clone.store.index.packs()[0]
    assert row.kind == Kind.DATA
    clone.store.evict([row.name])
    looked = survey()
    looked.look([two, one, lost], set(), trust=True, alone=True)
    assert {version.rev for version in looked.absent} == {"0", "1", "2"}


def test_what_versions_share_is_looked_at_once(clone, survey, monkeypatch):
    many = {f"{number:04}": b"%d" % number for number in range(2000)}
    versions = [clone.version(many | {"0007": b"change %d" % each}) for each in range(10)]
    read: list[bytes] = []
    real = clone.store.read_nodes
    monkeypatch.setattr(clone.store, "read_nodes", lambda d: read.extend(d) or real(d))
    survey().look(versions, set(), trust=True)
    assert len(read) <= len(set(read)) + 2 * len(versions)
