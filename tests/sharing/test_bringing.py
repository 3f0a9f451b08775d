"""`pull`, `fetch` and reading on demand, from a directory."""

from __future__ import annotations

import threading

import pytest

from datastore.errors import CorruptionError, NotFoundError
from tests.kernel.samples import noise

MANY = {f"{number:03}.bin": noise(60_000, str(number)) for number in range(30)}


def flip(path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.write_bytes(data)


def largest(remote):
    return max(remote.rglob("*.pack"), key=lambda path: path.stat().st_size)


@pytest.fixture
def pushed(shared):
    """The project with many files, pushed."""
    shared.version("v2", dict(MANY))
    shared.repo.push()
    return shared


def test_pull(pushed, clone):
    other = clone()
    result = other.repo.pull()
    assert other.tree() == pushed.tree()
    assert (result.files, result.bytes) == (30, 30 * 60_000)
    assert result.fetched_bytes < 1.1 * 30 * 60_000
    assert other.state() == "clean"
    again = other.repo.pull()
    assert (again.files, again.fetched_bytes) == (0, 0)
    other.close()


def test_pull_of_an_older_version_brings_what_differs(pushed, clone):
    other = clone()
    other.repo.pull()
    assert other.repo.pull("v1").fetched_bytes < 5000
    assert set(other.tree()) == {"a.txt", "sub/b.txt"}
    other.close()


def test_pull_of_a_part_and_out(pushed, clone, tmp_path):
    other = clone()
    result = other.repo.pull(None, ["images/007.bin"], out=tmp_path / "out")
    assert (tmp_path / "out/images/007.bin").read_bytes() == MANY["007.bin"]
    assert result.fetched_bytes < 400_000
    assert not (other.top / "images").exists()
    other.close()


def test_reading_one_file_without_a_pull(pushed, clone):
    other = clone()
    assert other.repo.read("images/011.bin") == MANY["011.bin"]
    fetcher = other.repo._fetcher
    assert fetcher is not None
    assert fetcher.traffic.requests <= 8
    assert fetcher.traffic.bytes_down < 400_000
    other.close()
    assert not [each for each in threading.enumerate() if "datastore-transfer" in each.name]


def test_fetch_leaves_the_workspace_alone(pushed, clone, remote):
    other = clone()
    result = other.repo.fetch()
    assert result.versions == 1
    assert not (other.top / "images").exists()
    remote.rename(remote.with_name("elsewhere"))
    other.repo.checkout()
    assert other.tree() == pushed.tree()
    other.close()


def test_fetch_of_all_versions(pushed, clone, remote):
    other = clone()
    assert other.repo.fetch(all_refs=True).versions == 2
    remote.rename(remote.with_name("elsewhere"))
    assert other.repo.read("images/a.txt", rev="v1") == b"alpha"
    other.close()


def test_a_damaged_pack_keeps_back_only_what_is_in_it(pushed, clone, remote):
    """All other files are written; then the error names file and pack."""
    pack = largest(remote)
    flip(pack, pack.stat().st_size // 2)
    other = clone()
    with pytest.raises(CorruptionError) as caught:
        other.repo.pull()
    message = str(caught.value)
    assert pack.stem in message
    there = {path.name for path in (other.top / "images").iterdir()}
    assert 26 <= len(there) < 30
    missing = set(MANY) - there
    assert all(f"images/{name}" in message for name in missing)
    assert all((other.top / "images" / name).read_bytes() == MANY[name] for name in there)
    # Healed elsewhere, the rest comes.
    assert pushed.repo.push(read_data=True).healed == (pack.stem,)
    assert other.repo.pull().files == len(missing)
    assert other.tree() == pushed.tree()
    other.close()


def test_fetch_does_not_pass_for_whole_what_is_not(pushed, clone, remote):
    pack = largest(remote)
    flip(pack, pack.stat().st_size // 2)
    other = clone()
    with pytest.raises(CorruptionError, match=pack.stem):
        other.repo.fetch()
    pack.unlink()
    with pytest.raises((NotFoundError, CorruptionError)):
        other.repo.fetch()
    other.close()


def test_ctrl_c_in_a_pull(pushed, clone, monkeypatch):
    """It ends, the threads end, and the same repository works on."""
    other = clone()

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("datastore.sync.download.Download._take", interrupt)
        with pytest.raises(KeyboardInterrupt):
            other.repo.pull()
    assert not [each for each in threading.enumerate() if "datastore-transfer" in each.name]
    other.repo.pull()
    assert other.tree() == pushed.tree()
    other.close()


def test_ctrl_c_in_a_push(shared, clone, monkeypatch):
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("datastore.sync.remote.Remote.note_uploaded", interrupt)
        with pytest.raises(KeyboardInterrupt):
            shared.repo.push()
    assert not [each for each in threading.enumerate() if "datastore-transfer" in each.name]
    assert len(shared.repo.push().roots) == 1
    other = clone()
    other.repo.pull()
    assert other.tree() == shared.tree()
    other.close()


def test_a_later_push_is_seen_by_an_open_repository(pushed, clone):
    other = clone()
    assert other.repo.read("images/001.bin") == MANY["001.bin"]
    pushed.version("v3", {"a.txt": "third"})
    pushed.repo.push()
    other.git("fetch", "--quiet", "--tags")
    assert other.repo.read("images/a.txt", rev="v3") == b"third"
    other.close()
