"""The pre-push hook: ours is written and removed, that of somebody else never touched."""

from __future__ import annotations

import os
import subprocess

import pytest

from datastore.errors import ConflictError, UsageError
from datastore.workspace import drivers, hooks
from datastore.workspace.git import Git


@pytest.fixture
def git(project):
    with Git.discover(project.top) as opened:
        yield opened


def test_installing_and_uninstalling(project, git):
    path = hooks.install(git)
    assert path == project.path(".git/hooks/pre-push")
    assert os.access(path, os.X_OK)
    before = path.stat().st_mtime_ns
    assert hooks.install(git) == path
    assert path.stat().st_mtime_ns == before
    hooks.install(git, program="/opt/my tools/git-ds")
    assert "'/opt/my tools/git-ds' hook-pre-push" in path.read_text()
    drivers.uninstall(git)
    assert not path.exists()
    assert not hooks.uninstall(git)


def test_the_hook_calls_the_program(project, git, tmp_path):
    program = tmp_path / "a program's name"
    program.write_text('#!/bin/sh\necho "$@"\ncat\nexit 5\n')
    program.chmod(0o755)
    path = hooks.install(git, program=str(program))
    done = subprocess.run([path, "origin", "url"], input=b"refs", capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (5, b"hook-pre-push origin url\nrefs")


def test_a_program_that_is_gone_is_told_in_a_sentence(git):
    path = hooks.install(git, program="no-such-program")
    done = subprocess.run([path], input=b"", capture_output=True, check=False)
    assert done.returncode == 1
    assert b"there is no no-such-program to send the data" in done.stderr
    assert b"--no-verify" in done.stderr


def test_a_hook_of_somebody_else(project, git):
    project.write({".git/hooks/pre-push": "#!/bin/sh\nexit 0\n"})
    with pytest.raises(ConflictError, match="a pre-push hook already") as caught:
        hooks.install(git)
    assert 'git-ds hook-pre-push "$@" || exit 1' in caught.value.hint
    assert not hooks.uninstall(git)
    assert project.path(".git/hooks/pre-push").read_text() == "#!/bin/sh\nexit 0\n"


def test_a_hook_of_somebody_else_that_calls_us(project, git):
    text = '#!/bin/sh\ngit-ds hook-pre-push "$@" || exit 1\n'
    project.write({".git/hooks/pre-push": text})
    assert hooks.install(git) == project.path(".git/hooks/pre-push")
    assert not hooks.uninstall(git)
    assert project.path(".git/hooks/pre-push").read_text() == text


def test_hooks_elsewhere_in_the_repository(project, git):
    project.git("config", "core.hooksPath", ".githooks")
    assert hooks.install(git) == project.path(".githooks/pre-push")
    assert hooks.uninstall(git)


def test_hooks_that_other_repositories_share(project, git, tmp_path):
    project.git("config", "core.hooksPath", str(tmp_path / "shared"))
    with pytest.raises(ConflictError, match="leads out of this repository") as caught:
        hooks.install(git)
    assert "hook-pre-push" in caught.value.hint
    assert not (tmp_path / "shared").exists()


def test_worktrees_share_the_hook(project, git, tmp_path):
    project.commit()
    project.git("worktree", "add", "-q", str(tmp_path / "other"))
    with Git.discover(tmp_path / "other") as other:
        assert hooks.install(other) == project.path(".git/hooks/pre-push")


@pytest.mark.parametrize("program", ["", "a\nb", "a\0b"])
def test_a_program_that_cannot_be_named(git, program):
    with pytest.raises(UsageError):
        hooks.install(git, program=program)
