"""Real repositories, and the program run in them: in this process, or as one of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from datastore.cli.main import program

SOURCE = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def environment(tmp_path_factory, monkeypatch):
    """Git without anything of the user's: every run sees the same."""
    home = tmp_path_factory.mktemp("home")
    config = home / "gitconfig"
    config.write_text(
        "[user]\n\tname = Ada\n\temail = ada@example.com\n[init]\n\tdefaultBranch = main\n"
    )
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    for name in ("NO_COLOR", "FORCE_COLOR"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(config))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_PAGER", "cat")
    monkeypatch.setenv("PYTHONPATH", str(SOURCE))
    monkeypatch.setenv("COLUMNS", "100")
    # What "pip install" would put on the PATH; the entry points are those of pyproject.toml.
    launchers = home / "bin"
    launchers.mkdir()
    for name in ("datastore", "git-ds"):
        launcher = launchers / name
        launcher.write_text(f"#!{sys.executable}\nfrom datastore.cli.main import main\nmain()\n")
        launcher.chmod(0o755)
    monkeypatch.setenv("PATH", f"{launchers}{os.pathsep}{os.environ['PATH']}")


@dataclass(frozen=True)
class Project:
    """A Git repository and the two ways to run the program in it."""

    top: Path

    def run(self, *args: str) -> Result:
        """Runs a command in this process."""
        return CliRunner().invoke(program, ["-C", str(self.top), *args])

    def ok(self, *args: str) -> str:
        """Runs a command that must succeed; gives its stdout."""
        result = self.run(*args)
        assert result.exit_code == 0, result.output
        return result.stdout

    def json(self, *args: str) -> dict:
        """Runs a command with --json; gives the object, whatever the exit code."""
        text = self.run(*args, "--json").stdout
        assert text.startswith('{"schema": 1, ')
        assert text.count("\n") == 1
        return json.loads(text)

    def git(self, *args: str, check: bool = True) -> str:
        """Runs Git; gives its stdout and stderr."""
        done = subprocess.run(
            ["git", *args],
            cwd=self.top,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            check=False,
            text=True,
        )
        assert not check or done.returncode == 0, done.stdout
        return done.stdout

    def write(self, path: str, content: str | bytes) -> Path:
        """Writes a file, and the folders it is in."""
        file = self.top / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return file

    def commit(self, message: str, tag: str = "") -> None:
        """Commits everything."""
        self.git("add", ".")
        self.git("commit", "-q", "-m", message)
        if tag:
            self.git("tag", tag)

    @property
    def store(self) -> Path:
        """The local store."""
        return self.top / ".git" / "datastore"


@pytest.fixture
def empty(tmp_path) -> Project:
    """A Git repository without data."""
    project = Project(tmp_path / "project")
    project.top.mkdir()
    project.git("init", "-q")
    return project


@pytest.fixture
def project(empty) -> Project:
    """A workspace with one version, v1: four images and a label file."""
    empty.ok("init", "-q")
    for name in ("cats/a.png", "cats/b.png", "dogs/a.png", "dogs/b.png"):
        empty.write(f"images/{name}", f"{name}\n".encode() * 100)
    empty.write("labels.csv", "file,label\ncats/a.png,cat\n")
    empty.ok("add", "-q", "images", "labels.csv")
    empty.commit("First version", "v1")
    return empty


@pytest.fixture
def changed(project) -> Project:
    """The same with one file added, modified, deleted and renamed, not added yet."""
    project.write("images/cats/c.png", b"new\n" * 50)
    project.write("images/cats/a.png", b"changed\n" * 100)
    (project.top / "images/dogs/a.png").unlink()
    (project.top / "images/dogs/b.png").rename(project.top / "images/dogs/z.png")
    return project


@pytest.fixture
def second(changed) -> Project:
    """The same with the changes as a second version, v2."""
    changed.ok("add", "-q", "images")
    changed.commit("Second version", "v2")
    return changed


@pytest.fixture
def execute(project) -> Callable[..., subprocess.CompletedProcess[bytes]]:
    """Runs the program as a process of its own, or another Python program in its place."""

    def run(
        *args: str, program: Sequence[str] = ("-m", "datastore"), **options
    ) -> subprocess.CompletedProcess[bytes]:
        options = {"cwd": project.top, "capture_output": True, **options}
        command = [sys.executable, *program, *args]
        return subprocess.run(command, check=False, **options)

    return run
