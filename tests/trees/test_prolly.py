from __future__ import annotations

import random
import tracemalloc
from itertools import islice

import pytest

from datastore.errors import FormatError, NotFoundError, UsageError
from datastore.trees.node import Leaf, decode, encode_inner, encode_leaf
from datastore.trees.prolly import Shape, Tree, build, edit, get, get_many, scan
from tests.trees.memory import SMALL, TINY, MemoryNodes, edited, levels_of, numbered, rule, shuffled

WIDE = Shape(leaf_rows=64, inner_rows=64)


@pytest.fixture
def nodes():
    return MemoryNodes()


@pytest.fixture(scope="module")
def wide():
    """A tree of 100,000 rows in three levels, and its nodes; not to be changed."""
    nodes = MemoryNodes()
    tree = nodes.build(numbered(100_000, step=2), WIDE)
    assert tree.level == 2
    return tree, nodes


def change(tree, nodes, edits):
    nodes.forget_counts()
    return edit(tree, sorted(edits.items()), nodes, nodes)


# -- shape --------------------------------------------------------------------------------------


@pytest.mark.parametrize(("leaf", "inner"), [(3, 512), (1025, 512), (64, 3), (64, 1025)])
def test_a_shape_out_of_range_is_refused(leaf, inner):
    with pytest.raises(UsageError, match="4 to 1024 rows a node"):
        Shape(leaf, inner)


@pytest.mark.parametrize(("size", "rows"), [(0, 512), (10, 512), (70, 234), (600, 27), (9000, 16)])
def test_leaves_are_chosen_to_be_about_16_kib(size, rows):
    assert Shape.fitting(size) == Shape(leaf_rows=rows, inner_rows=512)


@pytest.mark.parametrize("targets", [(4, 4), (5, 7), (8, 4), (16, 8), (33, 9), (100, 6)])
def test_nodes_end_where_the_format_says(nodes, targets):
    rows = {b"%x" % (number * 7919): b"" for number in range(3000)}
    tree = nodes.build(rows, Shape(*targets))
    keys = sorted(rows)
    for level, found in enumerate(levels_of(tree, nodes)):
        assert found == rule(keys, level, targets[min(level, 1)])
        keys = [node[-1] for node in found]
    assert len(keys) == 1


def test_nodes_have_the_size_aimed_at(wide):
    leaves = levels_of(*wide)[0]
    sizes = sorted(map(len, leaves[:-1]))
    assert 0.85 * 64 < sum(sizes) / len(sizes) < 1.15 * 64
    assert sizes[0] >= 16
    assert sizes[-1] <= 128


# -- build --------------------------------------------------------------------------------------


def test_the_empty_tree_is_one_empty_leaf(nodes):
    tree = build([], TINY, nodes)
    assert tree == Tree(TINY, tree.top, 0, 0)
    assert nodes.nodes[tree.top] == encode_leaf([], [])
    assert list(scan(tree, nodes)) == []
    assert get(tree, b"a", nodes) is None


def test_a_few_rows_are_one_leaf(nodes):
    tree = nodes.build({b"": b"empty", b"a": b"1"})
    assert (tree.level, tree.rows, len(nodes.nodes)) == (0, 2, 1)
    assert get(tree, b"", nodes) == b"empty"


@pytest.mark.parametrize("count", range(1, 60))
def test_the_top_is_the_lowest_level_with_one_node(nodes, count):
    tree = nodes.build(numbered(count))
    levels = levels_of(tree, nodes)
    assert len(levels[-1]) == 1
    assert all(len(level) > 1 for level in levels[:-1])
    assert len(nodes.written) == sum(map(len, levels))


def test_children_are_written_before_parents(nodes):
    nodes.build(numbered(500))
    seen = set()
    for digest in nodes.written:
        node = decode(nodes.nodes[digest])
        assert isinstance(node, Leaf) or all(child in seen for child, _ in node.children)
        seen.add(digest)


@pytest.mark.parametrize("at", [1, 1023, 1024, 1025, 2999])
@pytest.mark.parametrize("same", [True, False])
def test_keys_must_strictly_increase(nodes, at, same):
    rows = [(b"%06d" % (10 * number), b"") for number in range(3000)]
    rows[at] = (rows[at - 1][0] if same else b"%06d" % (10 * at - 11), b"")
    with pytest.raises(UsageError, match="must strictly increase"):
        build(rows, SMALL, nodes)


def test_a_build_holds_a_batch_of_rows(nodes):
    class Nowhere:
        def put_node(self, data):
            return data[:32].ljust(32)

    shape = Shape(leaf_rows=64, inner_rows=64)
    tracemalloc.start()
    build(((b"%08d" % number, b"v" * 40) for number in range(100_000)), shape, Nowhere())
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 2_000_000  # the rows take 16 MB


