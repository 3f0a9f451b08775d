"""Sending packs and telling the index of them."""

from __future__ import annotations

import io
from collections.abc import Collection
from typing import Final

from datastore.errors import CorruptionError
from datastore.kernel.hashing import pack_hasher
from datastore.objects.pack import Kind, Sealed, pack_path
from datastore.objects.packreader import parse_footer
from datastore.objects.store import ObjectStore
from datastore.progress import Task
from datastore.storage.local import storage_error
from datastore.sync.keys import INDEX, new_nonce, pack_key
from datastore.sync.remote import Remote
from datastore.sync.shard import encode_shard, shard_name
from datastore.sync.survey import Pack
from datastore.sync.validation import find_present

_SHARD_ROWS: Final = 200_000
"""So many rows make a shard: 12 MB, and some 80 MB while they are collected and encoded."""


class Upload:
    """One push's sending.

    Args:
        store: Has the packs.
        remote: Where to.
        task: Told of bytes sent; each call of `send` brings its own.
    """

    def __init__(self, store: ObjectStore, remote: Remote, task: Task) -> None:
        self._store = store
        self._remote = remote
        self._task = task
        self._sealed: dict[Kind, list[Sealed]] = {kind: [] for kind in Kind}
        self.names: set[str] = set()
        """Of the packs that were sent, as they are called on the remote."""

    def send(self, packs: Collection[Pack], task: Task) -> None:
        """Sends packs, several at once, and enters them in the index of the remote.

        Raises:
            CorruptionError: A pack here is damaged; it is not sent.
            StorageError: The remote cannot be reached, or refuses.
        """
        self._task = task
        there = self._sent_before(packs)
        # Data first: a node on the remote should not lead to what is still to come.
        ordered = sorted(packs, key=lambda pack: (pack.kind, pack.name))
        for pack, sealed, error in self._remote.transfers.run(
            lambda pack: self._read(pack, there.get(pack.name)),
            ordered,
            lambda pack: pack.size,
        ):
            if error is not None:
                raise error
            if sealed is None:
                continue
            if pack.name not in there:
                self.names.add(sealed.name)
                self._remote.note_uploaded(sealed.name)
            task.advance(pack.size)
            task.describe(pack.path)
            self._collect(sealed)
        for kind in Kind:
            self._write_shard(kind)

    def _sent_before(self, packs: Collection[Pack]) -> dict[str, str]:
        """Finds the packs that an interrupted push had sent, and what they are called there."""
        noted = {_digest(name): name for name in self._remote.uploaded()}
        names = {pack.name: noted.get(_digest(pack.name)) for pack in packs}
        sizes = {name: pack.size for pack in packs if (name := names[pack.name]) is not None}
        there = find_present(self._remote.storage, sizes, self._remote.transfers)
        there -= self._remote.catalog.lost
        return {local: name for local, name in names.items() if name in there}

    def _read(self, pack: Pack, sent_as: str | None) -> Sealed:
        path = pack_path(self._store.packs, pack.name)
        try:
            data = path.read_bytes()
        except OSError as error:
            raise storage_error(error, "read", path) from error
        hasher = pack_hasher()
        hasher.update(data)
        if hasher.digest().hex() != _digest(pack.name):
            raise CorruptionError(
                f"pack {pack.name} is damaged here, so it is not sent",
                where=str(path),
                hint="see what is affected: datastore verify",
            )
        # A name is used once, in all: who is about to delete what has the old one, as two gcs at
        # once may be, must not take this one for it.
        name = sent_as or f"{_digest(pack.name)}-{new_nonce().hex()}"
        if sent_as is None:
            self._remote.storage.write(pack_key(name), data)
        return parse_footer(io.BytesIO(data), path)._replace(name=name)

    def _collect(self, sealed: Sealed) -> None:
        collected = self._sealed[sealed.kind]
        collected.append(sealed)
        if sum(len(each.digests) for each in collected) >= _SHARD_ROWS:
            self._write_shard(sealed.kind)

    def _write_shard(self, kind: Kind) -> None:
        collected = self._sealed[kind]
        if not collected:
            return
        self._sealed[kind] = []
        data = encode_shard(kind, collected)
        name = shard_name(data, kind, new_nonce())
        self._remote.storage.write(INDEX + name, data)
        self._remote.catalog.adopt(name, data)


def _digest(name: str) -> str:
    return name.partition("-")[0]
