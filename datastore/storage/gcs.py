"""Google Cloud Storage, one request for each call, over the session that gcsfs sets up.

gcsfs knows where credentials are found and renews them. Its own calls are not used: they retry six
times by themselves, copy what they upload, and check it only when it is there already.
"""

from __future__ import annotations

import base64
import hashlib
import json
import logging
import os
from collections.abc import AsyncIterator, Mapping
from typing import Any, Final
from urllib.parse import quote
from uuid import uuid4

import aiohttp
import google.auth.exceptions

# Not from gcsfs itself: what has that name there may ask over gRPC what kind of bucket it is, and
# then does not answer for minutes where a firewall drops that.
from gcsfs.core import GCSFileSystem
from yarl import URL

from datastore.storage.base import Listed
from datastore.storage.body import Body, sent
from datastore.storage.network import explain_network
from datastore.storage.reasons import (
    CHECKSUM,
    CREDENTIALS,
    EXPIRED,
    NO_BUCKET,
    Trouble,
    reason_of_status,
    retry_after_of,
)

# What goes wrong is raised; without a handler it would be printed, too.
for _name in ("gcsfs", "google"):
    logging.getLogger(_name).addHandler(logging.NullHandler())

_STEP: Final = 1024 * 1024  # bytes of a body that are handed over at once
_TIMEOUT: Final = aiohttp.ClientTimeout(total=None, sock_connect=10, sock_read=60)


class _RefusedError(Exception):
    """The server answered, but not what was hoped for."""

    def __init__(
        self, status: int, headers: Mapping[str, str], body: bytes, *, on_object: bool
    ) -> None:
        super().__init__(status)
        self.status = status
        self.headers = headers
        self.body = body
        self.on_object = on_object


class _DamagedError(Exception):
    """The server has other bytes than were sent."""


