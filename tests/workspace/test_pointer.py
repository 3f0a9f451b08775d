"""The pointer file: its one encoding, and what is said of everything else."""

from __future__ import annotations

import dataclasses
import re
from pathlib import Path

import blake3
import pytest
import yaml

from datastore.errors import ConflictError, FormatError, UsageError
from datastore.workspace.pointer import (
    MAX_COUNT,
    MAX_POINTER_BYTES,
    Pointer,
    data_path,
    is_pointer_path,
    pointer_path,
)

ROOT = bytes(range(32))
POINTER = Pointer("files", 20000, 512034567, ROOT)
PAGE = Path(__file__).parents[2] / "docs" / "reference" / "format" / "pointer.md"
VECTOR = b"""\
datastore: 1
kind: files
files: 20000
bytes: 512034567
root: b3:000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f
"""
EXTRA = (("colour-space", "sRGB"), ("note", "über 50%, naïve"), ("x_2", "null"))


def decode(data: bytes) -> Pointer:
    return Pointer.decode(data, where="HEAD:sets/images.ds")


def refused(data: bytes) -> FormatError:
    with pytest.raises(FormatError) as caught:
        decode(data)
    error = caught.value
    assert error.where == "HEAD:sets/images.ds"
    assert error.message.startswith("HEAD:sets/images.ds")
    assert error.hint
    return error


def changed(old: bytes, new: bytes) -> bytes:
    assert VECTOR.count(old) == 1
    return VECTOR.replace(old, new)


def test_the_encoding_is_the_vector():
    assert POINTER.encode() == VECTOR
    assert decode(VECTOR) == POINTER


def test_unknown_keys_are_kept_after_the_known_ones_in_order():
    pointer = dataclasses.replace(POINTER, extra=EXTRA)
    data = pointer.encode()
    assert data == VECTOR + "colour-space: sRGB\nnote: über 50%, naïve\nx_2: null\n".encode()
    assert decode(data) == pointer
    backwards = dataclasses.replace(POINTER, extra=EXTRA[::-1]).encode()
    assert decode(backwards).extra == EXTRA[::-1]


def test_the_page_has_the_same_vectors():
    page = PAGE.read_text(encoding="utf-8")
    blocks = [
        text.encode() for text in re.findall(r"^```\n(.*?)^```$", page, re.MULTILINE | re.DOTALL)
    ]
    extended = dataclasses.replace(POINTER, extra=EXTRA[:2]).encode()
    assert blocks[0] == VECTOR
    assert blocks[-2] == f"{blake3.blake3(VECTOR).hexdigest()}\n".encode()
    assert blocks[-1] == extended
    assert f"It has {len(VECTOR)} bytes" in page
    assert f"it is {len(extended)} bytes long" in page
    third_lines = re.findall(r"^\| `(.*?)` \|", page.partition("## Test vectors")[2], re.MULTILINE)
    assert len(third_lines) == 6
    for line in third_lines:
        assert "line 3" in refused(VECTOR.replace(b"files: 20000", line.encode())).message


def test_a_yaml_reader_sees_the_same():
    pointer = dataclasses.replace(POINTER, extra=EXTRA)
    read = yaml.load(pointer.encode(), Loader=yaml.BaseLoader)
    assert read == {
        "datastore": "1",
        "kind": "files",
        "files": "20000",
        "bytes": "512034567",
        "root": "b3:" + ROOT.hex(),
        **dict(EXTRA),
    }


