"""A file gets the same content however it is read, and what goes wrong on the way is heard of."""

from __future__ import annotations

import io
import random
import threading

import pytest

from datastore.errors import UsageError
from datastore.kernel.chunking import CHUNKERS, DEFAULT_CHUNKER, WHOLE_FILE_SIZE
from datastore.kernel.hashing import chunk_digest
from datastore.trees import filewriter
from datastore.trees.filewriter import WINDOW, DigestOnly, write_bytes, write_stream
from datastore.trees.manifest import EMPTY_DIGEST, Content, ManifestBuilder, iter_chunks
from tests.kernel.samples import noise, text
from tests.trees.contents import MemoryContents

CHUNKER = CHUNKERS[DEFAULT_CHUNKER]


@pytest.fixture(autouse=True)
def no_thread_is_left():
    before = threading.active_count()
    yield
    assert threading.active_count() == before


@pytest.fixture
def small_windows(monkeypatch):
    """So that files of a megabyte need several."""
    monkeypatch.setattr(filewriter, "WINDOW", 100_000)


def reader(data, sizes=None):
    """Gives the data in pieces of these sizes, as a pipe or a network disk does."""
    file = io.BytesIO(data)

    def read(view):
        limit = len(view) if sizes is None else min(len(view), next(sizes))
        return file.readinto(view[:limit])

    return read


def random_sizes(seed, largest):
    rng = random.Random(seed)
    return iter(lambda: rng.randint(1, largest), None)


def restored(content, contents):
    return b"".join(contents.chunks[ref.digest] for _, ref in iter_chunks(content, contents))


def by_the_rule(data):
    """What the format says, in one go."""
    contents = MemoryContents()
    builder = ManifestBuilder(contents)
    start = 0
    whole = len(data) <= WHOLE_FILE_SIZE
    lengths = [len(data)] if whole else CHUNKER.cut(memoryview(data), final=True)
    for length in lengths:
        if length:
            builder.add(contents.put_chunk(data[start : start + length]), length)
        start += length
    return builder.finish()


# -- small files ----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 100, WHOLE_FILE_SIZE])
def test_a_small_file_is_one_chunk(size):
    contents, data = MemoryContents(), noise(size)
    assert write_bytes(data, contents) == Content(size, chunk_digest(data)) == by_the_rule(data)
    assert contents.chunks == {chunk_digest(data): data}


def test_an_empty_file_is_no_chunk():
    contents = MemoryContents()
    assert write_bytes(b"", contents) == Content(0, EMPTY_DIGEST)
    assert not contents.chunks


def test_a_large_file_is_not_small():
    with pytest.raises(UsageError, match="131073 bytes are not a small file"):
        write_bytes(bytes(WHOLE_FILE_SIZE + 1), MemoryContents())


@pytest.mark.parametrize("size", [0, 1, 9000, WHOLE_FILE_SIZE - 1, WHOLE_FILE_SIZE])
def test_a_small_file_has_the_same_content_as_a_stream(size):
    """A file that shrinks while it is read must not get a name that no other reading gives it."""
    data = noise(size)
    assert write_stream(reader(data), MemoryContents()) == write_bytes(data, MemoryContents())


# -- streams --------------------------------------------------------------------------------------


@pytest.mark.parametrize("make", [noise, text, bytes])
@pytest.mark.parametrize("size", [WHOLE_FILE_SIZE + 1, 300_000, 1_000_001])
def test_a_stream_is_cut_as_the_rule_says(small_windows, make, size):
    contents, data = MemoryContents(), make(size)
    content = write_stream(reader(data), contents)
    assert content == by_the_rule(data)
    assert restored(content, contents) == data


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("largest", [3000, 70_000, 10**6])
def test_it_does_not_matter_what_sizes_reads_return(small_windows, seed, largest):
    data = noise(400_000 + seed)
    content = write_stream(reader(data, random_sizes(seed, largest)), MemoryContents())
    assert content == by_the_rule(data)


def test_a_file_may_end_where_a_window_does(monkeypatch):
    monkeypatch.setattr(filewriter, "WINDOW", 100_000)
    buffer = 100_000 + CHUNKER.max_size
    for size in (buffer - 1, buffer, buffer + 1):
        data = noise(size)
        assert write_stream(reader(data), MemoryContents()) == by_the_rule(data)


def test_a_file_may_end_where_a_window_and_a_chunk_do(monkeypatch):
    """Then the last window is empty."""
    monkeypatch.setattr(filewriter, "WINDOW", CHUNKER.max_size)
    data = bytes(2 * CHUNKER.max_size)  # constant: cut at the maximum
    content = write_stream(reader(data), MemoryContents())
    assert content == by_the_rule(data)
    assert [chunk.size for chunk in content.chunks] == [CHUNKER.max_size] * 2


@pytest.mark.slow
def test_a_file_of_many_windows():
    data = noise(5 * WINDOW + 12345)
    content = write_stream(reader(data, random_sizes(1, WINDOW)), MemoryContents())
    assert content == by_the_rule(data)


def test_progress_is_told_in_bytes(small_windows):
    told = []
    write_stream(reader(noise(700_000)), MemoryContents(), on_bytes=told.append)
    assert sum(told) == 700_000
    assert len(told) > 3


def test_chunks_outlive_the_buffer_that_they_were_read_into(small_windows):
    """The writer keeps them, and compresses them later."""
    kept = []

    class Keeping(MemoryContents):
        def put_chunk(self, data):
            kept.append(data)
            return super().put_chunk(data)

    data = noise(1_000_000)
    write_stream(reader(data), Keeping())
    assert b"".join(kept) == data


def test_pages_are_written(small_windows):
    contents = MemoryContents()
    content = write_stream(reader(noise(1_000_000)), contents)
    assert content.depth == 1
    assert content.digest in contents.nodes


def test_names_are_found_without_storing(small_windows):
    for size in (0, 1, 100_000, 200_000, 1_000_000):
        data = noise(size)
        named = write_stream(reader(data), DigestOnly())
        assert named == write_stream(reader(data), MemoryContents())


# -- what goes wrong ------------------------------------------------------------------------------


class DiskError(Exception):
    pass


@pytest.mark.parametrize("good", [0, 1, 5])
def test_an_error_in_read_comes_out(small_windows, good):
    calls = []

    def read(view):
        calls.append(len(view))
        if len(calls) > good:
            raise DiskError("bad sector")
        count = min(len(view), 50_000)
        view[:count] = noise(count)
        return count

    with pytest.raises(DiskError, match="bad sector"):
        write_stream(read, MemoryContents())


@pytest.mark.parametrize("error", [DiskError, KeyboardInterrupt])
@pytest.mark.parametrize("method", ["put_chunk", "put_node"])
def test_an_error_in_the_writer_comes_out(small_windows, method, error):
    class Failing(MemoryContents):
        pass

    def fail(self, data):
        raise error("disk full")

    setattr(Failing, method, fail)
    with pytest.raises(error, match="disk full"):
        write_stream(reader(noise(1_000_000)), Failing())


def test_an_error_in_progress_comes_out(small_windows):
    def fail(count):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_stream(reader(noise(1_000_000)), MemoryContents(), on_bytes=fail)


def test_reading_stops_when_writing_fails(small_windows):
    """Of an endless file only the window that is being stored is read."""
    calls = []

    def endless(view):
        calls.append(1)
        view[:] = bytes(len(view))
        return len(view)

    class Failing(MemoryContents):
        def put_chunk(self, data):
            raise DiskError

    with pytest.raises(DiskError):
        write_stream(endless, Failing())
    assert len(calls) == 1
