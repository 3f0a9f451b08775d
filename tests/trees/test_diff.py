from __future__ import annotations

import random
from itertools import islice

import pytest

from datastore.errors import FormatError
from datastore.trees.changes import _Walk
from datastore.trees.diff import UNRESOLVED, Change, Conflict, Merge, diff, merge
from datastore.trees.node import encode_inner, encode_leaf
from datastore.trees.prolly import Shape, Tree, edit
from tests.trees.memory import SMALL, TINY, MemoryNodes, edited, levels_of, numbered, rule

WIDE = Shape(leaf_rows=64, inner_rows=64)
ROWS = numbered(100_000, step=2)


def key(number):
    return b"images/%08d.jpg" % number


@pytest.fixture(scope="module")
def wide():
    """A tree of 100,000 rows in three levels, and its nodes; to be edited, not counted alone."""
    nodes = MemoryNodes()
    return nodes.build(ROWS, WIDE), nodes


def changed(tree, nodes, edits):
    new = edit(tree, sorted(edits.items()), nodes, nodes)
    nodes.forget_counts()
    return new


def check(wide, edits):
    """Diffs both ways; returns how many nodes the first way read, in how many requests."""
    tree, nodes = wide
    new = changed(tree, nodes, edits)
    expected = [Change(name, ROWS.get(name), edits[name]) for name in sorted(edits)]
    assert list(diff(tree, new, nodes)) == expected
    counts = len(nodes.read), len(nodes.requests)
    mirrored = [Change(name, after, before) for name, before, after in expected]
    assert list(diff(new, tree, nodes)) == mirrored
    return counts


# -- what is read -------------------------------------------------------------------------------


def test_equal_trees_are_not_read(wide):
    tree, nodes = wide
    nodes.forget_counts()
    assert list(diff(tree, tree, nodes)) == []
    assert nodes.read == []


@pytest.mark.parametrize("number", [0, 1000, 123_456, 199_998])
def test_one_new_value_reads_a_node_a_level_of_each_tree(wide, number):
    assert check(wide, {key(number): b"new"}) == (6, 3)


@pytest.mark.parametrize("number", [1, 1001, 123_457, 200_001])
def test_one_new_row_reads_little_more(wide, number):
    assert check(wide, {key(number): b"new"})[0] <= 14


def test_scattered_changes_read_only_the_leaves_that_hold_them(wide):
    numbers = random.Random(1).sample(range(0, 200_000, 2), 37)
    read, requests = check(wide, {key(number): b"new" for number in numbers})
    assert read <= 2 * (37 + 25 + 1)
    assert requests == 3  # each level in one


def test_scattered_rows_that_come_and_go_read_little_more(wide):
    numbers = random.Random(2).sample(range(200_000), 37)
    read, requests = check(wide, {key(n): b"new" if n % 2 else None for n in numbers})
    assert read <= 1.5 * 2 * (37 + 25 + 1)
    assert requests <= 8


@pytest.mark.parametrize("value", [b"new", None])
def test_a_run_of_changes_reads_the_leaves_of_the_run(wide, value):
    read, _ = check(wide, dict.fromkeys(map(key, range(80_000, 90_000, 2)), value))
    leaves = 5_000 / 64
    assert read < 1.3 * leaves * (2 if value else 1) + 12


@pytest.mark.parametrize("prefix", [b"a/", b"images/00100000.jpg/", b"z/"])
def test_a_block_of_new_rows_reads_the_block_only(wide, prefix):
    """Everything after the block stands at another place in the new tree."""
    read, requests = check(wide, {prefix + b"%06d" % number: b"new" for number in range(10_000)})
    assert read < 1.3 * 10_000 / 64 + 14
    assert requests < 14


def test_requests_are_bounded(wide):
    check(wide, {name: b"new" for name in ROWS if name[14:15] != b"0"})
    assert max(wide[1].requests) <= 256


def test_a_diff_streams(wide):
    tree, nodes = wide
    new = changed(tree, nodes, dict.fromkeys(ROWS, b"new"))
    assert len(list(islice(diff(tree, new, nodes), 100))) == 100
    assert len(nodes.read) <= 2 + 2 * 64 + 256


