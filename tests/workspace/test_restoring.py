"""The verb ``checkout``: which versions, which paths, and what of the workspace follows."""

from __future__ import annotations

import shutil

import pytest

from datastore.errors import ConflictError, CorruptionError, NotFoundError, UsageError
from datastore.repository import Repository
from tests.project import tree


@pytest.fixture
def history(project):
    """Two versions of one dataset, v1 and v2, beside one that stays the same."""
    project.put("labels", {"x": "1"})
    project.repo.add("labels")
    project.version("v1", {"a": "1", "b/c": "2", "b/d": "3"})
    project.version("v2", {"a": "11", "b/c": "2", "e": "5"})
    return project


V1 = {"a": ("file", b"1"), "b/c": ("file", b"2"), "b/d": ("file", b"3")}
V2 = {"a": ("file", b"11"), "b/c": ("file", b"2"), "e": ("file", b"5")}


def test_a_version_and_back(history):
    (images, labels) = history.repo.checkout("v1").pointers
    assert history.tree() == V1
    assert (images.path, images.written, images.removed, images.kept, images.bytes) == (
        "images",
        2,
        1,
        0,
        2,
    )
    assert (labels.path, labels.written, labels.removed) == ("labels", 0, 0)
    assert history.git("status", "--porcelain") == " M images.ds\n"
    assert history.pointer() == history.git("show", "v1:images.ds")
    history.repo.checkout("HEAD")
    assert history.tree() == V2
    assert history.git("status", "--porcelain") == ""
    assert history.repo.status().clean


def test_no_git_ref_moves(history):
    before = history.git("rev-parse", "HEAD", "--symbolic-full-name", "HEAD")
    history.repo.checkout("v1")
    assert history.git("rev-parse", "HEAD", "--symbolic-full-name", "HEAD") == before


def test_after_git_switched_branches(history):
    history.git("checkout", "--quiet", "-b", "old", "v1")
    assert history.tree() == V2
    assert history.state() == "modified"
    history.repo.checkout()
    assert history.tree() == V1
    history.git("switch", "--quiet", "main")
    history.repo.checkout()
    assert history.tree() == V2
    assert history.repo.status().clean


def test_after_git_switched_to_a_branch_without_the_dataset(history):
    history.git("switch", "--quiet", "--orphan", "empty")
    # Its .gitignore went too, so Git would take the data for its own now.
    assert "?? images/" in history.git("status", "--porcelain")
    history.git("commit", "--quiet", "--allow-empty", "-m", "no data")
    assert history.repo.checkout().pointers == ()
    assert history.tree() == V2
    history.git("switch", "--quiet", "main")
    assert history.repo.checkout().pointers[0].written == 0


def test_after_the_index_was_deleted(history):
    history.close()
    shutil.rmtree(history.store / "index")
    history.repo.checkout("v1")
    assert history.tree() == V1
    history.repo.checkout("v2")
    assert history.tree() == V2


def test_after_git_switched_and_the_index_was_deleted(history):
    history.git("checkout", "--quiet", "v1")
    history.close()
    shutil.rmtree(history.store / "index")
    # Only Git's history still says that the files are those of the other version.
    history.repo.checkout(paths=["images"])
    assert history.tree() == V1
    assert history.repo.status().clean


def test_after_git_cleaned(history):
    history.git("clean", "--quiet", "-fdx")
    assert not history.path("images").exists()
    history.repo.checkout()
    assert history.tree() == V2
    assert history.repo.status().clean


def test_a_stash(history):
    history.write({"images/a": "111"})
    history.repo.add("images")
    history.git("stash", "--quiet")
    history.repo.checkout()
    assert history.tree() == V2
    history.git("stash", "pop", "--quiet")
    history.repo.checkout()
    assert history.tree()["a"] == ("file", b"111")


def test_files_that_were_added_may_be_replaced(history):
    history.write({"images/a": "111"})
    history.repo.add("images")
    history.repo.checkout("v1", ["images"])
    assert history.tree() == V1


def test_modified_files_are_not_replaced(history):
    history.write({"images/a": "mine"})
    for arguments in (("v1",), ("v1", ["images"]), ("v1", ["images/a"]), ("HEAD", ["images/a"])):
        with pytest.raises(ConflictError) as caught:
            history.repo.checkout(*arguments)
        assert caught.value.paths == ("images/a",)
        assert "'--force' throws them away" in caught.value.hint
    assert history.tree() == {**V2, "a": ("file", b"mine")}
    assert history.pointer() == history.git("show", "HEAD:images.ds")
    history.repo.checkout("v1", force=True)
    assert history.tree() == V1


