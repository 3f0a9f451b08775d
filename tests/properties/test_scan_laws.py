"""The laws of `add`: a version is what lies on disk, however it came to lie there."""

from __future__ import annotations

import os
import shutil
import time
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.project import Project, isolate, make_project, tree

_MARGIN = 0.012
"""Seconds that the stat cache distrusts here: more than the clock tick of the file system."""

# Names that sort differently as text, as paths and as Unicode, few enough to meet each other.
NAMES = st.sampled_from(
    ["a", "a.txt", "a-b", "a0", "a b", "b", "B", "e\u0301", "f", "\U0001f600", "~"]
)
FILES = st.one_of(
    st.sampled_from([b"", b"1", b"2", b"the same"]),
    st.tuples(st.just("exec"), st.sampled_from([b"1", b"#!/bin/sh\n"])),
    st.tuples(st.just("link"), st.sampled_from(["a", "../b", "nowhere/at/all"])),
    st.tuples(st.just("large"), st.integers(1, 3)),
)
TREES = st.recursive(
    FILES, lambda inner: st.dictionaries(NAMES, inner, max_size=4), max_leaves=14
).filter(lambda node: isinstance(node, dict))


class Twins:
    """Two repositories: one that goes through a history, and one that forgets everything."""

    def __init__(self, directory: Path) -> None:
        self.one = make_project(directory / "one")
        self.two = make_project(directory / "two")

    def begin(self) -> None:
        """Forgets what earlier examples left."""
        for project in (self.one, self.two):
            self.forget(project)

    @staticmethod
    def forget(project: Project) -> None:
        """Makes the next add the first one."""
        project.path("images.ds").unlink(missing_ok=True)
        project.repo._workspace.dataset("images").cache.forget()
        if os.path.lexists(project.path("images")):
            project.remove("images")
        project.path("images").mkdir()

    def fresh(self) -> str:
        """The root of the same content, added for the first time in the other repository."""
        self.forget(self.two)
        shutil.copytree(
            self.one.path("images"), self.two.path("images"), symlinks=True, dirs_exist_ok=True
        )
        return self.two.repo.add("images").pointers[0].root


@pytest.fixture(scope="module")
def twins(tmp_path_factory):
    directory = tmp_path_factory.mktemp("laws")
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch, tmp_path_factory.mktemp("home"))
        patch.setattr("datastore.workspace.statcache.RACY_MARGIN", int(_MARGIN * 1e9))
        made = Twins(directory)
        yield made
        made.one.close()
        made.two.close()


def clear(at: Path) -> None:
    """Removes whatever is there."""
    if at.is_dir() and not at.is_symlink():
        shutil.rmtree(at)
    else:
        at.unlink()


def become(at: Path, node) -> None:
    """Makes a path on disk what the node says, touching only what differs."""
    if isinstance(node, dict):
        if at.is_symlink() or not at.is_dir():
            at.unlink(missing_ok=True)
            at.mkdir()
        for name in os.listdir(at):
            if name not in node:
                inside = at / name
                clear(inside)
        for name, inner in node.items():
            become(at / name, inner)
        return
    kind, content = node if isinstance(node, tuple) else ("file", node)
    if kind == "large":
        kind, content = "file", bytes([content]) * 150_000
    wanted = (kind, content)
    if os.path.lexists(at):
        if tree(at).get("") == wanted:
            return
        clear(at)
    if kind == "link":
        at.symlink_to(content)
    else:
        at.write_bytes(content)
        at.chmod(0o755 if kind == "exec" else 0o644)


def listed(project: Project) -> dict[str, tuple[object, ...]]:
    """Describes the stored version in the words of `tests.project.tree`."""
    found = {}
    for entry in project.repo.ls("images", recursive=True):
        path = entry.path.removeprefix("images/")
        if entry.kind in {"file", "exec"}:
            found[path] = (entry.kind, project.repo.read(entry.path))
        else:
            found[path] = (entry.kind,)
    return found


def on_disk(project: Project) -> dict[str, tuple[object, ...]]:
    """Describes what lies on disk likewise: names in NFC, links without their target."""
    return {
        path.replace("e\u0301", "\u00e9"): entry[:1] if entry[0] == "link" else entry
        for path, entry in project.tree().items()
    }


@settings(max_examples=60, deadline=None)
@given(content=TREES)
def test_a_version_is_what_lies_on_disk(twins, content):
    twins.begin()
    project = twins.one
    become(project.path("images"), content)
    (added,) = project.repo.add("images").pointers
    found = listed(project)
    assert list(found) == sorted(found, key=str.encode)
    assert found == on_disk(project)
    contents = [entry[1] for entry in found.values() if len(entry) > 1]
    assert added.bytes == sum(map(len, contents))
    assert added.files == sum(entry[0] != "dir" for entry in found.values())
    assert project.repo.status().clean


@settings(max_examples=50, deadline=None)
@given(before=TREES, after=TREES, touched=st.booleans())
def test_an_edited_dataset_has_the_root_of_a_fresh_one(twins, before, after, touched):
    twins.begin()
    project = twins.one
    become(project.path("images"), before)
    time.sleep(2 * _MARGIN)
    first = project.repo.add("images").pointers[0]
    become(project.path("images"), after)
    if touched:
        for path in project.path("images").rglob("*"):
            os.utime(path, follow_symlinks=False)
    status = project.repo.status()
    second = project.repo.add("images").pointers[0]
    assert status.clean == (not second.changed) == (first.root == second.root)
    assert second.root == twins.fresh()
    assert listed(project) == on_disk(project)
    assert project.repo.status().clean


@settings(max_examples=40, deadline=None)
@given(before=TREES, after=TREES, order=st.randoms(use_true_random=False))
def test_parts_added_one_by_one_make_the_whole(twins, before, after, order):
    twins.begin()
    project = twins.one
    become(project.path("images"), before)
    project.repo.add("images")
    become(project.path("images"), after)
    parts = sorted(before.keys() | after.keys())
    order.shuffle(parts)
    for part in parts:
        project.repo.add(f"images/{part}")
    assert project.repo.status().clean
    assert project.root() == twins.fresh()


@settings(max_examples=40, deadline=None)
@given(before=TREES, after=TREES, other=TREES)
def test_checkout_gives_back_what_was_added(twins, before, after, other):
    twins.begin()
    project = twins.one
    pointers, contents = [], []
    for content in (before, after):
        become(project.path("images"), content)
        project.repo.add("images")
        pointers.append(project.pointer())
        contents.append(project.tree())
    for pointer, content in zip(pointers, contents, strict=True):
        project.path("images.ds").write_text(pointer)
        project.repo.checkout()
        assert project.tree() == content
        assert project.repo.status().clean
    become(project.path("images"), other)
    project.repo.checkout(force=True)
    there = project.tree()
    for path, entry in contents[1].items():
        hollow = entry == ("dir",) and project.path(f"images/{path}").is_dir()
        assert hollow or there[path] == entry
