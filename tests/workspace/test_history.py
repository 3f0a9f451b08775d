"""Which versions Git's history names."""

from __future__ import annotations

import pytest

from datastore.errors import NotFoundError
from datastore.kernel.hashing import format_digest
from datastore.workspace.history import versions


def found(project, revs=None):
    return [
        (each.path, each.rev, format_digest(each.root))
        for each in versions(project.repo._workspace, revs)
    ]


def short(project, rev):
    return project.git("rev-parse", rev).strip()[:12]


def test_nothing(project):
    assert found(project) == []


def test_the_workspace_before_the_first_commit(project):
    project.put("images", {"a": "1"})
    project.repo.add("images")
    assert found(project) == [("images", "", project.root())]


def test_every_version_of_every_ref(project):
    one = project.version("v1", {"a": "1"})
    two = project.version("v2", {"a": "2"})
    project.git("checkout", "--quiet", "-b", "side", "v1")
    side = project.version("side-1", {"a": "side"})
    project.git("checkout", "--quiet", "main")
    listed = found(project)
    assert ("images", "", two) in listed
    assert {root for _, _, root in listed} == {one, two, side}
    by_root = {root: rev for _, rev, root in listed if rev}
    assert by_root[one] == short(project, "v1")
    assert by_root[side] == short(project, "side")


def test_versions_that_only_a_tag_or_a_stash_holds(project):
    project.version("v1", {"a": "1"})
    kept = project.version("kept", {"a": "2"})
    project.git("reset", "--quiet", "--hard", "v1")
    project.put("images", {"a": "3"})
    stashed = project.repo.add("images").pointers[0].root
    project.git("stash", "--quiet")
    assert {kept, stashed} <= {root for _, _, root in found(project)}


def test_versions_of_merges(project):
    project.version("base", {"a": "1"})
    roots = set()
    for branch in ("one", "two"):
        project.git("checkout", "--quiet", "-b", branch, "base")
        roots.add(project.version(f"{branch}-1", {"a": "1", branch: branch}))
    project.git("merge", "--quiet", "-m", "merged", "one")
    roots.add(project.root())
    assert len(roots) == 3
    assert roots <= {root for _, _, root in found(project)}


def test_removed_and_renamed_datasets(project):
    root = project.version("v1", {"a": "1"})
    project.git("mv", "images.ds", "photos.ds")
    project.commit("renamed")
    project.remove("photos.ds")
    project.commit("removed")
    assert {(path, root) for path, _, root in found(project)} == {
        ("images", root),
        ("photos", root),
    }


def test_only_some_revisions(project):
    one = project.version("v1", {"a": "1"})
    two = project.version("v2", {"a": "2"})
    assert found(project, ["v1"]) == [("images", short(project, "v1"), one)]
    assert [root for _, _, root in found(project, ["v1", "HEAD"])] == [one, two]
    assert found(project, []) == []
    with pytest.raises(NotFoundError, match="there is no revision 'v9'"):
        found(project, ["v9"])


def test_what_is_no_pointer_is_left_out(project):
    project.version("v1", {"a": "1"})
    project.write({"images.ds": "garbage\n", "other.ds": "<<<<<<< ours\n"})
    project.commit("broken")
    assert [path for path, rev, _ in found(project)] == ["images"]
    assert found(project, ["HEAD"]) == []
