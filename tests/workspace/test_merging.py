"""Merging and showing pointers: what Git's drivers do, through real merges."""

from __future__ import annotations

import re

import pytest

from datastore.errors import ConflictError, NotFoundError
from datastore.workspace import merging


@pytest.fixture
def forked(project):
    """A version on ``main``, and ``fork`` to make two branches of it."""
    project.version("base", {"a": "1", "b/c": "2", "b/d": "3", "moved": "the same content"})

    def fork(ours, theirs):
        for branch, change in (("theirs", theirs), ("ours", ours)):
            project.git("checkout", "--quiet", "-b", branch, "base")
            project.repo.checkout(force=True)
            change()
            if project.path("images").exists():
                project.repo.add("images")
            project.commit(branch)
        project.repo.checkout()

    project.fork = fork
    return project


def merge(project, branch="theirs"):
    """Merges; returns what Git said."""
    return project.git("merge", "--no-edit", "-m", "merged", branch, ok=False)


def merged(project):
    """Merges, which must succeed, and restores; returns the files."""
    said = merge(project)
    assert "CONFLICT" not in said, said
    assert project.git("status", "--porcelain") == ""
    project.repo.checkout()
    assert project.repo.status().clean
    assert not project.repo.add("images").pointers[0].changed
    return {path: entry[1].decode() for path, entry in project.tree().items() if len(entry) > 1}


BASE = {"a": "1", "b/c": "2", "b/d": "3", "moved": "the same content"}


def test_different_files(forked):
    forked.fork(
        lambda: forked.write({"images/a": "ours", "images/new-ours": "n"}),
        lambda: (forked.write({"images/b/new": "theirs"}), forked.remove("images/b/d")),
    )
    expected = {**BASE, "a": "ours", "new-ours": "n", "b/new": "theirs"}
    del expected["b/d"]
    assert merged(forked) == expected
    pointer = forked.pointer()
    assert f"files: {len(expected)}\n" in pointer
    assert f"bytes: {sum(map(len, expected.values()))}\n" in pointer


def test_either_way_gives_the_same_version(forked):
    forked.fork(
        lambda: forked.write({"images/a": "ours"}), lambda: forked.write({"images/b/c": "theirs"})
    )
    merged(forked)
    root = forked.root()
    forked.git("checkout", "--quiet", "-b", "other-way", "theirs")
    merge(forked, "ours~0")
    assert forked.root() == root


def test_the_same_change_on_both_sides(forked):
    def change():
        forked.write({"images/a": "agreed", "images/new": "agreed"})
        forked.remove("images/b/d")

    forked.fork(
        lambda: (change(), forked.write({"images/ours": "o"})),
        lambda: (change(), forked.write({"images/theirs": "t"})),
    )
    assert merged(forked) == {
        "a": "agreed",
        "b/c": "2",
        "moved": "the same content",
        "new": "agreed",
        "ours": "o",
        "theirs": "t",
    }


def test_both_added_the_dataset(project):
    project.write({"README": "text"})
    project.commit("base")
    project.git("tag", "base")
    for branch, files in (("theirs", {"a": "1", "theirs": "t"}), ("ours", {"a": "1", "ours": "o"})):
        project.git("checkout", "--quiet", "-b", branch, "base")
        project.put("images", files)
        project.repo.add("images")
        project.commit(branch)
    assert merged(project) == {"a": "1", "ours": "o", "theirs": "t"}


def test_both_added_the_dataset_and_differ(project):
    project.write({"README": "text"})
    project.commit("base")
    for branch, files in (("theirs", {"a": "t"}), ("ours", {"a": "o"})):
        project.git("checkout", "--quiet", "-b", branch, "main")
        project.put("images", files)
        project.repo.add("images")
        project.commit(branch)
    assert "images/a: added by both" in merge(project)
    assert project.state() == "conflict"


