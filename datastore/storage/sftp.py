"""Storage in a directory behind SSH.

A file is written aside and renamed, as in a local directory. Where the server is OpenSSH's, it is
also synced, and `create` cannot replace anything; other servers may lack one or the other.

As with a local directory, one that is not there is not an empty one: only `write` and `create` make
it, and never the directories above it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
import threading
from collections.abc import Callable, Iterator
from typing import Final, TypeVar

import paramiko
from paramiko.sftp import CMD_EXTENDED

from datastore.errors import NotFoundError, StorageError
from datastore.storage.base import Listed
from datastore.storage.connections import Connection, Connections
from datastore.storage.keys import TEMPORARY_NAMES, check_key, check_prefix
from datastore.storage.reasons import (
    CUT,
    MISSING,
    NO_DIRECTORY,
    REFUSED,
    SHORT,
    Call,
    Trouble,
    closed_error,
    error_of,
)
from datastore.storage.ssh import Login, explain_broken, explain_status

__all__ = ["Login", "SftpStorage"]

_T = TypeVar("_T")

_STEP: Final = 32 * 1024  # bytes that every server reads at once
_OLD: Final = 7 * 24 * 3600  # seconds after which a file written aside is nobody's any longer


class SftpStorage:
    """A `Storage` in a directory of a server; connects at the first call.

    Args:
        url: Where this is, for people.
        root: The directory on the server; ``/~/`` leads to the user's own.
        login: Whom to ask, and as whom.
        jobs: The most connections at once.
    """

    def __init__(self, url: str, root: str, login: Login, *, jobs: int) -> None:
        self._url = url
        self._root = root.removeprefix("/~/")
        self._aside = f"{self._root}/{TEMPORARY_NAMES}"
        self._connections = Connections(login, jobs)
        self._lock = threading.Lock()
        self._swept = False
        self._seen = False

    @property
    def url(self) -> str:
        """Where this is, for people."""
        return self._url

    def read(self, key: str) -> bytes:
        """See `Storage.read`."""
        check_key(key)

        def work(files: paramiko.SFTPClient) -> bytes:
            with files.open(self._path(key), "rb") as file:
                size = _size_of(file)
                data = _read(file, 0, size)
            if len(data) != size:
                raise error_of(Trouble(CUT), self._named("read", key))
            return data

        return self._run("read", key, work)

    def read_range(self, key: str, start: int, length: int) -> bytes:
        """See `Storage.read_range`."""
        check_key(key)

        def work(files: paramiko.SFTPClient) -> bytes:
            with files.open(self._path(key), "rb") as file:
                data = _read(file, start, length)
                if not data:
                    _size_of(file)
                return data

        data = self._run("read", key, work)
        if len(data) != length:
            said = f"{len(data)} of {length} bytes from {start}"
            raise error_of(Trouble(SHORT, said), self._named("read", key))
        return data

    def write(self, key: str, data: bytes) -> None:
        """See `Storage.write`."""
        check_key(key)

        def work(files: paramiko.SFTPClient) -> None:
            aside = self._write_aside(files, data)
            try:
                self._into(files, key, lambda target: _replace(files, aside, target, len(data)))
            except BaseException:
                with contextlib.suppress(OSError, EOFError):
                    files.remove(aside)
                raise

        self._run("write", key, work)

    def create(self, key: str, data: bytes) -> bool:
        """See `Storage.create`."""
        check_key(key)

        def work(files: paramiko.SFTPClient) -> bool:
            target = self._path(key)
            if _exists(files, target):
                return False
            aside = self._write_aside(files, data)
            try:
                self._into(files, key, lambda target: files.rename(aside, target))
            except OSError:
                with contextlib.suppress(OSError, EOFError):
                    files.remove(aside)
                if _exists(files, target):
                    return False
                raise
            return True

        return self._run("create", key, work)

    def size(self, key: str) -> int | None:
        """See `Storage.size`."""
        check_key(key)
        try:
            found = self._run("look at", key, lambda files: files.lstat(self._path(key)))
        except NotFoundError:
            return None
        return found.st_size if stat.S_ISREG(found.st_mode or 0) else None

    def list(self, prefix: str) -> Iterator[Listed]:
        """See `Storage.list`; each directory takes a few round trips."""
        check_prefix(prefix)
        try:
            found = self._run("list", prefix, lambda files: files.listdir_attr(self._path(prefix)))
        except NotFoundError:
            return
        for each in found:
            mode = each.st_mode or 0
            if each.filename.startswith(TEMPORARY_NAMES):
                continue
            if stat.S_ISLNK(mode):
                call = self._named("list", prefix + each.filename)
                raise error_of(Trouble(REFUSED, "symbolic links are not followed"), call)
            if stat.S_ISDIR(mode):
                yield from self.list(f"{prefix}{each.filename}/")
            else:
                yield Listed(prefix + each.filename, each.st_size or 0)

    def delete(self, key: str) -> None:
        """See `Storage.delete`."""
        check_key(key)
        with contextlib.suppress(NotFoundError):
            self._run("delete", key, lambda files: files.remove(self._path(key)))

    def close(self) -> None:
        """See `Storage.close`."""
        self._connections.close()

    # -- calls ------------------------------------------------------------------------------

    def _run(self, doing: str, key: str, work: Callable[[paramiko.SFTPClient], _T]) -> _T:
        call = self._named(doing, key)
        with self._connections.lend(call) as connection:
            try:
                result = work(connection.files)
            except StorageError:
                connection.broken = True
                raise
            except (OSError, EOFError, paramiko.SSHException) as error:
                raise self._understood(error, connection, call) from error
            except BaseException:
                connection.broken = True  # Ctrl-C
                raise
            self._seen = True
            return result

    def _understood(self, error: Exception, connection: Connection, call: Call) -> Exception:
        """Tells an answer of the server from a connection that failed."""
        if self._connections.closed:
            return closed_error(call)
        if isinstance(error, OSError) and not isinstance(error, TimeoutError) and connection.alive:
            try:
                return error_of(self._answer(error, connection.files, call), call)
            except (OSError, EOFError, paramiko.SSHException) as broken:
                error = broken
        connection.broken = True
        trouble = explain_broken(error)
        assert trouble is not None
        return error_of(trouble, call)

    def _answer(self, error: OSError, files: paramiko.SFTPClient, call: Call) -> Trouble:
        """Understands a refusal; asks for more where the protocol says too little."""
        trouble = explain_status(error)
        if trouble.reason == MISSING and not self._seen and not _exists(files, self._root):
            return Trouble(NO_DIRECTORY)
        if trouble.reason == REFUSED and call.doing in {"read", "list"}:
            # Some servers open a directory, or list a file, only to say that something failed.
            directory = stat.S_ISDIR(files.stat(self._path(call.key)).st_mode or 0)
            if directory == (call.doing == "read"):
                return Trouble(MISSING)
        return trouble

    # -- writing ----------------------------------------------------------------------------

    def _write_aside(self, files: paramiko.SFTPClient, data: bytes) -> str:
        path = f"{self._aside}/{TEMPORARY_NAMES}-{os.urandom(16).hex()}"
        try:
            file = files.open(path, "wbx")
        except FileNotFoundError:
            with contextlib.suppress(OSError):
                files.mkdir(self._root)
            _make_directory(files, self._root, self._aside)
            file = files.open(path, "wbx")
        try:
            with file:
                file.set_pipelined(True)
                file.write(data)
                _sync(files, file)
                _check_size(file, len(data))
        except BaseException:
            with contextlib.suppress(OSError, EOFError, paramiko.SSHException):
                files.remove(path)
            raise
        self._sweep(files, path)
        return path

    def _sweep(self, files: paramiko.SFTPClient, mine: str) -> None:
        """Removes, once, what others began to write a week ago by the server's own clock."""
        with self._lock:
            if self._swept:
                return
            self._swept = True
        with contextlib.suppress(OSError):  # another user's rests are not our concern
            now = files.stat(mine).st_mtime or 0
            for each in files.listdir_attr(self._aside):
                if (each.st_mtime or now) < now - _OLD:
                    files.remove(f"{self._aside}/{each.filename}")

    def _into(self, files: paramiko.SFTPClient, key: str, move: Callable[[str], None]) -> None:
        """Moves a file to its name, and makes the directories for it where they are missing."""
        target = self._path(key)
        try:
            move(target)
        except FileNotFoundError:
            path = self._root
            for part in key.split("/")[:-1]:
                path = f"{path}/{part}"
                _make_directory(files, self._root, path)
            move(target)

    def _path(self, key: str) -> str:
        return f"{self._root}/{key}".rstrip("/")

    def _named(self, doing: str, key: str) -> Call:
        return Call("sftp", self._url, doing, key)


