"""Clones and the remote between them."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack

import pytest

from tests.sync.bucket import Bucket
from tests.sync.clones import Clone, Files, MakeClone, pulled_afresh


@pytest.fixture
def bucket() -> Bucket:
    """The remote."""
    return Bucket()


@pytest.fixture
def new_clone(tmp_path, bucket) -> Iterator[MakeClone]:
    """Makes clones: ``new_clone("name")``."""
    with ExitStack() as stack:

        def make(name: str = "clone", *, jobs: int = 1) -> Clone:
            clone = Clone(tmp_path / name, bucket, jobs=jobs)
            stack.callback(clone.close)
            return clone

        yield make


@pytest.fixture
def clone(new_clone) -> Clone:
    """The clone that has the data."""
    return new_clone()


@pytest.fixture
def pull_afresh(tmp_path, bucket) -> Callable[[bytes], Files]:
    """Pulls a version into a new clone."""
    return lambda root: pulled_afresh(bucket, tmp_path / "fresh", root)
