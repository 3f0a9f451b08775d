from __future__ import annotations

import errno
import os
import stat
import threading
from pathlib import Path

import pytest

from datastore.errors import NotFoundError, StorageError
from datastore.storage.directory import DirectoryStorage
from datastore.storage.local import TEMPORARY_PREFIX


@pytest.fixture
def root(tmp_path) -> Path:
    return tmp_path / "remote"


@pytest.fixture
def storage(root) -> DirectoryStorage:
    root.mkdir()
    return DirectoryStorage(root)


def files(root: Path) -> set[str]:
    return {str(path.relative_to(root)) for path in root.rglob("*") if path.is_file()}


# -- a directory that is not there -----------------------------------------------------------------


@pytest.mark.parametrize(
    "call",
    [
        lambda storage: storage.read("x"),
        lambda storage: storage.read_range("x", 0, 1),
        lambda storage: storage.size("x"),
        lambda storage: list(storage.list("")),
        lambda storage: list(storage.list("packs/")),
        lambda storage: storage.delete("x"),
    ],
)
def test_a_directory_that_is_not_there_is_not_an_empty_one(root, call):
    with pytest.raises(StorageError, match="the directory is not there") as caught:
        call(DirectoryStorage(root))
    assert not isinstance(caught.value, NotFoundError)
    assert caught.value.reason == "no_directory"
    assert not caught.value.retryable
    assert "mounted" in caught.value.hint
    assert not root.exists()


@pytest.mark.parametrize("name", ["write", "create"])
def test_writing_makes_it(root, name):
    getattr(DirectoryStorage(root), name)("packs/x", b"x")
    assert (root / "packs" / "x").read_bytes() == b"x"


@pytest.mark.parametrize("name", ["write", "create"])
def test_writing_does_not_make_what_is_above_it(root, name):
    storage = DirectoryStorage(root / "deeper")
    with pytest.raises(StorageError, match="neither is the one above it") as caught:
        getattr(storage, name)("packs/x", b"x")
    assert caught.value.reason == "no_directory"
    assert not root.exists()


def test_a_file_is_no_directory(root):
    root.write_bytes(b"")
    for call in (lambda storage: storage.write("x", b""), lambda storage: list(storage.list(""))):
        with pytest.raises(StorageError):
            call(DirectoryStorage(root))


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads all")
def test_what_cannot_be_read_is_not_missing(storage, root):
    storage.write("packs/x", b"x")
    (root / "packs" / "x").chmod(0)
    with pytest.raises(StorageError) as caught:
        storage.read("packs/x")
    assert not isinstance(caught.value, NotFoundError)


