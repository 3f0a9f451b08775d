"""Asking Git about commits, files and its configuration.

Nothing here trusts a name: paths go in and come out between NULs, and are taken literally, never as
patterns. Git's history is the only history that there is, so nothing here writes any; what is
written is the repository's own configuration.
"""

from __future__ import annotations

import contextlib
import os
import re
import stat
import subprocess
from collections.abc import Container, Iterable, Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from datastore.errors import NotFoundError, UsageError
from datastore.workspace import git_program
from datastore.workspace.git_layout import locate
from datastore.workspace.git_log import (
    LOG_ARGUMENTS,
    VERSION_ARGUMENTS,
    Commit,
    read_commits,
    read_versions,
)
from datastore.workspace.git_objects import GitObject, ObjectReader
from datastore.workspace.pointer import POINTER_SUFFIX, is_pointer_path

__all__ = ["Commit", "Git"]

_POINTERS: Final = f":(top,glob)**/*{POINTER_SUFFIX}"
_REGULAR_FILE: Final = re.compile(rb"100[0-7]{3} blob [0-9a-f]+\t([^\0]+)\0")
_FILE: Final = re.compile(rb"1[02]0[0-7]{3} blob ([0-9a-f]+)\t([^\0]+)\0")


class Git:
    """One Git working tree and the repository that it belongs to; a context manager.

    Methods may be called from several threads. Paths are relative to the top of the working tree,
    with ``/`` between names, decoded as the file system's are. Every method raises `StorageError`
    when Git fails in a way that is not foreseen.

    Args:
        worktree: The top of the working tree.
        git_dir: Git's own directory for this working tree.
        common_dir: The directory that all working trees of the repository share.
    """

    def __init__(self, worktree: Path, git_dir: Path, common_dir: Path) -> None:
        self.worktree = worktree
        self.git_dir = git_dir
        self.common_dir = common_dir
        self._objects = ObjectReader(self._start_reader)
        self._commits: set[str] = set()  # full digests known to be commits, which cannot change

    @classmethod
    def discover(cls, start: Path) -> Git:
        """Finds the repository that a file or directory lies in.

        Raises:
            NotFoundError: It is in no Git repository, is not there, or there is no git program.
            UsageError: It is in a bare repository, or one that Git does not trust.
        """
        layout = locate(start)
        return cls(layout.worktree, layout.git_dir, layout.common_dir)

    # -- commits ---------------------------------------------------------------------------------

    def resolve(self, rev: str) -> str:
        """Finds the commit that a revision stands for.

        Args:
            rev: Any of Git's ways to name a commit: ``HEAD~1``, a branch, a tag, ``main@{u}``.

        Returns:
            The commit's full name, in hexadecimal.

        Raises:
            NotFoundError: There is no such commit, or the name is ambiguous.
        """
        if rev in self._commits:
            return rev
        found = self._find(rev)
        if found is None and rev != "HEAD" and self._find("HEAD") is not None:
            raise NotFoundError(
                f"there is no revision {rev!r}",
                hint="See `git log --oneline --all`, `git branch` and `git tag`; in a shallow "
                "clone, `git fetch --unshallow` brings older commits.",
                where=rev,
            )
        if found is None:
            raise NotFoundError(
                f"there is no revision {rev!r}: the branch has no commits yet",
                hint="Make the first one: `git add --all`, then `git commit`.",
                where=rev,
            )
        self._commits.add(found.digest)
        return found.digest

    def merge_base(self, a: str, b: str) -> str:
        """Finds the best common ancestor of two revisions.

        Raises:
            NotFoundError: One of them does not exist, or they have no common ancestor.
        """
        ended = self._run(["merge-base", self.resolve(a), self.resolve(b)], accept=(0, 1))
        if ended.returncode:
            raise NotFoundError(
                f"the revisions {a!r} and {b!r} have no common ancestor",
                hint="In a shallow clone it may be missing: run `git fetch --unshallow`.",
                where=f"{a}...{b}",
            )
        return ended.stdout.decode().strip()

    def parse_range(self, text: str) -> tuple[str, str]:
        """Takes a range apart: ``A..B`` is from A to B, ``A...B`` what B changed since it left A.

        Returns:
            Two revisions, as given, with ``HEAD`` for an empty side; for ``A...B`` the first one is
            the full name of the merge base.

        Raises:
            UsageError: `text` is not a range.
            NotFoundError: ``A...B`` names an unknown revision, or there is no common ancestor.
        """
        dots = "..." if "..." in text else ".."
        old, found, new = text.partition(dots)
        if not found or ".." in new or not (old or new):
            raise UsageError(
                f"{text!r} is not a range of revisions",
                hint="Write A..B or A...B; one of A and B may be left out and is HEAD then.",
            )
        old, new = old or "HEAD", new or "HEAD"
        return (self.merge_base(old, new) if dots == "..." else old), new

    def log(
        self,
        paths: Sequence[str] = (),
        *,
        rev: str = "HEAD",
        every: bool = False,
        limit: int | None = None,
    ) -> Iterator[Commit]:
        """Lists the commits that changed paths, newest first, as Git finds them.

        Args:
            paths: Files and directories, not followed over renames; none stands for all pointers.
            rev: Where to start.
            every: Start from HEAD and all refs instead, and leave out no branch for having ended up
                without effect.
            limit: At most so many commits.

        Raises:
            NotFoundError: There is no such revision.
        """
        start = ["--all", "--full-history"] if every else [self.resolve(rev)]
        arguments = [*LOG_ARGUMENTS, *start]
        if limit is not None:
            arguments.append(f"--max-count={max(limit, 0)}")
        if paths:
            arguments = ["--literal-pathspecs", *arguments, "--", *map(_inside, paths)]
        else:
            arguments += ["--", _POINTERS]
        return read_commits(self.worktree, arguments)

    def pointer_versions(self, walk: Sequence[str] = ("--all",)) -> list[tuple[str, str]]:
        """Lists every content that a pointer has had in any commit of a part of history, once.

        Args:
            walk: Full names of commits, with ``^`` before those whose history is left out; HEAD and
                all refs where not given.

        Returns:
            Pairs of commit and path, for `read_many`, newest first; the commit is one that has the
            content. One process finds them all, however long the history.
        """
        found: dict[tuple[str, str], tuple[str, str]] = {}
        for each in read_versions(self.worktree, [*VERSION_ARGUMENTS, *walk, "--", _POINTERS]):
            if is_pointer_path(each.path):
                found.setdefault((each.path, each.content), (each.commit, each.path))
        return list(found.values())

    # -- files of a commit -----------------------------------------------------------------------

    def read(self, rev: str, path: str) -> bytes | None:
        """Returns the content of a file at a revision; see `read_many`."""
        return self.read_many([(rev, path)])[0]

    def read_many(self, files: Iterable[tuple[str, str]]) -> list[bytes | None]:
        """Reads files at revisions, without a process of its own for each.

        Args:
            files: Pairs of revision and path.

        Returns:
            In the order of `files`; None where the path is no file there. A symbolic link reads as
            its target.

        Raises:
            NotFoundError: There is no such revision.
            FormatError: A file is larger than `git_objects.MAX_OBJECT_BYTES`.
        """
        names = []
        commits: dict[str, str] = {}
        for rev, path in files:
            commit = commits.get(rev) or commits.setdefault(rev, self.resolve(rev))
            names.append(self._name(commit, path))
        found = iter(self._objects.read([name for name in names if name is not None]))
        return [_content(next(found)) if name is not None else None for name in names]

    def pointers(self, rev: str) -> list[str]:
        """Lists the paths of all pointers at a revision, sorted.

        Raises:
            NotFoundError: There is no such revision.
        """
        command = ["ls-tree", "-r", "-z", "--full-tree", self.resolve(rev)]
        paths = (match[1] for match in _REGULAR_FILE.finditer(self._run(command).stdout))
        return sorted(filter(is_pointer_path, map(os.fsdecode, paths)))

    # -- files of the working tree ---------------------------------------------------------------

    def workspace_pointers(self) -> list[str]:
        """Lists the pointers that lie in the working tree, tracked or not, unless Git ignores them.

        Returns:
            The paths of regular files, sorted.
        """
        command = ["ls-files", "-z", "--cached", "--others", "--exclude-standard", "--", _POINTERS]
        found = set(filter(is_pointer_path, _paths(self._run(command).stdout)))
        return sorted(path for path in found if _is_regular_file(self.worktree / path))

    def changed_pointers(self) -> list[str]:
        """Lists the pointers that differ from HEAD: changed, new or deleted, staged or not.

        Returns:
            The paths, sorted. Without any commit, that is all pointers.
        """
        command = ["status", "--porcelain=v1", "-z", "--no-renames", "--untracked-files=all"]
        entries = _paths(self._run([*command, "--ignore-submodules=all", "--", _POINTERS]).stdout)
        return sorted(path for path in (entry[3:] for entry in entries) if is_pointer_path(path))

    def later_tips(self) -> list[str]:
        """Lists the tips of branches, local and remote-tracking, that HEAD is an ancestor of.

        Returns:
            Full names of commits, newest first, without HEAD itself; none without any commit.
        """
        command = ["for-each-ref", "--sort=-committerdate", "--format=%(objectname)"]
        ended = self._run(
            [*command, "--contains=HEAD", "refs/heads", "refs/remotes"], accept=(0, 128, 129)
        )
        tips = list(dict.fromkeys(os.fsdecode(ended.stdout).split()))
        head = self.resolve("HEAD") if tips else ""
        return [tip for tip in tips if tip != head]

    def tracked(self, path: str) -> list[str]:
        """Lists the files that Git tracks at a path or below it, sorted; ``""`` is the top."""
        command = ["--literal-pathspecs", "ls-files", "-z", "--cached", "--", _inside(path)]
        return sorted(set(_paths(self._run(command).stdout)))

    def is_ignored(self, path: str) -> bool:
        """Says whether Git ignores a path, there or not; never so for a file that it tracks.

        A ``/`` at the end says that the path is a directory, where none lies there.
        """
        # Every other option to take a path literally is refused by check-ignore.
        command = ["check-ignore", "--quiet", "--", f"./{_inside(path)}"]
        return self._run(command, accept=(0, 1)).returncode == 0

    # -- the repository's configuration ------------------------------------------------------------

    def config_get(self, key: str) -> str | None:
        """Returns the last value of a key in the repository's own configuration."""
        ended = self._run(["config", "--local", "-z", "--get", key], accept=(0, 1))
        return None if ended.returncode else os.fsdecode(ended.stdout).removesuffix("\0")

    def config_set(self, key: str, value: str) -> None:
        """Sets the only value of a key in the repository's own configuration.

        Raises:
            LockedError: Another process writes the configuration.
        """
        self._run(["config", "--local", "--replace-all", key, value])

    def config_unset(self, key: str) -> bool:
        """Removes a key from the repository's own configuration; False if it was not there.

        Raises:
            LockedError: Another process writes the configuration.
        """
        missing = 5
        ended = self._run(["config", "--local", "--unset-all", key], accept=(0, missing))
        return ended.returncode != missing

    # -- processes -------------------------------------------------------------------------------

    def close(self) -> None:
        """Ends the process that reads objects; the next call that needs one starts another."""
        self._objects.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _run(self, arguments: Sequence[str], accept: Container[int] = (0,)) -> git_program.Ended:
        return git_program.run(self.worktree, arguments, accept=accept)

    def _start_reader(self) -> git_program.Running:
        command = ["cat-file", "--batch"]
        return git_program.start(self.worktree, command, stdin=subprocess.PIPE)

    def _find(self, rev: str) -> GitObject | None:
        if not rev or rev.startswith("-") or re.search(r"[\0\n]", rev):
            return None
        # ":/text" finds a commit by its message, of which "^{commit}" would be taken as a part.
        name = rev if rev.startswith(":/") else f"{rev}^{{commit}}"
        found = self._objects.read([os.fsencode(name)])[0]
        return found if found is not None and found.kind == "commit" else None

    def _name(self, commit: str, path: str) -> bytes | None:
        """Makes a name that `ObjectReader` takes; None where there is certainly no such file."""
        if "\0" in path or path.startswith(("/", "./", "../")):
            return None  # the latter two Git would follow from the current directory
        if "\n" not in path:
            return os.fsencode(f"{commit}:{path}")
        command = ["--literal-pathspecs", "ls-tree", "-z", "--full-tree", commit, "--", path]
        listed = _FILE.fullmatch(self._run(command).stdout)
        return listed[1] if listed and listed[2] == os.fsencode(path) else None


def _inside(path: str) -> str:
    """Checks that a path can only lead into the working tree."""
    if "\0" in path or path.startswith("/") or ".." in path.split("/"):
        raise UsageError(
            f"{path!r} is not a path inside the working tree",
            hint="Give it relative to the top of the working tree, with '/' between names.",
            where=path,
        )
    return path or "."


def _paths(output: bytes) -> list[str]:
    return [os.fsdecode(path) for path in output.split(b"\0") if path]


def _is_regular_file(path: Path) -> bool:
    with contextlib.suppress(OSError):
        return stat.S_ISREG(path.lstat().st_mode)
    return False


def _content(found: GitObject | None) -> bytes | None:
    return found.data if found is not None and found.kind == "blob" else None
