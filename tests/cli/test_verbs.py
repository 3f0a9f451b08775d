"""Each verb on a real repository: what people read."""

from __future__ import annotations

import re

import pytest


def test_init_says_what_comes_next(empty):
    result = empty.run("init")
    assert result.exit_code == 0
    assert result.stdout == f"Ready to version data in {empty.top}.\n"
    assert result.stderr == "Next: git add .datastore .gitattributes && datastore add PATH...\n"
    assert empty.run("init").exit_code == 0  # again: nothing happens
    assert empty.run("-q", "init").output == ""


def test_init_outside_of_git(tmp_path, empty):
    result = empty.run("-C", str(tmp_path), "init")
    assert result.exit_code == 3
    assert "git init" in result.stderr


def test_add_says_what_was_new_and_what_it_cost(empty):
    empty.ok("init")
    empty.write("images/a.png", b"a" * 1000)
    empty.write("images/b.png", b"a" * 1000)
    result = empty.run("add", "images")
    assert re.fullmatch(
        r"images: 2 files, 2\.0 kB\. 2 added\.\n"
        r"  New data: 1\.0 kB, stored as \d+ B\. 1\.0 kB was stored already\.\n",
        result.stdout,
    )
    assert result.stderr == "Next: git add images.ds .gitignore && git commit\n"


def test_add_again(project):
    result = project.run("add", "images")
    assert result.stdout == "images: 4 files, 4.4 kB. Nothing has changed.\n"
    assert result.stderr == ""


def test_add_a_change(changed):
    result = changed.run("add", "images", "labels.csv")
    lines = result.stdout.splitlines()
    assert lines[0].startswith("images: 4 files, ")
    assert lines[0].endswith(". 2 added, 2 removed, 1 modified.")
    assert lines[1].startswith("  New data: ")
    assert lines[2] == "labels.csv: 1 file, 26 B. Nothing has changed."
    assert result.stderr.startswith("Next: git add images.ds")


def test_add_a_path_that_the_shell_must_quote(project):
    project.write("two words/a", "a")
    result = project.run("add", "two words")
    assert "git add 'two words.ds'" in result.stderr


def test_status_of_a_clean_workspace(project):
    assert project.ok("status") == "Everything matches its pointer (2 pointers).\n"
    assert project.run("status", "--exit-code").exit_code == 0


def test_status_of_a_changed_workspace(changed):
    assert changed.ok("status") == (
        "images: 1 added, 1 modified, 1 deleted, 1 renamed\n"
        '  (use "datastore add images" to keep this as a new version)\n'
        '  (use "datastore checkout --force -- images" to discard the changes)\n'
        "    added:     images/cats/c.png\n"
        "    modified:  images/cats/a.png\n"
        "    deleted:   images/dogs/a.png\n"
        "    renamed:   images/dogs/b.png -> images/dogs/z.png\n"
        "\n1 other pointer: everything matches.\n"
    )
    assert changed.run("status", "--exit-code").exit_code == 1
    assert changed.run("status", "--exit-code", "labels.csv").exit_code == 0


def test_verbose_lists_everything(project):
    for number in range(30):
        project.write(f"images/new/{number:02}", f"{number}")
    assert "    ... and 10 more\n" in project.ok("status")
    assert "    added:     images/new/29\n" in project.ok("status", "-v")


def test_status_of_missing_data(project):
    (project.top / "labels.csv").unlink()
    assert project.ok("status", "labels.csv") == (
        'labels.csv: missing\n  (use "datastore checkout -- labels.csv" to get it back)\n'
    )


def test_status_of_a_pointer_edited_by_hand(project):
    project.write("labels.csv.ds", "datastore: 1\nkind: films\n")
    shown = project.ok("status")
    assert shown.startswith("labels.csv: broken: ")
    assert "line 2" in shown


def test_status_says_what_is_not_committed(project):
    project.write("more.txt", "more\n")
    project.ok("add", "more.txt")
    assert project.ok("status") == (
        "Everything matches its pointer (3 pointers).\n"
        "Not committed: 1 pointer\n"
        '  (use "git add more.txt.ds && git commit")\n'
    )


def test_status_before_anything(empty):
    empty.ok("init")
    assert empty.ok("status").startswith("No data is tracked here yet.\n")


