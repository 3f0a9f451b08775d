"""The verb ``add``: which paths it takes, what it writes, and what it says that it did."""

from __future__ import annotations

import os

import pytest

from datastore.errors import ConflictError, FormatError, NotFoundError, UsageError
from datastore.repository import Repository
from datastore.workspace import adding
from tests.project import settle

NFD = "e\u0301"
NFC = "\u00e9"


def fresh_root(project, new_project, dataset="images"):
    """The root that a first add of the same content gives in another repository."""
    other = new_project(f"fresh-{os.urandom(4).hex()}")
    for path, (kind, *content) in project.tree(dataset).items():
        at = other.path(dataset) / path
        at.parent.mkdir(parents=True, exist_ok=True)
        if kind == "link":
            at.symlink_to(content[0])
        elif kind == "dir":
            at.mkdir()
        else:
            at.write_bytes(content[0])
            at.chmod(0o755 if kind == "exec" else 0o644)
    other.path(dataset).mkdir(parents=True, exist_ok=True)
    return other.repo.add(dataset).pointers[0].root


# -- what is written ------------------------------------------------------------------------------


def test_the_pointer_and_the_gitignore(project):
    project.put("images", {"a": "12345", "b/c": "678", "hollow": None})
    (added,) = project.repo.add("images").pointers
    assert project.pointer() == (
        f"datastore: 1\nkind: files\nfiles: 2\nbytes: 8\nroot: {added.root}\n"
    )
    assert project.path(".gitignore").read_text() == (
        "# >>> datastore (managed)\n/images\n# <<< datastore\n"
    )
    assert project.git("status", "--porcelain", "-uall").splitlines() == [
        "?? .datastore/.gitignore",
        "?? .datastore/config.yaml",
        "?? .gitattributes",
        "?? .gitignore",
        "?? images.ds",
    ]


def test_a_dataset_in_a_directory_has_its_pointer_beside_it(project):
    project.put("data/deep/images", {"a": "1"})
    project.repo.add("data/deep/images")
    assert project.path("data/deep/images.ds").exists()
    assert "/images\n" in project.path("data/deep/.gitignore").read_text()
    assert not project.path(".gitignore").exists()


def test_the_users_files_are_only_read(project):
    project.put("images", {"a": "1", "b/c": "2"})
    project.path("images/link").symlink_to("a")
    before = {
        path: (path.lstat().st_ino, path.lstat().st_mtime_ns, path.lstat().st_ctime_ns)
        for path in project.path("images").rglob("*")
    }
    project.repo.add("images")
    assert before == {
        path: (path.lstat().st_ino, path.lstat().st_mtime_ns, path.lstat().st_ctime_ns)
        for path in project.path("images").rglob("*")
    }


def test_nothing_is_staged_or_committed(project):
    project.put("images", {"a": "1"})
    project.repo.add("images")
    assert project.git("diff", "--cached", "--name-only") == ""


# -- what it says ---------------------------------------------------------------------------------


def test_the_numbers_of_a_known_case(project):
    shared = os.urandom(1000)
    project.put("images", {"a": shared, "b": shared, "c": b"x" * 500, "empty": b"", "hollow": None})
    project.path("images/link").symlink_to("a")
    (first,) = project.repo.add("images").pointers
    assert (first.path, first.kind, first.changed) == ("images", "files", True)
    assert (first.files, first.bytes) == (5, 2500)
    assert (first.chunks, first.new_chunks, first.new_bytes) == (3, 2, 1500)
    assert (first.added, first.removed, first.modified) == (5, 0, 0)
    assert 1000 < first.stored_bytes < 1500  # noise stays as it is, the rest is nearly nothing

    project.write({"images/d": shared, "images/c": b"y" * 700})
    project.remove("images/b")
    (second,) = project.repo.add("images").pointers
    assert (second.files, second.bytes) == (5, 2700)
    assert (second.new_chunks, second.new_bytes) == (1, 700)
    assert (second.added, second.removed, second.modified) == (1, 1, 1)
    assert second.changed
    assert second.root != first.root


def test_stored_bytes_are_what_the_store_grows_by(project):
    project.put("images", {f"{number:03}": os.urandom(3000) for number in range(100)})
    (added,) = project.repo.add("images").pointers
    on_disk = sum(path.stat().st_size for path in project.store.rglob("*.pack"))
    assert 300_000 <= added.stored_bytes <= on_disk
    assert on_disk < added.stored_bytes * 1.05 + 2000


