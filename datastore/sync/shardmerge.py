"""Making one index shard out of many, so that a remote with many pushes stays quick to read."""

from __future__ import annotations

from collections.abc import Container, Iterator, Sequence
from struct import Struct
from typing import Final, NamedTuple

from datastore.sync.shard import ShardPack, assemble, damaged
from datastore.sync.shardreader import Shard

_ROW: Final = Struct("<32sI24s")
"""A row's digest, the ordinal of its pack, and the rest."""


class _Taken(NamedTuple):
    """What is taken of a shard: the packs that no shard before it listed."""

    shard: Shard
    packs: dict[int, str]
    """Names, by ordinal."""


def merge_shards(shards: Sequence[Shard], *, drop: Container[str] = ()) -> bytes | None:
    """Encodes one shard with the rows of several, which it supersedes with all that they supersede.

    The same shards in any order make the same bytes. What is merged is checked first, so that no
    merged shard vouches for what nobody would have believed.

    Args:
        shards: Of one kind, each once.
        drop: Names of packs that are left out.

    Returns:
        The shard; None where nothing is left.

    Raises:
        ValueError: They are none, of several kinds, or have too many rows for one shard.
        CorruptionError: One is damaged, or two do not agree on what a pack holds.
        StorageError: The disk fails.
    """
    ordered = sorted(shards, key=lambda shard: shard.name)
    kinds = {shard.kind for shard in ordered}
    if len(kinds) != 1:
        raise ValueError("only shards of one kind can be merged")
    taken, sizes = _take(ordered, drop)
    count = sum(_count(each) for each in taken)
    if not count:
        return None
    packs = [ShardPack(name, sizes[name]) for name in sorted(sizes)]
    superseded = {name for shard in ordered for name in (shard.name, *shard.superseded)}
    return assemble(kinds.pop(), packs, superseded, count, _rows(taken, packs))


def _take(shards: list[Shard], drop: Container[str]) -> tuple[list[_Taken], dict[str, int]]:
    """Decides which shard each pack's rows are taken from; returns the packs' sizes too."""
    sizes: dict[str, int] = {}
    home: dict[str, Shard] = {}
    taken = []
    for shard in shards:
        shard.check()
        own = {}
        for ordinal, pack in enumerate(shard.packs):
            if pack.name in drop:
                continue
            if pack.name not in home:
                home[pack.name], sizes[pack.name] = shard, pack.size
                own[ordinal] = pack.name
        _compare(shard, home)
        taken.append(_Taken(shard, own))
    return taken, sizes


def _compare(shard: Shard, home: dict[str, Shard]) -> None:
    """Holds packs that an earlier shard listed against it: a shard that lies must not win."""
    again = {
        pack.name: home[pack.name]
        for pack in shard.packs
        if home.get(pack.name, shard) is not shard
    }
    for earlier in {each.name: each for each in again.values()}.values():
        names = {name for name, each in again.items() if each is earlier}
        for one, other in zip(earlier.listings(names), shard.listings(names), strict=True):
            if one != other:
                raise damaged(
                    shard.name, f"{earlier.name} has other things to say of pack {one.name}"
                )


def _count(taken: _Taken) -> int:
    packs = taken.packs
    return sum(
        ordinal in packs
        for bucket in taken.shard.buckets()
        for _, ordinal, _ in _ROW.iter_unpack(bucket)
    )


def _rows(taken: list[_Taken], packs: list[ShardPack]) -> Iterator[bytes]:
    ordinals = {pack.name: ordinal for ordinal, pack in enumerate(packs)}
    for shard, names in taken:
        moved = {ordinal: ordinals[name] for ordinal, name in names.items()}
        for bucket in shard.buckets():
            for digest, ordinal, rest in _ROW.iter_unpack(bucket):
                if ordinal in moved:
                    yield _ROW.pack(digest, moved[ordinal], rest)
