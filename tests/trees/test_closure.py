"""What a version needs is what somebody who reads it through asks for: no more, and no less."""

from __future__ import annotations

import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datastore.errors import FormatError, NotFoundError
from datastore.kernel.hashing import chunk_digest, node_digest
from datastore.trees import closure, files, prolly
from datastore.trees.closure import content_needs, needs, node_digests
from datastore.trees.filereader import iter_bytes
from datastore.trees.files import SHAPE, Entry, Kind, encode_entry
from datastore.trees.manifest import (
    EMPTY_DIGEST,
    ChunkRef,
    Content,
    ManifestBuilder,
    encode_page,
)
from tests.trees.contents import MemoryContents, refs
from tests.trees.memory import SMALL, TINY

EMPTY = Entry(Kind.FILE, Content(0, EMPTY_DIGEST))


def stored(contents, chunks):
    """A file made of these chunks, each its own bytes."""
    builder = ManifestBuilder(contents)
    for chunk in chunks:
        builder.add(contents.put_chunk(chunk), len(chunk))
    return Entry(Kind.FILE, builder.finish())


def named(contents, chunks):
    """A file of which nobody has the chunks."""
    builder = ManifestBuilder(contents)
    for digest, size in chunks:
        builder.add(digest, size)
    return Entry(Kind.FILE, builder.finish())


def sealed(contents, entries, shape=SHAPE):
    """A version of these paths and entries."""
    rows = [(path.encode(), encode_entry(entry)) for path, entry in sorted(entries.items())]
    tree = prolly.build(rows, shape, contents)
    found = [entry for entry in entries.values() if entry.is_file]
    return files.seal(tree, len(found), sum(entry.size for entry in found), contents)


def collected(batches):
    """All nodes and all chunks; no node may come twice."""
    nodes, chunks = [], set()
    for batch in batches:
        nodes += batch.nodes
        assert len(set(batch.chunks)) == len(batch.chunks)
        chunks |= set(batch.chunks)
    assert len(set(nodes)) == len(nodes)
    return set(nodes), chunks


def read_through(version, contents, start=b"", stop=None):
    """What a reader is asked for by somebody who reads all: nodes, and chunks with their sizes."""
    contents.forget_counts()
    contents.fetched = []
    files.load(version.root, contents)
    for _, value in files.scan(version, contents, start=start, stop=stop):
        entry = files.decode_entry(value)
        if entry.is_file:
            assert sum(map(len, iter_bytes(entry.content, contents))) == entry.size
    return set(contents.read), {(each, len(contents.chunks[each])) for each in contents.fetched}


def images(count, first=0):
    return {
        f"images/{number:06}.jpg": Entry(Kind.FILE, Content(9, chunk_digest(b"%d" % number)))
        for number in range(first, first + count)
    }


@pytest.fixture
def contents():
    return MemoryContents()


@pytest.fixture
def small(monkeypatch):
    """Makes batches small, so that small trees fill them."""
    monkeypatch.setattr(closure, "_LEAVES", 3)
    monkeypatch.setattr(closure, "_INNERS", 2)
    monkeypatch.setattr(closure, "_CONTENTS", 2)


# -- the law --------------------------------------------------------------------------------------

# Few distinct chunks and few distinct files, so that files share chunks and pages.
CHUNKS = st.lists(st.integers(0, 40).map(lambda number: b"%d" % number), max_size=12)
LONG = st.tuples(st.integers(0, 3), st.integers(100, 1200)).map(
    lambda run: [b"%d" % (number % 97) for number in range(run[0], run[0] + run[1])]
)
OTHERS = st.sampled_from([Entry(Kind.LINK, target=b"a"), Entry(Kind.DIRECTORY), EMPTY])
PATHS = st.integers(0, 60).map(lambda number: f"{number % 3}/{number}")
DATASETS = st.dictionaries(PATHS, CHUNKS | LONG | OTHERS, max_size=40)
SIZES = st.sampled_from([(1, 1, 1), (3, 2, 5), (512, 64, 4096)])
SHAPES = st.sampled_from([TINY, SMALL, SHAPE])


def version_of(dataset, contents, shape):
    entries = {
        path: what if isinstance(what, Entry) else stored(contents, what)
        for path, what in dataset.items()
    }
    return sealed(contents, entries, shape)


@given(DATASETS, SHAPES, SIZES)
def test_what_is_needed_is_what_is_read(dataset, shape, sizes):
    contents = MemoryContents()
    version = version_of(dataset, contents, shape)
    with pytest.MonkeyPatch.context() as patch:
        for name, size in zip(("_LEAVES", "_INNERS", "_CONTENTS"), sizes, strict=True):
            patch.setattr(closure, name, size)
        assert collected(needs(version, contents)) == read_through(version, contents)


