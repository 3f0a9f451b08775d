"""Logging in to an SSH server whose identity is known, and what can go wrong on the way.

fsspec's own file system for SFTP takes any host key that a server shows, so that whoever stands
between could read and change everything. Here a server has to be in ``known_hosts``, as for `ssh`.
"""

from __future__ import annotations

import base64
import contextlib
import errno
import hashlib
import logging
import re
import socket
from typing import Final, NamedTuple, NoReturn

import paramiko

from datastore.storage.reasons import (
    CREDENTIALS,
    CUT,
    DENIED,
    HOST_KEY,
    MISSING,
    REFUSED,
    TIMEOUT,
    UNREACHABLE,
    Trouble,
)

# What goes wrong is raised; without a handler it would be printed, too.
logging.getLogger("paramiko").addHandler(logging.NullHandler())

_CONNECT: Final = 15.0  # seconds for each step of logging in
_ANSWER: Final = 60.0  # seconds without a byte from the server
_WINDOW: Final = 4 * 1024 * 1024  # bytes under way: a line may be fast and long
# What the library says of a file with no key that it can read; which kind it tried last varies.
_NO_KEY: Final = re.compile(
    "private key file|[Ii]nvalid key|deserialize key|OpenSSH key|expected .*key"
)
_SYSTEM_HOSTS: Final = "/etc/ssh/ssh_known_hosts"


class Login(NamedTuple):
    """Whom to ask, and as whom."""

    host: str
    port: int
    user: str
    """Empty: as who runs this."""
    key_file: str | None
    """A private key; else the agent and the user's own keys are tried."""
    known_hosts: str | None
    """Else the user's own and the machine's are used."""

    @property
    def address(self) -> str:
        """As ``known_hosts`` has it."""
        return self.host if self.port == 22 else f"[{self.host}]:{self.port}"


class _UnknownHostError(paramiko.SSHException):  # type: ignore[misc]
    """The server's key is not in ``known_hosts``."""


class _Refuse(paramiko.MissingHostKeyPolicy):  # type: ignore[misc]
    def missing_host_key(
        self,
        client: paramiko.SSHClient,
        hostname: str,
        key: paramiko.PKey,
    ) -> NoReturn:
        digest = base64.b64encode(hashlib.sha256(key.asbytes()).digest()).decode().rstrip("=")
        raise _UnknownHostError(f"it shows the {key.get_name()} key SHA256:{digest}")


def log_in(login: Login) -> tuple[paramiko.SSHClient, paramiko.SFTPClient]:
    """Connects; both are closed by closing the first.

    Raises:
        Exception: Whatever `explain_login` understands.
    """
    client = paramiko.SSHClient()
    try:
        if login.known_hosts is None:
            client.load_system_host_keys()
            with contextlib.suppress(OSError):
                client.load_system_host_keys(_SYSTEM_HOSTS)
        else:
            client.load_system_host_keys(login.known_hosts)
        client.set_missing_host_key_policy(_Refuse())
        client.connect(
            login.host,
            login.port,
            username=login.user or None,
            key_filename=login.key_file,
            allow_agent=login.key_file is None,
            look_for_keys=login.key_file is None,
            timeout=_CONNECT,
            banner_timeout=_CONNECT,
            auth_timeout=_CONNECT,
            channel_timeout=_CONNECT,
        )
        transport = client.get_transport()
        assert transport is not None
        files = paramiko.SFTPClient.from_transport(transport, window_size=_WINDOW)
        assert files is not None
        channel = files.get_channel()
        assert channel is not None
        channel.settimeout(_ANSWER)
    except BaseException:
        client.close()
        raise
    return client, files


def explain_login(error: BaseException, login: Login) -> Trouble | None:
    """Understands what `log_in` raised; None for what is not about the server."""
    said = str(error)
    if isinstance(error, _UnknownHostError):
        port = f"-p {login.port} " if login.port != 22 else ""
        where = login.known_hosts or "~/.ssh/known_hosts"
        return Trouble(
            HOST_KEY,
            said,
            hint=f"Compare that with what the server's owner says, then: ssh-keyscan {port}"
            f"{login.host} >> {where}",
        )
    if isinstance(error, paramiko.BadHostKeyException):
        return Trouble(
            HOST_KEY,
            "it shows another key than the one in known_hosts",
            hint="Somebody may be in between. If the server was set up anew, remove its old key:"
            f" ssh-keygen -R '{login.address}'",
        )
    if isinstance(error, paramiko.PasswordRequiredException):
        hint = "Load the key into the SSH agent: ssh-add"
        return Trouble(CREDENTIALS, f"the key {login.key_file} needs a passphrase", hint=hint)
    if isinstance(error, paramiko.AuthenticationException):
        return Trouble(CREDENTIALS, said)
    if isinstance(error, paramiko.SSHException) and "authentication methods" in said:
        return Trouble(CREDENTIALS, said)
    if isinstance(error, paramiko.SSHException) and login.key_file and _NO_KEY.search(said):
        return Trouble(
            CREDENTIALS, f"{login.key_file}: {said}", hint="Correct the remote's options."
        )
    named = {login.key_file, login.known_hosts} - {None}  # errors of a network name no file
    if isinstance(error, OSError) and error.filename in named:
        return Trouble(CREDENTIALS, said, hint="Correct the remote's options.")
    return explain_broken(error)


def explain_broken(error: BaseException) -> Trouble | None:
    """Understands a connection that failed; None for everything else."""
    said = str(error) or type(error).__name__
    if isinstance(error, TimeoutError):
        return Trouble(TIMEOUT)
    unreachable = (socket.gaierror, paramiko.ssh_exception.NoValidConnectionsError)
    if isinstance(error, unreachable):
        return Trouble(UNREACHABLE, said)
    if isinstance(error, (EOFError, paramiko.SSHException, OSError)):
        lost = isinstance(error, OSError) and error.errno in {errno.ENETUNREACH, errno.EHOSTUNREACH}
        return Trouble(UNREACHABLE if lost else CUT, said)
    return None


def explain_status(error: OSError) -> Trouble:
    """Understands what a server that is still there answered."""
    reasons = {errno.ENOENT: MISSING, errno.EACCES: DENIED}
    said = error.strerror or str(error)
    # SFTP has no numbers for a full disk, a quota or a name that is too long.
    return Trouble(reasons.get(error.errno or 0, REFUSED), said)
