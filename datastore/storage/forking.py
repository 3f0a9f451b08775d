"""What a forked process must not use any longer: its parent's connections, threads and locks."""

from __future__ import annotations

import os
import weakref
from typing import Final, Protocol

_ABANDONED: Final[list[object]] = []


class Forgetful(Protocol):
    """Something with connections that can be made anew."""

    def forget(self) -> object:
        """Starts afresh without closing anything; returns what was let go of."""
        ...


_LIVE: Final[weakref.WeakSet[Forgetful]] = weakref.WeakSet()


def forget_in_child(thing: Forgetful) -> None:
    """Has `Forgetful.forget` called in every process that is forked while the thing lives."""
    _LIVE.add(thing)


def _after_fork() -> None:
    for thing in _LIVE:
        # Kept for ever: to finalize it would be to close the parent's connections, or to wait for
        # threads that are not in this process.
        _ABANDONED.append(thing.forget())


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
