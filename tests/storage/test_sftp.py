from __future__ import annotations

import getpass
import os
import socket
import stat
import subprocess
import sys
import threading
import time

import pytest

from datastore.errors import NotFoundError, StorageError
from datastore.storage.places import open_storage
from datastore.storage.retry import Patience

pytest.importorskip("paramiko")

from datastore.storage.sftp import SftpStorage
from datastore.storage.ssh import Login


@pytest.fixture
def login(sftp) -> Login:
    return Login(
        sftp.endpoint.host,
        sftp.endpoint.port,
        getpass.getuser(),
        str(sftp.key),
        str(sftp.known_hosts),
    )


@pytest.fixture
def connect(sftp, login):
    made = []

    def make(root=None, jobs=4, **changes):
        path = str(root or sftp.path)
        made.append(SftpStorage(f"sftp://host{path}", path, login._replace(**changes), jobs=jobs))
        return made[-1]

    yield make
    for each in made:
        each.close()


def failure(storage) -> StorageError:
    with pytest.raises(StorageError) as caught:
        storage.read("x")
    return caught.value


def test_a_directory_that_is_not_there_is_not_an_empty_one(sftp, connect):
    storage = connect()
    for call in (
        lambda: storage.read("x"),
        lambda: storage.size("x"),
        lambda: storage.delete("x"),
        lambda: list(storage.list("")),
    ):
        with pytest.raises(StorageError) as caught:
            call()
        assert caught.value.reason == "no_directory"
    storage.write("packs/x", b"x")
    assert (sftp.path / "packs" / "x").read_bytes() == b"x"
    with pytest.raises(NotFoundError):
        storage.read("missing")


def test_nothing_above_it_is_made(sftp, connect):
    with pytest.raises(StorageError) as caught:
        connect(sftp.path / "deeper").write("x", b"x")
    assert caught.value.reason == "no_directory"
    assert not sftp.path.exists()


def test_an_unknown_host_is_not_trusted(sftp, connect, tmp_path):
    (tmp_path / "known").write_text("")
    error = failure(connect(known_hosts=str(tmp_path / "known")))
    assert error.reason == "host_key"
    assert "SHA256:" in error.message
    assert f"ssh-keyscan -p {sftp.endpoint.port} {sftp.endpoint.host} >> " in error.hint
    assert not error.retryable


def test_a_host_with_another_key_is_not_trusted(sftp, connect, tmp_path):
    subprocess.run(
        ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", tmp_path / "other"], check=True
    )
    public = (tmp_path / "other.pub").read_text()
    known = tmp_path / "known"
    known.write_text(f"[{sftp.endpoint.host}]:{sftp.endpoint.port} {public}")
    error = failure(connect(known_hosts=str(known)))
    assert error.reason == "host_key"
    assert "another key" in error.message
    assert "ssh-keygen -R" in error.hint


def test_a_key_that_is_not_let_in(connect, tmp_path):
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key], check=True)
    error = failure(connect(key_file=str(key)))
    assert error.reason == "credentials"
    assert "ssh-add" in error.hint


def test_a_key_with_a_passphrase(connect, tmp_path):
    key = tmp_path / "key"
    subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "hunter2", "-f", key], check=True)
    error = failure(connect(key_file=str(key)))
    assert error.reason == "credentials"
    assert "passphrase" in error.message


@pytest.mark.parametrize("option", ["key_file", "known_hosts"])
def test_a_file_that_is_not_there(connect, option):
    error = failure(connect(**{option: "/nowhere/file"}))
    assert error.reason == "credentials"
    assert "/nowhere/file" in error.message


def test_a_server_that_is_not_there(connect):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    assert failure(connect(port=port)).reason == "unreachable"
    assert failure(connect(host="no-such-host.invalid")).reason == "unreachable"


def test_what_is_forbidden_is_denied(sftp, connect):
    if os.geteuid() == 0:
        pytest.skip("root may do anything")
    storage = connect()
    storage.write("x", b"x")
    (sftp.path / "x").chmod(0)
    assert failure(storage).reason == "denied"


def test_nothing_temporary_stays(sftp, connect):
    storage = connect()
    storage.write("packs/ab/x", b"x")
    storage.create("datastore.json", b"{}")
    storage.create("datastore.json", b"{}")
    found = {str(path.relative_to(sftp.path)) for path in sftp.path.rglob("*") if path.is_file()}
    assert found == {"packs/ab/x", "datastore.json"}


def test_old_rests_are_removed_and_young_ones_left(sftp, connect):
    connect().write("x", b"x")
    aside = sftp.path / ".datastore-tmp"
    for name, age in (("old", 8), ("young", 6)):
        (aside / name).write_bytes(b"half")
        then = time.time() - age * 24 * 3600
        os.utime(aside / name, (then, then))
    storage = connect()
    storage.write("y", b"y")
    assert [path.name for path in aside.iterdir()] == ["young"]
    assert dict(storage.list("")) == {"x": 1, "y": 1}


def test_a_group_shares_what_is_made(sftp, connect):
    sftp.path.mkdir()
    sftp.path.chmod(0o2770)
    connect().write("packs/ab/x", b"x")
    for name in ("packs", "packs/ab", ".datastore-tmp"):
        assert stat.S_IMODE((sftp.path / name).stat().st_mode) & 0o2070 == 0o2070


def test_connections_are_kept_and_not_more_than_allowed(connect):
    storage = connect(jobs=3)
    storage.write("x", bytes(100_000))
    threads = [threading.Thread(target=lambda: storage.read("x")) for _ in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 1 <= storage._connections.open <= 3
    assert len(storage._connections._idle) == storage._connections.open


def test_a_connection_that_broke_is_made_anew(sftp, login):
    storage = open_storage(
        sftp.url,
        {"key_file": login.key_file, "known_hosts": login.known_hosts},
        patience=Patience(first_pause=0.01),
    )
    storage.write("x", b"x")
    inner = storage._storage._storage._storage
    for connection in inner._connections._all:
        connection._client.get_transport().sock.close()
    assert storage.read("x") == b"x"
    storage.close()


def test_closing_ends_calls_under_way_at_once(sftp, connect):
    storage = connect()
    storage.write("x", b"x")
    os.mkfifo(sftp.path / "packs")  # whoever opens it waits
    errors = []

    def read():
        with pytest.raises(StorageError) as caught:
            storage.read("packs")
        errors.append(caught.value)

    thread = threading.Thread(target=read)
    thread.start()
    time.sleep(0.3)
    began = time.monotonic()
    storage.close()
    thread.join(5)
    assert time.monotonic() - began < 1.5
    assert [error.reason for error in errors] == ["closed"]


@pytest.mark.slow
def test_a_pack_goes_up_and_down_in_no_time(connect):
    data = os.urandom(32 * 1024 * 1024)
    storage = connect()
    began = time.monotonic()
    storage.write("packs/x", data)
    assert storage.read("packs/x") == data
    assert time.monotonic() - began < 8  # ten seconds each way, done the obvious way


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_logs_in_by_itself(sftp, login):
    program = f"""
import os
from datastore.storage.places import open_storage
storage = open_storage({sftp.url!r},
                       {{"key_file": {login.key_file!r}, "known_hosts": {login.known_hosts!r}}})
storage.write("x", b"from the parent")
child = os.fork()
if child == 0:
    ok = storage.read("x") == b"from the parent"
    storage.close()
    os._exit(0 if ok else 1)
assert os.waitpid(child, 0)[1] == 0
assert storage.read("x") == b"from the parent"
storage.close()
"""
    done = subprocess.run(
        [sys.executable, "-c", program], timeout=60, check=False, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
