"""What every `Storage` must do, as checks that a new adapter is put through.

``CHECKS`` holds functions that take an open, empty storage and raise `AssertionError` where it does
not keep its word. They look at one storage from outside: what a kind of storage does on top, and
how it fails, is for tests of its own.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from datastore.errors import NotFoundError, StorageError, UsageError
from datastore.storage.base import Listed, Storage

Check = Callable[[Storage], None]
CHECKS: list[Check] = []

HOSTILE = [
    "",
    "/",
    "/absolute",
    "../outside",
    "packs/../../outside",
    "packs/..",
    "packs//twice",
    "packs/",
    "./here",
    "back\\slash",
    "nul\0",
    "new\nline",
    "half\ud800",
    "long/" + "x" * 1100,
    ".datastore-tmp-1-0123456789abcdef",
    ".datastore-tmp/x",
]
"""Keys that no storage may take: outside the root, or another key elsewhere."""

ODD = [
    "a b",
    "per%20cent",
    "plus+",
    "hash#",
    "question?",
    "ünï",
    "quote'",
    "tilde~",
    "[x]",
    "a=b&c",
]
"""Parts of keys that need care in urls and shells, and are fine."""


def check(function: Check) -> Check:
    CHECKS.append(function)
    return function


def listed(storage: Storage, prefix: str = "") -> dict[str, int]:
    found = list(storage.list(prefix))
    assert all(type(each) is Listed for each in found)
    assert len({each.key for each in found}) == len(found), "a key was listed twice"
    return dict(found)


@check
def what_was_written_is_read(storage: Storage) -> None:
    for size in (0, 1, 4095, 70_000):
        data = random.Random(size).randbytes(size)
        storage.write(f"packs/ab/{size}.pack", data)
        assert storage.read(f"packs/ab/{size}.pack") == data
        assert storage.size(f"packs/ab/{size}.pack") == size


@check
def every_byte_value_survives(storage: Storage) -> None:
    for data in (bytes(range(256)), b"ends in\r", b"\r\n\r\n", b"\0", b"--boundary--\r\n"):
        storage.write("bytes", data)
        assert storage.read("bytes") == data


@check
def a_write_may_be_repeated(storage: Storage) -> None:
    for _ in range(3):
        storage.write("packs/x", b"same")
    assert storage.read("packs/x") == b"same"
    assert listed(storage) == {"packs/x": 4}


@check
def a_write_replaces(storage: Storage) -> None:
    storage.write("x", b"longer than the other")
    storage.write("x", b"short")
    assert storage.read("x") == b"short"
    assert storage.size("x") == 5


@check
def a_large_object_is_one(storage: Storage) -> None:
    data = random.Random(1).randbytes(6 * 1024 * 1024 + 1)
    storage.write("packs/large", data)
    assert storage.size("packs/large") == len(data)
    assert storage.read("packs/large") == data
    assert storage.read_range("packs/large", 5_000_001, 1_000_000) == data[5_000_001:6_000_001]


@check
def ranges_are_exact(storage: Storage) -> None:
    data = random.Random(2).randbytes(100_000)
    storage.write("packs/x", data)
    for start, length in ((0, 1), (0, 100_000), (99_999, 1), (1, 40_000), (32_768, 32_768)):
        assert storage.read_range("packs/x", start, length) == data[start : start + length]


@check
def an_empty_range_is_empty(storage: Storage) -> None:
    storage.write("x", b"abc")
    assert storage.read_range("x", 1, 0) == b""
    with pytest.raises(NotFoundError):
        storage.read_range("missing", 0, 0)


@check
def a_range_beyond_the_end_is_refused(storage: Storage) -> None:
    storage.write("x", b"0123456789")
    for start, length in ((0, 11), (9, 2), (10, 1), (100, 1), (0, 100_000), (5, 70_000)):
        with pytest.raises(StorageError) as caught:
            storage.read_range("x", start, length)
        assert not caught.value.retryable
        assert caught.value.reason == "short"


@check
def what_is_missing_is_not_found(storage: Storage) -> None:
    storage.write("packs/ab/there", b"x")
    for key in ("missing", "packs", "packs/ab", "packs/ab/there/below", "packs/cd/missing"):
        with pytest.raises(NotFoundError) as caught:
            storage.read(key)
        assert key in caught.value.message
        with pytest.raises(NotFoundError):
            storage.read_range(key, 0, 1)
        assert storage.size(key) is None


@check
def create_stores_only_once(storage: Storage) -> None:
    assert storage.create("datastore.json", b"first") is True
    assert storage.create("datastore.json", b"second") is False
    assert storage.create("datastore.json", b"first") is False
    assert storage.read("datastore.json") == b"first"
    storage.delete("datastore.json")
    assert storage.create("datastore.json", b"third") is True


@check
def one_of_many_creators_wins(storage: Storage) -> None:
    together = threading.Barrier(8)

    def create(number: int) -> bool:
        together.wait()
        return storage.create("roots/one", b"%d" % number)

    with ThreadPoolExecutor(8) as pool:
        won = list(pool.map(create, range(8)))
    assert won.count(True) == 1
    assert storage.read("roots/one") == b"%d" % won.index(True)
    assert listed(storage) == {"roots/one": 1}


@check
def listing_goes_to_any_depth(storage: Storage) -> None:
    for key in ("datastore.json", "packs/ab/1", "packs/ab/22", "packs/cd/333", "packsandmore/4"):
        storage.write(key, key.rpartition("/")[2].encode())
    assert listed(storage) == {
        "datastore.json": 14,
        "packs/ab/1": 1,
        "packs/ab/22": 2,
        "packs/cd/333": 3,
        "packsandmore/4": 1,
    }
    assert listed(storage, "packs/") == {"packs/ab/1": 1, "packs/ab/22": 2, "packs/cd/333": 3}
    assert listed(storage, "packs/ab/") == {"packs/ab/1": 1, "packs/ab/22": 2}


@check
def a_missing_prefix_lists_nothing(storage: Storage) -> None:
    storage.write("packs/ab/x", b"x")
    assert listed(storage, "roots/") == {}
    assert listed(storage, "packs/a/") == {}
    assert listed(storage, "packs/ab/x/") == {}


@check
def a_listing_shows_what_was_just_written_and_deleted(storage: Storage) -> None:
    storage.write("roots/1", b"x")
    assert listed(storage, "roots/") == {"roots/1": 1}
    storage.write("roots/2", b"x")
    assert listed(storage, "roots/") == {"roots/1": 1, "roots/2": 1}
    storage.delete("roots/1")
    assert listed(storage, "roots/") == {"roots/2": 1}


@check
def deleting_may_be_repeated(storage: Storage) -> None:
    storage.write("packs/x", b"x")
    storage.delete("packs/x")
    storage.delete("packs/x")
    storage.delete("never/there")
    assert storage.size("packs/x") is None
    assert listed(storage) == {}


@check
def odd_names_are_kept(storage: Storage) -> None:
    for part in ODD:
        storage.write(f"odd/{part}", part.encode())
    for part in ODD:
        assert storage.read(f"odd/{part}") == part.encode()
    assert set(listed(storage, "odd/")) == {f"odd/{part}" for part in ODD}


@check
def hostile_keys_are_refused(storage: Storage) -> None:
    for key in HOSTILE:
        for call in (
            lambda key=key: storage.read(key),
            lambda key=key: storage.read_range(key, 0, 1),
            lambda key=key: storage.write(key, b"x"),
            lambda key=key: storage.create(key, b"x"),
            lambda key=key: storage.size(key),
            lambda key=key: storage.delete(key),
        ):
            with pytest.raises(UsageError):
                call()
    for prefix in ("packs", "/", "../", "packs//", "a\\b/"):
        with pytest.raises(UsageError):
            list(storage.list(prefix))


@check
def many_threads_share_it(storage: Storage) -> None:
    def work(number: int) -> bool:
        data = random.Random(number).randbytes(10_000 + number)
        key = f"packs/{number % 4}/{number}"
        storage.write(key, data)
        return storage.read(key) == data and storage.size(key) == len(data)

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(work, range(24)))
    assert len(listed(storage, "packs/")) == 24


@check
def several_listings_may_be_under_way(storage: Storage) -> None:
    for number in range(5):
        storage.write(f"roots/{number}", b"x")
    pairs = []
    for pair in zip(storage.list("roots/"), storage.list("roots/"), strict=True):
        pairs.append(pair)
        assert storage.read(pair[0].key) == b"x"
    assert {pair[0] for pair in pairs} == {pair[1] for pair in pairs}
    assert len(pairs) == 5


@check
def nothing_works_after_closing(storage: Storage) -> None:
    storage.write("x", b"x")
    storage.close()
    storage.close()
    for call in (
        lambda: storage.read("x"),
        lambda: storage.write("x", b"x"),
        lambda: storage.create("x", b"x"),
        lambda: storage.size("x"),
        lambda: storage.delete("x"),
        lambda: list(storage.list("")),
    ):
        with pytest.raises(StorageError, match="closed") as caught:
            call()
        assert caught.value.reason == "closed"
        assert not caught.value.retryable


@check
def the_url_is_for_people(storage: Storage) -> None:
    assert "://" in storage.url
    assert not storage.url.endswith("/")
