"""Logins to one SSH server that are kept and lent out, one to each thread that asks."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import paramiko

from datastore.errors import StorageError
from datastore.storage.forking import forget_in_child
from datastore.storage.reasons import Call, closed_error, error_of
from datastore.storage.ssh import Login, explain_login, log_in


class Connection:
    """One login; for one thread at a time.

    Args:
        login: Whom to ask, and as whom.
    """

    def __init__(self, login: Login) -> None:
        self._client, self.files = log_in(login)
        self.broken = False
        """Set where answers may still be under way that nobody waits for."""

    @property
    def alive(self) -> bool:
        """Whether the server is still there, as far as is known."""
        transport = self._client.get_transport()
        channel = self.files.get_channel()
        return bool(transport and transport.is_active() and channel and not channel.closed)

    def close(self) -> None:
        """Ends it, and with it every call that waits for an answer."""
        self._client.close()


class Connections:
    """A few logins to one server.

    Args:
        login: Whom to ask, and as whom.
        most: So many are open at once.
    """

    def __init__(self, login: Login, most: int) -> None:
        self._login = login
        self._most = most
        self._closed = False
        self.forget()
        forget_in_child(self)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    @property
    def open(self) -> int:
        """How many there are."""
        return len(self._all)

    def forget(self) -> object:
        """See `datastore.storage.forking.Forgetful`."""
        before = vars(self).get("_all")
        self._lock = threading.Lock()
        self._logging_in = threading.Lock()
        self._places = threading.Semaphore(self._most)
        self._idle: list[Connection] = []
        self._all: set[Connection] = set()
        return before

    @contextmanager
    def lend(self, call: Call) -> Iterator[Connection]:
        """Lends a connection, a new one where none is idle; waits where all are in use.

        Args:
            call: What it is for, for messages.

        Raises:
            StorageError: There is no logging in, or `close` was called.
        """
        with self._places:
            connection = self._take(call)
            try:
                yield connection
            finally:
                if connection.broken or not connection.alive:
                    self._drop(connection)
                else:
                    self._give_back(connection)

    def close(self) -> None:
        """Ends all connections, also those in use."""
        self._closed = True
        with self._lock:
            connections, self._all, self._idle = self._all, set(), []
        for connection in connections:
            connection.close()

    def _take(self, call: Call) -> Connection:
        while True:
            self._check_open(call)
            with self._lock:
                if not self._idle:
                    break
                connection = self._idle.pop()
            if connection.alive:
                return connection
            self._drop(connection)
        connection = self._connect(call)
        with self._lock:
            self._all.add(connection)
        try:
            self._check_open(call)  # after `close`, which closes only what it finds
        except StorageError:
            connection.close()
            raise
        return connection

    def _connect(self, call: Call) -> Connection:
        # One after another: a server turns away who comes with many at once (MaxStartups).
        with self._logging_in:
            self._check_open(call)
            try:
                return Connection(self._login)
            except (OSError, EOFError, paramiko.SSHException) as error:
                trouble = explain_login(error, self._login)
                assert trouble is not None
                raise error_of(trouble, call) from error

    def _check_open(self, call: Call) -> None:
        if self._closed:
            raise closed_error(call)

    def _give_back(self, connection: Connection) -> None:
        with self._lock:
            if connection in self._all:
                self._idle.append(connection)

    def _drop(self, connection: Connection) -> None:
        with self._lock:
            self._all.discard(connection)
        connection.close()
