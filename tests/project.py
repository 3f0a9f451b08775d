"""A Git repository with data in a temporary directory, and the few words that tests speak of it."""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from datastore.repository import Repository

Content = str | bytes | None
"""Of a file; text is written as UTF-8, None stands for an empty directory."""

_SETTLED = 0.15
"""Seconds after which the stat cache trusts a time stamp: its margin and a little more."""


def isolate(patch: pytest.MonkeyPatch, home: Path) -> None:
    """Takes the machine's and the user's Git settings away, and puts our programs on the PATH."""
    (home / "gitconfig").write_text(
        "[user]\n\tname = Tess Ter\n\temail = tess@example.org\n"
        '[init]\n\tdefaultBranch = main\n[protocol "file"]\n\tallow = always\n'
        "[core]\n\tpager = cat\n"
    )
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        patch.delenv(name)
    for name in ("NO_COLOR", "FORCE_COLOR"):
        patch.delenv(name, raising=False)
    patch.setenv("HOME", str(home))
    patch.setenv("XDG_CONFIG_HOME", str(home))
    patch.setenv("GIT_CONFIG_GLOBAL", str(home / "gitconfig"))
    patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    patch.setenv("GIT_CEILING_DIRECTORIES", str(home.parent))
    patch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


def settle() -> None:
    """Waits until the files written so far are old enough for the stat cache to be believed."""
    time.sleep(_SETTLED)


def tree(top: Path) -> dict[str, tuple[object, ...]]:
    """Describes what lies on disk: path -> kind and content. Empty directories count."""
    return dict(sorted(_tree(top, "")))


def _tree(top: Path, prefix: str) -> Iterator[tuple[str, tuple[object, ...]]]:
    there = os.lstat(top)
    if stat.S_ISLNK(there.st_mode):
        yield prefix, ("link", os.readlink(top))
    elif not stat.S_ISDIR(there.st_mode):
        kind = "exec" if there.st_mode & stat.S_IXUSR else "file"
        yield prefix, (kind, top.read_bytes())
    else:
        names = os.listdir(top)
        if not names and prefix:
            yield prefix, ("dir",)
        for name in names:
            yield from _tree(top / name, f"{prefix}/{name}" if prefix else name)


@dataclass
class Project:
    """A Git worktree and the `Repository` in it."""

    top: Path
    _opened: Repository | None = field(default=None, repr=False)

    @property
    def repo(self) -> Repository:
        """The repository, opened when first asked for."""
        if self._opened is None:
            self._opened = Repository.open(self.top)
        return self._opened

    def close(self) -> None:
        """Closes the repository; the next use opens it again."""
        if self._opened is not None:
            self._opened.close()
            self._opened = None

    @property
    def store(self) -> Path:
        """The directory of the store."""
        return self.top / ".git" / "datastore"

    def git(self, *arguments: str, ok: bool = True) -> str:
        """Runs git; returns what it printed on both streams."""
        ended = subprocess.run(
            ["git", *arguments],
            cwd=self.top,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
        )
        if ok and ended.returncode:
            raise AssertionError(f"git {arguments}: {ended.stdout.decode()}")
        return os.fsdecode(ended.stdout)

    def path(self, name: str) -> Path:
        """A path below the top."""
        return self.top / name

    def write(self, files: dict[str, Content]) -> None:
        """Writes files, replacing whatever has their names."""
        for name, content in files.items():
            path = self.top / name
            if path.is_symlink() or path.is_file():
                path.unlink()
            if content is None:
                path.mkdir(parents=True, exist_ok=True)
                continue
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)

    def remove(self, *names: str) -> None:
        """Removes files, links and directories with all in them."""
        for name in names:
            path = self.top / name
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            else:
                path.unlink()

    def put(self, dataset: str, files: dict[str, Content]) -> None:
        """Makes a dataset's directory hold exactly these files."""
        if os.path.lexists(self.top / dataset):
            self.remove(dataset)
        (self.top / dataset).mkdir(parents=True)
        self.write({f"{dataset}/{name}": content for name, content in files.items()})

    def commit(self, message: str = "A change") -> str:
        """Commits everything; returns the commit."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", message)
        return self.git("rev-parse", "HEAD").strip()

    def version(self, tag: str, files: dict[str, Content], *, dataset: str = "images") -> str:
        """Makes a dataset hold exactly these files, adds and commits it; returns its root."""
        self.put(dataset, files)
        root = self.repo.add(dataset).pointers[0].root
        self.commit(tag)
        self.git("tag", tag)
        return root

    def tree(self, dataset: str = "images") -> dict[str, tuple[object, ...]]:
        """Describes what lies on disk in a dataset; see `tree`."""
        return tree(self.top / dataset)

    def stored(self, dataset: str = "images", rev: str | None = None) -> dict[str, bytes]:
        """Reads all files of a version out of the store, by workspace path."""
        return {
            entry.path: self.repo.read(entry.path, rev=rev)
            for entry in self.repo.ls(dataset, rev=rev, recursive=True)
            if entry.kind in {"file", "exec"}
        }

    def pointer(self, dataset: str = "images") -> str:
        """The text of a pointer in the workspace."""
        return (self.top / f"{dataset}.ds").read_text()

    def root(self, dataset: str = "images") -> str:
        """The root that a pointer in the workspace names."""
        return self.pointer(dataset).split("root: ")[1].strip()

    def state(self, dataset: str = "images") -> str:
        """The state of one dataset."""
        return next(each.state for each in self.repo.status().pointers if each.path == dataset)

    def changes(self, *arguments: str | None, paths: tuple[str, ...] = ()) -> list[str]:
        """Compares versions; gives ``"modified images/a"``, ``"renamed images/a images/b"``."""
        found = self.repo.diff(*arguments, paths=paths).changes
        return [" ".join(filter(None, (each.kind, each.old_path, each.path))) for each in found]


def make_project(top: Path) -> Project:
    """Makes a Git repository in which data is versioned."""
    top.mkdir(parents=True)
    project = Project(top)
    project.git("init", "--quiet", "--template=")
    Repository.init(top).close()
    return project