def test_a_conflict(forked):
    forked.fork(
        lambda: forked.write({"images/a": "ours", "images/b/c": "only ours"}),
        lambda: forked.write({"images/a": "theirs", "images/b/d": "only theirs"}),
    )
    before = forked.tree()
    said = merge(forked)
    assert "CONFLICT" in said
    assert "images/a: changed by both" in said
    assert "UU images.ds" in forked.git("status", "--porcelain")
    text = forked.pointer()
    ours, theirs = re.search(
        r"<<<<<<< ours\n(.*)=======\n(.*)>>>>>>> theirs\n", text, re.DOTALL
    ).groups()
    for block, word in ((ours, "ours"), (theirs, "theirs")):
        forked.write({"images.ds": block})
        kept = {
            entry.path: forked.repo.read(entry.path)
            for entry in forked.repo.ls("images", recursive=True)
        }
        # Nothing that does not conflict is lost, whichever block is kept.
        assert kept["images/a"] == word.encode()
        assert kept["images/b/c"] == b"only ours"
        assert kept["images/b/d"] == b"only theirs"
    forked.write({"images.ds": text})
    assert re.search(
        r"^# 'images/a': base 1 B b3:[0-9a-f]{12}, ours 4 B b3:[0-9a-f]{12}, theirs 6 B b3:",
        text,
        re.MULTILINE,
    )
    assert "images/b" not in text
    assert forked.tree() == before
    (found,) = forked.repo.status().pointers
    assert found.state == "conflict"
    assert "conflict markers" in found.message
    with pytest.raises(ConflictError) as caught:
        forked.repo.checkout()
    assert "Keep one of the two blocks in images.ds" in caught.value.hint


@pytest.mark.parametrize("side", ["ours", "theirs"])
def test_a_conflict_settled_by_taking_a_side(forked, side):
    forked.fork(
        lambda: forked.write({"images/a": "ours"}), lambda: forked.write({"images/a": "theirs"})
    )
    merge(forked)
    forked.git("checkout", f"--{side}", "--", "images.ds")
    forked.repo.checkout()
    assert forked.path("images/a").read_text() == side
    forked.commit("settled")
    assert forked.repo.status().clean


def test_a_conflict_settled_by_adding(forked):
    forked.fork(
        lambda: forked.write({"images/a": "ours"}), lambda: forked.write({"images/a": "theirs"})
    )
    merge(forked)
    forked.write({"images/a": "both"})
    forked.repo.add("images")
    forked.commit("settled")
    assert forked.repo.status().clean
    assert forked.repo.read("images/a", rev="HEAD") == b"both"


@pytest.mark.parametrize("deleted_by", ["ours", "theirs"])
def test_deleted_on_one_side_and_modified_on_the_other(forked, deleted_by):
    def delete():
        forked.remove("images/b/d")

    def modify():
        forked.write({"images/b/d": "modified"})

    forked.fork(*((delete, modify) if deleted_by == "ours" else (modify, delete)))
    said = merge(forked)
    assert "CONFLICT" in said
    assert "images/b/d: " in said
    assert f"{deleted_by} -" in forked.pointer()


def test_renamed_on_one_side_and_something_else_changed_on_the_other(forked):
    forked.fork(
        lambda: forked.path("images/moved").rename(forked.path("images/b/moved")),
        lambda: forked.write({"images/a": "theirs"}),
    )
    assert merged(forked) == {
        "a": "theirs",
        "b/c": "2",
        "b/d": "3",
        "b/moved": "the same content",
    }


@pytest.mark.parametrize("file_by", ["ours", "theirs"])
def test_a_file_against_a_directory(forked, file_by):
    def file():
        forked.write({"images/new": "a file"})

    def directory():
        forked.write({"images/new/x": "in a directory", "images/new/y": "too"})

    forked.fork(*((file, directory) if file_by == "ours" else (directory, file)))
    said = merge(forked)
    assert "CONFLICT" in said
    assert "images/new: added by both" in said
    assert forked.pointer().count("# 'images/new'") == 1
    assert forked.state() == "conflict"


