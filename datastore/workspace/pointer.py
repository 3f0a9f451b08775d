"""The pointer: a small text file, committed to Git, that stands for one dataset version.

The format is in ``docs/reference/format/pointer.md``. A pointer has exactly one encoding, so two
equal versions are equal files; a file that says the same in other bytes is refused, not repaired.
"""

from __future__ import annotations

import builtins  # because Pointer.bytes hides the type inside the class
import re
from dataclasses import dataclass
from typing import Final

from datastore.errors import ConflictError, FormatError, UsageError
from datastore.kernel.hashing import DIGEST_SIZE, Digest, format_digest, parse_digest

POINTER_SUFFIX: Final = ".ds"
"""What a pointer's name has after the name of the data that it stands for."""

MAX_POINTER_BYTES: Final = 1023
"""The longest pointer, in bytes: code hosts and diff tools show it whole."""

MAX_COUNT: Final = 2**63 - 1
"""The largest count of files or bytes, so that every language has an integer for it."""

KINDS: Final = ("files",)
"""The kinds of pointer that this version understands."""

_VERSION: Final = 1
_UPGRADE: Final = "Run `pip install --upgrade datastore-ml`, then try again."

# A value is also a YAML plain scalar, so that any YAML reader sees the same text. Control
# characters, line separators and the characters that reorder text on a screen are left out by code
# point and not by Unicode category: categories change from one Python to the next.
_CHAR: Final = (
    "[ -~\u00a0-\u061b\u061d-\u200d\u2010-\u2027\u202f-\u2065\u206a-\ud7ff"
    "\ue000-\ufefe\uff00-\ufffd\U00010000-\U0010ffff]"
)
_KEY: Final = re.compile(r"[a-z][a-z0-9_-]{0,63}")
_VALUE: Final = re.compile(
    rf"(?![-?:,\[\]{{}}#&*!|>'\"%@` ])(?!.*(?:: | #))(?:{_CHAR})+(?<![ :])", re.DOTALL
)
_COUNT: Final = "0|[1-9][0-9]{0,18}"
_LAYOUT: Final = (
    ("datastore", re.compile(f"datastore: ({_VERSION})"), f"'datastore: {_VERSION}'"),
    ("kind", re.compile(r"kind: ([a-z][a-z0-9_-]{0,63})"), "'kind: <kind>'"),
    ("files", re.compile(f"files: ({_COUNT})"), "'files: <count>'"),
    ("bytes", re.compile(f"bytes: ({_COUNT})"), "'bytes: <count>'"),
    ("root", re.compile(r"root: (b3:[0-9a-f]{64})"), "'root: b3:<64 hexadecimal digits>'"),
)
_KNOWN: Final = frozenset(key for key, _, _ in _LAYOUT)
_FIRST_LINE: Final = re.compile(rb"datastore: ([1-9][0-9]{0,8})\r?\n")
_CONFLICT: Final = re.compile(rb"^(?:<{7,}|={7,}|>{7,}|\|{7,})(?: |\r?$)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Pointer:
    """One dataset version.

    Args:
        kind: What the root names; one of `KINDS`.
        files: How many files the version has; for people, the root decides.
        bytes: How many bytes they have together; for people, the root decides.
        root: The digest of the version's root record.
        extra: Keys that this version does not know, with their values, in file order.

    Raises:
        FormatError: A field has no encoding: out of range, not a digest, a bad or repeated key.
    """

    kind: str
    files: int
    bytes: int
    root: Digest
    extra: tuple[tuple[str, str], ...] = ()

    def __post_init__(self) -> None:
        if self.kind not in KINDS:
            raise FormatError(f"no pointer can be of kind {self.kind!r}: expected one of {KINDS}")
        for name, count in (("files", self.files), ("bytes", self.bytes)):
            if not 0 <= count <= MAX_COUNT:
                raise FormatError(f"no pointer can have {name} = {count}: not in 0 to {MAX_COUNT}")
        if len(self.root) != DIGEST_SIZE:
            raise FormatError(f"a pointer's root has {DIGEST_SIZE} bytes, not {len(self.root)}")
        seen = set(_KNOWN)
        for key, value in self.extra:
            if key in seen or not _KEY.fullmatch(key) or not _VALUE.fullmatch(value):
                raise FormatError(f"no pointer can have the line {_shown(f'{key}: {value}')}")
            seen.add(key)
        if (size := len(self.encode())) > MAX_POINTER_BYTES:
            raise FormatError(f"a pointer has at most {MAX_POINTER_BYTES} bytes, not {size}")

    def encode(self) -> builtins.bytes:
        """Returns the one encoding of this pointer."""
        fields = (
            ("datastore", str(_VERSION)),
            ("kind", self.kind),
            ("files", str(self.files)),
            ("bytes", str(self.bytes)),
            ("root", format_digest(self.root)),
            *self.extra,
        )
        return "".join(f"{key}: {value}\n" for key, value in fields).encode()

    @classmethod
    def decode(cls, data: builtins.bytes, *, where: str) -> Pointer:
        """Reads a pointer; its `encode` gives back exactly `data`.

        Args:
            data: The whole file.
            where: The path, or ``rev:path``, for messages.

        Raises:
            FormatError: Not the one encoding of a pointer, too new, or of an unknown kind.
            ConflictError: Git left conflict markers in it.
        """
        lines = _lines(data, where)
        values = {}
        for number, (key, pattern, expected) in enumerate(_LAYOUT, start=1):
            line = lines[number - 1] if number <= len(lines) else None
            match = pattern.fullmatch(line) if line is not None else None
            if match is None:
                raise _bad_line(where, number, expected, line)
            values[key] = match[1]
            if key == "kind" and match[1] not in KINDS:
                raise _unknown_kind(where, match[1])
            if key in {"files", "bytes"} and int(match[1]) > MAX_COUNT:
                raise _bad_line(where, number, f"at most {MAX_COUNT} {key}", line)
        return cls(
            kind=values["kind"],
            files=int(values["files"]),
            bytes=int(values["bytes"]),
            root=parse_digest(values["root"]),
            extra=_extra(lines, where),
        )


def is_pointer_path(path: str) -> bool:
    """Says whether a workspace path can be a pointer's: ``NAME.ds``, where NAME can be data."""
    name = path.rpartition("/")[2]
    return name.endswith(POINTER_SUFFIX) and _is_data_name(name[: -len(POINTER_SUFFIX)])


def pointer_path(path: str) -> str:
    """Returns where the pointer of the data at `path` is: ``images`` gives ``images.ds``.

    Args:
        path: A workspace path with ``/`` between names.

    Raises:
        UsageError: No data can be at `path`: empty, or its last name is ``.``, ``..`` or ``.git``.
    """
    if not _is_data_name(path.rpartition("/")[2]):
        raise UsageError(f"{path!r} cannot have a pointer", hint="Name a file or a directory.")
    return path + POINTER_SUFFIX


def data_path(path: str) -> str:
    """Returns where the data of the pointer at `path` is: ``images.ds`` gives ``images``.

    Raises:
        UsageError: `path` is not a pointer's.
    """
    if not is_pointer_path(path):
        raise UsageError(
            f"{path!r} is not the path of a pointer",
            hint=f"Name a file that ends in {POINTER_SUFFIX}, such as images{POINTER_SUFFIX}.",
        )
    return path[: -len(POINTER_SUFFIX)]


def _is_data_name(name: str) -> bool:
    # `..ds` would stand for its own directory, `...ds` for the parent, `.git.ds` for Git's own.
    return name not in {"", ".", ".."} and name.lower() != ".git" and "\0" not in name


def _lines(data: bytes, where: str) -> list[str]:
    """Checks what can be said of the file as a whole and splits it into lines."""
    # These two come first: neither a conflicted nor a newer pointer has to keep the other rules.
    if match := _CONFLICT.search(data):
        raise _conflicted(where, _line_of(data, match.start()))
    if (match := _FIRST_LINE.match(data)) and int(match[1]) > _VERSION:
        raise FormatError(
            f"{where} is a pointer of format {int(match[1])}, which is newer than this program: "
            f"it reads format {_VERSION}",
            hint=_UPGRADE,
            where=where,
        )
    if len(data) > MAX_POINTER_BYTES:
        raise _malformed(
            where, f"it has {len(data)} bytes, a pointer has at most {MAX_POINTER_BYTES}"
        )
    if not data:
        raise _malformed(where, "it is empty")
    if data.startswith(b"\xef\xbb\xbf"):
        raise _malformed(where, "line 1 begins with a byte order mark, expected 'datastore: 1'")
    if b"\r\n" in data:
        raise _carriage_returns(where, _line_of(data, data.index(b"\r\n")))
    if not data.endswith(b"\n"):
        raise _malformed(where, f"line {_line_of(data, len(data))} has no newline at its end")
    try:
        return data.decode("utf-8").split("\n")[:-1]
    except UnicodeDecodeError as error:
        number = _line_of(data, error.start)
        raise _malformed(where, f"line {number} is not UTF-8 text") from error


def _extra(lines: list[str], where: str) -> tuple[tuple[str, str], ...]:
    seen = set(_KNOWN)
    extra = []
    for number, line in enumerate(lines[len(_LAYOUT) :], start=len(_LAYOUT) + 1):
        key, colon, value = line.partition(": ")
        if not (colon and _KEY.fullmatch(key) and _VALUE.fullmatch(value)):
            raise _bad_line(where, number, "'<key>: <value>'", line)
        if key in seen:
            raise _bad_line(where, number, f"a key other than {key!r}, which stands above", line)
        seen.add(key)
        extra.append((key, value))
    return tuple(extra)


def _line_of(data: bytes, offset: int) -> int:
    return data.count(b"\n", 0, offset) + 1


def _shown(line: str) -> str:
    return repr(line if len(line) <= 60 else line[:59] + "…")


def _bad_line(where: str, number: int, expected: str, found: str | None) -> FormatError:
    what = "the end of the file" if found is None else _shown(found)
    return _malformed(where, f"line {number}: expected {expected}, found {what}")


def _malformed(where: str, why: str) -> FormatError:
    return FormatError(
        f"{where} is not a pointer: {why}",
        hint="`datastore add` writes pointers, nobody edits them: take it back from Git with "
        f"`git checkout -- {_path(where)}`, or add the data again.",
        where=where,
    )


def _unknown_kind(where: str, kind: str) -> FormatError:
    return FormatError(
        f"{where}, line 2: this program does not know pointers of kind {kind!r}, "
        f"only of kind {', '.join(map(repr, KINDS))}",
        hint=_UPGRADE,
        where=where,
    )


def _carriage_returns(where: str, number: int) -> FormatError:
    return FormatError(
        f"{where} is not a pointer: line {number} ends in CRLF, pointers have LF; "
        "Git or an editor has converted it, because .gitattributes does not say '*.ds text eol=lf'",
        hint="Run `datastore git install`, which writes that line to .gitattributes, then "
        f"`git checkout -- {_path(where)}`.",
        where=where,
    )


def _conflicted(where: str, number: int) -> ConflictError:
    path = _path(where)
    return ConflictError(
        f"{where} has Git's conflict markers in it (line {number}): both sides changed the data",
        paths=(path,),
        hint=f"Keep one of the two blocks in {path} and delete the other lines: both have all that "
        "does not conflict. Then run `datastore checkout`.",
        where=where,
    )


def _path(where: str) -> str:
    return where.rpartition(":")[2]
