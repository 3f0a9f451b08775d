"""What each cloud's errors are taken for, where no server here can be brought to make them."""

from __future__ import annotations

import json
import socket
import ssl
from types import SimpleNamespace

import pytest

from datastore.storage.reasons import Call, error_of


def reason(calls, error) -> str:
    trouble = calls.explain(error)
    assert trouble is not None, error
    made = error_of(trouble, Call("s3", "s3://bucket", "read", "x"))
    assert made.message
    return trouble.reason


# -- S3 --------------------------------------------------------------------------------------------


@pytest.fixture
def s3():
    pytest.importorskip("s3fs")
    from datastore.storage.s3 import S3Calls

    return S3Calls("bucket", {}, jobs=1)


def s3_error(code, status=400, message="said", headers=None):
    from botocore.exceptions import ClientError

    about = {"HTTPStatusCode": status, "HTTPHeaders": headers or {}}
    answer = {"Error": {"Code": code, "Message": message}, "ResponseMetadata": about}
    return ClientError(answer, "GetObject")


@pytest.mark.parametrize(
    ("code", "status", "expected"),
    [
        ("NoSuchBucket", 404, "no_bucket"),
        ("NoSuchKey", 404, "missing"),
        ("404", 404, "missing"),
        ("AccessDenied", 403, "denied"),
        ("403", 403, "denied"),
        ("InvalidAccessKeyId", 403, "credentials"),
        ("ExpiredToken", 400, "expired"),
        ("InvalidToken", 400, "expired"),
        ("SignatureDoesNotMatch", 403, "signature"),
        ("RequestTimeTooSkewed", 403, "skew"),
        ("PermanentRedirect", 301, "region"),
        ("301", 301, "region"),
        ("AuthorizationHeaderMalformed", 400, "region"),
        ("PreconditionFailed", 412, "exists"),
        ("412", 412, "exists"),
        ("ConditionalRequestConflict", 409, "server"),
        ("SlowDown", 503, "throttled"),
        ("503", 503, "throttled"),
        ("TooManyRequestsException", 429, "throttled"),
        ("InternalError", 500, "server"),
        ("RequestTimeout", 400, "timeout"),
        ("BadDigest", 400, "checksum"),
        ("XAmzContentSHA256Mismatch", 400, "checksum"),
        ("InvalidRange", 416, "short"),
        ("NotImplemented", 501, "unsupported"),
        ("EntityTooLarge", 400, "refused"),
    ],
)
def test_codes_of_s3(s3, code, status, expected):
    assert reason(s3, s3_error(code, status)) == expected


def test_retry_after_of_s3(s3):
    assert s3.explain(s3_error("SlowDown", 503, headers={"retry-after": "9"})).retry_after == 9


def test_errors_of_the_s3_client(s3):
    import botocore.exceptions as boto

    for error, expected in (
        (boto.NoCredentialsError(), "credentials"),
        (boto.PartialCredentialsError(provider="env", cred_var="x"), "credentials"),
        (boto.ProfileNotFound(profile="x"), "credentials"),
        (boto.UnauthorizedSSOTokenError(), "expired"),
        (boto.FlexibleChecksumError(error_msg="x"), "checksum"),
        (boto.ConnectTimeoutError(endpoint_url="x"), "timeout"),
        (boto.ReadTimeoutError(endpoint_url="x"), "timeout"),
        (boto.EndpointConnectionError(endpoint_url="x"), "unreachable"),
        (boto.ConnectionClosedError(endpoint_url="x"), "cut"),
        (boto.ResponseStreamingError(error="x"), "cut"),
        (boto.SSLError(endpoint_url="x", error="x"), "tls"),
        (boto.ParamValidationError(report="x"), "refused"),
        (boto.UnknownServiceError(service_name="x", known_service_names="y"), "refused"),
        (TimeoutError(), "timeout"),
        (ConnectionResetError(), "cut"),
        (socket.gaierror(-2, "Name or service not known"), "unreachable"),
        (ssl.SSLCertVerificationError("self-signed"), "tls"),
    ):
        assert reason(s3, error) == expected, error


# -- GCS -------------------------------------------------------------------------------------------


@pytest.fixture
def gcs():
    pytest.importorskip("gcsfs")
    from datastore.storage.gcs import GcsCalls

    calls = GcsCalls("bucket", {})
    calls._files = SimpleNamespace(credentials=SimpleNamespace(credentials=None))
    return calls


def gcs_error(status, message="", on_object=True, headers=None):
    from datastore.storage.gcs import _RefusedError

    body = json.dumps({"error": {"code": status, "message": message}}).encode()
    return _RefusedError(status, headers or {}, body, on_object=on_object)


@pytest.mark.parametrize(
    ("status", "message", "on_object", "expected"),
    [
        (404, "No such object: bucket/x", True, "missing"),
        (404, "The specified bucket does not exist.", True, "no_bucket"),
        (404, "", False, "no_bucket"),
        (403, "does not have storage.objects.get access", True, "denied"),
        (401, "Anonymous caller does not have access", True, "credentials"),
        (400, "Provided MD5 hash does not match calculated", False, "checksum"),
        (400, "Invalid argument", True, "refused"),
        (412, "conditionNotMet", False, "exists"),
        (416, "", True, "short"),
        (429, "rateLimitExceeded", True, "throttled"),
        (500, "", True, "server"),
        (503, "", True, "throttled"),
    ],
)
def test_answers_of_gcs(gcs, status, message, on_object, expected):
    assert reason(gcs, gcs_error(status, message, on_object)) == expected


