"""``fetch``, ``pull`` and ``get``."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from datastore.errors import NotFoundError
from datastore.kernel.hashing import format_digest
from datastore.progress import Progress
from datastore.sharing.eviction import make_room
from datastore.sharing.remotes import open_remote
from datastore.sync.fetch import Fetcher
from datastore.sync.results import FetchResult, PushedRoot
from datastore.trees import files
from datastore.trees.files import FileTree
from datastore.trees.manifest import Content
from datastore.workspace import history, restoring
from datastore.workspace.changes import version_deltas
from datastore.workspace.dataset import keys_within
from datastore.workspace.exporting import write_out
from datastore.workspace.history import Recorded
from datastore.workspace.layout import Place, Workspace
from datastore.workspace.steps import CheckoutResult, PullResult


@contextlib.contextmanager
def fetching(workspace: Workspace, remote: str | None, progress: Progress) -> Iterator[Fetcher]:
    """Lets the store fetch what it lacks from a remote for a while, and tells of it."""
    workspace.config.remote(remote)  # says what is wrong before anything is begun
    before = workspace.store.source
    fetcher = Fetcher(
        workspace.store, lambda traffic: open_remote(workspace, remote, traffic), progress=progress
    )
    workspace.store.source = fetcher
    try:
        yield fetcher
        fetcher.keep()
        make_room(workspace, None)
    finally:
        workspace.store.source = before
        fetcher.close()


def pull(
    workspace: Workspace,
    rev: str | None,
    paths: Sequence[str],
    *,
    out: Path | None,
    force: bool,
    remote: str | None,
    progress: Progress,
) -> PullResult:
    """Brings a version into the workspace, or elsewhere; see `Repository.pull`."""
    with fetching(workspace, remote, progress) as fetcher:
        done: CheckoutResult
        if out is not None:
            done = write_out(workspace, rev, paths, out, progress, force=force, bring=fetcher.begin)
        else:
            if _in_use(workspace, rev, paths):
                # The long part without the locks, so that nobody waits for a network.
                restoring.prepare(workspace, rev, paths, progress, force=force, bring=fetcher.bring)
            done = restoring.checkout(
                workspace, rev, paths, progress, force=force, bring=fetcher.begin
            )
        return PullResult(
            files=sum(each.written for each in done.pointers),
            bytes=sum(each.bytes for each in done.pointers),
            fetched_bytes=fetcher.traffic.bytes_down,
            requests=fetcher.traffic.requests,
            pointers=done.pointers,
            out=str(out) if out is not None else "",
        )


def _in_use(workspace: Workspace, rev: str | None, paths: Sequence[str]) -> bool:
    """Whether some of the data is on disk, where others may want to work with it meanwhile."""
    places = workspace.places(paths, rev)
    return any(workspace.dataset(place.dataset).exists() for place in places)


def fetch(
    workspace: Workspace,
    revs: Sequence[str] | None,
    paths: Sequence[str],
    *,
    all_refs: bool,
    remote: str | None,
    progress: Progress,
) -> FetchResult:
    """Brings versions into the store; see `Repository.fetch`."""
    absent: list[PushedRoot] = []
    count = 0
    with fetching(workspace, remote, progress) as fetcher:
        before: dict[Place, FileTree] = {}
        for place, recorded in _wanted(workspace, revs, paths, all_refs=all_refs):
            try:
                version = files.load(recorded.root, workspace.store)
            except NotFoundError:
                absent.append(PushedRoot(recorded.path, recorded.rev, format_digest(recorded.root)))
                continue
            # Of two versions in a row only what differs has to be looked at.
            fetcher.bring(_contents(workspace, version, place, before.get(place)))
            before[place] = version
            count += 1
        if fetcher.unmet is not None:
            raise fetcher.unmet  # all else was brought, and is kept
        return FetchResult(
            remote=workspace.config.remote(remote).name,
            versions=count,
            packs=fetcher.packs,
            fetched_bytes=fetcher.traffic.bytes_down,
            requests=fetcher.traffic.requests,
            absent=tuple(absent),
        )


def _wanted(
    workspace: Workspace, revs: Sequence[str] | None, paths: Sequence[str], *, all_refs: bool
) -> Iterator[tuple[Place, Recorded]]:
    if all_refs:
        for recorded in history.committed(workspace, None):
            if not paths or any(_is_within(recorded.path, path) for path in paths):
                yield Place(recorded.path, ""), recorded
        return
    for rev in revs or (None,):
        for place in workspace.places(paths, rev):
            pointer = workspace.pointer(place.dataset, rev)
            if pointer is not None:
                yield place, Recorded(place.dataset, rev or "", pointer.root)


def _is_within(dataset: str, path: str) -> bool:
    return not path or dataset == path or dataset.startswith(path + "/")


def _contents(
    workspace: Workspace, version: FileTree, place: Place, before: FileTree | None
) -> Iterator[Content]:
    wanted, start, stop = keys_within(place.inner)
    found = before is not None
    for key, _, value in version_deltas(before, version, workspace.store, start=start, stop=stop):
        if value is not None and files.is_within(key, wanted):
            found = True
            entry = files.decode_entry(value)
            if entry.is_file:
                yield entry.content
    if place.inner and not found:
        raise NotFoundError(
            f"'{place.dataset}/{place.inner}' is not in that version of {place.dataset}",
            hint=f"list it: datastore ls {place.dataset}",
            where=place.inner,
        )
