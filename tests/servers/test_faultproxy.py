"""Each fault really happens, and without one nothing does."""

from __future__ import annotations

import http.client
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from tests.servers.clients import file_system, top_of
from tests.servers.faultproxy import FaultProxy
from tests.servers.processes import LOOPBACK, Address, Ports

TOP = Path(__file__).parents[2]
DATA = bytes(range(256)) * 4
LOST = (ConnectionError, http.client.BadStatusLine, http.client.IncompleteRead)
WEB = ["s3", "moto", "gcs", "azure"]


class Origin(ThreadingHTTPServer):
    """A server that keeps bodies under paths."""

    daemon_threads = True

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {"/data": DATA}
        super().__init__((LOOPBACK, 0), OriginHandler)


class OriginHandler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: Origin

    def do_GET(self):
        data = self.server.kept.get(self.path)
        self.send_response(404 if data is None else 200)
        if self.path.startswith("/in-pieces"):
            self.send_header("Transfer-Encoding", "chunked")
            self.end_headers()
            for at in range(0, len(data), 100):
                piece = data[at : at + 100]
                self.wfile.write(b"%x\r\n%b\r\n" % (len(piece), piece))
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.send_header("Content-Length", str(len(data or b"")))
            self.end_headers()
            self.wfile.write(data or b"")

    def do_PUT(self):
        self.server.kept[self.path] = self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *arguments):
        pass


@pytest.fixture
def origin():
    with Origin() as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def proxy(origin):
    with FaultProxy(Address(*origin.server_address)) as proxy:
        yield proxy


def ask(proxy, method="GET", path="/data", body=None, timeout=5.0):
    """Sends one request on a connection of its own."""
    connection = http.client.HTTPConnection(*proxy.address, timeout=timeout)
    try:
        connection.request(method, path, body)
        answer = connection.getresponse()
        return answer.status, answer.read(), answer.headers
    finally:
        connection.close()


# -- the plain proxy ---------------------------------------------------------------------------


def test_it_passes_everything_on(proxy, origin):
    assert ask(proxy, "PUT", "/new?x=1", b"body")[0] == 200
    assert origin.kept["/new?x=1"] == b"body"
    assert ask(proxy)[:2] == (200, DATA)
    assert ask(proxy, path="/none")[0] == 404
    seen = [(request.method, request.path, request.status) for request in proxy.requests]
    assert seen == [("PUT", "/new?x=1", 200), ("GET", "/data", 200), ("GET", "/none", 404)]
    assert (proxy.bytes_up, proxy.bytes_down) == (4, len(DATA))


def test_it_passes_bodies_of_unknown_length_on(proxy, origin):
    origin.kept["/in-pieces"] = DATA
    assert ask(proxy, path="/in-pieces")[:2] == (200, DATA)
    rule = proxy.add("GET", "pieces", "corrupt", 250)
    damaged = ask(proxy, path="/in-pieces")[1]
    assert [at for at in range(len(DATA)) if damaged[at] != DATA[at]] == [250]
    assert rule.hits == 1


def test_a_connection_is_used_again(proxy):
    connection = http.client.HTTPConnection(*proxy.address, timeout=5)
    for _ in range(3):
        connection.request("GET", "/data")
        assert connection.getresponse().read() == DATA
        where = connection.sock.getsockname()
    assert where == connection.sock.getsockname()
    connection.close()
    assert len(proxy.requests) == 3


def test_a_server_that_is_gone_looks_gone(origin, proxy):
    with Ports(1) as ports, FaultProxy(Address(LOOPBACK, next(iter(ports)))) as deaf:
        with pytest.raises(LOST):
            ask(deaf)
        assert deaf.requests[0].status is None


# -- faults ------------------------------------------------------------------------------------


def test_status(proxy, origin):
    rule = proxy.add("PUT", "/a", "status", 503, retry_after=7, times=2)
    for _ in range(2):
        status, _, fields = ask(proxy, "PUT", "/a", b"body")
        assert (status, fields["Retry-After"]) == (503, "7")
    assert "/a" not in origin.kept
    assert ask(proxy, "PUT", "/a", b"body")[0] == 200
    assert rule.hits == 2
    assert [request.status for request in proxy.seen("PUT")] == [503, 503, 200]
    assert proxy.requests[0].fault == "status"