def test_diff_with_the_workspace(changed):
    assert changed.ok("diff") == (
        "modified: images/cats/a.png  (1.1 kB -> 800 B)\n"
        "added:    images/cats/c.png  (200 B)\n"
        "removed:  images/dogs/a.png  (1.1 kB)\n"
        "renamed:  images/dogs/b.png -> images/dogs/z.png\n"
        "4 files changed: 1 added, 1 removed, 1 modified, 1 renamed (-1.2 kB)\n"
    )


@pytest.mark.parametrize("revisions", [["v1", "v2"], ["v1..v2"], ["v1...v2"], ["v1"]])
def test_diff_of_versions(second, revisions):
    shown = second.ok("diff", *revisions, "--stat")
    assert shown == (
        " images/cats | +1 ~1\n"
        " images/dogs | -1 >1\n"
        "4 files changed: 1 added, 1 removed, 1 modified, 1 renamed (-1.2 kB)\n"
    )


def test_diff_of_paths(second):
    assert second.ok("diff", "v1", "v2", "images/dogs", "--name-only") == (
        "images/dogs/a.png\nimages/dogs/z.png\n"
    )
    assert second.ok("diff", "v1", "v2", "labels.csv") == "No changes.\n"
    assert second.ok("diff", "v1", "v2", "--name-only", "--", "images/cats/c.png") == (
        "images/cats/c.png\n"
    )


def test_diff_exit_code(second):
    assert second.run("diff", "v1..v2", "--exit-code").exit_code == 1
    assert second.run("diff", "v2", "--exit-code").exit_code == 0


def test_diff_in_documents(second):
    markdown = second.ok("diff", "v1..v2", "--md")
    assert markdown.startswith("### Changes v1..v2\n\n**4 files changed**")
    result = second.run("diff", "v1..v2", "--html", "report.html")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr.startswith("Wrote ")
    assert "images/dogs/z.png" in (second.top / "report.html").read_text(encoding="utf-8")


def test_diff_shows_one_way_at_a_time(second):
    assert second.run("diff", "v1", "--md", "--stat").exit_code == 2


def test_a_name_that_is_a_revision_and_a_path(project):
    project.git("tag", "images")
    result = project.run("diff", "images")
    assert result.exit_code == 2
    assert result.stderr == (
        "error: 'images' is both a revision and a path\n"
        "hint: Write 'images --' for the revision or '-- images' for the path.\n"
    )
    assert project.run("diff", "images", "--").exit_code == 0
    assert project.run("diff", "--", "images").exit_code == 0


def test_a_name_that_is_neither(project):
    result = project.run("diff", "v9")
    assert result.exit_code == 3
    assert "'v9' is neither a revision nor a path here" in result.stderr


def test_a_revision_after_a_path(project):
    assert project.run("diff", "images", "v1").exit_code == 2
    assert project.run("checkout", "v1", "main").exit_code == 2
    assert project.run("checkout", "v1", "main", "--", "images").exit_code == 2


def test_log(second):
    lines = second.ok("log", "images").splitlines()
    assert len(lines) == 2
    assert re.fullmatch(
        r"[0-9a-f]{9}  \d{4}-\d\d-\d\d  Ada  images  4 files, 3\.2 kB  \+2 -2 ~1  Second version",
        lines[0],
    )
    assert lines[1].endswith("images  4 files, 4.4 kB  +4  First version")
    assert len(second.ok("log").splitlines()) == 3
    assert second.ok("log", "-n", "1").count("\n") == 1


def test_checkout_of_a_version(second):
    shown = second.ok("checkout", "v1", "images")
    assert shown.startswith("images: ")
    assert (second.top / "images/dogs/a.png").read_bytes() == b"dogs/a.png\n" * 100
    assert not (second.top / "images/cats/c.png").exists()
    second.ok("checkout", "v2", "--", "images")
    assert (second.top / "images/cats/c.png").exists()


def test_checkout_from_the_pointer(project):
    (project.top / "images/cats/a.png").unlink()
    shown = project.ok("checkout", "--", "images/cats/a.png")
    assert shown == "images: 1 file written (1.1 kB)\n"
    assert project.ok("status").startswith("Everything matches")


