"""Verifying what is stored, and making the index again."""

from __future__ import annotations

import os
import shutil

import pytest

from datastore import maintenance
from datastore.errors import CorruptionError, NotFoundError, StorageError
from datastore.objects.pack import Kind
from datastore.objects.packreader import read_footer


def packs(project, kind):
    """The packs of a kind, oldest first."""
    found = [
        path for path in project.store.glob("packs/*/*.pack") if read_footer(path).kind is kind
    ]
    return sorted(found, key=lambda path: path.stat().st_mtime_ns)


def flip(path, at):
    """Flips a bit; a negative place counts from the end."""
    data = bytearray(path.read_bytes())
    data[at] ^= 0x10
    path.chmod(0o644)
    path.write_bytes(data)


@pytest.fixture
def history(project):
    """Two versions; the second one brings a pack of its own."""
    project.version("v1", {"a": os.urandom(5000), "b/c": os.urandom(300_000), "empty": b""})
    project.write({"images/new": os.urandom(5000)})
    project.repo.add("images")
    project.commit("v2")
    project.git("tag", "v2")
    return project


def where(result):
    return sorted({(each.path, each.rev) for each in result.damaged if each.path})


def short(project, rev):
    return project.git("rev-parse", rev).strip()[:12]


def test_all_is_well(history):
    result = history.repo.verify()
    assert result.ok
    assert result.damaged == ()
    assert result.checked["packs"] == 4
    assert result.checked["chunks"] > 5
    assert result.checked["nodes"] >= 4
    # Each commit's version, and the workspace's; what they share is looked at once.
    assert result.checked["versions"] == 3
    assert result.checked["files"] == 4
    assert result.checked["bytes"] == sum(
        path.stat().st_size for path in history.store.glob("packs/*/*.pack")
    )


def test_nothing_to_verify(repo):
    result = repo.verify()
    assert result.ok
    assert set(result.checked.values()) == {0}


def test_quick_reads_no_content(history):
    flip(packs(history, Kind.DATA)[0], 2000)
    assert history.repo.verify(quick=True).ok
    assert not history.repo.verify().ok


def test_a_flipped_bit_names_file_and_version(history):
    pack = packs(history, Kind.DATA)[1]
    flip(pack, 2000)
    result = history.repo.verify()
    assert not result.ok
    assert where(result) == [("images/new", "")]
    (damage,) = [each for each in result.damaged if each.path]
    assert damage.pack == pack.name
    assert damage.reason.endswith(" is damaged")
    assert any(each.pack == pack.name and not each.path for each in result.damaged)
    # Asked for by revision, it is named by revision.
    assert where(history.repo.verify(revs=["v2"])) == [("images/new", short(history, "v2"))]
    by_v1 = history.repo.verify(revs=["v1"])
    assert not by_v1.ok
    assert where(by_v1) == []
    with pytest.raises(CorruptionError):
        history.repo.read("images/new")
    assert len(history.repo.read("images/b/c")) == 300_000


@pytest.mark.parametrize("quick", [False, True])
def test_a_missing_pack(history, quick):
    pack = packs(history, Kind.DATA)[0]
    pack.unlink()
    result = history.repo.verify(quick=quick)
    assert not result.ok
    assert ("images/a", "") in where(result)
    assert ("images/b/c", "") in where(result)
    assert ("images/new", "") not in where(result)
    assert any(
        each.pack == pack.name and each.reason == "the pack is gone" for each in result.damaged
    )


def test_a_missing_pack_of_nodes(history):
    for pack in packs(history, Kind.META):
        pack.unlink()
    result = history.repo.verify()
    assert not result.ok
    assert {each.path for each in result.damaged} >= {"images"}


