"""The laws of trees: a tree is a dictionary, and its root knows nothing of how it came about."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datastore.trees.diff import UNRESOLVED, Change, Conflict, diff, merge
from datastore.trees.prolly import Shape, Tree, build, edit, get, get_many, scan
from tests.trees.memory import TINY, MemoryNodes, Rows, edited

Edits = dict[bytes, bytes | None]

SHAPES = st.sampled_from(
    [TINY, Shape(4, 5), Shape(5, 4), Shape(8, 4), Shape(16, 8), Shape(1024, 1024)]
)
# Few distinct keys, so that edits meet rows; shared prefixes, so that keys begin other keys.
KEYS = st.one_of(
    st.integers(0, 400).map(lambda number: b"%03d" % number),
    st.integers(0, 200).map(lambda number: b"a/" * (number % 5) + b"%d" % number),
    st.binary(max_size=3),
)
VALUES = st.sampled_from([b"", b"0", b"1", b"value"])
ROWS = st.one_of(
    st.dictionaries(KEYS, VALUES, max_size=12),
    st.dictionaries(KEYS, VALUES, min_size=60, max_size=300),
)
EDITS = st.dictionaries(KEYS, st.none() | VALUES, max_size=40)


@st.composite
def runs(draw: st.DrawFn) -> Edits:
    """A run of neighbours deleted or set at once: whole nodes go and come."""
    first = draw(st.integers(0, 400))
    count = draw(st.integers(0, 400))
    value = draw(st.none() | VALUES)
    return {b"%03d" % number: value for number in range(first, first + count)}


BATCHES = EDITS | runs()


@contextmanager
def sizes(batch: int) -> Iterator[None]:
    """Makes batches and windows small, so that small trees fill them."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datastore.trees.changes._SIDE_BATCH", batch)
        patch.setattr("datastore.trees.lookup.READ_BATCH", batch)
        patch.setattr("datastore.trees.edit.READ_BATCH", batch)
        patch.setattr("datastore.trees.edit._WINDOW", batch)
        patch.setattr("datastore.trees.builder._BATCH", batch)
        yield


SIZES = st.sampled_from([1, 2, 7, 64])


def applied(tree: Tree, edits: Edits, nodes: MemoryNodes) -> Tree:
    return edit(tree, sorted(edits.items()), nodes, nodes)


def dict_diff(old: Rows, new: Rows) -> list[Change]:
    return [
        Change(key, old.get(key), new.get(key))
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key)
    ]


@given(rows=ROWS, shape=SHAPES)
def test_a_tree_holds_the_rows_it_was_built_from(rows, shape):
    nodes = MemoryNodes()
    tree = nodes.build(rows, shape)
    assert list(scan(tree, nodes)) == sorted(rows.items())
    assert tree.rows == len(rows)


@given(rows=ROWS, history=st.lists(BATCHES, max_size=5), shape=SHAPES)
def test_any_history_gives_the_root_of_a_build(rows, history, shape):
    nodes = MemoryNodes()
    tree = nodes.build(rows, shape)
    for edits in history:
        tree = applied(tree, edits, nodes)
        rows = edited(rows, edits)
        assert tree == MemoryNodes().build(rows, shape)
    assert list(scan(tree, nodes)) == sorted(rows.items())


@given(rows=ROWS, order=st.randoms(use_true_random=False), size=st.integers(1, 50), shape=SHAPES)
def test_rows_in_any_order_give_one_root(rows, order, size, shape):
    nodes = MemoryNodes()
    tree = build([], shape, nodes)
    keys = sorted(rows)
    order.shuffle(keys)
    for at in range(0, len(keys), size):
        tree = applied(tree, {key: rows[key] for key in keys[at : at + size]}, nodes)
    assert tree == nodes.build(rows, shape)


@given(rows=ROWS, edits=BATCHES, shape=SHAPES)
def test_an_edit_and_its_inverse_give_the_old_root(rows, edits, shape):
    nodes = MemoryNodes()
    tree = nodes.build(rows, shape)
    inverse = {key: rows.get(key) for key in edits}
    assert applied(applied(tree, edits, nodes), inverse, nodes) == tree


