"""From a remote's name in the settings to a remote that is spoken to."""

from __future__ import annotations

import os
from typing import Final

from datastore.errors import DatastoreError, FormatError, NotFoundError, StorageError
from datastore.kernel.hashing import checksum
from datastore.storage.counting import Traffic
from datastore.storage.places import open_storage
from datastore.storage.reasons import NO_DIRECTORY
from datastore.sync.fetch import Fetcher
from datastore.sync.remote import Remote
from datastore.workspace.diagnosis import Check
from datastore.workspace.layout import Workspace
from datastore.workspace.remotes import RemoteCheck, inherit_remotes, repository_id

_KNOWN: Final = "remotes"
"""In the store's directory: what is remembered of remotes."""


def open_remote(workspace: Workspace, name: str | None, traffic: Traffic | None = None) -> Remote:
    """Opens a remote, without a request yet.

    Args:
        workspace: Whose settings name it.
        name: The default remote where None.
        traffic: What its requests and bytes are counted into.

    Raises:
        UsageError: There is no such remote, or its URL or options cannot be used.
    """
    settings = workspace.config.remote(name)
    url = settings.located(workspace.top)
    counted = traffic or Traffic()
    jobs = workspace.config.jobs
    storage = open_storage(url, settings.options, jobs=jobs, traffic=counted)
    # One bucket's name may stand for another bucket at another endpoint.
    place = f"{url}\0{settings.options.get('endpoint_url', '')}"
    directory = workspace.home / _KNOWN / f"{checksum(os.fsencode(place)):016x}"
    return Remote(
        settings.name,
        storage,
        directory,
        repository=repository_id(workspace),
        jobs=jobs,
        traffic=counted,
    )


def attach(workspace: Workspace) -> Fetcher | None:
    """Lets the store fetch what it lacks from the default remote, if there is one."""
    inherit_remotes(workspace)
    if not workspace.config.default_remote:
        return None
    fetcher = Fetcher(workspace.store, lambda traffic: open_remote(workspace, None, traffic))
    workspace.store.source = fetcher
    return fetcher


def check_remote(workspace: Workspace, name: str | None) -> RemoteCheck:
    """Tries a remote out: reading, listing, writing, and the one write that must not replace.

    What it writes it removes. A remote that can be read and not written is told as such; `pull`
    and `fetch` work with it all the same.

    Raises:
        UsageError: There is no such remote, or its URL or options cannot be used.
    """
    with open_remote(workspace, name) as remote:
        reading, begun = _reading(remote)
        checks = [reading]
        if begun:
            checks.append(_listing(remote))
        if reading.ok:
            checks.append(_writing(remote))
        return RemoteCheck(
            ok=all(check.ok for check in checks),
            remote=remote.name,
            url=remote.url,
            checks=tuple(checks),
        )


def _reading(remote: Remote) -> tuple[Check, bool]:
    """Tries to read; tells also whether there is anything to be listed."""
    try:
        remote.connect(create=False)
    except NotFoundError as error:
        if remote.is_known:
            return Check("read", False, error.message, error.hint), False
        return Check("read", True, "it can be reached; nothing was pushed to it yet"), False
    except StorageError as error:
        if error.reason == NO_DIRECTORY and not remote.is_known:
            text = "the directory is not there yet; the first push makes it"
            return Check("read", True, text), False
        return Check("read", False, error.message, error.hint), False
    except FormatError as error:
        return Check("read", False, error.message, error.hint), False
    return Check("read", True, "it can be reached, and holds a datastore"), True


def _listing(remote: Remote) -> Check:
    try:
        count = len(remote.roots())
    except DatastoreError as error:
        return Check("list", False, error.message, error.hint)
    return Check("list", True, f"{count} version(s) of this project are there")


def _writing(remote: Remote) -> Check:
    storage = remote.storage
    key = f"datastore-check-{os.urandom(8).hex()}"
    data = os.urandom(64)
    try:
        made, again = storage.create(key, data), storage.create(key, b"another")
        found = storage.read(key)
        storage.delete(key)
    except DatastoreError as error:
        hint = error.hint or "pull works all the same"
        return Check("write", False, f"{error.message}", hint)
    if found != data:
        return Check("write", False, "what was written comes back as something else", "")
    if not made or again:
        return Check(
            "write",
            False,
            "it lets an object be replaced that was to be created only",
            "two first pushes at once could then both believe to have made the remote; "
            "let one person push first",
        )
    return Check("write", True, "objects can be written, read back and removed")
