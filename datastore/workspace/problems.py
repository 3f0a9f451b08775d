"""What is in a dataset's directory and cannot be part of the dataset."""

from __future__ import annotations

import enum
import stat
from typing import Final, NamedTuple

VANISHED: Final = "it vanished while the dataset was read"
"""Why a file that was listed cannot be looked at."""


class Trouble(enum.IntEnum):
    """What kind of problem a file is; the larger one decides how all of them are reported."""

    UNSUPPORTED = 0
    UNREADABLE = 1
    BUSY = 2


class Problem(NamedTuple):
    """Something that cannot be part of a dataset."""

    path: str
    """Relative to the dataset."""
    reason: str
    trouble: Trouble = Trouble.UNSUPPORTED


def special_kind(mode: int) -> str:
    """Says why something that is no file, link or directory cannot be part of a dataset."""
    kinds = {
        stat.S_IFSOCK: "a socket",
        stat.S_IFIFO: "a fifo",
        stat.S_IFBLK: "a block device",
        stat.S_IFCHR: "a character device",
    }
    kind = kinds.get(stat.S_IFMT(mode), "a special file")
    return f"{kind} cannot be part of a dataset"
