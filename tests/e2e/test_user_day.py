"""A day of a user, from the first command to a colleague's clone."""

from __future__ import annotations

import shutil

import pytest

from tests.e2e.conftest import Shell, digest


@pytest.mark.slow
def test_a_day(shell, tmp_path):
    work = shell("work")
    images = work.directory / "images"
    work.git("init", "--quiet")
    work.datastore("init")

    # Morning: a first version.
    (images / "cats").mkdir(parents=True)
    for number in range(30):
        (images / f"cats/{number:02}.jpg").write_bytes(f"cat {number} ".encode() * 500)
    (images / "large.bin").write_bytes(bytes(range(256)) * 4000)
    (work.directory / "labels.csv").write_text("file,label\n00.jpg,cat\n")
    shown = work.datastore("add", "images", "labels.csv")
    assert "images: 31 files" in shown
    assert "labels.csv: 1 file" in shown
    work.commit("First version")
    first = work.digests("images")
    assert work.git("status", "--porcelain") == ""
    assert "Everything matches its pointer (2 pointers)." in work.datastore("status")
    assert work.git("ls-files").split() == [
        ".datastore/.gitignore",
        ".datastore/config.yaml",
        ".gitattributes",
        ".gitignore",
        "images.ds",
        "labels.csv.ds",
    ]

    # Noon: changes.
    (images / "cats/00.jpg").write_bytes(b"a better cat " * 400)
    (images / "cats/01.jpg").unlink()
    (images / "dogs").mkdir()
    (images / "cats/02.jpg").rename(images / "dogs/02.jpg")
    (images / "dogs/new.jpg").write_bytes(b"a dog " * 400)
    status = work.json("status")
    assert not status["clean"]
    assert status["pointers"][0] == {
        "path": "images",
        "state": "modified",
        "added": ["images/dogs/new.jpg"],
        "modified": ["images/cats/00.jpg"],
        "deleted": ["images/cats/01.jpg"],
        "renamed": [["images/cats/02.jpg", "images/dogs/02.jpg"]],
        "message": "",
        "committed": True,
    }
    counts = {"added": 1, "removed": 1, "modified": 1, "renamed": 1}
    assert work.json("diff")["files"] == counts
    (added,) = work.json("add", "images")["pointers"]
    assert (added["added"], added["removed"], added["modified"]) == (2, 2, 1)
    assert added["new_bytes"] == len(b"a better cat " * 400) + len(b"a dog " * 400)
    assert "images/dogs/new.jpg" in work.git("diff")
    work.commit("Second version")
    second = work.digests("images")
    assert work.git("status", "--porcelain") == ""

    # Afternoon: looking back.
    assert work.json("diff", "HEAD~1", "HEAD")["files"] == counts
    assert work.json("diff", "HEAD~1..HEAD")["files"] == counts
    log = work.json("log", "images")["versions"]
    assert [each["subject"] for each in log] == ["Second version", "First version"]
    assert [each["files"] for each in log] == [31, 31]
    assert work.cat("HEAD~1:images/cats/01.jpg") == b"cat 1 " * 500
    assert "images/cats/01.jpg" in work.datastore("ls", "-r", "HEAD~1:images")
    work.datastore("checkout", "HEAD~1")
    assert work.digests("images") == first
    assert work.git("status", "--porcelain") == " M images.ds\n"
    work.datastore("checkout", "HEAD")
    assert work.digests("images") == second
    assert work.git("status", "--porcelain") == ""
    assert "Everything is as it was stored." in work.datastore("verify")

    # Evening: a colleague, who has the commits and then a copy of the store.
    work.git("clone", "--quiet", str(work.directory), str(tmp_path / "clone"))
    clone = Shell(tmp_path / "clone")
    clone.datastore("init")
    assert [each["state"] for each in clone.json("status")["pointers"]] == ["broken", "broken"]
    assert clone.json("checkout", status=3)["error"]["code"] == "not_found"
    shutil.copytree(
        work.directory / ".git/datastore", clone.directory / ".git/datastore", dirs_exist_ok=True
    )
    clone.datastore("checkout")
    assert clone.digests("images") == second
    assert clone.json("status")["clean"]
    assert clone.git("status", "--porcelain") == ""
    clone.datastore("checkout", "HEAD~1", "--", "images")
    assert clone.digests("images") == first
    assert clone.json("verify")["ok"]


def test_the_second_executable(shell):
    work = shell("work")
    work.git("init", "--quiet")
    work.git("ds", "init")
    (work.directory / "data.bin").write_bytes(b"\0\1\2" * 1000)
    work.git("ds", "add", "data.bin")
    assert digest(work.cat("data.bin")) == digest(b"\0\1\2" * 1000)
    assert "1 pointer" in work.git("ds", "status")
