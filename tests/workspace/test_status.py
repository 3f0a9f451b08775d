"""How the workspace differs from its pointers."""

from __future__ import annotations

import os

import pytest

from datastore.errors import NotFoundError, UsageError
from datastore.repository import Repository
from datastore.workspace.statcache import CacheDamagedError, StatCache
from tests.project import settle


@pytest.fixture
def two(project):
    """Two datasets, committed."""
    project.put("images", {"a": "1", "b/c": "2", "b/d": "3", "e/f": "4"})
    project.write({"data/labels.csv": "a,b\n"})
    project.repo.add(["images", "data/labels.csv"])
    project.commit()
    return project


def one(project, *paths):
    """The status of the one dataset that is asked for."""
    (found,) = project.repo.status(paths).pointers
    return found


def test_nothing_is_tracked(repo):
    assert repo.status().clean
    assert repo.status().pointers == ()


def test_clean(two):
    result = two.repo.status()
    assert result.clean
    assert [(each.path, each.state, each.committed) for each in result.pointers] == [
        ("data/labels.csv", "clean", True),
        ("images", "clean", True),
    ]


def test_modified(two):
    two.write({"images/a": "11", "images/new": "5"})
    two.remove("images/b/c")
    two.path("images/e").rename(two.path("images/g"))
    result = two.repo.status()
    assert not result.clean
    images = result.pointers[1]
    assert images.state == "modified"
    assert images.added == ("images/new",)
    assert images.modified == ("images/a",)
    assert images.deleted == ("images/b/c",)
    assert images.renamed == (("images/e/f", "images/g/f"),)
    assert images.committed
    assert result.pointers[0].state == "clean"


def test_the_executable_bit(two):
    two.path("images/a").chmod(0o755)
    assert one(two, "images").modified == ("images/a",)
    two.path("images/a").chmod(0o600)
    assert one(two, "images").state == "clean"


def test_kinds_that_change(two):
    two.remove("images/a", "images/b")
    two.write({"images/a/x": "9", "images/b": "8"})
    found = one(two, "images")
    assert found.added == ("images/a/x", "images/b")
    assert found.deleted == ("images/a", "images/b/c", "images/b/d")
    two.remove("images/a", "images/b")
    two.path("images/a").symlink_to("e/f")
    two.path("images/b").mkdir()
    found = one(two, "images")
    assert found.modified == ("images/a",)
    assert found.deleted == ("images/b/c", "images/b/d")
    assert found.added == ()


def test_an_empty_directory(two):
    two.path("images/hollow").mkdir()
    assert one(two, "images").added == ("images/hollow/",)
    two.repo.add("images")
    assert one(two, "images").state == "clean"
    two.path("images/hollow").rmdir()
    assert one(two, "images").deleted == ("images/hollow/",)


def test_missing(two):
    two.remove("images")
    found = one(two, "images")
    assert (found.state, found.deleted, found.committed) == ("missing", (), True)
    assert not two.repo.status().clean
    two.path("images").mkdir()
    found = one(two, "images")
    assert found.state == "modified"
    assert len(found.deleted) == 4


def test_a_dataset_that_is_a_file(two):
    two.write({"data/labels.csv": "other\n"})
    assert one(two, "data/labels.csv").modified == ("data/labels.csv",)
    two.remove("data/labels.csv")
    assert one(two, "data/labels.csv").state == "missing"
    two.put("data/labels.csv", {"x": "1"})
    found = one(two, "data/labels.csv")
    assert found.added == ("data/labels.csv/x",)
    assert found.deleted == ("data/labels.csv",)


def test_conflict(two):
    good = two.pointer()
    two.path("images.ds").write_text(f"<<<<<<< ours\n{good}=======\n{good}>>>>>>> theirs\n")
    result = two.repo.status()
    assert not result.clean
    assert result.pointers[1].state == "conflict"
    assert "conflict markers" in result.pointers[1].message
    assert not result.pointers[1].committed
    assert result.pointers[0].state == "clean"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "it is empty"),
        ("this is no pointer\n", "line 1"),
        ("datastore: 2\n", "newer than this program"),
        ("datastore: 1\nkind: films\n", "'films'"),
    ],
)
def test_broken(two, text, message):
    two.path("images.ds").write_text(text)
    result = two.repo.status()
    assert not result.clean
    assert result.pointers[1].state == "broken"
    assert message in result.pointers[1].message
    assert not result.pointers[1].committed


def test_broken_in_a_clone_without_the_store(two, tmp_path):
    two.git("clone", "--quiet", str(two.top), str(tmp_path / "clone"))
    with Repository.open(tmp_path / "clone") as clone:
        result = clone.status()
        assert not result.clean
        assert {each.state for each in result.pointers} == {"broken"}
        assert "the store does not have the version of images" in result.pointers[1].message
        assert "another clone" in result.pointers[1].message
        assert all(each.committed for each in result.pointers)


def test_committed(project):
    project.put("images", {"a": "1"})
    project.repo.add("images")
    assert not one(project, "images").committed  # and there is no commit at all
    project.git("add", "--all")
    assert not one(project, "images").committed
    project.commit()
    assert one(project, "images").committed
    project.write({"images/a": "2"})
    assert one(project, "images").committed
    project.repo.add("images")
    found = one(project, "images")
    assert (found.state, found.committed) == ("clean", False)
    assert project.repo.status().clean


