"""Where a store turns for what this disk does not have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

from datastore.errors import CorruptionError
from datastore.kernel.hashing import Digest, format_digest
from datastore.objects.pack import Kind


class Source(Protocol):
    """Somewhere else, such as a remote, that has chunks and nodes."""

    @property
    def name(self) -> str:
        """What people call it, such as ``the remote origin``."""
        ...

    def fetch(self, digests: Sequence[Digest], kind: Kind) -> dict[Digest, bytes]:
        """Returns what it could get, verified.

        It may also bring whole packs into the store, and leave out of its answer what is in them.

        Raises:
            StorageError: The disk or the network fails.
        """
        ...


def fetch_verified(
    source: Source | None, digests: Sequence[Digest], kind: Kind
) -> dict[Digest, bytes]:
    """Asks a source, where there is one, and believes it no more than a disk.

    Returns:
        Those of the digests that the source gave, with their bytes.

    Raises:
        CorruptionError: What the source gave is not what the digest names.
        StorageError: The disk or the network fails.
    """
    given = source.fetch(digests, kind) if source is not None else {}
    fetched = {digest: given[digest] for digest in digests if digest in given}
    for digest, data in fetched.items():
        actual = kind.digest(data)
        if actual != digest:
            raise CorruptionError(
                f"what was fetched for {format_digest(digest)} is something else",
                expected=format_digest(digest),
                actual=format_digest(actual),
                hint="the copy that it came from is damaged: take it from another one",
            )
    return fetched