@given(rows=ROWS, edits=BATCHES)
def test_an_edit_reads_nodes_of_the_old_tree_only(rows, edits):
    old, new = MemoryNodes(), MemoryNodes()
    tree = old.build(rows)
    assert edit(tree, sorted(edits.items()), old, new) == new.build(edited(rows, edits))


@given(rows=ROWS, edits=BATCHES)
def test_an_edit_writes_only_nodes_of_the_new_tree(rows, edits):
    nodes, expected = MemoryNodes(), MemoryNodes()
    tree = nodes.build(rows)
    nodes.forget_counts()
    applied(tree, edits, nodes)
    expected.build(edited(rows, edits))
    assert set(nodes.written) <= expected.nodes.keys()
    assert len(set(nodes.written)) == len(nodes.written)


@given(rows=ROWS, keys=st.lists(KEYS, max_size=40), shape=SHAPES)
def test_get_many_is_get_is_a_dictionary(rows, keys, shape):
    nodes = MemoryNodes()
    tree = nodes.build(rows, shape)
    keys = sorted(keys)
    expected = [rows.get(key) for key in keys]
    assert get_many(tree, keys, nodes) == expected
    assert [get(tree, key, nodes) for key in keys] == expected


@given(rows=ROWS, start=KEYS, stop=st.none() | KEYS, shape=SHAPES)
def test_scan_is_a_slice(rows, start, stop, shape):
    nodes = MemoryNodes()
    keys = sorted(rows)
    end = len(keys) if stop is None else bisect_left(keys, stop)
    expected = [(key, rows[key]) for key in keys[bisect_left(keys, start) : end]]
    assert list(scan(nodes.build(rows, shape), nodes, start=start, stop=stop)) == expected


@given(rows=ROWS, other=ROWS, edits=BATCHES, related=st.booleans(), old_shape=SHAPES, shape=SHAPES)
def test_diff_is_the_difference_of_dictionaries(rows, other, edits, related, old_shape, shape):
    nodes = MemoryNodes()
    new_rows = edited(rows, edits) if related else other
    old = nodes.build(rows, old_shape)
    new = nodes.build(new_rows, old_shape if related else shape)
    expected = dict_diff(rows, new_rows)
    assert list(diff(old, new, nodes)) == expected
    mirrored = [Change(key, after, before) for key, before, after in expected]
    assert list(diff(new, old, nodes)) == mirrored


@given(rows=ROWS, edits=BATCHES, more=BATCHES, keys=st.lists(KEYS, max_size=40), size=SIZES)
def test_no_law_depends_on_the_size_of_a_batch(rows, edits, more, keys, size):
    nodes = MemoryNodes()
    old, new = nodes.build(edited(rows, more)), nodes.build(edited(rows, edits))
    with sizes(size):
        assert nodes.build(edited(rows, edits)) == new
        assert applied(nodes.build(rows), edits, nodes) == new
        assert list(scan(new, nodes)) == sorted(edited(rows, edits).items())
        expected = dict_diff(edited(rows, more), edited(rows, edits))
        assert list(diff(old, new, nodes)) == expected
        keys = sorted(keys)
        assert get_many(new, keys, nodes) == [edited(rows, edits).get(key) for key in keys]


@given(rows=ROWS, edits=BATCHES, start=KEYS, stop=st.none() | KEYS)
def test_diff_of_a_range_is_a_slice_of_the_diff(rows, edits, start, stop):
    nodes = MemoryNodes()
    new_rows = edited(rows, edits)
    old, new = nodes.build(rows), nodes.build(new_rows)
    expected = [
        change
        for change in dict_diff(rows, new_rows)
        if change.key >= start and (stop is None or change.key < stop)
    ]
    assert list(diff(old, new, nodes, start=start, stop=stop)) == expected


@given(rows=ROWS, edits=BATCHES, shape=SHAPES)
def test_diff_reads_a_node_once_a_tree_and_none_without_changes(rows, edits, shape):
    nodes = MemoryNodes()
    old, new = nodes.build(rows, shape), nodes.build(edited(rows, edits), shape)
    nodes.forget_counts()
    changes = list(diff(old, new, nodes))
    assert changes or not nodes.read
    assert max(map(nodes.read.count, nodes.read), default=0) <= 2


