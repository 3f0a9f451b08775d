"""OpenSSH's server, run by and for the current user, with keys that are made for the occasion.

When it is killed it takes no new connections. One that is open has a process of its own, which ends
with its client.
"""

from __future__ import annotations

import getpass
import os
import socket
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from tests.servers.places import SftpPlace
from tests.servers.processes import LOOPBACK, Address, Server, program

_HOW = "apt-get install openssh-server"

_CONFIGURATION = """
ListenAddress {address.host}
Port {address.port}
HostKey {directory}/host_key
AuthorizedKeysFile {directory}/client_key.pub
AuthenticationMethods publickey
PermitRootLogin prohibit-password
StrictModes no
UsePAM no
UseDNS no
PrintMotd no
PidFile none
MaxStartups 100
MaxSessions 100
Subsystem sftp internal-sftp
"""


@dataclass(frozen=True)
class Sshd:
    """An SSH server, and what a client needs to come in.

    Attributes:
        server: Not started.
        directory: Holds the keys.
    """

    server: Server
    directory: Path

    def place(self, path: Path) -> SftpPlace:
        """A directory of this machine by way of the server."""
        address = self.server.address
        known = self.directory / "known_hosts"
        public = (self.directory / "host_key.pub").read_text(encoding="ascii")
        known.write_text(f"[{address.host}]:{address.port} {public}", encoding="ascii")
        return SftpPlace(
            url=f"sftp://{getpass.getuser()}@{address.host}:{address.port}{path}",
            endpoint=address,
            path=path,
            key=self.directory / "client_key",
            known_hosts=known,
        )


def sshd(directory: Path) -> Sshd:
    """An SSH server with its keys and its log in a directory; not started."""
    daemon = program("sshd", _HOW, places=[Path("/usr/sbin"), Path("/usr/local/sbin")])
    keygen = program("ssh-keygen", _HOW)
    if os.geteuid() == 0:  # it then wants a directory to lock its helper up in
        Path("/run/sshd").mkdir(mode=0o755, parents=True, exist_ok=True)
    for name in ("host_key", "client_key"):
        subprocess.run(
            [keygen, "-q", "-t", "ed25519", "-N", "", "-C", name, "-f", directory / name],
            check=True,
        )
    configuration = directory / "sshd_config"

    def command(ports: list[int]) -> Sequence[str]:
        text = _CONFIGURATION.format(address=Address(LOOPBACK, ports[0]), directory=directory)
        configuration.write_text(text, encoding="utf-8")
        return [daemon, "-D", "-e", "-f", str(configuration)]

    return Sshd(Server(command, directory / "log", ready=answers_ssh), directory)


def answers_ssh(address: Address) -> bool:
    """Whether an SSH server greets there."""
    try:
        with socket.create_connection(address, timeout=1) as connection:
            return connection.recv(4) == b"SSH-"
    except OSError:
        return False
