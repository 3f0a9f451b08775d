"""Sending versions: packs, then the index, then a last look, then the roots.

A root stands on the remote only when all that it needs does. Whatever is interrupted before leaves
packs that the next push finds and uses. The protocol is in ``docs/reference/format/remote.md``.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from typing import Final

from datastore.errors import StorageError
from datastore.kernel.hashing import Digest, format_digest
from datastore.objects.store import ObjectStore
from datastore.progress import Progress
from datastore.sync.keys import encode_root
from datastore.sync.merging import merge_small_shards
from datastore.sync.remote import Remote
from datastore.sync.results import PushedRoot, PushResult
from datastore.sync.survey import Survey, Version
from datastore.sync.upload import Upload
from datastore.sync.validation import find_lost, find_rotten

WINDOW: Final = 3.5 * 24 * 3600
"""Seconds from the look at the tombstones within which roots must stand: half of gc's grace."""
_ROUNDS: Final = 8


def _uptime() -> float:
    """Returns a clock that never jumps and goes on while the machine sleeps, where there is one."""
    if hasattr(time, "CLOCK_BOOTTIME"):
        return time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic()


def push(
    versions: Sequence[Version],
    store: ObjectStore,
    remote: Remote,
    *,
    verify: bool = False,
    read_data: bool = False,
    progress: Progress,
    clock: Callable[[], float] = _uptime,
) -> PushResult:
    """Makes versions available on a remote.

    Args:
        versions: Each dataset's in the order of history.
        store: Has them.
        remote: Where to.
        verify: Look also at versions that were acknowledged before, whether all packs that they
            need are there, and send again what is not.
        read_data: With `verify`: read all packs back, and send again what is damaged, too.
        progress: Told of bytes sent.
        clock: Seconds, monotonic.

    Raises:
        CorruptionError: A pack here is damaged.
        StorageError: The remote cannot be reached, or refuses.
    """
    with progress.task("compare", None, "versions") as task:
        task.describe(remote.url)
        remote.connect(create=True)
        there = remote.roots()
        distinct = {version.root: version for version in reversed(versions)}
        todo = [version for version in distinct.values() if version.root not in there]
        if not todo and not verify:
            return _result(remote, [], len(distinct), Upload(store, remote, task), set(), ())
        remote.catalog.refresh()
        remote.catalog.restore()
    if verify:
        _verify(remote, progress, read_data=read_data)
    upload = Upload(store, remote, task)
    healed: set[str] = set()
    absent: dict[Version, int] = {}
    trust = not verify
    begun = clock()
    for _ in range(_ROUNDS):
        wanted = [version for version in versions if version not in absent]
        survey = _survey(wanted, there, store, remote, progress, trust=trust)
        if survey.absent:
            # What nobody here has cannot be sent; it must not keep back what can be.
            survey = _survey(wanted, there, store, remote, progress, trust=trust, alone=True)
            absent |= survey.absent
            continue
        healed |= survey.healed
        total = sum(pack.size for pack in survey.packs.values())
        with progress.task(f"push to {remote.name}", total, "B") as task:
            upload.send(survey.packs.values(), task)
        started = clock()
        # In an upload of weeks, what was sent first may have been buried and deleted meanwhile.
        seen = upload.names if started - begun < WINDOW else ()
        lost = find_lost(remote.storage, remote.catalog.packs(), remote.transfers, seen=seen)
        if lost <= remote.catalog.lost:
            sent = [version for version in todo if version not in absent]
            if _acknowledge(sent, remote, clock, until=started + WINDOW):
                remote.forget_uploaded()
                if verify and not absent:
                    remote.catalog.drop_damaged()
                merge_small_shards(remote)
                return _result(remote, sent, len(distinct) - len(todo), upload, healed, absent)
        remote.catalog.lost |= lost
        trust = False
    raise StorageError(
        f"the remote {remote.name} ({remote.url}) keeps losing what is sent to it",
        hint="is a clean-up rule of the bucket, or another program, deleting objects there?",
        where=remote.url,
    )


def _verify(remote: Remote, progress: Progress, *, read_data: bool) -> None:
    """Finds the packs that can no longer be relied on."""
    catalog = remote.catalog
    packs = catalog.packs()
    catalog.lost |= find_lost(remote.storage, packs, remote.transfers)
    if read_data:
        catalog.rewrite_damaged()
        there = {name: size for name, size in packs.items() if name not in catalog.lost}
        with progress.task(f"read {remote.name}", sum(there.values()), "B") as task:
            catalog.lost |= find_rotten(remote.storage, there, remote.transfers, task)


def _survey(
    versions: Sequence[Version],
    there: set[Digest],
    store: ObjectStore,
    remote: Remote,
    progress: Progress,
    *,
    trust: bool,
    alone: bool = False,
) -> Survey:
    with progress.task("compare", None, "versions") as task:
        survey = Survey(store, remote.catalog, task)
        survey.look(versions, there, trust=trust, alone=alone)
        return survey


def _acknowledge(
    versions: Sequence[Version], remote: Remote, clock: Callable[[], float], *, until: float
) -> bool:
    """Writes roots while the last look is young enough; tells whether it was so to the end.

    A root that comes later must not be written at all: whoever lists it takes it for true, and this
    process may not live to look again.
    """

    def write(version: Version) -> None:
        if clock() >= until:
            return
        key = remote.new_root_key(version.root)
        remote.storage.write(key, encode_root(version.root, version.path, version.rev))

    for outcome in remote.transfers.run(write, versions, lambda _: 0):
        if outcome.error is not None:
            raise outcome.error
    return clock() < until


def _result(
    remote: Remote,
    sent: Sequence[Version],
    known: int,
    upload: Upload,
    healed: set[str],
    absent: Iterable[Version],
) -> PushResult:
    return PushResult(
        remote=remote.name,
        url=remote.url,
        roots=_named(sent),
        known=known,
        packs=len(upload.names),
        bytes=remote.traffic.bytes_up,
        requests=remote.traffic.requests,
        healed=tuple(sorted(healed)),
        absent=_named(absent),
    )


def _named(versions: Iterable[Version]) -> tuple[PushedRoot, ...]:
    return tuple(PushedRoot(v.path, v.rev, format_digest(v.root)) for v in versions)
