"""Which remote this is, and what is remembered of it."""

from __future__ import annotations

import pytest

from datastore.errors import FormatError, NotFoundError, StorageError
from datastore.kernel.hashing import chunk_digest
from datastore.storage.reasons import NO_DIRECTORY
from datastore.sync.keys import MARKER, decode_marker, new_marker
from tests.sync.bucket import Client, Request
from tests.sync.clones import REPOSITORY


def test_the_first_push_makes_it(clone, bucket):
    with clone.remote() as remote:
        remote.connect(create=True)
    marker = decode_marker(bucket.objects[MARKER], "")
    assert decode_marker((clone.known / MARKER).read_bytes(), "") == marker
    with clone.remote() as remote:
        remote.connect(create=True)
        assert remote.traffic.requests == 1
    assert decode_marker(bucket.objects[MARKER], "") == marker


def test_reading_makes_nothing(clone, bucket):
    with clone.remote() as remote, pytest.raises(NotFoundError, match="nothing was ever pushed"):
        remote.connect(create=False)
    assert not bucket.objects
    assert not (clone.known / MARKER).exists()


def test_who_comes_second_takes_the_marker_of_the_first(clone, bucket):
    """Somebody was faster, between the look and the write."""
    first = new_marker()

    def faster(request: Request) -> None:
        if request.verb == "create":
            bucket.objects[MARKER] = first.encode()

    with clone.remote(Client(bucket, before=faster)) as remote:
        remote.connect(create=True)
    assert decode_marker(bucket.objects[MARKER], "") == first
    assert decode_marker((clone.known / MARKER).read_bytes(), "") == first


def remember_something(clone) -> None:
    (clone.known / "index").mkdir(parents=True, exist_ok=True)
    (clone.known / "index" / "x.data.idx").write_bytes(b"not a shard")
    (clone.known / "uploaded").write_text("a pack\n")


def test_another_remote_at_the_same_place_is_another_one(clone, bucket):
    with clone.remote() as remote:
        remote.connect(create=True)
    remember_something(clone)
    bucket.objects[MARKER] = new_marker().encode()
    with clone.remote() as remote:
        remote.connect(create=True)
        assert remote.uploaded() == set()
    assert not list((clone.known / "index").glob("*.idx"))
    assert (clone.known / MARKER).read_bytes() == bucket.objects[MARKER]


def test_the_same_remote_is_remembered(clone):
    with clone.remote() as remote:
        remote.connect(create=True)
    remember_something(clone)
    with clone.remote() as remote:
        remote.connect(create=False)
        assert remote.uploaded() == {"a", "pack"}


@pytest.mark.parametrize("create", [True, False])
def test_a_remote_that_was_there_and_is_empty_now(clone, bucket, create):
    """It may be a disk that is not mounted: nothing is made there."""
    with clone.remote() as remote:
        remote.connect(create=True)
    remember_something(clone)
    bucket.objects.clear()
    with clone.remote() as remote, pytest.raises(NotFoundError) as caught:
        remote.connect(create=create)
    assert "is empty, but was not" in str(caught.value)
    assert str(clone.known) in caught.value.hint
    assert not bucket.objects
    assert (clone.known / "uploaded").exists()


@pytest.mark.parametrize("damage", [b"", b"junk", b'{"format": 7}'])
def test_what_is_remembered_may_be_damaged(clone, bucket, damage):
    with clone.remote() as remote:
        remote.connect(create=True)
    (clone.known / MARKER).write_bytes(damage)
    with clone.remote() as remote:
        remote.connect(create=True)
    assert (clone.known / MARKER).read_bytes() == bucket.objects[MARKER]


def missing_directory(request: Request) -> None:
    if request.verb == "read":
        raise StorageError("the directory is not there", reason=NO_DIRECTORY)


def test_a_directory_that_is_not_there_yet(clone, bucket):
    with clone.remote(Client(bucket, before=missing_directory)) as remote:
        with pytest.raises(StorageError):
            remote.connect(create=False)
        remote.connect(create=True)
    assert MARKER in bucket.objects


def test_a_directory_that_is_not_there_any_more(clone, bucket):
    with clone.remote() as remote:
        remote.connect(create=True)
    bucket.objects.clear()
    with (
        clone.remote(Client(bucket, before=missing_directory)) as remote,
        pytest.raises((NotFoundError, StorageError)),
    ):
        remote.connect(create=True)
    assert not bucket.objects


def test_something_else_lies_there(clone, bucket):
    bucket.objects[MARKER] = b"<html>"
    with clone.remote() as remote, pytest.raises(FormatError):
        remote.connect(create=True)
    assert bucket.objects == {MARKER: b"<html>"}


def test_a_remote_that_cannot_be_reached(clone, bucket):
    def refuse(_: Request) -> None:
        raise StorageError("no route to host")

    with (
        clone.remote(Client(bucket, before=refuse)) as remote,
        pytest.raises(StorageError, match="no route"),
    ):
        remote.connect(create=True)


def test_roots_are_those_of_this_repository(clone, bucket):
    root = chunk_digest(b"root")
    with clone.remote() as remote:
        key = remote.new_root_key(root)
        bucket.objects |= {
            key: b"{}",
            key.replace(REPOSITORY, "f" * 32): b"{}",
            f"roots/{REPOSITORY}/readme.txt": b"",
        }
        assert remote.roots() == {root}


def test_the_journal(clone):
    with clone.remote() as remote:
        remote.connect(create=True)
        assert remote.uploaded() == set()
        remote.forget_uploaded()
        for name in ("one", "two"):
            remote.note_uploaded(name)
        assert remote.uploaded() == {"one", "two"}
        with (clone.known / "uploaded").open("ab") as file:
            file.write(b"\xff\xfe half a na")  # the machine stopped while it was written
        assert {"one", "two"} <= remote.uploaded()
        remote.forget_uploaded()
        assert remote.uploaded() == set()


def test_a_journal_that_cannot_be_written_costs_nothing(clone):
    with clone.remote() as remote:
        remote.connect(create=True)
        (clone.known / "uploaded").mkdir()
        remote.note_uploaded("one")
        assert remote.uploaded() == set()
        remote.forget_uploaded()


def test_closing_twice(clone):
    remote = clone.remote()
    remote.connect(create=True)
    remote.catalog.refresh()
    remote.close()
    remote.close()


def test_a_marker_that_cannot_be_read_is_not_taken_for_none(clone, bucket):
    """A remote that seems to be empty would be made anew, where a disk is not mounted."""
    with clone.remote() as remote:
        remote.connect(create=True)
    marker = clone.known / MARKER
    marker.unlink()
    marker.mkdir()
    with clone.remote() as remote, pytest.raises(StorageError):
        remote.is_known  # noqa: B018
