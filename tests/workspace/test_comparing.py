"""Versions beside each other: ``diff`` and ``log``."""

from __future__ import annotations

import shutil

import pytest

from datastore.errors import NotFoundError, UsageError
from datastore.repository import Repository
from datastore.workspace.changes import DiffCounts


@pytest.fixture
def history(project):
    """Three versions of one dataset, tagged v1 to v3; the files are those of v3."""
    project.version("v1", {"a": "1", "b/c": "2", "b/d": "3", "moved": "the same"})
    project.version("v2", {"a": "11", "b/c": "2", "e": "5", "b/moved": "the same"})
    project.version("v3", {"a": "11", "b/c": "2", "e": "5", "f": "6", "b/moved": "the same"})
    return project


V1_V2 = [
    "modified images/a",
    "removed images/b/d",
    "renamed images/moved images/b/moved",
    "added images/e",
]


@pytest.mark.parametrize(
    "revisions", [("v1", "v2"), ("v1..v2",), ("v1...v2",), ("HEAD~2", "HEAD~1"), ("HEAD~2..v2",)]
)
def test_two_revisions(history, revisions):
    assert sorted(history.changes(*revisions)) == sorted(V1_V2)
    result = history.repo.diff(*revisions)
    assert result.files == DiffCounts(added=1, removed=1, modified=1, renamed=1)
    assert list(result.changes) == sorted(result.changes, key=lambda change: change.path)


def test_sizes(history):
    sizes = {
        each.path: (each.old_size, each.new_size) for each in history.repo.diff("v1", "v2").changes
    }
    assert sizes == {
        "images/a": (1, 2),
        "images/b/d": (1, None),
        "images/b/moved": (8, 8),
        "images/e": (None, 1),
    }


def test_a_revision_with_itself(history):
    assert history.changes("v1", "v1") == []
    assert history.changes("v3..HEAD") == []


def test_an_open_range_ends_at_head(history):
    assert history.changes("v2..") == ["added images/f"]
    assert history.changes("..v2") == ["removed images/f"]


def test_three_dots_are_from_the_common_ancestor(history):
    history.git("checkout", "--quiet", "-b", "side", "v1")
    history.repo.checkout()
    history.write({"images/side": "7"})
    history.repo.add("images")
    history.commit("side")
    assert history.changes("v3...side") == ["added images/side"]
    assert history.changes("side...v3") == history.changes("v1", "v3")
    assert "added images/side" in history.changes("v3..side")
    assert "removed images/f" in history.changes("v3..side")


def test_head_and_the_workspace(history):
    assert history.changes() == []
    history.write({"images/a": "111", "images/g": "7"})
    history.remove("images/e")
    expected = ["modified images/a", "removed images/e", "added images/g"]
    assert history.changes() == expected
    assert history.changes("HEAD") == expected
    assert history.changes("v3") == expected
    history.repo.add("images")
    assert history.changes() == expected  # HEAD is what it was
    history.commit("v4")
    assert history.changes() == []


def test_an_older_revision_and_the_workspace(history):
    history.write({"images/a": "111"})
    assert history.changes("v2") == ["modified images/a", "added images/f"]
    history.remove("images")
    assert history.changes("v3") == [
        f"removed images/{path}" for path in ("a", "b/c", "b/moved", "e", "f")
    ]


def test_paths_inside(history):
    assert history.changes("v1", "v2", paths=("images/b",)) == [
        "removed images/b/d",
        "added images/b/moved",
    ]
    assert history.changes("v1", "v2", paths=("images/a",)) == ["modified images/a"]
    assert history.changes("v1", "v2", paths=("images/b/c",)) == []
    assert history.changes("v1", "v2", paths=("images/a", "images/e")) == [
        "modified images/a",
        "added images/e",
    ]
    history.write({"images/a": "111", "images/b/new": "7"})
    assert history.changes(paths=("images/b",)) == ["added images/b/new"]


def test_a_path_is_compared_once(history):
    assert history.changes("v1", "v2", paths=("images/a", "images", "images/b")) == history.changes(
        "v1", "v2"
    )


