from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from datastore.errors import UsageError
from datastore.storage.places import STORAGES, open_storage, parse_url


@pytest.mark.parametrize(
    ("url", "expected"),
    [
        ("s3://Bucket.1/a/b", ("s3", "s3://Bucket.1/a/b", "Bucket.1", "a/b", "", None)),
        ("s3://bucket", ("s3", "s3://bucket", "bucket", "", "", None)),
        ("s3://bucket//a/", ("s3", "s3://bucket/a", "bucket", "a", "", None)),
        ("gcs://bucket/a", ("gs", "gs://bucket/a", "bucket", "a", "", None)),
        ("abfs://container/a", ("az", "az://container/a", "container", "a", "", None)),
        ("memory://name/a", ("memory", "memory://name/a", "name", "a", "", None)),
        ("sftp://me@host:23/a/b/", ("sftp", "sftp://me@host:23/a/b", "host", "/a/b", "me", 23)),
        ("ssh://host/~/a", ("sftp", "sftp://host/~/a", "host", "/~/a", "", None)),
        ("file:///a/b%20c", ("file", "file:///a/b%20c", "", "/a/b c", "", None)),
        ("/a/../b/", ("file", "file:///b", "", "/b", "", None)),
    ],
)
def test_urls(url, expected):
    place = parse_url(url)
    assert (place.cloud.scheme, *place[1:]) == expected


def test_a_relative_path_counts_from_here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert parse_url("../x").path == str(tmp_path.parent / "x")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a\0b",
        "ftp://host/x",
        "s3://",
        "s3:///key",
        "s3:bucket",
        "s3://bucket/../x",
        "s3://bucket/a//b",
        "s3://bucket/a?versionId=1",
        "s3://bucket/#a",
        "s3://bucket:80/a",
        "gs://bucket/a%5Cb",
        "sftp://host",
        "sftp://host/",
        "sftp://host:port/a",
        "sftp://host:99999/a",
        "file://server/share",
        "file:relative",
        "s3://[bad/x",
    ],
)
def test_what_is_not_a_url(url):
    with pytest.raises(UsageError) as caught:
        parse_url(url)
    assert caught.value.message


@pytest.mark.parametrize(
    "url",
    [
        "s3://key:hunter2@bucket/x",
        "s3://key@bucket/x",
        "gs://user:hunter2@bucket",
        "sftp://me:hunter2@host/x",
        "file://me:hunter2@localhost/x",
    ],
)
def test_a_url_with_a_password_is_refused_and_the_password_not_repeated(url):
    with pytest.raises(UsageError, match="password") as caught:
        open_storage(url)
    shown = caught.value.message + caught.value.hint + caught.value.where
    assert "hunter2" not in shown


def test_options_are_checked():
    with pytest.raises(UsageError, match="looks like a secret"):
        open_storage("s3://bucket", {"secret": "x"})


def test_some_jobs_are_needed(tmp_path):
    with pytest.raises(UsageError, match="at least 1"):
        open_storage(str(tmp_path), jobs=0)


def test_every_kind_that_is_known_can_be_opened():
    from datastore.storage.clouds import CLOUDS

    assert set(STORAGES) == set(CLOUDS)


def test_what_is_opened_works(tmp_path):
    storage = open_storage((tmp_path / "a b").as_uri())
    storage.write("x", b"x")
    assert (tmp_path / "a b" / "x").read_bytes() == b"x"
    assert Path(storage.url.removeprefix("file://").replace("%20", " ")) == tmp_path / "a b"
    storage.close()


def test_a_missing_package_is_named(monkeypatch):
    for name in ("s3fs", "datastore.storage.s3"):
        monkeypatch.setitem(sys.modules, name, None)
    monkeypatch.delitem(sys.modules, "datastore.storage.s3")
    with pytest.raises(UsageError, match="s3:// needs the package s3fs") as caught:
        open_storage("s3://bucket")
    assert caught.value.hint == "pip install 'datastore-ml[s3]'"


def test_nothing_heavy_is_imported_before_it_is_needed():
    program = """
import sys
from datastore.storage.places import open_storage
open_storage("nowhere").close()
heavy = ["aiohttp", "asyncio", "fsspec", "s3fs", "gcsfs", "adlfs", "paramiko", "botocore"]
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