def test_checkout_keeps_what_was_changed(changed):
    result = changed.run("checkout", "v1", "images")
    assert result.exit_code == 4
    assert "images/cats/a.png" in result.stderr
    assert (changed.top / "images/cats/a.png").read_bytes() == b"changed\n" * 100
    changed.ok("checkout", "v1", "--force", "images")
    assert (changed.top / "images/cats/a.png").read_bytes() == b"cats/a.png\n" * 100


def test_ls(project):
    assert project.ok("ls").splitlines() == ["images", "labels.csv"]
    assert project.ok("ls", "images").splitlines() == ["images/cats/", "images/dogs/"]
    assert project.ok("ls", "-r", "v1:images").splitlines() == [
        "images/cats/a.png",
        "images/cats/b.png",
        "images/dogs/a.png",
        "images/dogs/b.png",
    ]
    line = project.ok("ls", "--long", "images/cats").splitlines()[0]
    assert re.fullmatch(r"file +1,100 b3:[0-9a-f]{16} images/cats/a\.png", line)


def test_cat(second):
    assert second.run("cat", "images/cats/c.png").stdout_bytes == b"new\n" * 50
    assert second.run("cat", "v1:images/cats/a.png").stdout_bytes == b"cats/a.png\n" * 100
    second.write("images/raw", bytes(range(256)) * 8192)
    second.ok("add", "images")
    assert second.run("cat", "images/raw").stdout_bytes == bytes(range(256)) * 8192


def test_a_colon_in_a_path(project):
    project.write("images/a:b", "colon\n")
    project.ok("add", "images")
    assert project.ok("cat", "images/a:b") == "colon\n"
    result = project.run("cat", "v9:images/cats/a.png")
    assert result.exit_code == 3
    assert "there is no revision 'v9'" in result.stderr


def test_verify(project):
    shown = project.ok("verify")
    assert shown.startswith("Checked ")
    assert shown.endswith("Everything is as it was stored.\n")
    assert project.ok("verify", "-q") == ""
    assert project.ok("verify", "--quick", "--rev", "v1").startswith("Checked ")
    assert project.ok("verify", "--rebuild-index").startswith("Rebuilt the index: ")


def test_doctor(project):
    shown = project.ok("doctor")
    assert re.search(r"^ok  git drivers +installed$", shown, re.MULTILINE)
    assert re.search(r"^ok  git-ds +/", shown, re.MULTILINE)
    assert project.ok("doctor", "-q") == ""


def test_doctor_finds_what_git_will_not(project, monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: None)
    result = project.run("doctor")
    assert result.exit_code == 1
    assert re.search(r"^BAD git-ds +not on the PATH", result.stdout, re.MULTILINE)
    assert result.stdout.rstrip().endswith("to the PATH")


def test_options_stand_before_or_behind_the_verb(project):
    assert project.ok("--json", "status") == project.ok("status", "--json")
    assert project.ok("-q", "add", "images") == project.ok("add", "-q", "images") == ""


def test_paths_are_seen_from_where_the_user_is(changed):
    inside = type(changed)(changed.top / "images" / "cats")
    shown = inside.ok("status", "..")
    assert shown.startswith("images: 1 added, ")
    assert '(use "datastore add ..")' not in shown
    assert '(use "datastore add .." to keep this as a new version)' in shown
    assert "    modified:  a.png\n" in shown
    assert "    renamed:   ../dogs/b.png -> ../dogs/z.png\n" in shown
    assert inside.ok("ls", "v1:.") == "a.png\nb.png\n"
    assert inside.ok("diff", "--stat").startswith(" .       | +1 ~1\n ../dogs | -1 >1\n")
    assert inside.ok("diff", "--name-only", ".") == "a.png\nc.png\n"
    assert inside.json("ls", ".")["entries"][0]["path"] == "images/cats/a.png"
    result = inside.run("add", "c.png")
    assert result.stdout.startswith("images: 5 files")
    assert result.stderr == "Next: git add ../../images.ds ../../.gitignore && git commit\n"


def test_a_path_with_a_newline_stays_one_line(project):
    project.write("images/new\nline", "x")
    assert r'    added:     "images/new\nline"' in project.ok("status").splitlines()
    project.ok("add", "images")
    assert r'"images/new\nline"' in project.ok("ls", "-r", "images").splitlines()
    assert project.json("ls", "-r", "images")["entries"][-1]["path"] == "images/new\nline"
