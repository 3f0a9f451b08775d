"""The servers do what tests rely on, and nothing of them stays behind."""

from __future__ import annotations

import http.client
import socket
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from tests.servers import processes
from tests.servers.clients import file_system, top_of
from tests.servers.processes import LOOPBACK, Address, Ports, Server

TOP = Path(__file__).parents[2]
WEB = ["s3", "moto", "gcs", "azure"]


@pytest.fixture(params=WEB)
def place(request):
    return request.getfixturevalue(request.param)


# -- what each server is for -----------------------------------------------------------------------


def test_what_is_put_can_be_had(place):
    files, top = file_system(place), top_of(place)
    files.pipe_file(f"{top}/a/b", b"0123456789")
    assert files.cat_file(f"{top}/a/b") == b"0123456789"
    assert files.cat_file(f"{top}/a/b", start=2, end=5) == b"234"
    assert files.find(top) == [f"{top}/a/b"]
    files.rm_file(f"{top}/a/b")
    with pytest.raises(FileNotFoundError):
        files.cat_file(f"{top}/a/b")


def test_a_place_is_empty_at_first(place):
    assert file_system(place).find(top_of(place)) == []


def test_an_object_is_created_once(place):
    files, path = file_system(place), f"{top_of(place)}/one"
    files.pipe_file(path, b"first", mode="create")
    with pytest.raises(OSError) as failed:
        files.pipe_file(path, b"second", mode="create")
    assert lost(failed.value)
    assert files.cat_file(path) == b"first"


def lost(error: OSError) -> bool:
    """Whether there was an object already. Of SeaweedFS's words for it s3fs makes another error."""
    answer = getattr(error.__cause__, "response", {})
    code = answer.get("Error", {}).get("Code")
    return isinstance(error, FileExistsError) or code == "PreconditionFailed"


def test_of_two_who_create_an_object_one_wins(s3, gcs):
    for place in (s3, gcs):
        files, path = file_system(place), f"{top_of(place)}/one"

        def create(number, files=files, path=path):
            try:
                files.pipe_file(path, b"%d" % number, mode="create")
            except OSError as error:
                assert lost(error)
                return None
            return b"%d" % number

        with ThreadPoolExecutor(2) as pool:
            won = [data for data in pool.map(create, range(2)) if data is not None]
        assert won == [files.cat_file(path)]


