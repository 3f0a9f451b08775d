"""Sharing through a directory, as two people do it: push, clone, pull, and Git's hook."""

from __future__ import annotations

import shutil

import pytest

CONTENT = b"cats/a.png\n" * 100


@pytest.fixture
def shared(project, tmp_path):
    """The project with a remote for Git and one for the data."""
    (tmp_path / "data").mkdir()
    project.git("init", "-q", "--bare", str(tmp_path / "there.git"))
    project.git("remote", "add", "origin", str(tmp_path / "there.git"))
    project.ok("remote", "add", "store", str(tmp_path / "data"))
    project.commit("Name a remote")
    return project


def clone(shared, name: str = "clone"):
    there = shared.top.parent / name
    shared.git("clone", "-q", str(shared.top.parent / "there.git"), str(there))
    found = type(shared)(there)
    found.ok("init", "-q")
    return found


def test_a_version_goes_from_one_clone_to_another(shared):
    shown = shared.ok("push")
    assert shown.startswith(f"store (file://{shared.top.parent}/data): sent 2 versions in ")
    assert "    images at " in shown
    assert shared.ok("push").endswith(": Everything is there already.\n")
    assert "Everything is there (2 versions)." in shared.ok("status", "--remote")
    shared.git("push", "-q", "origin", "main")
    other = clone(shared)
    assert "images: missing" in other.ok("status")
    shown = other.ok("pull", "images/cats")
    assert shown.startswith("images: 2 files written (2.2 kB)\nFetched ")
    assert (other.top / "images/cats/a.png").read_bytes() == CONTENT
    assert not (other.top / "images/dogs").exists()
    assert other.ok("fetch").startswith("store: ")
    other.ok("pull")
    assert other.ok("status") == "Everything matches its pointer (2 pointers).\n"
    assert "Nothing had to be fetched." in other.ok("pull", "--out", str(other.top.parent / "out"))
    assert (other.top.parent / "out/images/cats/a.png").read_bytes() == CONTENT


def test_status_names_what_was_not_pushed(shared):
    shared.ok("push", "-q")
    shared.write("images/new.png", b"new\n")
    shared.ok("add", "-q", "images")
    shared.commit("Another")
    shown = shared.ok("status", "--remote")
    assert "): 1 of 3 versions not there\n" in shown
    assert '(use "datastore push" to send what is missing)\n    images at ' in shown
    assert shared.run("status", "--remote", "--exit-code").exit_code == 1
    found = shared.json("status", "--remote")["remote"]
    assert (found["versions"], len(found["missing"]), found["damaged"]) == (3, 1, [])


def test_git_push_takes_the_data_along(shared):
    shared.ok("git", "install", "--pre-push", "-q")
    shown = shared.git("push", "origin", "main")
    assert "): sent 2 versions in " in shown
    shared.write("images/new.png", b"new\n")
    shared.ok("add", "-q", "images")
    shared.commit("Another")
    assert "): sent 1 version in " in shared.git("push", "origin", "main")
    other = clone(shared)
    other.ok("pull", "-q")
    assert (other.top / "images/new.png").read_bytes() == b"new\n"
    assert "sent" not in shared.git("push", "origin", "main:again")
    assert "sent" not in shared.git("push", "origin", ":again")


def test_git_does_not_push_where_the_data_cannot_go(shared):
    shared.ok("git", "install", "--pre-push", "-q")
    data = shared.top.parent / "data"
    shutil.rmtree(data)
    data.write_text("in the way")
    shown = shared.git("push", "origin", "main", check=False)
    assert "The data was not sent, so Git is told not to push." in shown
    assert "failed to push some refs" in shown
    assert shared.git("ls-remote", "origin") == ""
    shared.git("push", "-q", "--no-verify", "origin", "main")
    assert "refs/heads/main" in shared.git("ls-remote", "origin")


def test_get_needs_no_clone(shared):
    shared.ok("push", "-q")
    shared.git("push", "-q", "origin", "main")
    source, out = shared.top.parent / "there.git", shared.top.parent / "got"
    shown = shared.ok("get", str(source), "images/cats", "--out", str(out))
    assert shown.startswith(f"Wrote 2 files, 2.2 kB, to {out}.\nFetched ")
    assert [path.read_bytes() for path in sorted(out.rglob("a.png"))] == [CONTENT]


def test_without_a_remote(project):
    for verb in ("push", "fetch", "pull"):
        result = project.run(verb)
        assert result.exit_code == 2, verb
        assert result.stderr == (
            "error: this project has no remote\nhint: name one: datastore remote add origin URL\n"
        )
    assert project.run("push", "--remote", "nas").exit_code == 2