def test_a_subset_of_paths(two):
    two.write({"images/a": "11", "images/b/c": "22", "images/b/new": "5"})
    found = one(two, "images/b")
    assert (found.path, found.state) == ("images", "modified")
    assert (found.modified, found.added) == (("images/b/c",), ("images/b/new",))
    assert one(two, "images/b/d").state == "clean"
    assert one(two, "images/a").modified == ("images/a",)
    assert one(two, "images/e").state == "clean"
    assert one(two, "data").path == "data/labels.csv"
    assert [each.path for each in two.repo.status(["images/e", "data/labels.csv"]).pointers] == [
        "images",
        "data/labels.csv",
    ]


def test_a_path_that_is_part_of_another_is_told_once(two):
    two.write({"images/a": "11"})
    for paths in (["images", "images/a"], ["images/a", "images"], ["images", "images", "."]):
        found = [each for each in two.repo.status(paths).pointers if each.path == "images"]
        assert [each.modified for each in found] == [("images/a",)]


def test_a_path_that_leads_to_no_dataset(two):
    with pytest.raises(NotFoundError, match="'nothing' is not a dataset, nor in one") as caught:
        two.repo.status("nothing")
    assert "datastore ls" in caught.value.hint
    with pytest.raises(UsageError, match="is not in the workspace"):
        two.repo.status("../elsewhere")


def test_a_decomposed_path(project):
    project.put("images", {"e\u0301/x": "1", "e\u0301/y": "2", "z": "3"})
    project.repo.add("images")
    project.write({"images/e\u0301/x": "11", "images/z": "33"})
    for spelled in ("images/e\u0301", "images/\u00e9"):
        assert one(project, spelled).modified == ("images/\u00e9/x",)


def test_a_repository_opened_in_a_directory(two):
    two.write({"images/b/c": "22", "images/a": "11"})
    with Repository.open(two.path("images/b")) as inner:
        (found,) = inner.status(".").pointers
        assert found.modified == ("images/b/c",)
        assert len(inner.status().pointers) == 2


def test_a_pointer_that_is_gone(two):
    two.remove("images.ds")
    assert [each.path for each in two.repo.status().pointers] == ["data/labels.csv"]
    with pytest.raises(NotFoundError):
        two.repo.status("images")


# -- what is remembered ----------------------------------------------------------------------------


def test_a_file_that_was_only_touched_is_read_once(two, opened):
    settle()
    two.repo.status()
    os.utime(two.path("images/a"))
    os.utime(two.path("data/labels.csv"))
    settle()
    opened.clear()
    assert two.repo.status().clean
    assert sorted(opened) == ["a", "labels.csv"]
    assert two.repo.status().clean
    assert sorted(opened) == ["a", "labels.csv"]


def test_a_modified_file_is_not_taken_for_known(two, opened):
    two.write({"images/a": "11"})
    settle()
    for _ in range(3):
        assert one(two, "images").modified == ("images/a",)
    two.write({"images/a": "1"})
    settle()
    assert one(two, "images").state == "clean"
    opened.clear()
    assert one(two, "images").state == "clean"
    assert opened == []


def test_a_deleted_file_stays_deleted(two):
    settle()
    two.remove("images/b/c", "images/e")
    for _ in range(3):
        assert one(two, "images").deleted == ("images/b/c", "images/e/f")


def test_status_stores_nothing(two):
    before = sorted(two.store.rglob("*.pack"))
    two.write({"images/a": os.urandom(5000), "images/big": os.urandom(500_000)})
    two.repo.status()
    assert sorted(two.store.rglob("*.pack")) == before


def test_without_an_index(two):
    two.close()
    for path in (two.store / "index").iterdir():
        path.unlink()
    assert two.repo.status().clean
    two.write({"images/a": "11"})
    assert one(two, "images").modified == ("images/a",)


def test_after_the_files_went_back_to_an_older_version(two):
    old = two.tree()
    two.write({"images/a": "11", "images/new": "5"})
    two.repo.add("images")
    two.commit("v2")
    two.write({"images/a": "1"})
    two.remove("images/new")
    assert two.tree() == old
    found = one(two, "images")
    assert (found.modified, found.deleted) == (("images/a",), ("images/new",))
    two.git("checkout", "--quiet", "HEAD~1", "--", "images.ds")
    assert one(two, "images").state == "clean"


@pytest.mark.parametrize("verb", ["status", "add", "add a part", "checkout"])
def test_a_damaged_record_is_forgotten(two, monkeypatch, verb):
    settle()
    two.repo.status()
    two.write({"images/a": "11"})
    really, calls = StatCache.read, []

    def read(self, identity):
        calls.append(identity)
        if len(calls) == 1:
            raise CacheDamagedError
        return really(self, identity)

    monkeypatch.setattr(StatCache, "read", read)
    if verb == "status":
        assert one(two, "images").modified == ("images/a",)
    elif verb == "checkout":
        two.repo.checkout(paths=["images"], force=True)
        assert two.path("images/a").read_text() == "1"
    else:
        (added,) = two.repo.add("images" if verb == "add" else "images/b").pointers
        assert added.modified == (verb == "add")
    assert calls
