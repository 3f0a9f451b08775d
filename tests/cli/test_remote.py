"""Verbs of sharing: what people and scripts get, and what the library is asked for."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import click
import pytest

from datastore import repository
from datastore.cli import sharing_output
from datastore.errors import NotFoundError, StorageError
from datastore.repository import Repository
from datastore.sync.results import (
    FetchResult,
    PushedRoot,
    PushResult,
    RemoteDamage,
    RemoteStatus,
)
from datastore.workspace.checkout import CheckedOut
from datastore.workspace.diagnosis import Check
from datastore.workspace.remotes import RemoteCheck
from datastore.workspace.steps import PullResult

URL = "s3://bucket/x"
GOOD = RemoteCheck(True, "origin", URL, (Check("reach", ok=True, value="12 ms"),))
BAD = RemoteCheck(
    False, "origin", URL, (Check("reach", ok=False, value="no such bucket", hint="make it"),)
)


def text(lines) -> str:
    return click.unstyle("\n".join([lines] if isinstance(lines, str) else lines))


@pytest.fixture
def answer(monkeypatch) -> Callable[..., list]:
    """Lets a method of the repository give an answer, or raise it; gives what it is asked."""

    def set_answer(name: str, result, *, of=Repository) -> list:
        asked = []

        def method(*arguments, progress=None, **options):
            asked.append((arguments[1:] if of is Repository else arguments, options))
            if isinstance(result, BaseException):
                raise result
            return result

        monkeypatch.setattr(of, name, method, raising=False)
        return asked

    return set_answer


# -- remote ---------------------------------------------------------------------------------------


def test_adding_a_remote_tries_it(project, answer):
    asked = answer("remote_check", GOOD)
    result = project.run("remote", "add", "origin", URL, "-o", "region=eu", "-o", "profile=a=b")
    assert result.exit_code == 0, result.output
    assert result.stdout == f"Added origin ({URL}), the default remote.\n"
    assert result.stderr == "Next: git add .datastore && git commit, then: datastore push\n"
    assert asked == [(("origin",), {})]
    assert project.json("remote", "list")["remotes"] == [
        {
            "name": "origin",
            "url": URL,
            "default": True,
            "options": {"region": "eu", "profile": "a=b"},
        }
    ]


@pytest.mark.parametrize(
    ("check", "said"),
    [(BAD, "no such bucket"), (StorageError("no route to host", hint="go online"), "no route")],
)
def test_a_remote_that_does_not_work_is_added_with_a_warning(project, answer, check, said):
    answer("remote_check", check)
    result = project.run("remote", "add", "origin", URL)
    assert result.exit_code == 0
    assert "warning: the remote was added, but it does not work yet\n" in result.stderr
    assert f"origin ({URL}): does not work\n" in result.stderr
    assert said in result.stderr
    assert result.stdout.startswith("Added origin")
    found = project.json("remote", "add", "second", URL)
    assert (found["name"], found["default"], found["check"]["ok"]) == ("second", False, False)
    assert said in found["check"]["checks"][0]["value"]


def test_a_remote_need_not_be_tried(project, answer):
    asked = answer("remote_check", BAD)
    assert project.json("remote", "add", "origin", URL, "--no-check")["check"] is None
    assert asked == []


@pytest.mark.parametrize(
    ("args", "said"),
    [
        (["origin", "bucket/path"], "url is neither a URL nor a path"),
        (["origin", "s3://ada:hunter2@bucket"], "url holds a secret"),
        (["origin", URL, "-o", "secret=hunter2"], "secret holds a secret"),
        (["origin", URL, "-o", "hunter2"], "an option is no KEY=VALUE"),
        (["origin", URL, "-o", "=hunter2"], "an option is no KEY=VALUE"),
        (["origin", URL, "-o", "a=b", "-o", "a=c"], "the option 'a' is given twice"),
        (["origin", URL, "-o", "url=/elsewhere"], "the option 'url' is given twice"),
        (["a b", URL], "'a b' is no name for a remote"),
    ],
)
def test_remotes_that_are_refused(project, args, said):
    before = (project.top / ".datastore/config.yaml").read_text()
    result = project.run("remote", "add", *args)
    assert result.exit_code == 2
    assert said in result.stderr
    assert "hint: " in result.stderr
    assert "hunter2" not in result.output
    assert (project.top / ".datastore/config.yaml").read_text() == before


def test_a_directory_is_named_from_where_the_user_is(project):
    inside = type(project)(project.top / "images" / "cats")
    inside.ok("remote", "add", "nas", "../../../nas", "--no-check")
    assert project.ok("remote", "list") == "nas  ../nas  (default)\n"


def test_listing_remotes(project):
    result = project.run("remote", "list")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "No remote is named yet: datastore remote add origin URL\n"
    project.ok("remote", "add", "origin", URL, "--no-check", "-o", "region=eu")
    project.ok("remote", "add", "nas", "/nas", "--no-check")
    listed = "origin  s3://bucket/x  (default)\nnas     /nas\n"
    assert project.ok("remote", "list") == listed
    assert "(default)\n    region: eu\nnas " in project.ok("remote", "list", "-v")


def test_removing_a_remote(project):
    for name in ("origin", "nas"):
        project.ok("remote", "add", name, f"/{name}", "--no-check")
    assert project.ok("remote", "remove", "origin") == (
        "Forgot origin; the data on it stays. The default remote is nas.\n"
    )
    assert project.json("remote", "remove", "nas") == {
        "schema": 1,
        "removed": "nas",
        "default": None,
    }
    assert project.run("remote", "remove", "nas").exit_code == 2


def test_checking_a_remote(project, answer):
    asked = answer("remote_check", GOOD)
    assert project.ok("remote", "check") == f"origin ({URL}): works\nok  reach  12 ms\n"
    assert project.ok("remote", "check", "-q", "origin") == ""
    assert asked == [((None,), {}), (("origin",), {})]
    answer("remote_check", BAD)
    result = project.run("remote", "check")
    assert result.exit_code == 5
    assert result.stdout.endswith("BAD reach  no such bucket\n           make it\n")
    assert project.json("remote", "check")["ok"] is False


# -- push -----------------------------------------------------------------------------------------

ROOTS = tuple(PushedRoot("images", f"{number:012x}", f"b3:{number:064x}") for number in range(3))


def pushed(**given) -> PushResult:
    fields = {"roots": (), "known": 0, "packs": 0, "bytes": 0, "requests": 2}
    return PushResult("origin", URL, **{**fields, **given})


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (
            {"roots": ROOTS, "packs": 18, "bytes": 512_300_000, "requests": 24},
            (
                "origin (s3://bucket/x): sent 3 versions in 18 packs, 512.3 MB (24 requests)\n"
                "    images at 000000000\n"
                "    images at 000000000\n"
                "    images at 000000000"
            ),
        ),
        (
            {"roots": (PushedRoot("a\nb", "", "b3:00"),), "packs": 1, "bytes": 7, "requests": 1},
            (
                "origin (s3://bucket/x): sent 1 version in 1 pack, 7 B (1 request)\n"
                '    "a\\nb" in the workspace, not committed'
            ),
        ),
        ({"known": 5}, "origin (s3://bucket/x): Everything is there already."),
        ({}, "origin (s3://bucket/x): No commit has data to send."),
        (
            {"known": 5, "absent": ROOTS[:1]},
            (
                "origin (s3://bucket/x): Nothing was sent.\n"
                "Not sent: 1 version with parts that are neither here nor there\n"
                '  (use "datastore push --verify" in a clone that has the data)\n'
                "    images at 000000000"
            ),
        ),
        (
            {"known": 5, "packs": 2, "bytes": 2000, "healed": ("a.pack", "b.pack")},
            (
                "origin (s3://bucket/x): sent 2 packs, 2.0 kB (2 requests)\n"
                "  2 packs that the remote had lost went there again."
            ),
        ),
    ],
)
def test_what_a_push_says(given, shown):
    assert text(sharing_output.pushed(pushed(**given))) == shown


def test_push_lists_twenty_versions():
    result = pushed(roots=ROOTS * 10)
    assert text(sharing_output.pushed(result)).endswith("\n    ... and 10 more")
    assert len(list(sharing_output.pushed(result, 100))) == 31


@pytest.mark.parametrize(
    ("args", "revs", "options"),
    [
        ([], None, {}),
        (["v1", "main~3..main"], ("v1", "main~3..main"), {}),
        (["--all", "--remote", "nas"], None, {"all_refs": True, "remote": "nas"}),
        (["--verify"], None, {"verify": True}),
        (["--read-data"], None, {"read_data": True}),
    ],
)
def test_what_push_asks_for(project, answer, args, revs, options):
    asked = answer("push", pushed(known=1))
    assert project.ok("push", *args) == f"origin ({URL}): Everything is there already.\n"
    default = {"all_refs": False, "remote": None, "verify": False, "read_data": False}
    assert asked == [((revs,), default | options)]


def test_push_in_json(project, answer):
    answer("push", pushed(roots=ROOTS[:1], packs=1, bytes=7))
    assert project.json("push") == {
        "schema": 1,
        "remote": "origin",
        "url": URL,
        "roots": [{"path": "images", "rev": "0" * 12, "root": f"b3:{0:064x}"}],
        "known": 0,
        "packs": 1,
        "bytes": 7,
        "requests": 2,
        "healed": [],
        "absent": [],
    }


def test_a_version_that_cannot_be_sent(project, answer):
    answer("push", pushed(roots=ROOTS[1:], packs=1, bytes=7, absent=ROOTS[:1]))
    for args in (["push"], ["push", "-q"]):
        result = project.run(*args)
        assert result.exit_code == 3
        assert "sent 2 versions" in result.stdout
        assert "Not sent: 1 version" in result.stdout
    assert len(project.json("push")["absent"]) == 1


def test_all_and_revisions_exclude_each_other(project):
    assert project.run("push", "--all", "v1").exit_code == 2
    assert project.run("fetch", "--all", "v1").exit_code == 2
    assert project.run("status", "--all").exit_code == 2


@pytest.mark.parametrize(
    ("verb", "args", "kept"),
    [
        ("push", [], "What was sent stays there"),
        ("fetch", [], "What has arrived is kept"),
        ("pull", [], "What has arrived is kept"),
    ],
)
def test_an_interrupt_says_what_is_kept(project, answer, verb, args, kept):
    answer(verb, KeyboardInterrupt())
    result = project.run(verb, *args)
    assert result.exit_code == 130
    assert result.stderr.startswith(f"error: interrupted\nhint: {kept}")
    assert "run the same command again" in result.stderr
    assert project.json(verb, *args)["error"]["code"] == "interrupted"


def test_a_remote_that_cannot_be_reached(project, answer):
    answer("push", StorageError("origin does not answer", hint="try again", retryable=True))
    result = project.run("push")
    assert result.exit_code == 5
    assert result.stderr == "error: origin does not answer\nhint: try again\n"


# -- fetch, pull, get -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ((3, 4, 1_200_000, 7), "origin: fetched 1.2 MB out of 4 packs for 3 versions (7 requests)"),
        ((3, 0, 0, 0), "origin: Everything is here already (3 versions)."),
        ((0, 0, 0, 0), "origin: No commit has data to fetch."),
    ],
)
def test_what_a_fetch_says(given, shown):
    assert "\n".join(map(text, sharing_output.fetched(FetchResult("origin", *given), 10))) == shown


@pytest.mark.parametrize(
    ("args", "revs", "paths", "options"),
    [
        ([], None, (), {}),
        (["v1"], ("v1",), (), {}),
        (["v1", "main", "--", "images/cats"], ("v1", "main"), ("images/cats",), {}),
        (["images"], None, ("images",), {}),
        (["--all", "--remote", "nas"], None, (), {"all_refs": True, "remote": "nas"}),
    ],
)
def test_what_fetch_asks_for(project, answer, args, revs, paths, options):
    asked = answer("fetch", FetchResult("origin", 1, 1, 5, 1))
    project.ok("fetch", *args)
    assert asked == [((revs, paths), {"all_refs": False, "remote": None} | options)]
    assert project.json("fetch")["fetched_bytes"] == 5


PULLED = (CheckedOut("images", written=3, removed=1, kept=0, bytes=3000),)


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (
            (3, 3000, 1500, 4, PULLED),
            "images: 3 files written (3.0 kB), 1 removed\nFetched 1.5 kB (4 requests).",
        ),
        (
            (3, 3000, 0, 0, PULLED),
            "images: 3 files written (3.0 kB), 1 removed\nNothing had to be fetched.",
        ),
        ((0, 0, 0, 0, (CheckedOut("images", 0, 0, 0, 0),)), "images: nothing to do"),
        (
            (3, 3000, 1500, 4, PULLED, "/data/v 1"),
            "Wrote 3 files, 3.0 kB, to /data/v 1.\nFetched 1.5 kB (4 requests).",
        ),
    ],
)
def test_what_a_pull_says(given, shown):
    assert text(sharing_output.pulled(PullResult(*given))) == shown


@pytest.mark.parametrize(
    ("args", "asks", "options"),
    [
        ([], (None, ()), {}),
        (["images/cats", "labels.csv"], (None, ("images/cats", "labels.csv")), {}),
        (["--rev", "v1", "--force"], ("v1", ()), {"force": True}),
        (["--remote", "nas"], (None, ()), {"remote": "nas"}),
        (["--out", "there"], (None, ()), {"out": "there"}),
        (["--out", "/there/it/is"], (None, ()), {"out": "/there/it/is"}),
    ],
)
def test_what_pull_asks_for(project, answer, args, asks, options):
    asked = answer("pull", PullResult(3, 3000, 0, 0, PULLED))
    project.ok("pull", *args)
    if "out" in options:  # a full path: it starts where the user is
        options["out"] = str(project.top / options["out"])
    default = {"out": None, "force": False, "remote": None}
    assert asked == [(asks, default | options)]
    found = project.json("pull")
    assert found["pointers"][0]["written"] == 3
    assert list(found) == [
        "schema",
        "files",
        "bytes",
        "fetched_bytes",
        "requests",
        "pointers",
        "out",
    ]


@pytest.mark.parametrize("source", ["https://example.org/cats.git", "ada@host:cats.git", "../cats"])
def test_what_get_asks_for(project, answer, source):
    asked = answer("get", PullResult(3, 3000, 5, 1, (), "there"), of=repository)
    if source == "../cats":
        (project.top.parent / "cats").mkdir()
    shown = project.ok("get", source, "images", "--rev", "v1", "--out", "there")
    assert shown.startswith("Wrote 3 files, 3.0 kB, to there.\n")
    where = str(project.top.parent / "cats") if source == "../cats" else source
    options = {"rev": "v1", "out": str(project.top / "there")}
    assert asked == [((where, "images"), options)]


def test_get_needs_to_know_where_to(project):
    result = project.run("get", "https://example.org/cats.git", "images")
    assert result.exit_code == 2
    assert "--out" in result.stderr


# -- status ---------------------------------------------------------------------------------------

DAMAGE = RemoteDamage("images/a", "abc", "x.pack", f"b3:{1:064x} is gone")


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ((3, ()), "origin (s3://bucket/x): Everything is there (3 versions)."),
        ((0, ()), "origin (s3://bucket/x): No commit has data yet."),
        (
            (3, ROOTS[:1]),
            (
                "origin (s3://bucket/x): 1 of 3 versions not there\n"
                '  (use "datastore push" to send what is missing)\n'
                "    images at 000000000"
            ),
        ),
        (
            (3, (), (DAMAGE,)),
            (
                "origin (s3://bucket/x): 3 versions, damaged\n"
                "damaged: pack x.pack\n"
                "  a chunk is gone\n"
                "    abc:images/a\n"
                '  (use "datastore push --verify" where the data still is, to send it again)'
            ),
        ),
    ],
)
def test_what_status_says_of_a_remote(given, shown):
    assert text(sharing_output.remote_status(RemoteStatus("origin", URL, *given))) == shown


def test_status_of_a_remote(project, answer):
    asked = answer("remote_status", RemoteStatus("origin", URL, 2, ROOTS[:1]))
    shown = project.ok("status", "--remote")
    assert shown.startswith("Everything matches its pointer (2 pointers).\n\norigin (")
    assert '(use "datastore push --all" to send' in project.ok("status", "--remote", "--all")
    assert asked == [((), {"all_refs": False}), ((), {"all_refs": True})]
    assert project.run("status", "--remote", "--exit-code").exit_code == 1
    found = project.json("status", "--remote")
    assert found["clean"] is True
    assert found["remote"]["missing"][0]["path"] == "images"
    assert "remote" not in project.json("status")
    answer("remote_status", RemoteStatus("origin", URL, 2, ()))
    assert project.run("status", "--remote", "--exit-code").exit_code == 0


# -- Git's pre-push hook --------------------------------------------------------------------------


@pytest.fixture
def pushing(project, tmp_path) -> Path:
    """A Git remote, the hook, and a file that notes what is asked of the library."""
    project.git("init", "-q", "--bare", str(tmp_path / "there.git"))
    project.git("remote", "add", "origin", str(tmp_path / "there.git"))
    project.ok("remote", "add", "store", str(tmp_path / "store"), "--no-check")
    project.commit("Name a remote")
    assert project.ok("git", "install", "--pre-push").endswith("sends the data first.\n")
    notes = tmp_path / "notes"
    launcher = Path(tmp_path / "bin" / "git-ds")
    launcher.parent.mkdir()
    launcher.write_text(f'#!/bin/sh\necho "$@" >> {notes}\ncat >> {notes}\n')
    launcher.chmod(0o755)
    return notes


def test_git_calls_the_hook(project, pushing, monkeypatch):
    hook = project.top / ".git/hooks/pre-push"
    hook.write_text(hook.read_text().replace("git-ds ", f"{pushing.parent}/bin/git-ds "))
    project.git("push", "-q", "origin", "main")
    first, refs = pushing.read_text().splitlines()
    assert first.startswith("hook-pre-push origin ")
    head = project.git("rev-parse", "HEAD").strip()
    assert refs == f"refs/heads/main {head} refs/heads/main {'0' * 40}"


def test_git_install_in_json(project):
    found = project.json("git", "install", "--pre-push")
    assert found["hook"] == str(project.top / ".git/hooks/pre-push")
    project.ok("git", "uninstall")
    assert not (project.top / ".git/hooks/pre-push").exists()


@pytest.fixture
def hook(project, monkeypatch) -> Callable[..., click.testing.Result]:
    """Calls the hook as Git would, for refs ``(new, old)``."""
    from click.testing import CliRunner

    from datastore.cli.main import program

    def call(*updates: tuple[str, str]):
        lines = "".join(f"refs/heads/x {new} refs/heads/x {old}\n" for new, old in updates)
        args = ["-C", str(project.top), "hook-pre-push", "origin", "/there.git"]
        return CliRunner().invoke(program, args, input=lines)

    return call


ZEROS = "0" * 40


def test_the_hook_sends_what_is_new(second, hook, answer):
    second.ok("remote", "add", "store", "/store", "--no-check")
    old, new = (second.git("rev-parse", rev).strip() for rev in ("v1", "v2"))
    second.git("tag", "-a", "-m", "A tree", "tree", "HEAD^{tree}")
    tree = second.git("rev-parse", "tree").strip()
    asked = answer("push", pushed(roots=ROOTS[:1], packs=1))
    result = hook((new, old), (new, ZEROS), (ZEROS, old), (new, "1" * 40), (tree, ZEROS))
    assert result.exit_code == 0, result.output
    assert asked == [(([f"{old}..{new}", new, new],), {})]
    assert result.stdout == ""
    assert result.stderr.startswith(f"origin ({URL}): sent 1 version")


def test_the_hook_is_quiet_where_nothing_is_to_be_done(project, hook, answer):
    asked = answer("push", pushed(known=3))
    assert (hook().exit_code, hook((ZEROS, ZEROS)).output) == (0, "")
    assert asked == []
    project.ok("remote", "add", "store", "/store", "--no-check")
    head = project.git("rev-parse", "HEAD").strip()
    assert hook((head, ZEROS)).output == ""
    assert len(asked) == 1


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (StorageError("no route"), 5),
        (NotFoundError("gone"), 3),
        (KeyboardInterrupt(), 130),
    ],
)
def test_the_hook_fails_where_the_data_cannot_be_sent(project, hook, answer, error, code):
    project.ok("remote", "add", "store", "/store", "--no-check")
    answer("push", error)
    result = hook((project.git("rev-parse", "HEAD").strip(), ZEROS))
    assert result.exit_code == code
    assert "Git is told not to push" in result.stderr
    assert "git push --no-verify" in result.stderr


def test_the_hook_fails_where_a_version_is_not_to_be_had(project, hook, answer):
    project.ok("remote", "add", "store", "/store", "--no-check")
    answer("push", pushed(absent=ROOTS[:1]))
    result = hook((project.git("rev-parse", "HEAD").strip(), ZEROS))
    assert result.exit_code == 3
    assert "    images at 000000000\nThe data was not sent" in result.stderr


def test_the_hook_without_a_remote(project, hook):
    head = project.git("rev-parse", "HEAD").strip()
    result = hook((head, ZEROS))
    assert result.exit_code == 2
    assert "no remote for the data of 'images'" in result.stderr
    assert "datastore remote add" in result.stderr
    project.git("rm", "-q", "images.ds", "labels.csv.ds")
    project.git("commit", "-q", "-m", "No data")
    assert hook((project.git("rev-parse", "HEAD").strip(), head)).exit_code == 0


def test_the_hook_on_a_branch_without_data(project, hook):
    head = project.git("rev-parse", "HEAD").strip()
    project.git("checkout", "-q", "--orphan", "bare")
    project.git("rm", "-rqf", ".")
    project.git("commit", "-q", "--allow-empty", "-m", "Nothing")
    here = project.git("rev-parse", "HEAD").strip()
    assert hook((here, ZEROS)).exit_code == 0
    result = hook((here, ZEROS), (head, ZEROS))
    assert result.exit_code == 3
    assert "no datastore in the Git repository" in result.stderr


def test_the_hook_takes_only_what_git_says(project, hook):
    assert hook(("a b", "c")).exit_code == 2
