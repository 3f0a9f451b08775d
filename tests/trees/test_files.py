"""Entries and root records: one encoding each, and every other one refused.

``python -m tests.trees.test_files`` writes the vectors anew, for a new format only.
"""

from __future__ import annotations

import json
import tracemalloc
from pathlib import Path

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datastore.errors import DatastoreError, FormatError, NotFoundError
from datastore.kernel.hashing import chunk_digest, format_digest, node_digest
from datastore.trees import files
from datastore.trees.files import (
    MAX_LINK_SIZE,
    SELF_KEY,
    SHAPE,
    Entry,
    Kind,
    build,
    decode_entry,
    decode_key,
    encode_entry,
    entries,
    is_within,
    key_range,
    load,
    scan,
    seal,
)
from datastore.trees.manifest import EMPTY_DIGEST, ChunkRef, Content, encode_page
from datastore.trees.prolly import Shape, Tree
from tests.trees.contents import refs
from tests.trees.memory import MemoryNodes

TOP = Path(__file__).parents[2]
VECTORS = TOP / "tests" / "vectors" / "dataset.json"
PAGE = TOP / "docs" / "reference" / "format" / "dataset.md"

ONE = chunk_digest(b"datastore\n")


def inline(count):
    chunks = tuple(refs(count))
    size = sum(chunk.size for chunk in chunks)
    return Content(size, node_digest(encode_page(1, chunks)), 1, chunks)


ENTRIES = {
    "an empty file": Entry(Kind.FILE, Content(0, EMPTY_DIGEST)),
    "a file of one chunk": Entry(Kind.FILE, Content(10, ONE)),
    "an executable file": Entry(Kind.EXECUTABLE, Content(10, ONE)),
    "a file of two chunks": Entry(Kind.FILE, inline(2)),
    "a file of four chunks": Entry(Kind.EXECUTABLE, inline(4)),
    "a file with pages": Entry(Kind.FILE, Content(1 << 40, node_digest(b"page"), 3)),
    "a link": Entry(Kind.LINK, target=b"../other/\xff"),
    "an empty directory": Entry(Kind.DIRECTORY),
    "a file spelled otherwise": Entry(Kind.FILE, Content(10, ONE), name="a\u0308.txt"),
    "a directory spelled otherwise": Entry(Kind.DIRECTORY, name="a\u0308"),
    "a link spelled otherwise": Entry(Kind.LINK, target=b"x", name="a\u0308"),
}


# -- entries --------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ENTRIES)
def test_an_entry_comes_back(name):
    assert decode_entry(encode_entry(ENTRIES[name])) == ENTRIES[name]


def test_entries_that_differ_have_different_encodings():
    assert len({encode_entry(entry) for entry in ENTRIES.values()}) == len(ENTRIES)


def test_what_an_entry_says_of_itself():
    assert ENTRIES["a file of one chunk"].size == 10
    assert ENTRIES["a link"].size == ENTRIES["an empty directory"].size == 0
    assert [entry.is_file for entry in ENTRIES.values()] == [
        not name.startswith(("a link", "an empty dir", "a directory")) for name in ENTRIES
    ]


DIGESTS = st.binary(min_size=32, max_size=32).filter(lambda digest: digest != EMPTY_DIGEST)
SIZES = st.integers(1, 2**64 - 1)


def content_of(chunks):
    chunks = tuple(ChunkRef(*chunk) for chunk in chunks)
    size = sum(chunk.size for chunk in chunks)
    return Content(size, node_digest(encode_page(1, chunks)), 1, chunks)


CONTENTS = st.one_of(
    st.just(Content(0, EMPTY_DIGEST)),
    st.tuples(SIZES, DIGESTS).map(lambda fields: Content(*fields)),
    st.tuples(SIZES, DIGESTS, st.integers(1, 8)).map(lambda fields: Content(*fields)),
    st.lists(st.tuples(DIGESTS, st.integers(1, 2**40)), min_size=2, max_size=4).map(content_of),
)
TARGETS = st.binary(min_size=1, max_size=100) | st.just(b"x" * MAX_LINK_SIZE)
FILES = st.sampled_from([Kind.FILE, Kind.EXECUTABLE])


@given(
    entry=st.one_of(
        st.tuples(FILES, CONTENTS).map(lambda fields: Entry(*fields)),
        TARGETS.map(lambda target: Entry(Kind.LINK, target=target)),
        st.just(Entry(Kind.DIRECTORY)),
    ),
    name=st.just("") | st.text(max_size=20),
)
def test_every_entry_comes_back(entry, name):
    entry = entry._replace(name=name)
    assert decode_entry(encode_entry(entry)) == entry


SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(-3, 6),
    st.floats(allow_nan=False, width=16),
    st.text(max_size=2),
    st.binary(max_size=3),
    st.sampled_from([ONE, ONE * 2, EMPTY_DIGEST, 10, 2**64 - 1]),
)
JUNK = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=5) | st.dictionaries(st.integers(0, 5), inner, max_size=4)
    ),
    max_leaves=8,
)


@given(JUNK | st.lists(JUNK, max_size=6) | st.tuples(st.integers(0, 3), JUNK, JUNK, JUNK))
def test_whatever_is_well_formed_msgpack_is_an_entry_or_refused(value):
    data = msgpack.packb(value)
    try:
        entry = decode_entry(data)
    except FormatError:
        return
    assert encode_entry(entry) == data


@given(st.binary(max_size=60))
def test_whatever_bytes_are_an_entry_or_refused(data):
    try:
        entry = decode_entry(data)
    except FormatError:
        return
    assert encode_entry(entry) == data


TWO = ENTRIES["a file of two chunks"].content


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ([], "nothing"),
        ([4], "an unknown kind"),
        ([-1], "a negative kind"),
        (["file"], "a kind as text"),
        ([True, 10, ONE], "a kind as a boolean"),
        ([0.0, 10, ONE], "a kind as a float"),
        ([0], "no content"),
        ([0, 10], "no digest"),
        ([0, 10, ONE[:-1]], "a short digest"),
        ([0, 10, ONE + b"x"], "a long digest"),
        ([0, 10, ONE.hex()], "a digest as text"),
        ([0, -1, ONE], "a negative size"),
        ([0, 10.0, ONE], "a size as a float"),
        ([0, True, ONE], "a size as a boolean"),
        ([0, 10, ONE, 0], "depth zero"),
        ([0, 10, ONE, 9], "too deep"),
        ([0, 10, ONE, True], "a depth as a boolean"),
        ([0, 10, ONE, None], "no depth"),
        ([0, 10, ONE, ""], "an empty name"),
        ([0, 10, ONE, 1, ""], "an empty name behind a depth"),
        ([0, 10, ONE, "a", "b"], "two names"),
        ([0, 10, ONE, "a", 1], "a name in the middle"),
        ([0, 0, ONE], "an empty file of another digest"),
        ([0, 10, EMPTY_DIGEST], "content with the digest of nothing"),
        ([0, 0, EMPTY_DIGEST, 1], "pages of an empty file"),
        ([0, 10, ONE, [10], ONE], "an inline manifest of one"),
        ([0, 10, ONE, [2] * 5, ONE * 5], "an inline manifest of five"),
        ([0, 10, ONE, [], b""], "an inline manifest of none"),
        ([0, TWO.size, TWO.digest, [7, 8], ONE * 2], "an inline manifest of another digest"),
        ([0, 10, ONE, [5, 6], ONE * 2], "an inline manifest of another sum"),
        ([0, 10, ONE, [10, 0], ONE * 2], "an inline manifest with an empty chunk"),
        ([0, 10, ONE, [11, -1], ONE * 2], "an inline manifest with a negative chunk"),
        ([0, 10, ONE, [5, 5], ONE], "an inline manifest short of digests"),
        ([0, 10, ONE, {5: 5}, ONE * 2], "an inline manifest as a map"),
        ([0, 10, ONE, [5, 5], [ONE, ONE]], "an inline manifest with an array of digests"),
        ([0, 10, ONE, [5, 5], ONE * 2, 1], "a field too many"),
        ([2], "a link to nowhere"),
        ([2, b""], "a link to nothing"),
        ([2, "target"], "a target as text"),
        ([2, b"x" * (MAX_LINK_SIZE + 1)], "a target too long"),
        ([2, b"x", b"y"], "two targets"),
        ([3, 0], "a directory with content"),
        ({0: 1}, "a map"),
        ({0: 10, 1: 10, 2: ONE}, "a map like an entry"),
        (7, "a number"),
        (None, "nil"),
        (b"\x00abc", "bytes"),
        ("\x00abc", "text"),
    ],
    ids=lambda value: value if isinstance(value, str) and len(value) > 5 else "",
)
def test_an_entry_that_is_none_is_refused(row, why):
    with pytest.raises(FormatError, match="a file entry is"):
        decode_entry(msgpack.packb(row))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\xc1",
        msgpack.packb([3]) + b"\x00",
        b"\xdc\x00\x01\x03",  # [3] with a longer header
        b"\x91\xcc\x03",  # [3] with a longer number
        b"\xdd\xff\xff\xff\xff",
        b"\x92\x02\xc6\xff\xff\xff\xff",
        b"\x92\x03\xa1\xff",  # a name that is not UTF-8
        b"\x91" * 2000,
    ],
    ids=range(9),
)
def test_bytes_that_are_not_an_entry_are_refused(data):
    with pytest.raises(FormatError, match="a file entry is"):
        decode_entry(data)


