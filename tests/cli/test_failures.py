"""Every way a command can fail: the message, the JSON and the exit code."""

from __future__ import annotations

import errno
import json

import click
import pytest
from click.testing import CliRunner

from datastore import errors
from datastore.cli import main
from datastore.cli.failures import EXIT_CODES, failure

ENDS = [
    (errors.UsageError("what", hint="do", where="x"), 2, "usage"),
    (errors.NotFoundError("what", hint="do", where="x"), 3, "not_found"),
    (errors.ConflictError("what", hint="do", where="x"), 4, "conflict"),
    (errors.StorageError("what", hint="do", where="x"), 5, "storage"),
    (errors.FormatError("what", hint="do", where="x"), 6, "format"),
    (errors.CorruptionError("what", hint="do", where="x"), 7, "corruption"),
    (errors.LockedError("what", hint="do", where="x"), 8, "locked"),
]


@pytest.fixture
def failing(monkeypatch):
    """Gives the program a verb that raises what it is told to."""

    def run(error: BaseException, *args: str):
        def get_command(self, ctx, name):
            @click.command(cls=main.Program.command_class or click.Command)
            def verb():
                raise error

            return verb

        monkeypatch.setattr(main.Program, "get_command", get_command)
        return CliRunner().invoke(main.program, [*args, "status"])

    return run


def test_every_library_error_has_an_exit_code():
    assert set(EXIT_CODES) == set(errors.DatastoreError.__subclasses__())


@pytest.mark.parametrize(("error", "exit_code", "code"), ENDS)
def test_a_library_error_is_told_to_people(failing, error, exit_code, code):
    result = failing(error)
    assert result.exit_code == exit_code
    assert result.stdout == ""
    assert result.stderr == "error: what\nhint: do\n"


@pytest.mark.parametrize(("error", "exit_code", "code"), ENDS)
def test_a_library_error_is_told_to_programs(failing, error, exit_code, code):
    result = failing(error, "--json")
    assert result.exit_code == exit_code
    assert result.stderr == ""
    assert json.loads(result.stdout) == {
        "schema": 1,
        "error": {"code": code, "message": "what", "hint": "do", "where": "x"},
    }


def test_a_subclass_ends_as_its_base_does():
    class TooNewError(errors.FormatError):
        code = "too_new"

    found = failure(TooNewError("what"))
    assert (found.exit_code, found.code) == (6, "too_new")


def test_a_conflict_lists_its_paths(failing):
    paths = (*(f"images/{number}" for number in range(25)), "evil\nname")
    result = failing(errors.ConflictError("files were changed", paths=paths, hint="Add them."))
    lines = result.stderr.splitlines()
    assert lines[:2] == ["error: files were changed", "    images/0"]
    assert lines[-2:] == ["    ... and 6 more", "hint: Add them."]
    result = failing(errors.ConflictError("files were changed", paths=paths), "--json")
    assert json.loads(result.stdout)["error"]["paths"] == list(paths)


def test_a_lock_names_its_holder(failing):
    result = failing(errors.LockedError("the store is locked", holder="pid 7 on host"))
    assert result.stderr == "error: the store is locked (held by pid 7 on host)\n"


@pytest.mark.parametrize("hostile", ["\x1b[2Jgone", "over\rwritten", "\u202eexe.gpj", "\udcff"])
def test_a_message_cannot_steer_the_terminal(failing, hostile):
    result = failing(errors.NotFoundError(f"there is no '{hostile}'"))
    assert hostile not in result.stderr


def test_an_error_of_the_system_names_the_file(failing):
    result = failing(PermissionError(errno.EACCES, "Permission denied", "images/a.png"))
    assert result.exit_code == 5
    assert result.stderr.startswith("error: 'images/a.png': Permission denied\n")


def test_a_full_disk_says_that_nothing_was_lost(failing):
    result = failing(OSError(errno.ENOSPC, "No space left on device"))
    assert result.exit_code == 5
    assert "Nothing was lost: free some space" in result.stderr


def test_a_defect_is_short_without_v(failing):
    result = failing(ZeroDivisionError("oh"))
    assert result.exit_code == 70
    assert result.stderr.startswith("error: this is a defect in datastore: ZeroDivisionError: oh\n")
    assert "Traceback" not in result.stderr


def test_a_defect_has_a_traceback_with_v(failing):
    result = failing(ZeroDivisionError("oh"), "-v")
    assert result.exit_code == 70
    assert "Traceback (most recent call last)" in result.stderr
    assert result.stderr.rstrip().endswith("report the traceback.")


@pytest.mark.parametrize("error", [KeyboardInterrupt(), click.Abort()])
def test_an_interrupt_says_what_is_safe(failing, error):
    result = failing(error)
    assert result.exit_code == 130
    assert result.stderr.startswith("error: interrupted\nhint: Nothing was lost")
    assert json.loads(failing(error, "--json").stdout)["error"]["code"] == "interrupted"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["stats"], "error: there is no command 'stats'\nhint: Did you mean status?\n"),
        (["status", "--nope"], "error: no such option"),
        (["add"], "error: missing argument 'PATH...'"),
        (["-C", "/no/such/dir", "status"], "error: invalid value for '-C'"),
        (["log", "-n", "0"], "error: invalid value for '-n'"),
        (["git"], "error: missing command\nhint: See 'datastore git --help'.\n"),
    ],
)
def test_bad_usage(args, message):
    result = CliRunner().invoke(main.program, args, prog_name="datastore")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert result.stderr.startswith(message)
    result = CliRunner().invoke(main.program, [*args, "--json"], prog_name="datastore")
    assert result.exit_code == 2
    assert json.loads(result.stdout)["error"]["code"] == "usage"


def test_json_behind_the_dashes_is_a_path():
    result = CliRunner().invoke(main.program, ["stats", "--", "--json"])
    assert result.stdout == ""
