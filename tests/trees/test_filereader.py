"""A stored file reads like a file: against `io.BytesIO`, whatever is asked in whatever order."""

from __future__ import annotations

import io
import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from datastore.errors import CorruptionError, FormatError, NotFoundError, UsageError
from datastore.trees import filereader
from datastore.trees.filereader import FileReader, iter_bytes
from datastore.trees.manifest import Content, ManifestBuilder
from tests.kernel.samples import noise
from tests.trees.contents import MemoryContents

SIZES = (1, 10, 3, 100, 7, 50, 2)


def stored(data, contents=None):
    """Stores data in small chunks, so that a small file has many."""
    contents = MemoryContents() if contents is None else contents
    builder = ManifestBuilder(contents)
    start = number = 0
    while start < len(data):
        piece = data[start : start + SIZES[number % len(SIZES)]]
        builder.add(contents.put_chunk(piece), len(piece))
        start += len(piece)
        number += 1
    return builder.finish(), contents


def opened(data):
    return FileReader(*stored(data))


LENGTHS = [0, 1, 10, 11, 100, 500, 20_000]


@pytest.mark.parametrize("size", LENGTHS)
def test_a_file_is_read_through(size):
    data = noise(size)
    content, contents = stored(data)
    assert b"".join(iter_bytes(content, contents)) == data
    assert FileReader(content, contents).read() == data
    assert io.BufferedReader(FileReader(content, contents)).read() == data


@pytest.mark.parametrize("size", LENGTHS)
def test_a_file_is_read_from_an_offset(size):
    data = noise(size)
    content, contents = stored(data)
    for start in {0, 1, 5, 11, size // 2, max(size - 1, 0), size, size + 1}:
        assert b"".join(iter_bytes(content, contents, start=start)) == data[start:]


def test_a_chunk_that_occurs_often_is_fetched_once_a_batch():
    contents = MemoryContents()
    builder = ManifestBuilder(contents)
    for _ in range(100):
        builder.add(contents.put_chunk(b"again"), 5)
    assert b"".join(iter_bytes(builder.finish(), contents)) == b"again" * 100
    assert len(contents.fetched) == -(-100 // filereader._READ_AHEAD)


def test_only_what_is_needed_is_fetched():
    content, contents = stored(noise(20_000))
    file = FileReader(content, contents)
    assert contents.fetched == contents.read == []
    file.seek(19_999)
    assert file.read(1) == noise(20_000)[-1:]
    assert len(contents.fetched) == 1


def test_memory_is_bounded():
    content, contents = stored(noise(20_000))
    parts = iter_bytes(content, contents)
    next(parts)
    assert len(contents.fetched) <= filereader._READ_AHEAD


# -- as a file -------------------------------------------------------------------------------------


def test_what_a_file_can_do():
    file = opened(b"abc")
    assert isinstance(file, io.RawIOBase)
    assert (file.readable(), file.seekable(), file.writable()) == (True, True, False)
    with file:
        assert file.read(1) == b"a"
        assert file.tell() == 1
    assert file.closed


@pytest.mark.parametrize("use", [lambda file: file.read(1), lambda file: file.seek(0)])
def test_a_closed_file_is_not_read(use):
    file = opened(b"abc")
    file.close()
    with pytest.raises(UsageError, match="closed"):
        use(file)
    with pytest.raises(ValueError, match="closed"):  # what code for files expects
        use(file)


def test_a_seek_to_nowhere_is_refused():
    file = opened(b"abc")
    with pytest.raises(ValueError, match="before the start"):
        file.seek(-1)
    with pytest.raises(ValueError, match="before the start"):
        file.seek(-4, os.SEEK_END)
    with pytest.raises(ValueError, match="cannot seek from 7"):
        file.seek(0, 7)
    assert file.read() == b"abc"


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("read"), st.integers(-1, 300)),
        st.tuples(st.just("readinto"), st.integers(0, 300)),
        st.tuples(st.just("readline"), st.integers(-1, 100)),
        st.tuples(st.just("set"), st.integers(0, 700)),
        st.tuples(st.just("current"), st.integers(-50, 50)),
        st.tuples(st.just("end"), st.integers(-600, 50)),
    ),
    max_size=20,
)


