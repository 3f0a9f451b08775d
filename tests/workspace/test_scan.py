"""The walk over a dataset: in the order of its keys, and what of it is not known yet."""

from __future__ import annotations

import os
import socket
import stat
import unicodedata

import pytest

from datastore.objects.index import Index
from datastore.workspace.dataset import key_of
from datastore.workspace.ignore import Ignore
from datastore.workspace.problems import Trouble
from datastore.workspace.scan import SINGLE, Walk, path_of
from datastore.workspace.statcache import StatCache
from tests.project import settle

NFD = "e\u0301"
NFC = "\u00e9"

ADVERSARIAL = [
    ["a", "a.txt", "a0", "a-b", "a b", "a!"],
    ["a/x", "a.txt", "a0", "a-b", "a!/x", "a/", "ab/x"],
    ["a/b/c", "a/b.c", "a/b-c", "a/b0", "a/b/c.d/e", "a.b/c"],
    [f"{NFC}/x", f"{NFC}.txt", f"{NFC}0", "f", "e", "z/x"],
    [f"{NFD}/x", f"{NFD}.txt", f"{NFD}0", "f", "e"],
    [f"{NFD}/x", "f/y", "d/z", "e0/q", "e.q"],
    [f"f/{NFD}", "f/f", f"f/{NFD}b/c", "f/e"],
    ["\u1e9b\u0323/x", "\ufb01", "\u212b/y", "\u00c5b"],
    ["\U0001f600", "\uffee", "\ud7ff", "\ue000", "\x7f", "~"],
    ["A/x", "a/x", "B", "b"],
    ["b/", "b.txt", "b-", "b!/x", "b!/y/", "b0"],
    [f"{NFD}/", f"{NFD}.txt", f"{NFD}-", "f/", "f.txt", "f-/", "f-!"],
    ["b/c/", "b/c.d", "b.c/", "b.c.d"],
    ["new\nline/x", "new", "new line", "new\tline"],
]


@pytest.fixture
def cache(tmp_path):
    """An empty stat cache."""
    index = Index(tmp_path / "index")
    yield StatCache(index, "tests")
    index.close()


@pytest.fixture
def top(tmp_path):
    """The directory that is walked."""
    path = tmp_path / "data"
    path.mkdir()
    return path


def make(top, names):
    for name in names:
        path = top / name
        if name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
        else:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(b"x")


def keys(walk):
    return [key_of(path_of(found.directory, row.name)) for found in walk for row in found.rows]


def paths(walk):
    return [path_of(found.directory, row.name) for found in walk for row in found.rows]


@pytest.mark.parametrize("names", ADVERSARIAL, ids=ascii)
def test_the_order_is_that_of_the_keys(top, cache, names):
    make(top, names)
    walk = Walk(top, cache)
    found = keys(walk)
    assert found == sorted(found)
    parents = {name[: name.rindex("/")] for name in names if not name.endswith("/") and "/" in name}
    expected = {name.removesuffix("/") for name in names} - parents
    assert found == sorted(map(key_of, expected))
    assert walk.seen.problems == []


def test_every_stretch_has_a_descriptor_of_its_directory(top, cache):
    make(top, ["a", "b/x", "b/c/y", "c", "d/z", "e"])
    stretches = []
    for found in Walk(top, cache):
        for row in found.rows:
            there = os.stat(row.name, dir_fd=found.descriptor)
            assert there.st_ino == row.inode
        stretches.append((found.directory, [row.name for row in found.rows]))
    assert stretches == [
        ("", ["a"]),
        ("b/c", ["y"]),
        ("b", ["x"]),
        ("", ["c"]),
        ("d", ["z"]),
        ("", ["e"]),
    ]


def test_descriptors_are_closed_also_when_nobody_walks_to_the_end(top, cache):
    make(top, ["a/b/c/x", "a/b/c/y/z", "b"])
    before = os.listdir("/proc/self/fd") if os.path.isdir("/proc/self/fd") else []
    steps = iter(Walk(top, cache))
    next(steps)
    steps.close()
    assert before == (os.listdir("/proc/self/fd") if before else [])


def test_a_row_is_what_lstat_says(top, cache):
    make(top, ["file"])
    (top / "link").symlink_to("nowhere")
    (found,) = Walk(top, cache)
    for row in found.rows:
        there = (top / row.name).lstat()
        assert row[1:] == (
            there.st_mode,
            there.st_ino,
            there.st_size,
            there.st_mtime_ns,
            there.st_ctime_ns,
        )
    assert found.changed == found.rows


