"""Digests: pinned values, kinds that never meet, text that is read back only as it was printed."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from blake3 import blake3

from datastore.errors import FormatError
from datastore.kernel.hashing import (
    DIGEST_SIZE,
    checksum,
    checksum_parts,
    chunk_digest,
    format_digest,
    node_digest,
    pack_hasher,
    parse_digest,
)

PAGE = Path(__file__).parents[2] / "docs" / "reference" / "format" / "digest.md"

# What the format page shows.
CONTENTS = {
    "nothing": b"",
    "one byte": b"a",
    "a line": b"datastore\n",
    "256 bytes": bytes(range(256)),
    "128 KiB of zeros": bytes(128 * 1024),
}


def pack_digest(data):
    hasher = pack_hasher()
    hasher.update(data)
    return hasher.digest()


KINDS = {"chunk": chunk_digest, "node": node_digest, "pack": pack_digest}


@pytest.mark.parametrize("kind", KINDS)
def test_a_digest_is_blake3_under_the_context_of_its_kind(kind):
    for data in CONTENTS.values():
        expected = blake3(data, derive_key_context=f"datastore 2026-11-20 {kind} v1").digest()
        assert KINDS[kind](data) == expected
        assert len(expected) == DIGEST_SIZE


def test_the_format_page_shows_these_digests():
    rows = set(re.findall(r"(?m)^\| (.+?) \| (chunk|node|pack) \| `(b3:[0-9a-f]{64})` \|$", page()))
    assert rows == {
        (name, kind, format_digest(digest(data)))
        for name, data in CONTENTS.items()
        for kind, digest in KINDS.items()
    }


def test_the_format_page_shows_these_checksums():
    rows = set(re.findall(r"(?m)^\| (.+?) \| (\d+) \| `([0-9a-f]{16})` \|$", page()))
    assert rows == {
        (name, str(seed), f"{checksum(data, seed):016x}")
        for name, data in CONTENTS.items()
        for seed in (0, 1)
    }


def page():
    return PAGE.read_text(encoding="utf-8")


@pytest.mark.parametrize("data", CONTENTS.values(), ids=CONTENTS)
def test_the_same_bytes_have_another_name_as_another_kind(data):
    names = {digest(data) for digest in KINDS.values()} | {blake3(data).digest()}
    assert len(names) == 4


@pytest.mark.parametrize("wrap", [bytes, bytearray, memoryview])
def test_it_does_not_matter_how_the_bytes_are_held(wrap):
    data = CONTENTS["256 bytes"]
    assert chunk_digest(wrap(data)) == chunk_digest(data)
    assert node_digest(wrap(data)) == node_digest(data)
    assert checksum(wrap(data)) == checksum(data)


def test_a_digest_leaves_no_trace_for_the_next():
    first = chunk_digest(b"a")
    chunk_digest(b"b")
    node_digest(b"b")
    assert chunk_digest(b"a") == first


def test_a_pack_is_digested_in_pieces():
    hasher = pack_hasher()
    for piece in (b"data", b"", memoryview(b"store"), bytearray(b"\n")):
        hasher.update(piece)
    assert hasher.digest() == pack_digest(b"datastore\n")


def test_the_checksum_of_parts_is_that_of_their_concatenation():
    parts = (b"data", b"", memoryview(b"store"), bytearray(b"\n"))
    assert checksum_parts(parts) == checksum(b"datastore\n")
    assert checksum_parts(parts, 7) == checksum(b"datastore\n", 7)
    assert checksum_parts(()) == checksum(b"")


def test_a_seed_gives_another_checksum():
    assert len({checksum(b"key", seed) for seed in range(64)}) == 64


def test_a_digest_is_read_back_as_it_was_printed():
    digest = chunk_digest(b"a")
    assert parse_digest(format_digest(digest)) == digest


@pytest.mark.parametrize(
    "text",
    [
        "",
        "b3:",
        "b3:" + "a" * 63,
        "b3:" + "a" * 65,
        "b3:" + "A" * 64,
        "b3:" + "g" * 64,
        "B3:" + "a" * 64,
        "a" * 64,
        "sha256:" + "a" * 64,
        " b3:" + "a" * 64,
        "b3:" + "a" * 64 + "\n",
        "b3:" + "\u0661" * 64,  # a digit to str.isdigit, not to us
    ],
)
def test_anything_else_is_no_digest(text):
    with pytest.raises(FormatError, match="is not a digest"):
        parse_digest(text)
