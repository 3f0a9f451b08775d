"""What Git is told to ignore, and what we are told to."""

from __future__ import annotations

import itertools
import os
import random
import subprocess
import sys
import threading

import pytest

from datastore.errors import (
    ConflictError,
    FormatError,
    LockedError,
    StorageError,
    UsageError,
)
from datastore.storage.lock import try_lock
from datastore.workspace import managed
from datastore.workspace.ignore import Ignore, ignore_paths
from datastore.workspace.managed import edit_block, read_block
from tests.workspace.conftest import HOSTILE_NAMES

BEGIN = "# >>> datastore (managed)\n"
END = "# <<< datastore\n"


def block(*lines):
    return BEGIN + "".join(f"{line}\n" for line in lines) + END


# -- the managed block of .gitignore ---------------------------------------------------------------


def test_the_block_is_sorted_and_grows(tmp_path):
    file = tmp_path / ".gitignore"
    assert ignore_paths(tmp_path, ["images"])
    assert file.read_text() == block("/images")
    assert ignore_paths(tmp_path, ["b", "a", "images"])
    assert file.read_text() == block("/a", "/b", "/images")


def test_nothing_is_written_when_all_is_there(tmp_path):
    ignore_paths(tmp_path, ["b", "a"])
    before = (tmp_path / ".gitignore").stat()
    assert not ignore_paths(tmp_path, ["a"])
    assert not ignore_paths(tmp_path, [])
    after = (tmp_path / ".gitignore").stat()
    assert (before.st_ino, before.st_mtime_ns) == (after.st_ino, after.st_mtime_ns)
    assert os.listdir(tmp_path) == [".gitignore"]


USER_TEXTS = [
    b"",
    b"*.pyc\n",
    b"*.pyc",
    b"\n\n",
    b"a\r\nb\r\n",
    b"a\r\nb",
    b"a\nb\r\n\r\n",
    b"caf\xe9 \xff\n",
    b"a\rb",
    b"  \n# comment\n!x\n\\#y",
    b"\xef\xbb\xbfa\n",
    "ü\n".encode(),
]


@pytest.mark.parametrize("text", USER_TEXTS)
def test_the_users_text_is_kept_and_comes_back_byte_for_byte(tmp_path, text):
    file = tmp_path / ".gitignore"
    file.write_bytes(text)
    assert edit_block(file, add=[b"/b"])
    assert edit_block(file, add=[b"/a"])
    assert file.read_bytes().startswith(text)
    assert read_block(file) == (b"/a", b"/b")
    assert edit_block(file, remove=[b"/a", b"/missing"])
    assert edit_block(file, remove=[b"/b"])
    assert file.read_bytes() == text


@pytest.mark.parametrize("before", USER_TEXTS)
@pytest.mark.parametrize("after", [b"x\n", b"x", b"\r\n\r\nx\r\n"])
def test_text_on_both_sides_of_the_block_is_kept(tmp_path, before, after):
    file = tmp_path / ".gitignore"
    file.write_bytes(before)
    edit_block(file, add=[b"/b"])
    with_block = file.read_bytes()
    if not with_block.endswith(b"\n"):
        with_block += b"\n"  # an editor would, too
    file.write_bytes(with_block + after)
    edit_block(file, add=[b"/a"])
    assert file.read_bytes().startswith(before)
    assert file.read_bytes().endswith(after)
    assert read_block(file) == (b"/a", b"/b")


def test_a_file_that_was_made_for_the_block_goes_with_it(tmp_path):
    file = tmp_path / ".gitignore"
    edit_block(file, add=[b"/a"])
    edit_block(file, remove=[b"/a"])
    assert not file.exists()
    assert not edit_block(file, remove=[b"/a"])
    assert not file.exists()


def test_the_block_has_the_line_endings_of_the_file(tmp_path):
    file = tmp_path / ".gitignore"
    file.write_bytes(b"*.pyc\r\n")
    ignore_paths(tmp_path, ["b"])
    ignore_paths(tmp_path, ["a"])
    assert file.read_bytes() == (b"*.pyc\n" + block("/a", "/b").encode()).replace(b"\n", b"\r\n")
    assert not ignore_paths(tmp_path, ["a", "b"])


def test_lines_of_the_user_in_the_block_stay_there(tmp_path):
    file = tmp_path / ".gitignore"
    file.write_text("x\n" + block("*.tmp", "", "/old") + "y\n")
    ignore_paths(tmp_path, ["new"])
    assert file.read_text() == "x\n" + block("*.tmp", "/new", "/old") + "y\n"


