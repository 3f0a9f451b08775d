"""Git's drivers for pointers: entered, called by Git, and taken out again without a trace."""

from __future__ import annotations

import shlex
import sys

import pytest

from datastore.errors import ConflictError, UsageError
from datastore.workspace.drivers import ATTRIBUTES, install, installed, uninstall
from datastore.workspace.git import Git
from tests.workspace.conftest import HOSTILE_NAMES

LINE = ATTRIBUTES.decode()


@pytest.fixture
def git(workspace):
    with Git.discover(workspace.path) as git:
        yield git


@pytest.fixture
def program(tmp_path):
    """A program with an awkward name that keeps its arguments and succeeds."""
    path = tmp_path / "odd $HOME 100%A 'dir'" / "git ds"
    path.parent.mkdir()
    kept = tmp_path / "arguments"
    path.write_text(
        f"#!{sys.executable}\nimport sys\n"
        f"open({str(kept)!r}, 'a').write(repr(sys.argv[1:]) + '\\n')\n"
        "if sys.argv[1] == 'driver-merge':\n    open(sys.argv[3], 'w').write('merged\\n')\n"
        "else:\n    print('shown by us')\n"
    )
    path.chmod(0o755)
    return path


@pytest.fixture
def calls(tmp_path):
    """Lists how the program was called."""

    def read():
        kept = tmp_path / "arguments"
        lines = kept.read_text().splitlines() if kept.exists() else []
        return [eval(line) for line in lines]

    return read


def test_install_enters_what_the_design_says(workspace, git):
    assert not installed(git)
    install(git)
    assert installed(git)
    assert git.config_get("diff.datastore.command") == "git-ds driver-diff"
    assert git.config_get("diff.datastore.textconv") == "git-ds driver-textconv"
    assert git.config_get("merge.datastore.driver") == "git-ds driver-merge %O %A %B %P"
    assert git.config_get("merge.datastore.name")
    assert LINE == "*.ds text eol=lf diff=datastore merge=datastore"
    assert (workspace.path / ".gitattributes").read_text() == (
        f"# >>> datastore (managed)\n{LINE}\n# <<< datastore\n"
    )
    attributes = workspace("check-attr", "--all", "sub/images.ds").splitlines()
    assert {each.partition(": ")[2] for each in attributes} == {
        "text: set",
        "eol: lf",
        "diff: datastore",
        "merge: datastore",
    }


def test_install_twice_changes_nothing(workspace, git):
    install(git)
    files = [workspace.path / ".git" / "config", workspace.path / ".gitattributes"]
    before = [(file.read_bytes(), file.stat().st_mtime_ns) for file in files]
    install(git)
    assert [(file.read_bytes(), file.stat().st_mtime_ns) for file in files] == before


def test_install_with_another_program_replaces_the_first(git):
    install(git)
    install(git, program="/opt/bin/git-ds")
    assert git.config_get("diff.datastore.command") == "/opt/bin/git-ds driver-diff"
    assert installed(git)
    uninstall(git)
    assert git.config_get("diff.datastore.command") is None


@pytest.mark.parametrize(
    "text", [None, b"", b"* text=auto\n", b"* text=auto", b"*.ds -text\r\nx y"]
)
def test_uninstall_leaves_no_trace(workspace, git, text):
    attributes = workspace.path / ".gitattributes"
    if text is not None:
        attributes.write_bytes(text)
    config = workspace.path / ".git" / "config"
    before = config.read_bytes()
    install(git)
    uninstall(git)
    assert not installed(git)
    assert config.read_bytes() == before
    assert (attributes.read_bytes() if attributes.exists() else None) == text
    uninstall(git)
    assert config.read_bytes() == before


def test_uninstall_leaves_what_is_the_users(workspace, git):
    install(git)
    git.config_set("diff.datastore.cachetextconv", "true")
    git.config_set("diff.datastore.command", "my-own-diff")
    git.config_set("merge.datastore.name", "mine")
    attributes = workspace.path / ".gitattributes"
    attributes.write_text(attributes.read_text().replace(LINE, f"*.jpg binary\n{LINE}"))
    uninstall(git)
    assert git.config_get("diff.datastore.cachetextconv") == "true"
    assert git.config_get("diff.datastore.command") == "my-own-diff"
    assert git.config_get("merge.datastore.name") == "mine"
    assert git.config_get("diff.datastore.textconv") is None
    assert attributes.read_text() == "# >>> datastore (managed)\n*.jpg binary\n# <<< datastore\n"


def test_install_does_not_overwrite_the_users_drivers(workspace, git):
    git.config_set("merge.datastore.driver", "my-own-merge %A")
    with pytest.raises(ConflictError, match=r"merge\.datastore\.driver") as caught:
        install(git)
    assert "git config --local --unset-all merge.datastore.driver" in caught.value.hint
    assert git.config_get("merge.datastore.driver") == "my-own-merge %A"
    assert not (workspace.path / ".gitattributes").exists()


@pytest.mark.parametrize("lost", ["config", "attributes"])
def test_half_installed_is_not_installed(workspace, git, lost):
    install(git)
    if lost == "config":
        git.config_unset("merge.datastore.driver")
    else:
        (workspace.path / ".gitattributes").unlink()
    assert not installed(git)
    install(git)
    assert installed(git)


def test_the_settings_are_those_of_all_working_trees(workspace, git, tmp_path):
    workspace.commit({"a": "1"})
    install(git)
    workspace.commit({})
    workspace("worktree", "add", "--quiet", str(tmp_path / "linked"))
    with Git.discover(tmp_path / "linked") as linked:
        assert installed(linked)


@pytest.mark.parametrize("program", ["", "a\nb", "a\0b"])
def test_what_cannot_be_a_program_is_refused(git, program):
    with pytest.raises(UsageError):
        install(git, program=program)
    assert not installed(git)


@pytest.mark.parametrize("name", ["images", *HOSTILE_NAMES])
def test_git_calls_the_drivers(workspace, git, program, calls, name):
    path = f"sub/{name}.ds"
    install(git, program=str(program))
    assert installed(git)
    workspace.commit({path: "base\n"})
    workspace.write({path: "worktree\n"})
    assert workspace("diff") == "shown by us"
    assert calls()[-1][:2] == ["driver-diff", path]
    assert len(calls()[-1]) == 8
    workspace.commit({})
    assert "+shown by us" in workspace("log", "--patch")
    assert calls()[-1][0] == "driver-textconv"
    workspace("switch", "--quiet", "--create", "side", "HEAD~1")
    workspace.commit({path: "side\n"})
    workspace("merge", "--quiet", "--no-edit", "main")
    merges = [call for call in calls() if call[0] == "driver-merge"]
    assert [(len(call), call[4]) for call in merges] == [(5, path)]
    assert (workspace.path / path).read_text() == "merged\n"


def test_pointers_keep_their_line_endings(workspace, git):
    workspace("config", "core.autocrlf", "true")
    workspace.write({".gitattributes": "* text eol=crlf\n"})
    install(git)
    workspace.commit({"a.ds": "one\ntwo\n", "b.txt": "one\ntwo\n"})
    for name in ("a.ds", "b.txt"):
        (workspace.path / name).unlink()
    workspace("checkout", "--", "a.ds", "b.txt")
    assert (workspace.path / "a.ds").read_bytes() == b"one\ntwo\n"
    assert (workspace.path / "b.txt").read_bytes() == b"one\r\ntwo\r\n"


def test_the_program_is_quoted_for_the_shell(git, program):
    install(git, program=str(program))
    value = git.config_get("merge.datastore.driver")
    assert shlex.split(value.replace("%%", "%"))[0] == str(program)
