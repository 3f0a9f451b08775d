"""A map file that was cut short must never reach LMDB: reading it would be a SIGBUS."""

from __future__ import annotations

import os
import random

import pytest

from datastore.objects import mapfile
from datastore.objects.index import Index
from datastore.objects.mapfile import fill_up, is_whole
from datastore.objects.pack import Kind, Sealed

PAGE = os.sysconf("SC_PAGE_SIZE")


@pytest.fixture
def file(tmp_path):
    with Index(tmp_path / "index") as index:
        index.stat_update([(b"%04d" % number, bytes(100)) for number in range(500)], ())
    return tmp_path / "index" / "data.mdb"


def test_a_whole_file_is_left_alone(file):
    before = file.read_bytes()
    assert is_whole(file)
    fill_up(file)
    assert file.read_bytes() == before


def test_a_file_that_is_not_there_is_for_lmdb_to_make(tmp_path):
    assert is_whole(tmp_path / "data.mdb")
    assert not (tmp_path / "data.mdb").exists()


def test_an_empty_file_is_one_that_is_just_being_made(file):
    os.truncate(file, 0)
    assert is_whole(file)
    fill_up(file)
    assert file.stat().st_size == 0


def test_a_file_without_its_end_is_not_whole(file):
    size = file.stat().st_size
    for length in range(1, size, 1000):
        os.truncate(file, size)
        os.truncate(file, size - length)
        assert not is_whole(file)


def test_missing_pages_become_zeros(file):
    size = file.stat().st_size
    whole = file.read_bytes()
    os.truncate(file, size - 2 * PAGE - 100)
    fill_up(file)
    assert file.read_bytes() == whole[: size - 2 * PAGE - 100] + bytes(2 * PAGE + 100)
    assert is_whole(file)


@pytest.mark.parametrize("size", [1, 100, PAGE - 1, PAGE, PAGE + 1, PAGE + 100])
def test_without_both_meta_pages_there_is_nothing_to_go_by(file, size):
    os.truncate(file, size)
    assert not is_whole(file)
    fill_up(file)
    assert file.stat().st_size == size


@pytest.mark.parametrize("page", [0, 1])
def test_another_file_is_refused(file, page):
    data = bytearray(file.read_bytes())
    data[page * PAGE : (page + 1) * PAGE] = random.Random(1).randbytes(PAGE)
    file.write_bytes(data)
    assert not is_whole(file)
    fill_up(file)
    assert file.read_bytes() == data


def test_the_disk_fails(tmp_path):
    with pytest.raises(IsADirectoryError):
        is_whole(tmp_path)
    with pytest.raises(FileNotFoundError):
        fill_up(tmp_path / "data.mdb")


def test_a_file_that_lacks_what_it_does_not_need_is_completed(file):
    """LMDB counts pages as in use that it gave back before it ever wrote them.

    Some in a thousand commits do; here it is made to look so, by counting two more.
    """
    data = bytearray(file.read_bytes())
    metas = [mapfile._META_PAGE.unpack_from(data, page * PAGE) for page in (0, 1)]
    newest = max((0, 1), key=lambda page: metas[page][2])
    last = metas[newest][1]
    data[newest * PAGE + 136 : newest * PAGE + 144] = (last + 2).to_bytes(8, "little")
    file.write_bytes(data)
    assert not is_whole(file)
    fill_up(file)
    assert file.stat().st_size == (last + 3) * PAGE
    with Index(file.parent) as index:
        assert not index.created
        assert index.counts()["stat"] == 500
        index.stat_update([(b"more", bytes(9000))], ())
    assert is_whole(file)


def test_the_file_is_completed_after_every_write(tmp_path, monkeypatch):
    completed = []
    monkeypatch.setattr("datastore.objects.index.fill_up", completed.append)
    with Index(tmp_path / "index") as index:
        assert len(completed) == 1
        index.add_pack(Sealed("a" * 64 + "-" + "0" * 16, Kind.DATA, 100, [], [], []))
        assert len(completed) == 2
        index.stat_update([(b"a", b"b")], ())
        assert len(completed) == 3
        index.drop_packs([index.packs()[0].number])
        assert len(completed) == 4
    assert set(completed) == {tmp_path / "index" / "data.mdb"}


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_an_index_is_whole_after_every_write(tmp_path, seed):
    rng = random.Random(seed)
    file = tmp_path / "index" / "data.mdb"
    with Index(tmp_path / "index") as index:
        for _ in range(1500):
            rows = index.stat_scan(b"", b"\xff" * 21)
            gone = [key for key, _ in rng.sample(rows, min(len(rows), rng.randrange(200)))]
            puts = [
                (rng.randbytes(20), rng.randbytes(rng.randrange(9000)))
                for _ in range(rng.randrange(60))
            ]
            index.stat_update(*rng.choice([(puts, ()), ((), gone), (puts, gone)]))
            assert is_whole(file)
