from __future__ import annotations

import tracemalloc

import msgpack
import pytest
from hypothesis import given
from hypothesis import strategies as st

from datastore.errors import FormatError, UsageError
from datastore.trees.node import (
    MAX_LEVEL,
    MAX_NODE_ROWS,
    MAX_NODE_SIZE,
    MAX_ROWS,
    Inner,
    Leaf,
    decode,
    encode_inner,
    encode_leaf,
)

D1, D2 = b"\x01" * 32, b"\x02" * 32
LEAF = encode_leaf([b"a", b"b"], [b"1", b""])
INNER = encode_inner(1, [b"k", b"z"], [(D1, 3), (D2, 200)])


def packed(*fields):
    return msgpack.packb(list(fields), use_bin_type=True)


def test_a_leaf_comes_back():
    leaf = decode(LEAF)
    assert leaf == Leaf([b"a", b"b"], [b"1", b""])
    assert (leaf.level, leaf.rows) == (0, 2)


def test_an_inner_node_comes_back():
    inner = decode(INNER)
    assert inner == Inner(1, [b"k", b"z"], [(D1, 3), (D2, 200)])
    assert inner.rows == 203


def test_the_empty_leaf_is_a_node():
    assert decode(encode_leaf([], [])) == Leaf([], [])


def test_tuples_and_lists_encode_alike():
    assert encode_leaf((b"a", b"b"), (b"1", b"")) == LEAF


@pytest.mark.parametrize(
    ("keys", "values"),
    [([b"a"], ["1"]), ([b"a"], [None]), (["a"], [b"1"]), ([b"a"], [bytearray(b"1")])],
)
def test_only_bytes_are_encoded(keys, values):
    with pytest.raises(UsageError, match="must be bytes"):
        encode_leaf(keys, values)


def test_a_node_that_is_too_large_is_not_encoded():
    with pytest.raises(UsageError, match="up to key b'b'") as caught:
        encode_leaf([b"a", b"b"], [bytes(MAX_NODE_SIZE), b""])
    assert "as chunks" in caught.value.hint


def test_a_node_that_is_too_large_is_not_decoded():
    with pytest.raises(FormatError, match="bytes are more than"):
        decode(packed(0, [b"a"], [bytes(MAX_NODE_SIZE)]))


HOSTILE = {
    "nothing": b"",
    "not msgpack": b"\xc1",
    "cut short": LEAF[:-1],
    "something after it": LEAF + b"\x00",
    "an integer": packed()[:0] + b"\x05",
    "a map": msgpack.packb({}),
    "a map with a row": msgpack.packb({b"a": b"b"}),
    "text": msgpack.packb("text"),
    "a timestamp": packed(0, [b"a"], [msgpack.Timestamp(0)]),
    "an extension without data": b"\x93\x00\x91\xc4\x00\x91\xc7\x00\x05",
    "no fields": packed(),
    "two fields": packed(0, []),
    "five fields": packed(1, [b"a"], [D1], [1], []),
    "a leaf with four fields": packed(0, [b"a"], [D1], [1]),
    "an inner node with three fields": packed(1, [b"a"], [b"1"]),
    "a level that is text": packed("0", [b"a"], [b"1"]),
    "a level that is false": packed(False, [b"a"], [b"1"]),
    "a level that is a float": packed(0.0, [b"a"], [b"1"]),
    "a level below zero": packed(-1, [b"a"], [D1], [1]),
    "a level too high": packed(MAX_LEVEL + 1, [b"a"], [D1], [1]),
    "keys that are no array": packed(0, b"a", [b"1"]),
    "values that are no array": packed(0, [b"a"], b"1"),
    "counts that are no array": packed(1, [b"a"], [D1], 1),
    "more keys than values": packed(0, [b"a", b"b"], [b"1"]),
    "more values than keys": packed(0, [b"a"], [b"1", b"2"]),
    "more digests than keys": packed(1, [b"a"], [D1, D2], [1]),
    "more counts than keys": packed(1, [b"a"], [D1], [1, 1]),
    "a key that is text": packed(0, ["a"], [b"1"]),
    "a key that is a number": packed(0, [1], [b"1"]),
    "a value that is text": packed(0, [b"a"], ["1"]),
    "a value that is nil": packed(0, [b"a"], [None]),
    "a value that is an array": packed(0, [b"a"], [[b"1"]]),
    "equal keys": packed(0, [b"a", b"a"], [b"1", b"1"]),
    "falling keys": packed(0, [b"b", b"a"], [b"1", b"1"]),
    "falling keys in an inner node": packed(1, [b"b", b"a"], [D1, D2], [1, 1]),
    "no children": packed(1, [], [], []),
    "a short digest": packed(1, [b"a"], [D1[:-1]], [1]),
    "a long digest": packed(1, [b"a", b"b"], [D1, D2 + b"\0"], [1, 1]),
    "a digest that is text": packed(1, [b"a"], ["x" * 32], [1]),
    "a count of zero": packed(1, [b"a", b"b"], [D1, D2], [1, 0]),
    "a count below zero": packed(1, [b"a"], [D1], [-1]),
    "a count that is true": packed(1, [b"a"], [D1], [True]),
    "a count that is a float": packed(1, [b"a"], [D1], [1.0]),
    "counts too large together": packed(1, [b"a", b"b"], [D1, D2], [MAX_ROWS, 1]),
    "too many rows": packed(
        0, [b"%05d" % n for n in range(MAX_NODE_ROWS + 1)], [b""] * (MAX_NODE_ROWS + 1)
    ),
    "a level in two bytes": b"\x93\xcc\x00\x91\xc4\x01a\x91\xc4\x011",
    "an array header in three bytes": b"\xdc\x00\x03\x00\x91\xc4\x01a\x91\xc4\x011",
    "a key with a length in two bytes": b"\x93\x00\x91\xc5\x00\x01a\x91\xc4\x011",
    "a count in nine bytes": INNER.replace(b"\x92\x03", b"\x92\xcf" + (3).to_bytes(8, "big")),
}


