"""Azure's storage of blobs, one request for each call, over a client with adlfs's credentials.

adlfs knows where credentials are found. Its own client is not used: it cannot be told to leave
trying again to us, and waits 37 seconds over two short refusals.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any, Final

from adlfs import AzureBlobFileSystem
from azure.core.exceptions import (
    AzureError,
    ClientAuthenticationError,
    DecodeError,
    HttpResponseError,
    ServiceRequestError,
    ServiceRequestTimeoutError,
    ServiceResponseError,
    ServiceResponseTimeoutError,
)
from azure.core.pipeline.transport import AioHttpTransport
from azure.storage.blob.aio import BlobServiceClient, ContainerClient

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
    SERVER,
    SHORT,
    SIGNATURE,
    SKEW,
    THROTTLED,
    TIMEOUT,
    UNREACHABLE,
    Trouble,
    reason_of_status,
    retry_after_of,
)

# What goes wrong is raised; without a handler it would be printed, too.
for _name in ("adlfs", "azure"):
    logging.getLogger(_name).addHandler(logging.NullHandler())

_ONE_REQUEST: Final = 256 * 1024 * 1024  # bytes; what is smaller is sent and fetched in one
_CODES: Final = {
    "BlobNotFound": MISSING,
    "ContainerNotFound": NO_BUCKET,
    "ContainerBeingDeleted": NO_BUCKET,
    "ContainerDisabled": DENIED,
    "BlobAlreadyExists": EXISTS,
    "ConditionNotMet": EXISTS,
    "TargetConditionNotMet": EXISTS,
    "AuthorizationFailure": DENIED,
    "AuthorizationPermissionMismatch": DENIED,
    "InsufficientAccountPermissions": DENIED,
    "AccountIsDisabled": DENIED,
    "PublicAccessNotPermitted": DENIED,
    "NoAuthenticationInformation": CREDENTIALS,
    "InvalidAuthenticationInfo": CREDENTIALS,
    "ServerBusy": THROTTLED,
    "OperationTimedOut": TIMEOUT,
    "InternalError": SERVER,
    "Md5Mismatch": CHECKSUM,
    "Crc64Mismatch": CHECKSUM,
    "InvalidRange": SHORT,
}


class _FoundError(Exception):
    """Carries what adlfs found out of its constructor, before it connects by itself."""

    def __init__(self, files: AzureBlobFileSystem) -> None:
        super().__init__()
        self.files = files


class _Account(AzureBlobFileSystem):  # type: ignore[misc]
    """Finds an account and its credentials, and nothing else.

    Stopped there, it also leaves no finalizers behind, which at the end of the program would wait
    for a loop that has ended.
    """

    def do_connect(self) -> None:
        raise _FoundError(self)


def _find_account(options: Mapping[str, Any]) -> AzureBlobFileSystem:
    # Where nothing is said, releases of 2024 ask nobody to log in, and are refused.
    settings = {"anon": False, **options}
    try:
        return _Account(
            use_listings_cache=False, skip_instance_cache=True, asynchronous=True, **settings
        )
    except _FoundError as found:
        return found.files


class _Transport(AioHttpTransport):  # type: ignore[misc]
    """Sends large bodies piece by piece, and gives up when they do not move."""

    async def send(self, request: Any, **settings: Any) -> Any:
        """See `AioHttpTransport.send`."""
        data = request.data
        if not isinstance(data, bytes) or not data:
            return await super().send(request, **settings)
        request.data = body = Body(data)
        return await sent(body, super().send(request, **settings))


class AzureCalls:
    """The calls of `datastore.storage.fsspec.Calls` on a container.

    Args:
        container: Its name.
        options: As `datastore.storage.clouds.check_options` returned them.
    """

    def __init__(self, container: str, options: Mapping[str, Any]) -> None:
        self._container = container
        self._options = options
        self._service: BlobServiceClient | None = None
        self._credential: Any = None

    async def open(self) -> None:
        """Finds credentials and sets up the client; sends nothing yet."""
        files = _find_account(self._options)
        self._credential = files.credential
        settings: dict[str, Any] = {
            "transport": _Transport(connection_timeout=10, read_timeout=60),
            "retry_total": 0,  # tries are counted above, where the whole transfer is seen
            "max_single_put_size": _ONE_REQUEST,
            "max_single_get_size": _ONE_REQUEST,
        }
        if files.connection_string:
            self._service = BlobServiceClient.from_connection_string(
                files.connection_string, **settings
            )
            return
        host = self._options.get("account_host") or f"{files.account_name}.blob.core.windows.net"
        if not files.account_name and "account_host" not in self._options:
            raise ValueError("neither an account_name nor a connection string is set")
        secret = None if files.anon else files.credential or files.account_key or files.sas_token
        self._service = BlobServiceClient(f"https://{host}", credential=secret, **settings)

    async def close(self) -> None:
        """Lets go of all connections."""
        if self._service is not None:
            await self._service.close()
        if self._credential is not None:
            await self._credential.close()

    async def read(self, path: str) -> bytes:
        """One GET; two for an empty object."""
        stream = await self._bucket().download_blob(path, max_concurrency=1)
        return bytes(await stream.readall())

    async def read_range(self, path: str, start: int, length: int) -> bytes:
        """One GET with a range."""
        stream = await self._bucket().download_blob(
            path, offset=start, length=length, max_concurrency=1
        )
        return bytes(await stream.readall())

    async def write(self, path: str, data: bytes) -> None:
        """One PUT, that the server refuses when bytes were damaged on the way."""
        await self._put(path, data, overwrite=True)

    async def create(self, path: str, data: bytes) -> None:
        """One PUT with If-None-Match."""
        await self._put(path, data, overwrite=False)

    async def _put(self, path: str, data: bytes, *, overwrite: bool) -> None:
        await self._bucket().upload_blob(
            path, data, overwrite=overwrite, validate_content=True, max_concurrency=1
        )

    async def size(self, path: str) -> int:
        """One HEAD."""
        about = await self._bucket().get_blob_client(path).get_blob_properties()
        return int(about.size)

    async def page(self, prefix: str, token: str | None) -> tuple[list[Listed], str | None]:
        """One LIST: up to 5000 names."""
        pages = self._bucket().list_blobs(name_starts_with=prefix).by_page(token)
        try:
            async for page in pages:
                found = [Listed(each.name, each.size) async for each in page]
                return found, pages.continuation_token or None
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            # What the library makes of an answer in which a bit was turned.
            raise DecodeError(f"the listing cannot be read: {error}") from error
        return [], None

    async def delete(self, path: str) -> None:
        """One DELETE."""
        await self._bucket().delete_blob(path)

    def explain(self, error: BaseException) -> Trouble | None:
        """Understands what was raised; None for what is not about the storage."""
        if isinstance(error, HttpResponseError) and (error.status_code or 0) >= 400:
            return _explain_answer(error)
        if isinstance(error, (ServiceRequestTimeoutError, ServiceResponseTimeoutError)):
            return Trouble(TIMEOUT, str(error))
        if isinstance(error, ClientAuthenticationError):
            return Trouble(CREDENTIALS, str(error))
        if isinstance(error, (ServiceRequestError, ServiceResponseError, AzureError)):
            inner = explain_network(error.inner_exception) if error.inner_exception else None
            return inner or Trouble(_reason_of(error), str(error))
        if isinstance(error, ValueError) and self._service is None:
            return Trouble(CREDENTIALS, str(error))
        return explain_network(error)

    def _bucket(self) -> ContainerClient:
        assert self._service is not None
        return self._service.get_container_client(self._container)


def _reason_of(error: AzureError) -> str:
    if isinstance(error, ServiceRequestError):
        return UNREACHABLE
    if isinstance(error, (ServiceResponseError, HttpResponseError, DecodeError)):
        return CUT  # in the middle of an answer that began well
    return REFUSED


def _explain_answer(error: HttpResponseError) -> Trouble:
    code = getattr(error, "error_code", None) or ""
    code = str(getattr(code, "value", code))  # an enumeration where the library knows it
    headers = error.response.headers if error.response is not None else {}
    reason = _CODES.get(code) or reason_of_status(error.status_code or 0)
    message = str(error.message or error)
    if error.status_code == 400 and "md5" in message.lower():
        reason = CHECKSUM
    # The emulator has another code for it, and the same words.
    if code == "AuthenticationFailed" or message.startswith("Server failed to authenticate"):
        detail = message.lower()
        reason = SIGNATURE
        if "date header" in detail or "too old" in detail:
            reason = SKEW
        elif "expir" in detail or "lifetime" in detail:
            reason = EXPIRED
    first = message.splitlines()[0] if message else ""
    return Trouble(reason, f"{code}: {first}" if code else first, retry_after_of(headers))