def test_a_huge_entry_is_refused_before_it_is_parsed():
    bomb = b"\xdd\x00\x10\x00\x00" + b"\x90" * (1 << 20)
    tracemalloc.start()
    try:
        with pytest.raises(FormatError, match="has 1048581 bytes"):
            decode_entry(bomb)
        assert tracemalloc.get_traced_memory()[1] < 100_000
    finally:
        tracemalloc.stop()


# -- keys -----------------------------------------------------------------------------------------


def test_keys_are_text():
    assert decode_key("bilder/ä.jpg".encode()) == "bilder/ä.jpg"
    with pytest.raises(FormatError, match="is not UTF-8"):
        decode_key(b"images/\xff.jpg")


def test_the_range_of_a_path_holds_all_below_it():
    paths = ["a", "a.txt", "a/b", "a/b/c", "a0", "aa", "b"]
    start, stop = key_range("a")
    keys = [path.encode() for path in paths if start <= path.encode() < stop]
    assert [key for key in keys if is_within(key, b"a")] == [b"a", b"a/b", b"a/b/c"]
    assert key_range("") == (b"", None)
    assert all(is_within(path.encode(), b"") for path in paths)


# -- datasets -------------------------------------------------------------------------------------


def sealed(rows):
    nodes = MemoryNodes()
    tree = build(sorted((key, encode_entry(entry)) for key, entry in rows.items()), nodes)
    count = sum(entry.kind is not Kind.DIRECTORY for entry in rows.values())
    size = sum(entry.size for entry in rows.values())
    return seal(tree, count, size, nodes), nodes


def numbered(count):
    return {
        b"images/%06d.jpg" % number: Entry(
            Kind.FILE, Content(10 + number, chunk_digest(b"%d" % number))
        )
        for number in range(count)
    }


ROWS = {
    b"a.txt": ENTRIES["a file of one chunk"],
    b"empty": ENTRIES["an empty directory"],
    b"images/1.jpg": ENTRIES["a file of two chunks"],
    b"link": ENTRIES["a link"],
}


@pytest.mark.parametrize("rows", [{}, {SELF_KEY: ENTRIES["a link"]}, ROWS, numbered(5000)])
def test_a_version_is_read_as_it_was_written(rows):
    version, nodes = sealed(rows)
    assert load(version.root, nodes) == version
    assert version.tree.shape == SHAPE
    assert dict(entries(version, nodes)) == {key.decode(): entry for key, entry in rows.items()}
    assert list(scan(version, nodes)) == sorted(
        (key, encode_entry(entry)) for key, entry in rows.items()
    )


def test_a_part_of_a_version_is_listed():
    version, nodes = sealed(ROWS)
    assert [key for key, _ in scan(version, nodes, start=b"b", stop=b"l")] == [
        b"empty",
        b"images/1.jpg",
    ]


def test_counts_are_recorded():
    version, nodes = sealed(ROWS)
    loaded = load(version.root, nodes)
    assert (loaded.files, loaded.bytes, loaded.tree.rows) == (3, 10 + TWO.size, 4)


def test_equal_files_have_equal_roots_and_other_files_other_roots():
    assert sealed(ROWS)[0] == sealed(dict(reversed(ROWS.items())))[0]
    roots = {sealed({**ROWS, b"a.txt": entry})[0].root for entry in ENTRIES.values()}
    assert len(roots) == len(ENTRIES)


def test_a_root_that_is_not_stored():
    with pytest.raises(NotFoundError):
        load(chunk_digest(b"x"), MemoryNodes())


def fields_of(version, nodes):
    return msgpack.unpackb(nodes.nodes[version.root])


def loaded_with(fields):
    nodes = MemoryNodes()
    return load(
        nodes.put_node(fields if isinstance(fields, bytes) else msgpack.packb(fields)), nodes
    )


def changed(at, value):
    fields = fields_of(*sealed(ROWS))
    fields[at] = value
    return fields


NAMES_OF_FIELDS = (
    "kind",
    "version",
    "chunker",
    "leaf",
    "inner",
    "level",
    "rows",
    "files",
    "bytes",
    "top",
)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("kind", "labels"),
        ("version", 2),
        ("version", 0),
        ("chunker", "fastcdc2020-64k"),
    ],
)
def test_a_newer_root_is_not_damage(field, value):
    with pytest.raises(FormatError, match="is of kind") as caught:
        loaded_with(changed(NAMES_OF_FIELDS.index(field), value))
    assert "upgrade" in caught.value.hint


