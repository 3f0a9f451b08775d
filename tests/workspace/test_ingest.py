"""From files on disk to entries, and to a version."""

from __future__ import annotations

import os

import pytest

from datastore.errors import ConflictError, UsageError
from datastore.kernel.chunking import WHOLE_FILE_SIZE
from datastore.kernel.hashing import chunk_digest
from datastore.objects.index import Index
from datastore.objects.store import ObjectStore
from datastore.progress import SILENT
from datastore.trees import files
from datastore.trees.files import Kind
from datastore.trees.filewriter import DigestOnly
from datastore.trees.manifest import EMPTY_DIGEST
from datastore.workspace.dataset import Dataset
from datastore.workspace.ingest import Ingester, apply_edits, ingest, recount
from datastore.workspace.scan import Walk
from datastore.workspace.statcache import StatCache, identity_of
from tests.project import settle


@pytest.fixture
def top(tmp_path):
    path = tmp_path / "data"
    path.mkdir()
    return path


@pytest.fixture
def store(tmp_path):
    with ObjectStore(tmp_path / "store") as opened:
        yield opened


@pytest.fixture
def dataset(top, store):
    """A dataset outside of any repository."""
    return Dataset("data", top, store, StatCache(store.index, "tests"))


class Recorder:
    """A task that notes what it is told."""

    def __init__(self):
        self.bytes = 0
        self.described = []

    def advance(self, amount):
        self.bytes += amount

    def describe(self, text):
        self.described.append(text)


@pytest.fixture
def read(tmp_path):
    """Reads all files of a path and returns their entries by key."""
    index = Index(tmp_path / "index")

    def entries(path, task=None):
        with SILENT.task("test", None, "B") as silent:
            walk = Walk(path, StatCache(index, "none"))
            found = list(Ingester("data", walk, DigestOnly(), task or silent).entries())
        assert [key for key, *_ in found] == sorted(key for key, *_ in found)
        for _, value, size, counted in found:
            entry = files.decode_entry(value)
            assert (size, counted) == (entry.size, int(entry.kind is not Kind.DIRECTORY))
        assert walk.seen.problems == []
        return {key.decode(): files.decode_entry(value) for key, value, *_ in found}

    yield entries
    index.close()


def add(dataset):
    """Ingests, and notes in the cache what is known then."""
    with SILENT.task("test", None, "B") as task, dataset.store.session() as session:
        found = ingest(dataset, session, task)
        session.commit()
    dataset.cache.save(found.version.root, found.snapshots, found.gone)
    return found.version


# -- entries ---------------------------------------------------------------------------------------


def test_every_kind(top, read):
    (top / "file").write_bytes(b"content")
    (top / "run").write_bytes(b"content")
    (top / "run").chmod(0o744)
    (top / "empty").write_bytes(b"")
    (top / "link").symlink_to("some/where")
    (top / "hollow").mkdir()
    found = read(top)
    assert found["file"].kind is Kind.FILE
    assert found["file"].content.digest == chunk_digest(b"content")
    assert found["run"] == found["file"]._replace(kind=Kind.EXECUTABLE)
    assert (found["empty"].size, found["empty"].content.digest) == (0, EMPTY_DIGEST)
    assert (found["link"].kind, found["link"].target) == (Kind.LINK, b"some/where")
    assert (found["hollow"].kind, found["hollow"].size) == (Kind.DIRECTORY, 0)


@pytest.mark.parametrize("mode", [0o100, 0o700, 0o711, 0o010, 0o001, 0o644, 0o666])
def test_the_owners_bit_decides(top, read, mode):
    (top / "a").write_bytes(b"1")
    (top / "a").chmod(mode | 0o400)
    assert (read(top)["a"].kind is Kind.EXECUTABLE) == bool(mode & 0o100)


@pytest.mark.parametrize(
    "size", [1, WHOLE_FILE_SIZE - 1, WHOLE_FILE_SIZE, WHOLE_FILE_SIZE + 1, 5_000_000]
)
def test_sizes(top, read, size):
    data = os.urandom(size)
    (top / "a").write_bytes(data)
    task = Recorder()
    content = read(top, task)["a"].content
    assert content.size == task.bytes == size
    if size <= WHOLE_FILE_SIZE:
        assert (content.depth, content.digest) == (0, chunk_digest(data))
    else:
        assert content.depth >= 1


def test_names(top, read):
    for name in ("plain", "with space", "e\u0301", "new\nline", "\U0001f600"):
        (top / name).write_bytes(name.encode())
    found = read(top)
    assert sorted(found) == sorted(["plain", "with space", "\u00e9", "new\nline", "\U0001f600"])
    spelled = [name for name in os.listdir(top) if name.endswith("\u0301")]
    assert found["\u00e9"].name == (spelled[0] if spelled else "")
    assert all(entry.name == "" for path, entry in found.items() if path != "\u00e9")


def test_a_name_in_a_decomposed_directory(top, read):
    (top / "e\u0301").mkdir()
    (top / "e\u0301/plain").write_bytes(b"1")
    (spelled,) = os.listdir(top)
    assert read(top)["\u00e9/plain"].name == ("e\u0301/plain" if spelled == "e\u0301" else "")