def _read(file: paramiko.SFTPFile, start: int, length: int) -> bytes:
    # Small pieces, all asked for at once: the library adds what it reads to what it has, which for
    # one large read takes fifty times as long.
    end = start + length
    pieces = [(at, min(_STEP, end - at)) for at in range(start, end, _STEP)]
    if len(pieces) > 1 and (file.stat().st_size or 0) < end:
        return b""  # of several requests the library would wait for the one beyond the end
    try:
        return b"".join(file.readv(pieces))
    except EOFError:  # that is how a request beyond the end is answered
        return b""


def _size_of(file: paramiko.SFTPFile) -> int:
    """Returns the size of a file; refuses a directory, which some servers open like one."""
    found = file.stat()
    if stat.S_ISDIR(found.st_mode or 0):
        raise FileNotFoundError(errno.ENOENT, "it is a directory")
    return found.st_size or 0


def _check_size(file: paramiko.SFTPFile, size: int) -> None:
    if file.stat().st_size != size:
        raise paramiko.SSHException("not all bytes arrived")


def _sync(files: paramiko.SFTPClient, file: paramiko.SFTPFile) -> None:
    # The library has no call for this extension of OpenSSH; other servers do not know it.
    with contextlib.suppress(OSError):
        files._request(CMD_EXTENDED, "fsync@openssh.com", file.handle)  # noqa: SLF001


def _replace(files: paramiko.SFTPClient, aside: str, target: str, size: int) -> None:
    try:
        files.posix_rename(aside, target)
    except FileNotFoundError:
        raise
    except OSError:
        # A server that only knows the plain rename, which replaces nothing on most. One key never
        # gets two contents: what is there already with this size is what was to be written.
        if _size(files, target) == size:
            files.remove(aside)
            return
        files.rename(aside, target)


def _make_directory(files: paramiko.SFTPClient, root: str, path: str) -> None:
    """Makes a directory, for the group too where the root is: see `DirectoryStorage`."""
    try:
        files.mkdir(path)
    except OSError:
        if not _exists(files, path):
            raise
        return
    shared = (files.stat(root).st_mode or 0) & (stat.S_IRWXG | stat.S_ISGID)
    if shared & stat.S_IWGRP:
        with contextlib.suppress(OSError):
            files.chmod(path, stat.S_IMODE(files.stat(path).st_mode or 0) | shared)


def _exists(files: paramiko.SFTPClient, path: str) -> bool:
    try:
        files.lstat(path)
    except FileNotFoundError:
        return False
    return True


def _size(files: paramiko.SFTPClient, path: str) -> int | None:
    try:
        size: int | None = files.stat(path).st_size
    except FileNotFoundError:
        return None
    return size
