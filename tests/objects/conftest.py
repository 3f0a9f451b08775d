from __future__ import annotations

import pytest

from datastore.objects.environment import Environment
from datastore.objects.store import ObjectStore
from datastore.storage.local import TEMPORARY_PREFIX


@pytest.fixture(autouse=True)
def _own_registry(monkeypatch):
    """Whatever ran before in this process may have left an index open."""
    monkeypatch.setattr(Environment, "_open", {})


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "store"


@pytest.fixture
def store(directory):
    with ObjectStore(directory) as opened:
        yield opened


@pytest.fixture
def leftovers(directory):
    """Lists the temporary files in the store."""
    return lambda: [path for path in directory.rglob("*") if TEMPORARY_PREFIX in path.name]
