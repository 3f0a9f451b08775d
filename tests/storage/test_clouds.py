from __future__ import annotations

import pytest

from datastore.errors import UsageError
from datastore.storage.clouds import CLOUDS, check_options, cloud_of, load_module


def test_options_come_back_with_their_types():
    options = {"endpoint_url": "http://localhost:9000", "anon": "true", "profile": 7}
    assert check_options("s3", options) == {
        "anon": True,
        "endpoint_url": "http://localhost:9000",
        "profile": "7",
    }


@pytest.mark.parametrize("value", [True, "true", "True", "yes", "1"])
def test_truths(value):
    assert check_options("gs", {"anon": value}) == {"anon": True}


@pytest.mark.parametrize("value", ["maybe", "", None, 3])
def test_half_truths(value):
    with pytest.raises(UsageError, match="anon is true or false"):
        check_options("s3", {"anon": value})


@pytest.mark.parametrize("value", [None, "", "  ", True, ["a"], {"a": 1}, 1.5])
def test_texts_are_texts(value):
    with pytest.raises(UsageError, match="region is a text"):
        check_options("s3", {"region": value})


SECRETS = [
    "key",
    "secret",
    "token",
    "password",
    "sas",
    "sas_token",
    "account_key",
    "connection_string",
    "aws_secret_access_key",
    "aws-session-token",
    "access_key",
    "accessKey",
    "SECRET",
    "credential",
    "credentials",
    "client_secret",
    "api_key",
    "passphrase",
    "login",
]


@pytest.mark.parametrize("name", SECRETS)
@pytest.mark.parametrize("scheme", list(CLOUDS))
def test_secrets_are_not_taken_and_not_repeated(scheme, name):
    with pytest.raises(UsageError, match="looks like a secret") as caught:
        check_options(scheme, {name: "hunter2"})
    assert "hunter2" not in caught.value.message + caught.value.hint
    assert caught.value.hint


def test_no_option_that_is_taken_looks_like_a_secret_by_mistake():
    for cloud in CLOUDS.values():
        values = {name: "true" if kind is bool else "x" for name, kind in cloud.options.items()}
        values |= {"endpoint_url": "http://x"} if "endpoint_url" in values else {}
        assert set(check_options(cloud.scheme, values)) == set(cloud.options)


@pytest.mark.parametrize("url", ["localhost:9000", "storage.example.org", "https://", "s3://x"])
def test_an_endpoint_is_the_address_of_a_server(url):
    with pytest.raises(UsageError, match="address of a server") as caught:
        check_options("s3", {"endpoint_url": url})
    assert "https://host" in caught.value.hint


@pytest.mark.parametrize("url", ["http://key:secret@host", "http://key@host/path"])
def test_secrets_in_an_address_are_not_taken_either(url):
    with pytest.raises(UsageError, match="user name or password") as caught:
        check_options("s3", {"endpoint_url": url})
    assert "secret@" not in caught.value.message


def test_an_unknown_option_is_answered_with_the_known_ones():
    with pytest.raises(UsageError, match="has no option 'endpoint_ulr'") as caught:
        check_options("s3", {"endpoint_ulr": "x"})
    assert "Did you mean endpoint_url?" in caught.value.hint
    assert "region" in caught.value.hint


def test_a_directory_has_no_options():
    with pytest.raises(UsageError) as caught:
        check_options("file", {"region": "x"})
    assert "none" in caught.value.hint


@pytest.mark.parametrize(("alias", "scheme"), [("gcs", "gs"), ("abfs", "az"), ("ssh", "sftp")])
def test_aliases(alias, scheme):
    assert cloud_of(alias).scheme == scheme


def test_an_unknown_scheme_is_answered_with_the_known_ones():
    with pytest.raises(UsageError, match="ftp://") as caught:
        cloud_of("ftp")
    assert "s3://" in caught.value.hint


@pytest.mark.parametrize("scheme", ["s3", "gs", "az", "sftp"])
def test_what_is_not_installed_is_named_with_the_command(scheme):
    cloud = cloud_of(scheme)
    with pytest.raises(UsageError, match=cloud.requires) as caught:
        load_module(cloud, "datastore.storage.no_such_module")
    assert caught.value.hint == f"pip install 'datastore-ml[{cloud.extra}]'"
