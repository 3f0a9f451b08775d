"""Git and the program together: git ds, readable diffs, merges by file."""

from __future__ import annotations

import subprocess

import pytest


@pytest.fixture
def installed(project):
    return project  # "init" has told Git


def branch(project, name: str, change) -> None:
    """Makes a branch from v1 with one more version of the data."""
    project.git("checkout", "-q", "-b", name, "main")
    project.ok("checkout", "--", "images")
    change()
    project.ok("add", "-q", "images")
    project.commit(f"Version of {name}")


def clone_without_data(project):
    there = project.top.parent / "clone"
    project.git("clone", "-q", str(project.top), str(there))
    clone = type(project)(there)
    clone.ok("init", "-q")
    return clone


def test_git_finds_ds(project):
    assert project.git("ds", "status") == "Everything matches its pointer (2 pointers).\n"
    assert "Usage: git ds status" in project.git("ds", "status", "-h")


def test_git_finds_ds_in_a_folder(project):
    shown = subprocess.run(
        ["git", "ds", "status", "cats"],
        cwd=project.top / "images",
        capture_output=True,
        text=True,
        check=False,
    )
    assert shown.returncode == 0, shown.stderr


def test_git_diff_shows_files(installed):
    installed.write("images/cats/a.png", "changed\n")
    installed.write("images/cats/new\nline", "new\n")
    installed.ok("add", "images")
    shown = installed.git("diff")
    assert "diff --datastore a/images.ds b/images.ds\n" in shown
    assert " images/cats | +1 ~1\n" in shown
    assert "    modified: images/cats/a.png  (1.1 kB -> 8 B)\n" in shown
    assert r'    added:    "images/cats/new\nline"' in shown
    assert "b3:" not in shown


def test_git_diff_in_a_pager_is_coloured(installed, monkeypatch):
    sides = ["images.ds", "0", "100644"] * 2
    assert "\x1b" not in installed.ok("driver-diff", "images.ds", *in_place(installed, sides))
    monkeypatch.setenv("GIT_PAGER_IN_USE", "1")
    assert "\x1b" in installed.ok("driver-diff", "images.ds", *in_place(installed, sides))
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in installed.ok("driver-diff", "images.ds", *in_place(installed, sides))


def in_place(project, sides: list[str]) -> list[str]:
    return [str(project.top / side) if side.endswith(".ds") else side for side in sides]


def test_git_log_shows_a_readable_pointer(installed):
    shown = installed.git("log", "-p", "--", "images.ds")
    assert "First version" in shown
    assert "+" in shown


def test_git_diff_of_a_new_and_a_deleted_pointer(installed):
    installed.write("more", "more\n")
    installed.ok("add", "-q", "more")
    installed.git("add", "more.ds")
    assert "1 file changed: 1 added" in installed.git("diff", "--cached")
    installed.git("commit", "-q", "-m", "More")
    installed.git("rm", "-q", "more.ds")
    assert "1 file changed: 1 removed" in installed.git("diff", "--cached")


def test_after_uninstall_git_shows_text(installed):
    installed.ok("git", "uninstall", "-q")
    installed.write("images/cats/a.png", "changed\n")
    installed.ok("add", "-q", "images")
    assert "+root: b3:" in installed.git("diff")


def test_a_merge_of_different_files_succeeds(installed):
    branch(installed, "ours", lambda: installed.write("images/cats/ours.png", "ours\n"))
    branch(installed, "theirs", lambda: installed.write("images/dogs/theirs.png", "theirs\n"))
    installed.git("checkout", "-q", "ours")
    installed.git("merge", "-q", "theirs", "-m", "Merge")
    installed.ok("checkout", "--", "images")
    assert (installed.top / "images/cats/ours.png").read_text() == "ours\n"
    assert (installed.top / "images/dogs/theirs.png").read_text() == "theirs\n"
    assert installed.git("status", "--porcelain") == ""


def test_a_merge_of_the_same_file_conflicts(installed):
    branch(installed, "ours", lambda: installed.write("images/cats/a.png", "ours\n"))
    branch(installed, "theirs", lambda: installed.write("images/cats/a.png", "theirs\n"))
    installed.git("checkout", "-q", "ours")
    shown = installed.git("merge", "theirs", check=False)
    assert "    images/cats/a.png: changed by both\n" in shown
    assert "datastore checkout && git add images.ds && git commit" in shown
    assert "UU images.ds" in installed.git("status", "--porcelain")
    assert "conflict" in installed.ok("status")


def test_without_data_git_diff_shows_text(installed):
    installed.write("images/cats/a.png", "changed\n")
    installed.ok("add", "-q", "images")
    installed.commit("Second version")
    clone = clone_without_data(installed)
    shown = clone.git("diff", "HEAD~1", "HEAD", "--", "images.ds")
    assert "(the files are not shown: " in shown
    assert "+root: b3:" in shown
    assert "root: b3:" in clone.git("log", "-p", "--", "images.ds")


def test_without_data_a_merge_leaves_a_conflict(installed):
    branch(installed, "ours", lambda: installed.write("images/cats/ours.png", "ours\n"))
    branch(installed, "theirs", lambda: installed.write("images/dogs/theirs.png", "theirs\n"))
    clone = clone_without_data(installed)
    clone.git("checkout", "-q", "ours")
    shown = clone.git("merge", "origin/theirs", check=False)
    assert "CONFLICT" in shown
    assert "<<<<<<< ours" in (clone.top / "images.ds").read_text()


def test_drivers_survive_a_pointer_that_is_none(installed):
    installed.write("images.ds", "this is no pointer\n")
    shown = installed.git("diff")
    assert "(the files are not shown: " in shown
    assert "+this is no pointer" in shown


def test_drivers_survive_outside_of_a_repository(tmp_path, empty):
    file = tmp_path / "images.ds"
    file.write_text("datastore: 1\n")
    result = empty.run("-C", str(tmp_path), "driver-textconv", str(file))
    assert (result.exit_code, result.stdout) == (0, "datastore: 1\n")


def test_an_unmerged_path_is_named(installed):
    assert installed.ok("driver-diff", "images.ds") == "* Unmerged path images.ds\n"