def test_the_block_stays_where_the_user_has_moved_it(tmp_path):
    file = tmp_path / ".gitignore"
    file.write_text(block("/a") + "!/a\n")
    ignore_paths(tmp_path, ["b"])
    assert file.read_text() == block("/a", "/b") + "!/a\n"


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        (BEGIN + "/a\n", "1"),
        ("x\n" + END, "2"),
        (END + BEGIN, "1, 2"),
        (block("/a") + block("/b"), "1, 3, 4, 6"),
        (BEGIN + BEGIN + END, "1, 2, 3"),
    ],
)
def test_a_broken_block_is_left_alone(tmp_path, text, numbers):
    file = tmp_path / ".gitignore"
    file.write_text(text)
    with pytest.raises(FormatError, match=f"on line {numbers}$") as caught:
        ignore_paths(tmp_path, ["images"])
    assert END.strip() in caught.value.hint
    assert file.read_text() == text


def test_conflict_markers_in_the_block_are_left_to_the_user(tmp_path):
    file = tmp_path / ".gitignore"
    text = block("<<<<<<< HEAD", "/a", "=======", "/b", ">>>>>>> theirs")
    file.write_text(text)
    with pytest.raises(ConflictError, match="conflict markers on line 2") as caught:
        ignore_paths(tmp_path, ["images"])
    assert caught.value.paths == (str(file),)
    assert file.read_text() == text


def test_what_is_no_regular_file_is_left_alone(tmp_path):
    (tmp_path / "target").write_text("x\n")
    (tmp_path / ".gitignore").symlink_to("target")
    with pytest.raises(UsageError, match="not a regular file"):
        ignore_paths(tmp_path, ["images"])
    assert (tmp_path / "target").read_text() == "x\n"
    (tmp_path / ".gitignore").unlink()
    (tmp_path / ".gitignore").mkdir()
    with pytest.raises(UsageError, match="not a regular file"):
        ignore_paths(tmp_path, ["images"])


def test_a_file_that_git_cannot_read_is_left_alone(tmp_path):
    (tmp_path / ".gitignore").write_bytes("*.pyc\n".encode("utf-16"))
    with pytest.raises(FormatError, match="UTF-16"):
        ignore_paths(tmp_path, ["images"])


def test_a_huge_file_is_left_alone(tmp_path):
    with (tmp_path / ".gitignore").open("wb") as file:
        file.truncate(17 * 2**20)
    with pytest.raises(FormatError, match="over 16777216 bytes"):
        ignore_paths(tmp_path, ["images"])


def test_permissions_are_kept(tmp_path):
    file = tmp_path / ".gitignore"
    file.write_text("x\n")
    file.chmod(0o600)
    ignore_paths(tmp_path, ["images"])
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_missing_directory(tmp_path):
    with pytest.raises(StorageError, match="cannot open"):
        ignore_paths(tmp_path / "missing", ["images"])


def test_a_directory_that_cannot_be_written(tmp_path, monkeypatch):
    (tmp_path / ".gitignore").write_text("x\n")

    def full(*_given, **_more):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(StorageError, match="No space left"):
        ignore_paths(tmp_path, ["images"])
    assert (tmp_path / ".gitignore").read_text() == "x\n"
    assert os.listdir(tmp_path) == [".gitignore"]


def test_edits_at_the_same_time_all_count(tmp_path):
    names = [f"set{number}" for number in range(24)]
    failed = []

    def edit(mine):
        try:
            for name in mine:
                ignore_paths(tmp_path, [name])
        except BaseException as error:
            failed.append(error)
            raise

    threads = [threading.Thread(target=edit, args=(names[start::4],)) for start in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert (tmp_path / ".gitignore").read_text() == block(*sorted(f"/{name}" for name in names))


def test_a_lock_that_is_not_let_go(tmp_path, monkeypatch):
    monkeypatch.setattr(managed, "_LOCK_SECONDS", 0.05)
    descriptor = os.open(tmp_path, os.O_RDONLY)
    try:
        assert try_lock(descriptor)
        with pytest.raises(LockedError, match="another process"):
            ignore_paths(tmp_path, ["images"])
    finally:
        os.close(descriptor)
    assert ignore_paths(tmp_path, ["images"])


def test_a_file_system_without_locks_is_no_obstacle(tmp_path, monkeypatch):
    def refuse(_descriptor):
        raise OSError(9, "Bad file descriptor")

    monkeypatch.setattr(managed, "try_lock", refuse)
    assert ignore_paths(tmp_path, ["images"])


# -- the patterns for Git -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "name",
    [
        *(name for name in HOSTILE_NAMES if "/" not in name),
        "a ",
        "a  \\",
        "a\\ ",
        "\r",
        "a\r\n",
        "[!a]",
        "***",
    ],
)
@pytest.mark.parametrize("text", [b"", b"!*\r\n"])
def test_git_ignores_exactly_the_named_file(workspace, name, text):
    similar = {f"{name}x", f"x{name}", name.strip(), name.replace("*", "x"), f"sub/{name}"}
    similar |= {name.replace("?", "x"), name.replace("[x]", "x"), name.replace("\\", "x"), "x"}
    similar -= {name, ""}
    workspace.write(dict.fromkeys([f"dir/{each}" for each in [name, *similar]], "x"))
    workspace.write({"dir/.gitignore": text})
    ignore_paths(workspace.path / "dir", [name])
    listed = workspace("ls-files", "-z", "--others", "--exclude-standard", "dir").split("\0")
    assert set(listed) - {""} == {f"dir/{each}" for each in [*similar, ".gitignore"]}
    assert workspace("ls-files", "-z", "--others", "--ignored", "--exclude-standard", "dir") == (
        f"dir/{name}\0"
    )


