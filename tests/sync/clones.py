"""Clones of a project without Git: a store each, and the words that tests speak of remotes."""

from __future__ import annotations

import contextlib
import io
import shutil
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from datastore.objects.store import ObjectStore
from datastore.progress import SILENT
from datastore.storage.base import Storage
from datastore.storage.counting import Counted, Traffic
from datastore.sync.fetch import Fetcher
from datastore.sync.push import push
from datastore.sync.remote import Remote
from datastore.sync.results import PushResult
from datastore.sync.survey import Version
from datastore.trees import files
from datastore.trees.filereader import iter_bytes
from datastore.trees.files import Entry, Kind
from datastore.trees.filewriter import write_stream
from tests.sync.bucket import Bucket, Client

REPOSITORY = "0123456789abcdef" * 2

Files = dict[str, bytes]


class Clone:
    """One clone: a store, and what it remembers of a remote.

    Args:
        directory: Where it lies.
        bucket: The remote.
        jobs: Transfers at once; one, so that requests come in one order.
    """

    def __init__(self, directory: Path, bucket: Bucket, *, jobs: int = 1) -> None:
        self.directory = directory
        self.bucket = bucket
        self.jobs = jobs
        self.store = ObjectStore(directory)
        self.traffic = Traffic()

    def close(self) -> None:
        self.store.close()

    @property
    def known(self) -> Path:
        """What is remembered of the remote."""
        return self.directory / "remotes" / "one"

    def version(self, contents: Files, *, path: str = "images", rev: str = "") -> Version:
        """Stores a version."""
        with self.store.session() as session:
            rows = []
            for name, data in sorted(contents.items()):
                content = write_stream(io.BytesIO(data).readinto, session)
                rows.append((name.encode(), files.encode_entry(Entry(Kind.FILE, content))))
            tree = files.build(rows, session)
            size = sum(map(len, contents.values()))
            sealed = files.seal(tree, len(contents), size, session)
            session.commit()
        return Version(path, rev, sealed.root)

    def remote(self, storage: Storage | None = None, traffic: Traffic | None = None) -> Remote:
        """Opens the remote."""
        counted = traffic or Traffic()
        return Remote(
            "origin",
            Counted(storage or Client(self.bucket), counted),
            self.known,
            repository=REPOSITORY,
            jobs=self.jobs,
            traffic=counted,
        )

    def push(
        self, *versions: Version, storage: Storage | None = None, **options: Any
    ) -> PushResult:
        with self.remote(storage) as remote:
            return push(versions, self.store, remote, progress=SILENT, **options)

    @contextlib.contextmanager
    def fetching(self, storage: Storage | None = None) -> Iterator[Fetcher]:
        """Lets the store fetch what it lacks."""
        fetcher = Fetcher(self.store, lambda traffic: self.remote(storage, traffic))
        self.store.source = fetcher
        try:
            yield fetcher
        finally:
            self.store.source = None
            fetcher.close()

    def read(self, root: bytes, names: Sequence[str] | None = None) -> Files:
        """Reads a version's files, or some, through the store."""
        version = files.load(root, self.store)
        return {
            name: b"".join(iter_bytes(entry.content, self.store))
            for name, entry in files.entries(version, self.store)
            if names is None or name in names
        }

    def pull(self, root: bytes, storage: Storage | None = None) -> Files:
        """Brings a version and reads it."""
        with self.fetching(storage) as fetcher:
            version = files.load(root, self.store)
            entries = files.entries(version, self.store)
            fetcher.bring(entry.content for _, entry in entries if entry.is_file)
            return self.read(root)


MakeClone = Callable[..., Clone]


def pulled_afresh(bucket: Bucket, directory: Path, root: bytes) -> Files:
    """Pulls a version into a clone that is made for it."""
    clone = Clone(directory, bucket)
    try:
        return clone.pull(root)
    finally:
        clone.close()
        shutil.rmtree(directory)
