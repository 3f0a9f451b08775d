"""Places to keep data in, as fixtures: real servers, each started once per test worker when needed.

`s3`, `moto`, `gcs`, `azure`, `sftp` and `directory` give a test a `Place` in which nothing lies,
with its environment in force. `proxied` puts a `FaultProxy` between the test and such a place;
`proxied_s3` and its like are short for that. A test that kills a server asks for `weed_server` as
well, and starts it again before it ends.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import TypeVar

import pytest

from tests.servers import azurite, buckets, weed
from tests.servers import gcs as gcs_module
from tests.servers import moto as moto_module
from tests.servers.faultproxy import FaultProxy
from tests.servers.places import (
    GCSFS_ENVIRONMENT,
    AzurePlace,
    Directory,
    GcsPlace,
    S3Place,
    SftpPlace,
    WebPlace,
)
from tests.servers.processes import Server
from tests.servers.sshd import Sshd, sshd

AnyWebPlace = TypeVar("AnyWebPlace", bound=WebPlace)

BUCKET = "tests"
"""One for all tests: a new one would cost each of them a fifth of a second."""


def fresh(scheme: str) -> str:
    """The URL of a prefix that nobody has used."""
    return f"{scheme}://{BUCKET}/{uuid.uuid4().hex[:12]}"


def pytest_configure() -> None:
    """Decides which of its two file systems gcsfs gives, before anything imports it."""
    os.environ.update(GCSFS_ENVIRONMENT)


# -- servers -----------------------------------------------------------------------------------


@pytest.fixture(scope="session")
def weed_server(tmp_path_factory) -> Iterator[Server]:
    """SeaweedFS. It keeps its data when it is killed."""
    with weed.server(tmp_path_factory.mktemp("weed")) as server:
        buckets.make_s3_bucket(server.address, BUCKET)
        yield server


@pytest.fixture(scope="session")
def moto_server(tmp_path_factory) -> Iterator[Server]:
    """Moto. It forgets everything, the bucket too, when it is killed."""
    with moto_module.server(tmp_path_factory.mktemp("moto")) as server:
        buckets.make_s3_bucket(server.address, BUCKET)
        yield server


@pytest.fixture(scope="session")
def gcs_server(tmp_path_factory) -> Iterator[Server]:
    """An emulator of Google Cloud Storage. It forgets everything, the bucket too."""
    with gcs_module.server(tmp_path_factory.mktemp("gcs")) as server:
        buckets.make_gcs_bucket(server.address, BUCKET)
        yield server


@pytest.fixture(scope="session")
def azure_server(tmp_path_factory) -> Iterator[Server]:
    """Azurite. It forgets everything, the container too, when it is killed."""
    with azurite.server(tmp_path_factory.mktemp("azurite")) as server:
        buckets.make_azure_container(server.address, BUCKET)
        yield server


@pytest.fixture(scope="session")
def ssh_server(tmp_path_factory) -> Iterator[Sshd]:
    """OpenSSH's server."""
    made = sshd(tmp_path_factory.mktemp("sshd"))
    with made.server:
        yield made


# -- places ------------------------------------------------------------------------------------


@pytest.fixture
def directory(tmp_path) -> Directory:
    """A directory, not made yet, as a ``file://`` URL."""
    path = tmp_path / "remote"
    return Directory(url=path.as_uri(), path=path)


@pytest.fixture
def s3(weed_server, monkeypatch) -> S3Place:
    """A prefix on SeaweedFS: honest about conditions, sums and signatures."""
    return S3Place(url=fresh("s3"), endpoint=weed_server.address).enter(monkeypatch)


@pytest.fixture
def moto(moto_server, monkeypatch) -> S3Place:
    """A prefix on Moto: its errors are Amazon's to the letter, but it checks nothing."""
    return S3Place(url=fresh("s3"), endpoint=moto_server.address).enter(monkeypatch)


@pytest.fixture
def gcs(gcs_server, monkeypatch) -> GcsPlace:
    """A prefix in a bucket of the emulator of Google Cloud Storage."""
    return GcsPlace(url=fresh("gs"), endpoint=gcs_server.address).enter(monkeypatch)


@pytest.fixture
def azure(azure_server, monkeypatch) -> AzurePlace:
    """A prefix in a container of Azurite."""
    return AzurePlace(url=fresh("az"), endpoint=azure_server.address).enter(monkeypatch)


@pytest.fixture
def sftp(ssh_server, tmp_path) -> SftpPlace:
    """A directory, not made yet, behind SSH."""
    return ssh_server.place(tmp_path / "remote")


# -- with faults -------------------------------------------------------------------------------


@pytest.fixture
def proxied(monkeypatch) -> Iterator[Callable[[AnyWebPlace], AnyWebPlace]]:
    """``proxied(place)``: the place by way of a fault proxy, which is its `proxy`."""
    with ExitStack() as stack:

        def put_between(place: AnyWebPlace) -> AnyWebPlace:
            proxy = stack.enter_context(FaultProxy(place.endpoint))
            return place.through(proxy).enter(monkeypatch)

        yield put_between


@pytest.fixture
def proxied_s3(s3, proxied) -> S3Place:
    return proxied(s3)


@pytest.fixture
def proxied_gcs(gcs, proxied) -> GcsPlace:
    return proxied(gcs)


@pytest.fixture
def proxied_azure(azure, proxied) -> AzurePlace:
    return proxied(azure)