def test_each_dataset_has_its_own_account(project):
    project.put("one", {"a": b"1" * 100})
    project.put("two", {"a": b"1" * 100, "b": b"2" * 50})
    one, two = project.repo.add(["one", "two"]).pointers
    assert (one.new_bytes, one.chunks, one.new_chunks) == (100, 1, 1)
    assert (two.new_bytes, two.chunks, two.new_chunks) == (50, 2, 1)


def test_a_large_file_is_stored_in_chunks_and_an_edit_costs_little(project):
    content = bytearray(os.urandom(3_000_000))
    project.put("images", {"big": bytes(content)})
    (first,) = project.repo.add("images").pointers
    assert first.chunks == first.new_chunks > 20
    content[1_500_000:1_500_000] = b"a few bytes more"
    project.write({"images/big": bytes(content)})
    (second,) = project.repo.add("images").pointers
    assert second.chunks > 20
    assert 1 <= second.new_chunks <= 3
    assert second.new_bytes < 400_000
    assert project.repo.read("images/big") == bytes(content)


def test_what_changes_kind_is_counted_once(project):
    project.put("images", {"a": "1", "b/c": "2", "hollow": None, "z": "3"})
    project.repo.add("images")
    project.remove("images/a", "images/b", "images/hollow")
    project.write({"images/a/x": "1", "images/b": "2", "images/hollow": "now a file"})
    project.remove("images/z")
    project.path("images/z").mkdir()
    (added,) = project.repo.add("images").pointers
    # a -> a/x, b/c -> b, hollow/ -> hollow, z -> z/
    assert (added.added, added.removed, added.modified) == (3, 3, 0)
    assert added.files == 3


# -- doing it again --------------------------------------------------------------------------------


def test_a_second_add_reads_nothing_and_keeps_the_pointer(project, opened):
    project.put("images", {"a": "1", "b/c": "2", "b/d": os.urandom(300_000), "hollow": None})
    settle()
    (first,) = project.repo.add("images").pointers
    pointer = project.path("images.ds")
    before = (pointer.read_bytes(), pointer.stat().st_mtime_ns, pointer.stat().st_ino)
    packs = sorted(project.store.rglob("*.pack"))
    opened.clear()
    (second,) = project.repo.add("images").pointers
    assert opened == []
    assert (pointer.read_bytes(), pointer.stat().st_mtime_ns, pointer.stat().st_ino) == before
    assert sorted(project.store.rglob("*.pack")) == packs
    assert second.root == first.root
    assert not second.changed
    assert (second.chunks, second.new_chunks, second.new_bytes, second.stored_bytes) == (0, 0, 0, 0)
    assert (second.added, second.removed, second.modified) == (0, 0, 0)


def test_only_what_changed_is_read(project, opened):
    project.put(
        "images",
        {f"{number:02}/{name}": f"{number}{name}" for number in range(9) for name in "abc"},
    )
    settle()
    project.repo.add("images")
    project.write({"images/04/b": "other"})
    opened.clear()
    project.repo.add("images")
    assert opened == ["b"]


def test_a_file_that_was_only_touched_is_read_once(project, opened):
    project.put("images", {"a": "1", "b": "2"})
    settle()
    project.repo.add("images")
    os.utime(project.path("images/a"))
    settle()
    opened.clear()
    assert not project.repo.add("images").pointers[0].changed
    assert opened == ["a"]
    assert not project.repo.add("images").pointers[0].changed
    assert opened == ["a"]


def test_a_file_as_young_as_the_add_is_read_again(project, opened):
    project.put("images", {"a": "1"})
    project.repo.add("images")
    opened.clear()
    project.repo.add("images")
    assert opened == ["a"]


def test_the_executable_bit_is_a_change(project):
    project.put("images", {"run": "#!/bin/sh\n"})
    project.repo.add("images")
    project.path("images/run").chmod(0o755)
    (added,) = project.repo.add("images").pointers
    assert (added.modified, added.new_bytes, added.changed) == (1, 0, True)
    project.path("images/run").chmod(0o754)  # whom it is for is not part of a version
    assert not project.repo.add("images").pointers[0].changed


