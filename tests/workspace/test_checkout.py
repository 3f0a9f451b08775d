"""Making the files on disk those of a version: every kind of file into every other, and no loss."""

from __future__ import annotations

import itertools
import os
import subprocess
import sys

import pytest

from datastore.errors import ConflictError, FormatError
from datastore.trees import files
from datastore.trees.files import Entry, Kind
from datastore.trees.manifest import Content
from datastore.workspace.changes import Delta
from datastore.workspace.dataset import key_of
from datastore.workspace.planning import check_plan, make_plan
from datastore.workspace.status import Examined
from tests.project import settle, tree

NFD = "e\u0301"


def make(top, kind):
    """Makes one thing of a kind at a path."""
    if kind == "file":
        top.write_bytes(b"a file\n")
    elif kind == "other file":
        top.write_bytes(b"another file\n")
    elif kind == "exec":
        top.write_bytes(b"a file\n")
        top.chmod(0o755)
    elif kind == "empty file":
        top.write_bytes(b"")
    elif kind == "large file":
        top.write_bytes(bytes(range(256)) * 1000)
    elif kind == "link":
        top.symlink_to("sibling")
    elif kind == "link to a directory":
        top.symlink_to("siblings")
    elif kind == "dangling link":
        top.symlink_to("nowhere")
    elif kind == "empty directory":
        top.mkdir()
    elif kind == "directory":
        (top / "sub").mkdir(parents=True)
        (top / "inside").write_bytes(b"inside\n")
        (top / "sub/deep").write_bytes(b"deep\n")
        (top / "sub/hollow").mkdir()
    else:
        assert kind == "nothing"


KINDS = [
    "nothing",
    "file",
    "other file",
    "exec",
    "empty file",
    "large file",
    "link",
    "link to a directory",
    "dangling link",
    "empty directory",
    "directory",
]


def lay(project, dataset, kind):
    """Makes the dataset's directory hold its constant files and one thing of a kind."""
    if project.path(dataset).exists():
        project.remove(dataset)
    project.write({f"{dataset}/sibling": "sibling\n", f"{dataset}/siblings/one": "one\n"})
    make(project.path(dataset) / "it", kind)


def tour(kinds):
    """Steps from kind to kind so that every one follows every other exactly once."""
    rest = {kind: [other for other in kinds if other != kind] for kind in kinds}
    way, done = [kinds[0]], []
    while way:
        if rest[way[-1]]:
            way.append(rest[way[-1]].pop())
        else:
            done.append(way.pop())
    return list(itertools.pairwise(done))


def commit_kinds(project, dataset, kinds):
    """Makes a version for each kind of thing at ``it``; returns what each has on disk."""
    expected = {}
    for kind in kinds:
        lay(project, dataset, kind)
        project.repo.add(dataset)
        project.commit(kind)
        project.git("tag", kind.replace(" ", "-"))
        expected[kind] = project.tree(dataset)
    return expected


def test_every_kind_becomes_every_other(project):
    expected = commit_kinds(project, "deep/er/images", KINDS)
    project.repo.checkout(tour(KINDS)[0][0])
    for old, new in tour(KINDS):
        project.repo.checkout(new.replace(" ", "-"))
        assert project.tree("deep/er/images") == expected[new], (old, new)
        assert project.repo.status().clean, (old, new)
    assert not project.repo.add("deep/er/images").pointers[0].changed


def test_every_kind_becomes_every_other_without_a_cache(project):
    kinds = KINDS[1::2]
    expected = commit_kinds(project, "images", kinds)
    project.repo.checkout(tour(kinds)[0][0].replace(" ", "-"))
    for old, new in tour(kinds):
        project.repo.rebuild_index()
        project.repo.checkout(new.replace(" ", "-"))
        assert project.tree() == expected[new], (old, new)


def test_every_kind_becomes_every_other_in_a_part(project):
    kinds = KINDS[1:]
    expected = commit_kinds(project, "images", kinds)
    project.repo.checkout(tour(kinds)[0][0].replace(" ", "-"))
    for old, new in tour(kinds):
        project.repo.checkout(new.replace(" ", "-"), ["images/it"])
        assert project.tree() == expected[new], (old, new)
        # Files are the version's only if the pointer says so.
        project.git("checkout", "--quiet", new.replace(" ", "-"), "--", "images.ds")
    assert project.state() == "clean"