# -- look up and scan ---------------------------------------------------------------------------


def test_get_reads_one_node_a_level(wide):
    tree, nodes = wide
    nodes.forget_counts()
    assert get(tree, b"images/00000010.jpg", nodes) == b"v"
    assert nodes.requests == [1, 1, 1]


def test_get_many_reads_each_node_once_in_batches(wide):
    tree, nodes = wide
    keys = sorted(numbered(100_000, step=2))[5_000:9_000]
    nodes.forget_counts()
    assert get_many(tree, keys, nodes) == [b"v"] * len(keys)
    assert len(nodes.read) == len(set(nodes.read)) < 80
    assert len(nodes.requests) < 8


def test_get_many_wants_sorted_keys(nodes):
    with pytest.raises(UsageError, match="not sorted"):
        get_many(nodes.build(numbered(5)), [b"b", b"a"], nodes)


def test_get_many_of_nothing_reads_nothing(nodes):
    tree = nodes.build(numbered(5))
    assert get_many(tree, [], nodes) == []
    assert nodes.read == []


def test_get_many_takes_repeated_and_missing_keys(wide):
    tree, nodes = wide
    key, missing = b"images/00000010.jpg", b"images/00000011.jpg"
    found = get_many(tree, [b"", key, key, missing, b"z"], nodes)
    assert found == [None, b"v", b"v", None, None]


def test_a_scan_gives_its_first_row_after_one_node_a_level(wide):
    tree, nodes = wide
    nodes.forget_counts()
    next(scan(tree, nodes, start=b"images/00100000"))
    assert nodes.requests == [1, 1, 1]


def test_a_scan_of_a_range_reads_its_leaves_only(wide):
    tree, nodes = wide
    nodes.forget_counts()
    rows = list(scan(tree, nodes, start=b"images/00100000", stop=b"images/00102000"))
    assert len(rows) == 1000
    assert len(nodes.read) < 2 * 1000 / 64 + 4


def test_a_scan_reads_in_growing_batches(wide):
    tree, nodes = wide
    nodes.forget_counts()
    assert sum(1 for _ in islice(scan(tree, nodes), 3000)) == 3000
    assert nodes.requests[:6] == [1, 1, 1, 2, 4, 8]


def test_a_scan_reads_64_nodes_at_once_at_most(nodes):
    tree = nodes.build(numbered(2000), Shape(leaf_rows=8, inner_rows=1024))
    nodes.forget_counts()
    assert sum(1 for _ in scan(tree, nodes)) == 2000
    assert max(nodes.requests) == 64


@pytest.mark.parametrize(("start", "stop"), [(b"z", None), (b"b", b"a"), (b"", b"")])
def test_an_empty_range_has_no_rows(wide, start, stop):
    tree, nodes = wide
    assert list(scan(tree, nodes, start=start, stop=stop)) == []


# -- edit ---------------------------------------------------------------------------------------


def test_no_edits_read_nothing(wide):
    tree, nodes = wide
    assert change(tree, nodes, {}) is tree
    assert nodes.read == []


@pytest.mark.parametrize("number", [0, 1, 777, 100_000, 199_998])
def test_a_new_value_reads_and_writes_one_node_a_level(wide, number):
    tree, nodes = wide
    edited_tree = change(tree, nodes, {b"images/%08d.jpg" % number: b"new"})
    if number % 2 == 0:
        assert (len(nodes.read), len(nodes.written)) == (3, 3)
        assert edited_tree.rows == tree.rows


def test_a_new_value_of_any_length_rewrites_one_leaf(wide):
    tree, nodes = wide
    change(tree, nodes, {b"images/00100000.jpg": b"long" * 1000})
    assert (len(nodes.read), len(nodes.written)) == (3, 3)


@pytest.mark.parametrize("value", [None, b"v"])
def test_an_edit_without_effect_writes_nothing(wide, value):
    tree, nodes = wide
    key = b"images/%08d.jpg" % (1001 if value is None else 1000)
    assert change(tree, nodes, {key: value}) == tree
    assert (len(nodes.read), nodes.written) == (3, [])


def test_inserts_and_deletes_touch_few_neighbours(wide):
    tree, nodes = wide
    mixed = random.Random(1)
    read = written = 0
    for _ in range(200):
        number = mixed.randrange(200_000)
        key = b"images/%08d.jpg" % number
        change(tree, nodes, {key: b"in" if number % 2 else None})
        read, written = read + len(nodes.read), written + len(nodes.written)
        assert len(nodes.read) < 20
    assert read / 200 < 3.6  # one node a level is 3
    assert written / 200 < 3.6