def test_a_token_that_gcs_does_not_take_any_longer(gcs):
    gcs._files.credentials.credentials = object()
    assert reason(gcs, gcs_error(401, "Invalid Credentials")) == "expired"


def test_errors_of_the_gcs_client(gcs):
    import google.auth.exceptions as google

    for error, expected in (
        (google.RefreshError("expired"), "expired"),
        (google.DefaultCredentialsError("none"), "credentials"),
        (TimeoutError(), "timeout"),
    ):
        assert reason(gcs, error) == expected
    gcs._files = None
    assert reason(gcs, ValueError("Token format not understood")) == "credentials"
    assert reason(gcs, FileNotFoundError("token.json")) == "credentials"


def test_an_answer_that_is_not_json(gcs):
    from datastore.storage.gcs import _RefusedError

    for body in (b"<html>Bad gateway</html>", b"[]", b'{"error": "plain"}', b"\xff"):
        trouble = gcs.explain(_RefusedError(502, {}, body, on_object=True))
        assert trouble.reason == "server"


# -- Azure -----------------------------------------------------------------------------------------


@pytest.fixture
def azure():
    pytest.importorskip("adlfs")
    from datastore.storage.azure import AzureCalls

    return AzureCalls("container", {})


def azure_error(code, status, message="said", headers=None):
    from azure.core.exceptions import HttpResponseError

    answer = SimpleNamespace(status_code=status, reason="", headers=headers or {})
    error = HttpResponseError(message, response=answer)
    error.error_code = code
    return error


@pytest.mark.parametrize(
    ("code", "status", "message", "expected"),
    [
        ("BlobNotFound", 404, "", "missing"),
        ("ContainerNotFound", 404, "", "no_bucket"),
        ("BlobAlreadyExists", 409, "", "exists"),
        ("AuthorizationPermissionMismatch", 403, "", "denied"),
        ("AuthorizationFailure", 403, "", "denied"),
        ("PublicAccessNotPermitted", 409, "", "denied"),
        ("NoAuthenticationInformation", 401, "", "credentials"),
        ("AuthenticationFailed", 403, "The MAC signature is not the same", "signature"),
        ("AuthenticationFailed", 403, "Request date header too old", "skew"),
        ("AuthenticationFailed", 403, "Signature not valid: Signed expiry time", "expired"),
        ("ServerBusy", 503, "", "throttled"),
        ("OperationTimedOut", 500, "", "timeout"),
        ("InternalError", 500, "", "server"),
        ("Md5Mismatch", 400, "", "checksum"),
        ("InvalidRange", 416, "", "short"),
        ("", 404, "", "missing"),
        ("", 429, "", "throttled"),
        ("InvalidHeaderValue", 400, "", "refused"),
    ],
)
def test_codes_of_azure(azure, code, status, message, expected):
    assert reason(azure, azure_error(code, status, message)) == expected


def test_retry_after_of_azure(azure):
    error = azure_error("ServerBusy", 503, headers={"retry-after": "4"})
    assert azure.explain(error).retry_after == 4


def test_errors_of_the_azure_client(azure):
    from azure.core import exceptions as core

    for error, expected in (
        (core.ClientAuthenticationError("no token"), "credentials"),
        (core.ServiceRequestError("no route"), "unreachable"),
        (core.ServiceRequestError("x", error=ConnectionResetError()), "cut"),
        (core.ServiceRequestTimeoutError("slow"), "timeout"),
        (core.ServiceResponseError("broke"), "cut"),
        (core.ServiceResponseTimeoutError("slow"), "timeout"),
        (core.HttpResponseError("Download stream interrupted."), "cut"),
        (core.AzureError("else"), "refused"),
        (ValueError("no account"), "credentials"),
    ):
        assert reason(azure, error) == expected, error


def test_an_account_is_needed(azure, monkeypatch):
    from datastore.errors import StorageError
    from datastore.storage.places import open_storage

    for name in ("CONNECTION_STRING", "ACCOUNT_NAME", "ACCOUNT_KEY", "SAS_TOKEN"):
        monkeypatch.delenv(f"AZURE_STORAGE_{name}", raising=False)
    storage = open_storage("az://container/x", {"anon": True})
    with pytest.raises(StorageError, match="account_name") as caught:
        storage.read("x")
    assert caught.value.reason == "credentials"
    storage.close()


# -- what is not about the storage -----------------------------------------------------------------


@pytest.mark.parametrize("kind", ["s3", "gcs", "azure"])
def test_a_mistake_in_our_own_code_is_no_storage_error(kind, request):
    calls = request.getfixturevalue(kind)
    for error in (TypeError("x"), AttributeError("x"), KeyError("x")):
        assert calls.explain(error) is None
