"""What differs between two versions: by file, with renames found."""

from __future__ import annotations

import pytest

from datastore.trees import files
from datastore.trees.files import Entry, Kind
from datastore.trees.manifest import EMPTY_DIGEST, Content
from datastore.workspace.changes import (
    Delta,
    DiffCounts,
    FileChange,
    count_changes,
    count_files,
    file_changes,
    full_path,
    version_deltas,
)

FOLDER = files.encode_entry(Entry(Kind.DIRECTORY))


def file(number, *, size=1, kind=Kind.FILE):
    """An encoded file whose content has a number."""
    return files.encode_entry(Entry(kind, Content(size, bytes([number]) * 32)))


def link(target):
    return files.encode_entry(Entry(Kind.LINK, target=target))


EMPTY = files.encode_entry(Entry(Kind.FILE, Content(0, EMPTY_DIGEST)))


def shown(*deltas):
    """Sorts deltas, as they come, and shows the changes as ``"kind [old] path"``."""
    changes = file_changes(sorted(Delta(*each) for each in deltas), "d")
    return [" ".join(filter(None, (each.kind, each.old_path, each.path))) for each in changes]


def test_added_removed_and_modified():
    deltas = [
        Delta(b"a", None, file(1, size=5)),
        Delta(b"b", file(2, size=6), None),
        Delta(b"c", file(3, size=7), file(4, size=8)),
    ]
    assert file_changes(deltas, "images") == [
        FileChange("added", "images/a", None, None, 5),
        FileChange("removed", "images/b", None, 6, None),
        FileChange("modified", "images/c", None, 7, 8),
    ]


def test_changes_are_sorted_by_path():
    deltas = [
        (b"z", file(1), None),
        (b"y", file(2), None),
        (b"b", None, file(1)),
        (b"c", None, file(9)),
    ]
    assert shown(*deltas) == ["renamed d/z d/b", "added d/c", "removed d/y"]


def test_a_single_file_has_the_path_of_its_dataset():
    assert file_changes([Delta(b".", file(1), file(2))], "labels.csv")[0].path == "labels.csv"
    assert full_path("labels.csv", b".") == "labels.csv"
    assert full_path("images", b"a/b") == "images/a/b"


def test_a_rename():
    assert file_changes(
        [Delta(b"a", file(1, size=3), None), Delta(b"b", None, file(1, size=3))], "d"
    ) == [FileChange("renamed", "d/b", "d/a", 3, 3)]


def test_a_move_between_directories_prefers_the_same_name():
    assert shown(
        (b"old/x", file(1), None),
        (b"old/y", file(1), None),
        (b"new/y", None, file(1)),
        (b"new/a", None, file(1)),
    ) == ["renamed d/old/x d/new/a", "renamed d/old/y d/new/y"]


def test_each_source_is_used_once():
    assert shown(
        (b"a", file(1), None), (b"x", None, file(1)), (b"y", None, file(1)), (b"z", None, file(1))
    ) == ["renamed d/a d/x", "added d/y", "added d/z"]
    assert shown((b"a", file(1), None), (b"b", file(1), None), (b"x", None, file(1))) == [
        "removed d/b",
        "renamed d/a d/x",
    ]


def test_many_equal_contents():
    count = 300
    deltas = [(b"old/%03d" % number, file(1), None) for number in range(count)]
    deltas += [(b"new/%03d" % number, None, file(1)) for number in range(count)]
    assert shown(*deltas) == [
        f"renamed d/old/{number:03} d/new/{number:03}" for number in range(count)
    ]


def test_a_copy_is_no_rename():
    assert shown((b"b", None, file(1))) == ["added d/b"]


def test_empty_files_are_never_renamed():
    assert shown((b"a", EMPTY, None), (b"b", None, EMPTY)) == ["removed d/a", "added d/b"]


def test_links_are_never_renamed():
    assert shown((b"a", link(b"x"), None), (b"b", None, link(b"x"))) == ["removed d/a", "added d/b"]