def test_seaweedfs_checks_signatures(s3, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    with pytest.raises(PermissionError):
        file_system(s3).pipe_file(f"{top_of(s3)}/a", b"data")


def test_seaweedfs_keeps_its_data_when_killed(s3, weed_server):
    file_system(s3).pipe_file(f"{top_of(s3)}/a", b"data")
    weed_server.kill()
    with pytest.raises(OSError):
        socket.create_connection(weed_server.address, timeout=1).close()
    weed_server.start()
    assert file_system(s3).cat_file(f"{top_of(s3)}/a") == b"data"


def test_moto_words_errors_as_amazon_does(moto):
    files = file_system(moto)
    files.pipe_file(f"{top_of(moto)}/a", b"data")
    with pytest.raises(FileExistsError):  # s3fs looks for <Condition>If-None-Match</Condition>
        files.pipe_file(f"{top_of(moto)}/a", b"data", mode="create")


def test_sftp(sftp):
    import paramiko

    where = urlsplit(sftp.url)
    with paramiko.SSHClient() as client:
        client.load_host_keys(str(sftp.known_hosts))
        client.connect(
            where.hostname,
            where.port,
            where.username,
            key_filename=str(sftp.key),
            allow_agent=False,
            look_for_keys=False,
        )
        with client.open_sftp() as session:
            session.mkdir(where.path)
            with session.open(f"{where.path}/a", "wb") as file:
                file.write(b"data")
            assert session.listdir(where.path) == ["a"]
    assert (sftp.path / "a").read_bytes() == b"data"


def test_sftp_lets_nobody_in_without_the_key(sftp):
    import paramiko

    where = urlsplit(sftp.url)
    with paramiko.SSHClient() as client:
        client.load_host_keys(str(sftp.known_hosts))
        with pytest.raises(paramiko.AuthenticationException):
            client.connect(
                where.hostname,
                where.port,
                where.username,
                pkey=paramiko.ECDSAKey.generate(),
                allow_agent=False,
                look_for_keys=False,
            )


# -- what the emulator of Google Cloud Storage does not do by itself -------------------------------


@pytest.mark.parametrize("data", [b"\r", b"a\r\n", b"\n", b"--==0==--", b"\r\n\r\n", b"\0" * 9])
def test_gcs_keeps_every_byte(gcs, data):
    files, path = file_system(gcs), f"{top_of(gcs)}/a"
    files.pipe_file(path, data)
    assert files.cat_file(path) == data


def test_gcs_takes_uploads_in_parts(gcs):
    data = bytes(range(256)) * 4096
    with file_system(gcs).open(f"{top_of(gcs)}/a", "wb", block_size=1 << 18) as file:
        file.write(data)
    assert file_system(gcs).cat_file(f"{top_of(gcs)}/a") == data


@pytest.mark.parametrize(
    ("wanted", "status", "data"),
    [
        ("bytes=2-4", 206, b"234"),
        ("bytes=7-", 206, b"789"),
        ("bytes=-3", 206, b"789"),
        ("bytes=5-99", 206, b"56789"),
        ("bytes=-99", 206, b"0123456789"),
        ("bytes=10-", 416, None),
    ],
)
def test_gcs_cuts_ranges_out(gcs, wanted, status, data):
    file_system(gcs).pipe_file(f"{top_of(gcs)}/a", b"0123456789")
    bucket, _, name = f"{top_of(gcs)}/a".partition("/")
    connection = http.client.HTTPConnection(*gcs.endpoint, timeout=10)
    path = f"/storage/v1/b/{bucket}/o/{quote(name, safe='')}?alt=media"
    connection.request("GET", path, headers={"Range": wanted})
    answer = connection.getresponse()
    said = answer.read()
    connection.close()
    assert answer.status == status
    assert data is None or said == data


def test_gcs_lists_by_the_page(proxied_gcs):
    files, top = file_system(proxied_gcs), top_of(proxied_gcs)
    files.pipe({f"{top}/{number:04}": b"" for number in range(1002)})
    proxied_gcs.proxy.clear()
    assert len(files.find(top)) == 1002
    assert len(proxied_gcs.proxy.seen("GET", r"/o\?")) == 2


# -- processes -------------------------------------------------------------------------------------

DOZE = ["-c", "import sys, time; print('so it goes', file=sys.stderr, flush=True); time.sleep(60)"]


def listens(address: Address) -> bool:
    try:
        socket.create_connection(address, timeout=1).close()
    except OSError:
        return False
    return True


def test_a_server_dies_with_its_tests(tmp_path):
    program = f"""
import os, signal, sys
from pathlib import Path
from tests.servers.processes import Server
start = [sys.executable, "-m", "http.server", "--bind", "127.0.0.1"]
server = Server(lambda ports: [*start, str(ports[0])], Path({str(tmp_path / "log")!r}))
server.start()
print(server.address.port, flush=True)
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=TOP, capture_output=True, text=True, check=False
    )
    assert done.stdout, done.stderr
    address = Address(LOOPBACK, int(done.stdout))
    end = time.monotonic() + 10
    while listens(address):
        assert time.monotonic() < end, "the server has survived"
        time.sleep(0.02)


def test_a_server_that_ends_says_why(tmp_path):
    command = [sys.executable, "-c", "raise SystemExit('no such option')"]
    with (
        pytest.raises(RuntimeError, match="exited with 1:\nno such option"),
        Server(lambda ports: command, tmp_path / "log"),
    ):
        pass


def test_a_server_that_does_not_answer_says_why(tmp_path, monkeypatch):
    monkeypatch.setattr(processes, "_PATIENCE", 1)
    server = Server(lambda ports: [sys.executable, *DOZE], tmp_path / "log")
    with pytest.raises(RuntimeError, match="does not answer:\nso it goes"), server:
        pass


def test_ports_are_ours_alone():
    with Ports(50) as first, Ports(50) as second:
        assert not set(first) & set(second)


@pytest.mark.parametrize(
    ("required", "outcome"), [("1", pytest.fail.Exception), ("", pytest.skip.Exception)]
)
def test_a_missing_server_is_named(monkeypatch, required, outcome):
    monkeypatch.setenv("DATASTORE_REQUIRE_SERVERS", required)
    with pytest.raises(outcome, match="no-such-server is not installed: apt-get install it"):
        processes.program("no-such-server", "apt-get install it")
    with pytest.raises(outcome, match="no_such_package is not installed"):
        processes.library("no_such_package", "pip install it")


def test_a_program_can_be_named(monkeypatch):
    monkeypatch.setenv("DATASTORE_PROGRAM", sys.executable)
    found = processes.program("no-such-server", "", variable="DATASTORE_PROGRAM")
    assert found == sys.executable