def test_a_decomposed_path(project):
    project.version("v1", {"e\u0301/x": "1", "z": "2"})
    project.version("v2", {"e\u0301/x": "11", "z": "22"})
    for spelled in ("images/e\u0301", "images/\u00e9", "images/e\u0301/x"):
        assert project.changes("v1", "v2", paths=(spelled,)) == ["modified images/\u00e9/x"]


def test_a_dataset_that_came_and_went(history):
    history.put("more", {"x": "1", "y/z": "2"})
    history.repo.add("more")
    history.commit("v4")
    history.git("tag", "v4")
    came = ["added more/x", "added more/y/z"]
    went = ["removed more/x", "removed more/y/z"]
    assert history.changes("v3", "v4") == came
    assert history.changes("v4", "v3") == went
    assert history.changes("v3", "v4", paths=("more",)) == came
    assert history.changes("v3", paths=("more",)) == came
    assert history.changes("v3", "v4", paths=("more/y",)) == ["added more/y/z"]
    history.remove("more.ds", "more")
    assert history.changes("v4") == went
    assert history.changes(paths=("more",)) == went
    history.commit("v5")
    assert history.changes("v4..HEAD") == went
    with pytest.raises(NotFoundError, match="'more' is not a dataset"):
        history.changes(paths=("more",))


def test_a_renamed_dataset(history):
    history.path("images").rename(history.path("photos"))
    history.path("images.ds").rename(history.path("photos.ds"))
    history.repo.add("photos")
    history.commit("v4")
    changes = history.changes("v3", "HEAD")
    assert changes == sorted(changes, key=lambda each: each.split()[-1])
    assert len(changes) == 10  # files are followed within a dataset


def test_what_is_not_there(history, project):
    for revisions in [("v9",), ("v1", "v9"), ("v1..v9",), ("v9...v1",)]:
        with pytest.raises(NotFoundError, match="there is no revision 'v9'"):
            history.repo.diff(*revisions)
    with pytest.raises(NotFoundError, match="'nothing' is not a dataset"):
        history.repo.diff("v1", "v2", ["nothing"])
    with pytest.raises(UsageError, match="is a range already"):
        history.repo.diff("v1..v2", "v3")


def test_without_commits(project):
    project.put("images", {"a": "1"})
    project.repo.add("images")
    with pytest.raises(NotFoundError, match="no commits yet"):
        project.repo.diff()


def test_two_pointers(history):
    data = [history.git("show", f"{rev}:images.ds").encode() for rev in ("v1", "v2")]
    shown = history.repo.diff_pointers(*data, "images.ds")
    assert shown == history.repo.diff("v1", "v2")
    assert history.repo.diff_pointers(None, data[0], "images.ds").files.added == 4
    assert history.repo.diff_pointers(data[0], None, "images.ds").files.removed == 4


def test_the_files_are_not_read_where_the_store_knows(history, opened):
    history.repo.diff("v1", "v2")
    assert opened == []


# -- log -------------------------------------------------------------------------------------------


def entries(project, *paths, limit=None):
    return [
        (each.subject, each.path, each.files, each.added, each.removed, each.modified)
        for each in project.repo.log(paths, limit=limit)
    ]


def test_versions_newest_first(history):
    assert entries(history) == [
        ("v3", "images", 5, 1, 0, 0),
        ("v2", "images", 4, 2, 2, 1),
        ("v1", "images", 4, 4, 0, 0),
    ]
    (newest, *_) = history.repo.log()
    assert newest.commit == history.git("rev-parse", "v3").strip()
    assert (newest.author, newest.email) == ("Tess Ter", "tess@example.org")
    assert newest.date == history.git("log", "-1", "--format=%aI").strip()
    assert newest.root == history.root()
    assert newest.bytes == 13


def test_a_limit(history):
    assert [each[0] for each in entries(history, limit=2)] == ["v3", "v2"]
    assert entries(history, limit=0) == []
    assert len(entries(history, limit=99)) == 3


