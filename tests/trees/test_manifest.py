"""The manifest of a file: any number of chunks, few pages for an edit, and nothing hostile.

``python -m tests.trees.test_manifest`` writes the vectors anew, for a new format only.
"""

from __future__ import annotations

import json
import random
import tracemalloc
from pathlib import Path

import msgpack
import pytest

from datastore.errors import FormatError, NotFoundError
from datastore.kernel.hashing import chunk_digest, format_digest, node_digest
from datastore.trees.manifest import (
    EMPTY_DIGEST,
    INLINE_CHUNKS,
    MAX_DEPTH,
    PAGE_ROWS,
    ChunkRef,
    Content,
    ManifestBuilder,
    decode_page,
    encode_page,
    iter_chunks,
)
from tests.trees.contents import MemoryContents, refs

TOP = Path(__file__).parents[2]
VECTORS = TOP / "tests" / "vectors" / "manifest.json"
PAGE = TOP / "docs" / "reference" / "format" / "manifest.md"

COUNTS = [0, 1, 2, 4, 5, 16, 63, 128, 129, 1000, 10_000]


def built(chunks, contents=None):
    builder = ManifestBuilder(MemoryContents() if contents is None else contents)
    for digest, size in chunks:
        builder.add(digest, size)
    return builder.finish()


def listed(content, contents, start=0):
    return [(at, ref) for at, ref in iter_chunks(content, contents, start=start)]


def placed(chunks):
    offset = 0
    for ref in chunks:
        yield offset, ref
        offset += ref.size


# -- any number of chunks -------------------------------------------------------------------------


@pytest.mark.parametrize("count", [*COUNTS, pytest.param(100_000, id="many")])
def test_a_manifest_lists_the_chunks_it_was_built_from(count):
    chunks, contents = refs(count), MemoryContents()
    content = built(chunks, contents)
    assert content.size == sum(ref.size for ref in chunks)
    assert listed(content, contents) == list(placed(chunks))


def test_an_empty_file_has_no_chunk():
    contents = MemoryContents()
    assert built([], contents) == Content(0, EMPTY_DIGEST)
    assert chunk_digest(b"") == EMPTY_DIGEST
    assert not contents.nodes
    assert not contents.chunks


def test_a_file_of_one_chunk_is_named_by_the_chunk():
    (only,) = refs(1)
    contents = MemoryContents()
    assert built([only], contents) == Content(only.size, only.digest)
    assert not contents.nodes


@pytest.mark.parametrize("count", range(2, INLINE_CHUNKS + 1))
def test_a_short_manifest_is_inline_and_no_page_is_stored(count):
    contents, chunks = MemoryContents(), refs(count)
    content = built(chunks, contents)
    assert content.chunks == tuple(chunks)
    assert content.depth == 1
    assert content.digest == node_digest(encode_page(1, chunks))
    assert not contents.nodes


def test_a_longer_manifest_is_stored():
    contents, chunks = MemoryContents(), refs(INLINE_CHUNKS + 1)
    content = built(chunks, contents)
    assert (content.depth, content.chunks) == (1, ())
    assert contents.nodes == {content.digest: encode_page(1, chunks)}


def test_pages_have_the_size_that_they_are_meant_to_have():
    contents = MemoryContents()
    content = built(refs(100_000), contents)
    assert content.depth == 3
    sizes = [len(msgpack.unpackb(page)[1]) for page in contents.nodes.values()]
    assert max(sizes) <= 2 * PAGE_ROWS
    assert 100_000 / PAGE_ROWS * 0.9 < len(sizes) < 100_000 / PAGE_ROWS * 1.2


def test_equal_chunks_do_not_make_endless_pages():
    """A long run of zeros is one chunk a thousand times: either no boundary or one at every row."""
    for byte in range(40):
        digest = chunk_digest(bytes([byte]) * 1000)
        contents = MemoryContents()
        content = built([ChunkRef(digest, 1000)] * 5000, contents)
        assert content.size == 5_000_000
        assert content.depth <= 3
        assert sum(1 for _ in iter_chunks(content, contents)) == 5000


def test_the_same_chunks_in_the_same_order_have_one_name():
    chunks = refs(3000)
    assert built(chunks) == built(list(chunks))
    assert built(chunks).digest != built(chunks[::-1]).digest
    assert built(chunks).digest != built([*chunks[:-1], chunks[-1]._replace(size=1)]).digest


