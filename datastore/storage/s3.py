"""S3 and what speaks like it, one request for each call, over the client that s3fs sets up.

s3fs knows where credentials, profiles and endpoints are found. Its own calls are not used: they
retry by themselves, send a HEAD before a GET and a LIST after a HEAD, and hide what the server
said.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Mapping
from typing import Any, Final

import aiohttp
import botocore.exceptions as boto
import s3fs
from botocore.config import Config
from botocore.parsers import ResponseParserError

from datastore.storage.base import Listed
from datastore.storage.body import Body, sent
from datastore.storage.network import explain_network
from datastore.storage.reasons import (
    CHECKSUM,
    CREDENTIALS,
    CUT,
    DENIED,
    EXISTS,
    EXPIRED,
    MISSING,
    NO_BUCKET,
    REFUSED,
    REGION,
    SERVER,
    SHORT,
    SIGNATURE,
    SKEW,
    THROTTLED,
    TIMEOUT,
    TLS,
    UNREACHABLE,
    UNSUPPORTED,
    Trouble,
    reason_of_status,
    retry_after_of,
)

_CODES: Final = {
    "AccessDenied": DENIED,
    "AllAccessDisabled": DENIED,
    "AccountProblem": DENIED,
    "InvalidObjectState": DENIED,
    "InvalidAccessKeyId": CREDENTIALS,
    "ExpiredToken": EXPIRED,
    "InvalidToken": EXPIRED,
    "RequestExpired": EXPIRED,
    "TokenRefreshRequired": EXPIRED,
    "SignatureDoesNotMatch": SIGNATURE,
    "RequestTimeTooSkewed": SKEW,
    "AuthorizationHeaderMalformed": REGION,
    "IllegalLocationConstraintException": REGION,
    "PermanentRedirect": REGION,
    "TemporaryRedirect": REGION,
    "301": REGION,
    "307": REGION,
    "NoSuchBucket": NO_BUCKET,
    "NoSuchKey": MISSING,
    "NoSuchVersion": MISSING,
    "PreconditionFailed": EXISTS,
    "ConditionalRequestConflict": SERVER,
    "OperationAborted": SERVER,
    "InternalError": SERVER,
    "ServiceUnavailable": THROTTLED,
    "SlowDown": THROTTLED,
    "RequestLimitExceeded": THROTTLED,
    "Throttling": THROTTLED,
    "ThrottlingException": THROTTLED,
    "TooManyRequests": THROTTLED,
    "RequestTimeout": TIMEOUT,
    "BadDigest": CHECKSUM,
    "XAmzContentChecksumMismatch": CHECKSUM,
    "XAmzContentSHA256Mismatch": CHECKSUM,
    "IncompleteBody": CUT,
    "InvalidRange": SHORT,
    "NotImplemented": UNSUPPORTED,
}
_LIBRARY: Final[tuple[tuple[type[Exception], str], ...]] = (
    (boto.SSLError, TLS),
    (boto.FlexibleChecksumError, CHECKSUM),
    (ResponseParserError, CHECKSUM),  # an answer that is no XML
    (boto.ConnectTimeoutError, TIMEOUT),
    (boto.ReadTimeoutError, TIMEOUT),
    (boto.ProxyConnectionError, UNREACHABLE),
    (boto.ConnectionClosedError, CUT),
    (boto.ResponseStreamingError, CUT),
    (boto.IncompleteReadError, CUT),
    (boto.HTTPClientError, CUT),
    (boto.TokenRetrievalError, EXPIRED),
    (boto.UnauthorizedSSOTokenError, EXPIRED),
    (boto.SSOError, EXPIRED),
    (boto.CredentialRetrievalError, CREDENTIALS),
    (boto.NoCredentialsError, CREDENTIALS),
    (boto.PartialCredentialsError, CREDENTIALS),
    (boto.ProfileNotFound, CREDENTIALS),
    (boto.InvalidRegionError, REFUSED),
    (boto.ParamValidationError, REFUSED),
)

# Checksums in trailers break several servers that are not Amazon's. An upload has Content-MD5,
# which every server checks, a download the digests of its chunks.
_CHECKSUMS: Final = {
    name: "when_required"
    for name in ("request_checksum_calculation", "response_checksum_validation")
    if name in Config.OPTION_DEFAULTS  # older clients have no such thing, and send none
}


class S3Calls:
    """The calls of `datastore.storage.fsspec.Calls` on a bucket.

    Args:
        bucket: Its name.
        options: As `datastore.storage.clouds.check_options` returned them.
        jobs: How many connections are kept.
    """

    def __init__(self, bucket: str, options: Mapping[str, Any], *, jobs: int) -> None:
        self._bucket = bucket
        self._options = options
        self._jobs = jobs
        self._client: Any = None

    async def open(self) -> None:
        """Sets up the client; sends nothing yet."""
        options = self._options
        endpoint = options.get("endpoint_url")
        style = options.get("addressing_style") or ("path" if endpoint else "auto")
        region = options.get("region")
        profile = {"profile": options["profile"]} if "profile" in options else {}
        files = s3fs.S3FileSystem(
            anon=options.get("anon", False),
            endpoint_url=endpoint,
            client_kwargs={"region_name": region} if region else {},
            config_kwargs={
                "connect_timeout": 10,
                "read_timeout": 60,
                "max_pool_connections": self._jobs,
                # Tries are counted above, where the whole transfer is seen: here they would
                # multiply.
                "retries": {"mode": "standard", "total_max_attempts": 1},
                **_CHECKSUMS,
                "s3": {"addressing_style": style},
            },
            max_concurrency=1,
            use_listings_cache=False,
            skip_instance_cache=True,
            asynchronous=True,
            **profile,
        )
        self._client = await files.set_session()

    async def close(self) -> None:
        """Lets go of all connections."""
        if self._client is not None:
            await self._client.close()

    async def read(self, path: str) -> bytes:
        """One GET."""
        answer = await self._client.get_object(Bucket=self._bucket, Key=path)
        return await _whole(answer)

    async def read_range(self, path: str, start: int, length: int) -> bytes:
        """One GET with a range."""
        answer = await self._client.get_object(
            Bucket=self._bucket, Key=path, Range=f"bytes={start}-{start + length - 1}"
        )
        return await _whole(answer)

    async def write(self, path: str, data: bytes) -> None:
        """One PUT, that the server refuses when bytes were damaged on the way."""
        await self._put(path, data)

    async def create(self, path: str, data: bytes) -> None:
        """One PUT with If-None-Match."""
        await self._put(path, data, IfNoneMatch="*")

    async def _put(self, path: str, data: bytes, **condition: str) -> None:
        digest = hashlib.md5(data, usedforsecurity=False).digest()
        body = Body(data)
        work = self._client.put_object(
            Bucket=self._bucket,
            Key=path,
            Body=body,
            ContentMD5=base64.b64encode(digest).decode(),
            **condition,
        )
        await sent(body, work)

    async def size(self, path: str) -> int:
        """One HEAD."""
        answer = await self._client.head_object(Bucket=self._bucket, Key=path)
        return int(answer["ContentLength"])

    async def page(self, prefix: str, token: str | None) -> tuple[list[Listed], str | None]:
        """One LIST: up to 1000 keys."""
        more = {"ContinuationToken": token} if token else {}
        try:
            answer = await self._client.list_objects_v2(Bucket=self._bucket, Prefix=prefix, **more)
        except ValueError as error:  # a number or a date in the answer is none
            raise ResponseParserError(str(error)) from error
        found = [Listed(each["Key"], each["Size"]) for each in answer.get("Contents", ())]
        return found, answer["NextContinuationToken"] if answer.get("IsTruncated") else None

    async def delete(self, path: str) -> None:
        """One DELETE."""
        await self._client.delete_object(Bucket=self._bucket, Key=path)

    def explain(self, error: BaseException) -> Trouble | None:
        """Understands what the client raised; None for what is not about the storage."""
        if isinstance(error, boto.ClientError):
            return _explain_answer(error.response)
        if isinstance(error, boto.EndpointConnectionError):  # also for one that was reset later
            inner = error.kwargs.get("error") or error.__cause__
            return (inner and explain_network(inner)) or Trouble(UNREACHABLE, str(error))
        for kind, reason in _LIBRARY:
            if isinstance(error, kind):
                return Trouble(reason, str(error))
        if isinstance(error, boto.BotoCoreError):
            return Trouble(REFUSED, str(error))
        return explain_network(error)


async def _whole(answer: Mapping[str, Any]) -> bytes:
    body = answer["Body"]
    try:
        data: bytes = await body.read()
    finally:
        body.close()
    if len(data) != answer["ContentLength"]:
        raise aiohttp.ClientPayloadError("the answer was cut off")
    return data


def _explain_answer(answer: Mapping[str, Any]) -> Trouble:
    fault = answer.get("Error", {})
    code, message = str(fault.get("Code", "")), str(fault.get("Message", ""))
    about = answer.get("ResponseMetadata", {})
    status = int(about.get("HTTPStatusCode", 0)) or (int(code) if code.isdecimal() else 0)
    reason = _CODES.get(code) or reason_of_status(status)
    if reason == EXPIRED and "does not exist" in message.lower():
        reason = CREDENTIALS
    said = f"{code}: {message}" if message and message != code else code
    return Trouble(reason, said, retry_after_of(about.get("HTTPHeaders", {})))
