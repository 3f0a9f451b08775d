"""What `check_path` accepts stays below the top, however it is joined; folding is a function."""

from __future__ import annotations

import ntpath
import os
import posixpath
import re
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from datastore.errors import FormatError
from datastore.workspace.paths import (
    check_link_target,
    check_path,
    collisions,
    fold,
    portability_problem,
)
from datastore.workspace.writer import Writer

PIECES = st.sampled_from(
    [
        *["a", "b.txt", "A", "..", ".", "...", "/", "//", "\\", ":", "C:", "c", "\0", " ", ". "],
        *[".git", ".GIT", "git~1", "\u200c", "\u00ad", "::$INDEX_ALLOCATION", "\uff47", "~", "?"],
        *["con", "AUX", "nul.", "com1", "LPT\u00b9", "conin$", "\u00e9", "e\u0301", "\u00df"],
        *["\n", "\x7f", "-", "*", "\ud800", "x" * 250, "\u56fe" * 60, "\U0001f600"],
    ]
)
PATHS = st.one_of(
    st.lists(PIECES, max_size=8).map("".join),
    st.lists(PIECES, min_size=1, max_size=8).map("/".join),
    st.text(max_size=40),
)


def accepted(path: str, *, windows: bool) -> bool:
    try:
        check_path(path, windows=windows)
    except FormatError as error:
        str(error).encode()
        return False
    return True


@given(PATHS)
@settings(max_examples=500, deadline=None)
def test_accepted_stays_below_the_top(path):
    if accepted(path, windows=False):
        joined = posixpath.normpath(posixpath.join("/top", path))
        assert joined == f"/top/{path}"
        assert os.fsencode(path).decode() == path


@given(PATHS)
@settings(max_examples=500, deadline=None)
def test_accepted_on_windows_stays_below_the_top(path):
    if accepted(path, windows=True):
        joined = ntpath.normpath(ntpath.join("D:\\top", path))
        assert joined == "D:\\top\\" + path.replace("/", "\\")
        assert ntpath.splitdrive(path)[0] == ""
        assert accepted(path, windows=False)


@given(PATHS)
@settings(max_examples=500, deadline=None)
def test_portable_is_accepted_on_windows_too(path):
    if accepted(path, windows=False):
        assert accepted(path, windows=True) == (portability_problem(path) is None)


@given(PATHS)
@settings(max_examples=500, deadline=None)
def test_no_component_is_git(path):
    """Seen by the most forgiving reader: letters that are ignored, wide letters, tails, streams."""
    if accepted(path, windows=False):
        for component in re.split(r"[/\\]", path):
            bare = re.sub("[\u200c\u00ad]", "", component).replace("\uff47", "g").lower()
            assert bare.split(":")[0].rstrip(". ") not in {".git", "git~1"}


@given(PATHS, PATHS)
@settings(max_examples=500, deadline=None)
def test_accepted_links_stay_inside(path, target):
    if not accepted(path, windows=False):
        return
    try:
        check_link_target(path, target)
    except FormatError:
        return
    where = posixpath.normpath(posixpath.join("/top", posixpath.dirname(path), target))
    assert where == "/top" or where.startswith("/top/")


LETTERS = st.text(
    st.one_of(
        st.characters(exclude_categories=["Cs"]),
        st.sampled_from("aAeE\u0301\u0345\u0390\u00df\u1e9e\u0130\u0131\u03c2\ufb01\u212b\u1f80/"),
    ),
    max_size=12,
)


@given(LETTERS, st.booleans(), st.booleans())
@settings(max_examples=500, deadline=None)
def test_folding_twice_is_folding_once(path, case, normalize):
    once = fold(path, case=case, normalize=normalize)
    assert fold(once, case=case, normalize=normalize) == once


@given(LETTERS, LETTERS, st.booleans(), st.booleans())
def test_folding_is_by_component(left, right, case, normalize):
    """A parent folds to the parent of what its child folds to: `collisions` relies on it."""
    together = fold(f"{left}/{right}", case=case, normalize=normalize)
    apart = [fold(each, case=case, normalize=normalize) for each in (left, right)]
    assert together == "/".join(apart)


NAMES = st.lists(
    st.lists(
        st.sampled_from(["a", "A", "b", "\u00e9", "e\u0301", "\u00c9"]), min_size=1, max_size=3
    ).map("/".join),
    max_size=8,
)


@given(NAMES, st.booleans(), st.booleans())
@settings(max_examples=300, deadline=None)
def test_collisions_are_what_a_filesystem_would_find(paths, case, normalize):
    """No pair exactly when names and folded names, directories included, are as many."""
    names = {
        "/".join(parts[: end + 1])
        for path in paths
        for parts in [path.split("/")]
        for end in range(len(parts))
    }
    folded = {fold(name, case=case, normalize=normalize) for name in names}
    pairs = collisions(paths, case=case, normalize=normalize)
    assert (pairs == []) == (len(names) == len(folded))
    for one, two in pairs:
        assert one != two
        assert {one, two} <= names
        assert fold(one, case=case, normalize=normalize) == fold(
            two, case=case, normalize=normalize
        )


@pytest.mark.skipif(os.name == "nt", reason="names that are good on POSIX")
@given(st.lists(PATHS, max_size=6))
@settings(max_examples=60, deadline=None)
def test_accepted_can_be_written_and_read_back(paths):
    with tempfile.TemporaryDirectory() as directory:
        top = Path(directory, "top")
        top.mkdir()
        taken: dict[str, bytes] = {}
        for path in paths:
            # A name cannot be a file and the directory of another at once.
            clash = any(
                f"{path}/".startswith(f"{old}/") or f"{old}/".startswith(f"{path}/")
                for old in taken
            )
            if accepted(path, windows=False) and not clash and len(os.fsencode(path)) < 1000:
                taken[path] = repr(path).encode()
        with Writer(top, Path(directory, "staging")) as writer:
            for path, data in taken.items():
                writer.write_file(path, [data], executable=False, size=len(data))
        found = {
            os.path.relpath(os.path.join(where, name), top): Path(where, name).read_bytes()
            for where, _, files in os.walk(top)
            for name in files
        }
        assert found == taken
        assert sorted(os.listdir(directory)) == ["staging", "top"]
