r"""Which names may be written into a workspace, and which of them would be one file.

A dataset comes from whoever pushed it, so its paths are hostile until checked. They are relative to
the dataset, with ``/`` between components.

Refused everywhere, being no name at all or one that nobody gives to data and that can harm whoever
looks at it on another system:

* empty, absolute, ``.``, ``..`` or an empty component;
* NUL, text that is not UTF-8, a component over 255 bytes, a path over 4096;
* ``.git`` in any spelling: any case, ``git~1``, with trailing dots or spaces, with a stream
  (``.git::$INDEX_ALLOCATION``), with letters that a filesystem ignores or takes for these;
* what Windows reads as absolute or as leading up: ``C:``, ``C:/x``, ``C:\x``, ``\x``, ``..\x``.

Refused on Windows only, told by `portability_problem` elsewhere: other colons and backslashes
(``a:b.txt``), ``< > " | ? *`` and control characters, a dot or space at the end of a component,
names of devices (``aux.txt``). They are good names on Linux: what was added there comes back there
as it was.
"""

from __future__ import annotations

import os
import re
import unicodedata
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Final

from datastore.errors import FormatError
from datastore.storage.local import TEMPORARY_PREFIX, storage_error

MAX_COMPONENT: Final = 255  # bytes: the limit of ext4, XFS, APFS and, in UTF-16 units, NTFS
MAX_PATH: Final = 4096  # bytes

# Nearly every path of a real dataset, so that it costs one match: ASCII words with single-purpose
# punctuation, dots and spaces only inside. Possessive, hence never more than one pass.
_WORD: Final = r"[A-Za-z0-9_+=@,()#%&!'\[\]{}^-]++"
_COMPONENT: Final = rf"{_WORD}(?:[. ]++{_WORD})*+"
_plain: Final = re.compile(rf"{_COMPONENT}(?:/{_COMPONENT})*+").fullmatch

_drive: Final = re.compile(r"[A-Za-z]:(?:[/\\]|\Z)").match
_dots: Final = re.compile(r"(?:^|[/\\])\.\.?(?:[/\\]|\Z)").search
_git: Final = re.compile(
    r"(?:^|[/\\])(?:\.git|git~1)[. ]*(?:[/\\:]|\Z)", re.IGNORECASE | re.ASCII
).search
# Default_Ignorable_Code_Point of Unicode: what HFS+ (some) and case-folding ext4 (all) leave out
# when they compare names.
_IGNORED: Final = re.compile(
    "[\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u202a-\u202e"
    "\u2060-\u206f\u3164\ufe00-\ufe0f\ufeff\uffa0\ufff0-\ufff8\U0001bca0-\U0001bca3"
    "\U0001d173-\U0001d17a\U000e0000-\U000e0fff]"
)

_DEVICE: Final = re.compile(
    r"(?:^|/)((?:con|prn|aux|nul|conin\$|conout\$|(?:com|lpt)[1-9\u00b9\u00b2\u00b3]) *"
    r"(?:[.:][^/]*)?)(?:/|\Z)",
    re.IGNORECASE,
)
_device: Final = _DEVICE.search
_not_in_windows: Final = re.compile(r'[<>"|?*\x01-\x1f]').search
_dropped_by_windows: Final = re.compile(r"[. ](?:/|\Z)").search


def check_path(path: str, *, windows: bool = os.name == "nt") -> None:
    """Refuses a path that must not be written; see the module for the rules.

    Args:
        path: A path relative to the dataset. The path ``"."``, by which a dataset that is a single
            file calls it, names no file and is refused: ask about the file's own name.
        windows: Refuse also what Windows cannot hold.

    Raises:
        FormatError: The path is refused; the message says by which rule.
    """
    problem = path_problem(path, windows=windows)
    if problem is not None:
        raise _refusal(path, problem)