def test_a_file_that_becomes_executable_while_it_is_renamed():
    assert shown((b"a", file(1), None), (b"b", None, file(1, kind=Kind.EXECUTABLE))) == [
        "renamed d/a d/b"
    ]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (file(1), file(1, kind=Kind.EXECUTABLE)),
        (file(1), link(b"x")),
        (link(b"x"), link(b"y")),
        (link(b"x"), EMPTY),
    ],
    ids=["executable", "becomes a link", "points elsewhere", "becomes a file"],
)
def test_a_change_of_kind_is_a_modification(old, new):
    assert shown((b"a", old, new)) == ["modified d/a"]
    assert +count_files([Delta(b"a", old, new)]) == {"modified": 1}


def test_an_empty_directory_alone_is_a_change():
    assert shown((b"a", None, FOLDER)) == ["added d/a/"]
    assert shown((b"a", FOLDER, None)) == ["removed d/a/"]


def test_a_directory_that_is_emptied_or_filled_is_none():
    assert shown((b"a", None, FOLDER), (b"a/b/c", file(1), None)) == ["removed d/a/b/c"]
    assert shown((b"a", FOLDER, None), (b"a/b/c", None, file(1))) == ["added d/a/b/c"]
    assert shown((b"a", None, FOLDER), (b"a/x", file(1), None), (b"b", None, file(1))) == [
        "renamed d/a/x d/b"
    ]
    # A neighbour that only begins alike says nothing about it.
    assert shown((b"a", None, FOLDER), (b"a.x", file(1), None)) == ["removed d/a.x", "added d/a/"]


def test_a_file_never_becomes_a_directory():
    assert shown((b"a", file(1), FOLDER)) == ["removed d/a", "added d/a/"]
    assert shown((b"a", FOLDER, file(1))) == ["added d/a", "removed d/a/"]
    assert shown((b"a", file(1), None), (b"a/x", None, file(1))) == ["renamed d/a d/a/x"]


def test_files_are_counted_and_directories_are_not():
    counts = count_files(
        [
            Delta(b"a", None, file(1)),
            Delta(b"b", file(1), None),
            Delta(b"c", file(1), file(2)),
            Delta(b"d", None, FOLDER),
            Delta(b"e", FOLDER, None),
            Delta(b"f", FOLDER, file(1)),
            Delta(b"g", file(1), FOLDER),
            Delta(b"h", link(b"x"), link(b"y")),
        ]
    )
    assert (counts["added"], counts["removed"], counts["modified"]) == (2, 2, 2)


def test_changes_are_counted_by_kind():
    kinds = ["added", "added", "removed", "modified", "renamed", "renamed", "renamed"]
    changes = [FileChange(kind, "x") for kind in kinds]
    assert count_changes(changes) == DiffCounts(added=2, removed=1, modified=1, renamed=3)
    assert count_changes([]) == DiffCounts()


def test_deltas_of_versions(project):
    project.version("v1", {"a": "1", "b": "2", "c/d": "3"})
    project.version("v2", {"a": "1", "b": "22", "e": "4"})
    workspace = project.repo._workspace
    old, new = (workspace.version("images", rev) for rev in ("v1", "v2"))

    def keys(*versions, **bounds):
        return [
            (key.decode(), before is not None, after is not None)
            for key, before, after in version_deltas(*versions, workspace.store, **bounds)
        ]

    assert keys(old, new) == [("b", True, True), ("c/d", True, False), ("e", False, True)]
    assert keys(new, old) == [("b", True, True), ("c/d", False, True), ("e", True, False)]
    assert keys(None, old) == [("a", False, True), ("b", False, True), ("c/d", False, True)]
    assert keys(old, None) == [("a", True, False), ("b", True, False), ("c/d", True, False)]
    assert keys(None, None) == keys(old, old) == []
    assert keys(old, new, start=b"c", stop=b"d") == [("c/d", True, False)]
    assert keys(None, new, start=b"b", stop=b"e") == [("b", False, True)]