@pytest.mark.parametrize("data", HOSTILE.values(), ids=HOSTILE)
def test_hostile_bytes_are_refused(data):
    with pytest.raises(FormatError, match="malformed"):
        decode(data)


def test_the_error_names_the_node():
    with pytest.raises(FormatError, match="tree node b3:00ff is malformed: ") as caught:
        decode(b"", where="b3:00ff")
    assert caught.value.where == "b3:00ff"
    assert caught.value.hint


ARRAY = b"\xdc" + MAX_NODE_ROWS.to_bytes(2, "big")
BOMBS = {
    "arrays within arrays": b"\x93\x00" + ARRAY * 1020,
    "more levels than a stack has": b"\x91" * 1_000_000,
    "arrays of empty arrays": b"\x93\x00"
    + (ARRAY + (ARRAY + b"\x90" * MAX_NODE_ROWS) * MAX_NODE_ROWS) * 2,
    "an array said to be huge": b"\x93\x00\xdd\xff\xff\xff\xff",
    "bytes said to be huge": b"\x93\x00\x91\xc6\xff\xff\xff\xff",
    "a map said to be huge": b"\xdf\xff\xff\xff\xff",
}


@pytest.mark.parametrize("data", BOMBS.values(), ids=BOMBS)
def test_hostile_bytes_take_little_memory(data):
    tracemalloc.start()
    try:
        with pytest.raises(FormatError):
            decode(data)
        assert tracemalloc.get_traced_memory()[1] < 20 * 1024 * 1024
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("valid", [LEAF, INNER], ids=["leaf", "inner"])
def test_no_byte_changes_unnoticed(valid):
    for at in range(len(valid)):
        for value in range(256):
            data = valid[:at] + bytes([value]) + valid[at + 1 :]
            check_decodes_to_itself_or_not_at_all(data)


@given(st.binary(max_size=200))
def test_random_bytes_are_nodes_or_refused(data):
    check_decodes_to_itself_or_not_at_all(data)


msgpack_values = st.recursive(
    st.none() | st.booleans() | st.integers(-5, 2**64 - 1) | st.floats() | st.binary(max_size=33),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.binary(max_size=2), inner, max_size=2)
    ),
    max_leaves=20,
)


@given(st.lists(msgpack_values, min_size=3, max_size=4))
def test_random_fields_are_nodes_or_refused(fields):
    check_decodes_to_itself_or_not_at_all(packed(*fields))


def check_decodes_to_itself_or_not_at_all(data):
    try:
        node = decode(data)
    except FormatError:
        return
    if isinstance(node, Leaf):
        assert encode_leaf(node.keys, node.values) == data
    else:
        assert encode_inner(node.level, node.keys, node.children) == data