@pytest.mark.parametrize(
    ("mine", "wanted"),
    [
        (mine, wanted)
        for mine, wanted in itertools.permutations(KINDS, 2)
        if mine not in {"nothing", "empty directory"}
        and wanted not in {"nothing", "empty directory"}
    ][::5],
)
def test_what_no_version_has_is_not_replaced_but_by_force(project, mine, wanted):
    lay(project, "images", wanted)
    project.repo.add("images")
    project.commit()
    target = project.tree()
    lay(project, "images", mine)
    if mine == "directory":
        project.write({"images/it/mine": "mine\n"})
    before = project.tree()
    with pytest.raises(ConflictError) as caught:
        project.repo.checkout()
    assert project.tree() == before
    assert any(path.startswith("images/it") for path in caught.value.paths)
    project.repo.checkout(force=True)
    after = project.tree()
    if (mine, wanted) != ("directory", "directory"):
        assert after == target
    assert project.repo.status().clean


def test_untracked_files_in_the_way_are_named(project):
    project.version("v1", {"a": "1"})
    project.version("v2", {"a/b": "2", "c": "3"})
    project.repo.checkout("v1")
    project.remove("images/a")
    project.write({"images/a": "1", "images/c/mine": "mine"})
    with pytest.raises(ConflictError) as caught:
        project.repo.checkout("v2", ["images"])
    assert caught.value.paths == ("images/c/mine",)
    assert "images/c/mine" in caught.value.message
    assert "datastore add images" in caught.value.hint
    assert project.tree() == {"a": ("file", b"1"), "c/mine": ("file", b"mine")}
    project.repo.checkout("v2", ["images"], force=True)
    assert project.tree() == {"a/b": ("file", b"2"), "c": ("file", b"3")}


def test_an_ignored_file_in_the_way_is_not_overwritten(project):
    project.version("v1", {"a": "1", "b.part": "2"})
    project.write({".datastoreignore": "*.part\n", "images/b.part": "mine"})
    project.repo.add("images")
    project.commit("v2")
    with pytest.raises(ConflictError, match=r"b\.part"):
        project.repo.checkout("v1", ["images"])
    assert project.path("images/b.part").read_text() == "mine"


def test_an_ignored_file_in_a_directory_that_must_go(project):
    project.version("v1", {"a": "1"})
    project.version("v2", {"a/b": "2"})
    project.write({".datastoreignore": "*.part\n", "images/a/b.part": "mine"})
    before = project.tree()
    with pytest.raises(ConflictError):
        project.repo.checkout("v1", ["images"])
    assert project.tree() == before


def test_a_directory_becomes_a_single_file_and_the_reverse(project):
    project.version("v1", {"a": "1", "b/c": "2"})
    project.remove("images")
    project.write({"images": "one file"})
    project.repo.add("images")
    project.commit("v2")
    project.git("tag", "v2")
    for _ in range(2):
        project.repo.checkout("v1")
        assert project.tree() == {"a": ("file", b"1"), "b/c": ("file", b"2")}
        assert project.state() == "clean"
        project.repo.checkout("v2")
        assert project.tree() == {"": ("file", b"one file")}
        assert project.state() == "clean"


def test_an_untracked_file_keeps_a_directory_from_becoming_a_file(project):
    project.write({"images": "one file"})
    project.repo.add("images")
    project.commit("v1")
    project.git("tag", "v1")
    project.remove("images")
    project.version("v2", {"a": "1", "b/c": "2"})
    project.write({"images/mine": "mine"})
    before = project.tree()
    with pytest.raises(ConflictError, match="mine"):
        project.repo.checkout("v1")
    assert project.tree() == before
    project.repo.checkout("v1", force=True)
    assert project.tree() == {"": ("file", b"one file")}


def test_an_untracked_file_in_place_of_the_dataset(project):
    project.version("v1", {"a": "1"})
    project.remove("images")
    project.write({"images": "mine"})
    with pytest.raises(ConflictError):
        project.repo.checkout()
    assert project.tree() == {"": ("file", b"mine")}
    project.repo.checkout(force=True)
    assert project.tree() == {"a": ("file", b"1")}


