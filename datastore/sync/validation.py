"""Whether the packs that an index names are still there, and not about to go.

The order is what makes it safe beside a gc at work: tombstones are listed first, and only then is
looked whether packs exist. The other way round a pack could be found, be given its tombstone and be
deleted, and the tombstone removed, all between the two looks.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from datastore.errors import NotFoundError
from datastore.kernel.hashing import pack_hasher
from datastore.progress import Task
from datastore.storage.base import Storage
from datastore.sync.keys import PACKS, TOMBS, pack_key, parse_pack_key, parse_tomb_key
from datastore.sync.transfer import Transfers

_LISTING_FROM: Final = 2
"""More packs than this are looked for in a listing: a request per 1,000 of all packs."""


def find_lost(
    storage: Storage,
    packs: Mapping[str, int],
    transfers: Transfers,
    *,
    seen: Collection[str] = (),
) -> set[str]:
    """Returns the packs that have a tombstone, are gone, or have another size.

    Args:
        storage: The remote.
        packs: Name and size in bytes.
        transfers: Looks for single packs, several at once.
        seen: Packs that this process itself has just sent, and need not be looked for. Too young
            for a gc to have deleted them, they may have a tombstone all the same.
    """
    buried = {parse_tomb_key(listed.key) for listed in storage.list(TOMBS)}
    wanted = {name: size for name, size in packs.items() if name not in seen}
    absent = wanted.keys() - find_present(storage, wanted, transfers)
    return (buried & packs.keys()) | absent


def find_present(storage: Storage, packs: Mapping[str, int], transfers: Transfers) -> set[str]:
    """Returns the packs that are there in their full size."""
    found: dict[str, int | None] = {}
    if len(packs) > _LISTING_FROM:
        found = {parse_pack_key(listed.key): listed.size for listed in storage.list(PACKS)}
    present = {name for name, size in packs.items() if found.get(name) == size}
    # A listing may be stale or cut short: what it lacks is asked for by name.
    doubtful = sorted(packs.keys() - present)
    for name, size, error in transfers.run(
        lambda name: storage.size(pack_key(name)), doubtful, lambda _: 0
    ):
        if error is not None:
            raise error
        if size == packs[name]:
            present.add(name)
    return present


def find_rotten(
    storage: Storage, packs: Mapping[str, int], transfers: Transfers, task: Task
) -> set[str]:
    """Reads packs back, and returns those that are not what their names promise.

    Args:
        storage: The remote.
        packs: Name and size in bytes, of packs that are there.
        transfers: Reads several at once.
        task: Told of bytes read.
    """

    def is_sound(name: str) -> bool:
        hasher = pack_hasher()
        hasher.update(storage.read_range(pack_key(name), 0, packs[name]))
        return hasher.digest().hex() == name.partition("-")[0]

    rotten = set()
    for name, sound, error in transfers.run(is_sound, sorted(packs), lambda name: packs[name]):
        if error is not None and not isinstance(error, NotFoundError):
            raise error
        # Once more: bytes may have been turned on the way.
        if error is not None or not (sound or is_sound(name)):
            rotten.add(name)
        task.advance(packs[name])
    return rotten