def test_a_diff_of_a_range_reads_the_range_only(wide):
    tree, nodes = wide
    new = changed(tree, nodes, dict.fromkeys(ROWS, b"new"))
    start, stop = key(100_000), key(100_100)
    found = list(diff(tree, new, nodes, start=start, stop=stop))
    assert [change.key for change in found] == [key(n) for n in range(100_000, 100_100, 2)]
    assert len(nodes.read) <= 2 * (3 + 4)


# -- trees of any form --------------------------------------------------------------------------


@pytest.mark.parametrize("count", [0, 1, 3, 50, 1000, 5000])
@pytest.mark.parametrize("other", [0, 2, 49, 3000])
def test_trees_of_different_heights(count, other):
    nodes = MemoryNodes()
    old_rows, new_rows = numbered(count, step=3), numbered(other, step=2, value=b"w")
    old, new = nodes.build(old_rows), nodes.build(new_rows)
    expected = [
        Change(name, old_rows.get(name), new_rows.get(name))
        for name in sorted(old_rows.keys() | new_rows.keys())
    ]
    assert list(diff(old, new, nodes)) == expected


def test_trees_of_different_shapes_with_the_same_rows_do_not_differ():
    nodes = MemoryNodes()
    rows = numbered(1000)
    assert list(diff(nodes.build(rows, TINY), nodes.build(rows, SMALL), nodes)) == []


def new_rows_everywhere(rows, nodes):
    return {b"%s/%d" % (name, number): b"" for name in rows for number in range(6)}


def new_rows_at_the_start(rows, nodes):
    return {b"a/%06d" % number: b"" for number in range(20_000)}


def new_nodes_between_old_ones(rows, nodes):
    """Adds whole nodes after nodes of level 1, so that the old ones stay as they are."""
    found = {}
    for keys in levels_of(nodes.build(rows), nodes)[1][:-1]:
        for length in range(40, 70):
            block = [b"%s/%02d" % (keys[-1], number) for number in range(length)]
            leaves = rule([*block, b"~"], 0, 4)
            inners = rule([leaf[-1] for leaf in leaves], 1, 4)
            if leaves[-1] == inners[-1] == [b"~"]:
                found.update(dict.fromkeys(block, b""))
                break
    return found


@pytest.mark.parametrize("flipped", [False, True])
@pytest.mark.parametrize(
    "new_rows", [new_rows_everywhere, new_rows_at_the_start, new_nodes_between_old_ones]
)
def test_new_rows_do_not_fill_the_memory(new_rows, flipped):
    """Where one tree has many nodes for one of the other, its queues must not run ahead."""
    nodes = MemoryNodes()
    rows = numbered(6000, step=2)
    new = new_rows(rows, nodes)
    trees = [nodes.build(rows), nodes.build({**rows, **new})]
    walk = _Walk(*trees[:: -1 if flipped else 1], nodes, b"", None)
    sides = walk._old, walk._new
    unread = held = 0
    for count, _ in enumerate(walk.changes()):
        if count % 32 == 0:
            unread = max(unread, sum(len(queue) for side in sides for queue in side.unread))
            held = max(held, sum(leaf.rows for side in sides for leaf in side.leaves))
    assert count + 1 == len(new) > 10_000
    assert unread < 2_000
    assert held < 1_200


@pytest.mark.parametrize("batch", [1, 3, 128])
def test_few_nodes_that_both_trees_have_are_read(batch, monkeypatch):
    """Where the trees stop being parallel, and where a batch ends, a node may be read in vain."""
    monkeypatch.setattr("datastore.trees.changes._SIDE_BATCH", batch)
    mixed = random.Random(batch)
    rows = numbered(2000, step=4)
    differing = in_vain = 0
    for _ in range(20):
        edits = {}
        for at in mixed.sample(range(1900), 40):
            run = sorted(rows)[at : at + mixed.randrange(100)]
            block = [run[0] + b"/%02d" % number for number in range(len(run))] if run else []
            edits |= mixed.choice([dict.fromkeys(run), dict.fromkeys(block, b"new")])
        read, shared = read_and_shared(rows, edited(rows, edits))
        in_vain += len(shared & read)
        differing += len(read - shared)
    assert in_vain < 0.02 * differing


