"""`Repository`: opening, closing, and what the command line asks of it beside the verbs."""

from __future__ import annotations

import os
import subprocess
import threading

import pytest

import datastore
from datastore.errors import LockedError, NotFoundError, StorageError, UsageError
from datastore.repository import Repository
from datastore.workspace import adding, layout
from tests.project import Project, tree


def test_init_writes_what_is_shared(tmp_path, new_project):
    project = new_project()
    assert "\nformat: 1\n" in project.path(".datastore/config.yaml").read_text()
    assert project.path(".datastore/.gitignore").read_text() == "/tmp/\n"
    assert (
        "*.ds text eol=lf diff=datastore merge=datastore"
        in project.path(".gitattributes").read_text()
    )
    assert project.git("config", "merge.datastore.driver").startswith("git-ds driver-merge")
    assert project.git("diff", "--cached", "--name-only") == ""


def test_init_again_changes_nothing(project):
    project.version("v1", {"a": "1"})
    project.write({".datastore/config.yaml": "# mine\nformat: 1\n"})
    before = tree(project.path(".datastore"))
    Repository.init(project.top).close()
    assert tree(project.path(".datastore")) == before
    assert project.repo.status().clean


def test_init_in_a_directory_of_the_worktree(new_project):
    project = new_project()
    project.write({"deep/er/file": "x"})
    with Repository.init(project.path("deep/er")) as repo:
        assert repo.top == project.top
        repo.add("file")
    assert project.path("deep/er/file.ds").exists()
    assert not project.path("deep/er/.datastore").exists()


def test_init_where_it_cannot(tmp_path, new_project):
    plain = tmp_path / "plain"
    plain.mkdir()
    with pytest.raises(NotFoundError, match="is not in a Git repository") as caught:
        Repository.init(plain)
    assert "git init" in caught.value.hint
    with pytest.raises(NotFoundError):
        Repository.init(tmp_path / "missing")
    subprocess.run(["git", "init", "-q", "--bare", str(tmp_path / "bare")], check=True)
    with pytest.raises(UsageError, match="bare"):
        Repository.init(tmp_path / "bare")
    subprocess.run(["git", "init", "-q", str(tmp_path / "taken")], check=True)
    (tmp_path / "taken/.datastore").write_text("a file")
    with pytest.raises(StorageError, match=r"\.datastore"):
        Repository.init(tmp_path / "taken")


def test_open_before_init(tmp_path, new_project):
    new_project("other")
    subprocess.run(["git", "init", "-q", str(tmp_path / "bare of data")], check=True)
    with pytest.raises(NotFoundError, match="no datastore in the Git repository") as caught:
        Repository.open(tmp_path / "bare of data")
    assert caught.value.hint == "begin with: datastore init"
    assert not (tmp_path / "bare of data/.git/datastore").exists()


def test_public_names():
    assert datastore.Repository is Repository
    with pytest.raises(AttributeError):
        datastore.nothing_like_that  # noqa: B018 - to see that it is not there


def test_a_context_manager(project):
    project.version("v1", {"a": "1"})
    with Repository.open(project.top) as repo:
        assert repo.read("images/a") == b"1"
    repo.close()  # harmless


def test_a_path_may_be_anything_that_names_one(project, monkeypatch):
    project.put("images", {"a": "1"})
    monkeypatch.chdir(project.top)
    with Repository.open() as repo:
        assert repo.add(project.path("images")).pointers[0].path == "images"
        assert repo.add([project.path("images") / "a"]).pointers[0].path == "images"
        assert repo.read(str(project.path("images/a"))) == b"1"
        assert repo.status(project.path("images")).clean


def test_a_worktree_that_is_reached_through_a_link(project, tmp_path):
    project.put("images", {"a": "1"})
    (tmp_path / "link").symlink_to(project.top)
    with Repository.open(tmp_path / "link") as repo:
        assert repo.add("images").pointers[0].path == "images"
        assert repo.add(tmp_path / "link/images/a").pointers[0].path == "images"
        assert repo.status(str(tmp_path / "link/images")).clean


def test_revisions_and_paths_are_told_apart(project):
    project.version("v1", {"a": "1"})
    project.version("v2", {"a": "2", "b": "3"})
    repo = project.repo
    for text in ("HEAD", "HEAD~1", "v1", "main", "v1..v2", "v1...v2", "..v2", "v1.."):
        assert repo.is_revision(text), text
    for text in ("", "v9", "images", "v1..v9", "v9..v1", "..", "-x", "a\nb"):
        assert not repo.is_revision(text), text
    for text in ("images", "images/a", "images/anything"):
        assert repo.is_tracked(text), text
    for text in ("other", "v1", ".git", "../outside", ""):
        assert not repo.is_tracked(text), text
    project.remove("images.ds")
    assert repo.is_tracked("images/a")  # HEAD has it