def test_a_directory_in_place_of_a_file_against_a_change_of_it(forked):
    forked.fork(
        lambda: (forked.remove("images/a"), forked.write({"images/a/x": "1"})),
        lambda: forked.write({"images/a": "theirs"}),
    )
    assert "CONFLICT" in merge(forked)


@pytest.mark.parametrize("emptied_by", ["ours", "theirs"])
def test_an_emptied_directory_that_the_other_side_filled(forked, emptied_by):
    def empty():
        forked.remove("images/b/c", "images/b/d")

    def fill():
        forked.write({"images/b/new": "n"})

    forked.fork(*((empty, fill) if emptied_by == "ours" else (fill, empty)))
    assert merged(forked) == {"a": "1", "b/new": "n", "moved": "the same content"}


def test_empty_directories(forked):
    forked.fork(
        lambda: forked.write({"images/hollow/ours": None}),
        lambda: forked.write({"images/hollow/theirs": None, "images/hollow/x": "1"}),
    )
    merged(forked)
    assert forked.tree()["hollow/ours"] == ("dir",)
    assert forked.tree()["hollow/theirs"] == ("dir",)


def test_executable_bits_and_links(forked):
    forked.fork(
        lambda: forked.path("images/a").chmod(0o755),
        lambda: forked.path("images/link").symlink_to("a"),
    )
    merge(forked)
    forked.repo.checkout()
    assert forked.tree()["a"] == ("exec", b"1")
    assert forked.tree()["link"] == ("link", "a")


def test_a_deleted_dataset(forked):
    forked.fork(
        lambda: forked.write({"images/a": "ours"}),
        lambda: forked.remove("images", "images.ds"),
    )
    assert "CONFLICT (modify/delete)" in merge(forked)
    assert forked.state() == "clean"  # Git leaves our side in place
    forked.git("merge", "--abort")
    forked.git("checkout", "--quiet", "theirs")
    assert forked.repo.checkout().pointers == ()


def test_many_files(project):
    names = [f"{number:04}" for number in range(1500)]
    project.version("base", {name: name for name in names})
    for branch, offset in (("theirs", 1), ("ours", 0)):
        project.git("checkout", "--quiet", "-b", branch, "base")
        project.repo.checkout(force=True)
        project.write({f"images/{name}": branch for name in names[offset::2]})
        project.repo.add("images")
        project.commit(branch)
    found = merged(project)
    assert set(found.values()) == {"ours", "theirs"}
    assert [found[name] for name in names[:4]] == ["ours", "theirs", "ours", "theirs"]


def test_rebase_and_cherry_pick(forked):
    forked.fork(
        lambda: forked.write({"images/a": "ours"}), lambda: forked.write({"images/b/c": "theirs"})
    )
    forked.git("cherry-pick", "theirs")
    assert forked.stored()["images/b/c"] == b"theirs"
    forked.git("checkout", "--quiet", "theirs")
    forked.git("rebase", "--quiet", "ours")
    assert forked.stored()["images/a"] == b"ours"


def test_keys_that_nobody_knows(forked):
    repo = forked.repo
    forked.fork(
        lambda: forked.write({"images/a": "ours"}), lambda: forked.write({"images/b/c": "theirs"})
    )
    base, ours, theirs = (
        forked.git("show", f"{branch}:images.ds").encode() for branch in ("base", "ours", "theirs")
    )

    def extra(*sides):
        joined = (
            data + more.encode() for data, more in zip((base, ours, theirs), sides, strict=True)
        )
        result = repo.merge_pointers(*joined, "images.ds")
        assert result.conflicts == ()
        return result.data.decode().split("root: ")[1].partition("\n")[2]

    assert extra("k: 1\n", "k: 1\n", "k: 1\n") == "k: 1\n"
    assert extra("", "k: 1\n", "") == "k: 1\n"
    assert extra("", "", "k: 1\n") == "k: 1\n"
    assert extra("k: 1\n", "k: 1\n", "") == ""
    assert extra("", "k: 1\n", "m: 2\n") == "k: 1\nm: 2\n"