@pytest.mark.parametrize("count", [0, 1, 10, MAX_COUNT])
def test_counts_within_bounds(count):
    pointer = Pointer("files", count, count, ROOT)
    assert decode(pointer.encode()) == pointer


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "it is empty"),
        (b"\n", "line 1: expected 'datastore: 1', found ''"),
        (b"hello\n", "line 1: expected 'datastore: 1', found 'hello'"),
        (b"hello", "line 1 has no newline at its end"),
        (b"datastore: 1\n", "line 2: expected 'kind: <kind>', found the end of the file"),
        (VECTOR[:-1], "line 5 has no newline at its end"),
        (VECTOR[:30], "line 3 has no newline at its end"),
        (b"\xef\xbb\xbf" + VECTOR, "line 1 begins with a byte order mark"),
        (changed(b"datastore: 1", b"datastore: 0"), "line 1: expected 'datastore: 1'"),
        (changed(b"datastore: 1", b"datastore: 01"), "line 1: expected 'datastore: 1'"),
        (changed(b"datastore: 1", b"datastore: 1 "), "line 1: expected 'datastore: 1'"),
        (changed(b"datastore: 1", b"# comment\ndatastore: 1"), "line 1: expected 'datastore: 1'"),
        (changed(b"kind: ", b"kind:  "), "line 2: expected 'kind: <kind>'"),
        (changed(b"kind: files\n", b""), "line 2: expected 'kind: <kind>', found 'files: 20000'"),
        (changed(b"files: 2", b"files: 02"), "line 3: expected 'files: <count>'"),
        (changed(b"files: 2", b"files: -2"), "line 3: expected 'files: <count>'"),
        (changed(b"files: 2", b"files: +2"), "line 3: expected 'files: <count>'"),
        (changed(b"20000", b"20_000"), "line 3: expected 'files: <count>'"),
        (changed(b"20000", "٣".encode()), "line 3: expected 'files: <count>'"),
        (changed(b"20000", b"2e4"), "line 3: expected 'files: <count>'"),
        (changed(b"20000", b""), "line 3: expected 'files: <count>'"),
        (changed(b"20000", b"9" * 800), "line 3: expected 'files: <count>'"),
        (changed(b"20000", b"9223372036854775808"), "line 3: expected at most 9223372036854775807"),
        (changed(b"bytes: ", b"Bytes: "), "line 4: expected 'bytes: <count>'"),
        (changed(b"bytes: 512034567\n", b"bytes: 5\0\n"), "line 4: expected 'bytes: <count>'"),
        (changed(b"b3:00", b"b3:0g"), "line 5: expected 'root: b3:<64 hexadecimal digits>'"),
        (changed(b"1e1f\n", b"1E1F\n"), "line 5: expected 'root: b3:<64"),
        (changed(b"b3:", b""), "line 5: expected 'root: b3:<64"),
        (changed(b"1e1f\n", b"1e1f \n"), "line 5: expected 'root: b3:<64"),
        (VECTOR + b"\n", "line 6: expected '<key>: <value>', found ''"),
        (VECTOR + b"a: b\n\n", "line 7: expected '<key>: <value>', found ''"),
        (VECTOR + b"Key: value\n", "line 6: expected '<key>: <value>'"),
        (VECTOR + b"key:value\n", "line 6: expected '<key>: <value>'"),
        (VECTOR + b"key: \n", "line 6: expected '<key>: <value>'"),
        (VECTOR + b"key:  value\n", "line 6: expected '<key>: <value>'"),
        (VECTOR + b"key: value \n", "line 6: expected '<key>: <value>'"),
        (VECTOR + b"key: a: b\n", "line 6: expected '<key>: <value>'"),
        (VECTOR + b"key: a:\n", "line 6: expected '<key>: <value>'"),
        (VECTOR + b"key: a # b\n", "line 6: expected '<key>: <value>'"),
        (VECTOR + b"key: [1, 2]\n", "line 6: expected '<key>: <value>'"),
        (VECTOR + b'key: "a"\n', "line 6: expected '<key>: <value>'"),
        (VECTOR + b"key: a\tb\n", "line 6: expected '<key>: <value>'"),
        (VECTOR + b"key: a\rb\n", "line 6: expected '<key>: <value>'"),
        (VECTOR + "key: a\u202eb\n".encode(), "line 6: expected '<key>: <value>'"),
        (VECTOR + "key: a\u2028b\n".encode(), "line 6: expected '<key>: <value>'"),
        (VECTOR + "key: a\x85b\n".encode(), "line 6: expected '<key>: <value>'"),
        (VECTOR + b"files: 3\n", "line 6: expected a key other than 'files'"),
        (VECTOR + b"a: 1\nb: 2\na: 1\n", "line 8: expected a key other than 'a'"),
        (VECTOR + b"ke\xffy: a\n", "line 6 is not UTF-8 text"),
        (VECTOR + b"key: \xed\xa0\x80\n", "line 6 is not UTF-8 text"),
        (VECTOR + b"key: \xc0\x80\n", "line 6 is not UTF-8 text"),
        (VECTOR + b"key: " + b"a" * 1000 + b"\n", "it has 1135 bytes, a pointer has at most 1023"),
    ],
)
def test_what_is_not_the_one_encoding_is_refused_by_line(data, message):
    assert message in refused(data).message