def test_a_single_file(top, read):
    (top / "e\u0301").write_bytes(b"1")
    found = read(top / "e\u0301")
    assert list(found) == ["."]
    assert found["."].name == ""
    assert found["."].content.digest == chunk_digest(b"1")


def test_progress_names_directories(top, read):
    for path in ("a/x", "b/c/y"):
        (top / path).parent.mkdir(parents=True)
        (top / path).write_bytes(b"1")
    task = Recorder()
    read(top, task)
    assert task.described == ["data/a", "data/b/c"]


# -- versions --------------------------------------------------------------------------------------


def test_a_version(dataset, top):
    (top / "b").mkdir()
    (top / "a").write_bytes(b"12")
    (top / "b/c").write_bytes(b"345")
    (top / "b/d").symlink_to("c")
    (top / "e").mkdir()
    version = add(dataset)
    assert (version.files, version.bytes, version.tree.rows) == (3, 5, 4)
    assert files.load(version.root, dataset.store) == version
    paths = [path for path, _ in files.entries(version, dataset.store)]
    assert paths == ["a", "b/c", "b/d", "e"]


def test_an_empty_directory_is_a_version(dataset):
    version = add(dataset)
    assert (version.files, version.bytes, version.tree.rows) == (0, 0, 0)


def test_by_edits_and_from_nothing_is_the_same(dataset, top, tmp_path):
    for number in range(400):
        (top / f"{number:03}").write_bytes(str(number).encode())
    settle()
    first = add(dataset)
    for number in range(0, 400, 7):
        (top / f"{number:03}").write_bytes(b"changed")
    for number in range(3, 400, 11):
        (top / f"{number:03}").unlink(missing_ok=True)
    (top / "new").mkdir()
    (top / "new/x").write_bytes(b"x")
    second = add(dataset)
    assert second.root != first.root
    with ObjectStore(tmp_path / "another") as other:
        again = add(Dataset("data", top, other, StatCache(other.index, "tests")))
        assert again == second


def test_nothing_changed(dataset, top):
    (top / "a").write_bytes(b"1")
    first = add(dataset)
    packs = list(dataset.store.pack_files())
    assert add(dataset) == first
    assert list(dataset.store.pack_files()) == packs


def test_a_version_that_the_store_lost(dataset, top):
    (top / "a").write_bytes(b"1")
    settle()
    first = add(dataset)
    dataset.cache.save(b"\7" * 32, [], ())
    assert add(dataset) == first


def test_the_cache_is_filled(dataset, top):
    (top / "b").mkdir()
    (top / "a").write_bytes(b"1")
    (top / "b/c").write_bytes(b"2")
    settle()
    version = add(dataset)
    assert dataset.cache.root == version.root
    assert [row.name for row in dataset.cache.read(identity_of("b")).rows] == ["c"]
    (top / "b/c").unlink()
    (top / "b").rmdir()
    add(dataset)
    assert dataset.cache.directories() == {identity_of("")}


def test_what_cannot_be_added(dataset, top):
    os.mkfifo(top / "pipe")
    (top / "a").write_bytes(b"1")
    with pytest.raises(UsageError, match="1 file of data cannot be added") as caught:
        add(dataset)
    assert "data/pipe: a fifo cannot be part of a dataset" in caught.value.message
    assert "nothing was recorded" in caught.value.hint
    assert dataset.cache.root is None


def test_many_that_cannot_be_added_are_listed_in_part(dataset, top):
    for number in range(15):
        os.mkfifo(top / f"{number:02}")
    with pytest.raises(UsageError, match="15 files of data") as caught:
        add(dataset)
    assert "data/09: " in caught.value.message
    assert "data/10: " not in caught.value.message
    assert "... and 5 more" in caught.value.message


def test_a_file_that_keeps_changing(dataset, top, monkeypatch):
    (top / "a").write_bytes(b"1" * 300_000)
    really = os.readv

    def changing(descriptor, buffers):
        with (top / "a").open("ab") as file:
            file.write(b"more")
        return really(descriptor, buffers)

    monkeypatch.setattr(os, "readv", changing)
    with pytest.raises(ConflictError, match="it keeps changing while it is read") as caught:
        add(dataset)
    assert caught.value.paths == ("data/a",)


def test_edits_of_a_version(dataset, top):
    (top / "a").write_bytes(b"12")
    (top / "b").write_bytes(b"345")
    version = add(dataset)
    (value,) = (
        files.encode_entry(entry)
        for path, entry in files.entries(version, dataset.store)
        if path == "b"
    )
    with dataset.store.session() as session:
        same = apply_edits(dataset, version, {b"b": value, b"never": None}, session)
        less = apply_edits(dataset, version, {b"a": None}, session)
        more = apply_edits(dataset, version, {b"c": value, b"a": value}, session)
        session.commit()
    assert same == version
    assert (less.files, less.bytes) == (1, 3)
    assert (more.files, more.bytes) == (3, 9)
    with dataset.store.session() as session:
        counted = recount(version, more.tree, dataset.store, session)
        session.commit()
    assert counted == more
