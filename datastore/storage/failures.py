"""The refusals of the operating system in our words: what, which path, why, what next."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from typing import Final

from datastore.errors import StorageError

# What may pass by itself. A full disk, a quota and a broken disk do not.
_PASSING: Final = frozenset(
    {
        errno.EAGAIN,
        errno.EBUSY,
        errno.EINTR,
        errno.EMFILE,
        errno.ENFILE,
        errno.ENOMEM,
        errno.ESTALE,
        errno.ETIMEDOUT,
    }
)
_HINTS: Final = {
    errno.EACCES: "Check the owner and the permissions of the file and of its directory.",
    errno.EDQUOT: "Your disk quota is used up: free some space and run the command again.",
    errno.EFBIG: "The filesystem or a process limit (ulimit -f) does not allow files this large.",
    errno.EIO: "The disk reports a fault: check it before going on.",
    errno.EMFILE: "Too many files are open: raise the limit (ulimit -n) or use fewer workers.",
    errno.ENAMETOOLONG: "The filesystem does not take names this long.",
    errno.ENOENT: "The directory is not there, or was removed meanwhile.",
    errno.ENOSPC: "The disk is full: free some space and run the command again.",
    errno.EPERM: "Check the owner and the permissions of the file and of its directory.",
    errno.EROFS: "The filesystem is mounted read-only.",
}


def storage_error(error: OSError, doing: str, path: Path | str) -> StorageError:
    """Translates an error of the operating system.

    Args:
        error: What the system said.
        doing: What was tried, to be read after "cannot": ``"write"``.
        path: The file or directory it was tried on.
    """
    number = error.errno or 0
    return StorageError(
        f"cannot {doing} {os.fspath(path)!r}: {error.strerror or error}",
        retryable=number in _PASSING,
        hint=_HINTS.get(number, ""),
        where=os.fspath(path),
    )
