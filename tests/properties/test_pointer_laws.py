"""Pointers: encode and decode are each other's inverse, and nothing else decodes."""

from __future__ import annotations

import contextlib
import dataclasses
import string

import yaml
from hypothesis import given
from hypothesis import strategies as st

from datastore.errors import ConflictError, FormatError
from datastore.workspace.pointer import MAX_COUNT, Pointer

KEYS = st.from_regex(r"[a-z][a-z0-9_-]{0,20}", fullmatch=True)
TEXT = st.text(st.characters(codec="utf-8") | st.sampled_from(" :#-\"'[]\u202e\x85\n"), max_size=40)
COUNTS = st.integers(0, MAX_COUNT)


@st.composite
def pointers(draw: st.DrawFn) -> Pointer:
    root = draw(st.binary(min_size=32, max_size=32))
    pointer = Pointer("files", draw(COUNTS), draw(COUNTS), root)
    for line in draw(st.lists(st.tuples(KEYS, TEXT), max_size=5)):
        with contextlib.suppress(FormatError):  # what cannot stand in a pointer is left out
            pointer = dataclasses.replace(pointer, extra=(*pointer.extra, line))
    return pointer


@st.composite
def mutations(draw: st.DrawFn) -> bytes:
    """A canonical pointer in which a few bytes have been changed, taken out or put in."""
    data = bytearray(draw(pointers()).encode())
    tricky = st.sampled_from([ord(each) for each in string.printable] + [0x85, 0xC2, 0xEF, 0xFF])
    for _ in range(draw(st.integers(1, 3))):
        at = draw(st.integers(0, len(data) - 1))
        kind = draw(st.sampled_from(["change", "insert", "delete", "repeat", "cut"]))
        if kind == "change":
            data[at] = draw(tricky)
        elif kind == "insert":
            data.insert(at, draw(tricky))
        elif kind == "delete" and len(data) > 1:
            del data[at]
        elif kind == "repeat":
            lines = bytes(data).splitlines(keepends=True)
            data += draw(st.sampled_from(lines))
        elif kind == "cut" and at:
            del data[at:]
    return bytes(data)


@given(pointers())
def test_round_trip(pointer):
    assert Pointer.decode(pointer.encode(), where="a.ds") == pointer


@given(pointers())
def test_yaml_reads_the_same_text(pointer):
    read = yaml.load(pointer.encode(), Loader=yaml.BaseLoader)
    assert read["root"] == f"b3:{pointer.root.hex()}"
    assert [(key, read[key]) for key, _ in pointer.extra] == list(pointer.extra)


def decodes_exactly_or_is_refused(data: bytes) -> bool:
    """The law; returns whether it was decoded."""
    try:
        pointer = Pointer.decode(data, where="a.ds")
    except (FormatError, ConflictError):
        return False
    assert pointer.encode() == data
    return True


@given(mutations())
def test_a_mutation_decodes_exactly_or_is_refused(data):
    decodes_exactly_or_is_refused(data)


@given(st.binary(max_size=1500))
def test_any_bytes_decode_exactly_or_are_refused(data):
    decodes_exactly_or_is_refused(data)


def test_every_change_of_one_byte():
    data = Pointer("files", 42, 1234, bytes(range(32)), (("note", "text"),)).encode()
    decoded = 0
    for at in range(len(data)):
        for byte in range(256):
            changed = data[:at] + bytes([byte]) + data[at + 1 :]
            decoded += decodes_exactly_or_is_refused(changed)
        decodes_exactly_or_is_refused(data[:at] + data[at + 1 :])
    # Other digits and other text are other pointers; little else is.
    assert 64 * 16 < decoded < 64 * 16 + 3000
