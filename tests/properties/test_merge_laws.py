"""The laws of merging datasets: what a person would do file by file, and nothing that cannot lie on
one disk."""

from __future__ import annotations

import pytest
from hypothesis import given, settings

from tests.project import isolate, make_project
from tests.properties.test_scan_laws import TREES, become


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch, tmp_path_factory.mktemp("home"))
        made = make_project(tmp_path_factory.mktemp("laws") / "project")
        made.path("images").mkdir()
        yield made
        made.close()


def version(project, content):
    """Adds a version; returns its pointer and its files, by key."""
    become(project.path("images"), content)
    project.repo.add("images")
    return project.pointer().encode(), described(project)


def described(project):
    """What lies on disk, names in NFC."""
    return {path.replace("e\u0301", "\u00e9"): entry for path, entry in project.tree().items()}


def is_below(path, other):
    return path.startswith(other + "/")


def merged(base, ours, theirs):
    """Merges three versions in the simplest way; returns both sides' results and the conflicts."""
    results, conflicts = ({}, {}), set()
    for path in base.keys() | ours.keys() | theirs.keys():
        was, our, their = base.get(path), ours.get(path), theirs.get(path)
        kept = (our, their)
        if was in (our, their):
            kept = (their, their) if our == was else (our, our)
        elif our != their:
            conflicts.add(path)
        for result, entry in zip(results, kept, strict=True):
            if entry is not None:
                result[path] = entry
    for result, side in zip(results, (ours, theirs), strict=True):
        for path in [path for path in result if any(is_below(each, path) for each in result)]:
            if result[path] == ("dir",):
                del result[path]  # the other side has filled it
                continue
            conflicts.add(path)
            if path not in side:
                del result[path]
            else:
                for each in [each for each in result if is_below(each, path)]:
                    del result[each]
    return *results, conflicts


def files(tree):
    return {path: entry for path, entry in tree.items() if entry != ("dir",)}


def restored(project, pointer):
    """The files of a version, put on disk."""
    project.path("images.ds").write_bytes(pointer)
    project.repo.checkout(force=True)
    return files(described(project))


@settings(max_examples=40, deadline=None)
@given(base=TREES, ours=TREES, theirs=TREES)
def test_a_merge_is_what_a_person_would_do(project, base, ours, theirs):
    (before, first), (mine, second), (other, third) = (
        version(project, content) for content in (base, ours, theirs)
    )
    our, their, conflicts = merged(first, second, third)
    result = project.repo.merge_pointers(before, mine, other, "images.ds")
    mirrored = project.repo.merge_pointers(before, other, mine, "images.ds")
    assert {each.path.removeprefix("images/") for each in result.conflicts} == conflicts
    assert {each.path for each in mirrored.conflicts} == {each.path for each in result.conflicts}
    if not conflicts:
        assert result.data == mirrored.data
        assert restored(project, result.data) == files(our)
        return
    begin, middle, end = b"<<<<<<< ours\n", b"=======\n", b">>>>>>> theirs\n"
    assert result.data.startswith(begin)
    left, _, right = result.data.removeprefix(begin).partition(end)[0].partition(middle)
    assert restored(project, left) == files(our)
    assert restored(project, right) == files(their)


@settings(max_examples=15, deadline=None)
@given(base=TREES, ours=TREES)
def test_a_side_that_did_nothing_changes_nothing(project, base, ours):
    (before, _), (mine, _) = (version(project, content) for content in (base, ours))
    for sides in ((before, mine, before), (before, before, mine), (before, mine, mine)):
        result = project.repo.merge_pointers(*sides, "images.ds")
        assert (result.conflicts, result.data) == ((), mine)
