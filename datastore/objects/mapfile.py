"""The length of LMDB's map file: touching a page that it lacks would end the process."""

from __future__ import annotations

import os
import struct
from pathlib import Path
from typing import Final

# A meta page: 16 bytes of page header; magic, version, address, map size; two database records of
# 48 bytes; number of the last page in use; number of the transaction.
_META_PAGE: Final = struct.Struct("<16xI20x96xQQ")
_MAGIC: Final = 0xBEEFC0DE
_MAX_PAGE_SIZE: Final = 32 * 1024  # LMDB's, where the system has larger pages


def is_whole(file: Path) -> bool:
    """Tells whether a map file is as long as its newest meta page says, or not there.

    Raises:
        OSError: It cannot be read.
    """
    try:
        descriptor = os.open(file, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        return _missing(descriptor) == 0
    finally:
        os.close(descriptor)


def fill_up(file: Path) -> None:
    """Makes a map file as long as its newest meta page says, right after it was written.

    A few commits in a thousand leave a file that is shorter: its last pages were given back before
    they were ever written. Later that could not be told from a file that was cut short.

    Raises:
        OSError: It cannot be read or written.
    """
    # Appending, other than setting the size, cannot cut off what another process just wrote.
    descriptor = os.open(file, os.O_RDWR | os.O_APPEND | os.O_CLOEXEC)
    try:
        missing = _missing(descriptor)
        if missing is not None and missing > 0:
            os.write(descriptor, bytes(missing))
    finally:
        os.close(descriptor)


def _missing(descriptor: int) -> int | None:
    """Returns how many bytes a file is too short; None where it is no map file."""
    page_size = min(os.sysconf("SC_PAGE_SIZE"), _MAX_PAGE_SIZE)
    pages = [os.pread(descriptor, _META_PAGE.size, at) for at in (0, page_size)]
    # Only after the pages: another process may be growing the file.
    size = os.fstat(descriptor).st_size
    if not size:
        return 0  # as another process leaves it for a moment when it makes the file
    metas = [_META_PAGE.unpack(page) for page in pages if len(page) == _META_PAGE.size]
    if len(metas) < len(pages) or any(magic != _MAGIC for magic, *_ in metas):
        return None
    last: int = max((turn, last) for _, last, turn in metas)[1]
    return max(0, (last + 1) * page_size - size)
