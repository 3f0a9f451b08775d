"""A hermetic Git, small repositories with a history, and the driver that breaks them."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from datastore.repository import Repository
from tests.faults.driver import Driver, disk_contents


@pytest.fixture(scope="session", autouse=True)
def environment(tmp_path_factory) -> Iterator[None]:
    """Git without anything of the machine's or the user's."""
    home = tmp_path_factory.mktemp("home")
    config = home / "gitconfig"
    config.write_text(
        "[user]\n\tname = Ada\n\temail = ada@example.com\n[init]\n\tdefaultBranch = main\n"
        "[core]\n\tfsync = none\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith("GIT_")]:
            patch.delenv(name)
        patch.setenv("HOME", str(home))
        patch.setenv("XDG_CONFIG_HOME", str(home))
        patch.setenv("GIT_CONFIG_GLOBAL", str(config))
        patch.setenv("GIT_CONFIG_NOSYSTEM", "1")
        patch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path_factory.getbasetemp()))
        patch.setattr(os, "fsync", lambda descriptor: None)  # see tests.faults.driver
        yield


@pytest.fixture(scope="session")
def driver(environment) -> Iterator[Driver]:
    """Runs verbs in children that may be killed."""
    with Driver() as started:
        yield started


@dataclass
class Project:
    """A Git repository with datasets, and what each of its commits is known to hold."""

    top: Path
    versions: dict[str, dict[str, str]] = field(default_factory=dict)

    @property
    def store(self) -> Path:
        """The local store."""
        return self.top / ".git" / "datastore"

    def git(self, *arguments: str) -> str:
        """Runs Git, which must succeed; gives its stdout."""
        done = subprocess.run(["git", *arguments], cwd=self.top, capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        return os.fsdecode(done.stdout).rstrip("\n")

    def open(self) -> Repository:
        """Opens the repository in this process."""
        return Repository.open(self.top)

    def write(self, path: str, content: bytes) -> Path:
        """Writes a file and the directories it is in."""
        file = self.top / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        return file

    def contents(self, *datasets: str) -> dict[str, str]:
        """Says what lies on disk, in the words of `tests.faults.driver.version_contents`."""
        return disk_contents(self.top, *(datasets or ("images",)))

    def commit(self, tag: str, *datasets: str) -> None:
        """Commits the pointers, and notes what the version on disk holds."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", tag)
        self.git("tag", tag)
        self.versions[tag] = self.contents(*datasets)

    def untracked(self) -> list[str]:
        """Lists what Git would take for new or changed files."""
        return [line[3:] for line in self.git("status", "--porcelain", "-uall").splitlines()]

    def leftovers(self) -> list[str]:
        """Lists half-made files, wherever they lie."""
        return [
            os.path.relpath(os.path.join(base, name), self.top)
            for base, directories, names in os.walk(self.top)
            for name in [*names, *directories]
            if name.startswith(".datastore-tmp-") or os.path.basename(base) == "tmp"
        ]


def fill(project: Project, seed: int) -> None:
    """Writes a small dataset of every kind of file; another seed changes some of it."""
    for at in range(6):
        project.write(f"images/cats/{at}.jpg", bytes([at]) * 700)
    project.write("images/dogs/big.bin", _noise(300_000, seed))
    project.write("images/dogs/edited.txt", f"version {seed}\n".encode() * 50)
    project.write(f"images/dogs/only-{seed}.txt", b"comes and goes\n")
    project.write("images/empty.txt", b"")
    run = project.write("images/run.sh", b"#!/bin/sh\n")
    run.chmod(0o755)
    (project.top / "images/hollow").mkdir(exist_ok=True)
    link = project.top / "images/link"
    if not link.is_symlink():
        link.symlink_to("cats/0.jpg")
    for old in (project.top / "images/dogs").glob("only-*.txt"):
        if old.name != f"only-{seed}.txt":
            old.unlink()


def _noise(size: int, seed: int) -> bytes:
    """Gives bytes that do not compress; a part near the end depends on the seed."""
    import random

    data = bytearray(random.Random(0).randbytes(size))
    data[-1000:] = random.Random(seed).randbytes(1000)
    return bytes(data)


@pytest.fixture(scope="session")
def template(environment, tmp_path_factory) -> Path:
    """A repository without data; a copy of it costs a tenth of another one."""
    project = Project(tmp_path_factory.mktemp("template") / "project")
    project.top.mkdir()
    project.git("init", "--quiet", "--template=")
    Repository.init(project.top).close()
    return project.top


@pytest.fixture
def make_project(template, tmp_path) -> Callable[..., Project]:
    """Makes repositories: ``make_project("name")``, or at a path of their own."""

    def make(name: str | Path = "project") -> Project:
        project = Project(tmp_path / name)
        shutil.copytree(template, project.top, symlinks=True, dirs_exist_ok=True)
        return project

    return make


@pytest.fixture
def empty(make_project) -> Project:
    """A repository without data."""
    return make_project()


@pytest.fixture
def project(empty) -> Project:
    """A repository with two committed versions of ``images``, v1 and v2."""
    for seed in (1, 2):
        fill(empty, seed)
        with empty.open() as repository:
            repository.add(["images"])
        empty.commit(f"v{seed}")
    return empty


@dataclass
class Saved:
    """A copy of all that `add` may change; the user's files are left where they are."""

    project: Project
    copy: Path
    names: tuple[str, ...] = (".git/datastore", ".datastore", ".gitignore", "images.ds")

    def save(self) -> None:
        """Takes the copy."""
        for name in self.names:
            _replace(self.project.top / name, self.copy / name)

    def restore(self) -> None:
        """Brings the copy back."""
        for name in self.names:
            _replace(self.copy / name, self.project.top / name)


def _replace(source: Path, target: Path) -> None:
    if target.is_dir():
        shutil.rmtree(target)
    else:
        target.unlink(missing_ok=True)
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True)
    elif source.exists():
        shutil.copy2(source, target)


@pytest.fixture
def saved(tmp_path) -> Callable[[Project], Saved]:
    """Copies the state of a project: ``saved(project).restore()``."""

    def save(project: Project) -> Saved:
        found = Saved(project, tmp_path / "saved")
        found.save()
        return found

    return save
