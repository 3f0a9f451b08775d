"""An emulator of Google Cloud Storage, in memory: see `tests.servers.gcs_emulator`."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.servers.processes import Server, library

TOP = Path(__file__).parents[2]


def server(directory: Path) -> Server:
    """The emulator with its log in a directory; not started. It forgets everything when killed."""
    library("gcp_storage_emulator", "pip install gcp-storage-emulator, or datastore-ml[dev]")
    start = [sys.executable, "-m", "tests.servers.gcs_emulator"]
    return Server(
        lambda ports: [*start, str(ports[0])],
        directory / "log",
        environment={"PYTHONPATH": str(TOP)},
    )
