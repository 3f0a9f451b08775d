"""`get`: data of a repository of which there is no clone here."""

from __future__ import annotations

import pytest

from datastore.errors import NotFoundError
from datastore.repository import get


def test_get_from_a_clone_and_from_git(shared, tmp_path):
    shared.repo.push()
    bare = tmp_path / "there.git"
    shared.commit("Settings")
    shared.git("clone", "--quiet", "--bare", str(shared.top), str(bare))
    for source in (shared.top, bare):
        out = tmp_path / f"out-{source.name}"
        result = get(str(source), "images/sub", out=out)
        assert result.files == 1
        assert (out / "images/sub/b.txt").read_bytes() == b"beta"
        assert not (out / "images/a.txt").exists()


def test_no_such_repository(tmp_path):
    with pytest.raises(NotFoundError, match="no Git repository"):
        get(str(tmp_path / "nowhere"), "images", out=tmp_path / "out")
    assert not (tmp_path / "out").exists() or not list((tmp_path / "out").iterdir())


def test_no_such_path(shared, tmp_path):
    shared.repo.push()
    with pytest.raises(NotFoundError):
        get(str(shared.top), "labels", out=tmp_path / "out")
