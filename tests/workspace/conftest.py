"""Real Git repositories that know nothing of the machine they are on."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

# Names that break programs which believe in them. A name that is not UTF-8 is for systems that can
# have one: see `test_names_need_not_be_text`.
HOSTILE_NAMES = [
    "new\nline",
    "tab\there",
    "carriage\rreturn",
    'double"quote',
    "single'quote",
    "back\\slash",
    "ümläut-日本",
    "-leading-dash",
    "--",
    " leading and trailing space ",
    "star*and?and[x]",
    ":(glob)magic",
    ":/top",
    "!bang",
    "#hash",
    "$(touch owned)",
    "HEAD missing",
    "~",
]


class Workspace:
    """A Git working tree to play with; calling it runs git."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, *arguments: str, ok: bool = True) -> str:
        ended = subprocess.run(["git", *arguments], cwd=self.path, capture_output=True, check=False)
        if ok and ended.returncode:
            raise AssertionError(f"git {arguments}: {ended.stderr.decode()}")
        return os.fsdecode(ended.stdout).rstrip("\n")

    def write(self, files: dict[str, str | bytes]) -> None:
        for name, content in files.items():
            path = self.path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content.encode() if isinstance(content, str) else content)

    def commit(self, files: dict[str, str | bytes], message: str = "A change") -> str:
        self.write(files)
        self("add", "--all", "--force", ".")
        self("commit", "--quiet", "--allow-empty", "--message", message)
        return self("rev-parse", "HEAD")


@pytest.fixture(autouse=True)
def hermetic_git(monkeypatch, tmp_path_factory):
    """Takes the machine's and the user's Git settings away."""
    home = tmp_path_factory.mktemp("home")
    (home / "gitconfig").write_text(
        "[user]\n\tname = Tess Ter\n\temail = tess@example.org\n"
        '[init]\n\tdefaultBranch = main\n[protocol "file"]\n\tallow = always\n'
    )
    for name in [name for name in os.environ if name.startswith("GIT_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home))
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(home / "gitconfig"))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path_factory.getbasetemp()))


@pytest.fixture
def make_workspace(tmp_path):
    """Makes repositories: ``make_workspace("name")``."""

    def make(name: str = "work", *options: str) -> Workspace:
        path = tmp_path / name
        path.mkdir(parents=True)
        workspace = Workspace(path)
        workspace("init", "--quiet", *options)
        return workspace

    return make


@pytest.fixture
def workspace(make_workspace):
    """A repository without commits."""
    return make_workspace()


@pytest.fixture
def opened(monkeypatch):
    """Lists the data files that are opened from now on, by name."""
    found = []
    really = os.open

    def open_noting(path, flags, *more, dir_fd=None, **options):
        if flags & os.O_NONBLOCK and not flags & os.O_DIRECTORY:
            found.append(os.fspath(path))
        return really(path, flags, *more, dir_fd=dir_fd, **options)

    monkeypatch.setattr(os, "open", open_noting)
    return found
