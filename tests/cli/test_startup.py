"""What a command loads: each verb pays for itself only."""

from __future__ import annotations

import sys

import pytest

from datastore.cli.main import VERBS, program

NEVER = {"asyncio", "fsspec", "numpy"}
HEAVY = NEVER | {"lmdb", "msgpack", "pathspec", "tqdm", "yaml", "zstandard"}

REPORT = """
import sys
from datastore.cli.main import program
try:
    program.main(sys.argv[1:])
finally:
    print(*sys.modules, file=sys.stderr)
"""


def loaded(execute, *args: str) -> set[str]:
    done = execute(*args, program=["-c", REPORT])
    assert done.returncode == 0, done.stderr
    return set(done.stderr.decode().splitlines()[-1].split())


def test_the_version_loads_no_more_than_click(execute):
    modules = loaded(execute, "--version")
    assert not modules & (HEAVY | {"json", "subprocess"})
    assert "datastore.repository" not in modules


def test_help_loads_no_verb(execute):
    assert not [name for name in loaded(execute, "--help") if ".commands." in name]


def test_status_loads_its_own_verb_and_nothing_of_the_network(execute):
    modules = loaded(execute, "status")
    assert not modules & (NEVER | {"tqdm"})
    assert [name for name in modules if ".commands." in name] == ["datastore.cli.commands.status"]


def test_a_verb_is_not_loaded_by_its_help_in_a_shell(execute):
    modules = loaded(execute, "add", "--help")
    assert not modules & HEAVY


def test_the_version_is_quick(execute):
    import resource

    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    for _ in range(3):
        execute("--version")
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    spent = (after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime) / 3
    assert spent < 0.1 * 3  # 0.1 s is the promise; the rest is for a busy machine


@pytest.mark.parametrize("name", VERBS)
def test_the_table_of_verbs_is_true(name):
    import click

    command = program.get_command(click.Context(program), name)
    assert isinstance(command, click.Command)
    if VERBS[name].section:
        assert (command.help or "").splitlines()[0] == VERBS[name].summary
    else:
        assert command.hidden


def test_the_entry_points_are_ours():
    import tomllib
    from pathlib import Path

    text = (Path(__file__).parents[2] / "pyproject.toml").read_text(encoding="utf-8")
    scripts = tomllib.loads(text)["project"]["scripts"]
    assert scripts == dict.fromkeys(["datastore", "git-ds"], "datastore.cli.main:main")
    assert sys.modules["datastore.cli.main"].main
