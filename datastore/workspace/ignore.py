"""What is left alone: data by Git, and files that are no data by us.

Git is told in ``.gitignore``, in a block that datastore keeps there. We are told by the user, in
``.datastoreignore``.
"""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterable
from pathlib import Path
from typing import Final, NamedTuple, Protocol

from datastore.errors import FormatError, UsageError
from datastore.storage.failures import storage_error
from datastore.workspace.managed import edit_block

IGNORE_FILE: Final = ".datastoreignore"
"""Where users say what is not part of a dataset, in the syntax of ``.gitignore``."""

_MAX_BYTES: Final = 1024 * 1024


def ignore_paths(directory: Path, names: Iterable[str]) -> bool:
    """Has Git ignore files or directories, by the managed block of a directory's ``.gitignore``.

    Args:
        directory: Where the data lies.
        names: Names of files and directories in it.

    Returns:
        Whether ``.gitignore`` had to be changed, which is then to be committed.

    Raises:
        UsageError: A name is none; or see `datastore.workspace.managed.edit_block`, also for what
            else may be raised.
    """
    return edit_block(directory / ".gitignore", add=[_git_pattern(name) for name in names])


def _git_pattern(name: str) -> bytes:
    """Writes the pattern by which Git ignores exactly this name in this directory."""
    if name in {"", ".", ".."} or "/" in name or "\0" in name:
        raise UsageError(f"{name!r} is not the name of a file or directory", where=name)
    pattern = re.sub(rb"[\\*?\[]", rb"\\\g<0>", os.fsencode(name))
    # A line cannot hold a newline: this stands for any control character, which is near enough.
    pattern = pattern.replace(b"\n", b"[[:cntrl:]]")
    if pattern.endswith(b"\r"):  # Git would take it for a part of the line ending
        pattern = pattern[:-1] + b"[\r]"
    stripped = pattern.rstrip(b" ")  # as Git does, unless they are escaped
    return b"/" + stripped + rb"\ " * (len(pattern) - len(stripped))


class Ignore:
    """Says what is no part of a dataset, as Git would by the same lines in ``.gitignore``.

    ``.datastoreignore`` counts at the top of the working tree and in every directory of the
    dataset; an inner file has the last word, and nothing in an ignored directory can be taken back
    in. Files are read when their directory is first asked about; while there are none, a question
    costs a lookup in a dictionary.

    Args:
        worktree: The top of the working tree.
        dataset: The dataset's path in it, with ``/`` between names.

    Raises:
        UsageError: The dataset itself is ignored.
        FormatError: A ``.datastoreignore`` is no text file or has a line that is no pattern; also
            raised by `match`.
        StorageError: It cannot be read; also raised by `match`.
    """

    def __init__(self, worktree: Path, dataset: str) -> None:
        self._top = str(worktree)
        self._dataset = dataset
        rules = _load(f"{self._top}/{IGNORE_FILE}", IGNORE_FILE)
        levels = (_Level(0, rules),) if rules else ()
        self._check_dataset(levels)
        self._directories: dict[str, tuple[_Level, ...] | None] = {"": self._enter("", levels)}

    def match(self, path: str, is_dir: bool) -> bool:  # noqa: FBT001 - a fact about the path
        """Says whether a path is ignored.

        Args:
            path: Relative to the dataset, with ``/`` between names.
            is_dir: Whether a directory is there.
        """
        parent, slash, _ = path.rpartition("/")
        levels = self._directories.get(parent) if slash else self._directories[""]
        if levels is None and slash:
            levels = self._look_up(parent)
        if not levels:
            return levels is None
        return _verdict(levels, f"{self._dataset}/{path}", is_dir=is_dir)

    def may_match(self, directory: str) -> bool:
        """Says whether any rule counts for what is directly in a directory of the dataset.

        Asked once a directory, it spares a scan a question for each of its files.
        """
        if directory not in self._directories:
            self._look_up(directory)
        return self._directories.get(directory) != ()

    def _look_up(self, directory: str) -> tuple[_Level, ...] | None:
        """Returns the rules that count in a directory; None where it is ignored."""
        end = -1
        levels = self._directories[""]
        while levels is not None and end < len(directory):
            end = directory.find("/", end + 1)
            end = len(directory) if end < 0 else end
            here = directory[:end]
            if here not in self._directories:
                ignored = levels and _verdict(levels, f"{self._dataset}/{here}", is_dir=True)
                self._directories[here] = None if ignored else self._enter(here, levels)
            levels = self._directories[here]
        return levels

    def _enter(self, directory: str, levels: tuple[_Level, ...]) -> tuple[_Level, ...]:
        where = "/".join(filter(None, (self._dataset, directory)))
        rules = _load(f"{self._top}/{where}/{IGNORE_FILE}", f"{where}/{IGNORE_FILE}")
        return (_Level(len(where) + 1, rules), *levels) if rules else levels

    def _check_dataset(self, levels: tuple[_Level, ...]) -> None:
        """Refuses a dataset that is ignored: all its files would count as deleted."""
        is_dir = not Path(self._top, self._dataset).is_file()
        parts = self._dataset.split("/")
        for count in range(1, len(parts) + 1):
            last = count == len(parts)
            if _verdict(levels, "/".join(parts[:count]), is_dir=is_dir or not last):
                raise UsageError(
                    f"{self._dataset!r} is ignored by {IGNORE_FILE!r}, so it has no files",
                    hint=f"Change the line in {IGNORE_FILE} that says so.",
                    where=self._dataset,
                )


