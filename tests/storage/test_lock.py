"""One at a time, also after a kill, and everybody told who it is."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import platform
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest

from datastore.errors import LockedError, StorageError
from datastore.storage import lock as module
from datastore.storage.lock import FileLock, is_open_as

ROOT = Path(__file__).parents[2]

HOLD = """
    import sys, time
    from pathlib import Path
    from datastore.storage.lock import FileLock
    with FileLock(Path(sys.argv[1]), command="gc"):
        print("held", flush=True)
        sys.stdin.read()
"""


@pytest.fixture
def holder(tmp_path):
    """Another process that holds the lock until its input ends."""
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLD), str(tmp_path / "lock")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert child.stdin is not None
    assert child.stdout is not None
    assert child.stdout.readline() == "held\n"
    yield child
    child.kill()
    child.wait(60)
    child.stdin.close()
    child.stdout.close()


def test_another_process_is_kept_out_and_told_who(tmp_path, holder):
    said = []
    with pytest.raises(LockedError) as caught:
        FileLock(tmp_path / "lock", command="add").acquire(0.1, said.append)
    assert f"pid {holder.pid} on {platform.node()} (gc, since 20" in caught.value.holder
    assert caught.value.holder in str(caught.value)
    assert caught.value.hint
    assert len(said) == 1
    assert caught.value.holder in said[0]


def test_zero_tries_once(tmp_path, holder):
    began = time.monotonic()
    with pytest.raises(LockedError):
        FileLock(tmp_path / "lock", command="add").acquire(0)
    assert time.monotonic() - began < 5


def test_kill_9_lets_the_next_one_in(tmp_path, holder):
    waiting = FileLock(tmp_path / "lock", command="add")
    threading.Timer(0.05, holder.send_signal, [signal.SIGKILL]).start()
    with waiting.acquire(30):
        assert json.loads((tmp_path / "lock").read_bytes())["command"] == "add"


def test_the_end_of_the_holder_lets_the_next_one_in(tmp_path, holder):
    said = []
    threading.Timer(0.05, holder.stdin.close).start()
    with FileLock(tmp_path / "lock", command="add").acquire(30, said.append):
        pass
    assert len(said) <= 1
    assert (tmp_path / "lock").read_bytes() == b""


def test_it_can_be_taken_again(tmp_path):
    lock = FileLock(tmp_path / "lock", command="add")
    for _ in range(3):
        with lock:
            record = json.loads((tmp_path / "lock").read_bytes())
            assert record["pid"] == os.getpid()
        with lock.acquire(0):
            pass
    lock.release()


@pytest.mark.parametrize("shared", [True, False])
def test_threads_exclude_each_other(tmp_path, shared):
    one = FileLock(tmp_path / "lock", command="one")
    inside = []
    most = []

    def work():
        lock = one if shared else FileLock(tmp_path / "lock", command="own")
        for _ in range(20):
            with lock:
                inside.append(1)
                most.append(len(inside))
                time.sleep(0)
                inside.pop()

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert most == [1] * 80


def test_it_is_not_reentrant(tmp_path, monkeypatch):
    """Were it, the end of the inner block would let others into the outer one."""
    monkeypatch.setattr(module, "DEFAULT_TIMEOUT", 0.02)
    lock = FileLock(tmp_path / "lock", command="add")
    with lock:
        with pytest.raises(LockedError), lock:
            pass
        with pytest.raises(LockedError):
            FileLock(tmp_path / "lock", command="add").acquire(0)
    with lock.acquire(0), pytest.raises(LockedError), lock:
        pass


def test_a_deleted_lock_file_does_not_let_two_in(tmp_path):
    """Who waited on the deleted file must not take its lock for that of the new file."""
    path = tmp_path / "lock"
    first = FileLock(path, command="first").acquire(0)
    got = threading.Event()
    go = threading.Event()

    def wait():
        with FileLock(path, command="waiter").acquire(60):
            got.set()
            go.wait(60)

    waiter = threading.Thread(target=wait)
    waiter.start()
    time.sleep(0.05)
    path.unlink()
    second = FileLock(path, command="second").acquire(0)
    first.release()
    assert not got.wait(0.2)
    second.release()
    assert got.wait(60)
    with pytest.raises(LockedError):
        FileLock(path, command="third").acquire(0)
    go.set()
    waiter.join()


def test_a_file_that_is_always_deleted_ends_the_wait(tmp_path, monkeypatch):
    monkeypatch.setattr(module, "is_open_as", lambda *_: False)
    with pytest.raises(StorageError, match="again and again"):
        FileLock(tmp_path / "lock", command="add").acquire(60)


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"{",
        b"[1]",
        b"null",
        b'{"pid": 1}',
        b"[" * 4096,
        b"\xff\xfe",
        b"9" * 5000,
    ],
)
def test_a_record_that_is_none_names_nobody(tmp_path, record):
    path = tmp_path / "lock"
    path.write_bytes(record)
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(LockedError) as caught:
            FileLock(path, command="add").acquire(0)
    assert caught.value.holder == "another process"


def test_a_record_cannot_command_the_terminal(tmp_path):
    path = tmp_path / "lock"
    record = {"pid": 1, "host": "h\x1b[2J", "command": "c\n" * 500, "since": "now"}
    path.write_text(json.dumps(record))
    with path.open("rb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(LockedError) as caught:
            FileLock(path, command="add").acquire(0)
    assert caught.value.holder.startswith("pid 1 on h?[2J (c?c?")
    assert len(caught.value.holder) <= 300


def test_a_longer_old_record_leaves_nothing_behind(tmp_path):
    path = tmp_path / "lock"
    path.write_text("x" * 3000)
    with FileLock(path, command="add"):
        assert json.loads(path.read_bytes())["command"] == "add"


def test_a_full_disk_does_not_keep_it_from_being_held(tmp_path, monkeypatch):
    def full(*args):
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "write", full)
    with (
        FileLock(tmp_path / "lock", command="add").acquire(0),
        pytest.raises(LockedError, match="another process"),
    ):
        FileLock(tmp_path / "lock", command="add").acquire(0)


def test_a_filesystem_without_locks_is_an_error(tmp_path, monkeypatch):
    def none(*args):
        raise OSError(errno.ENOLCK, os.strerror(errno.ENOLCK))

    monkeypatch.setattr(fcntl, "flock", none)
    with pytest.raises(StorageError, match="cannot lock"):
        FileLock(tmp_path / "lock", command="add").acquire(1)


def test_a_missing_directory_is_an_error(tmp_path):
    with pytest.raises(StorageError, match="missing"):
        FileLock(tmp_path / "missing" / "lock", command="add").acquire(1)


def test_a_link_is_not_followed(tmp_path):
    (tmp_path / "lock").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StorageError):
        FileLock(tmp_path / "lock", command="add").acquire(1)
    assert not (tmp_path / "elsewhere").exists()


def test_an_error_while_waiting_closes_the_file(tmp_path, holder):
    def stop(sentence):
        raise KeyboardInterrupt

    before = len(os.listdir("/dev/fd"))
    with pytest.raises(KeyboardInterrupt):
        FileLock(tmp_path / "lock", command="add").acquire(60, stop)
    assert len(os.listdir("/dev/fd")) == before


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_does_not_let_others_in(tmp_path):
    lock = FileLock(tmp_path / "lock", command="add")
    with lock:
        child = os.fork()
        if child == 0:
            lock.release()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        with pytest.raises(LockedError, match="add"):
            FileLock(tmp_path / "lock", command="gc").acquire(0)


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_child_that_lives_on_does_not_keep_the_lock(tmp_path):
    lock = FileLock(tmp_path / "lock", command="add").acquire(0)
    child = os.fork()
    if child == 0:
        signal.pause()
    try:
        lock.release()
        with FileLock(tmp_path / "lock", command="gc").acquire(0):
            pass
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_whether_a_name_still_leads_to_an_open_file(tmp_path):
    path = tmp_path / "file"
    with path.open("wb") as file:
        assert is_open_as(file.fileno(), path)
        path.rename(tmp_path / "other")
        assert not is_open_as(file.fileno(), path)
        path.write_bytes(b"")
        assert not is_open_as(file.fileno(), path)
        path.unlink()
        path.symlink_to("other")
        assert not is_open_as(file.fileno(), path)