def test_scattered_edits_read_only_leaves_that_they_fall_into(wide):
    tree, nodes = wide
    edits = {b"images/%08d.jpg" % number: b"new" for number in range(0, 200_000, 20_000)}
    change(tree, nodes, edits)
    assert len(nodes.read) <= 10 * 2 + 1
    assert len(nodes.requests) <= 12  # the children of a node in one request
    assert len(nodes.written) == len(nodes.read)


def test_a_run_of_edits_is_read_in_batches(wide):
    tree, nodes = wide
    edits = {b"images/%08d.jpg" % number: b"new" for number in range(50_000, 60_000, 2)}
    change(tree, nodes, edits)
    assert len(nodes.read) < 5_000 / 64 * 1.3 + 6
    assert len(nodes.requests) <= 8


def test_a_large_batch_of_edits_reads_each_node_once(wide):
    tree, nodes = wide
    rows = numbered(100_000, step=2)
    picked = shuffled(rows)[:30_000]
    edits = {key: None if key[14] % 2 else b"new" for key in picked}
    edits |= {key + b"x": b"in" for key in picked[:10_000]}
    new = change(tree, nodes, edits)
    assert len(nodes.read) == len(set(nodes.read))
    assert len(nodes.requests) < 120
    assert new == MemoryNodes().build(edited(rows, edits), WIDE)


def test_edits_are_taken_as_they_come(nodes):
    rows = numbered(2000)
    tree = nodes.build(rows, SMALL)
    edits = {b"images/%08d.jpg" % number: b"new" for number in range(30_000)}
    written_when_asked = []

    def source():
        for edit_of_a_key in sorted(edits.items()):
            written_when_asked.append(len(nodes.written))
            yield edit_of_a_key

    nodes.forget_counts()
    assert edit(tree, source(), nodes, nodes) == MemoryNodes().build(edited(rows, edits), SMALL)
    assert written_when_asked[-1] > 1000


def test_edits_must_strictly_increase(nodes):
    tree = nodes.build(numbered(50))
    for edits in ([(b"b", b""), (b"a", b"")], [(b"a", b""), (b"a", None)]):
        with pytest.raises(UsageError, match="must strictly increase"):
            edit(tree, edits, nodes, nodes)
    many = [(b"%06d" % number, b"") for number in range(4096)]
    with pytest.raises(UsageError, match="must strictly increase"):
        edit(tree, [*many, many[-1]], nodes, nodes)


# -- the edges of nodes and trees ---------------------------------------------------------------


ROWS = numbered(400, step=2)


def check(nodes, edits, rows=ROWS, shape=TINY):
    tree = nodes.build(rows, shape)
    found = change(tree, nodes, edits)
    assert found == MemoryNodes().build(edited(rows, edits), shape)
    return found


def last_keys(level):
    nodes = MemoryNodes()
    return [keys[-1] for keys in levels_of(nodes.build(ROWS), nodes)[level]]


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_every_last_key_of_a_node_can_go(nodes, level):
    for key in last_keys(level):
        check(nodes, {key: None})


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_rows_can_come_on_both_sides_of_every_last_key(nodes, level):
    for key in last_keys(level):
        check(nodes, {key[:-1]: b"before", key + b"x": b"after"})


def test_all_last_keys_can_go_at_once(nodes):
    check(nodes, dict.fromkeys(last_keys(0)))


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_whole_nodes_can_go(nodes, level):
    for keys in levels_of(nodes.build(ROWS), nodes)[level]:
        gone = {key: None for key in ROWS if keys[0] < key <= keys[-1]}
        check(nodes, gone)
        check(nodes, {**gone, keys[0]: None})


def test_a_tree_can_be_emptied(nodes):
    tree = check(nodes, dict.fromkeys(ROWS))
    assert (tree.level, tree.rows) == (0, 0)
    assert len(nodes.written) == 1


def test_an_empty_tree_can_be_filled(nodes):
    check(nodes, ROWS, rows={})


@pytest.mark.parametrize("left", [1, 2, 5, 20, 80, 200, 399])
def test_a_tree_can_shrink_to_its_beginning_or_end(nodes, left):
    keys = sorted(ROWS)
    check(nodes, dict.fromkeys(keys[left:]))
    check(nodes, dict.fromkeys(keys[:-left]))