class _Level(NamedTuple):
    skip: int
    """How much of a workspace path is the directory that the rules count from."""
    rules: _Rules


def _verdict(levels: tuple[_Level, ...], path: str, *, is_dir: bool) -> bool:
    for skip, rules in levels:
        ignored = rules.verdict(path[skip:], is_dir=is_dir)
        if ignored is not None:
            return ignored
    return False


class _Pattern(Protocol):
    """What is used of pathspec's patterns."""

    include: bool | None

    def match_file(self, file: str) -> object | None: ...


class _Rule(NamedTuple):
    """One line. pathspec's patterns also match what lies below a match; Git's do not.

    So a path is held against a pattern only where it is the path itself that could match.
    """

    ignores: bool
    pattern: _Pattern
    directory_only: bool
    floating: bool
    """Whether it is a pattern for names, at any depth."""
    depth: int | None
    """How many slashes a path has that matches; None where that is not fixed."""
    tail: _Pattern | None
    """What the last name has to match, where the depth is not fixed."""

    def matches(self, path: str, name: str, *, is_dir: bool) -> bool:
        if self.directory_only and not is_dir:
            return False
        if self.depth is not None and path.count("/") != self.depth:
            return False
        if self.tail is not None and self.tail.match_file(name) is None:
            return False
        subject = name if self.floating else path
        return (
            self.pattern.match_file(f"{subject}/" if self.directory_only else subject) is not None
        )


class _Rules:
    """The lines of one file, last one first."""

    def __init__(self, rules: list[_Rule]) -> None:
        self._rules = rules[::-1]

    def verdict(self, path: str, *, is_dir: bool) -> bool | None:
        """Says whether a path is ignored, True, or taken back in, False; None for neither."""
        name = path.rpartition("/")[2]
        for rule in self._rules:
            if rule.matches(path, name, is_dir=is_dir):
                return rule.ignores
        return None


def _load(path: str, where: str) -> _Rules | None:
    """Reads an ignore file; None where there is none."""
    try:
        status = os.lstat(path)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _MAX_BYTES:
            raise FormatError(
                f"{where!r} is not a regular file of at most {_MAX_BYTES} bytes",
                hint="Put a text file in its place; symbolic links are not followed there.",
                where=where,
            )
        data = Path(path).read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise storage_error(error, "read", path) from error
    text = os.fsdecode(data.removeprefix(b"\xef\xbb\xbf"))  # Git skips a byte order mark, too
    rules = [
        rule
        for number, line in enumerate(text.split("\n"), start=1)
        if (rule := _parse(line.removesuffix("\r"), f"{where}, line {number}"))
    ]
    return _Rules(rules)


def _parse(line: str, where: str) -> _Rule | None:
    pattern = _compile(line, where)
    if pattern is None or pattern.include is None:
        return None
    text = re.sub(r"(?<!\\) +$", "", line)
    body = text.removeprefix("!")
    directory_only = body.endswith("/")
    body = body.removesuffix("/")
    parts = body.removeprefix("/").split("/")
    floating = "/" not in body
    open_depth = "**" in parts
    return _Rule(
        ignores=pattern.include,
        pattern=pattern,
        directory_only=directory_only,
        floating=floating,
        depth=None if floating or open_depth else len(parts) - 1,
        tail=_compile(parts[-1], where) if open_depth and parts[-1] != "**" else None,
    )


def _compile(line: str, where: str) -> _Pattern | None:
    from pathspec import GitIgnoreSpec  # noqa: PLC0415 - 40 ms, for those who have such a file

    try:
        patterns = GitIgnoreSpec.from_lines([line]).patterns
    except ValueError as error:
        raise FormatError(
            f"{where}: {line!r} is not a pattern",
            hint="The syntax is that of .gitignore: see `git help gitignore`.",
            where=where,
        ) from error
    return patterns[0] if patterns else None
