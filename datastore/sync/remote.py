"""A remote that is spoken to: its marker, its index, the roots it acknowledged."""

from __future__ import annotations

import contextlib
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from datastore.errors import FormatError, NotFoundError, StorageError
from datastore.kernel.hashing import Digest
from datastore.storage.base import Storage
from datastore.storage.counting import Traffic
from datastore.storage.local import storage_error, write_durably
from datastore.storage.reasons import NO_DIRECTORY
from datastore.sync.catalog import Catalog
from datastore.sync.keys import (
    MARKER,
    Marker,
    decode_marker,
    new_marker,
    parse_root_key,
    root_key,
    roots_prefix,
)
from datastore.sync.transfer import Transfers

_INDEX: Final = "index"
_JOURNAL: Final = "uploaded"


class Remote:
    """One remote; a context manager.

    Args:
        name: As the project calls it.
        storage: What is behind its URL; closed with this.
        directory: Where what is known of it is kept. A cache: deleting it loses nothing.
        repository: Under which its roots are; 32 hexadecimal digits.
        jobs: The most transfers at once.
        traffic: What the storage counts its requests and bytes into.
    """

    def __init__(
        self,
        name: str,
        storage: Storage,
        directory: Path,
        *,
        repository: str,
        jobs: int,
        traffic: Traffic,
    ) -> None:
        self.name = name
        self.storage = storage
        self.traffic = traffic
        self.repository = repository
        self._directory = directory
        self._catalog: Catalog | None = None
        self.transfers = Transfers(jobs, abort=storage.close)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def close(self) -> None:
        """Ends what is under way and lets go of connections."""
        self.storage.close()
        self.transfers.close()
        if self._catalog is not None:
            self._catalog.close()
            self._catalog = None

    @property
    def url(self) -> str:
        """Where it is, for people."""
        return self.storage.url

    @property
    def catalog(self) -> Catalog:
        """Its index, as far as it is known; `connect` comes first."""
        if self._catalog is None:
            self._catalog = Catalog(self.storage, self._directory / _INDEX, self.transfers)
        return self._catalog

    def connect(self, *, create: bool) -> None:
        """Reads the marker, so that what is remembered is of this remote and no other.

        Args:
            create: Make a remote where there is none.

        Raises:
            NotFoundError: There is no remote, and none is to be made.
            FormatError: Something else lies there, or a newer version made it.
            StorageError: It cannot be reached.
        """
        data = self._marker(create=create)
        marker = decode_marker(data, self.url)
        if self._remembered() != marker:
            self._forget()
            write_durably(self._directory / MARKER, marker.encode())

    @property
    def is_known(self) -> bool:
        """Whether something was pushed to it, or fetched from it, before."""
        return self._remembered() is not None

    def _marker(self, *, create: bool) -> bytes:
        try:
            return self.storage.read(MARKER)
        except NotFoundError as error:
            if not create and not self.is_known:
                raise NotFoundError(
                    f"nothing was ever pushed to the remote {self.name} ({self.url})",
                    hint="push from the clone that has the data: datastore push",
                    where=self.url,
                ) from error
        except StorageError as error:
            if not create or error.reason != NO_DIRECTORY:
                raise
        if self.is_known:
            # An empty mount point looks the same. What is pushed there would be lost to all others.
            raise NotFoundError(
                f"the remote {self.name} ({self.url}) is empty, but was not when it was last used",
                hint="is the disk mounted, the address right? If it was emptied on purpose, begin "
                f"anew: rm -r '{self._directory}'",
                where=self.url,
            )
        return self._create()

    def _create(self) -> bytes:
        marker = new_marker().encode()
        if self.storage.create(MARKER, marker):
            return marker
        return self.storage.read(MARKER)  # somebody was faster, or our own answer was lost

    def _remembered(self) -> Marker | None:
        try:
            return decode_marker((self._directory / MARKER).read_bytes(), self.url)
        except FileNotFoundError:
            return None
        except FormatError:
            return None  # a cache: what cannot be understood is made again
        except OSError as error:
            # Not as if it were unknown: an unmounted disk would then be taken for a new remote.
            raise storage_error(error, "read", self._directory / MARKER) from error

    def _forget(self) -> None:
        """Drops what was remembered of another remote that lay here."""
        try:
            self._directory.mkdir(parents=True, exist_ok=True)
            index = self._directory / _INDEX
            for path in [*index.glob("*.idx"), self._directory / _JOURNAL]:
                path.unlink(missing_ok=True)
        except OSError as error:
            raise storage_error(error, "write", self._directory) from error

    def roots(self) -> set[Digest]:
        """Lists the roots of this repository that the remote acknowledged."""
        prefix = roots_prefix(self.repository)
        found = (parse_root_key(listed.key) for listed in self.storage.list(prefix))
        return {root for root in found if root is not None}

    def new_root_key(self, root: Digest) -> str:
        """Returns a key under which to acknowledge a root."""
        return root_key(self.repository, root)

    def uploaded(self) -> set[str]:
        """Returns the packs that an interrupted push had sent, by what was noted then."""
        try:
            return set((self._directory / _JOURNAL).read_text("ascii", "replace").split())
        except OSError:
            return set()

    def note_uploaded(self, name: str) -> None:
        """Notes that a pack was sent. Losing a note costs sending the pack again."""
        with (
            contextlib.suppress(OSError),
            (self._directory / _JOURNAL).open("a", encoding="ascii") as file,
        ):
            file.write(name + "\n")

    def forget_uploaded(self) -> None:
        """Drops the notes: what was sent stands in the index now."""
        with contextlib.suppress(OSError):
            (self._directory / _JOURNAL).unlink(missing_ok=True)
