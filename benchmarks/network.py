"""An S3 server on loopback, the network in front of it, and what went over that network.

The server is SeaweedFS with a fresh directory. A network is either the bare loopback (``direct``)
or the tests' proxy, which holds every answer back for some milliseconds and counts requests and
bytes. The proxy runs in a process of its own, which is this file as a program::

    python benchmarks/network.py PORT-OF-SERVER MILLISECONDS
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

sys.path.insert(0, os.fspath(Path(__file__).resolve().parents[1]))

from tests.servers import weed
from tests.servers.buckets import make_s3_bucket
from tests.servers.faultproxy import FaultProxy, Request
from tests.servers.places import KEY, SECRET
from tests.servers.processes import LOOPBACK, Address

BUCKET = "bench"
DIRECT = "direct"
CREDENTIALS: Mapping[str, str] = {
    "AWS_ACCESS_KEY_ID": KEY,
    "AWS_SECRET_ACCESS_KEY": SECRET,
    "AWS_DEFAULT_REGION": "us-east-1",
    "AWS_EC2_METADATA_DISABLED": "true",
}


@dataclass(frozen=True, slots=True)
class Traffic:
    """What went over a network during a step.

    Attributes:
        requests: How many, by kind; None where nobody counts.
        up: Bytes of the requests' bodies.
        down: Bytes of the answers' bodies.
        most_at_once: Requests under way at one time, at most.
        cpu: CPU seconds of server and proxy, which share the machine with the client.
    """

    requests: dict[str, int] | None
    up: int | None
    down: int | None
    most_at_once: int | None
    cpu: float

    def row(self) -> dict[str, Any]:
        """Returns the figures as a JSON object."""
        return {
            "kinds": self.requests,
            "requests": None if self.requests is None else sum(self.requests.values()),
            "up": self.up,
            "down": self.down,
            "most_at_once": self.most_at_once,
            "server_cpu": self.cpu,
        }


class Network:
    """One way to the server.

    Args:
        name: `DIRECT`, or the added milliseconds of every answer.
        server: Where the server listens.
        server_pid: Its process.
    """

    def __init__(self, name: str, server: Address, server_pid: int) -> None:
        self.name = name
        self.url = server.url
        self._pids = [server_pid]
        self._proxy: subprocess.Popen[str] | None = None
        self._cpu = 0.0
        if name != DIRECT:
            command = [sys.executable, __file__, str(server.port), name]
            self._proxy = subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            self._pids.append(self._proxy.pid)
            self.url = self._said()

    def begin(self) -> None:
        """Forgets what went by until now."""
        self._counts()
        self._cpu = self._cpu_now()

    def end(self) -> Traffic:
        """Returns what went by since `begin`."""
        cpu = self._cpu_now() - self._cpu
        counts = self._counts()
        if counts is None:
            return Traffic(None, None, None, None, cpu)
        return Traffic(counts["requests"], counts["up"], counts["down"], counts["most"], cpu)

    def close(self) -> None:
        """Ends the proxy."""
        if self._proxy is not None and self._proxy.stdin is not None:
            self._proxy.stdin.close()
            self._proxy.wait(timeout=30)

    def _counts(self) -> dict[str, Any] | None:
        if self._proxy is None or self._proxy.stdin is None:
            return None
        self._proxy.stdin.write("take\n")
        self._proxy.stdin.flush()
        counts: dict[str, Any] = json.loads(self._said())
        return counts

    def _said(self) -> str:
        out: IO[str] | None = self._proxy.stdout if self._proxy is not None else None
        line = out.readline().strip() if out is not None else ""
        if not line:
            raise RuntimeError("the proxy has ended")
        return line

    def _cpu_now(self) -> float:
        return sum(_cpu_of(pid) for pid in self._pids)


@contextlib.contextmanager
def networks(names: Sequence[str], directory: Path) -> Iterator[list[Network]]:
    """Starts a server whose bucket is empty, and the networks in front of it.

    Args:
        names: Of the networks.
        directory: For the server's data; made anew.
    """
    directory.mkdir(parents=True)
    before = _children()
    with weed.server(directory) as server, contextlib.ExitStack() as stack:
        # The one that came: the shell that started the server has become it.
        (pid,) = _children() - before
        make_s3_bucket(server.address, BUCKET)
        _first_write(server.address)
        opened = []
        for name in names:
            opened.append(Network(name, server.address, pid))
            stack.callback(opened[-1].close)
        yield opened


def _first_write(address: Address) -> None:
    """Stores an object: the first one in a bucket waits until the server has made room for it."""
    import botocore.session  # noqa: PLC0415 - the proxy's process does without

    client = botocore.session.Session().create_client(
        "s3",
        region_name="us-east-1",
        endpoint_url=address.url,
        aws_access_key_id=KEY,
        aws_secret_access_key=SECRET,
    )
    client.put_object(Bucket=BUCKET, Key="first", Body=b"first")
    client.close()


# -- processes, as Linux shows them ------------------------------------------------------------


def _children() -> set[int]:
    found = set()
    for name in os.listdir("/proc"):
        if name.isdigit() and (facts := _facts(int(name))) and int(facts[1]) == os.getpid():
            found.add(int(name))
    return found


def _cpu_of(pid: int) -> float:
    facts = _facts(pid)
    return sum(map(int, facts[11:13])) / os.sysconf("SC_CLK_TCK") if facts else 0.0


def _facts(pid: int) -> list[str]:
    """Returns the fields of a process after its name, which may hold anything: state, parent..."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


# -- the proxy's process -----------------------------------------------------------------------


def kind(request: Request) -> str:
    """Names what a request is: its method, or LIST for a listing."""
    _, _, query = request.path.partition("?")
    if request.method == "GET" and ("list-type=" in query or "prefix=" in query):
        return "LIST"
    return request.method


def counted(proxy: FaultProxy) -> dict[str, Any]:
    """Says what a proxy has seen, and makes it forget that."""
    seen = list(proxy.requests)
    counts = {
        "requests": dict(sorted(Counter(map(kind, seen)).items())),
        "up": sum(request.up for request in seen),
        "down": sum(request.down for request in seen),
        "most": proxy.most_at_once,
    }
    proxy.requests.clear()
    proxy.most_at_once = 0
    return counts


def main() -> None:
    """Runs a proxy until its standard input ends; each line that it reads asks what went by."""
    parser = argparse.ArgumentParser(description="A slow network that counts.")
    parser.add_argument("server", type=int, help="its port")
    parser.add_argument("latency", type=float, help="milliseconds for each answer")
    args = parser.parse_args()
    with FaultProxy(Address(LOOPBACK, args.server), latency=args.latency / 1000) as proxy:
        sys.stdout.write(proxy.address.url + "\n")
        sys.stdout.flush()
        for _ in sys.stdin:
            time.sleep(0.05)  # what the client no longer waits for may still be on its way
            sys.stdout.write(json.dumps(counted(proxy)) + "\n")
            sys.stdout.flush()


if __name__ == "__main__":
    main()