@pytest.mark.parametrize("quick", [False, True])
def test_a_truncated_pack(history, quick):
    pack = packs(history, Kind.DATA)[0]
    data = pack.read_bytes()
    pack.chmod(0o644)
    pack.write_bytes(data[: len(data) // 2])
    result = history.repo.verify(quick=quick)
    assert not result.ok
    assert any(each.pack == pack.name for each in result.damaged)
    assert where(result)


def test_a_pack_with_another_name(history):
    pack = packs(history, Kind.DATA)[0]
    name = "0" * 64 + pack.name[64:]
    other = history.store / "packs" / "00" / name
    other.parent.mkdir(exist_ok=True)
    shutil.copy(pack, other)
    result = history.repo.verify()
    assert [(each.pack, each.reason) for each in result.damaged] == [
        (name, "its bytes are not what its name promises")
    ]


def test_a_version_that_is_not_here(history):
    text = history.pointer()
    history.path("images.ds").write_text(text.replace(history.root(), "b3:" + "0" * 64))
    result = history.repo.verify()
    assert not result.ok
    assert where(result) == [("images", "")]
    assert history.repo.verify(revs=["HEAD"]).ok


def test_only_some_revisions(history):
    assert history.repo.verify(revs=["v1"]).checked["versions"] == 1
    assert history.repo.verify(revs=["v1", "v2"]).checked["versions"] == 2
    with pytest.raises(NotFoundError, match="there is no revision 'v9'"):
        history.repo.verify(revs=["v9"])


def test_verifying_changes_nothing(history):
    flip(packs(history, Kind.DATA)[0], 2000)
    before = {path: path.read_bytes() for path in history.store.glob("packs/*/*.pack")}
    history.repo.verify()
    assert {path: path.read_bytes() for path in history.store.glob("packs/*/*.pack")} == before


# -- the index -------------------------------------------------------------------------------------


def test_the_index_is_a_cache(history):
    before = history.stored()
    counts = history.repo.rebuild_index()
    assert (counts.packs, counts.damaged) == (4, ())
    assert counts.chunks > 5
    assert history.stored() == before
    assert history.repo.verify().ok
    history.close()
    shutil.rmtree(history.store / "index")
    assert history.stored() == before
    assert history.repo.verify().ok
    assert history.repo.status().clean


def test_an_index_of_garbage(history):
    before = history.stored()
    history.close()
    for path in (history.store / "index").iterdir():
        path.write_bytes(b"garbage" * 1000)
    assert history.stored() == before
    assert history.repo.verify().ok


def test_adding_again_heals(history):
    before = history.stored()
    pack = packs(history, Kind.DATA)[1]
    flip(pack, 2000)
    result = history.repo.rebuild_index()
    assert result.damaged == (pack.name,)
    assert where(history.repo.verify()) == [("images/new", "")]
    (added,) = history.repo.add("images").pointers
    assert not added.changed
    assert added.new_chunks == 1
    assert history.stored() == before
    after = history.repo.verify()
    assert after.ok
    assert not pack.exists()
    assert (pack.parent.parent.parent / "quarantine" / pack.name).exists()  # set aside, not deleted


def test_adding_again_heals_a_missing_pack(history):
    before = history.stored()
    for pack in packs(history, Kind.DATA):
        pack.unlink()
    # A pack that is gone is noticed without being told.
    (added,) = history.repo.add("images").pointers
    assert not added.changed
    assert history.repo.status().clean
    if history.repo.verify().ok:
        assert history.stored() == before
    history.repo.rebuild_index()
    history.repo.add("images")
    assert history.repo.verify().ok
    assert history.stored() == before


def test_adding_again_heals_lost_nodes(history):
    before = history.stored()
    for pack in packs(history, Kind.META):
        pack.unlink()
    (added,) = history.repo.add("images").pointers
    assert added.root == history.root()
    assert history.stored() == before
    assert history.repo.verify(revs=["HEAD"]).ok


def test_a_pack_from_another_clone_heals(history, tmp_path):
    before = history.stored()
    shutil.copytree(history.store / "packs", tmp_path / "backup")
    for pack in packs(history, Kind.DATA):
        flip(pack, 2000)
    assert not history.repo.verify().ok
    shutil.rmtree(history.store / "packs")
    shutil.copytree(tmp_path / "backup", history.store / "packs")
    history.repo.rebuild_index()
    assert history.repo.verify().ok
    assert history.stored() == before


def test_what_is_not_sound_is_left_out(history):
    pack = packs(history, Kind.DATA)[0]
    data = bytearray(pack.read_bytes())
    data[-200:] = bytes(200)  # the footer is lost
    pack.chmod(0o644)
    pack.write_bytes(data)
    result = history.repo.rebuild_index()
    assert result.damaged == (pack.name,)
    assert len(history.repo.read("images/b/c")) == 300_000  # read by its blocks


def test_a_pack_that_cannot_be_read_is_not_taken_for_damaged(history, monkeypatch):
    before = sorted(packs(history, Kind.DATA) + packs(history, Kind.META))

    def refuse(path):
        raise StorageError("the disk does not answer")

    monkeypatch.setattr(maintenance, "open_pack", refuse)
    with pytest.raises(StorageError, match="does not answer"):
        history.repo.rebuild_index()
    monkeypatch.undo()
    assert sorted(packs(history, Kind.DATA) + packs(history, Kind.META)) == before
    history.repo.rebuild_index()
    assert history.repo.verify().ok
