"""Completion in shells: of both names of the program, and of "git ds"."""

from __future__ import annotations

import shutil
import subprocess

import pytest
from click.testing import CliRunner

from datastore.cli.main import program


def complete(words: str, *, name: str = "datastore") -> list[str]:
    variable = {"datastore": "_DATASTORE_COMPLETE", "git-ds": "_GIT_DS_COMPLETE"}[name]
    environment = {
        variable: "bash_complete",
        "COMP_WORDS": words,
        "COMP_CWORD": str(len(words.split(" ")) - 1),
    }
    result = CliRunner().invoke(program, [], env=environment, prog_name=name)
    return result.stdout.split()


@pytest.mark.parametrize("name", ["datastore", "git-ds"])
def test_verbs(name):
    assert complete(f"{name} sta", name=name) == ["plain,status"]
    assert "plain,checkout" in complete(f"{name} ", name=name)


def test_what_is_for_git_is_not_offered():
    assert complete("datastore driver") == []


def test_options():
    assert complete("datastore diff --ht") == ["plain,--html"]
    assert "plain,--json" in complete("datastore status --")


def test_nested_verbs():
    assert complete("datastore git un") == ["plain,uninstall"]


def test_paths():
    assert complete("datastore add ima") == ["file,ima"]
    assert complete("datastore diff ima") == ["file,ima"]


def test_revisions(empty, monkeypatch):
    monkeypatch.chdir(empty.top)
    empty.git("commit", "-q", "--allow-empty", "-m", "First")
    empty.git("tag", "v1")
    assert complete("datastore diff v") == ["plain,v1"]
    assert complete("datastore checkout ma") == ["plain,main"]
    monkeypatch.chdir("/")
    assert complete(f"datastore -C {empty.top} diff v") == ["plain,v1"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_serve_both_names(shell):
    script = CliRunner().invoke(program, ["completion", shell]).stdout
    assert f"_DATASTORE_COMPLETE={shell}_complete" in script
    assert f"_GIT_DS_COMPLETE={shell}_complete" in script


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts_are_valid(shell):
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    script = CliRunner().invoke(program, ["completion", shell]).stdout
    done = subprocess.run([shell, "-n"], input=script, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
@pytest.mark.parametrize(
    ("words", "function"),
    [
        ("COMP_WORDS=(datastore verif); COMP_CWORD=1", "_datastore_completion datastore"),
        ("COMP_WORDS=(git-ds verif); COMP_CWORD=1", "_git_ds_completion git-ds"),
        ("words=(git ds verif); cword=2; COMPREPLY=()", "_git_ds"),  # as Git's own script calls it
    ],
)
def test_bash_completes(words, function):
    script = f'eval "$(datastore completion bash)"\n{words}\n{function}\necho "${{COMPREPLY[@]}}"'
    done = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=False)
    assert done.stdout == "verify\n", done.stderr