def test_links_are_rows_and_are_not_followed(top, cache, tmp_path):
    make(tmp_path, ["elsewhere/secret"])
    (top / "away").symlink_to(tmp_path / "elsewhere")
    (top / "loop").symlink_to(".")
    assert paths(Walk(top, cache)) == ["away", "loop"]


def test_an_empty_directory_stands_for_itself(top, cache):
    make(top, ["a/", "b/c/", "b/d"])
    found = list(Walk(top, cache))
    assert [(each.directory, [row.name for row in each.rows]) for each in found] == [
        ("a", [""]),
        ("b/c", [""]),
        ("b", ["d"]),
    ]
    assert [path_of(each.directory, each.rows[0].name) for each in found] == ["a", "b/c", "b/d"]
    assert stat.S_ISDIR(found[0].rows[0].mode)


def test_an_empty_top_has_no_rows(top, cache):
    walk = Walk(top, cache)
    assert list(walk) == []
    assert len(walk.seen.directories) == 1


def test_a_single_file(top, cache):
    make(top, ["only"])
    for found in Walk(top / "only", cache):
        assert (found.directory, [row.name for row in found.rows]) == (SINGLE, ["only"])
        assert path_of(found.directory, "only") == "."
        assert os.stat("only", dir_fd=found.descriptor).st_ino == found.rows[0].inode
    assert paths(Walk(top / "only", cache)) == ["."]


def test_nothing_at_all(top, cache):
    walk = Walk(top / "missing", cache)
    assert list(walk) == []
    assert walk.seen.problems == []


@pytest.mark.parametrize(
    ("prefix", "expected"),
    [
        ("a", ["a/b/x", "a/c", "a/d/y"]),
        ("a/b", ["a/b/x"]),
        ("a/c", ["a/c"]),
        ("a/b/x", ["a/b/x"]),
        ("e", ["e"]),
        ("empty", ["empty"]),
        ("link", ["link"]),
        ("missing", []),
        ("a/c/under-a-file", []),
        ("missing/deep", []),
    ],
)
def test_a_walk_of_a_part(top, cache, prefix, expected):
    make(top, ["a/b/x", "a/c", "a/d/y", "e", "a.c", "ab/x", "empty/"])
    (top / "link").symlink_to("a")
    assert paths(Walk(top, cache, prefix=prefix)) == expected


