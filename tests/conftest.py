"""What tests of more than one directory use."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from datastore.repository import Repository
from tests.project import Project, isolate, make_project

pytest_plugins = ["tests.servers.fixtures"]


@pytest.fixture(scope="session")
def template(tmp_path_factory) -> Path:
    """A new repository, to be copied: starting Git ten times for each test would take longer."""
    top = tmp_path_factory.mktemp("template") / "project"
    with pytest.MonkeyPatch.context() as patch:
        isolate(patch, tmp_path_factory.mktemp("home"))
        make_project(top)
    shutil.rmtree(top / ".git" / "datastore")
    return top


@pytest.fixture
def new_project(
    tmp_path, tmp_path_factory, monkeypatch, template
) -> Iterator[Callable[..., Project]]:
    """Makes repositories: ``new_project("name")``."""
    isolate(monkeypatch, tmp_path_factory.mktemp("home"))
    with ExitStack() as stack:

        def make(name: str | Path = "project") -> Project:
            project = Project(tmp_path / name)
            shutil.copytree(template, project.top)
            project.store.mkdir()
            stack.callback(project.close)
            return project

        yield make


@pytest.fixture
def project(new_project) -> Project:
    """A Git repository without data or commits, in which data is versioned."""
    return new_project()


@pytest.fixture
def repo(project) -> Repository:
    """The `Repository` in it."""
    return project.repo