def test_a_file_that_is_again_as_it_was_long_ago_is_modified(history):
    history.write({"images/a": "1"})  # as in v1
    with pytest.raises(ConflictError):
        history.repo.checkout()
    assert history.tree()["a"] == ("file", b"1")


def test_a_modified_file_that_both_versions_share_stays(history):
    history.write({"images/b/c": "mine"})
    with pytest.raises(ConflictError):
        history.repo.checkout("v1")
    assert history.tree() == {**V2, "b/c": ("file", b"mine")}


def test_a_deleted_file_comes_back(history):
    history.remove("images/b")
    assert history.repo.checkout().pointers[0].written == 1
    assert history.tree() == V2


def test_untracked_files_are_kept(history):
    history.write({"images/mine": "m", "images/b/mine": "m", "images/new/mine": "m"})
    (images, _) = history.repo.checkout("v1").pointers
    assert images.kept == 3
    kept = {f"{name}mine": ("file", b"m") for name in ("", "b/", "new/")}
    assert history.tree() == {**V1, **kept}
    assert history.repo.status().pointers[0].added == (
        "images/b/mine",
        "images/mine",
        "images/new/mine",
    )
    assert history.repo.checkout("v1", force=True).pointers[0].kept == 3


def test_an_untracked_file_of_the_same_content_is_taken_over(history):
    history.write({"images/b/d": "3"})
    history.repo.checkout("v1")
    assert history.tree() == V1
    history.write({"images/e": "another"})
    with pytest.raises(ConflictError):
        history.repo.checkout("v2")


def test_every_dataset_is_planned_before_any_is_touched(history):
    history.write({"labels/x": "mine"})
    with pytest.raises(ConflictError):
        history.repo.checkout("v1")
    assert history.tree() == V2
    assert history.pointer() == history.git("show", "HEAD:images.ds")
    history.write({"labels/x": "1", "images/a": "mine"})
    history.remove("labels/x")
    with pytest.raises(ConflictError):
        history.repo.checkout("v1")
    assert history.tree("labels") == {}


def test_only_some_datasets(history):
    history.remove("labels")
    history.repo.checkout("v1", ["images"])
    assert history.tree() == V1
    assert not history.path("labels").exists()
    assert history.repo.checkout(paths="labels").pointers[0].written == 1


def test_a_part(history):
    (done,) = history.repo.checkout("v1", ["images/b"]).pointers
    assert (done.written, done.removed) == (1, 0)
    assert history.tree() == {**V2, "b/d": ("file", b"3")}
    assert history.pointer() == history.git("show", "HEAD:images.ds")  # a part is no version
    assert history.repo.status().pointers[0].added == ("images/b/d",)
    history.repo.checkout("v1", ["images/a"])
    assert history.tree() == {**V2, "a": ("file", b"1"), "b/d": ("file", b"3")}
    history.repo.checkout("v2", ["images/b"])
    assert "b/d" not in history.tree()
    history.repo.checkout(paths=["images/a"])
    assert history.tree() == V2
    assert history.repo.status().clean


def test_parts_of_one_dataset_and_the_whole(history):
    history.repo.checkout("v1", ["images/a", "images/b"])
    assert history.tree() == {**V1, "e": ("file", b"5")}
    (done,) = history.repo.checkout("v2", ["images/a", "images"]).pointers
    assert done.written == 1
    assert history.tree() == V2


def test_a_part_with_an_untracked_file_beside_it(history):
    history.write({"images/b/mine": "m", "images/a": "mine"})
    (done,) = history.repo.checkout("v1", ["images/b"]).pointers
    assert (done.written, done.kept) == (1, 1)
    assert history.tree()["a"] == ("file", b"mine")


def test_a_part_that_is_not_in_the_version(history):
    with pytest.raises(NotFoundError, match="'images/nothing' is not in that version") as caught:
        history.repo.checkout("v1", ["images/nothing"])
    assert "datastore ls" in caught.value.hint
    with pytest.raises(NotFoundError):
        history.repo.checkout("v2", ["images/b/d"])


def test_a_part_in_another_spelling(project):
    project.version("v1", {"e\u0301/x": "1", "z": "2"})
    project.version("v2", {"e\u0301/x": "11", "z": "22"})
    for spelled in ("images/e\u0301", "images/\u00e9/x"):
        project.repo.checkout("v1", [spelled])
        assert project.tree()["e\u0301/x"] == ("file", b"1")
        project.repo.checkout("v2", [spelled])
        assert project.tree()["e\u0301/x"] == ("file", b"11")
        project.repo.checkout("v2", [spelled])  # nothing to do is no error