@given(DATASETS, PATHS, PATHS, SHAPES)
def test_a_range_needs_what_reading_the_range_needs(dataset, start, stop, shape):
    contents = MemoryContents()
    version = version_of(dataset, contents, shape)
    start, stop = start.encode(), stop.encode()
    found = collected(needs(version, contents, start=start, stop=stop))
    assert found == read_through(version, contents, start, stop)


@given(DATASETS, DATASETS, SHAPES)
def test_what_is_known_stands_for_all_below_it(old, changes, shape):
    contents = MemoryContents()
    before = version_of(old, contents, shape)
    after = version_of({**old, **changes}, contents, shape)
    old_nodes, old_chunks = collected(needs(before, contents))
    every_node, every_chunk = collected(needs(after, contents))
    for known in (set(node_digests(before, contents)), old_nodes):
        contents.forget_counts()
        nodes, chunks = collected(needs(after, contents, known=known))
        assert not nodes & known
        assert set(contents.read) == nodes - {after.root}
        assert nodes <= every_node <= nodes | old_nodes
        assert chunks <= every_chunk <= chunks | old_chunks


@given(DATASETS, SHAPES)
def test_the_nodes_of_a_tree_are_named_without_reading_its_leaves(dataset, shape):
    contents = MemoryContents()
    version = version_of(dataset, contents, shape)
    tree_nodes = {version.root}
    contents.forget_counts()
    list(files.scan(version, contents))
    tree_nodes |= set(contents.read)
    contents.forget_counts()
    found = list(node_digests(version, contents))
    assert len(found) == len(set(found))
    assert set(found) == tree_nodes
    assert all(contents.nodes[each][1] != 0 for each in contents.read)  # byte 1 is the level


@given(DATASETS, SIZES)
def test_what_some_files_need(dataset, sizes):
    contents = MemoryContents()
    made = [stored(contents, what).content for what in dataset.values() if isinstance(what, list)]
    contents.forget_counts()
    for content in made:
        assert sum(map(len, iter_bytes(content, contents))) == content.size
    expected = set(contents.read), {(each, len(contents.chunks[each])) for each in contents.fetched}
    with pytest.MonkeyPatch.context() as patch:
        for name, size in zip(("_LEAVES", "_INNERS", "_CONTENTS"), sizes, strict=True):
            patch.setattr(closure, name, size)
        assert collected(content_needs(iter(made), contents)) == expected


# -- single cases ---------------------------------------------------------------------------------


def test_an_empty_dataset_needs_its_root_and_its_one_leaf(contents):
    version = sealed(contents, {})
    assert collected(needs(version, contents)) == ({version.root, version.tree.top}, set())
    assert list(node_digests(version, contents)) == [version.root, version.tree.top]


def test_an_empty_file_a_link_and_a_directory_need_no_chunk(contents):
    link = Entry(Kind.LINK, target=b"a")
    version = sealed(contents, {"a": EMPTY, "b": link, "c": Entry(Kind.DIRECTORY)})
    assert collected(needs(version, contents))[1] == set()
    assert list(content_needs([EMPTY.content], contents)) == []


def test_an_inline_manifest_is_no_node(contents):
    entry = named(contents, refs(4))
    version = sealed(contents, {"a": entry})
    nodes, chunks = collected(needs(version, contents))
    assert nodes == {version.root, version.tree.top}
    assert chunks == set(refs(4))
    assert list(content_needs([entry.content], contents)) == [([], [tuple(ref) for ref in refs(4)])]


def test_a_version_that_is_known_needs_nothing_and_nothing_is_read(contents):
    version = sealed(contents, images(1000))
    contents.forget_counts()
    assert list(needs(version, contents, known={version.root})) == []
    assert list(needs(version, contents, known={version.tree.top})) == [([version.root], [])]
    assert contents.read == []


def test_pages_that_are_known_are_not_read(contents):
    entry = named(contents, refs(20_000))
    contents.forget_counts()
    assert list(content_needs([entry.content], contents, known={entry.content.digest})) == []
    assert contents.read == []
    known = set(contents.nodes) - {entry.content.digest}
    assert collected(content_needs([entry.content], contents, known=known)) == (
        {entry.content.digest},
        set(),
    )


def test_files_that_share_pages_need_them_once(contents):
    chunks = refs(3000)
    ends = [*chunks[:-1], ChunkRef(chunk_digest(b"x"), 5)]
    first, second = named(contents, chunks), named(contents, ends)
    _, found = collected(content_needs([first.content, second.content] * 2, contents))
    assert found == {*chunks, *ends}
    assert sum(contents.requests) == len(contents.nodes)


# -- few requests, little memory ------------------------------------------------------------------