def test_without_an_index_add_still_gives_the_same_root(project):
    project.put("images", {"a": "1", "b/c": os.urandom(200_000)})
    (first,) = project.repo.add("images").pointers
    project.close()
    for path in (project.store / "index").iterdir():
        path.unlink()
    (second,) = project.repo.add("images").pointers
    assert (second.root, second.changed, second.new_chunks) == (first.root, False, 0)


def test_the_version_before_need_not_be_there(project):
    project.put("images", {"a": "1"})
    project.repo.add("images")
    root = project.root()
    project.path("images.ds").write_text(project.pointer().replace(root, "b3:" + "0" * 64))
    (added,) = project.repo.add("images").pointers
    assert (added.root, added.changed, added.added) == (root, True, 1)


def test_add_heals_a_pointer_with_conflict_markers(project):
    project.put("images", {"a": "1"})
    project.repo.add("images")
    good = project.pointer()
    project.path("images.ds").write_text(f"<<<<<<< ours\n{good}=======\n{good}>>>>>>> theirs\n")
    project.repo.add("images")
    assert project.pointer() == good


def test_keys_that_nobody_knows_are_kept(project):
    project.put("images", {"a": "1"})
    project.repo.add("images")
    project.path("images.ds").write_text(project.pointer() + "colour: blue\nnote: keep me\n")
    assert not project.repo.add("images").pointers[0].changed
    assert project.pointer().endswith("colour: blue\nnote: keep me\n")
    project.write({"images/b": "2"})
    project.repo.add("images")
    assert project.pointer().endswith("colour: blue\nnote: keep me\n")
    assert "files: 2\n" in project.pointer()


# -- several paths ---------------------------------------------------------------------------------


def test_several_paths_at_once(project):
    project.put("images", {"a": "1"})
    project.put("data/more", {"b": "2"})
    project.write({"labels.csv": "a,b\n"})
    result = project.repo.add(["images", "data/more", "labels.csv", "images"])
    assert [each.path for each in result.pointers] == ["images", "data/more", "labels.csv"]
    assert sorted(each.path for each in project.repo.ls()) == ["data/more", "images", "labels.csv"]


def test_one_path_may_be_given_alone(project, tmp_path):
    project.put("images", {"a": "1"})
    assert project.repo.add(project.path("images")).pointers[0].path == "images"
    assert project.repo.add("images").pointers[0].path == "images"


def test_a_path_that_is_refused_stops_all_of_them(project):
    project.put("images", {"a": "1"})
    with pytest.raises(NotFoundError, match="'nothing' does not exist"):
        project.repo.add(["images", "nothing"])
    assert not project.path("images.ds").exists()


def test_a_path_inside_another_is_part_of_it(project):
    project.put("images", {"a": "1"})
    project.repo.add("images")
    project.write({"images/a": "2", "images/b": "3"})
    (added,) = project.repo.add(["images/a", "images"]).pointers
    assert (added.added, added.modified) == (1, 1)


def test_a_repository_opened_in_a_directory(project):
    project.put("data/images", {"a": "1"})
    project.write({"top.txt": "top"})
    with Repository.open(project.path("data")) as inner:
        first, second = inner.add(["images", "../top.txt"]).pointers
        assert (first.path, second.path) == ("data/images", "top.txt")
        project.write({"data/images/b": "2"})
        assert inner.add("images/b").pointers[0].added == 1
        assert [each.path for each in inner.ls("images")] == ["data/images/a", "data/images/b"]


def test_a_repository_opened_in_a_dataset(project):
    project.put("images", {"a/b": "1"})
    project.repo.add("images")
    project.write({"images/a/c": "2"})
    with Repository.open(project.path("images/a")) as inner:
        assert inner.add("c").pointers[0].added == 1
        assert inner.add(".").pointers[0].changed is False


# -- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize("path", [".", "", ".git", ".git/objects", ".datastore", ".datastore/tmp"])
def test_what_cannot_be_a_dataset(project, path):
    with pytest.raises(UsageError):
        project.repo.add(path)


@pytest.mark.parametrize("path", ["..", "../elsewhere", "/", "images/../../elsewhere"])
def test_a_path_outside_the_worktree(project, path):
    project.put("images", {"a": "1"})
    (project.top.parent / "elsewhere").mkdir()
    with pytest.raises(UsageError, match="is not in the workspace"):
        project.repo.add(path)