def path_problem(path: str, *, windows: bool = os.name == "nt") -> str | None:
    """Says why `check_path` refuses a path: ``"it is absolute"``; None where it does not."""
    if len(path) <= MAX_COMPONENT and _plain(path) and not (windows and _device(path)):
        return None
    return _hostile(path) or (_not_portable(path) if windows else None)


def name_problems(directory: str, names: Sequence[str]) -> dict[str, str]:
    """Finds the names of files that `check_path` would refuse; mostly at the cost of one match.

    What could never be written back must not be stored: the time to rename a file is before that.

    Args:
        directory: Where the files are, relative to the dataset; ``""`` is its top.
        names: Their names; ``""`` stands for the directory itself.

    Returns:
        For each name that is refused the reason.
    """
    listed = [*names, directory] if directory else list(names)
    if len(directory) < MAX_PATH - MAX_COMPONENT and _plain("/".join(filter(None, listed))):
        return {}
    base = f"{directory}/" if directory else ""
    problems = ((name, path_problem(base + name if name else directory)) for name in names)
    return {name: problem for name, problem in problems if problem is not None}


def printable(path: str) -> str:
    """Writes a path for a message: as it is, or quoted where it would not stay one plain line."""
    return path if path.isprintable() else repr(path)


def portability_problem(path: str) -> str | None:
    """Says why Windows cannot hold a path that `check_path` allows elsewhere.

    Returns:
        A clause for a warning, ``"Windows keeps the name 'aux.txt' for a device"``; None where the
        path is good everywhere.
    """
    if _plain(path) and not _device(path):
        return None
    return _not_portable(path)


def _refusal(path: str, problem: str) -> FormatError:
    printable = path.encode(errors="backslashreplace").decode()
    return FormatError(
        f"refused the path {_shown(path)}: {problem}",
        hint="Rename the file where the dataset was made and add it again.",
        where=printable,
    )


def _shown(path: str) -> str:
    return repr(path) if len(path) <= MAX_COMPONENT else f"{path[:MAX_COMPONENT]!r}..."


def _hostile(path: str) -> str | None:
    try:
        encoded = path.encode()
    except UnicodeEncodeError:
        return "it is not valid UTF-8"
    problem = None
    if not path:
        problem = "it is empty"
    elif "\0" in path:
        problem = "it holds a NUL character"
    elif path[0] in "/\\":
        problem = "it is absolute"
    elif _drive(path):
        problem = "it begins with a drive"
    elif _dots(path):
        problem = "it has a component '.' or '..'"
    elif "//" in path or path[-1] == "/":
        problem = "it has an empty component"
    elif len(encoded) > MAX_PATH:
        problem = f"it is longer than {MAX_PATH} bytes"
    elif len(encoded) > MAX_COMPONENT and max(map(len, encoded.split(b"/"))) > MAX_COMPONENT:
        problem = f"it has a component longer than {MAX_COMPONENT} bytes"
    elif _leads_into_git(path):
        problem = "it has a component that some systems take for '.git'"
    return problem


def _leads_into_git(path: str) -> bool:
    if not path.isascii():
        # Compatibility forms too (full-width letters): stricter than any filesystem is known to be,
        # and nobody's data is called that.
        path = unicodedata.normalize("NFKC", _IGNORED.sub("", path)).casefold()
        path = _IGNORED.sub("", path)
    return _git(path) is not None


def _not_portable(path: str) -> str | None:
    if "\\" in path:
        return "Windows takes the backslash for a separator"
    if ":" in path:
        return "Windows takes a colon for a drive or a stream"
    if found := _not_in_windows(path):
        return f"Windows allows no {found[0]!r} in a name"
    if _dropped_by_windows(path):
        return "Windows drops a dot or space at the end of a name"
    if found := _device(path):
        return f"Windows keeps the name {found[1]!r} for a device"
    return None


