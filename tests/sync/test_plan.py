"""What is fetched whole, what in ranges, and which of several places is chosen."""

from __future__ import annotations

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from datastore.objects.pack import Kind
from datastore.sync.plan import (
    GAP,
    MAX_RANGE,
    SMALL_PACK,
    Span,
    Wanted,
    block_span,
    choose,
    coalesce,
    gather,
    plan_loads,
)
from datastore.sync.shard import Place

MIB = 1024 * 1024


def place(pack: str, offset: int, stored: int = 1000, members: int = 1) -> Place:
    return Place(pack, offset, stored, stored, members, 0, 0, stored)


def wanted(size: int, *blocks: tuple[int, int], pack: str = "p") -> Wanted:
    return Wanted(pack, Kind.DATA, size, tuple(Span(*block) for block in blocks))


def test_a_block_is_fetched_with_its_header():
    assert block_span(place("p", 16, stored=1000, members=3)) == Span(16, 24 + 3 * 4 + 1000)


def test_what_lies_close_together_is_one_range():
    near = [Span(0, 10), Span(10 + GAP, 10)]
    far = [Span(0, 10), Span(11 + GAP, 10)]
    assert coalesce(near) == [Span(0, 20 + GAP)]
    assert coalesce(far) == far


def test_a_range_has_an_end():
    blocks = [Span(at * MIB, MIB) for at in range(40)]
    joined = coalesce(blocks)
    assert [span.length for span in joined] == [MAX_RANGE, MAX_RANGE, 8 * MIB]


def test_ranges_that_a_shard_lies_about_are_covered_too():
    """Two rows that do not agree on where a block ends must not hide one of the blocks."""
    assert coalesce([Span(0, 100), Span(10, 20)]) == [Span(0, 100)]


@given(
    st.lists(st.tuples(st.integers(0, 10_000), st.integers(1, 500)), max_size=30),
    st.integers(0, 300),
    st.integers(1, 2000),
)
def test_every_block_lies_in_one_range(blocks, gap, most):
    at = 0
    spans = []
    for skip, length in blocks:
        spans.append(Span(at + skip % 400, length))
        at = spans[-1].end
    joined = coalesce(spans, gap=gap, most=most)
    for span in spans:
        assert sum(each.start <= span.start and span.end <= each.end for each in joined) == 1
    assert all(one.end <= other.start for one, other in pairwise(joined))
    assert all(each.length <= most or each in spans for each in joined)
    asked = sum(each.length for each in joined)
    assert asked <= sum(each.length for each in spans) + gap * len(spans)


def test_a_small_pack_comes_whole():
    (load,) = plan_loads([wanted(SMALL_PACK, (16, 100))])
    assert load.whole
    assert load.span == Span(0, SMALL_PACK)
    assert load.blocks == (Span(16, 100),)


def test_a_pack_of_which_half_is_wanted_comes_whole():
    (load,) = plan_loads([wanted(4 * MIB, (16, 2 * MIB))])
    assert load.whole
    loads = plan_loads([wanted(4 * MIB, (16, 2 * MIB - 1))])
    assert [each.whole for each in loads] == [False]


def test_an_eager_pack_comes_whole():
    (load,) = plan_loads([wanted(4 * MIB, (16, 100))], eager=["p"])
    assert load.whole
    assert load.blocks == (Span(16, 100),)


def test_ranges_name_their_blocks():
    blocks = [(16, 100), (200, 100), (2 * MIB, 100)]
    loads = plan_loads([wanted(4 * MIB, *blocks)])
    assert [load.span for load in loads] == [Span(16, 284), Span(2 * MIB, 100)]
    assert [load.blocks for load in loads] == [
        (Span(16, 100), Span(200, 100)),
        (Span(2 * MIB, 100),),
    ]


def test_of_several_places_that_where_most_is_wanted_is_chosen():
    places = {
        b"a": [place("few", 16), place("many", 16)],
        b"b": [place("many", 5000)],
        b"c": [place("many", 9000)],
    }
    assert {each.pack for each in choose(places).values()} == {"many"}


def test_blocks_are_gathered_once_each():
    places = [place("p", 16), place("p", 16), place("q", 500), place("p", 9000)]
    found = {each.pack: each for each in gather(places, Kind.META, {"p": 20_000, "q": 600})}
    assert found["p"].blocks == (Span(16, 1028), Span(9000, 1028))
    assert found["p"].bytes == 2056
    assert (found["q"].size, found["q"].kind) == (600, Kind.META)