def test_a_long_line_is_not_repeated_in_the_message():
    assert len(refused(b"x" * 900 + b"\n").message) < 200


def test_the_longest_pointer():
    room = MAX_POINTER_BYTES - len(VECTOR) - len("key: \n")
    longest = dataclasses.replace(POINTER, extra=(("key", "a" * room),))
    assert len(longest.encode()) == MAX_POINTER_BYTES
    assert decode(longest.encode()) == longest
    with pytest.raises(FormatError, match="at most 1023 bytes, not 1024"):
        dataclasses.replace(POINTER, extra=(("key", "a" * (room + 1)),))


def test_a_newer_format_says_how_to_upgrade():
    for data in (changed(b"datastore: 1", b"datastore: 2"), b"datastore: 12\r\n" + b"?" * 5000):
        error = refused(data)
        assert "newer than this program" in error.message
        assert "pip install --upgrade datastore-ml" in error.hint


def test_an_unknown_kind_is_named_and_says_how_to_upgrade():
    error = refused(b"datastore: 1\nkind: labels\nformat: coco\n")
    assert "'labels'" in error.message
    assert "line 2" in error.message
    assert "pip install --upgrade datastore-ml" in error.hint


def test_carriage_returns_are_named_with_their_cause():
    error = refused(VECTOR.replace(b"\n", b"\r\n"))
    assert "line 1 ends in CRLF" in error.message
    assert ".gitattributes" in error.message
    assert "datastore git install" in error.hint
    assert "git checkout -- sets/images.ds" in error.hint


@pytest.mark.parametrize(
    "data",
    [
        b"<<<<<<< HEAD\n" + VECTOR + b"=======\n" + VECTOR + b">>>>>>> other\n",
        changed(
            b"files: 20000\n", b"<<<<<<< a\nfiles: 1\n||||||| b\n=======\nfiles: 2\n>>>>>>> c\n"
        ),
        VECTOR.replace(b"\n", b"\r\n") + b"<<<<<<< HEAD\r\n=======\r\n>>>>>>> other\r\n",
        VECTOR + b">>>>>>> a marker that was forgotten\n",
        VECTOR + b"=======",
        b"<<<<<<<<<<<< longer-markers\n" + VECTOR * 20,
    ],
)
def test_conflict_markers_say_how_to_choose_a_side(data):
    with pytest.raises(ConflictError) as caught:
        decode(data)
    assert caught.value.paths == ("sets/images.ds",)
    for words in ("one of the two blocks in sets/images.ds", "datastore checkout"):
        assert words in caught.value.hint


@pytest.mark.parametrize(
    "fields",
    [
        {"kind": "labels"},
        {"kind": "files\n"},
        {"files": -1},
        {"bytes": MAX_COUNT + 1},
        {"root": b"short"},
        {"extra": (("files", "1"),)},
        {"extra": (("a", "1"), ("a", "2"))},
        {"extra": (("A", "1"),)},
        {"extra": (("a\n", "1"),)},
        {"extra": (("a", "1\n"),)},
        {"extra": (("a", "1\nb: 2"),)},
        {"extra": (("a", "\ud800"),)},
        {"extra": (("a", ""),)},
        {"extra": (("a", "- b"),)},
        {"extra": (("a" * 65, "b"),)},
    ],
)
def test_what_has_no_encoding_cannot_be_made(fields):
    with pytest.raises(FormatError):
        dataclasses.replace(POINTER, **fields)


@pytest.mark.parametrize("path", ["images", "a/b c", "a.ds/b", "x.ds", ".hidden", "a\nb", "日本"])
def test_paths_there_and_back(path):
    assert pointer_path(path) == path + ".ds"
    assert data_path(path + ".ds") == path
    assert is_pointer_path(path + ".ds")


@pytest.mark.parametrize("path", ["", ".", "..", "a/", "a/..", "a/.", ".git", "a/.GIT", "a\0b"])
def test_paths_that_no_data_can_have(path):
    assert not is_pointer_path(path + ".ds")
    with pytest.raises(UsageError):
        pointer_path(path)
    with pytest.raises(UsageError):
        data_path(path + ".ds")


@pytest.mark.parametrize("path", ["", "images", "images.dsx", "images.DS", ".ds/a"])
def test_paths_that_no_pointer_has(path):
    assert not is_pointer_path(path)
    with pytest.raises(UsageError):
        data_path(path)
