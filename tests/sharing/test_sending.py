"""`push` and `status --remote`, on a directory."""

from __future__ import annotations

import pytest

from datastore.errors import NotFoundError, StorageError
from tests.kernel.samples import noise


def test_push_and_push_again(shared, packs):
    first = shared.repo.push()
    assert [each.path for each in first.roots] == ["images"]
    assert first.requests <= 10 + first.packs
    again = shared.repo.push()
    assert (again.known, again.packs, again.requests) == (1, 0, 2)
    shared.version("v2", {"a.txt": "another", "sub/b.txt": "beta"})
    second = shared.repo.push()
    assert second.requests <= 12
    assert len(packs()) == first.packs + second.packs == 4


def test_every_commit_of_the_history_is_pushed(shared, clone):
    shared.version("v2", {"a.txt": "2"})
    shared.version("v3", {"a.txt": "3"})
    assert len(shared.repo.push().roots) == 3
    other = clone()
    for tag, text in (("v1", b"alpha"), ("v2", b"2"), ("v3", b"3")):
        assert other.repo.read("images/a.txt", rev=tag) == text
    other.close()


def test_a_range(shared):
    shared.version("v2", {"a.txt": "2"})
    result = shared.repo.push("v1..v2")
    assert [each.root for each in result.roots] == [shared.root()]
    status = shared.repo.remote_status()
    assert (status.versions, len(status.missing)) == (2, 1)


def test_a_partial_clone_pushes_what_it_added(shared, clone):
    """It lacks most of the data, and the remote has it."""
    shared.repo.push()
    other = clone()
    other.repo.pull(None, ["images/a.txt"])
    other.repo.pull()
    other.version("v2", {"a.txt": "alpha", "sub/b.txt": "beta", "c.txt": "new"})
    result = other.repo.push()
    assert (len(result.roots), result.absent) == (1, ())
    assert result.packs <= 2
    other.close()


def test_status_says_what_is_missing_and_what_is_damaged(shared, remote):
    remote.mkdir()
    assert len(shared.repo.remote_status().missing) == 1
    shared.repo.push()
    shared.version("v2", {"a.txt": "2"})
    status = shared.repo.remote_status()
    assert [each.path for each in status.missing] == ["images"]
    assert status.damaged == ()
    shared.repo.push()
    for pack in list(remote.rglob("*.pack"))[:1]:
        pack.unlink()
    damaged = shared.repo.remote_status().damaged
    assert {each.pack for each in damaged} == {pack.name}
    assert shared.repo.push().packs == 0  # nothing new, so nothing is looked at
    healed = shared.repo.push(verify=True)
    assert healed.healed == (pack.stem,)
    assert shared.repo.remote_status().damaged == ()


def test_read_data_heals_what_verify_cannot_see(shared, remote, clone):
    shared.version("v2", {"big.bin": noise(100_000)})
    shared.repo.push()
    for pack in remote.rglob("*.pack"):
        data = bytearray(pack.read_bytes())
        data[len(data) // 2] ^= 1
        pack.write_bytes(data)
    assert shared.repo.push(verify=True).healed == ()
    assert len(shared.repo.push(read_data=True).healed) == 4
    other = clone()
    other.repo.pull()
    assert other.tree() == shared.tree()
    other.close()


def test_a_push_of_two_clones_shares_packs(shared, clone, packs):
    shared.repo.push()
    other = clone()
    other.repo.pull()
    before = packs()
    assert other.repo.push().packs == 0
    assert packs() == before
    other.close()


def test_status_of_a_remote_that_nobody_made_yet(shared, remote):
    assert not remote.exists()
    found = shared.repo.remote_status()
    assert found.versions == len(found.missing) == 1
    shared.repo.push()
    remote.rename(remote.with_name("unmounted"))
    with pytest.raises((NotFoundError, StorageError), match=r"not there|empty"):
        shared.repo.remote_status()


def test_status_sees_a_part_of_the_index_that_is_gone_or_damaged(shared, remote):
    shared.repo.push()
    shards = sorted((remote / "index").iterdir())
    content = shards[0].read_bytes()
    shards[0].unlink()
    (damage,) = shared.repo.remote_status().damaged
    assert (damage.pack, damage.path) == (shards[0].name, "")
    shared.repo.push(verify=True)
    assert shards[0].read_bytes() == content
    assert shared.repo.remote_status().damaged == ()