@given(rows=ROWS, edits=BATCHES, shape=SHAPES)
def test_edits_without_effect_write_nothing(rows, edits, shape):
    nodes = MemoryNodes()
    tree = nodes.build(rows, shape)
    nodes.forget_counts()
    assert applied(tree, {key: rows.get(key) for key in edits}, nodes) == tree
    assert nodes.written == []


@given(rows=ROWS, edits=BATCHES, shape=SHAPES)
def test_a_diff_is_an_edit(rows, edits, shape):
    nodes = MemoryNodes()
    old, new = nodes.build(rows, shape), nodes.build(edited(rows, edits), shape)
    changes = diff(old, new, nodes)
    assert edit(old, ((key, after) for key, _, after in changes), nodes, nodes) == new


@given(rows=ROWS, our_edits=BATCHES, their_edits=BATCHES, shape=SHAPES)
def test_merge_is_symmetric_but_for_conflicts_which_keep_ours(rows, our_edits, their_edits, shape):
    nodes = MemoryNodes()
    base = nodes.build(rows, shape)
    our_rows, their_rows = edited(rows, our_edits), edited(rows, their_edits)
    ours, theirs = nodes.build(our_rows, shape), nodes.build(their_rows, shape)
    merged = merge(base, ours, theirs, nodes, nodes)
    mirrored = merge(base, theirs, ours, nodes, nodes)

    assert list(merged.conflicts) == dict_conflicts(rows, our_rows, their_rows)
    assert mirrored.conflicts == tuple(
        Conflict(key, before, their, our) for key, before, our, their in merged.conflicts
    )
    keeping_ours = {conflict.key: conflict.ours for conflict in merged.conflicts}
    assert applied(mirrored.tree, keeping_ours, nodes) == merged.tree
    clean = edited(our_rows, dict_changes(rows, their_rows))
    assert merged.tree == nodes.build(edited(clean, keeping_ours), shape)


def dict_changes(old: Rows, new: Rows) -> Edits:
    return {change.key: change.new for change in dict_diff(old, new)}


def dict_conflicts(base: Rows, ours: Rows, theirs: Rows) -> list[Conflict]:
    our, their = dict_changes(base, ours), dict_changes(base, theirs)
    return [
        Conflict(key, base.get(key), our[key], their[key])
        for key in sorted(our.keys() & their.keys())
        if our[key] != their[key]
    ]


@given(rows=ROWS, our_edits=BATCHES, their_edits=BATCHES, shape=SHAPES)
def test_merge_of_disjoint_edits_applies_both(rows, our_edits, their_edits, shape):
    nodes = MemoryNodes()
    their_edits = {key: value for key, value in their_edits.items() if key not in our_edits}
    base = nodes.build(rows, shape)
    ours, theirs = applied(base, our_edits, nodes), applied(base, their_edits, nodes)
    merged = merge(base, ours, theirs, nodes, nodes)
    assert merged.conflicts == ()
    assert merged.tree == nodes.build(edited(rows, {**our_edits, **their_edits}), shape)


@given(rows=ROWS, our_edits=BATCHES, their_edits=BATCHES, choices=st.data())
def test_a_resolver_settles_what_it_wants(rows, our_edits, their_edits, choices):
    nodes = MemoryNodes()
    our_rows, their_rows = edited(rows, our_edits), edited(rows, their_edits)
    base, ours, theirs = map(nodes.build, (rows, our_rows, their_rows))
    settled: Edits = {}
    left: list[Conflict] = []

    def resolve(conflict):
        value = choices.draw(st.just(UNRESOLVED) | st.none() | VALUES)
        if value is UNRESOLVED:
            left.append(conflict)
        else:
            settled[conflict.key] = value
        return value

    merged = merge(base, ours, theirs, nodes, nodes, resolve=resolve)
    unsettled = merge(base, ours, theirs, nodes, nodes)
    assert list(merged.conflicts) == left
    assert merged.tree == applied(unsettled.tree, settled, nodes)