def read_and_shared(rows, new_rows):
    """Diffs two trees; returns the nodes read, and the nodes that both trees have."""
    old_nodes, nodes = MemoryNodes(), MemoryNodes()
    old = old_nodes.build(rows)
    new = nodes.build(new_rows)
    shared = old_nodes.nodes.keys() & nodes.nodes.keys()
    every = old_nodes.nodes.keys() ^ nodes.nodes.keys()
    nodes.nodes |= old_nodes.nodes
    list(diff(old, new, nodes))
    assert set(nodes.read) >= every
    return set(nodes.read), shared


def test_a_hostile_tree_is_refused():
    nodes = MemoryNodes()
    leaf = nodes.put_node(encode_leaf([b"a", b"c"], [b"", b""]))
    top = nodes.put_node(encode_inner(1, [b"a", b"b"], [(leaf, 1), (leaf, 1)]))
    with pytest.raises(FormatError):
        list(diff(nodes.build({b"x": b""}), Tree(TINY, top, 1, 2), nodes))


# -- merge --------------------------------------------------------------------------------------


BASE = {b"a": b"1", b"b": b"2", b"c": b"3"}


def merged(ours, theirs, resolve=None):
    nodes = MemoryNodes()
    trees = [nodes.build(rows) for rows in (BASE, edited(BASE, ours), edited(BASE, theirs))]
    outcome = merge(*trees, nodes, nodes, resolve=resolve)
    rows = {change.key: change.new for change in diff(nodes.build({}), outcome.tree, nodes)}
    return rows, outcome.conflicts


def test_changes_of_different_keys_are_both_kept():
    assert merged({b"a": b"x", b"d": b"4"}, {b"b": None}) == (
        {b"a": b"x", b"c": b"3", b"d": b"4"},
        (),
    )


@pytest.mark.parametrize("same", [{b"a": b"x"}, {b"a": None}, {b"d": b"4"}])
def test_the_same_change_on_both_sides_is_no_conflict(same):
    assert merged({**same, b"b": b"y"}, {**same, b"c": b"z"}) == (
        edited(BASE, {**same, b"b": b"y", b"c": b"z"}),
        (),
    )


@pytest.mark.parametrize(
    ("name", "ours", "theirs"),
    [(b"a", b"x", b"y"), (b"a", b"x", None), (b"a", None, b"y"), (b"d", b"x", b"y")],
)
def test_a_conflict_keeps_ours_and_is_reported(name, ours, theirs):
    rows, conflicts = merged({name: ours}, {name: theirs, b"e": b"clean"})
    assert rows == edited(BASE, {name: ours, b"e": b"clean"})
    assert conflicts == (Conflict(name, BASE.get(name), ours, theirs),)


@pytest.mark.parametrize("value", [b"new", None, b"x", b"y"])
def test_a_resolver_may_settle_a_conflict(value):
    rows, conflicts = merged({b"a": b"x"}, {b"a": b"y"}, resolve=lambda _: value)
    assert rows == edited(BASE, {b"a": value})
    assert conflicts == ()


def test_a_resolver_may_leave_a_conflict():
    rows, conflicts = merged({b"a": b"x"}, {b"a": b"y"}, resolve=lambda _: UNRESOLVED)
    assert rows[b"a"] == b"x"
    assert conflicts == (Conflict(b"a", b"1", b"x", b"y"),)


def test_a_side_without_changes_gives_the_other_unread(wide):
    tree, nodes = wide
    new = changed(tree, nodes, {key(7): b"new"})
    assert merge(tree, new, tree, nodes, nodes) == Merge(new, ())
    assert merge(tree, tree, new, nodes, nodes) == Merge(new, ())
    assert merge(tree, new, new, nodes, nodes) == Merge(new, ())
    assert nodes.read == []


def test_a_merge_has_our_shape():
    nodes = MemoryNodes()
    rows, new_rows = numbered(500), numbered(600)
    base, ours, theirs = nodes.build(rows), nodes.build(rows), nodes.build(new_rows, SMALL)
    assert merge(base, ours, theirs, nodes, nodes).tree == nodes.build(new_rows)


def test_a_merge_reads_what_differs_only(wide):
    tree, nodes = wide
    ours = changed(tree, nodes, {key(n): b"ours" for n in range(0, 200_000, 20_000)})
    theirs = changed(tree, nodes, {key(n): b"theirs" for n in range(10_000, 200_000, 20_000)})
    assert merge(tree, ours, theirs, nodes, nodes).conflicts == ()
    assert len(nodes.read) <= 5 * (10 + 10 + 1)  # two diffs of two trees each, and an edit
