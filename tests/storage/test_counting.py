from __future__ import annotations

import uuid

import pytest

from datastore.errors import NotFoundError
from datastore.storage.counting import Counted, Traffic
from datastore.storage.directory import DirectoryStorage


@pytest.fixture
def traffic():
    return Traffic()


@pytest.fixture
def storage(tmp_path, traffic):
    return Counted(DirectoryStorage(tmp_path), traffic)


def counts(traffic):
    return traffic.requests, traffic.bytes_up, traffic.bytes_down


def test_each_call_is_counted(storage, traffic):
    storage.write("x", b"12345")
    assert counts(traffic) == (1, 5, 0)
    storage.create("y", b"123")
    assert counts(traffic) == (2, 8, 0)
    storage.read("x")
    assert counts(traffic) == (3, 8, 5)
    storage.read_range("x", 1, 2)
    assert counts(traffic) == (4, 8, 7)
    storage.size("x")
    storage.delete("x")
    list(storage.list(""))
    assert counts(traffic) == (7, 8, 7)


def test_what_fails_was_asked_too(storage, traffic):
    with pytest.raises(NotFoundError):
        storage.read("missing")
    assert counts(traffic) == (1, 0, 0)


def test_a_listing_counts_its_pages(traffic):
    from datastore.storage.base import Listed

    class Many:
        url = f"s3://{uuid.uuid4()}"

        def list(self, prefix):
            return (Listed(str(number), 0) for number in range(int(prefix[:-1])))

    storage = Counted(Many(), traffic)
    for keys, pages in ((0, 1), (1, 1), (1000, 1), (1001, 2), (2500, 3)):
        before = traffic.requests
        list(storage.list(f"{keys}/"))
        assert traffic.requests - before == pages


def test_one_count_for_several_storages(tmp_path, traffic):
    for name in ("a", "b"):
        Counted(DirectoryStorage(tmp_path / name), traffic).write("x", b"12")
    assert counts(traffic) == (2, 4, 0)


def test_it_says_where_it_is(storage, tmp_path):
    assert storage.url == tmp_path.as_uri()
    storage.close()