def test_a_missing_path(project):
    with pytest.raises(NotFoundError, match="'images' does not exist"):
        project.repo.add("images")
    project.put("images", {"a": "1"})
    project.repo.add("images")
    project.remove("images")
    with pytest.raises(NotFoundError):
        project.repo.add("images")


def test_a_file_that_git_tracks(project):
    project.put("images", {"a": "1", "b": "2"})
    project.commit()
    with pytest.raises(UsageError, match="Git tracks 'images/a' and 1 more files") as caught:
        project.repo.add("images")
    assert "git rm -r -q --cached images" in caught.value.hint
    project.git("rm", "-r", "-q", "--cached", "images")
    project.repo.add("images")
    project.commit()
    assert project.git("ls-files", "images") == ""


def test_a_pointer_that_git_would_ignore(project):
    project.write({".gitignore": "data/\n", "data/images/a": "1"})
    with pytest.raises(UsageError, match=r"Git ignores 'data/images\.ds'") as caught:
        project.repo.add("data/images")
    assert "git check-ignore -v data/images.ds" in caught.value.hint
    assert not project.path("data/images.ds").exists()
    project.repo.add("data")
    assert [each.path for each in project.repo.status().pointers] == ["data"]


def test_datasets_are_not_nested(project):
    project.put("data/images", {"a": "1"})
    project.repo.add("data/images")
    with pytest.raises(UsageError, match="holds the dataset 'data/images'"):
        project.repo.add("data")
    project.put("data/other", {"b": "1"})
    project.put("top/inner", {"c": "1"})
    with pytest.raises(UsageError, match="holds the dataset 'top/inner'"):
        project.repo.add(["top/inner", "top"])
    assert not project.path("top.ds").exists()
    assert not project.path("top/inner.ds").exists()


def test_data_that_is_named_like_a_pointer(project):
    project.put("images", {"a": "1", "a.ds": "not a pointer\n", "b.ds": "nor this\n"})
    project.repo.add("images")
    assert [each.path for each in project.repo.ls()] == ["images"]
    assert project.repo.read("images/a.ds") == b"not a pointer\n"
    assert project.repo.read("images/a") == b"1"
    project.write({"images/a": "2"})
    assert project.repo.add("images/a").pointers[0].modified == 1
    with pytest.raises(UsageError, match="has the name of a pointer"):
        project.repo.add("images.ds")


def test_a_link_is_not_followed(project, tmp_path):
    project.put("images", {"sub/a": "1"})
    project.repo.add("images")
    project.path("shortcut").symlink_to("images")
    project.path("images/inner").symlink_to("sub")
    with pytest.raises(UsageError, match="is a symbolic link"):
        project.repo.add("shortcut")
    with pytest.raises(UsageError, match="behind the symbolic link 'shortcut'"):
        project.repo.add("shortcut/sub")
    with pytest.raises(UsageError, match="behind the symbolic link 'images/inner'"):
        project.repo.add("images/inner/a")
    assert project.repo.add("images/inner").pointers[0].added == 1


def test_a_link_in_place_of_a_dataset_is_not_taken_for_a_part_of_it(project, tmp_path):
    project.put("images", {"a": "1"})
    project.repo.add("images")
    before = project.pointer()
    project.path("images").rename(tmp_path / "moved")
    project.path("images").symlink_to(tmp_path / "moved")
    for path in ("images", "images/a"):
        with pytest.raises(UsageError):
            project.repo.add(path)
    assert project.pointer() == before


def test_an_ignored_path(project):
    project.put("images", {"a": "1", "b.part": "2", "raw/c": "3"})
    project.write({".datastoreignore": "*.part\nraw/\n"})
    (added,) = project.repo.add("images").pointers
    assert added.files == 1
    for path in ("images/b.part", "images/raw", "images/raw/c"):
        with pytest.raises(UsageError, match=r"is ignored by \.datastoreignore"):
            project.repo.add(path)
    project.write({"c.part": "1"})
    with pytest.raises(UsageError, match=r"is ignored by '\.datastoreignore'"):
        project.repo.add("c.part")
    assert [each.path for each in project.repo.ls("images", recursive=True)] == ["images/a"]


