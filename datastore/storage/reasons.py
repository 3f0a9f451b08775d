"""Why a storage refused or failed: stable words, whether they pass, and what to do about each.

Adapters say what happened with a `Trouble`; the sentence, the hint and the kind of error are made
here, once for all of them.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from email.utils import parsedate_to_datetime
from typing import Final, NamedTuple

from datastore.errors import NotFoundError, StorageError

MISSING: Final = "missing"
EXISTS: Final = "exists"
NO_BUCKET: Final = "no_bucket"
NO_DIRECTORY: Final = "no_directory"
DENIED: Final = "denied"
CREDENTIALS: Final = "credentials"
EXPIRED: Final = "expired"
SIGNATURE: Final = "signature"
SKEW: Final = "skew"
REGION: Final = "region"
HOST_KEY: Final = "host_key"
TLS: Final = "tls"
UNREACHABLE: Final = "unreachable"
TIMEOUT: Final = "timeout"
THROTTLED: Final = "throttled"
SERVER: Final = "server"
CUT: Final = "cut"
CHECKSUM: Final = "checksum"
SHORT: Final = "short"
UNSUPPORTED: Final = "unsupported"
REFUSED: Final = "refused"
CLOSED: Final = "closed"

RETRYABLE: Final = frozenset({UNREACHABLE, TIMEOUT, THROTTLED, SERVER, CUT, CHECKSUM})
"""What the same call may not meet again later."""

_SENTENCES: Final = {
    MISSING: "there is no such object",
    EXISTS: "it is there already",
    NO_BUCKET: "there is no such bucket",
    NO_DIRECTORY: "the directory is not there",
    DENIED: "access was denied",
    CREDENTIALS: "no valid credentials",
    EXPIRED: "the credentials have expired",
    SIGNATURE: "the signature does not match: the secret is wrong",
    SKEW: "the clock of this machine is wrong",
    REGION: "the bucket lies in another region",
    HOST_KEY: "the server's host key is not known, or is another one than before",
    TLS: "the server's certificate was not accepted",
    UNREACHABLE: "the server cannot be reached",
    TIMEOUT: "no answer in time",
    THROTTLED: "the server asks for fewer requests",
    SERVER: "the server failed",
    CUT: "the connection broke off",
    CHECKSUM: "bytes were damaged on the way",
    SHORT: "the object is shorter than that",
    UNSUPPORTED: "the server cannot do this",
    REFUSED: "the server refused",
    CLOSED: "it was closed",
}
_HINTS: Final = {
    NO_BUCKET: "Create it with the provider's own tools, or correct the remote's url.",
    NO_DIRECTORY: "Is the disk mounted? If this is to be a new remote, create the directory.",
    DENIED: "Ask for the right to list, read, write and delete objects there; where listing is"
    " denied, a missing object is reported this way too.",
    EXPIRED: "Log in again with the provider's own tools, then repeat the command.",
    SIGNATURE: "Check the secret in the environment or in the provider's own settings.",
    SKEW: "Set the clock, best by NTP, then repeat the command.",
    REGION: "Set the remote's option region to that of the bucket.",
    TLS: "Check the url or endpoint_url; a private authority's certificate has to be installed.",
    UNREACHABLE: "Check the url or endpoint_url and the network, then repeat the command.",
    TIMEOUT: "Check the network, then repeat the command: what was transferred stays.",
    THROTTLED: "Repeat the command later, or with fewer jobs: what was transferred stays.",
    SERVER: "Repeat the command later: what was transferred stays.",
    CUT: "Repeat the command: what was transferred stays.",
    CHECKSUM: "Repeat the command; if this goes on, check this machine's memory and network.",
    SHORT: "The remote is damaged, or another program writes there.",
    UNSUPPORTED: "Use a storage that can write only where nothing is (If-None-Match on S3).",
}
_LOG_IN: Final = {
    "s3": "Set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, log in with 'aws sso login' or"
    " 'aws configure', or set the remote's option profile.",
    "gs": "Log in with 'gcloud auth application-default login', or set"
    " GOOGLE_APPLICATION_CREDENTIALS or the remote's option token_file.",
    "az": "Log in with 'az login' and set the remote's option account_name, or set"
    " AZURE_STORAGE_CONNECTION_STRING.",
    "sftp": "Load a key into the SSH agent (ssh-add), or set the remote's option key_file.",
}


class Trouble(NamedTuple):
    """What went wrong, as an adapter understood it."""

    reason: str
    """A word of this module."""
    said: str = ""
    """What the server or the library said, for people."""
    retry_after: float = 0.0
    """Seconds that the server asked to wait."""
    hint: str = ""
    """Instead of the usual hint for this reason."""


class Call(NamedTuple):
    """What was tried, for messages."""

    scheme: str
    url: str
    doing: str
    """Read after "cannot": ``"read"``."""
    key: str = ""

    @property
    def where(self) -> str:
        """The full address."""
        return f"{self.url.rstrip('/')}/{self.key}" if self.key else self.url


def error_of(trouble: Trouble, call: Call) -> NotFoundError | StorageError:
    """Makes the error that people and callers see."""
    if trouble.reason == MISSING:
        return NotFoundError(
            f"cannot {call.doing} {call.where!r}: {_SENTENCES[MISSING]}", where=call.where
        )
    said = " ".join(trouble.said.split())[:300]
    hint = trouble.hint or _HINTS.get(trouble.reason, "")
    if trouble.reason == CREDENTIALS and not trouble.hint:
        hint = _LOG_IN.get(call.scheme, "")
    return StorageError(
        f"cannot {call.doing} {call.where!r}: {_SENTENCES[trouble.reason]}"
        + (f" ({said})" if said else ""),
        retryable=trouble.reason in RETRYABLE,
        reason=trouble.reason,
        retry_after=trouble.retry_after,
        hint=hint,
        where=call.where,
    )


def closed_error(call: Call) -> StorageError:
    """Makes the error of a call that `close` ended."""
    error = error_of(Trouble(CLOSED), call)
    assert isinstance(error, StorageError)
    return error


def reason_of_status(status: int) -> str:
    """Reads an HTTP status where the answer itself says nothing better."""
    known = {
        401: CREDENTIALS,
        403: DENIED,
        404: MISSING,
        408: TIMEOUT,
        412: EXISTS,
        416: SHORT,
        429: THROTTLED,
        501: UNSUPPORTED,
        503: THROTTLED,
        504: TIMEOUT,
    }
    return known.get(status, SERVER if status >= 500 else REFUSED)


def retry_after_of(headers: Mapping[str, str]) -> float:
    """Reads ``Retry-After``: seconds, or a date; 0 where there is none.

    Args:
        headers: Of the answer; names in lower case, or a mapping that ignores case.
    """
    text = headers.get("retry-after", "").strip()
    if text.isdecimal():
        return float(text)
    try:
        # Against the server's own clock where it gives it: ours may be wrong.
        then = parsedate_to_datetime(text).timestamp()
        now = parsedate_to_datetime(headers["date"]).timestamp() if "date" in headers else 0.0
    except (ValueError, TypeError):
        return 0.0
    return max(0.0, then - (now or time.time()))