def test_a_newer_root_may_have_other_fields():
    for more in ([], [1], [1] * 12):
        with pytest.raises(FormatError, match="format 2") as caught:
            loaded_with(["files", 2, "fastcdc2020-32k", *more])
        assert "upgrade" in caught.value.hint


@pytest.mark.parametrize(
    ("field", "value"),
    [
        *((field, value) for field in NAMES_OF_FIELDS[3:9] for value in (-1, None, "1", 1.0, [])),
        *(
            (field, value)
            for field in NAMES_OF_FIELDS[:3]
            for value in (b"files", None, [], {}, 1.0)
        ),
        ("version", True),
        ("leaf", 3),
        ("leaf", 1025),
        ("inner", 3),
        ("inner", 2**63),
        ("files", 5),
        ("top", ONE[:-1]),
        ("top", ONE.hex()),
        ("top", None),
    ],
)
def test_a_root_that_is_none_is_refused(field, value):
    with pytest.raises(FormatError, match="is malformed"):
        loaded_with(changed(NAMES_OF_FIELDS.index(field), value))


@pytest.mark.parametrize(
    "record",
    [
        b"",
        b"\xc1",
        b"\x05",
        b"\x90",
        msgpack.packb("files"),
        msgpack.packb({"files": 1}),
        msgpack.packb(["files"]),
        msgpack.packb(["files", 1]),
        msgpack.packb(["files", 1, "fastcdc2020-32k"]),
        msgpack.packb(["files", 1, "fastcdc2020-32k", 128]),
        bytes(2000),
        b"\xdd\xff\xff\xff\xff",
    ],
    ids=range(12),
)
def test_bytes_that_are_not_a_root_are_refused(record):
    with pytest.raises(FormatError, match="malformed|is of kind"):  # noqa: RUF043
        loaded_with(record)


def test_a_root_has_one_encoding():
    version, nodes = sealed(ROWS)
    record = nodes.nodes[version.root]
    assert loaded_with(record).root == version.root
    longer = record.replace(b"\xa5files", b"\xd9\x05files")
    assert msgpack.unpackb(longer) == msgpack.unpackb(record)
    for other in (longer, record + b"\x00"):
        with pytest.raises(FormatError, match="malformed"):
            loaded_with(other)


@pytest.mark.parametrize("field", ["leaf", "inner", "level", "rows"])
def test_a_root_that_lies_about_its_tree_is_found_out(field):
    """The record is sound by itself: the tree is read with what it says, and does not fit."""
    at = NAMES_OF_FIELDS.index(field)
    fields = fields_of(*sealed(numbered(1000)))
    fields[at] += 1
    nodes = sealed(numbered(1000))[1]
    version = load(nodes.put_node(msgpack.packb(fields)), nodes)
    if field in ("leaf", "inner"):
        assert len(list(scan(version, nodes))) == 1000  # only edits would go elsewhere
    else:
        with pytest.raises(DatastoreError):
            list(scan(version, nodes))


# -- frozen vectors -------------------------------------------------------------------------------


def vectors():
    version, nodes = sealed(ROWS)
    large, _ = sealed(numbered(5000))
    return {
        "entries": {name: encode_entry(entry).hex() for name, entry in ENTRIES.items()},
        "root": {
            "record": nodes.nodes[version.root].hex(),
            "digest": format_digest(version.root),
            "top": format_digest(version.tree.top),
            "leaf": nodes.nodes[version.tree.top].hex(),
        },
        "numbered": {"files": 5000, "root": format_digest(large.root)},
    }


@pytest.fixture(scope="module")
def golden():
    return json.loads(VECTORS.read_text(encoding="utf-8"))


@pytest.mark.parametrize("part", ["entries", "root", "numbered"])
def test_everything_is_encoded_as_it_always_was(golden, part):
    assert vectors()[part] == golden[part]
    assert set(vectors()) == set(golden)


def test_the_format_page_shows_these_vectors(golden):
    page = PAGE.read_text(encoding="utf-8")
    shown = page.replace(" ", "").replace("\n", "")
    for name, value in golden["entries"].items():
        assert f"| {name} |" in page
        assert value in shown
    assert golden["root"]["record"] in shown
    assert golden["root"]["digest"] in page
    assert golden["numbered"]["root"] in page


def test_the_shape_is_fixed():
    """A dataset of another shape has another root: it would never be found to be the same."""
    assert Shape(leaf_rows=128, inner_rows=512) == SHAPE
    assert files.FORMAT == 1
    assert isinstance(sealed(ROWS)[0].tree, Tree)


if __name__ == "__main__":
    VECTORS.write_text(json.dumps(vectors(), indent=1) + "\n", encoding="utf-8")
