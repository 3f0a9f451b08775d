"""A block of lines that datastore keeps in a file of the user's, such as ``.gitignore``.

What stands outside the block is the user's, byte for byte. Taking the last line out takes the block
out, and leaves the file as it was before there was one.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from datastore.errors import ConflictError, FormatError, LockedError, UsageError
from datastore.storage.failures import storage_error
from datastore.storage.local import fsync_directory, write_durably
from datastore.storage.lock import try_lock

BEGIN: Final = b"# >>> datastore (managed)"
END: Final = b"# <<< datastore"

_MAX_BYTES: Final = 16 * 1024 * 1024
_LOCK_SECONDS: Final = 30.0
_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")
_ROW: Final = re.compile(rb"[^\n]*\n|[^\n]+")
_CONFLICT: Final = re.compile(rb"(?:<{7}|={7}|>{7}|\|{7})(?: .*)?")


def edit_block(path: Path, *, add: Iterable[bytes] = (), remove: Iterable[bytes] = ()) -> bool:
    """Adds lines to the block in a file, and removes some, all at once and durably.

    Args:
        path: The file; it need not exist, its directory must.
        add: Lines that are to be there, without line endings.
        remove: Lines that are not to be there.

    Returns:
        Whether the file had to be changed.

    Raises:
        UsageError: The file is a symbolic link, or no file.
        FormatError: The block has no end, there are two, or the file is no text for Git.
        ConflictError: Git left conflict markers in the block.
        LockedError: Another process holds the directory's lock and does not let go.
        StorageError: The file could not be read or written.
    """
    with _locked(path.parent):
        data, mode = _read(path)
        block = _find(data or b"", path)
        old = frozenset(block.lines if block else ())
        new = (old | frozenset(add)) - frozenset(remove)
        if new == old:
            return False
        content = _render(data, block, sorted(new))
        if content is None:
            _remove(path)
        else:
            write_durably(path, content, mode=mode)
        return True


def read_block(path: Path) -> tuple[bytes, ...]:
    """Returns the lines of the block in a file, without line endings; raises as `edit_block`."""
    block = _find(_read(path)[0] or b"", path)
    return block.lines if block else ()


@dataclass(frozen=True, slots=True)
class _Block:
    before: bytes
    lines: tuple[bytes, ...]
    after: bytes
    ending: bytes
    """How its lines end."""
    closed: bool
    """Whether its last line ends at all."""


def _find(data: bytes, path: Path) -> _Block | None:
    rows = _ROW.findall(data)
    plain = [row.rstrip(b" \t\r\n") for row in rows]
    begins = [number for number, row in enumerate(plain) if row == BEGIN]
    ends = [number for number, row in enumerate(plain) if row == END]
    if not begins and not ends:
        return None
    if len(begins) != 1 or len(ends) != 1 or ends[0] < begins[0]:
        raise _broken(path, [number + 1 for number in sorted(begins + ends)])
    first, last = begins[0], ends[0]
    for number in range(first, last):
        if _CONFLICT.fullmatch(plain[number]):
            raise _conflicted(path, number + 1)
    return _Block(
        before=b"".join(rows[:first]),
        lines=tuple(row.rstrip(b"\r\n") for row in rows[first + 1 : last] if row.strip()),
        after=b"".join(rows[last + 1 :]),
        ending=_ending(rows[first]),
        closed=rows[last].endswith(b"\n"),
    )


def _render(data: bytes | None, block: _Block | None, lines: list[bytes]) -> bytes | None:
    """Puts the file together; None where nothing of it is left and nothing was before."""
    if block is None:
        # The block ends as the file did: without a newline where there was none, so that taking the
        # block out can tell whether the newline before it is the user's.
        before = data or b""
        closed = data is None or data.endswith(b"\n")
        ending = _ending(before)
        if before and not closed:
            before += ending
        block = _Block(before, (), b"", ending, closed)
    if lines:
        text = block.ending.join([BEGIN, *lines, END]) + (block.ending if block.closed else b"")
        return block.before + text + block.after
    if not block.closed:
        return block.before.removesuffix(block.ending)
    return block.before + block.after or None


def _ending(text: bytes) -> bytes:
    first = text.partition(b"\n")[0]
    return b"\r\n" if first.endswith(b"\r") else b"\n"


def _read(path: Path) -> tuple[bytes | None, int]:
    """Returns the bytes of a file, or None if there is none, and its permission bits."""
    try:
        status = path.lstat()
        if not stat.S_ISREG(status.st_mode):
            raise UsageError(
                f"{str(path)!r} is not a regular file, so Git does not read it",
                hint="Put a regular file in its place; Git does not follow a symbolic link there.",
                where=str(path),
            )
        if status.st_size > _MAX_BYTES:
            raise FormatError(f"{str(path)!r} has over {_MAX_BYTES} bytes", where=str(path))
        data = path.read_bytes()
    except FileNotFoundError:
        return None, 0o666
    except OSError as error:
        raise storage_error(error, "read", path) from error
    if data.startswith(_UTF16):
        raise FormatError(
            f"{str(path)!r} is in UTF-16, which Git cannot read",
            hint="Save it as UTF-8 text.",
            where=str(path),
        )
    return data, stat.S_IMODE(status.st_mode)


def _remove(path: Path) -> None:
    try:
        path.unlink()
    except OSError as error:
        raise storage_error(error, "remove", path) from error
    fsync_directory(path.parent)


@contextlib.contextmanager
def _locked(directory: Path) -> Iterator[None]:
    """Lets one process at a time edit the files of a directory, or a line of the other is lost.

    The directory itself is locked: a lock file would lie about in the user's working tree.
    """
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise storage_error(error, "open", directory) from error
    try:
        _wait_for_lock(descriptor, directory)
        yield
    finally:
        os.close(descriptor)


def _wait_for_lock(descriptor: int, directory: Path) -> None:
    deadline = time.monotonic() + _LOCK_SECONDS
    # OSError: a filesystem that locks no directories, as NFS. Then two edits at the same moment can
    # lose a line, which the next `add` writes again.
    with contextlib.suppress(OSError):
        while not try_lock(descriptor):
            if time.monotonic() > deadline:
                raise LockedError(
                    f"another process keeps {str(directory)!r} locked",
                    holder="another process",
                    hint="Wait for it to end, then run the command again.",
                    where=str(directory),
                )
            time.sleep(0.005)


def _broken(path: Path, numbers: list[int]) -> FormatError:
    shown = ", ".join(map(str, numbers))
    return FormatError(
        f"{str(path)!r} does not have one whole block of datastore's: markers on line {shown}",
        hint=f"Leave one line '{BEGIN.decode()}' and after it one line '{END.decode()}', and "
        "all lines of the block between them.",
        where=str(path),
    )


def _conflicted(path: Path, number: int) -> ConflictError:
    return ConflictError(
        f"{str(path)!r} has Git's conflict markers on line {number}, inside datastore's block",
        paths=(str(path),),
        hint="Keep the lines of both sides and delete the markers.",
        where=str(path),
    )