def test_paths_that_nothing_can_have(project):
    project.version("v1", {"a": "1"})
    for path in ("x" * 300, "images/" + "x" * 300, "/".join(["d"] * 3000)):
        with pytest.raises(NotFoundError):
            project.repo.read(path)
        assert not project.repo.is_tracked("x" * 300)
    for path in (".git", "sub/.git", "sub/.git/x"):
        with pytest.raises(UsageError):
            list(project.repo.ls(path))


def test_a_fifo_in_place_of_a_pointer_is_not_waited_for(project):
    os.mkfifo(project.path("images.ds"))
    assert project.repo.status().pointers == ()
    with pytest.raises(NotFoundError):
        project.repo.status("images")


def test_a_linked_pointer_is_none(project, tmp_path):
    project.version("v1", {"a": "1"})
    project.path("images.ds").rename(tmp_path / "elsewhere.ds")
    project.path("images.ds").symlink_to(tmp_path / "elsewhere.ds")
    assert project.repo.status().pointers == ()


# -- clones and worktrees --------------------------------------------------------------------------


def clone(project, path):
    project.git("clone", "--quiet", str(project.top), str(path))
    return Project(path)


def test_a_clone_without_the_store(project, tmp_path):
    project.version("v1", {"a": "1"})
    project.version("v2", {"a": "2"})
    other = clone(project, tmp_path / "clone")
    repo = other.repo
    message = "the store does not have the version of images"
    for look in (
        repo.diff,
        lambda: repo.diff("v1", "v2"),
        repo.checkout,
        lambda: repo.checkout("v1"),
        lambda: list(repo.ls("images")),
        lambda: repo.read("images/a"),
        lambda: repo.open_file("images/a", rev="v1"),
    ):
        with pytest.raises(NotFoundError, match=message) as caught:
            look()
        assert "added in another clone" in caught.value.hint
    assert [each.state for each in repo.status().pointers] == ["broken"]
    assert [each.files for each in repo.log()] == [1, 1]
    assert not repo.verify().ok
    other.close()


def test_a_clone_with_a_copy_of_the_store(project, tmp_path):
    project.version("v1", {"a": "1"})
    other = clone(project, tmp_path / "clone")
    project.close()
    os.rename(project.store, tmp_path / "store")
    os.rename(tmp_path / "store", other.store)
    other.repo.checkout()
    assert other.tree() == {"a": ("file", b"1")}
    assert other.repo.status().clean
    assert other.repo.verify().ok
    other.close()


def test_worktrees_are_apart_but_for_the_store(project, tmp_path):
    project.version("v1", {"a": "1"})
    project.version("v2", {"a": "2"})
    project.git("worktree", "add", "--quiet", str(tmp_path / "old"), "v1")
    with Repository.open(tmp_path / "old") as old:
        assert old.checkout().pointers[0].written == 1
        assert (tmp_path / "old/images/a").read_text() == "1"
        (tmp_path / "old/images/a").write_text("changed")
        assert not old.status().clean
        assert project.repo.status().clean
        old.add("images")
        assert project.repo.read("images/a") == b"2"
        assert old.read("images/a") == b"changed"
    assert project.repo.verify().ok
    project.git("worktree", "remove", "--force", str(tmp_path / "old"))
    assert project.repo.status().clean


# -- several at once -------------------------------------------------------------------------------


def test_two_that_add_at_once(project):
    for name in ("one", "two"):
        project.put(name, {f"{number:03}": f"{name} {number}" for number in range(200)})
    failed = []

    def add(name):
        try:
            with Repository.open(project.top) as repo:
                repo.add(name)
        except BaseException as error:  # noqa: BLE001 - shown by the assert below
            failed.append(error)

    threads = [threading.Thread(target=add, args=(name,)) for name in ("one", "two")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failed == []
    assert project.repo.status().clean
    assert project.repo.verify().ok
    assert project.path(".gitignore").read_text().splitlines()[1:-1] == ["/one", "/two"]


def test_a_lock_that_somebody_holds_names_the_holder(project, monkeypatch):
    project.put("images", {"a": "1"})
    project.repo.add("images")
    for module in (adding, layout):
        monkeypatch.setattr(module, "LOCK_TIMEOUT", 0.2)
    with project.repo._workspace.lock().acquire(1), pytest.raises(LockedError) as caught:
        Repository.open(project.top).add("images")
    assert str(os.getpid()) in caught.value.holder