def test_git_ignores_a_directory_with_all_in_it(workspace):
    workspace.write({"images/a/b.jpg": "x", "images.txt": "x"})
    ignore_paths(workspace.path, ["images"])
    assert workspace("status", "--porcelain", "-uall") == "?? .gitignore\n?? images.txt"


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", "/a", "a\0b"])
def test_what_is_no_name_is_refused(tmp_path, name):
    with pytest.raises(UsageError):
        ignore_paths(tmp_path, [name])
    assert os.listdir(tmp_path) == []


# -- .datastoreignore -----------------------------------------------------------------------------


def test_nothing_is_ignored_without_a_file(tmp_path):
    (tmp_path / "images" / "sub").mkdir(parents=True)
    program = (
        "import sys; from pathlib import Path; from datastore.workspace.ignore import Ignore;"
        f"ignore = Ignore(Path({str(tmp_path)!r}), 'images');"
        "assert not ignore.match('a', False) and not ignore.match('sub/b/c', True);"
        "print('pathspec' in sys.modules)"
    )
    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert ended.stdout == "False\n"


def test_files_at_the_top_and_in_every_directory_count(workspace):
    workspace.write(
        {
            ".datastoreignore": "*.tmp\nimages/raw/\n/images/top\n",
            "images/.datastoreignore": "# comment\n\n/only-here\n!keep.tmp\n",
            "images/sub/.datastoreignore": "keep.tmp\nlocal\r\n!other.tmp\n",
            "other/.datastoreignore": "*\n",
        }
    )
    ignore = Ignore(workspace.path, "images")
    ignored = ["a.tmp", "sub/deep/a.tmp", "raw/a", "top", "only-here", "sub/keep.tmp", "sub/local"]
    ignored += ["sub/deep/local", "raw/sub/x", "only-here/x"]
    kept = ["a", "keep.tmp", "deep/keep.tmp", "sub/top", "sub/only-here", "local", "sub/other.tmp"]
    assert [path for path in ignored if not ignore.match(path, False)] == []
    assert [path for path in kept if ignore.match(path, False)] == []
    assert ignore.match("raw", True)
    assert not ignore.match("raw", False)
    assert ignore.match("raw/sub", True)


def test_a_file_at_the_top_counts_for_a_dataset_further_down(workspace):
    workspace.write({".datastoreignore": "/data/images/raw\n", "data/.datastoreignore": "a\n"})
    ignore = Ignore(workspace.path, "data/images")
    assert ignore.match("raw", True)
    assert not ignore.match("sub/raw", True)
    assert not ignore.match("a", False)  # neither at the top nor in the dataset


def test_a_dataset_that_is_one_file(workspace):
    workspace.write({".datastoreignore": "*.tmp\n", "labels.json": "x", "x.tmp": "x"})
    Ignore(workspace.path, "labels.json")
    with pytest.raises(UsageError, match=r"'x\.tmp' is ignored"):
        Ignore(workspace.path, "x.tmp")


@pytest.mark.parametrize("line", ["images", "/data/images/", "data", "data/*", "*"])
def test_an_ignored_dataset_is_refused(workspace, line):
    workspace.write({".datastoreignore": f"{line}\n", "data/images/a": "x"})
    with pytest.raises(UsageError, match=r"'data/images' is ignored") as caught:
        Ignore(workspace.path, "data/images")
    assert ".datastoreignore" in caught.value.hint


