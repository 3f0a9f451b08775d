"""Azurite: Microsoft's emulator of Azure Storage, in memory."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tests.servers.processes import LOOPBACK, Server, program

TOP = Path(__file__).parents[2]


def server(directory: Path) -> Server:
    """Azurite with its log in a directory; not started. It forgets everything when it is killed."""
    azurite = program(
        "azurite-blob",
        "npm install azurite, and name its node_modules/.bin/azurite-blob in DATASTORE_AZURITE",
        variable="DATASTORE_AZURITE",
        places=[TOP / "node_modules" / ".bin"],
    )

    def command(ports: list[int]) -> Sequence[str]:
        return [
            azurite,
            f"--blobHost={LOOPBACK}",
            f"--blobPort={ports[0]}",
            "--inMemoryPersistence",
            "--silent",
            "--disableTelemetry",
            "--skipApiVersionCheck",  # a client may be newer
        ]

    return Server(command, directory / "log")
