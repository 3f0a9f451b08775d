"""Two clones of a project, and a directory that both share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.project import Project


@pytest.fixture
def remote(tmp_path):
    """The directory that is the remote."""
    return tmp_path / "remote"


@pytest.fixture
def shared(project, remote) -> Project:
    """A project with one version, and a remote to which nothing was pushed."""
    project.repo.remote_add("origin", str(remote))
    project.version("v1", {"a.txt": "alpha", "sub/b.txt": "beta"})
    return project


@pytest.fixture
def clone(shared) -> Callable[..., Project]:
    """Makes clones of the project's history; the data stays where it is."""

    def make(name: str = "clone") -> Project:
        top = shared.top.parent / name
        shared.git("clone", "--quiet", str(shared.top), str(top))
        return Project(top)

    return make


@pytest.fixture
def packs(remote) -> Callable[[], dict[str, int]]:
    """Lists the packs on the remote with their sizes."""
    return lambda: {path.stem: path.stat().st_size for path in remote.rglob("*.pack")}