def test_a_list_of_what_is_allowed(workspace):
    workspace.write({".datastoreignore": "*\n!*/\n!*.jpg\n"})
    ignore = Ignore(workspace.path, "images")
    assert not ignore.match("sub", True)
    assert not ignore.match("sub/a.jpg", False)
    assert ignore.match("sub/a.txt", False)


def test_a_pattern_is_for_the_path_itself_and_not_for_what_is_below(workspace):
    workspace.write({".datastoreignore": "**/b\n/images/c\nd\n!b/\n!/images/c/\n!d/\n"})
    ignore = Ignore(workspace.path, "images")
    for path in ("b", "c", "d", "sub/b"):
        assert ignore.match(path, False)
        assert not ignore.match(path, True)
        assert not ignore.match(f"{path}/file", False)


def test_the_text_may_be_as_editors_leave_it(workspace):
    workspace.write(
        {".datastoreignore": "\ufeffa\r\nb  \r\nc\\ \n\\#d\n\\!e\ncaf\u00e9\n#f".encode()}
    )
    ignore = Ignore(workspace.path, "images")
    for name in ("a", "b", "c ", "#d", "!e", "café"):
        assert ignore.match(name, False)
    for name in ("c", "d", "#f", "f", "cafe"):
        assert not ignore.match(name, False)


def test_names_that_are_not_text(workspace):
    workspace.write({".datastoreignore": b"caf\xe9\n*.\xff\n"})
    ignore = Ignore(workspace.path, "images")
    assert ignore.match(os.fsdecode(b"caf\xe9"), False)
    assert ignore.match(os.fsdecode(b"a.\xff"), False)
    assert not ignore.match("café", False)


def test_a_line_that_is_no_pattern_is_named(workspace):
    workspace.write({"images/sub/.datastoreignore": "fine\n!\n"})
    ignore = Ignore(workspace.path, "images")
    with pytest.raises(
        FormatError, match=r"images/sub/\.datastoreignore, line 2: '!' is not a pattern"
    ):
        ignore.match("sub/a", False)


def test_what_is_no_text_file_is_refused(workspace):
    (workspace.path / ".datastoreignore").symlink_to("/dev/zero")
    with pytest.raises(FormatError, match="not a regular file"):
        Ignore(workspace.path, "images")
    (workspace.path / ".datastoreignore").unlink()
    workspace.write({".datastoreignore": b"a\n" * 600_000})
    with pytest.raises(FormatError, match="at most 1048576 bytes"):
        Ignore(workspace.path, "images")


def test_deep_paths(workspace):
    workspace.write({".datastoreignore": "x\n"})
    ignore = Ignore(workspace.path, "images")
    assert not ignore.match("d/" * 1500 + "a", False)
    assert ignore.match("d/" * 1500 + "x/a", False)


LINES = r"""
    *  !*/  a  !a  a/  !a/  /a  /a/b  !/a/b  a/b  **/b  a/**  !a/**  *.b  !*.b  a*  [ab]  [!b]  !b
    b/  **  a/*  !a/*/  /a/**/b  ?  !ab  */b  !**/  /*  !/a  !/a/  !a/b  !**  a/**/b  !a/b/  a/b/
    a**b  /**/a/  !**/a/**  a.  \a  #a
"""


def test_the_verdicts_are_gits(workspace):
    """The same lines in ``.gitignore`` ignore the same files."""
    names = ["a", "b", "ab", "a.b"]
    directories = [
        "/".join(each) for depth in (1, 2) for each in itertools.product(names, repeat=depth)
    ]
    files = [f"{directory}/{name}" for directory in directories for name in ("f.b", "ff", "c")]
    files += ["/".join(each) for each in itertools.product(names, repeat=3)]
    workspace.write({f"ds/{path}": "" for path in files})
    paths = [(path, True) for path in directories] + [(path, False) for path in files]
    asked = "\0".join(path for path, _ in paths).encode()
    choose = random.Random(1)
    for _ in range(150):
        lines = "\n".join(choose.choices(LINES.split(), k=choose.randint(1, 5)))
        workspace.write({"ds/.gitignore": lines, "ds/.datastoreignore": lines})
        command = ["git", "check-ignore", "-z", "--stdin", "--no-index"]
        ended = subprocess.run(
            command, cwd=workspace.path / "ds", input=asked, capture_output=True, check=False
        )
        ignore = Ignore(workspace.path, "ds")
        ours = {path for path, is_dir in paths if ignore.match(path, is_dir)}
        assert ours == set(ended.stdout.decode().split("\0")) - {""}, lines