def test_a_version_that_is_not_here(forked):
    data = forked.pointer().encode()
    lost = data.replace(forked.root().encode(), b"b3:" + b"0" * 64)
    with pytest.raises(NotFoundError, match="does not have the version of images that"):
        forked.repo.merge_pointers(data, data, lost, "images.ds")


# -- what Git shows --------------------------------------------------------------------------------


def test_git_diff(forked):
    forked.write({"images/a": "11", "images/new": "n"})
    forked.path("images/moved").rename(forked.path("images/b/moved"))
    forked.repo.add("images")
    shown = forked.git("diff")
    assert "diff --datastore a/images.ds b/images.ds" in shown
    assert "modified: images/a" in shown
    assert "added:    images/new" in shown
    assert "renamed:  images/moved -> images/b/moved" in shown
    assert "root:" not in shown


def test_git_log_with_patches(forked):
    forked.write({"images/a": "11", "images/new": "n"})
    forked.remove("images/b/d")
    forked.repo.add("images")
    forked.commit("second")
    shown = forked.git("log", "-p", "-1", "--", "images.ds")
    assert re.search(r"^-a  1 [0-9a-f]{12}$", shown, re.MULTILINE)
    assert re.search(r"^\+a  2 [0-9a-f]{12}$", shown, re.MULTILINE)
    assert re.search(r"^\+new  1 [0-9a-f]{12}$", shown, re.MULTILINE)
    assert re.search(r"^-b/d  1 [0-9a-f]{12}$", shown, re.MULTILINE)
    assert re.search(r"^ b/c  1 [0-9a-f]{12}$", shown, re.MULTILINE)


def test_a_pointer_as_text(project):
    project.put("images", {"plain": "1", "new\nline": "2", "hollow": None, "big": b"x" * 300_000})
    project.path("images/run").write_text("3")
    project.path("images/run").chmod(0o755)
    project.path("images/link").symlink_to("plain")
    project.repo.add("images")
    lines = project.repo.render_pointer(project.pointer().encode()).splitlines()
    assert "\n".join(lines[:5]) + "\n" == project.pointer()
    rest = lines[6:]
    assert len(rest) == 6
    assert re.fullmatch(r"big  300000 [0-9a-f]{12}", rest[0])
    assert rest[1] == "hollow  (empty directory)"
    assert rest[2] == "link  -> b'plain'"
    assert re.fullmatch(r"'new\\nline'  1 [0-9a-f]{12}", rest[3])
    assert re.fullmatch(r"plain  1 [0-9a-f]{12}", rest[4])
    assert re.fullmatch(r"run  1 [0-9a-f]{12} x", rest[5])


def test_a_large_version_is_shown_by_directory(project, monkeypatch):
    monkeypatch.setattr(merging, "LISTED_FILES", 3)
    project.version("v1", {"a": "1", "b/c": "22", "b/d": "333", "b/e/f": "4"})
    rendered = project.repo.render_pointer(project.pointer().encode()).splitlines()[6:]
    assert [line.rpartition(", ")[0] for line in rendered] == [
        "./  1 files, 1 bytes",
        "b/  2 files, 5 bytes",
        "b/e/  1 files, 1 bytes",
    ]
    project.write({"images/b/c": "33"})
    project.repo.add("images")
    again = project.repo.render_pointer(project.pointer().encode()).splitlines()[6:]
    assert [one == other for one, other in zip(rendered, again, strict=True)] == [True, False, True]


def test_a_version_that_is_not_here_is_shown_as_text(forked):
    data = forked.pointer().encode().replace(forked.root().encode(), b"b3:" + b"0" * 64)
    shown = forked.repo.render_pointer(data)
    assert shown.startswith(data.decode())
    assert "does not have the version" in shown
