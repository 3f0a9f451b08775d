"""Which keys a storage takes: plain names with slashes between them, that stay below its root."""

from __future__ import annotations

from typing import Final

from datastore.errors import UsageError

TEMPORARY_NAMES: Final = ".datastore-tmp"
"""How the names begin that adapters write aside under; never a part of a key, never listed."""

_MAX_BYTES: Final = 1024  # the limit of S3, GCS and Azure


def check_key(key: str) -> None:
    """Refuses a key that would lie outside the root, or be another key on some storage.

    Raises:
        UsageError: It is absolute or too long, or a part of it is empty, ``.``, ``..``, holds a
            backslash or a control character, or is a temporary name.
    """
    fault = _fault(key)
    if fault:
        raise UsageError(f"{key!r} is not a key: {fault}", where=key)


def check_prefix(prefix: str) -> None:
    """Refuses what is neither empty nor a key with a slash behind it.

    Raises:
        UsageError: See `check_key`.
    """
    if not prefix:
        return
    if not prefix.endswith("/"):
        raise UsageError(f"{prefix!r} is not a prefix: it does not end in a slash", where=prefix)
    check_key(prefix[:-1])


def is_key(text: str) -> bool:
    """Tells keys from the other names that a storage may hold."""
    return not _fault(text)


def _fault(key: str) -> str:
    try:
        size = len(key.encode())
    except UnicodeEncodeError:
        return "it is not Unicode text"
    if size > _MAX_BYTES:
        return f"it is longer than {_MAX_BYTES} bytes"
    if "\\" in key or any(letter < " " or letter == "\x7f" for letter in key):
        return "it holds a backslash or a control character"
    for part in key.split("/"):
        if part in {"", ".", ".."}:
            return "a part of it is empty or leads elsewhere"
        if part.startswith(TEMPORARY_NAMES):
            return "that name is for files that are being written"
    return ""