def test_an_empty_dataset_is_an_empty_directory(project):
    project.version("v1", {})
    project.version("v2", {"a/b": "1"})
    project.repo.checkout("v1")
    assert project.path("images").is_dir()
    assert project.tree() == {}
    assert project.state() == "clean"
    project.remove("images")
    project.repo.checkout("v1")
    assert project.state() == "clean"
    project.repo.checkout("v2")
    assert project.tree() == {"a/b": ("file", b"1")}


def test_directories_that_become_empty_go(project):
    project.version("v1", {"a/b/c/d": "1", "a/e": "2", "hollow": None})
    project.version("v2", {"a/e": "2"})
    assert sorted(os.listdir(project.path("images"))) == ["a"]
    project.repo.checkout("v1")
    project.repo.checkout("v2")
    assert sorted(os.listdir(project.path("images"))) == ["a"]
    assert sorted(os.listdir(project.path("images/a"))) == ["e"]


def test_directories_with_untracked_files_stay(project):
    project.version("v1", {"a/b": "1", "c": "2"})
    project.version("v2", {"c": "2"})
    project.repo.checkout("v1")
    project.write({"images/a/mine": "mine"})
    result = project.repo.checkout("v2").pointers[0]
    assert (result.written, result.removed, result.kept) == (0, 1, 1)
    assert project.tree() == {"a/mine": ("file", b"mine"), "c": ("file", b"2")}
    assert project.state() == "modified"


def test_names_come_back_as_they_were_spelled(project):
    project.put("images", {f"{NFD}/{NFD}.txt": "1", "\u00fc.txt": "2"})
    before = sorted(os.listdir(project.path("images")))
    project.repo.add("images")
    project.commit("v1")
    project.git("tag", "v1")
    project.remove("images")
    project.repo.checkout()
    assert sorted(os.listdir(project.path("images"))) == before
    assert project.state() == "clean"


def test_the_executable_bit_comes_back(project):
    project.put("images", {"run": "#!/bin/sh\n", "data": "1"})
    project.path("images/run").chmod(0o755)
    project.repo.add("images")
    project.commit("v1")
    project.path("images/run").chmod(0o644)
    assert project.repo.status().pointers[0].modified == ("images/run",)
    project.repo.checkout(force=True)
    assert os.access(project.path("images/run"), os.X_OK)
    project.remove("images")
    project.repo.checkout()
    assert project.tree()["run"] == ("exec", b"#!/bin/sh\n")
    assert project.tree()["data"] == ("file", b"1")


def test_files_get_the_permissions_that_the_umask_leaves(project):
    project.version("v1", {"data": "1", "other": "2"})
    project.path("images/data").chmod(0o600)
    project.repo.add("images")
    project.remove("images")
    before = os.umask(0o027)
    try:
        project.repo.checkout()
    finally:
        os.umask(before)
    assert project.path("images/data").stat().st_mode & 0o777 == 0o640


def test_a_second_checkout_writes_nothing(project):
    project.version("v1", {"a": "1", "b/c": "2"})
    project.remove("images")
    first = project.repo.checkout().pointers[0]
    assert (first.written, first.removed, first.kept, first.bytes) == (2, 0, 0, 2)
    second = project.repo.checkout().pointers[0]
    assert (second.written, second.removed, second.kept, second.bytes) == (0, 0, 0, 0)


def test_what_was_written_is_known(project, opened):
    project.version("v1", {"a": "1", "b/c": "2", "d": "3"})
    project.version("v2", {"a": "1", "b/c": "22", "e": "4"})
    settle()
    project.repo.checkout("v1")
    settle()
    project.repo.status()  # what was written is younger than the walk that saw it
    settle()
    opened.clear()
    assert project.state() == "clean"
    assert opened == []


def test_a_large_file_is_written_whole(project):
    content = os.urandom(700_000) + bytes(400_000)
    project.version("v1", {"big": content, "small": "1"})
    project.version("v2", {"big": content[:300_000] + b"inserted" + content[300_000:]})
    project.repo.checkout("v1")
    assert project.path("images/big").read_bytes() == content
    assert project.repo.checkout("v2").pointers[0].bytes == len(content) + 8


def test_equal_files_are_written_each(project):
    project.version("v1", {f"{number:03}": "the same" for number in range(600)})
    project.remove("images")
    assert project.repo.checkout().pointers[0].written == 600
    assert set(project.tree().values()) == {("file", b"the same")}


def test_nothing_is_left_in_the_staging_directory(project):
    project.version("v1", {"a": "1", "link": "x"})
    project.remove("images")
    project.repo.checkout()
    assert tree(project.path(".datastore/tmp")) == {}
    assert project.git("status", "--porcelain") == ""


