"""Server programs on loopback: found, started, waited for, killed.

Nothing started here outlives the tests, however they end: see `_WATCHED`.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple, NoReturn, Self

LOOPBACK = "127.0.0.1"

_PATIENCE = 60.0
"""Seconds within which a server answers. The first start on a machine reads it from a cold disk."""

_PORTS = range(20_000, 32_000)
"""Below those that the system hands out to outgoing connections, which would take one of ours."""

# The server gets a companion in its process group, which kills the group when our end of a pipe is
# closed: by kill(), or by the system when this process has died of whatever.
_WATCHED = 'exec 3<&0; { read -r _ <&3; kill -KILL 0; } & exec "$@" </dev/null 3<&-'


class Address(NamedTuple):
    """Where a server listens."""

    host: str
    port: int

    @property
    def url(self) -> str:
        return f"http://{self.host}:{self.port}"


# -- programs ----------------------------------------------------------------------------------


def missing(what: str, how: str) -> NoReturn:
    """Ends a test that needs a server which is not installed: fails it in CI, else skips it."""
    import pytest  # benchmarks start servers too, and can do without

    reason = f"{what} is not installed: {how}"
    if os.environ.get("DATASTORE_REQUIRE_SERVERS") == "1":
        pytest.fail(reason, pytrace=False)
    pytest.skip(reason)


def program(name: str, how: str, *, variable: str = "", places: Sequence[Path] = ()) -> str:
    """Finds a program.

    Args:
        name: As on the PATH.
        how: To install it, in a few words.
        variable: An environment variable that may hold its path.
        places: Directories to look in, before the PATH is searched.
    """
    given = os.environ.get(variable, "")
    if given and Path(given).is_file():
        return given
    directories = [Path(sys.executable).parent, *places]
    path = os.pathsep.join([*map(str, directories), os.environ.get("PATH", os.defpath)])
    return shutil.which(name, path=path) or missing(name, how)


def library(name: str, how: str) -> None:
    """Makes sure that a Python package can be imported, without importing it."""
    if find_spec(name) is None:
        missing(name, how)


# -- ports -------------------------------------------------------------------------------------


class Ports:
    """Free TCP ports, which stay ours until closed, although nothing listens on them yet.

    The UDP port of the same number is held meanwhile. Whoever chooses ports in this way, such as
    another worker of the same test run, then passes them over; and a process that is killed lets go
    of them.
    """

    def __init__(self, count: int) -> None:
        self._held: list[socket.socket] = []
        start = random.randrange(len(_PORTS))
        candidates = itertools.chain(_PORTS[start:], _PORTS[:start])
        while len(self._held) < count:
            self._hold(next(candidates))

    def _hold(self, port: int) -> None:
        mark = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        try:
            mark.bind((LOOPBACK, port))
            with socket.socket() as probe:
                probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                probe.bind((LOOPBACK, port))
        except OSError:
            mark.close()
        else:
            self._held.append(mark)

    def __iter__(self) -> Iterator[int]:
        return iter([mark.getsockname()[1] for mark in self._held])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def close(self) -> None:
        """Lets go of them."""
        for mark in self._held:
            mark.close()


# -- processes ---------------------------------------------------------------------------------


class Server:
    """A server process on a free port of its own; kill it and start it again at will.

    Args:
        command: Makes the command line out of the ports that the server may listen on.
        log: File that takes what the server writes, for the message when it does not start.
        ports: How many it needs. The first is the one that clients talk to.
        environment: Variables on top of ours.
        ready: Tells whether the server at an address does its work yet.
    """

    def __init__(
        self,
        command: Callable[[list[int]], Sequence[str]],
        log: Path,
        *,
        ports: int = 1,
        environment: Mapping[str, str] | None = None,
        ready: Callable[[Address], bool] | None = None,
    ) -> None:
        self._ports = Ports(ports)
        self.address = Address(LOOPBACK, next(iter(self._ports)))
        self._command = command(list(self._ports))
        self._log = log
        self._environment = {**os.environ, **(environment or {})}
        self._ready = ready or answers_http
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self._ports.close()
            raise
        return self

    def __exit__(self, *error: object) -> None:
        self.kill()
        self._ports.close()

    def start(self) -> None:
        """Starts the server, and returns when it answers."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["/bin/sh", "-c", _WATCHED, "sh", *self._command],
                stdin=subprocess.PIPE,  # see _WATCHED
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )
        try:
            self._wait(self._process)
        except BaseException:
            self.kill()
            raise

    def _wait(self, process: subprocess.Popen[bytes]) -> None:
        end = time.monotonic() + _PATIENCE
        while not self._ready(self.address):
            ended = process.poll()
            if ended is not None or time.monotonic() > end:
                how = "does not answer" if ended is None else f"exited with {ended}"
                said = self._log.read_text(encoding="utf-8", errors="replace")[-2000:]
                raise RuntimeError(f"{self._command[0]} {how}:\n{said}")
            time.sleep(0.02)

    def kill(self, how: signal.Signals = signal.SIGKILL) -> None:
        """Ends the server: at once, or after it has put its things in order (`SIGTERM`)."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None
        with process.stdin:  # what is left of its group goes when this is closed
            if process.poll() is None:
                process.send_signal(how)
                process.wait(timeout=10)


def answers_http(address: Address) -> bool:
    """Whether a web server answers there, be it that nothing was found or that we may not look."""
    request = urllib.request.Request(address.url)
    try:
        with DIRECT.open(request, timeout=1):
            return True
    except urllib.error.HTTPError as error:
        error.close()
        return error.code < 500
    except OSError:
        return False


DIRECT = urllib.request.build_opener(urllib.request.ProxyHandler({}))
"""Never by way of a proxy that the environment names."""