def test_a_file_that_is_ignored_later_is_taken_out(project):
    project.put("images", {"a": "1", "b.part": "2"})
    project.repo.add("images")
    project.write({".datastoreignore": "*.part\n"})
    (added,) = project.repo.add("images").pointers
    assert (added.files, added.removed) == (1, 1)
    project.remove(".datastoreignore")
    assert project.repo.add("images").pointers[0].added == 1


def test_a_broken_ignore_file_is_named(project):
    project.put("images", {"a": "1"})
    project.path(".datastoreignore").mkdir()
    with pytest.raises(FormatError, match="datastoreignore"):
        project.repo.add("images")


# -- parts -----------------------------------------------------------------------------------------


@pytest.fixture
def parts(project):
    """A dataset with a few directories, its content known."""
    project.put(
        "images",
        {"a": "1", "b/c": "2", "b/d": "3", "b/e/f": "4", "b.txt": "5", "g/h": "6", "hollow": None},
    )
    settle()
    project.repo.add("images")
    return project


def changed_by(project, *paths):
    """Adds paths and tells what that changed in the version."""
    project.commit("before")
    project.repo.add(list(paths))
    before = project.stored(rev="HEAD")
    after = project.stored()
    return sorted(
        path.removeprefix("images/")
        for path in before.keys() | after.keys()
        if before.get(path) != after.get(path)
    )


def edit(project):
    """Changes a bit of everything."""
    project.write(
        {
            "images/a": "11",
            "images/b/c": "22",
            "images/b/e/new": "44",
            "images/b.txt": "55",
            "images/new/deep/x": "77",
            "images/hollow/y": "88",
        }
    )
    project.remove("images/b/d", "images/g")


@pytest.mark.parametrize(
    ("paths", "expected"),
    [
        (["a"], ["a"]),
        (["b"], ["b/c", "b/d", "b/e/new"]),
        (["b/e"], ["b/e/new"]),
        (["b/d"], ["b/d"]),
        (["b.txt"], ["b.txt"]),
        (["g"], ["g/h"]),
        (["g/h"], ["g/h"]),
        (["new"], ["new/deep/x"]),
        (["new/deep/x"], ["new/deep/x"]),
        (["hollow"], ["hollow/y"]),
        (["hollow/y"], ["hollow/y"]),
        (["a", "b/e", "g"], ["a", "b/e/new", "g/h"]),
        (["b", "b/c"], ["b/c", "b/d", "b/e/new"]),
    ],
    ids=str,
)
def test_a_part_changes_nothing_else(parts, paths, expected):
    edit(parts)
    assert changed_by(parts, *(f"images/{path}" for path in paths)) == expected


def test_all_parts_together_make_the_whole(parts, new_project):
    edit(parts)
    parts.path("images/g").mkdir()
    parts.path("images/g/link").symlink_to("../a")
    for path in ("a", "b", "b.txt", "g", "hollow", "new"):
        parts.repo.add(f"images/{path}")
    part = parts.root()
    assert parts.repo.status().clean
    assert not parts.repo.add("images").pointers[0].changed
    assert part == fresh_root(parts, new_project)


def test_a_part_that_leaves_an_empty_directory(parts, new_project):
    parts.remove("images/b/e/f", "images/g/h")
    parts.repo.add("images/b/e/f")
    parts.repo.add("images/g")
    assert parts.repo.status().clean
    assert parts.root() == fresh_root(parts, new_project)


def test_a_part_that_becomes_another_kind(parts, new_project):
    parts.remove("images/b", "images/a")
    parts.write({"images/b": "a file now", "images/a/x": "a directory now"})
    parts.path("images/hollow").rmdir()
    parts.path("images/hollow").symlink_to("a")
    parts.repo.add(["images/a/x", "images/b", "images/hollow"])
    assert parts.root() == fresh_root(parts, new_project)


def test_a_part_reads_nothing_that_is_known(parts, opened):
    parts.write({"images/b/c": "22"})
    opened.clear()
    parts.repo.add("images/b")
    assert opened == ["c"]


def test_a_part_that_exists_nowhere(parts):
    for path in ("images/nothing", "images/b/nothing", "images/a/under-a-file"):
        with pytest.raises(NotFoundError, match="does not exist, nor is it in the dataset"):
            parts.repo.add(path)