def test_a_commit_of_several_datasets(project):
    project.put("one", {"a": "1"})
    project.put("two", {"a": "1", "b": "2"})
    project.repo.add(["one", "two"])
    project.commit("both")
    project.write({"README": "text"})
    project.commit("no data")
    project.write({"two/a": "11"})
    project.repo.add("two")
    project.commit("one of them")
    assert entries(project) == [
        ("one of them", "two", 2, 0, 0, 1),
        ("both", "one", 1, 1, 0, 0),
        ("both", "two", 2, 2, 0, 0),
    ]
    assert [each[0] for each in entries(project, "one")] == ["both"]
    assert [each[0] for each in entries(project, "two", "one")] == ["one of them", "both", "both"]
    assert len(entries(project, limit=2)) == 2


def test_datasets_of_a_directory(project):
    project.put("data/one", {"a": "1"})
    project.put("other", {"a": "1"})
    project.repo.add(["data/one", "other"])
    project.commit("both")
    assert [each[1] for each in entries(project, "data")] == ["data/one"]
    assert [each[1] for each in entries(project, ".")] == ["data/one", "other"]
    with Repository.open(project.path("data")) as inner:
        assert [each.path for each in inner.log("one")] == ["data/one"]


def test_a_removed_dataset(history):
    history.remove("images.ds", "images")
    history.commit("gone")
    assert entries(history, "images")[:2] == [
        ("gone", "images", 0, 0, 5, 0),
        ("v3", "images", 5, 1, 0, 0),
    ]
    (gone, *_) = history.repo.log()
    assert (gone.root, gone.bytes, gone.removed) == ("", 0, 5)


def test_a_renamed_dataset_begins_anew(history):
    history.git("mv", "images.ds", "photos.ds")
    history.path("images").rename(history.path("photos"))
    history.commit("renamed")
    assert entries(history)[:2] == [
        ("renamed", "images", 0, 0, 5, 0),
        ("renamed", "photos", 5, 5, 0, 0),
    ]
    assert [each[0] for each in entries(history, "photos")] == ["renamed"]
    assert [each[0] for each in entries(history, "images")] == ["renamed", "v3", "v2", "v1"]
    assert len(entries(history, "images", "photos")) == 5


def test_merges(history):
    history.git("checkout", "--quiet", "-b", "side", "v2")
    history.repo.checkout()
    history.write({"images/side": "7"})
    history.repo.add("images")
    history.commit("side")
    history.git("checkout", "--quiet", "main")
    history.git("merge", "--quiet", "--no-edit", "-m", "merge", "side")
    found = entries(history)
    assert found[0] == ("merge", "images", 6, 1, 0, 0)  # against the first parent
    assert {each[0] for each in found} == {"merge", "side", "v3", "v2", "v1"}


def test_a_merge_that_took_one_side_is_no_version(history):
    history.git("checkout", "--quiet", "-b", "side", "v2")
    history.write({"README": "text"})
    history.commit("text only")
    history.git("merge", "--quiet", "--no-edit", "-m", "merge", "v3")
    assert [each[0] for each in entries(history)] == ["v3", "v2", "v1"]


def test_a_pointer_that_nobody_can_read(history):
    history.write({"images.ds": "garbage\n"})
    history.commit("broken")
    found = entries(history)
    assert found[0] == ("broken", "images", 0, 0, 0, 0)
    assert len(found) == 4


def test_a_clone_without_the_store(history, tmp_path):
    history.git("clone", "--quiet", str(history.top), str(tmp_path / "clone"))
    with Repository.open(tmp_path / "clone") as clone:
        found = list(clone.log("images"))
        assert [each.subject for each in found] == ["v3", "v2", "v1"]
        assert [each.files for each in found] == [5, 4, 4]
        assert all(each.root.startswith("b3:") for each in found)
        with pytest.raises(NotFoundError, match=r"the store does not have the version of images"):
            clone.diff("v1", "v2")
    shutil.copytree(
        history.store / "packs", tmp_path / "clone/.git/datastore/packs", dirs_exist_ok=True
    )
    with Repository.open(tmp_path / "clone") as clone:
        assert clone.diff("v1", "v2") == history.repo.diff("v1", "v2")


def test_no_commits_and_no_such_dataset(project):
    with pytest.raises(NotFoundError, match="no commits yet"):
        list(project.repo.log())
    project.version("v1", {"a": "1"})
    assert list(project.repo.log("never")) == []
