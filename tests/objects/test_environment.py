"""What LMDB and the disk refuse, in our words; and who may remove files that others have open."""

from __future__ import annotations

import errno
import os
import struct

import lmdb
import pytest

from datastore.errors import StorageError
from datastore.objects import environment
from datastore.objects.environment import Environment, failure, translated
from datastore.objects.index import Index
from tests.objects.forks import in_child


@pytest.fixture
def opened(tmp_path):
    with Index(tmp_path / "index") as opened:
        yield opened


# -- errors ---------------------------------------------------------------------------------------


def test_a_fault_of_the_index_can_be_mended(tmp_path):
    error = failure(tmp_path, lmdb.CorruptedError("mdb_get: MDB_CORRUPTED"))
    assert "MDB_CORRUPTED" in str(error)
    assert "--rebuild-index" in error.hint
    assert error.where == str(tmp_path)


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EMFILE])
def test_a_fault_of_the_disk_is_not_blamed_on_the_index(tmp_path, number):
    error = failure(tmp_path, lmdb.Error(f"mdb_txn_commit: {os.strerror(number)}"))
    assert os.strerror(number) in str(error)
    assert "rebuild" not in error.hint
    assert error.hint


@pytest.mark.parametrize(("free", "said"), [(0, errno.ENOSPC), (1 << 40, errno.EIO)])
def test_a_write_that_was_cut_short_means_a_full_disk(tmp_path, monkeypatch, free, said):
    real = os.statvfs(tmp_path)
    shown = os.statvfs_result((*real[:4], free // real.f_frsize, *real[5:]))
    assert shown.f_bavail == free // real.f_frsize
    monkeypatch.setattr(environment.os, "statvfs", lambda path: shown)
    error = failure(tmp_path, lmdb.Error(f"mdb_txn_commit: {os.strerror(errno.EIO)}"))
    assert os.strerror(said) in str(error)


def test_a_disk_that_does_not_say_how_full_it_is(tmp_path):
    error = failure(tmp_path / "gone", lmdb.Error(os.strerror(errno.EIO)))
    assert os.strerror(errno.EIO) in str(error)


@pytest.mark.parametrize(
    "error",
    [lmdb.Error("x"), struct.error("x"), PermissionError(errno.EACCES, "x"), StorageError("x")],
    ids=lambda error: type(error).__name__,
)
def test_every_refusal_is_a_storage_error(tmp_path, error):
    with pytest.raises(StorageError) as caught, translated(tmp_path):
        raise error
    assert caught.value is error or caught.value.__cause__ is error


def test_other_errors_go_through(tmp_path):
    with pytest.raises(KeyError), translated(tmp_path):
        raise KeyError("x")


# -- opening --------------------------------------------------------------------------------------


def failing(number):
    def fail(*args):
        raise OSError(number, os.strerror(number))

    return fail


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system cannot reserve space")
def test_space_for_the_lock_file_is_taken_before_it_is_mapped(tmp_path, monkeypatch):
    """Writing to a mapped file that the disk has no room for would be a SIGBUS."""
    with monkeypatch.context() as patch:
        patch.setattr(environment.os, "posix_fallocate", failing(errno.ENOSPC))
        with pytest.raises(StorageError, match="No space left"):
            Index(tmp_path / "index")
    assert not Environment._open
    with Index(tmp_path / "index"):
        assert os.stat(tmp_path / "index" / "lock.mdb").st_blocks


def test_a_system_that_cannot_reserve_space_works_without(tmp_path, monkeypatch):
    if hasattr(os, "posix_fallocate"):
        monkeypatch.setattr(environment.os, "posix_fallocate", failing(errno.EOPNOTSUPP))
        with Index(tmp_path / "one") as opened:
            assert opened.counts()["chunks"] == 0
        monkeypatch.delattr(environment.os, "posix_fallocate")
    with Index(tmp_path / "two") as opened:
        assert opened.counts()["chunks"] == 0


def test_an_environment_that_fails_to_open_leaves_nothing_open(tmp_path, monkeypatch):
    def fail(*args, **kwargs):
        raise lmdb.MemoryError("not today")

    Index(tmp_path / "index").close()
    with monkeypatch.context() as patch:
        patch.setattr(environment.lmdb, "open", fail)
        with pytest.raises(StorageError, match="not today"):
            Index(tmp_path / "index")
    assert not Environment._open
    with Index(tmp_path / "index") as opened:
        assert not opened.created
        opened.clear()  # the lock on the files was given back


# -- discarding -----------------------------------------------------------------------------------


def test_a_process_does_not_remove_files_that_another_has_open(opened, tmp_path):
    data = tmp_path / "index" / "data.mdb"
    with data.open("rb") as held:  # or a new file might get the number of the one that went
        before = os.fstat(held.fileno()).st_ino
        in_child(opened.clear)
        assert data.stat().st_ino == before
        opened.clear()
        assert data.stat().st_ino != before
    assert opened.counts() == {"chunks": 0, "packs": 0, "stat": 0}


def test_clearing_for_others_keeps_the_numbers_of_packs_apart(opened):
    inner = opened._opened()
    with inner.env.begin(write=True, db=inner.meta) as transaction:
        transaction.put(b"packs", struct.pack(">I", 77))

    def child():
        opened.clear()
        own = opened._opened()
        with own.env.begin(db=own.meta) as transaction:
            return transaction.get(b"packs"), transaction.get(b"schema"), opened.created

    assert in_child(child)[:2] == (struct.pack(">I", 77), b"1")
    assert opened.counts()["packs"] == 0
