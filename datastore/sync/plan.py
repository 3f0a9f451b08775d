"""Deciding what to fetch, and how: whole packs where most is wanted, else ranges. Pure."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import Final, NamedTuple

from datastore.kernel.hashing import Digest
from datastore.objects.pack import Kind
from datastore.sync.shard import Place

GAP: Final = 256 * 1024
"""Bytes between two ranges that are rather read than asked for around: at 20 ms and 20 MB/s."""
MAX_RANGE: Final = 16 * 1024 * 1024
"""Bytes that one request asks for, unless it is for a whole pack."""
SMALL_PACK: Final = 512 * 1024
"""A pack up to this size in bytes is fetched whole, whatever is wanted of it."""


class Span(NamedTuple):
    """A range of bytes."""

    start: int
    length: int

    @property
    def end(self) -> int:
        """Offset of the first byte after it."""
        return self.start + self.length


class Load(NamedTuple):
    """One thing to fetch: a whole pack, or a range of one."""

    pack: str
    kind: Kind
    span: Span
    whole: bool
    blocks: tuple[Span, ...]
    """The blocks that are wanted in the range; of a whole pack, those that are wanted at all."""


class Wanted(NamedTuple):
    """What is wanted of one pack."""

    pack: str
    kind: Kind
    size: int
    """Of the pack, in bytes."""
    blocks: tuple[Span, ...]
    """Sorted, each once."""

    @property
    def bytes(self) -> int:
        """Sum of the blocks' sizes."""
        return sum(block.length for block in self.blocks)


def coalesce(spans: Sequence[Span], *, gap: int = GAP, most: int = MAX_RANGE) -> list[Span]:
    """Joins ranges that lie close together.

    Args:
        spans: Sorted, not overlapping.
        gap: The most bytes between two that are joined.
        most: The most bytes that a joined range has.
    """
    joined: list[Span] = []
    for span in spans:
        last = joined[-1] if joined else None
        if last and span.start - last.end <= gap and span.end - last.start <= most:
            # Not the end of `span` in any case: where shards lie, one may lie within another.
            joined[-1] = Span(last.start, max(last.end, span.end) - last.start)
        else:
            joined.append(span)
    return joined


def block_span(place: Place) -> Span:
    """Returns where a whole block lies in its pack, header included."""
    return Span(place.offset, place.payload + place.stored - place.offset)


def choose(places: Mapping[Digest, Sequence[Place]]) -> dict[Digest, Place]:
    """Chooses a place for each digest: of several, in the pack that most is wanted of."""
    wanted = Counter(place.pack for listed in places.values() for place in listed)
    return {
        digest: listed[0] if len(listed) == 1 else max(listed, key=lambda each: wanted[each.pack])
        for digest, listed in places.items()
    }


def gather(places: Iterable[Place], kind: Kind, sizes: Mapping[str, int]) -> list[Wanted]:
    """Groups places by pack.

    Args:
        places: One for each digest that is wanted; packs come in the order of the first of theirs.
        kind: Of the packs.
        sizes: Of the packs, in bytes.
    """
    packs: dict[str, set[Span]] = defaultdict(set)
    for place in places:
        packs[place.pack].add(block_span(place))
    return [
        Wanted(name, kind, sizes[name], tuple(sorted(blocks))) for name, blocks in packs.items()
    ]


def plan_loads(wanted: Iterable[Wanted], *, eager: Iterable[str] = ()) -> list[Load]:
    """Decides how to fetch what is wanted.

    Args:
        wanted: By pack.
        eager: Names of packs to fetch whole, as they are asked for again and again.
    """
    whole = set(eager)
    loads = []
    for each in wanted:
        if each.pack in whole or each.size <= SMALL_PACK or 2 * each.bytes >= each.size:
            span = Span(0, each.size)
            loads.append(Load(each.pack, each.kind, span, whole=True, blocks=each.blocks))
            continue
        for span in coalesce(each.blocks):
            inside = tuple(b for b in each.blocks if span.start <= b.start and b.end <= span.end)
            loads.append(Load(each.pack, each.kind, span, whole=False, blocks=inside))
    return loads