def step(file, kind, number):
    """Takes a step and returns what can be seen of it."""
    if kind == "readinto":
        buffer = bytearray(number)
        count = file.readinto(buffer)
        return bytes(buffer[:count])
    if kind in ("read", "readline"):
        return getattr(file, kind)(number)
    whence = {"set": os.SEEK_SET, "current": os.SEEK_CUR, "end": os.SEEK_END}[kind]
    try:
        return file.seek(number, whence)
    except ValueError:
        return "refused"


@given(size=st.sampled_from([0, 1, 5, 120, 600]), steps=STEPS, buffer=st.integers(1, 200))
def test_a_buffered_file_is_like_bytes(size, steps, buffer):
    data = noise(size)
    file, expected = io.BufferedReader(opened(data), buffer), io.BytesIO(data)
    for kind, number in steps:
        if kind in ("current", "end"):
            # BytesIO stops at the start where a file refuses.
            base = expected.tell() if kind == "current" else size
            assert file.seek(max(0, base + number)) == expected.seek(max(0, base + number))
        else:
            assert step(file, kind, number) == step(expected, kind, number)
        assert file.tell() == expected.tell()


@given(size=st.sampled_from([0, 1, 5, 120, 600]), steps=STEPS)
def test_an_unbuffered_file_is_like_bytes_in_small_pieces(size, steps):
    data = noise(size)
    file, position = opened(data), 0
    for kind, number in steps:
        got = step(file, kind, number)
        if isinstance(got, bytes):
            assert got == data[position : position + len(got)]
            if kind == "read":
                assert len(got) == len(data[position:]) if number < 0 else len(got) <= number
            assert got or number == 0 or position >= size
            position += len(got)
        elif got == "refused":
            assert {"current": position, "end": size, "set": 0}[kind] + number < 0
        else:
            position = got
            assert got == {"current": position, "end": size + number, "set": number}[kind]
        assert file.tell() == position


# -- what goes wrong ------------------------------------------------------------------------------


def test_damage_is_an_error_and_then_not_the_end_of_the_file():
    """Who tries again must not be told that the file ends where the damage begins."""
    data = noise(20_000)
    content, contents = stored(data)
    file = FileReader(content, contents)
    contents.damaged.add(contents.put[400])
    for _ in range(3):
        with pytest.raises(CorruptionError):
            file.read()
    position = file.tell()
    assert 0 < position < len(data) - 100
    contents.damaged.clear()
    assert file.read() == data[position:]


@pytest.mark.parametrize("what", ["chunks", "nodes"])
def test_what_is_missing_is_an_error_each_time(what):
    content, contents = stored(noise(20_000))
    getattr(contents, what).clear()
    file = io.BufferedReader(FileReader(content, contents))
    for _ in range(2):
        with pytest.raises(NotFoundError):
            file.read(10)


def test_an_interrupt_is_no_end_either():
    content, contents = stored(noise(500))
    real = contents.read_chunks

    def interrupted(digests):
        raise KeyboardInterrupt

    file = FileReader(content, contents)
    contents.read_chunks = interrupted
    with pytest.raises(KeyboardInterrupt):
        file.read(1)
    contents.read_chunks = real
    assert file.read() == noise(500)


@pytest.mark.parametrize("step", [-1, 1])
def test_a_manifest_that_lies_about_a_size_is_found_out(step):
    contents = MemoryContents()
    digest = contents.put_chunk(b"abc")
    with pytest.raises(CorruptionError, match="promises"):
        FileReader(Content(3 + step, digest), contents).read()
    builder = ManifestBuilder(contents)
    for _ in range(3):
        builder.add(digest, 3 + step)
    with pytest.raises(CorruptionError, match="promises"):
        list(iter_bytes(builder.finish(), contents))


def test_a_page_that_is_none_is_a_format_error():
    contents = MemoryContents()
    page = contents.put_node(b"no page")
    with pytest.raises(FormatError):
        FileReader(Content(10, page, 1), contents).read()
