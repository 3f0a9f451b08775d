"""Each cloud's adapter against a real server with a fault proxy in between."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from datastore.errors import NotFoundError, StorageError
from datastore.storage.clouds import check_options
from datastore.storage.counting import Traffic
from datastore.storage.places import STORAGES, open_storage, parse_url
from datastore.storage.retry import Patience

QUICK = Patience(first_pause=0.01)


@pytest.fixture(params=["proxied_s3", "proxied_gcs", "proxied_azure"])
def place(request):
    return request.getfixturevalue(request.param)


def adapter(place, *, url=None, jobs=16):
    parsed = parse_url(url or place.url)
    options = check_options(parsed.cloud.scheme, place.options)
    return STORAGES[parsed.cloud.scheme](parsed, options, jobs)


@pytest.fixture
def bare(place):
    storage = adapter(place)
    yield storage
    storage.close()


@pytest.fixture
def opened(place):
    storage = open_storage(place.url, place.options, patience=QUICK)
    yield storage
    storage.close()


def requests(place) -> list[str]:
    return [f"{each.method} {each.status}" for each in place.proxy.requests]


def failure(call) -> StorageError:
    with pytest.raises(StorageError) as caught:
        call()
    assert caught.value.message
    assert caught.value.where
    return caught.value


def missing(storage, key):
    with pytest.raises(NotFoundError):
        storage.read(key)


# -- what it costs ---------------------------------------------------------------------------------


def test_each_call_is_one_request(place, bare):
    calls = [
        lambda: bare.write("packs/x", b"0123456789"),
        lambda: bare.read("packs/x"),
        lambda: bare.read_range("packs/x", 2, 3),
        lambda: bare.size("packs/x"),
        lambda: bare.size("packs/missing"),
        lambda: bare.create("datastore.json", b"{}"),
        lambda: bare.create("datastore.json", b"{}"),
        lambda: list(bare.list("packs/")),
        lambda: list(bare.list("roots/")),
        lambda: bare.delete("packs/x"),
        lambda: bare.delete("packs/x"),
        lambda: missing(bare, "packs/x"),
    ]
    costs = []
    for call in calls:
        before = len(place.proxy.requests)
        call()
        costs.append(len(place.proxy.requests) - before)
    assert costs == [1] * len(calls)


def test_a_pack_goes_up_and_down_in_one_request(place, bare):
    data = random.Random(0).randbytes(32 * 1024 * 1024)
    bare.write("packs/x", data)
    assert bare.read("packs/x") == data
    assert [each.method for each in place.proxy.requests][1:] == ["GET"]


@pytest.mark.slow
def test_a_listing_is_one_request_for_each_page(place, bare):
    if place.url.startswith("az:"):
        pytest.skip("a page has 5000 names there")
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda number: bare.write(f"roots/{number}", b""), range(1001)))
    place.proxy.requests.clear()
    assert len(list(bare.list("roots/"))) == 1001
    assert requests(place) == ["GET 200", "GET 200"]


# -- what goes wrong -------------------------------------------------------------------------------


def every_call(storage):
    return [
        lambda: storage.read("x"),
        lambda: storage.read_range("x", 0, 1),
        lambda: storage.write("x", b"x"),
        lambda: storage.create("x", b"x"),
        lambda: storage.size("x"),
        lambda: list(storage.list("")),
        lambda: storage.delete("x"),
    ]


@pytest.mark.parametrize(
    ("status", "reason", "retryable"),
    [
        (503, "throttled", True),
        (429, "throttled", True),
        (500, "server", True),
        (502, "server", True),
        (403, "denied", False),
        (400, "refused", False),
    ],
)
def test_a_refusal_is_told_at_once(place, bare, status, reason, retryable):
    place.proxy.add(".*", "", "status", status, retry_after=7)
    for call in every_call(bare):
        before = len(place.proxy.requests)
        error = failure(call)
        assert (error.reason, error.retryable) == (reason, retryable), error
        assert error.retry_after == 7
        if (status, place.url[:2]) != (400, "s3"):  # it asks once more, for the bucket's region
            assert len(place.proxy.requests) == before + 1


def test_a_connection_that_breaks_is_told_at_once(place, bare):
    place.proxy.add(".*", "", "reset")
    for call in every_call(bare):
        error = failure(call)
        assert error.reason == "cut", error
        assert error.retryable


@pytest.mark.parametrize("action", ["truncate", "reset_body"])
def test_half_an_answer_is_none(place, bare, action):
    bare.write("x", bytes(100_000))
    place.proxy.add("GET", "", action, 50_000)
    for call in (lambda: bare.read("x"), lambda: bare.read_range("x", 0, 100_000)):
        error = failure(call)
        assert error.reason == "cut", error
        assert error.retryable


def test_a_server_that_is_gone_is_unreachable(place, bare):
    place.proxy.down()
    for call in every_call(bare):
        error = failure(call)
        assert error.reason == "unreachable", error
        assert error.retryable
        assert error.hint


@pytest.mark.parametrize("kind", ["moto", "gcs", "azure"])  # SeaweedFS makes buckets by itself
def test_a_bucket_that_is_not_there_is_said_so(kind, request):
    place = request.getfixturevalue(kind)
    storage = adapter(place, url=f"{place.url.partition(':')[0]}://no-such-bucket/x")
    for call in (
        lambda: list(storage.list("")),
        lambda: storage.write("x", b"x"),
        lambda: storage.create("x", b"x"),
    ):
        error = failure(call)
        assert error.reason == "no_bucket", error
        assert not error.retryable
        assert "no-such-bucket" in error.message
    storage.close()


def test_bytes_damaged_on_the_way_up_are_refused(place, bare):
    data = random.Random(3).randbytes(100_000)
    rule = place.proxy.add("PUT|POST", "", "corrupt_up", 50_000, times=1)
    error = failure(lambda: bare.write("packs/x", data))
    assert rule.hits == 1
    assert error.reason == "checksum", error
    assert error.retryable


def test_they_are_sent_again(place, opened):
    data = random.Random(3).randbytes(100_000)
    place.proxy.add("PUT|POST", "", "corrupt_up", 50_000, times=2)
    opened.write("packs/x", data)
    assert opened.read("packs/x") == data


@pytest.mark.parametrize(
    ("action", "number"),
    [("status", 503), ("status", 500), ("reset", None), ("commit_then_reset", None)],
)
def test_what_passes_is_waited_for(place, opened, action, number):
    for method in ("PUT|POST", "GET", "HEAD", "DELETE"):
        place.proxy.add(method, "", action, number, times=2)
    opened.write("packs/x", b"x")
    assert opened.size("packs/x") == 1
    assert opened.read("packs/x") == b"x"
    assert dict(opened.list("packs/")) == {"packs/x": 1}
    opened.delete("packs/x")
    assert opened.size("packs/x") is None


def test_half_a_transfer_is_made_again(place, opened):
    data = random.Random(4).randbytes(100_000)
    opened.write("x", data)
    place.proxy.add("GET", "", "truncate", 10_000, times=1)
    place.proxy.add("GET", "", "reset_body", 99_999, times=1)
    assert opened.read("x") == data
    place.proxy.add("GET", "", "truncate", 10_000, times=1)
    assert opened.read_range("x", 0, 100_000) == data


def test_a_lost_acknowledgement_of_create_says_false_and_stays(place, opened):
    place.proxy.add("PUT|POST", "", "commit_then_reset", times=1)
    assert opened.create("datastore.json", b"mine") is False
    assert opened.read("datastore.json") == b"mine"


def test_a_wrong_endpoint_is_not_waited_for_long(place):
    place.proxy.down()
    storage = open_storage(place.url, place.options)
    began = time.monotonic()
    error = failure(lambda: storage.read("x"))
    assert "3 tries" in error.message
    assert time.monotonic() - began < 10
    storage.close()


# -- closing ---------------------------------------------------------------------------------------


def test_closing_ends_a_hundred_stalled_calls_within_a_second(place):
    place.proxy.add("GET", "", "stall")
    storage = open_storage(place.url, place.options, jobs=100)
    errors: list[StorageError] = []

    def read(number):
        errors.append(failure(lambda: storage.read(f"packs/{number}")))

    threads = [threading.Thread(target=read, args=(number,)) for number in range(100)]
    for thread in threads:
        thread.start()
    deadline = time.monotonic() + 20
    while len(place.proxy.requests) < 50 and time.monotonic() < deadline:
        time.sleep(0.01)
    began = time.monotonic()
    storage.close()
    for thread in threads:
        thread.join()
    assert time.monotonic() - began < 1.5
    assert {error.reason for error in errors} == {"closed"}
    assert len(errors) == 100


def test_a_stalled_upload_ends_too(place):
    place.proxy.add("PUT|POST", "", "stall")
    storage = open_storage(place.url, place.options)
    errors = []
    thread = threading.Thread(
        target=lambda: errors.append(failure(lambda: storage.write("x", bytes(8 << 20))))
    )
    thread.start()
    while not place.proxy.requests:
        time.sleep(0.01)
    began = time.monotonic()
    storage.close()
    thread.join()
    assert time.monotonic() - began < 1
    assert errors[0].reason == "closed"


# -- processes -------------------------------------------------------------------------------------


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_makes_its_own_client(place, bare):
    bare.write("x", b"from the parent")
    program = f"""
