"""Every kind of storage, bare and as `open_storage` gives it, through the same checks."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

import pytest

from datastore.storage.base import Storage
from datastore.storage.clouds import check_options
from datastore.storage.places import STORAGES, open_storage, parse_url
from tests.conformance.storage import CHECKS, Check

PLACES = ["directory", "memory", "s3", "moto", "gcs", "azure", "sftp"]
JOBS = 8


@pytest.fixture(params=PLACES)
def place(request) -> tuple[str, dict[str, str]]:
    """The url and the options of a place that is empty."""
    if request.param == "memory":
        return f"memory://{uuid.uuid4().hex}/prefix", {}
    found = request.getfixturevalue(request.param)
    if request.param == "sftp":
        return found.url, {"key_file": str(found.key), "known_hosts": str(found.known_hosts)}
    return found.url, found.options


@pytest.fixture
def storage(place) -> Iterator[Storage]:
    url, options = place
    parsed = parse_url(url)
    bare = STORAGES[parsed.cloud.scheme](parsed, check_options(parsed.cloud.scheme, options), JOBS)
    if parsed.cloud.scheme in {"file", "sftp"}:
        bare.create("root", b"")  # the directory is made by writing
        bare.delete("root")
    yield bare
    bare.close()


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_adapter(storage: Storage, check: Check):
    check(storage)


@pytest.mark.parametrize("check", CHECKS, ids=lambda check: check.__name__)
def test_as_it_is_opened(tmp_path, check: Check):
    (tmp_path / "remote").mkdir()
    storage = open_storage(str(tmp_path / "remote"), jobs=JOBS)
    check(storage)
    storage.close()