def test_reset(proxy, origin):
    rule = proxy.add("PUT", "/a", "reset")
    with pytest.raises(LOST):
        ask(proxy, "PUT", "/a", b"body")
    assert "/a" not in origin.kept
    assert rule.hits == 1


def test_commit_then_reset(proxy, origin):
    rule = proxy.add("PUT", "/a", "commit_then_reset")
    with pytest.raises(LOST):
        ask(proxy, "PUT", "/a", b"body")
    assert origin.kept["/a"] == b"body"
    assert (rule.hits, proxy.requests[0].status) == (1, 200)


@pytest.mark.parametrize(
    ("action", "kind"), [("reset_body", ConnectionError), ("truncate", http.client.IncompleteRead)]
)
def test_an_answer_that_is_cut_off(proxy, action, kind):
    rule = proxy.add("GET", "/data", action, 1000, times=1)
    with pytest.raises(kind):
        ask(proxy)
    assert (rule.hits, proxy.requests[0].down) == (1, 1000)
    assert ask(proxy)[1] == DATA


@pytest.mark.parametrize("number", [None, 0, 1000])
def test_stall(proxy, number):
    rule = proxy.add("GET", "/data", "stall", number)
    with pytest.raises(TimeoutError):
        ask(proxy, timeout=0.2)
    assert rule.hits == 1
    assert proxy.requests[0].down == (number or 0)


def test_a_stalled_request_ends_with_the_proxy(origin):
    with FaultProxy(Address(*origin.server_address)) as proxy:
        proxy.add("GET", "/data", "stall", 1000)
        connection = http.client.HTTPConnection(*proxy.address, timeout=5)
        connection.request("GET", "/data")
        answer = connection.getresponse()
        assert answer.read(1000) == DATA[:1000]
    with pytest.raises(ConnectionResetError):
        answer.read()
    connection.close()


@pytest.mark.parametrize("at", [0, 777, len(DATA) - 1])
def test_corrupt(proxy, origin, at):
    rules = [proxy.add("GET", "/data", "corrupt", at), proxy.add("PUT", "", "corrupt_up", at)]
    damaged = ask(proxy)[1]
    ask(proxy, "PUT", "/a", DATA)
    for data in (damaged, origin.kept["/a"]):
        assert len(data) == len(DATA)
        assert [index for index in range(len(DATA)) if data[index] != DATA[index]] == [at]
    assert [rule.hits for rule in rules] == [1, 1]


@pytest.mark.parametrize("action", ["corrupt", "truncate", "reset_body", "stall"])
def test_a_body_too_short_to_be_damaged_is_no_hit(proxy, action):
    rule = proxy.add("GET", "/data", action, len(DATA))
    assert ask(proxy)[1] == DATA
    assert rule.hits == 0


def test_delay(proxy):
    proxy.add("GET", "/data", "delay", 0.5, times=1)
    assert seconds(proxy) >= 0.5
    assert seconds(proxy) < 0.5


def seconds(proxy) -> float:
    start = time.monotonic()
    ask(proxy)
    return time.monotonic() - start


def test_latency_is_that_of_each_request(proxy):
    proxy.latency = 0.4
    start = time.monotonic()
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda _: ask(proxy), range(8)))
    assert 0.4 <= time.monotonic() - start < 2
    assert proxy.most_at_once > 1


def test_bandwidth_is_shared(proxy):
    proxy.bandwidth = 8 * len(DATA)
    start = time.monotonic()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: ask(proxy), range(4)))
    assert time.monotonic() - start >= 0.5


def test_down_and_up(proxy):
    kept = http.client.HTTPConnection(*proxy.address, timeout=5)
    kept.request("GET", "/data")
    kept.getresponse().read()
    proxy.down()
    with pytest.raises(ConnectionRefusedError):
        ask(proxy)
    with pytest.raises(ConnectionResetError):
        kept.sock.recv(1)
    kept.close()
    proxy.up()
    assert ask(proxy)[1] == DATA


def test_rules_can_wait_and_be_random(proxy):
    proxy.add("GET", "", "status", 500, skip=2, times=1)
    assert [ask(proxy)[0] for _ in range(4)] == [200, 200, 500, 200]
    proxy.clear()
    rule = proxy.add("GET", "", "status", 500, probability=0.5)
    failed = [ask(proxy)[0] for _ in range(40)].count(500)
    assert 5 < failed < 35
    assert rule.hits == failed


