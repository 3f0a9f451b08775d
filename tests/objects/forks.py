"""Running a piece of a test in a child process that inherits everything by a fork."""

from __future__ import annotations

import os
import pickle
import traceback
from collections.abc import Callable
from typing import TypeVar

Result = TypeVar("Result")


def in_child(work: Callable[[], Result]) -> Result:
    """Returns what `work` returns in a forked child; fails if it fails there."""
    read, write = os.pipe()
    child = os.fork()
    if not child:
        os.close(read)
        try:
            answer = (True, work())
        except BaseException:  # noqa: BLE001 - the parent raises it
            answer = (False, traceback.format_exc())
        with os.fdopen(write, "wb") as file:
            pickle.dump(answer, file)
        os._exit(0)  # without the parent's handlers, which belong to the parent
    os.close(write)
    with os.fdopen(read, "rb") as file:
        data = file.read()
    os.waitpid(child, 0)
    fine, answer = pickle.loads(data) if data else (False, "the child died")
    assert fine, answer
    return answer