# -- the plan ------------------------------------------------------------------------------------

ENTRY = files.encode_entry(Entry(Kind.FILE, Content(1, b"\1" * 32)))
OTHER = files.encode_entry(Entry(Kind.FILE, Content(1, b"\2" * 32)))


@pytest.fixture
def dataset(project):
    """A dataset of which nothing is on disk."""
    return project.repo._workspace.dataset("images")


def planned(dataset, deltas, edits=(), *, force=False):
    edited = {delta.key: delta.new for delta in deltas if delta.key in edits}
    return make_plan(dataset, deltas, Examined(None, edited), [], force=force)


def test_a_plan(dataset):
    deltas = [
        Delta(b"changed", ENTRY, OTHER),
        Delta(b"gone", None, OTHER),
        Delta(b"mine", None, OTHER),
        Delta(b"new", ENTRY, None),
    ]
    plan = planned(dataset, deltas, edits={b"mine"})
    assert [path for path, _ in plan.write] == ["changed", "new"]
    assert (plan.remove, plan.kept, plan.conflicts) == (["gone"], ["mine"], [])


@pytest.mark.parametrize(
    "path", ["../x", "/x", "a/../../x", ".git/hooks/x", "a/.GIT/config", "C:/x"]
)
def test_a_hostile_path_is_refused_before_anything_is_written(dataset, path):
    plan = planned(dataset, [Delta(b"a", ENTRY, None), Delta(path.encode(), ENTRY, None)])
    with pytest.raises(FormatError, match="refused the path"):
        check_plan(dataset, plan, (False, False))


def test_a_hostile_spelling_is_refused_too(dataset):
    spelled = files.encode_entry(Entry(Kind.FILE, Content(1, b"\1" * 32), name="../x"))
    with pytest.raises(FormatError):
        check_plan(dataset, planned(dataset, [Delta(b"a", spelled, None)]), (False, False))


def test_names_that_would_be_one_file(dataset):
    plan = planned(dataset, [Delta(b"A", ENTRY, None), Delta(b"a", ENTRY, None)])
    check_plan(dataset, plan, (False, False))
    with pytest.raises(ConflictError, match="one file on this file system") as caught:
        check_plan(dataset, plan, (True, False))
    assert caught.value.paths == ("A", "a")


def test_many_conflicts_are_listed_in_part(dataset):
    deltas = [Delta(key_of(f"{number:02}"), ENTRY, OTHER) for number in range(30)]
    plan = planned(dataset, deltas, edits={delta.key for delta in deltas})
    with pytest.raises(ConflictError) as caught:
        check_plan(dataset, plan, (False, False))
    assert len(caught.value.paths) == 30
    assert "... and 20 more" in caught.value.message


def test_links_are_never_written_through(project, tmp_path):
    project.version("v1", {"sub/a": "1", "b": "2"})
    outside = tmp_path / "outside"
    outside.mkdir()
    project.remove("images/sub")
    project.path("images/sub").symlink_to(outside)
    with pytest.raises(ConflictError):
        project.repo.checkout()
    assert os.listdir(outside) == []
    project.repo.checkout(force=True)
    assert os.listdir(outside) == []
    assert project.tree() == {"b": ("file", b"2"), "sub/a": ("file", b"1")}


def test_a_checkout_that_is_killed_can_be_run_again(project):
    project.version("v1", {f"{number:02}": f"one {number}" for number in range(40)})
    one = project.tree()
    project.version("v2", {f"{number:02}": f"two {number}" for number in range(40)})
    project.close()
    code = (
        "import os, sys; from datastore.repository import Repository\n"
        "from datastore.workspace.writer import Writer\n"
        "write, done = Writer.write_file, []\n"
        "def slow(self, path, *a, **k):\n"
        "    len(done) == 10 and os._exit(9)\n"
        "    done.append(path)\n"
        "    return write(self, path, *a, **k)\n"
        "Writer.write_file = slow\n"
        "Repository.open(sys.argv[1]).checkout('v1')\n"
    )
    ended = subprocess.run([sys.executable, "-c", code, str(project.top)], check=False)
    assert ended.returncode == 9
    assert project.tree() != one
    project.repo.checkout("v1")
    assert project.tree() == one
    assert project.state() == "clean"