def test_a_file_that_was_spelled_otherwise(project):
    project.version("v1", {"e\u0301": "1", "u\u0308/x": "2"})
    project.version("v2", {"\u00e9": "1", "\u00fc/x": "2"})
    for _ in range(2):
        project.repo.checkout("v1")
        assert sorted(project.tree()) == ["e\u0301", "u\u0308/x"]
        assert project.repo.status().clean
        project.repo.checkout("v2")
        assert sorted(project.tree()) == ["\u00e9", "\u00fc/x"]
        assert project.repo.status().clean


def test_a_dataset_that_is_gone_from_the_workspace(history):
    history.remove("images", "images.ds", ".gitignore")
    history.commit("gone")
    history.repo.checkout("v2", ["images"])
    assert history.tree() == V2
    assert history.pointer() == history.git("show", "v2:images.ds")
    assert "/images\n" in history.path(".gitignore").read_text()
    assert history.repo.status().clean


def test_a_file_of_git_where_the_dataset_was(history):
    history.remove("images", "images.ds", ".gitignore")
    history.write({"images/code.py": "pass\n"})
    history.commit("code in its place")
    with pytest.raises(ConflictError, match=r"Git tracks 'images/code\.py'") as caught:
        history.repo.checkout("v2", ["images"])
    assert "git rm --cached" in caught.value.hint
    assert history.tree() == {"code.py": ("file", b"pass\n")}


def test_what_is_not_there(history):
    with pytest.raises(NotFoundError, match="there is no revision 'v9'"):
        history.repo.checkout("v9")
    with pytest.raises(NotFoundError, match="'nothing' is not a dataset, nor in one at v1"):
        history.repo.checkout("v1", ["nothing"])
    with pytest.raises(UsageError, match="is not in the workspace"):
        history.repo.checkout("v1", ["../elsewhere"])
    history.path("images.ds").write_text(
        history.pointer().replace(history.root(), "b3:" + "0" * 64)
    )
    with pytest.raises(NotFoundError, match="the store does not have the version of images"):
        history.repo.checkout()
    assert history.tree() == V2


def test_a_clone(history, tmp_path):
    clone = tmp_path / "clone"
    history.git("clone", "--quiet", str(history.top), str(clone))
    with Repository.open(clone) as repo:
        with pytest.raises(NotFoundError, match="the store does not have the version") as caught:
            repo.checkout()
        assert "another clone" in caught.value.hint
        assert not (clone / "images").exists()
    shutil.copytree(history.store / "packs", clone / ".git/datastore/packs", dirs_exist_ok=True)
    with Repository.open(clone) as repo:
        assert [each.written for each in repo.checkout().pointers] == [3, 1]
        assert tree(clone / "images") == V2
        assert repo.status().clean
        repo.checkout("v1")
        assert tree(clone / "images") == V1


def test_a_pointer_in_conflict(history):
    good = history.pointer()
    history.path("images.ds").write_text(f"<<<<<<< ours\n{good}=======\n{good}>>>>>>> theirs\n")
    with pytest.raises(ConflictError, match="conflict markers"):
        history.repo.checkout()
    history.repo.checkout("v1", ["images"])
    assert history.tree() == V1
    assert history.repo.status().clean


def test_another_pointer_in_the_workspace_that_nobody_can_read(history):
    history.path("images.ds").write_text("garbage\n")
    history.repo.checkout("v1", ["images"])
    assert history.tree() == V1


def test_a_damaged_chunk_leaves_the_file_as_it_was(project):
    project.version("v1", {"a": b"1" * 1000, "b": b"2" * 1000})
    project.version("v2", {"a": b"3" * 1000, "b": b"4" * 1000})
    before = project.tree()
    for pack in project.store.glob("packs/*/*.pack"):
        data = bytearray(pack.read_bytes())
        at = data.find(b"\x28\xb5\x2f\xfd")  # a zstd frame: the content of small files
        if at >= 0 and len(data) < 400:
            data[at + 12] ^= 1
            pack.chmod(0o644)
            pack.write_bytes(data)
    with pytest.raises(CorruptionError):
        project.repo.checkout("v1")
    after = project.tree()
    assert all(
        after[path] in {before[path], ("file", b"1" * 1000), ("file", b"2" * 1000)}
        for path in before
    )


def test_a_repository_opened_in_a_directory(history):
    with Repository.open(history.path("images/b")) as inner:
        inner.checkout("v1", ["."])
        assert history.tree() == {**V2, "b/d": ("file", b"3")}
        inner.checkout("v1", ["../a"])
        assert history.tree()["a"] == ("file", b"1")


def test_the_directory_that_was_opened_may_go(project):
    project.version("v1", {"a": "1", "b/c": "2"})
    project.version("v2", {"a": "1"})
    project.repo.checkout("v1")
    with Repository.open(project.path("images/b")) as inner:
        inner.checkout("v2")
    assert project.tree() == {"a": ("file", b"1")}
