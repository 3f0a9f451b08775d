"""The programs, run as a user runs them: processes of their own, and a Git without settings."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

import pytest

from tests.project import isolate

SOURCE = Path(__file__).parents[2]


@dataclass(frozen=True)
class Shell:
    """A directory to run programs in."""

    directory: Path

    def run(self, *command: str, status: int = 0) -> str:
        """Runs a program, which must end with this status; returns its stdout."""
        ended = subprocess.run(command, cwd=self.directory, capture_output=True, check=False)
        assert ended.returncode == status, (command, ended.stdout, ended.stderr)
        return os.fsdecode(ended.stdout)

    def git(self, *arguments: str) -> str:
        """Runs git."""
        return self.run("git", *arguments)

    def datastore(self, *arguments: str, status: int = 0) -> str:
        """Runs datastore."""
        return self.run("datastore", *arguments, status=status)

    def json(self, *arguments: str, status: int = 0) -> dict:
        """Runs datastore with ``--json``; returns the object."""
        return json.loads(self.datastore(*arguments, "--json", status=status))

    def commit(self, message: str) -> None:
        """Commits everything."""
        self.git("add", "--all")
        self.git("commit", "--quiet", "--message", message)

    def cat(self, path: str) -> bytes:
        """The content of a stored file, as ``datastore cat`` prints it."""
        return subprocess.run(
            ["datastore", "cat", path], cwd=self.directory, capture_output=True, check=True
        ).stdout

    def digests(self, path: str) -> dict[str, str]:
        """The SHA-256 of every file at a path, or below it, by relative path."""
        top = self.directory / path
        found = [top] if top.is_file() else [each for each in top.rglob("*") if each.is_file()]
        return {str(each.relative_to(top)): digest(each.read_bytes()) for each in sorted(found)}


def digest(data: bytes) -> str:
    """SHA-256: a digest that is not ours."""
    return sha256(data).hexdigest()


@pytest.fixture
def shell(tmp_path, tmp_path_factory, monkeypatch) -> Callable[[str], Shell]:
    """Makes directories to work in: ``shell("work")``."""
    home = tmp_path_factory.mktemp("home")
    isolate(monkeypatch, home)
    monkeypatch.setenv("PYTHONPATH", str(SOURCE))
    # What "pip install" would put there; the entry points are those of pyproject.toml.
    launchers = home / "bin"
    launchers.mkdir()
    for name in ("datastore", "git-ds"):
        launcher = launchers / name
        launcher.write_text(f"#!{sys.executable}\nfrom datastore.cli.main import main\nmain()\n")
        launcher.chmod(0o755)
    monkeypatch.setenv("PATH", f"{launchers}{os.pathsep}{os.environ['PATH']}")

    def make(name: str) -> Shell:
        directory = tmp_path / name
        directory.mkdir()
        return Shell(directory)

    return make
