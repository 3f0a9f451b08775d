"""Places to keep data in, as a test is given them: an address, options and an environment."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, Self

from tests.servers.processes import Address

if TYPE_CHECKING:
    import pytest

    from tests.servers.faultproxy import FaultProxy

KEY, SECRET = "testing", "testing123"
"""What the S3 servers let in."""

AZURE_ACCOUNT = "devstoreaccount1"
AZURE_KEY = (  # the one that Microsoft prints in Azurite's manual, and that is no secret
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw=="
)

GCSFS_ENVIRONMENT = {
    # Else it asks what kind of bucket it has, by gRPC, which the emulator does not speak.
    "GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT": "false",
    # It goes on without credentials when it finds none, so let it not look for them on the network.
    "NO_GCE_CHECK": "true",
}
"""Looked at when gcsfs is imported."""


@dataclass(frozen=True, kw_only=True)
class Place:
    """Where a test keeps its data; nothing else is there.

    Attributes:
        url: As a user names it.
    """

    url: str

    FOREIGN: ClassVar[tuple[str, ...]] = ()
    """Prefixes of environment variables by which the machine's user would interfere."""

    @property
    def options(self) -> dict[str, str]:
        """What the configuration says besides the URL."""
        return {}

    @property
    def environment(self) -> dict[str, str]:
        """The variables that the client library reads."""
        return {}

    def enter(self, patch: pytest.MonkeyPatch) -> Self:
        """Puts the environment in force, in this process and in those that it starts."""
        for name in [name for name in os.environ if name.startswith(self.FOREIGN)]:
            patch.delenv(name)
        for name, value in self.environment.items():
            patch.setenv(name, value)
        return self


@dataclass(frozen=True, kw_only=True)
class Directory(Place):
    """A directory of this machine."""

    path: Path


@dataclass(frozen=True, kw_only=True)
class WebPlace(Place):
    """A place that is reached by HTTP.

    Attributes:
        endpoint: Where the requests go.
        proxy: What listens there, if it is not the server itself.
    """

    endpoint: Address
    proxy: FaultProxy | None = None

    @property
    def environment(self) -> dict[str, str]:
        return {"NO_PROXY": self.endpoint.host, "no_proxy": self.endpoint.host}

    def through(self, proxy: FaultProxy) -> Self:
        """The same place by way of a proxy. Its environment is not in force yet."""
        return replace(self, endpoint=proxy.address, proxy=proxy)


@dataclass(frozen=True, kw_only=True)
class S3Place(WebPlace):
    """A prefix in a bucket."""

    FOREIGN = ("AWS_",)

    @property
    def options(self) -> dict[str, str]:
        return {"endpoint_url": self.endpoint.url}

    @property
    def environment(self) -> dict[str, str]:
        return {
            **super().environment,
            "AWS_ACCESS_KEY_ID": KEY,
            "AWS_SECRET_ACCESS_KEY": SECRET,
            "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_EC2_METADATA_DISABLED": "true",
            "AWS_CONFIG_FILE": os.devnull,
            "AWS_SHARED_CREDENTIALS_FILE": os.devnull,
        }


@dataclass(frozen=True, kw_only=True)
class GcsPlace(WebPlace):
    """A prefix in a bucket of Google Cloud Storage."""

    FOREIGN = ("CLOUDSDK_", "GOOGLE_", "STORAGE_EMULATOR_HOST")

    @property
    def options(self) -> dict[str, str]:
        return {"endpoint_url": self.endpoint.url}

    @property
    def environment(self) -> dict[str, str]:
        return {
            **super().environment,
            **GCSFS_ENVIRONMENT,
            "CLOUDSDK_CONFIG": os.devnull,
        }


@dataclass(frozen=True, kw_only=True)
class AzurePlace(WebPlace):
    """A prefix in a container of Azure."""

    FOREIGN = ("AZURE_",)

    @property
    def environment(self) -> dict[str, str]:
        parts = {
            "DefaultEndpointsProtocol": "http",
            "AccountName": AZURE_ACCOUNT,
            "AccountKey": AZURE_KEY,
            "BlobEndpoint": f"{self.endpoint.url}/{AZURE_ACCOUNT}",
        }
        text = "".join(f"{name}={value};" for name, value in parts.items())
        return {**super().environment, "AZURE_STORAGE_CONNECTION_STRING": text}


@dataclass(frozen=True, kw_only=True)
class SftpPlace(Place):
    """A directory behind SSH.

    Attributes:
        endpoint: Where sshd listens.
        path: The directory, as this machine sees it.
        key: File of the private key that is let in.
        known_hosts: File with the server's public key, as ``ssh`` keeps it.
    """

    endpoint: Address
    path: Path
    key: Path
    known_hosts: Path

    @property
    def options(self) -> dict[str, str]:
        return {"key_file": str(self.key), "known_hosts": str(self.known_hosts)}