def test_a_large_tree_is_read_with_few_requests(contents):
    version = sealed(contents, images(100_000))
    contents.forget_counts()
    nodes, chunks = collected(needs(version, contents))
    assert len(chunks) == 100_000
    assert len(nodes) > 600
    assert len(contents.requests) <= 4
    contents.forget_counts()
    assert set(node_digests(version, contents)) == nodes
    assert len(contents.requests) <= 2
    assert len(contents.read) < 10


def test_a_change_is_found_with_one_request_a_level(contents):
    old = sealed(contents, images(50_000))
    new = sealed(contents, images(50_000) | images(1, 25_000_000))
    known = set(node_digests(old, contents))
    contents.forget_counts()
    nodes, chunks = collected(needs(new, contents, known=known))
    assert len(contents.requests) == new.tree.level + 1
    assert len(nodes) <= new.tree.level + 3
    assert len(chunks) < 300


def test_the_pages_of_many_files_are_read_together(contents):
    made = [named(contents, refs(400, seed=f"{number}-")) for number in range(200)]
    contents.forget_counts()
    nodes, chunks = collected(content_needs([entry.content for entry in made], contents))
    assert len(chunks) == 200 * 400
    assert len(nodes) == len(contents.nodes) > 1200
    assert len(contents.requests) <= 200 / closure._INNERS + len(nodes) / closure._LEAVES + 3
    version = sealed(contents, {f"{at:03}": entry for at, entry in enumerate(made)})
    contents.forget_counts()
    assert len(collected(needs(version, contents))[1]) == 200 * 400
    assert len(contents.requests) <= 12


@pytest.mark.slow
def test_memory_does_not_grow_with_the_tree(contents):
    version = sealed(contents, images(400_000))
    tracemalloc.start()
    try:
        for _ in needs(version, contents):
            contents.read.clear()
        assert tracemalloc.get_traced_memory()[1] < 80_000_000
    finally:
        tracemalloc.stop()


def test_little_waits_to_be_read(contents, small):
    """Full batches are taken as low as there is one."""
    backlog = closure._Backlog()
    backlog.add(2, range(5))
    assert backlog.take() == [0, 1]
    backlog.add(1, range(10, 13))
    assert backlog.take(rest=False) == [10, 11]
    backlog.add(0, range(20, 22))
    assert backlog.take(rest=False) == [2, 3]
    assert backlog.take(rest=False) == []
    assert [backlog.take() for _ in range(4)] == [[4], [12], [20, 21], []]


# -- hostile versions -----------------------------------------------------------------------------


def test_a_missing_node_is_an_error(contents):
    version = sealed(contents, images(1000), TINY)
    del contents.nodes[list(node_digests(version, contents))[-1]]
    with pytest.raises(NotFoundError):
        list(needs(version, contents))


def test_a_row_that_is_no_entry_is_refused(contents):
    tree = prolly.build([(b"a", b"\x00")], SHAPE, contents)
    with pytest.raises(FormatError, match="a file entry is malformed"):
        list(needs(files.seal(tree, 1, 1, contents), contents))


def test_a_node_that_is_not_what_its_parent_says_is_refused(contents):
    version = sealed(contents, images(1000), TINY)
    worse = files.FileTree(version.root, _taller(version.tree), version.files, version.bytes)
    for walk in (needs, node_digests):
        with pytest.raises(FormatError, match="its level is"):
            list(walk(worse, contents))


def _taller(tree):
    return prolly.Tree(tree.shape, tree.top, tree.level + 1, tree.rows)


@pytest.mark.parametrize("depth", [9, 10**9])
def test_a_manifest_has_a_limited_depth(contents, depth):
    with pytest.raises(FormatError, match=f"a manifest of depth {depth}"):
        list(content_needs([Content(7, node_digest(b"x"), depth)], contents))


def test_a_page_that_does_not_fit_its_file_is_refused(contents):
    content = named(contents, refs(1000)).content
    for wrong in (
        content._replace(size=content.size + 1),
        content._replace(depth=content.depth + 1),
    ):
        with pytest.raises(FormatError, match="does not fit"):
            list(content_needs([wrong], contents))


def test_pages_that_name_one_page_many_times_do_not_explode(contents):
    """Eight pages that each name the next a hundred times: a file of 10**16 chunks."""
    page, size = ChunkRef(chunk_digest(b"x"), 1), 1
    for depth in range(1, 9):
        page = ChunkRef(contents.put_node(encode_page(depth, [page] * 100)), size * 100)
        size *= 100
    contents.forget_counts()
    nodes, chunks = collected(content_needs([Content(size, page.digest, 8)], contents))
    assert len(nodes) == len(contents.read) == 8
    assert chunks == {(chunk_digest(b"x"), 1)}
