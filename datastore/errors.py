"""The one error tree, grouped by what the caller does next.

::

    DatastoreError
    ├── UsageError (ValueError)        a bad argument, an unknown name
    ├── NotFoundError (LookupError)    no such repository, revision, path or chunk
    ├── ConflictError                  going on would lose or mix up somebody's work
    ├── FormatError (ValueError)       malformed, hostile or too new
    ├── CorruptionError                bytes are not what their name promises
    ├── StorageError (OSError)         the disk or the network failed
    └── LockedError                    somebody else is at work

Every error says *what* failed, on *which* path or version and *why* in its message, and *what to do
next* in `hint`. `code` is stable: scripts and the `--json` output rely on it.
"""

from __future__ import annotations

from typing import ClassVar


class DatastoreError(Exception):
    """Base of every error that this package raises on purpose.

    Args:
        message: One sentence: what failed, on which path or version, and why.
        hint: One sentence: what to do next. Empty where there is nothing to do.
        where: The path, ``rev:path`` or pack that the error is about.
    """

    code: ClassVar[str] = "error"

    def __init__(self, message: str, *, hint: str = "", where: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.where = where

    def __str__(self) -> str:
        return self.message


class UsageError(DatastoreError, ValueError):
    """A bad argument or an unknown name."""

    code = "usage"


class NotFoundError(DatastoreError, LookupError):
    """No such repository, revision, path, pointer or chunk."""

    code = "not_found"


class ConflictError(DatastoreError):
    """Going on would lose or mix up somebody's work.

    Args:
        message: See `DatastoreError`.
        paths: The paths in conflict, sorted.
        hint: See `DatastoreError`.
        where: See `DatastoreError`.
    """

    code = "conflict"

    def __init__(
        self, message: str, *, paths: tuple[str, ...] = (), hint: str = "", where: str = ""
    ) -> None:
        super().__init__(message, hint=hint, where=where)
        self.paths = paths


class FormatError(DatastoreError, ValueError):
    """Malformed, hostile or too new."""

    code = "format"


class CorruptionError(DatastoreError):
    """Bytes are not what their name promises.

    Args:
        message: See `DatastoreError`.
        expected: The digest that was asked for, printed.
        actual: The digest that was found, printed; empty where none could be computed.
        hint: See `DatastoreError`.
        where: See `DatastoreError`.
    """

    code = "corruption"

    def __init__(
        self,
        message: str,
        *,
        expected: str = "",
        actual: str = "",
        hint: str = "",
        where: str = "",
    ) -> None:
        super().__init__(message, hint=hint, where=where)
        self.expected = expected
        self.actual = actual


class StorageError(DatastoreError, OSError):
    """The disk or the network failed.

    Args:
        message: See `DatastoreError`.
        retryable: Whether the same call may succeed later.
        reason: A stable word for why, where a server or the network said it: see
            `datastore.storage.reasons`. Empty elsewhere.
        retry_after: Seconds that the server asked to be left alone for; 0 where it did not.
        hint: See `DatastoreError`.
        where: See `DatastoreError`.
    """

    code = "storage"

    def __init__(
        self,
        message: str,
        *,
        retryable: bool = False,
        reason: str = "",
        retry_after: float = 0.0,
        hint: str = "",
        where: str = "",
    ) -> None:
        super().__init__(message, hint=hint, where=where)
        self.retryable = retryable
        self.reason = reason
        self.retry_after = retry_after


class LockedError(DatastoreError):
    """Somebody else is at work.

    Args:
        message: See `DatastoreError`.
        holder: Who holds the lock: pid, host, command, since when.
        hint: See `DatastoreError`.
        where: See `DatastoreError`.
    """

    code = "locked"

    def __init__(self, message: str, *, holder: str = "", hint: str = "", where: str = "") -> None:
        super().__init__(message, hint=hint, where=where)
        self.holder = holder