def fold(path: str, *, case: bool, normalize: bool) -> str:
    """Makes equal the paths that are one file on a filesystem; not for people to read.

    Filesystems that ignore both (APFS, HFS+, ext4 with case folding) fold by full Unicode rules, by
    which ``ß`` is ``ss``. Those that ignore case only (NTFS, FAT, exFAT) fold letter by letter.

    Args:
        path: A path.
        case: Whether the filesystem ignores case.
        normalize: Whether it ignores how accents are composed.
    """
    if path.isascii():
        return path.lower() if case else path
    if normalize:
        path = unicodedata.normalize("NFD", path)
        return unicodedata.normalize("NFD", path.casefold()) if case else path
    if case:
        return "".join(low if len(low := each.casefold()) == 1 else each for each in path)
    return path


def collisions(paths: Iterable[str], *, case: bool, normalize: bool) -> list[tuple[str, str]]:
    """Finds pairs of different names that would be one file or one directory.

    Directories count: ``A/x`` and ``a/y`` give ``("A", "a")``, because a scan would find the second
    file under the first spelling.

    Args:
        paths: Paths of files, links and directories.
        case: As for `fold`; see `probe_folding`.
        normalize: As for `fold`.

    Returns:
        The pairs, each with the name that came first in front; every later spelling appears once.
    """
    if not (case or normalize):
        return []
    spelled: dict[str, str] = {}
    found: dict[tuple[str, str], None] = {}
    for path in paths:
        name = path
        while name:
            folded = fold(name, case=case, normalize=normalize)
            first = spelled.setdefault(folded, name)
            if first is not name:  # known, and then its parents are too
                if first != name:
                    found[first, name] = None
                break
            name = name.rpartition("/")[0]
    return list(found)


def probe_folding(directory: Path) -> tuple[bool, bool]:
    """Finds out by a small file whether names in a directory are compared loosely.

    Returns:
        Whether case is ignored, and whether the composition of accents is.

    Raises:
        StorageError: No file can be created there.
    """
    plain = f"{TEMPORARY_PREFIX}{os.getpid()}-{os.urandom(8).hex()}"
    name = os.path.join(directory, f"{plain}\u00e9")
    try:
        os.close(os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600))
        try:
            case = os.path.lexists(os.path.join(directory, f"{plain.upper()}\u00e9"))
            normalize = os.path.lexists(os.path.join(directory, f"{plain}e\u0301"))
        finally:
            os.unlink(name)
    except OSError as error:
        raise storage_error(error, "create a file in", directory) from error
    return case, normalize


def check_link_target(path: str, target: str, *, allow_outside: bool = False) -> None:
    """Refuses a symbolic link that leads out of its dataset.

    A link is kept and restored as it is and never followed by us, but other programs follow it. Its
    target must be relative and may go up only at its beginning, no further than the dataset: with
    ``..`` after a name it could go up through another link, which no look at the text can tell.

    Args:
        path: The link, relative to the dataset.
        target: What it points to, as read from the link; undecodable bytes as surrogates.
        allow_outside: Allow any target that a link can have.

    Raises:
        FormatError: The target is refused; the message says why.
    """
    problem = None
    length = len(target.encode(errors="surrogatepass"))
    if not target or "\0" in target or length >= MAX_PATH:
        problem = "is no path"
    elif not allow_outside:
        if target[0] in "/\\" or _drive(target):
            problem = "is absolute"
        elif _climbs(target, path.count("/")):
            problem = "leads out of the dataset"
    if problem is not None:
        raise FormatError(
            f"refused the symbolic link {_shown(path)}: its target {_shown(target)} {problem}",
            hint="Replace the link where the dataset was made, or allow links that lead outside.",
            where=path.encode(errors="backslashreplace").decode(),
        )


def _climbs(target: str, depth: int) -> bool:
    named = False
    for component in re.split(r"[/\\]", target):
        if component == "..":
            depth -= 1
            if named or depth < 0:
                return True
        elif component not in ("", "."):
            named = True
    return False
