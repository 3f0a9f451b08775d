"""What scripts rely on: the keys of docs/reference/json, on real results."""

from __future__ import annotations

import base64

import pytest


def test_init(empty):
    assert empty.json("init") == {"schema": 1, "path": str(empty.top)}


def test_add(changed):
    (pointer,) = changed.json("add", "images")["pointers"]
    assert pointer["path"] == "images"
    assert pointer["kind"] == "files"
    assert pointer["root"].startswith("b3:")
    assert pointer["files"] == 4
    for key in ("bytes", "new_bytes", "stored_bytes", "new_chunks", "chunks"):
        assert isinstance(pointer[key], int)
    assert (pointer["added"], pointer["removed"], pointer["modified"]) == (2, 2, 1)


def test_status(changed):
    found = changed.json("status")
    assert found["clean"] is False
    (images, labels) = found["pointers"]
    assert images["path"] == "images"
    assert images["state"] == "modified"
    assert images["added"] == ["images/cats/c.png"]
    assert images["modified"] == ["images/cats/a.png"]
    assert images["deleted"] == ["images/dogs/a.png"]
    assert images["renamed"] == [["images/dogs/b.png", "images/dogs/z.png"]]
    assert labels["state"] == "clean"


@pytest.mark.parametrize("form", [[], ["--stat"], ["--name-only"], ["--md"]])
def test_diff(second, form):
    found = second.json("diff", "v1..v2", *form)
    assert found["files"] == {"added": 1, "removed": 1, "modified": 1, "renamed": 1}
    assert [(each["kind"], each["path"], each["old_path"]) for each in found["changes"]] == [
        ("modified", "images/cats/a.png", None),
        ("added", "images/cats/c.png", None),
        ("removed", "images/dogs/a.png", None),
        ("renamed", "images/dogs/z.png", "images/dogs/b.png"),
    ]
    assert found["labels"] == []


def test_log(second):
    (entry, _) = second.json("log", "images")["versions"]
    assert entry["commit"] == second.git("rev-parse", "HEAD").strip()
    assert (entry["author"], entry["email"]) == ("Ada", "ada@example.com")
    assert entry["subject"] == "Second version"
    assert {"date", "path", "files", "bytes", "added", "removed", "modified", "root"} <= set(entry)


def test_checkout(second):
    (pointer,) = second.json("checkout", "v1", "images")["pointers"]
    assert {"path", "written", "removed", "kept", "bytes"} <= set(pointer)


def test_ls(project):
    entries = project.json("ls", "v1:images/cats")["entries"]
    assert [entry["path"] for entry in entries] == ["images/cats/a.png", "images/cats/b.png"]
    assert entries[0]["kind"] == "file"
    assert entries[0]["size"] == 1100
    assert entries[0]["digest"].startswith("b3:")


def test_cat(project):
    found = project.json("cat", "v1:images/cats/a.png")
    assert base64.b64decode(found["base64"]) == b"cats/a.png\n" * 100
    assert (found["path"], found["rev"], found["bytes"]) == ("images/cats/a.png", "v1", 1100)


def test_verify(project):
    found = project.json("verify", "--rebuild-index")
    assert found["ok"] is True
    assert found["damaged"] == []
    assert found["checked"]["files"] == 5
    assert found["rebuilt"]["packs"] >= 1


def test_doctor(project):
    found = project.json("doctor")
    assert isinstance(found["ok"], bool)
    assert {"name", "ok", "value", "hint"} <= set(found["checks"][0])


def test_git(project):
    assert project.json("git", "install") == {"schema": 1, "installed": True}
    assert project.json("git", "uninstall") == {"schema": 1, "installed": False}


def test_completion(project):
    assert project.json("completion", "bash")["shell"] == "bash"


def test_errors(project):
    found = project.json("cat", "images/nope.png")
    assert set(found) == {"schema", "error"}
    assert set(found["error"]) >= {"code", "message", "hint", "where"}
    assert found["error"]["code"] == "not_found"


def test_a_conflict_lists_its_paths(changed):
    found = changed.json("checkout", "v1", "images")
    assert found["error"]["code"] == "conflict"
    assert [path.removeprefix("images/") for path in found["error"]["paths"]] == ["cats/a.png"]