@pytest.mark.parametrize("level", [0, 1, 2, 3])
def test_a_tree_left_with_any_one_old_node_is_that_node(nodes, level):
    after = b""
    for keys in levels_of(nodes.build(ROWS), nodes)[level]:
        tree = check(nodes, {key: None for key in ROWS if not after < key <= keys[-1]})
        assert tree.level == level if len(keys) > 1 else tree.level < level
        assert nodes.written == []
        after = keys[-1]


def test_a_chain_of_single_children_is_stripped(nodes):
    """The last nodes of several levels in a row may have one child each."""
    rows = dict(ROWS)
    while len(levels_of(nodes.build(rows), nodes)[-2][-1]) > 1:
        rows[b"z%05d" % len(rows)] = b""
    last = [level[-1] for level in levels_of(nodes.build(rows), nodes)]
    assert len(last[-2]) == 1
    tree = check(nodes, {key: None for key in rows if key not in last[0]}, rows=rows)
    assert tree.level == 0


@pytest.mark.parametrize("count", [1, 4, 5, 40, 400, 4000])
def test_rows_can_come_at_both_ends(nodes, count):
    after = {b"z%05d" % number: b"" for number in range(count)}
    before = {b"a%05d" % number: b"" for number in range(count)}
    check(nodes, after)
    check(nodes, before)
    tree = check(nodes, {**before, **after})
    assert tree.rows == 400 + 2 * count


def test_appended_rows_read_the_right_edge_only(wide):
    tree, nodes = wide
    change(tree, nodes, {b"z%05d" % number: b"" for number in range(20_000)})
    assert nodes.requests == [1, 1, 1]


def test_a_leaf_takes_more_edits_than_a_window_holds(nodes):
    inside = {b"images/00000400.jpg%05d" % number: b"" for number in range(9_000)}
    check(nodes, inside)
    check(nodes, inside | dict.fromkeys(sorted(ROWS)[190:230]))


def test_keys_that_begin_one_another_are_in_order(nodes):
    rows = {b"a" * length: b"%d" % length for length in range(300)}
    check(nodes, {b"a" * 150: None, b"a" * 10 + b"\x00": b"", b"a" * 299 + b"b": b""}, rows=rows)


# -- trees that lie -----------------------------------------------------------------------------


def leaf(nodes, *keys):
    return nodes.put_node(encode_leaf(keys, [b"v"] * len(keys)))


def parent(nodes, *children, level=1):
    keys, digests, counts = zip(*children, strict=True)
    return nodes.put_node(encode_inner(level, keys, list(zip(digests, counts, strict=True))))


LIES = {
    "level": lambda nodes: (b"d", parent(nodes, (b"d", leaf(nodes, b"d"), 1)), 1),
    "rows": lambda nodes: (b"d", leaf(nodes, b"c", b"d"), 1),
    "last key": lambda nodes: (b"d", leaf(nodes, b"c"), 1),
    "first key": lambda nodes: (b"d", leaf(nodes, b"b", b"d"), 2),
}


@pytest.mark.parametrize("lie", LIES)
def test_a_node_that_is_not_what_its_parent_says_is_refused(nodes, lie):
    child = LIES[lie](nodes)
    top = parent(nodes, (b"b", leaf(nodes, b"b"), 1), child)
    tree = Tree(TINY, top, 1, 1 + child[2])
    with pytest.raises(FormatError, match=f"not what its parent says: its {lie}|it has"):
        list(scan(tree, nodes))
    with pytest.raises(FormatError):
        get(tree, b"d", nodes)
    with pytest.raises(FormatError):
        edit(tree, [(b"d", b"new")], nodes, nodes)


def test_a_node_that_reaches_behind_its_grandparent_is_refused(nodes):
    first = parent(nodes, (b"b", leaf(nodes, b"b"), 1))
    second = parent(nodes, (b"d", leaf(nodes, b"a", b"d"), 2))
    tree = Tree(TINY, parent(nodes, (b"b", first, 1), (b"d", second, 2), level=2), 2, 3)
    with pytest.raises(FormatError, match="its first key"):
        list(scan(tree, nodes))
    with pytest.raises(FormatError, match="its first key"):
        get(tree, b"d", nodes)


@pytest.mark.parametrize(("level", "rows"), [(1, 2), (0, 3), (0, 0)])
def test_a_top_that_is_not_what_the_root_says_is_refused(nodes, level, rows):
    tree = Tree(TINY, leaf(nodes, b"a", b"b"), level, rows)
    with pytest.raises(FormatError):
        list(scan(tree, nodes))


def test_a_missing_node_is_an_error(nodes):
    tree = nodes.build(numbered(100))
    del nodes.nodes[nodes.written[5]]
    with pytest.raises(NotFoundError):
        list(scan(tree, nodes))
