"""Looking into versions where they lie: ``ls``, ``cat`` and open files."""

from __future__ import annotations

import io
import os

import pytest

from datastore.errors import NotFoundError, UsageError
from datastore.repository import LsEntry, Repository
from tests.project import settle


@pytest.fixture
def history(project):
    """Two versions with files of every kind, and a dataset that is one file."""
    project.write({"data/labels.csv": "a,b\n"})
    project.repo.add("data/labels.csv")
    project.version("v1", {"a": "1", "b/c": "22", "b/d/e": "333", "b.txt": "4444"})
    project.put(
        "images",
        {"a": "11", "b/c": "22", "b/d/e": "333", "b.txt": "4444", "hollow": None, "b0/x": "5"},
    )
    project.path("images/run").write_text("#!/bin/sh\n")
    project.path("images/run").chmod(0o755)
    project.path("images/link").symlink_to("a")
    project.repo.add("images")
    project.commit("v2")
    return project


def listed(project, path="", **options):
    return [(each.path, each.kind, each.size) for each in project.repo.ls(path, **options)]


def test_datasets(history):
    assert listed(history) == [("data/labels.csv", "dataset", 4), ("images", "dataset", 22)]
    assert listed(history, rev="v1") == [
        ("data/labels.csv", "dataset", 4),
        ("images", "dataset", 10),
    ]
    assert listed(history, "data") == [("data/labels.csv", "dataset", 4)]
    assert next(history.repo.ls("data")).digest == history.root("data/labels.csv")
    assert listed(history, ".") == listed(history)


def test_one_level(history):
    assert listed(history, "images") == [
        ("images/a", "file", 2),
        ("images/b.txt", "file", 4),
        ("images/b", "dir", 5),
        ("images/b0", "dir", 1),
        ("images/hollow", "dir", 0),
        ("images/link", "link", 0),
        ("images/run", "exec", 10),
    ]
    assert listed(history, "images/b") == [("images/b/c", "file", 2), ("images/b/d", "dir", 3)]
    assert listed(history, "images/b/d") == [("images/b/d/e", "file", 3)]
    assert listed(history, "images/hollow") == [("images/hollow", "dir", 0)]


def test_every_file(history):
    assert listed(history, "images", rev="v1", recursive=True) == [
        ("images/a", "file", 1),
        ("images/b.txt", "file", 4),
        ("images/b/c", "file", 2),
        ("images/b/d/e", "file", 3),
    ]
    assert listed(history, "images/b", recursive=True) == [
        ("images/b/c", "file", 2),
        ("images/b/d/e", "file", 3),
    ]


def test_one_file(history):
    assert listed(history, "images/a") == [("images/a", "file", 2)]
    assert listed(history, "images/a", rev="v1") == [("images/a", "file", 1)]
    assert listed(history, "images/link") == [("images/link", "link", 0)]
    (entry,) = history.repo.ls("images/b/c")
    (other,) = history.repo.ls("images/b/c", rev="v1")
    assert isinstance(entry, LsEntry)
    assert entry.digest == other.digest
    assert entry.digest.startswith("b3:")


def test_a_dataset_that_is_a_file(history):
    assert listed(history, "data/labels.csv") == [("data/labels.csv", "file", 4)]
    assert history.repo.read("data/labels.csv") == b"a,b\n"
    with pytest.raises(NotFoundError):
        list(history.repo.ls("data/labels.csv/x"))
    with pytest.raises(NotFoundError):
        history.repo.read("data/labels.csv/x")


def test_an_empty_dataset(project):
    project.path("images").mkdir()
    project.repo.add("images")
    assert listed(project, "images") == []
    assert listed(project) == [("images", "dataset", 0)]


@pytest.mark.parametrize(
    ("path", "rev", "message"),
    [
        ("nothing", None, "'nothing' is not a dataset, nor in one"),
        ("nothing", "v1", "'nothing' is not a dataset, nor in one at v1"),
        ("images/nothing", None, "images/nothing is not in that version of images"),
        ("images/run", "v1", "images/run is not in that version of images at v1"),
        ("images/a/b", None, "is not in that version"),
        ("images", "v9", "there is no revision 'v9'"),
    ],
)
def test_what_is_not_there(history, path, rev, message):
    with pytest.raises(NotFoundError, match=message):
        list(history.repo.ls(path, rev=rev))
    with pytest.raises(NotFoundError, match=message):
        history.repo.read(path, rev=rev)


def test_names_that_begin_alike(project):
    project.version("v1", {"a": "1", "a.b": "2", "a-b/c": "3", "a0": "4", "ab/c": "5"})
    assert listed(project, "images/a") == [("images/a", "file", 1)]
    assert [each[0] for each in listed(project, "images")] == [
        "images/a",
        "images/a-b",
        "images/a.b",
        "images/a0",
        "images/ab",
    ]