def test_what_cannot_be_part_of_a_dataset_is_noted(top, cache):
    make(top, ["a", "sub/b"])
    os.mkfifo(top / "sub/fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        here = os.getcwd()
        os.chdir(top)  # the name of a socket is at most 108 bytes long
        try:
            listener.bind("socket")
        finally:
            os.chdir(here)
    make(top, ["sub/.git/config", ".git"])
    walk = Walk(top, cache)
    assert paths(walk) == ["a", "sub/b"]
    assert {(each.path, each.reason) for each in walk.seen.problems} == {
        ("sub/fifo", "a fifo cannot be part of a dataset"),
        ("socket", "a socket cannot be part of a dataset"),
        ("sub/.git", "a Git repository cannot be part of a dataset"),
        (".git", "a Git repository cannot be part of a dataset"),
    }
    assert {each.trouble for each in walk.seen.problems} == {Trouble.UNSUPPORTED}


def test_a_fifo_alone_is_a_problem_too(top, cache):
    os.mkfifo(top / "fifo")
    for walk in (Walk(top / "fifo", cache), Walk(top, cache, prefix="fifo")):
        assert [row for found in walk for row in found.rows] == []
        assert "a fifo" in walk.seen.problems[0].reason


def test_two_spellings_of_one_name_are_a_problem(top, cache):
    make(top, [f"{NFC}.txt", f"{NFD}.txt", f"{NFC}/x", f"{NFD}/y", "z"])
    if len(os.listdir(top)) < 5:
        pytest.skip("this file system takes both spellings for one name")
    walk = Walk(top, cache)
    found = keys(walk)
    assert found == sorted(set(found))
    assert len(found) == 3
    assert len(walk.seen.problems) == 2
    assert all("Unicode NFC" in each.reason for each in walk.seen.problems)


def test_a_name_that_is_not_utf_8_is_a_problem(top, cache):
    try:
        (top / os.fsdecode(b"bad\xff")).write_bytes(b"x")
    except OSError:
        pytest.skip("this file system has text names only")
    make(top, ["good"])
    walk = Walk(top, cache)
    assert paths(walk) == ["good"]
    assert "not UTF-8" in walk.seen.problems[0].reason


def test_paths_keep_the_spelling_of_the_file_system(top, cache):
    make(top, [f"{NFD}/{NFD}"])
    spelled = os.listdir(top)[0]
    assert paths(Walk(top, cache)) == [f"{spelled}/{spelled}"]
    assert keys(Walk(top, cache)) == [f"{NFC}/{NFC}".encode()]
    assert unicodedata.normalize("NFC", spelled) == NFC


def test_what_is_ignored_is_left_out(top, cache):
    make(top, ["a.part", "a", "raw/x", "raw/y/z", "keep/b.part", "keep/c", "only/d.part"])
    (top.parent / ".datastoreignore").write_text("*.part\n/data/raw/\n")
    walk = Walk(top, cache, ignoring=Ignore(top.parent, "data"))
    assert paths(walk) == ["a", "keep/c", "only"]


# -- with a cache: `add` fills it ----------------------------------------------------------------


@pytest.fixture
def known(project):
    """A dataset of which everything is known."""
    project.put(
        "images",
        {"a": "1", "b/c": "2", "b/d": "3", "e/f/g": "4", "e/f/h": "5", "hollow": None, "z": "6"},
    )
    settle()
    project.repo.add("images")
    return project


def walked(project, prefix=""):
    """Walks anew; returns what changed and what is gone."""
    walk = project.repo._workspace.dataset("images").walk(prefix)
    changed = [path_of(found.directory, row.name) for found in walk for row in found.changed]
    return changed, sorted(walk.seen.deleted)


def test_nothing_changed(known):
    assert walked(known) == ([], [])
    walk = known.repo._workspace.dataset("images").walk()
    assert paths(walk) == ["a", "b/c", "b/d", "e/f/g", "e/f/h", "hollow", "z"]
    assert walk.seen.fresh == []


def test_only_what_changed_is_changed(known):
    known.write({"images/b/d": "33", "images/e/f/new": "7"})
    assert walked(known) == (["b/d", "e/f/new"], [])


def test_a_touched_file_is_changed(known):
    os.utime(known.path("images/z"))
    assert walked(known) == (["z"], [])


def test_a_file_that_got_its_old_time_back_is_changed(known):
    path = known.path("images/z")
    before = path.stat()
    path.write_text("9")
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (path.stat().st_size, path.stat().st_mtime_ns) == (1, before.st_mtime_ns)
    assert walked(known) == (["z"], [])


def test_what_is_gone_is_deleted(known):
    known.remove("images/a", "images/b/c", "images/e")
    assert walked(known) == ([], ["a", "b/c", "e/f/g", "e/f/h"])


def test_an_empty_directory_that_is_gone(known):
    known.remove("images/hollow")
    assert walked(known) == ([], ["hollow"])


def test_an_empty_directory_that_is_filled(known):
    known.write({"images/hollow/x": "1"})
    assert walked(known) == (["hollow/x"], ["hollow"])


def test_a_directory_that_is_emptied(known):
    known.remove("images/b/c", "images/b/d")
    assert walked(known) == (["b"], ["b/c", "b/d"])


def test_a_file_for_a_directory_and_the_reverse(known):
    known.remove("images/b", "images/a")
    known.write({"images/b": "file", "images/a/x": "1"})
    changed, deleted = walked(known)
    assert changed == ["a/x", "b"]
    assert deleted == ["a", "b/c", "b/d"]


def test_a_moved_directory(known):
    known.path("images/e/f").rename(known.path("images/b/f"))
    changed, deleted = walked(known)
    assert changed == ["b/f/g", "b/f/h", "e"]
    assert deleted == ["e/f/g", "e/f/h"]


def test_a_part_looks_at_nothing_else(known):
    known.write({"images/a": "new", "images/b/c": "new"})
    known.remove("images/e/f/g", "images/z")
    assert walked(known, "b") == (["b/c"], [])
    assert walked(known, "e") == ([], ["e/f/g"])


def test_a_file_that_becomes_ignored_is_deleted(known):
    known.write({".datastoreignore": "c\n"})
    assert walked(known) == ([], ["b/c"])


def test_a_whole_file_becomes_a_directory(project):
    project.write({"data": "1"})
    settle()
    project.repo.add("data")
    project.remove("data")
    project.put("data", {"x": "1"})
    walk = project.repo._workspace.dataset("data").walk()
    assert paths(walk) == ["x"]
    assert walk.seen.deleted == ["."]
