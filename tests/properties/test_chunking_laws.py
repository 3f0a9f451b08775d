"""The laws of chunking: nothing is lost, nothing is too long, and an edit stays where it is."""

from __future__ import annotations

import itertools
from typing import NamedTuple

from hypothesis import example, given
from hypothesis import strategies as st

from datastore.kernel.chunking import CHUNKERS, DEFAULT_CHUNKER
from tests.kernel.samples import SMALL, cut_in_windows, noise, reference, text

DEFAULT = CHUNKERS[DEFAULT_CHUNKER]
NOISE = noise(1_200_000, "laws")
TEXT = text(300_000)


class Run(NamedTuple):
    """A stretch of data in few words, so that a failure can be printed."""

    kind: str
    start: int
    size: int

    def bytes(self):
        if self.kind == "constant":
            return bytes([self.start % 256]) * self.size
        return (NOISE if self.kind == "noise" else TEXT)[self.start : self.start + self.size]


RUNS = st.builds(
    Run,
    st.sampled_from(["noise", "text", "constant"]),
    st.integers(0, 200_000),
    st.integers(0, 90_000) | st.integers(0, 10),
)
FILES = st.lists(RUNS, max_size=4)


def joined(runs):
    return b"".join([run.bytes() for run in runs])


def cuts(chunker, data):
    return list(itertools.accumulate(chunker.cut(memoryview(data), final=True)))


@given(runs=FILES, chunker=st.sampled_from([SMALL, DEFAULT]))
def test_chunks_cover_the_file_and_keep_to_the_bounds(runs, chunker):
    data = joined(runs)
    lengths = chunker.cut(memoryview(data), final=True)
    assert sum(lengths) == len(data)
    assert all(chunker.min_size <= length <= chunker.max_size for length in lengths[:-1])
    assert all(0 < length <= chunker.max_size for length in lengths[-1:])


@given(runs=FILES, sizes=st.lists(st.integers(4000, 100_000), min_size=1, max_size=6))
def test_cuts_do_not_depend_on_windows(runs, sizes):
    data = joined(runs)
    whole = SMALL.cut(memoryview(data), final=True)
    assert cut_in_windows(SMALL, data, itertools.cycle(sizes)) == whole


@given(runs=st.lists(RUNS, max_size=2))
def test_cuts_are_those_of_the_reference(runs):
    data = joined(runs)
    assert SMALL.cut(memoryview(data), final=True) == reference(SMALL, data)


@given(runs=FILES, more=FILES)
def test_what_follows_a_cut_does_not_move_it(runs, more):
    """A cut is decided by the bytes up to it, the byte behind it included."""
    data = joined(runs)
    before, after = cuts(SMALL, data)[:-1], cuts(SMALL, data + joined(more))
    assert after[: len(before)] == before


@given(runs=FILES)
def test_a_chunk_is_cut_alike_wherever_it_stands(runs):
    """Cutting begins anew behind each cut: two files that share one share all that follow it."""
    data = joined(runs)
    whole = cuts(SMALL, data)
    for start in whole[:3]:
        assert [start + cut for cut in cuts(SMALL, data[start:])] == [
            cut for cut in whole if cut > start
        ]


@given(
    position=st.integers(0, len(NOISE)),
    removed=st.integers(0, 50_000),
    inserted=st.binary(max_size=100) | st.integers(0, 50_000).map(lambda size: TEXT[:size]),
)
@example(position=0, removed=0, inserted=b"x")
@example(position=len(NOISE), removed=0, inserted=b"x")
@example(position=600_000, removed=1, inserted=b"")
def test_an_edit_moves_only_the_cuts_near_it(position, removed, inserted):
    """All other chunks are shared: that is what cutting by content is for.

    How soon the old cuts are met again is chance: in 1500 random edits of noise and of text it took
    3.2 times the longest chunk at worst. 16 times is never seen.
    """
    edited = NOISE[:position] + inserted + NOISE[position + removed :]
    shift = len(inserted) - removed
    before, after = cuts(SMALL, NOISE), cuts(SMALL, edited)
    assert [cut for cut in after if cut < position] == [cut for cut in before if cut < position]
    near = position + removed + 16 * SMALL.max_size
    assert [cut for cut in after if cut >= near + shift] == [
        cut + shift for cut in before if cut >= near
    ]
