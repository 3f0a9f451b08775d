"""What a remote may be called, where it may be, and that no secret gets into the settings."""

from __future__ import annotations

import pytest

from datastore.settings.remotes import remote_problem

SECRET = "wJalrXUtnFEMI/K7MDENG"


@pytest.mark.parametrize("name", ["origin", "a", "A-b_c.9", "2nd", "_x", "x" * 100])
def test_names(name):
    assert remote_problem(name, {"url": "s3://bucket"}) is None


@pytest.mark.parametrize("name", ["", "a b", "a/b", "-a", ".a", "ä", "a\n", "x" * 101, 1, None])
def test_names_that_are_none(name):
    assert remote_problem(name, {"url": "s3://bucket"}).key == ""


@pytest.mark.parametrize(
    "url",
    [
        "s3://bucket",
        "s3://bucket/a path/with spaces",
        "gs://bucket/x",
        "az://container/x",
        "abfss://container@account.dfs.core.windows.net/x",
        "sftp://ada@host:2222/srv/data",
        "sftp://[::1]:22/srv/data",
        "sftp://ada@[::1]/srv/data",
        "memory://x",
        "file:///data/a:b@c",
        "/data/shared",
        "/data/what?#",
        "./data",
        "../data",
        "..",
        ".",
    ],
)
def test_urls(url):
    assert remote_problem("origin", {"url": url}) is None


@pytest.mark.parametrize(
    "url",
    [
        "",
        " s3://bucket",
        "s3://bucket\n",
        "s3://buck\x1bet",
        "bucket",
        "bucket/path",
        "~/data",
        ".hidden/data",
        "host:path",
        "C:\\data",
        "file://data/shared",
        "file://../data",
        "s3://bucket/x?versionId=1",
        "gs://bucket/x#y",
    ],
)
def test_urls_that_are_none(url):
    problem = remote_problem("origin", {"url": url})
    assert problem.key == "url"
    assert "secret" not in problem.reason


@pytest.mark.parametrize(
    "url",
    [
        f"s3://AKIAIOSFODNN7EXAMPLE:{SECRET}@bucket/x",
        "s3://user:pass@bucket",
        "s3://:pass@bucket",
        f"s3://user:{SECRET}@bucket/x",
        "sftp://ada:pa/ss@host/srv",
        "sftp://ada:p@ss@host/srv",
        "SFTP://ada:pass@host/srv",
        "sftp://ada:@host/srv",
        "az://container/x?sv=2020&sig=abc",
        "s3://AKIAIOSFODNN7EXAMPLE@bucket/x",
    ],
)
def test_secrets_in_urls(url):
    problem = remote_problem("origin", {"url": url})
    assert problem.key == "url"
    assert "secret" in problem.reason
    assert problem.hint
    assert "pass" not in problem.reason + problem.hint.replace("password", "")
    assert SECRET not in problem.reason + problem.hint


@pytest.mark.parametrize(
    "key",
    [
        "key",
        "Key",
        "secret",
        "token",
        "password",
        "passwd",
        "passphrase",
        "pass",
        "sas",
        "sas_token",
        "sas-token",
        "account_key",
        "accountKey",
        "connection_string",
        "aws_secret_access_key",
        "aws_access_key_id",
        "secretAccessKey",
        "session_token",
        "client_secret",
        "credential",
        "credentials",
        "private_key",
        "api_key",
        "auth",
    ],
)
def test_names_of_secrets(key):
    problem = remote_problem("origin", {"url": "s3://bucket", key: "x"})
    assert problem.key == key
    assert "~/.aws/credentials" in problem.hint


@pytest.mark.parametrize(
    "key", ["key_filename", "key_file", "credentials_file", "token_path", "token_env"]
)
def test_names_of_places_where_secrets_are(key):
    assert remote_problem("origin", {"url": "s3://bucket", key: "/home/ada/x"}) is None


@pytest.mark.parametrize(
    "key", ["region", "profile", "endpoint_url", "sse_kms_key_id", "account_name", "project"]
)
def test_names_of_options(key):
    assert remote_problem("origin", {"url": "s3://bucket", key: "x"}) is None


@pytest.mark.parametrize("key", ["", "a b", "-a", "a=b", "<<", "ä", 1, None])
def test_names_of_options_that_are_none(key):
    assert remote_problem("origin", {"url": "s3://b", key: "x"}).key == str(key)


@pytest.mark.parametrize(
    "value",
    [
        "AKIAIOSFODNN7EXAMPLE",
        "-----BEGIN OPENSSH PRIVATE KEY-----",
        "DefaultEndpointsProtocol=https;AccountKey=abc",
        "https://x/?sig=abc",
        "https://ada:pass@proxy:8080",
    ],
)
def test_values_that_are_secret_whatever_they_are_called(value):
    problem = remote_problem("origin", {"url": "gs://bucket", "colour": value})
    assert "secret" in problem.reason
    assert value not in problem.reason + problem.hint


@pytest.mark.parametrize(
    ("url", "word"),
    [
        ("s3://b", "AWS_ACCESS_KEY_ID"),
        ("gcs://b", "gcloud auth"),
        ("abfss://b", "az login"),
        ("ssh://b", "ssh"),
        ("ftp://b", "environment"),
        ("/b", "environment"),
    ],
)
def test_where_secrets_go(url, word):
    assert word in remote_problem("origin", {"url": url, "secret": "x"}).hint