def test_a_part_in_another_spelling(project):
    project.put("images", {f"{NFD}/x": "1", f"{NFD}.txt": "2"})
    if NFD not in os.listdir(project.path("images")):
        pytest.skip("this file system has spellings of its own")
    project.repo.add("images")
    project.write({f"images/{NFD}/x": "11", f"images/{NFD}.txt": "22"})
    (first,) = project.repo.add(f"images/{NFC}").pointers
    assert (first.modified, first.removed) == (1, 0)
    (second,) = project.repo.add(f"images/{NFD}.txt").pointers
    assert (second.modified, second.removed) == (1, 0)
    project.remove(f"images/{NFD}/x")
    (third,) = project.repo.add(f"images/{NFD}/x").pointers
    assert (third.removed, third.files) == (1, 1)
    assert [(each.path, each.kind) for each in project.repo.ls("images")] == [
        (f"images/{NFC}", "dir"),
        (f"images/{NFC}.txt", "file"),
    ]


def test_parts_of_a_dataset_that_is_a_file(project):
    project.write({"labels.csv": "a\n"})
    project.repo.add("labels.csv")
    before = project.pointer("labels.csv")
    with pytest.raises(UsageError, match="is a file"):
        project.repo.add("labels.csv/x")
    project.remove("labels.csv")
    project.put("labels.csv", {"x": "1"})
    with pytest.raises(UsageError, match="is a single file"):
        project.repo.add("labels.csv/x")
    assert project.pointer("labels.csv") == before
    assert project.repo.add("labels.csv").pointers[0].files == 1
    project.remove("labels.csv")
    project.write({"labels.csv": "a file again\n"})
    with pytest.raises(UsageError, match="is a file"):
        project.repo.add("labels.csv/x")


def test_a_part_after_the_pointer_moved(parts):
    parts.commit("one")
    parts.write({"images/a": "other a", "images/b/c": "other c"})
    parts.repo.add("images")
    parts.commit("two")
    parts.git("checkout", "--quiet", "HEAD~1")
    # The files are those of the second version, the pointer names the first.
    parts.repo.add("images/a")
    assert parts.stored()["images/a"] == b"other a"
    assert parts.stored()["images/b/c"] == b"2"


def test_a_part_when_the_pointer_moves_meanwhile(parts, monkeypatch):
    parts.write({"images/a": "mine", "images/b/c": "theirs"})
    store_part = adding._store_part

    def interrupted(*arguments):
        stored = store_part(*arguments)
        monkeypatch.setattr(adding, "_store_part", store_part)
        with Repository.open(parts.top) as other:
            other.add("images/b")
        return stored

    monkeypatch.setattr(adding, "_store_part", interrupted)
    parts.repo.add("images/a")
    assert parts.stored()["images/a"] == b"mine"
    assert parts.stored()["images/b/c"] == b"theirs"
    assert parts.repo.status().clean


def test_a_part_of_a_pointer_in_conflict(parts):
    good = parts.pointer()
    parts.path("images.ds").write_text(f"<<<<<<< ours\n{good}=======\n{good}>>>>>>> theirs\n")
    with pytest.raises(ConflictError):
        parts.repo.add("images/a")


def test_a_part_of_a_version_that_is_not_here(parts):
    parts.path("images.ds").write_text(parts.pointer().replace(parts.root(), "b3:" + "0" * 64))
    with pytest.raises(NotFoundError, match="the store does not have the version of images"):
        parts.repo.add("images/a")


# -- worktrees -------------------------------------------------------------------------------------


def test_worktrees_share_the_store(project, tmp_path):
    content = os.urandom(100_000)
    project.version("v1", {"a": content})
    project.git("worktree", "add", "--quiet", str(tmp_path / "second"))
    with Repository.open(tmp_path / "second") as second:
        assert [each.state for each in second.status().pointers] == ["missing"]
        second.checkout()
        assert (tmp_path / "second/images/a").read_bytes() == content
        (tmp_path / "second/images/b").write_bytes(content)
        (added,) = second.add("images").pointers
        assert (added.new_chunks, added.added) == (0, 1)
        assert second.status().clean
    assert not (tmp_path / "second/.git/datastore").exists()
    assert project.repo.status().clean
    assert list(project.tree()) == ["a"]