@pytest.mark.parametrize("count", [5, 500, 50_000])
def test_memory_is_bounded_by_a_page_a_level(count):
    builder = ManifestBuilder(MemoryContents())
    for digest, size in refs(count):
        builder.add(digest, size)
        assert all(len(level) < 2 * PAGE_ROWS for level in builder._levels)


# -- edits ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(("removed", "added"), [(1, 1), (0, 1), (1, 0), (3, 5), (100, 0)])
def test_an_edit_in_the_middle_rewrites_few_pages(seed, removed, added):
    chunks = refs(20_000)
    at = random.Random(seed).randrange(len(chunks) - 200)
    contents = MemoryContents()
    built(chunks, contents)
    before = set(contents.nodes)
    edited = [*chunks[:at], *refs(added, seed="new"), *chunks[at + removed :]]
    content = built(edited, contents)
    assert len(set(contents.nodes) - before) <= 3 * content.depth
    assert listed(content, contents) == list(placed(edited))


def test_appending_rewrites_the_last_pages():
    chunks = refs(20_000)
    contents = MemoryContents()
    content = built(chunks, contents)
    before = set(contents.nodes)
    built([*chunks, *refs(1, seed="new")], contents)
    assert len(set(contents.nodes) - before) <= content.depth + 1


# -- reading from an offset -----------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 4, 5, 1000])
def test_listing_from_an_offset_leaves_out_what_ends_before(count):
    chunks, contents = refs(count), MemoryContents()
    content = built(chunks, contents)
    every = list(placed(chunks))
    for start in {0, 1, 6, 7, 8, content.size // 2, content.size - 1, content.size, 10**6}:
        expected = [(at, ref) for at, ref in every if at + ref.size > start]
        assert listed(content, contents, max(start, 0)) == expected


def test_pages_before_the_offset_are_not_read():
    contents = MemoryContents()
    content = built(refs(50_000), contents)
    contents.forget_counts()
    found = iter_chunks(content, contents, start=content.size - 1)
    assert next(found)[1] == refs(50_000)[-1]
    assert len(contents.read) == content.depth
    assert next(found, None) is None


def test_pages_are_read_as_they_are_needed():
    contents = MemoryContents()
    content = built(refs(50_000), contents)
    contents.forget_counts()
    next(iter_chunks(content, contents))
    assert len(contents.read) == content.depth


def test_a_page_that_is_missing_is_an_error():
    contents = MemoryContents()
    content = built(refs(1000), contents)
    contents.nodes.popitem()
    with pytest.raises(NotFoundError):
        listed(content, contents)


# -- hostile pages --------------------------------------------------------------------------------

ROWS = refs(3)
SIZE = sum(ref.size for ref in ROWS)
JOINED = b"".join(ref.digest for ref in ROWS)
SIZES = [ref.size for ref in ROWS]


def test_a_page_comes_back():
    assert decode_page(encode_page(2, ROWS), 2, SIZE) == ROWS


@pytest.mark.parametrize(
    ("fields", "why"),
    [
        ([1, SIZES, JOINED], "another depth"),
        ([2, SIZES, JOINED[:-1]], "a digest too short"),
        ([2, SIZES, JOINED + b"x"], "a digest too long"),
        ([2, SIZES[:-1], JOINED], "a size too few"),
        ([2, [*SIZES, 0], JOINED + bytes(32)], "an empty chunk"),
        ([2, [SIZE + 5, -5], JOINED[:64]], "a negative size"),
        ([2, [SIZES[0] + 1, *SIZES[1:]], JOINED], "another sum"),
        ([2, [float(SIZES[0]), *SIZES[1:]], JOINED], "a float"),
        ([2, [True, SIZES[0] - 1, *SIZES[1:]], JOINED + bytes(32)], "a boolean"),
        ([True, SIZES, JOINED], "a boolean for the depth"),
        ([2.0, SIZES, JOINED], "a float for the depth"),
        ([2, SIZES, JOINED.hex()], "text"),
        ([2, bytes(SIZES), JOINED], "bytes for the sizes"),
        ([2, SIZES, list(JOINED)], "an array for the digests"),
        ([2, SIZES], "a field too few"),
        ([2, SIZES, JOINED, 0], "a field too many"),
        ([], "nothing"),
        ({2: SIZES}, "a map"),
        (2, "a number"),
        (None, "nil"),
        ("abc", "three letters"),
        (b"\x02ab", "three bytes"),
        ([2, [[7], [8], [9]], JOINED], "arrays for sizes"),
        ([2, {7: 7, 8: 8, 9: 9}, JOINED], "a map for sizes"),
        ([2, SIZES, msgpack.ExtType(5, JOINED)], "an extension"),
        ([2, SIZES, None], "nil for the digests"),
        ([2, None, JOINED], "nil for the sizes"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_page_that_is_none_is_refused(fields, why):
    with pytest.raises(FormatError, match="a manifest page"):
        decode_page(msgpack.packb(fields), 2, SIZE)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        encode_page(2, ROWS) + b"\x00",
        encode_page(2, ROWS)[:-1],
        b"\xdc\x00\x03" + encode_page(2, ROWS)[1:],  # a longer header than needed
        encode_page(2, ROWS).replace(b"\x93\x07", b"\x93\xcc\x07"),  # a longer number than needed
        b"\x93" * 2000,
        b"\xdd\xff\xff\xff\xff",
        b"\xdf\xff\xff\xff\xff",
        b"\x93\x02\xdd\xff\xff\xff\xff",
        b"\x93\x02\x91\x07\xc6\xff\xff\xff\xff",
    ],
    ids=range(11),
)
def test_bytes_that_are_not_a_page_are_refused(data):
    with pytest.raises(FormatError, match="a manifest page"):
        decode_page(data, 2, SIZE)


def test_a_page_has_a_limited_number_of_rows():
    rows = refs(2 * PAGE_ROWS)
    size = sum(ref.size for ref in rows)
    assert decode_page(encode_page(1, rows), 1, size) == rows
    rows = refs(2 * PAGE_ROWS + 1)
    with pytest.raises(FormatError):
        decode_page(encode_page(1, rows), 1, sum(ref.size for ref in rows))


def test_a_huge_page_is_refused_before_it_is_parsed():
    # A megabyte of empty arrays would become 60 MB of lists.
    bomb = b"\xdd\x00\x10\x00\x00" + b"\x90" * (1 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match="has 1048581 bytes"):
            decode_page(bomb, 1, 1)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("depth", [MAX_DEPTH + 1, 10**9])
def test_a_manifest_has_a_limited_depth(depth):
    with pytest.raises(FormatError, match=f"a manifest of depth {depth}"):
        listed(Content(7, node_digest(b"x"), depth), MemoryContents())


def test_a_page_in_place_of_another_is_refused():
    contents = MemoryContents()
    content = built(refs(1000), contents)
    with pytest.raises(FormatError):
        listed(content._replace(depth=content.depth + 1), contents)
    with pytest.raises(FormatError):
        listed(content._replace(size=content.size + 1), contents)
    lower = msgpack.unpackb(contents.nodes[content.digest])[2][:32]
    with pytest.raises(FormatError):
        listed(content._replace(digest=lower), contents)


# -- frozen vectors -------------------------------------------------------------------------------


def vector(count):
    contents, chunks = MemoryContents(), refs(count)
    content = built(chunks, contents)
    made = {
        "chunks": count,
        "size": content.size,
        "digest": format_digest(content.digest),
        "depth": content.depth,
        "pages": len(contents.nodes),
    }
    if count == INLINE_CHUNKS + 1:
        made["page"] = contents.nodes[content.digest].hex()
    return made


@pytest.fixture(scope="module")
def golden():
    return json.loads(VECTORS.read_text(encoding="utf-8"))


@pytest.mark.parametrize("count", COUNTS)
def test_a_manifest_has_the_name_it_always_had(golden, count):
    (expected,) = [each for each in golden if each["chunks"] == count]
    assert vector(count) == expected


def test_every_vector_is_checked(golden):
    assert [each["chunks"] for each in golden] == COUNTS


def test_the_format_page_shows_these_vectors(golden):
    page = PAGE.read_text(encoding="utf-8")
    for each in golden:
        row = "| {chunks} | {size} | {depth} | {pages} | `{digest}` |".format(**each)
        assert row in page
        assert each.get("page", "") in page.replace(" ", "").replace("\n", "")


if __name__ == "__main__":
    text = json.dumps([vector(count) for count in COUNTS], indent=1)
    VECTORS.write_text(text + "\n", encoding="utf-8")
