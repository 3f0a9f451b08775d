"""From a url to a `Storage`: the one way in for everything above.

``file://`` urls and plain paths are directories; ``s3://bucket/prefix``, ``gs://bucket/prefix`` and
``az://container/prefix`` are clouds; ``sftp://user@host:port/path`` is a directory over SSH;
``memory://name`` lasts as long as the process.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import SplitResult, unquote, urlsplit

from datastore.errors import UsageError
from datastore.storage.base import Storage
from datastore.storage.clouds import Cloud, check_options, cloud_of, load_module
from datastore.storage.counting import Counted, Traffic
from datastore.storage.directory import DirectoryStorage
from datastore.storage.keys import is_key
from datastore.storage.retry import PATIENCE, Patience, Retrying
from datastore.storage.throttle import Throttled

DEFAULT_JOBS: Final = 16
"""Calls that may be under way at once."""

_SCHEME: Final = re.compile(r"[a-zA-Z][a-zA-Z0-9+.-]+:")  # one letter is a drive


class Place(NamedTuple):
    """A url taken apart, nothing in it looked at yet."""

    cloud: Cloud
    url: str
    """As people write it, without a slash at the end."""
    host: str
    """The bucket, container, server or name."""
    path: str
    """Within it: for clouds without a slash at either end."""
    user: str = ""
    port: int | None = None


def parse_url(url: str) -> Place:
    """Takes a url or a path apart.

    Raises:
        UsageError: It is of no known kind, incomplete, or holds a password.
    """
    if not url or "\0" in url:
        raise UsageError(f"{url!r} is not a url or a path")
    if not _SCHEME.match(url):
        return _directory(Path(url))
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise UsageError(f"{url!r} is not a url: {error}") from error
    cloud = cloud_of(parts.scheme)
    _refuse_secrets(cloud, parts, url)
    if cloud.scheme == "file":
        if parts.netloc not in {"", "localhost"} or not parts.path.startswith("/"):
            raise UsageError(
                f"{url!r} is not the url of a directory", hint="Write file:///path, or a path."
            )
        return _directory(Path(unquote(parts.path)))
    if not parts.hostname:
        raise UsageError(f"{url!r} does not say where", hint=f"Write {_example(cloud)}.")
    if cloud.scheme == "sftp":
        return _server(cloud, parts, port)
    return _bucket(cloud, parts, url)


def open_storage(
    url: str,
    options: Mapping[str, Any] | None = None,
    *,
    jobs: int = DEFAULT_JOBS,
    traffic: Traffic | None = None,
    patience: Patience = PATIENCE,
) -> Storage:
    """Opens the storage at a url; connects to nothing yet.

    What it returns tries again what may pass, keeps to what the server can take, and counts.

    Args:
        url: A url, or the path of a directory.
        options: Of its kind: see `datastore.storage.clouds.CLOUDS`.
        jobs: Calls that may be under way at once; at least 1.
        traffic: What requests and bytes are counted into.
        patience: How long to go on with a call that fails.

    Raises:
        UsageError: The url or an option is wrong, or a package is not installed.
    """
    if jobs < 1:
        raise UsageError(f"at least 1 job is needed, not {jobs}")
    place = parse_url(url)
    checked = check_options(place.cloud.scheme, options or {})
    storage = STORAGES[place.cloud.scheme](place, checked, jobs)
    counted = Counted(storage, traffic or Traffic())
    return Retrying(Throttled(counted, jobs=jobs), patience)


# -- what each scheme opens ------------------------------------------------------------------------

Options = Mapping[str, Any]


def _open_directory(place: Place, _options: Options, _jobs: int) -> Storage:
    return DirectoryStorage(Path(place.path))


def _open_memory(place: Place, _options: Options, _jobs: int) -> Storage:
    from datastore.storage.fsspec import FsspecStorage, MemoryCalls  # noqa: PLC0415

    return FsspecStorage(place.url, _prefix(place), lambda: MemoryCalls(place.host))


def _open_s3(place: Place, options: Options, jobs: int) -> Storage:
    adapter = load_module(place.cloud, "datastore.storage.s3")
    return _over_fsspec(place, lambda: adapter.S3Calls(place.host, options, jobs=jobs))


def _open_gcs(place: Place, options: Options, _jobs: int) -> Storage:
    adapter = load_module(place.cloud, "datastore.storage.gcs")
    return _over_fsspec(place, lambda: adapter.GcsCalls(place.host, options))


def _open_azure(place: Place, options: Options, _jobs: int) -> Storage:
    adapter = load_module(place.cloud, "datastore.storage.azure")
    return _over_fsspec(place, lambda: adapter.AzureCalls(place.host, options))


def _open_sftp(place: Place, options: Options, jobs: int) -> Storage:
    adapter = load_module(place.cloud, "datastore.storage.sftp")
    login = adapter.Login(
        host=place.host,
        port=place.port or 22,
        user=place.user,
        key_file=options.get("key_file"),
        known_hosts=options.get("known_hosts"),
    )
    storage: Storage = adapter.SftpStorage(place.url, place.path, login, jobs=jobs)
    return storage


def _over_fsspec(place: Place, connect: Callable[[], Any]) -> Storage:
    from datastore.storage.fsspec import FsspecStorage  # noqa: PLC0415

    return FsspecStorage(place.url, _prefix(place), connect)


STORAGES: Final[dict[str, Callable[[Place, Options, int], Storage]]] = {
    "file": _open_directory,
    "memory": _open_memory,
    "s3": _open_s3,
    "gs": _open_gcs,
    "az": _open_azure,
    "sftp": _open_sftp,
}
"""What opens each scheme, without the wrappers that `open_storage` puts around it."""


# -- parts of urls -----------------------------------------------------------------------------


def _directory(path: Path) -> Place:
    absolute = Path(os.path.abspath(path))
    return Place(cloud_of("file"), absolute.as_uri(), "", str(absolute))


def _bucket(cloud: Cloud, parts: SplitResult, url: str) -> Place:
    if parts.query or parts.fragment or parts.port is not None:
        raise UsageError(
            f"{url!r} says more than a bucket and a path",
            hint="Options are set on the remote, not in its url.",
        )
    path = unquote(parts.path).strip("/")
    if path and not is_key(path):
        raise UsageError(f"the path of {url!r} cannot be used", hint=f"Write {_example(cloud)}.")
    host = parts.netloc  # not .hostname, which is in lower case
    return Place(cloud, f"{cloud.scheme}://{host}" + (f"/{path}" if path else ""), host, path)


def _server(cloud: Cloud, parts: SplitResult, port: int | None) -> Place:
    path = unquote(parts.path).rstrip("/")
    if not path:
        raise UsageError(
            f"{parts.geturl()!r} does not say which directory", hint=f"Write {_example(cloud)}."
        )
    user = f"{parts.username}@" if parts.username else ""
    host = f"{user}{parts.hostname}" + (f":{port}" if port else "")
    return Place(
        cloud,
        f"{cloud.scheme}://{host}{path}",
        str(parts.hostname),
        path,
        parts.username or "",
        port,
    )


def _refuse_secrets(cloud: Cloud, parts: SplitResult, url: str) -> None:
    if parts.password is None and (cloud.scheme == "sftp" or "@" not in parts.netloc):
        return
    shown = url.replace(parts.netloc, parts.netloc.rpartition("@")[2], 1)
    raise UsageError(
        f"the url {shown!r} was given with a user name or password in it",
        hint=f"Secrets are not kept in settings. Use {cloud.secrets or 'none'}.",
        where=shown,
    )


def _prefix(place: Place) -> str:
    return f"{place.path}/" if place.path else ""


def _example(cloud: Cloud) -> str:
    examples = {"sftp": "sftp://user@host/path", "az": "az://container/path"}
    return examples.get(cloud.scheme, f"{cloud.scheme}://bucket/path")
