"""A Google Cloud Storage that can be tested against: gcp-storage-emulator without its faults.

As it comes, the emulator answers one request at a time on a connection of its own, ignores
``ifGenerationMatch``, gives the whole object where its end was asked for, lists without pages, and
cuts a last byte off that is a carriage return. Its routes and its storage in memory are used here;
reading requests, conditions, ranges and pages are ours.

Run as a program, with a port: ``python -m tests.servers.gcs_emulator 9023``.
"""

from __future__ import annotations

import json
import re
import sys
import threading
from collections.abc import Callable
from functools import partial
from http import HTTPStatus
from http.server import ThreadingHTTPServer
from typing import Any

from gcp_storage_emulator import server as stock
from gcp_storage_emulator.exceptions import NotFound
from gcp_storage_emulator.handlers import objects
from gcp_storage_emulator.storage import Storage

_ROUTES = [(re.compile(pattern), handlers) for pattern, handlers in stock.HANDLERS]
_PAGE = 1000
"""Objects that one answer lists at most, as on the real server."""


class Memory(Storage):
    """Objects in memory."""

    def __init__(self) -> None:
        super().__init__(use_memory_fs=True)

    def _write_config_to_file(self) -> None:
        """Does nothing: the emulator describes all of its objects anew after each upload."""


class Request(stock.Request):
    """A request whose body is read as it was sent."""

    @property
    def data(self) -> Any:
        if self._data is stock._UNSET:
            boundary = self._boundary()
            if boundary is None:
                return super().data
            self._data = _parts(stock._read_raw_data(self._request_handler), boundary)
        return self._data

    def _boundary(self) -> bytes | None:
        content_type = self.get_header("Content-Type") or ""
        found = re.match(r'multipart/related;.*boundary="?([^";]+)', content_type)
        return found[1].encode() if found else None


def _parts(raw: bytes, boundary: bytes) -> dict[str, Any]:
    """Takes an upload apart, which is its description and its content.

    The parts are separated by the line end that the client uses: content may end in any byte.
    """
    line = b"--" + boundary
    end = b"\r\n" if raw.startswith(line + b"\r\n") else b"\n"
    description = raw.index(end + end) + 2 * len(end)
    after = raw.index(end + line + end, description)
    fields = after + len(end + line + end)
    content = raw.index(end + end, fields) + 2 * len(end)
    kind = re.search(rb"(?i)content-type:\s*([^\r\n;]+)", raw[fields:content])
    return {
        "meta": json.loads(raw[description:after]),
        "content": raw[content : raw.rindex(end + line + b"--")],
        "content-type": kind[1].decode() if kind else "application/octet-stream",
    }


class Handler(stock.RequestHandler):
    """One client's connection."""

    protocol_version = "HTTP/1.1"  # keeps the connection
    disable_nagle_algorithm = True
    wbufsize = 1 << 16

    lock = threading.RLock()  # the storage is a plain dictionary

    def _serve(self) -> None:
        request = Request(self, self.headers.get("x-http-method-override") or self.command)
        response = stock.Response(self)
        wanted = self.headers.get("Range")
        del self.headers["Range"]  # _cut_out does that
        handler = _route(request)
        _ = request.data  # while others are served: the client may be slow
        with self.lock:
            if handler is None:
                response.status = HTTPStatus.NOT_IMPLEMENTED
            elif not _holds(request, self.storage):
                _refuse(response, HTTPStatus.PRECONDITION_FAILED, "conditionNotMet")
            else:
                handler(request, response, self.storage)
        if handler is objects.ls:
            _turn_page(request, response)
        elif wanted and request.method == "GET" and isinstance(response._content, bytes):
            _cut_out(response, wanted)
        response.close()

    do_GET = do_POST = do_PUT = do_DELETE = do_PATCH = _serve  # noqa: N815  (http.server's names)

    def log_message(self, *arguments: object) -> None:
        """Keeps quiet."""


def _route(request: Request) -> Callable[..., None] | None:
    for pattern, handlers in _ROUTES:
        if found := pattern.fullmatch(request.path):
            request.set_match(found)
            return handlers.get(request.method)
    return None


def _holds(request: Request, storage: Storage) -> bool:
    """Whether the object's generation is the one that the client expects; 0 stands for none."""
    query = request.query
    expected, unexpected = query.get("ifGenerationMatch"), query.get("ifGenerationNotMatch")
    if expected is None and unexpected is None:
        return True
    try:
        generation = storage.get_file_obj(*_object_of(request, storage))["generation"]
    except NotFound:
        generation = "0"
    return (expected or [generation]) == [generation] and unexpected != [generation]


def _object_of(request: Request, storage: Storage) -> tuple[str, str]:
    """The bucket and the name that a request is to change."""
    given, query = request.params, request.query
    bucket = given.get("dest_bucket_name") or given["bucket_name"]
    name = given.get("dest_object_id") or given.get("object_id")
    if "upload_id" in query:
        name = storage.get_resumable_file_obj(query["upload_id"][0])["name"]
    elif "name" in query:
        name = query["name"][0]
    elif isinstance(request.data, dict):
        name = request.data.get("meta", request.data).get("name", name)
    return bucket, name or ""


def _refuse(response: stock.Response, status: HTTPStatus, reason: str) -> None:
    one = {"domain": "global", "reason": reason, "message": status.phrase}
    response.status = status
    response.json({"error": {"code": status.value, "message": status.phrase, "errors": [one]}})


def _turn_page(request: Request, response: stock.Response) -> None:
    """Shortens a listing to one page. One by directory is left whole: nobody here has so many."""
    if response.status != HTTPStatus.OK or "delimiter" in request.query:
        return
    listing = json.loads(response._content)
    after = request.query.get("pageToken", [""])[0]
    size = min(_PAGE, int(request.query.get("maxResults", [_PAGE])[0]))
    left = [item for item in listing["items"] if item["name"] > after]
    listing["items"] = left[:size]
    if len(left) > size:
        listing["nextPageToken"] = left[size - 1]["name"]
    response.json(listing)


def _cut_out(response: stock.Response, wanted: str) -> None:
    """Shortens an object to the range that was asked for."""
    found = re.fullmatch(r"bytes=(\d*)-(\d*)", wanted.strip())
    if found is None or response.status != HTTPStatus.OK or found[0] == "bytes=-":
        return
    content, first, last = response._content, found[1], found[2]
    size = len(content)
    start = int(first) if first else max(0, size - int(last))
    stop = min(size, int(last) + 1) if first and last else size
    if start >= stop:
        _refuse(
            response, HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE, "requestedRangeNotSatisfiable"
        )
        return
    response.status = HTTPStatus.PARTIAL_CONTENT
    response["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    response._headers.pop("x-goog-hash", None)  # of the whole object
    response._content = content[start:stop]


class Server(ThreadingHTTPServer):
    """Serves each connection in a thread."""

    daemon_threads = True
    request_queue_size = 1024


if __name__ == "__main__":
    Server(("127.0.0.1", int(sys.argv[1])), partial(Handler, Memory())).serve_forever()
