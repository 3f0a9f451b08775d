"""The names of what lies on a remote, and the object that says what it is."""

from __future__ import annotations

import json

import pytest

from datastore.errors import FormatError
from datastore.kernel.hashing import chunk_digest, format_digest
from datastore.sync import keys

URL = "memory://bucket"
NAME = "ab" * 32 + "-" + "01" * 8


def test_a_marker_comes_back():
    marker = keys.new_marker()
    assert keys.decode_marker(marker.encode(), URL) == marker
    assert keys.new_marker() != marker
    assert json.loads(marker.encode()) == {
        "format": 1,
        "uuid": marker.uuid,
        "digest": "blake3",
        "features": [],
    }


SOUND = json.loads(keys.Marker("0123456789abcdef" * 2).encode())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'"text"',
        b"{}",
        b"<html>not found</html>",
        b"[" * 100_000,
        json.dumps(SOUND | {"format": "1"}).encode(),
        json.dumps(SOUND | {"format": True}).encode(),
        json.dumps(SOUND | {"uuid": 7}).encode(),
        json.dumps(SOUND | {"uuid": "AB" * 16}).encode(),
        json.dumps(SOUND | {"uuid": "ab" * 15}).encode(),
        json.dumps({"format": 1, "uuid": "ab" * 16}).encode(),
    ],
)
def test_what_is_no_marker_is_refused(data):
    with pytest.raises(FormatError, match="not what a remote begins with") as caught:
        keys.decode_marker(data, URL)
    assert URL in str(caught.value)
    assert caught.value.hint


@pytest.mark.parametrize("other", [{"format": 2}, {"digest": "sha3"}, {"features": ["locks"]}])
def test_a_newer_remote_is_refused(other):
    with pytest.raises(FormatError) as caught:
        keys.decode_marker(json.dumps(SOUND | other).encode(), URL)
    assert "upgrade" in caught.value.hint


def test_packs_are_spread():
    key = keys.pack_key(NAME)
    assert key == f"packs/ab/{NAME}.pack"
    assert keys.parse_pack_key(key) == NAME


def test_a_root_is_named_by_its_key():
    root = chunk_digest(b"root")
    one, two = (keys.root_key("cd" * 16, root) for _ in range(2))
    assert one != two
    assert one.startswith(keys.roots_prefix("cd" * 16))
    assert keys.parse_root_key(one) == keys.parse_root_key(two) == root
    assert json.loads(keys.encode_root(root, "images", "abc")) == {
        "format": 1,
        "root": format_digest(root),
        "path": "images",
        "rev": "abc",
    }


@pytest.mark.parametrize(
    "key",
    [
        "roots/x/readme.txt",
        f"roots/x/{'ab' * 32}.json",
        f"roots/x/{'AB' * 32}-{'01' * 8}.json",
        f"roots/x/{'ab' * 32}-{'01' * 8}.json.tmp",
        f"roots/x/{'ab' * 32}-{'01' * 7}.json",
    ],
)
def test_what_is_no_root(key):
    assert keys.parse_root_key(key) is None


def test_tombstones_name_packs():
    assert keys.parse_tomb_key(f"gc/tomb/{NAME}.json") == NAME


def test_nonces_are_new():
    assert len({keys.new_nonce() for _ in range(100)}) == 100
