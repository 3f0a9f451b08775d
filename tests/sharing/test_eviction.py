"""A store that is kept small: what a remote has goes, and comes back when it is read."""

from __future__ import annotations

import pytest
import yaml

from datastore.errors import NotFoundError, StorageError
from tests.kernel.samples import noise

LIMIT = 150_000


def limit(project) -> None:
    project.close()
    (project.store / "local.yaml").write_text(yaml.safe_dump({"store": {"max_size": LIMIT}}))


def size(project) -> int:
    return sum(path.stat().st_size for path in project.store.rglob("*.pack"))


def test_a_store_keeps_to_its_limit_once_its_data_is_pushed(shared):
    limit(shared)
    for number in range(5):
        shared.version(f"n{number}", {"file.bin": noise(60_000, str(number))})
    assert size(shared) > 300_000
    shared.repo.push()
    assert size(shared) <= LIMIT
    for number in range(5):
        assert shared.repo.read("images/file.bin", rev=f"n{number}") == noise(60_000, str(number))


def test_what_was_not_pushed_stays(shared):
    shared.repo.push()
    limit(shared)
    for number in range(5):
        shared.version(f"n{number}", {"file.bin": noise(60_000, str(number))})
    shared.repo.push("v1")
    assert size(shared) > 300_000


def test_a_pull_makes_room(shared, clone):
    for number in range(5):
        shared.version(f"n{number}", {"file.bin": noise(60_000, str(number))})
    shared.repo.push()
    other = clone()
    assert other.repo is not None
    limit(other)
    for number in range(5):
        other.repo.pull(f"n{number}")
        assert (other.top / "images/file.bin").read_bytes() == noise(60_000, str(number))
    assert size(other) <= LIMIT
    other.close()


def test_what_no_root_stands_for_stays(shared, monkeypatch):
    """A push that stopped before its roots has left packs, which a gc would take for garbage."""
    limit(shared)
    for number in range(5):
        shared.version(f"n{number}", {"file.bin": noise(60_000, str(number))})
    with monkeypatch.context() as patch:
        patch.setattr("datastore.sync.push._acknowledge", out_of_order)
        with pytest.raises(StorageError):
            shared.repo.push()
    shared.repo.push("v1")
    assert size(shared) > 300_000  # v1 itself may have gone
    shared.repo.push()
    assert size(shared) <= LIMIT


def out_of_order(*_: object, **__: object) -> bool:
    raise StorageError("the network went away")


def test_nothing_goes_while_a_version_cannot_be_read_through(shared, monkeypatch):
    """What of it has to stay is then not known."""
    limit(shared)
    for number in range(5):
        shared.version(f"n{number}", {"file.bin": noise(60_000, str(number))})
    before = size(shared)
    with monkeypatch.context() as patch:
        patch.setattr("datastore.sharing.eviction.needs", unreadable)
        shared.repo.push("n3")
    assert size(shared) == before
    shared.repo.push("n3")
    assert size(shared) < before


def unreadable(*_: object, **__: object) -> None:
    raise NotFoundError("a node is not in the store")
