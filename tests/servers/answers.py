"""Answers that no server gave: errors and empty listings, in the shape that each protocol has."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Literal
from urllib.parse import parse_qs, urlsplit
from xml.sax.saxutils import escape

from tests.servers.messages import Head

Protocol = Literal["s3", "gcs", "azure"]

_XML = '<?xml version="1.0" encoding="UTF-8"?>\n'

_S3_CODES = {
    400: "InvalidRequest",
    403: "AccessDenied",
    404: "NoSuchKey",
    409: "ConditionalRequestConflict",
    412: "PreconditionFailed",
    416: "InvalidRange",
    429: "SlowDown",
    500: "InternalError",
    503: "SlowDown",
}
_AZURE_CODES = {
    400: "InvalidInput",
    403: "AuthorizationFailure",
    404: "BlobNotFound",
    409: "BlobAlreadyExists",
    412: "ConditionNotMet",
    416: "InvalidRange",
    429: "ServerBusy",
    500: "InternalError",
    503: "ServerBusy",
}
_GCS_REASONS = {
    400: "invalid",
    403: "forbidden",
    404: "notFound",
    409: "conflict",
    412: "conditionNotMet",
    416: "requestedRangeNotSatisfiable",
    429: "rateLimitExceeded",
}


@dataclass(frozen=True, slots=True)
class Answer:
    """A whole answer."""

    status: int
    content: bytes
    fields: dict[str, str] = field(default_factory=dict)

    def message(self, *, with_body: bool) -> bytes:
        """As it goes over the wire; the answer to a HEAD request has no body."""
        try:
            phrase = HTTPStatus(self.status).phrase
        except ValueError:
            phrase = "Unknown"
        fields = {**self.fields, "Content-Length": str(len(self.content) if with_body else 0)}
        lines = [f"{name}: {value}\r\n" for name, value in fields.items()]
        start = f"HTTP/1.1 {self.status} {phrase}\r\n"
        content = self.content if with_body else b""
        return "".join([start, *lines, "\r\n"]).encode("latin-1") + content


def protocol_of(head: Head) -> Protocol:
    """Tells whose client sent a request."""
    if "x-ms-version" in head.fields:
        return "azure"
    if re.match(r"/((upload/|download/)?storage/v1/)?b(/|$|\?)|/batch/storage", head.target):
        return "gcs"
    return "s3"


def is_listing(head: Head) -> bool:
    """Tells whether a request asks which objects there are."""
    if head.method != "GET":
        return False
    parts = urlsplit(head.target)
    query = parse_qs(parts.query, keep_blank_values=True)
    match protocol_of(head):
        case "azure":
            return query.get("comp") == ["list"] and query.get("restype") == ["container"]
        case "gcs":
            return re.fullmatch(r"(/storage/v1)?/b/[^/]+/o", parts.path) is not None
        case "s3":
            one_part = "/" not in parts.path.strip("/")
            return one_part and ("list-type" in query or "prefix" in query)


def error(head: Head, status: int, retry_after: float | None = None) -> Answer:
    """An error, as the server that the request is meant for would word it."""
    fields = {} if retry_after is None else {"Retry-After": f"{retry_after:g}"}
    match protocol_of(head):
        case "azure":
            code = _AZURE_CODES.get(status, "InternalError")
            text = f"{_XML}<Error><Code>{code}</Code><Message>Injected.</Message></Error>"
            fields |= {"Content-Type": "application/xml", "x-ms-error-code": code}
        case "gcs":
            reason = _GCS_REASONS.get(status, "backendError")
            one = {"domain": "global", "reason": reason, "message": "Injected."}
            whole = {"code": status, "message": "Injected.", "errors": [one]}
            text = json.dumps({"error": whole})
            fields |= {"Content-Type": "application/json; charset=UTF-8"}
        case "s3":
            code = _S3_CODES.get(status, "InternalError")
            text = (
                f"{_XML}<Error><Code>{code}</Code><Message>Injected.</Message>"
                f"<RequestId>0</RequestId><HostId>0</HostId></Error>"
            )
            fields |= {"Content-Type": "application/xml"}
    return Answer(status, text.encode(), fields)


def empty_listing(head: Head) -> Answer:
    """The listing of a place in which there is nothing."""
    parts = urlsplit(head.target)
    query = parse_qs(parts.query, keep_blank_values=True)
    prefix = escape(query.get("prefix", [""])[0])
    name = escape(parts.path.strip("/").split("/")[-1])
    content_type = "application/xml"
    match protocol_of(head):
        case "azure":
            text = (
                f'{_XML}<EnumerationResults ContainerName="{name}"><Prefix>{prefix}</Prefix>'
                f"<Blobs /><NextMarker /></EnumerationResults>"
            )
        case "gcs":
            text = json.dumps({"kind": "storage#objects"})
            content_type = "application/json; charset=UTF-8"
        case "s3":
            text = (
                f'{_XML}<ListBucketResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">'
                f"<Name>{name}</Name><Prefix>{prefix}</Prefix><KeyCount>0</KeyCount>"
                f"<MaxKeys>1000</MaxKeys><IsTruncated>false</IsTruncated></ListBucketResult>"
            )
    return Answer(200, text.encode(), {"Content-Type": content_type})
