"""Moto: an S3 server in memory whose answers, and errors above all, are shaped as Amazon's are."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.servers.processes import LOOPBACK, Server, library


def server(directory: Path) -> Server:
    """Moto with its log in a directory; not started. It forgets everything when it is killed."""
    library("moto", "pip install 'moto[server]', or datastore-ml[dev]")
    start = [sys.executable, "-m", "moto.server", "-H", LOOPBACK]
    return Server(lambda ports: [*start, "-p", str(ports[0])], directory / "log")