def test_a_disk_that_fails_is_not_missing(storage, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError(errno.EIO, "Input/output error")

    storage.write("x", b"x")
    monkeypatch.setattr(os, "open", fail)
    with pytest.raises(StorageError, match="Input/output error") as caught:
        storage.read("x")
    assert not isinstance(caught.value, NotFoundError)


# -- what is left behind ---------------------------------------------------------------------------


def test_nothing_temporary_stays(storage, root):
    storage.write("packs/ab/x", b"x")
    storage.create("datastore.json", b"{}")
    storage.create("datastore.json", b"{}")
    assert files(root) == {"packs/ab/x", "datastore.json"}


def test_what_a_dead_writer_left_is_not_listed_and_is_removed(storage, root):
    storage.write("x", b"x")
    left = root / ".datastore-tmp" / f"{TEMPORARY_PREFIX}1-0123456789abcdef"
    left.write_bytes(b"half")
    (root / f"{TEMPORARY_PREFIX}1-0123456789abcdef").write_bytes(b"half")
    assert dict(DirectoryStorage(root).list("")) == {"x": 1}
    DirectoryStorage(root).write("y", b"y")
    assert not left.exists()


def test_a_write_that_fails_leaves_what_was_there(storage, root, monkeypatch):
    storage.write("x", b"before")

    def fail(*args, **kwargs):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(StorageError, match="No space left"):
        storage.write("x", b"after")
    assert storage.read("x") == b"before"
    assert files(root) == {"x"}


def test_a_reader_never_sees_half_a_file(storage):
    data = [bytes([letter]) * 300_000 for letter in b"abc"]
    storage.write("x", data[0])
    stop = threading.Event()

    def write():
        while not stop.is_set():
            for each in data:
                storage.write("x", each)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(100):
            assert storage.read("x") in data
    finally:
        stop.set()
        thread.join()


# -- other filesystems -----------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.EPERM, errno.ENOTSUP, errno.ENOSYS])
def test_create_without_hard_links(storage, root, monkeypatch, number):
    def fail(*args, **kwargs):
        raise OSError(number, "no links here")

    monkeypatch.setattr(os, "link", fail)
    assert storage.create("datastore.json", b"first") is True
    assert storage.create("datastore.json", b"second") is False
    assert storage.read("datastore.json") == b"first"
    assert dict(storage.list("")) == {"datastore.json": 5}
    won = []
    threads = [
        threading.Thread(target=lambda: won.append(storage.create("one", b"x"))) for _ in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert won.count(True) == 1


def test_a_link_that_fails_otherwise_is_told(storage, monkeypatch):
    def fail(*args, **kwargs):
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(os, "link", fail)
    with pytest.raises(StorageError, match="Input/output error"):
        storage.create("x", b"x")


def test_a_sweeper_that_takes_the_file_is_outrun(storage, monkeypatch):
    real, failures = os.link, [FileNotFoundError(), FileNotFoundError()]

    def link(*args, **kwargs):
        if failures:
            raise failures.pop()
        return real(*args, **kwargs)

    monkeypatch.setattr(os, "link", link)
    assert storage.create("x", b"x") is True


# -- links -----------------------------------------------------------------------------------------


@pytest.fixture
def outside(tmp_path) -> Path:
    path = tmp_path / "outside"
    path.mkdir()
    (path / "secret").write_bytes(b"secret")
    return path


def test_links_are_not_followed(storage, root, outside):
    (root / "packs").symlink_to(outside)
    (root / "file").symlink_to(outside / "secret")
    for call in (
        lambda: storage.read("packs/secret"),
        lambda: storage.size("packs/secret"),
        lambda: storage.write("packs/new", b"x"),
        lambda: storage.create("packs/new", b"x"),
        lambda: storage.delete("packs/secret"),
        lambda: storage.read("file"),
        lambda: storage.size("file"),
        lambda: list(storage.list("packs/")),
        lambda: list(storage.list("")),
    ):
        with pytest.raises(StorageError, match="is a symbolic link"):
            call()
    assert files(outside) == {"secret"}


def test_writing_to_a_link_replaces_it(storage, root, outside):
    (root / "x").symlink_to(outside / "secret")
    storage.write("x", b"mine")
    assert (outside / "secret").read_bytes() == b"secret"
    assert storage.read("x") == b"mine"


def test_the_root_itself_may_be_a_link(tmp_path, outside):
    (tmp_path / "remote").symlink_to(outside)
    storage = DirectoryStorage(tmp_path / "remote")
    assert storage.read("secret") == b"secret"


# -- sharing ---------------------------------------------------------------------------------------


@pytest.fixture
def strict_umask():
    before = os.umask(0o077)
    yield
    os.umask(before)


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_what_a_group_shares_it_can_read_and_add_to(storage, root, strict_umask):
    root.chmod(0o2770)
    storage.write("packs/ab/x", b"x")
    storage.create("datastore.json", b"{}")
    for directory in ("packs", "packs/ab", ".datastore-tmp"):
        assert mode(root / directory) & 0o2070 == 0o2070, directory
    for file in ("packs/ab/x", "datastore.json"):
        assert mode(root / file) & 0o040, file


def test_what_a_group_does_not_share_keeps_the_umask(storage, root, strict_umask):
    root.chmod(0o755)
    storage.write("packs/x", b"x")
    assert mode(root / "packs") & 0o077 == 0
    assert mode(root / "packs" / "x") & 0o077 == 0