import os, sys, warnings
from tests.storage.test_clouds_on_servers import adapter
from datastore.storage.places import open_storage
storage = open_storage({place.url!r}, {place.options!r})
assert storage.read("x") == b"from the parent"
child = os.fork()
if child == 0:
    ok = storage.read("x") == b"from the parent"
    storage.write("y", b"from the child")
    storage.close()
    os._exit(0 if ok else 1)
assert os.waitpid(child, 0)[1] == 0
assert storage.read("y") == b"from the child"
storage.close()
"""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", program],
        timeout=60,
        check=False,
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_traffic_is_counted(place):
    traffic = Traffic()
    storage = open_storage(place.url, place.options, traffic=traffic, patience=QUICK)
    place.proxy.add("PUT|POST", "", "status", 503, times=1)
    storage.write("x", b"12345")
    storage.read("x")
    storage.close()
    assert (traffic.requests, traffic.bytes_up, traffic.bytes_down) == (3, 10, 5)
    assert len(place.proxy.requests) == 3


# -- only S3 ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "secret", "reason"),
    [("testing", "wrong", "signature"), ("nobody", "testing123", "credentials")],
)
def test_wrong_credentials_for_s3(s3, monkeypatch, key, secret, reason):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", key)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", secret)
    storage = adapter(s3)
    error = failure(lambda: storage.read("x"))
    assert error.reason == reason, error
    assert not error.retryable
    assert error.hint
    storage.close()


def test_no_credentials_for_s3(s3, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    storage = adapter(s3)
    error = failure(lambda: storage.read("x"))
    assert error.reason == "credentials"
    assert "AWS_ACCESS_KEY_ID" in error.hint
    assert not error.retryable
    storage.close()


def test_an_unknown_profile_for_s3(s3):
    storage = STORAGES["s3"](parse_url(s3.url), {**s3.options, "profile": "nobody"}, 4)
    error = failure(lambda: storage.read("x"))
    assert error.reason == "credentials"
    assert "nobody" in error.message
    storage.close()


def test_a_host_that_does_not_exist(s3):
    storage = STORAGES["s3"](parse_url(s3.url), {"endpoint_url": "http://no-such-host.invalid"}, 4)
    error = failure(lambda: storage.read("x"))
    assert error.reason == "unreachable", error
    storage.close()


def test_a_port_nobody_listens_on(moto):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        port = taken.getsockname()[1]
    options = {"endpoint_url": f"http://127.0.0.1:{port}"}
    storage = STORAGES["s3"](parse_url(moto.url), options, 4)
    assert failure(lambda: storage.read("x")).reason == "unreachable"
    storage.close()


# -- Ctrl-C ----------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="no such signal")
def test_ctrl_c_ends_a_stalled_program_at_once(place):
    place.proxy.add("GET", "", "stall")
    program = f"""
from concurrent.futures import ThreadPoolExecutor
from datastore.storage.places import open_storage
storage = open_storage({place.url!r}, {place.options!r}, jobs=32)
pool = ThreadPoolExecutor(32)
calls = [pool.submit(storage.read, str(number)) for number in range(100)]
try:
    calls[0].result()
except KeyboardInterrupt:
    storage.close()
    pool.shutdown()
    raise SystemExit(130)
"""
    process = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 30
    while len(place.proxy.requests) < 32 and time.monotonic() < deadline:
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    began = time.monotonic()
    _, complaints = process.communicate(timeout=30)
    assert time.monotonic() - began < 3  # most of it Python's own end
    assert (process.returncode, complaints) == (130, "")
    assert len(place.proxy.requests) == 32, "requests were sent after Ctrl-C"