def test_a_decomposed_path(project):
    project.version("v1", {"e\u0301/x": "1", "e\u0301.txt": "2"})
    for spelled in ("e\u0301", "\u00e9"):
        assert listed(project, f"images/{spelled}") == [("images/\u00e9/x", "file", 1)]
        assert project.repo.read(f"images/{spelled}.txt", rev="v1") == b"2"


def test_the_pointer_decides_not_the_disk(history):
    history.remove("images")
    assert history.repo.read("images/a") == b"11"
    history.write({"images/a": "other"})
    assert history.repo.read("images/a") == b"11"
    assert listed(history, "images/b/c") == [("images/b/c", "file", 2)]


def test_a_repository_opened_in_a_directory(history):
    with Repository.open(history.path("images/b")) as inner:
        assert inner.read("c") == b"22"
        assert inner.read("../a", rev="v1") == b"1"
        assert [each.path for each in inner.ls(".")] == ["images/b/c", "images/b/d"]


def test_what_has_no_content(history):
    with pytest.raises(UsageError, match="'images' is a directory, not a file"):
        history.repo.read("images")
    with pytest.raises(UsageError, match="'images/link' is a link, which has no content") as caught:
        history.repo.read("images/link")
    assert "kept, not followed" in caught.value.hint
    with pytest.raises(UsageError, match="'images/hollow' is a dir"):
        history.repo.read("images/hollow")
    with pytest.raises(NotFoundError):
        history.repo.read("images/b")
    with pytest.raises(NotFoundError, match="'data' is a directory of datasets"):
        history.repo.read("data")


def test_a_clone_without_the_store(history, tmp_path):
    history.git("clone", "--quiet", str(history.top), str(tmp_path / "clone"))
    with Repository.open(tmp_path / "clone") as clone:
        assert [each.path for each in clone.ls()] == ["data/labels.csv", "images"]
        for look in (lambda: list(clone.ls("images")), lambda: clone.read("images/a", rev="v1")):
            with pytest.raises(
                NotFoundError, match="does not have the version of images"
            ) as caught:
                look()
            assert "another clone" in caught.value.hint


# -- open files ------------------------------------------------------------------------------------

SIZE = 1_500_000


@pytest.fixture
def big(project):
    """A large file, and what is in it."""
    content = os.urandom(SIZE)
    project.version("v1", {"big": content, "empty": b"", "small": b"0123456789"})
    return project, content


def test_reading_through(big):
    project, content = big
    assert project.repo.read("images/big") == content
    assert project.repo.read("images/empty") == b""
    with project.repo.open_file("images/big") as file:
        pieces = iter(lambda: file.read(70_001), b"")
        assert b"".join(pieces) == content


def test_seeking(big):
    project, content = big
    with project.repo.open_file("images/big") as file:
        assert file.seekable()
        assert file.readable()
        assert not file.writable()
        for position, count in [(0, 10), (SIZE - 5, 10), (700_000, 200_000), (131_071, 2), (3, 0)]:
            assert file.seek(position) == position
            assert file.read(count) == content[position : position + count]
            assert file.tell() == min(position + count, SIZE)
        assert file.seek(-100, os.SEEK_END) == SIZE - 100
        assert file.read() == content[-100:]
        assert file.read() == b""
        file.seek(1000)
        assert file.seek(-10, os.SEEK_CUR) == 990
        assert file.read(20) == content[990:1010]
        file.seek(SIZE + 100)
        assert file.read(1) == b""
        with pytest.raises(ValueError):
            file.seek(-1)


def test_it_is_a_file_like_any_other(big):
    project, content = big
    with project.repo.open_file("images/small") as file:
        assert isinstance(file, io.BufferedReader)
        assert file.readinto(buffer := bytearray(4)) == 4
        assert bytes(buffer) == b"0123"
        assert file.peek(1)[:1] == b"4"
        with pytest.raises(io.UnsupportedOperation):
            file.write(b"x")
    assert file.closed
    with project.repo.open_file("images/big") as file:
        assert file.readline() == content[: content.index(b"\n") + 1]


def test_only_what_is_asked_for_is_read(big, monkeypatch):
    project, content = big
    asked = []
    really = project.repo._workspace.store.read_chunks

    def read_chunks(digests):
        digests = list(digests)
        asked.extend(digests)
        return really(digests)

    monkeypatch.setattr(project.repo._workspace.store, "read_chunks", read_chunks)
    with project.repo.open_file("images/big") as file:
        file.seek(SIZE - 1000)
        assert file.read() == content[-1000:]
    assert 1 <= len(asked) <= 6


def test_two_files_at_once(big):
    project, content = big
    with project.repo.open_file("images/big") as one, project.repo.open_file("images/big") as two:
        one.seek(500_000)
        assert two.read(1000) == content[:1000]
        assert one.read(1000) == content[500_000:501_000]


def test_a_file_that_stays_open_while_the_store_grows(big):
    project, content = big
    with project.repo.open_file("images/big") as file:
        assert file.read(1000) == content[:1000]
        project.write({"images/more": os.urandom(300_000)})
        settle()
        project.repo.add("images")
        assert file.read() == content[1000:]