class GcsCalls:
    """The calls of `datastore.storage.fsspec.Calls` on a bucket.

    Args:
        bucket: Its name.
        options: As `datastore.storage.clouds.check_options` returned them.
    """

    def __init__(self, bucket: str, options: Mapping[str, Any]) -> None:
        self._bucket = quote(bucket, safe="")
        self._options = options
        self._files: Any = None

    async def open(self) -> None:
        """Finds credentials and sets up the session."""
        options = self._options
        project = {"project": options["project"]} if "project" in options else {}
        if "token_file" in options:
            os.stat(options["token_file"])  # gcsfs takes the name of a missing file for a token
        files = GCSFileSystem(
            token="anon" if options.get("anon") else options.get("token_file"),
            endpoint_url=options.get("endpoint_url"),
            session_kwargs={"timeout": _TIMEOUT, "trust_env": True},  # proxies, as curl has them
            use_listings_cache=False,
            skip_instance_cache=True,
            asynchronous=True,
            **project,
        )
        await files._set_session()  # noqa: SLF001
        self._files = files

    async def close(self) -> None:
        """Lets go of all connections."""
        if self._files is not None:
            await self._files.session.close()

    async def read(self, path: str) -> bytes:
        """One GET."""
        return await self._ask("GET", self._object(path), {"alt": "media"})

    async def read_range(self, path: str, start: int, length: int) -> bytes:
        """One GET with a range."""
        headers = {"Range": f"bytes={start}-{start + length - 1}"}
        return await self._ask("GET", self._object(path), {"alt": "media"}, headers)

    async def write(self, path: str, data: bytes) -> None:
        """One POST, that the server refuses when bytes were damaged on the way."""
        await self._put(path, data, {})

    async def create(self, path: str, data: bytes) -> None:
        """One POST with ifGenerationMatch."""
        await self._put(path, data, {"ifGenerationMatch": "0"})

    async def _put(self, path: str, data: bytes, condition: Mapping[str, str]) -> None:
        digest = base64.b64encode(hashlib.md5(data, usedforsecurity=False).digest()).decode()
        boundary = uuid4().hex
        about = json.dumps({"name": path, "md5Hash": digest})
        head = (
            f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n{about}\r\n"
            f"--{boundary}\r\nContent-Type: application/octet-stream\r\n\r\n"
        ).encode()
        tail = f"\r\n--{boundary}--\r\n".encode()
        headers = {
            "Content-Type": f'multipart/related; boundary="{boundary}"',
            "Content-Length": str(len(head) + len(data) + len(tail)),
        }
        body = Body(data)
        server = self._files._location  # noqa: SLF001
        work = self._ask(
            "POST",
            f"{server}/upload/storage/v1/b/{self._bucket}/o",
            {"uploadType": "multipart", **condition},
            headers,
            _parts(head, body, tail),
        )
        answer = json.loads(await sent(body, work))
        if answer.get("md5Hash", digest) != digest:
            raise _DamagedError

    async def size(self, path: str) -> int:
        """One GET of what is known about the object."""
        answer = json.loads(await self._ask("GET", self._object(path), {"fields": "size"}))
        return int(answer["size"])

    async def page(self, prefix: str, token: str | None) -> tuple[list[Listed], str | None]:
        """One GET: up to 1000 names."""
        wanted = {"prefix": prefix, "maxResults": "1000"}
        wanted["fields"] = "items(name,size),nextPageToken"
        if token:
            wanted["pageToken"] = token
        data = await self._ask("GET", self._objects(), wanted)
        try:
            answer = json.loads(data)
            found = [Listed(each["name"], int(each["size"])) for each in answer.get("items", ())]
            return found, answer.get("nextPageToken")
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise _DamagedError from error

    async def delete(self, path: str) -> None:
        """One DELETE."""
        await self._ask("DELETE", self._object(path), {})

    def explain(self, error: BaseException) -> Trouble | None:
        """Understands what was raised; None for what is not about the storage."""
        if isinstance(error, _RefusedError):
            return self._explain_answer(error)
        if isinstance(error, _DamagedError):
            return Trouble(CHECKSUM)
        if isinstance(error, google.auth.exceptions.GoogleAuthError):
            lapsed = isinstance(error, google.auth.exceptions.RefreshError)
            return Trouble(EXPIRED if lapsed else CREDENTIALS, str(error))
        if isinstance(error, (ValueError, OSError)) and self._files is None:
            return Trouble(CREDENTIALS, str(error))  # of gcsfs, which read a file of credentials
        return explain_network(error)

    def _objects(self) -> str:
        return f"{self._files.base}b/{self._bucket}/o"

    def _object(self, path: str) -> str:
        return f"{self._objects()}/{quote(path, safe='')}"

    async def _ask(
        self,
        method: str,
        url: str,
        wanted: Mapping[str, str],
        headers: Mapping[str, str] | None = None,
        data: AsyncIterator[bytes] | None = None,
    ) -> bytes:

        files = self._files
        query = "&".join(f"{name}={quote(str(text), safe='')}" for name, text in wanted.items())
        async with files.session.request(
            method,
            URL(f"{url}?{query}" if query else url, encoded=True),
            headers=files._get_headers(dict(headers or {})),  # noqa: SLF001
            data=data,
        ) as answer:
            body: bytes = await answer.read()
            if answer.status >= 400:
                on_object = "/o/" in url
                raise _RefusedError(answer.status, answer.headers, body, on_object=on_object)
            return body

    def _explain_answer(self, error: _RefusedError) -> Trouble:
        said = _message(error.body)
        reason = reason_of_status(error.status)
        if error.status == 404 and (not error.on_object or "bucket does not exist" in said):
            reason = NO_BUCKET
        elif error.status == 400 and "md5" in said.lower():
            reason = CHECKSUM
        elif error.status == 401 and self._files.credentials.credentials is not None:
            reason = EXPIRED
        return Trouble(reason, said or str(error.status), retry_after_of(error.headers))


async def _parts(head: bytes, body: Body, tail: bytes) -> AsyncIterator[bytes]:
    yield head
    while part := body.read(_STEP):
        yield part
    yield tail


def _message(body: bytes) -> str:
    try:
        fault = json.loads(body)["error"]
        return str(fault["message"] if isinstance(fault, dict) else fault)
    except (ValueError, LookupError, TypeError):
        return body[:300].decode("utf-8", "replace")