@pytest.mark.parametrize(("action", "number"), [("explode", 1), ("corrupt", None)])
def test_what_cannot_be_done_is_not_asked_for(proxy, action, number):
    with pytest.raises(ValueError, match=action):
        proxy.add("GET", "", action, number)


# -- in the shape that clients take for real ---------------------------------------------------


@pytest.fixture(params=WEB)
def place(request, proxied):
    return proxied(request.getfixturevalue(request.param))


def test_an_empty_listing(place):
    files, top = file_system(place), top_of(place)
    files.pipe_file(f"{top}/a", b"data")
    rule = place.proxy.add(".*", "", "empty_listing")
    assert files.find(top) == []
    assert rule.hits
    assert files.cat_file(f"{top}/a") == b"data"
    place.proxy.clear()
    assert files.find(top) == [f"{top}/a"]


def test_a_stale_listing(place):
    files, top = file_system(place), top_of(place)
    files.pipe_file(f"{top}/a", b"data")
    assert files.find(top) == [f"{top}/a"]
    files.pipe_file(f"{top}/b", b"data")
    rule = place.proxy.add(".*", "", "stale_listing")
    assert files.find(top) == [f"{top}/a"]
    assert rule.hits
    assert files.cat_file(f"{top}/b") == b"data"
    place.proxy.clear()
    assert files.find(top) == [f"{top}/a", f"{top}/b"]


def test_an_error_is_understood(place):
    files, top = file_system(place), top_of(place)
    files.pipe_file(f"{top}/a", b"data")
    rule = place.proxy.add("GET", "/", "status", 404)
    with pytest.raises(FileNotFoundError):
        files.cat_file(f"{top}/a")
    assert rule.hits


@pytest.mark.parametrize("place", ["s3", "moto", "gcs"], indirect=True)
def test_a_busy_server_is_asked_again(place):
    files, top = file_system(place), top_of(place)
    rule = place.proxy.add("PUT|POST", "", "status", 503, times=1)
    files.pipe_file(f"{top}/a", b"data")
    assert rule.hits == 1
    assert [request.status for request in place.proxy.seen("PUT|POST")] == [503, 200]


def test_a_busy_azure_says_so(proxied_azure):
    from azure.core.exceptions import HttpResponseError
    from azure.storage.blob import ContainerClient

    text = proxied_azure.environment["AZURE_STORAGE_CONNECTION_STRING"]
    proxied_azure.proxy.add("PUT", "", "status", 503)
    with (
        ContainerClient.from_connection_string(text, "tests", retry_total=0) as client,
        pytest.raises(HttpResponseError) as failed,
    ):
        client.upload_blob("a", b"data")
    assert (failed.value.status_code, failed.value.error_code) == (503, "ServerBusy")


def test_an_upload_that_was_damaged_is_refused_by_seaweedfs(proxied_s3):
    files, top = file_system(proxied_s3), top_of(proxied_s3)
    rule = proxied_s3.proxy.add("PUT", "", "corrupt_up", 500, times=1)
    files.pipe_file(f"{top}/a", DATA)  # s3fs tries again
    assert files.cat_file(f"{top}/a") == DATA
    assert rule.hits == 1
    assert [request.status for request in proxied_s3.proxy.seen("PUT")] == [400, 200]


# -- as a program ------------------------------------------------------------------------------


def test_it_is_a_program_as_well(origin):
    with Ports(1) as ports:
        port = next(iter(ports))
        command = [sys.executable, "-m", "tests.servers.faultproxy", str(port)]
        command += [f"{LOOPBACK}:{origin.server_address[1]}", "--latency", "0.2"]
        proxy = subprocess.Popen(
            command,
            cwd=TOP,
            stdout=subprocess.PIPE,
            text=True,
        )
        with proxy:
            assert proxy.stdout.readline() == f"ready http://{LOOPBACK}:{port}\n"
            start = time.monotonic()
            connection = http.client.HTTPConnection(LOOPBACK, port, timeout=5)
            connection.request("GET", "/data")
            assert connection.getresponse().read() == DATA
            connection.close()
            assert time.monotonic() - start >= 0.2
            proxy.kill()
