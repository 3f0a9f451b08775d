"""The index is a cache: whatever happens to its files, it works again after the next opening."""

from __future__ import annotations

import errno
import os
import random
import shutil
import threading

import lmdb
import pytest

from datastore.errors import StorageError
from datastore.kernel.hashing import chunk_digest
from datastore.objects import environment, index
from datastore.objects.environment import Environment
from datastore.objects.index import SCHEMA, Found, Index
from datastore.objects.pack import BlockRow, Kind, Location, Sealed
from tests.objects.forks import in_child

PAGE = os.sysconf("SC_PAGE_SIZE")


def digests(first, count):
    return [chunk_digest(b"%d" % number) for number in range(first, first + count)]


def sealed(letter, members, *, kind=Kind.DATA, size=1000):
    """A pack of one block whose members have one byte each."""
    block = BlockRow(16, len(members), len(members), len(members), 0)
    name = f"{letter * 64}-{'0' * 16}"
    return Sealed(name, kind, size, members, [1] * len(members), [block] if members else [])


@pytest.fixture
def directory(tmp_path):
    return tmp_path / "index"


@pytest.fixture
def opened(directory):
    with Index(directory) as opened:
        yield opened


def has(opened, digest):
    with opened.lookup() as lookup:
        return lookup.has(digest)


def find(opened, digest):
    with opened.lookup() as lookup:
        return lookup.find(digest)


# -- packs and chunks -----------------------------------------------------------------------------


def test_a_new_index_says_that_it_is_new(directory):
    with Index(directory) as opened:
        assert opened.created
        assert opened.counts() == {"chunks": 0, "packs": 0, "stat": 0}
    with Index(directory) as opened:
        assert not opened.created


def test_a_pack_is_entered_with_all_that_it_holds(opened):
    known = digests(0, 3)
    blocks = [BlockRow(16, 90, 150, 2, 1), BlockRow(200, 7, 7, 1, 0)]
    opened.add_pack(Sealed("ab" * 32 + "-" + "0" * 16, Kind.DATA, 500, known, [100, 50, 7], blocks))
    (row,) = opened.packs()
    assert (row.name, row.size, row.kind) == ("ab" * 32 + "-" + "0" * 16, 500, Kind.DATA)
    assert [find(opened, digest) for digest in known] == [
        Found(row.number, Location(blocks[0].payload, 90, 150, 0, 100, 1)),
        Found(row.number, Location(blocks[0].payload, 90, 150, 100, 50, 1)),
        Found(row.number, Location(blocks[1].payload, 7, 7, 0, 7, 0)),
    ]
    assert opened.digests_of(row.number) == sorted(known)
    assert opened.counts() == {"chunks": 3, "packs": 1, "stat": 0}


def test_what_is_not_entered_is_not_found(opened):
    assert find(opened, chunk_digest(b"?")) is None
    assert not has(opened, chunk_digest(b"?"))


def test_a_pack_is_entered_once(opened):
    opened.add_pack(sealed("a", digests(0, 3)))
    opened.add_pack(sealed("a", digests(0, 5)))
    assert opened.counts() == {"chunks": 3, "packs": 1, "stat": 0}


def test_a_chunk_keeps_its_place(opened):
    opened.add_pack(sealed("a", digests(0, 2)))
    opened.add_pack(sealed("b", digests(1, 2)))
    first, second = opened.packs()
    assert [find(opened, digest).pack for digest in digests(0, 3)] == [
        first.number,
        first.number,
        second.number,
    ]


def test_a_pack_without_members_is_known(opened):
    opened.add_pack(sealed("a", []))
    assert [row.name[:1] for row in opened.packs()] == ["a"]


def test_packs_are_listed_in_the_order_in_which_they_came(opened):
    for letter in "cab":
        opened.add_pack(sealed(letter, []))
    assert [row.name[0] for row in opened.packs()] == ["c", "a", "b"]


def test_dropping_packs_drops_what_is_placed_in_them(opened):
    for number, letter in enumerate("abcd"):
        opened.add_pack(sealed(letter, digests(number * 500, 500)))
    a, b, c, d = (row.number for row in opened.packs())
    assert opened.drop_packs([]) == 0
    assert opened.drop_packs([b, d]) == 1000
    assert [row.number for row in opened.packs()] == [a, c]
    assert [has(opened, digest) for digest in digests(0, 2000)] == (
        [True] * 500 + [False] * 500
    ) * 2
    assert opened.drop_packs([a, c, 12345]) == 1000
    assert opened.counts() == {"chunks": 0, "packs": 0, "stat": 0}


def test_a_dropped_pack_can_come_back_under_another_number(opened):
    """A number is remembered by those who read: it never comes to mean another pack."""
    opened.add_pack(sealed("a", digests(0, 3)))
    (before,) = opened.packs()
    opened.drop_packs([before.number])
    opened.add_pack(sealed("a", digests(0, 3)))
    (after,) = opened.packs()
    assert after.name == before.name
    assert after.number > before.number
    assert find(opened, digests(0, 1)[0]).pack == after.number


def test_clearing_empties_every_table(opened):
    opened.add_pack(sealed("a", digests(0, 3)))
    opened.stat_update([(b"key", b"value")], ())
    before = opened.packs()[0].number
    opened.clear()
    assert opened.counts() == {"chunks": 0, "packs": 0, "stat": 0}
    opened.add_pack(sealed("b", []))
    assert opened.packs()[0].number != before


def test_a_row_of_another_length_is_as_good_as_none(opened):
    digest = chunk_digest(b"a")
    inner = opened._opened()
    with inner.env.begin(write=True, db=inner.chunks) as transaction:
        transaction.put(digest, b"short")
    assert find(opened, digest) is None


def test_a_lookup_sees_one_moment(opened):
    with opened.lookup() as lookup:
        opened.add_pack(sealed("a", digests(0, 1)))
        assert not lookup.has(digests(0, 1)[0])
    assert has(opened, digests(0, 1)[0])


# -- the stat cache's table -----------------------------------------------------------------------


def test_stat_records_are_put_and_deleted_together(opened):
    assert opened.stat_update([(b"b", b"2"), (b"a", b"1")], ())
    assert opened.stat_update([(b"c", b"3"), (b"a", b"new")], [b"b", b"never"])
    assert opened.stat_get([b"c", b"b", b"a"]) == [b"3", None, b"new"]


def test_stat_records_are_listed_in_key_order(opened):
    keys = [b"a", b"p", b"p\x00", b"p1", b"p\xff", b"q"]
    opened.stat_update([(key, key) for key in reversed(keys)], ())
    assert opened.stat_scan(b"p", b"q") == [(key, key) for key in keys[1:5]]
    assert opened.stat_scan(b"r", b"s") == []
    assert opened.stat_scan(b"p1", b"p1") == []


def test_stat_records_change_only_from_what_was_expected(opened):
    assert opened.stat_update([(b"a", b"1")], (), expected=(b"turn", None))
    assert opened.stat_update([(b"turn", b"1")], (), expected=(b"turn", None))
    assert not opened.stat_update([(b"a", b"2")], [b"turn"], expected=(b"turn", None))
    assert opened.stat_update([(b"a", b"3")], (), expected=(b"turn", b"1"))
    assert opened.stat_get([b"a", b"turn"]) == [b"3", b"1"]


def test_no_stat_records_are_fine(opened):
    assert opened.stat_update((), ())
    assert opened.stat_get([]) == []


# -- one environment a process and directory -------------------------------------------------------


def test_an_index_may_be_opened_twice(directory):
    with Index(directory) as first, Index(directory) as second:
        assert first._opened() is second._opened()
        first.add_pack(sealed("a", digests(0, 1)))
        first.close()
        first.close()
        assert has(second, digests(0, 1)[0])
    assert not Environment._open


def test_a_closed_index_opens_again(directory):
    with Index(directory) as opened:
        opened.add_pack(sealed("a", digests(0, 1)))
    assert has(opened, digests(0, 1)[0])
    opened.close()


def test_clearing_reaches_those_who_share_the_environment(directory):
    with Index(directory) as first, Index(directory) as second:
        first.add_pack(sealed("a", digests(0, 1)))
        assert has(second, digests(0, 1)[0])
        first.clear()
        assert not has(second, digests(0, 1)[0])
        second.add_pack(sealed("b", digests(5, 1)))
        assert has(first, digests(5, 1)[0])
    assert not Environment._open


def test_clearing_under_a_lookup_is_an_error_there_and_not_a_crash(directory):
    with Index(directory) as first, Index(directory) as second:
        first.add_pack(sealed("a", digests(0, 1)))
        with pytest.raises(StorageError), second.lookup() as lookup:  # noqa: PT012
            first.clear()
            lookup.has(digests(0, 1)[0])
        assert not has(second, digests(0, 1)[0])


def test_threads_share_an_index(opened):
    errors = []

    def work(letter, first):
        try:
            opened.add_pack(sealed(letter, digests(first, 200)))
            assert all(has(opened, digest) for digest in digests(first, 200))
        except Exception as error:  # noqa: BLE001 - looked at below
            errors.append(error)

    threads = [
        threading.Thread(target=work, args=(letter, number * 200))
        for number, letter in enumerate("0123456789abcdef")
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not errors
    assert opened.counts() == {"chunks": 3200, "packs": 16, "stat": 0}


# -- forks ----------------------------------------------------------------------------------------


def test_a_child_opens_an_environment_of_its_own(opened):
    opened.add_pack(sealed("a", digests(0, 10)))

    def child():
        opened.add_pack(sealed("b", digests(10, 10)))
        return [has(opened, digest) for digest in digests(0, 20)], opened._opened().process

    found, process = in_child(child)
    assert found == [True] * 20
    assert process != os.getpid() == opened._opened().process
    opened.add_pack(sealed("c", digests(20, 10)))
    assert all(has(opened, digest) for digest in digests(0, 30))


def test_a_child_may_close_what_it_inherited(opened, directory):
    opened.add_pack(sealed("a", digests(0, 1)))
    in_child(opened.close)
    assert has(opened, digests(0, 1)[0])

    def child():
        opened.close()
        with Index(directory) as own:
            return has(own, digests(0, 1)[0])

    assert in_child(child)
    assert has(opened, digests(0, 1)[0])


def test_a_fork_in_the_middle_of_a_lookup_harms_nobody(opened):
    opened.add_pack(sealed("a", digests(0, 10)))
    with opened.lookup() as lookup:
        in_child(lambda: has(opened, digests(0, 1)[0]))
        opened.add_pack(sealed("b", digests(10, 10)))
        assert not lookup.has(digests(10, 1)[0])
        assert all(lookup.has(digest) for digest in digests(0, 10))


def test_a_lock_that_another_thread_held_at_the_fork_does_not_hang_the_child(opened):
    with Environment._lock:
        assert not in_child(lambda: has(opened, chunk_digest(b"a")))


# -- damaged files --------------------------------------------------------------------------------


@pytest.fixture
def files(directory):
    with Index(directory) as opened:
        for number, letter in enumerate("abc"):
            opened.add_pack(sealed(letter, digests(number * 300, 300)))
        opened.stat_update([(b"key", bytes(10_000))], ())
    return directory


def works(directory):
    """Whether it opens and takes packs; returns whether it was made anew."""
    with Index(directory) as opened:
        opened.add_pack(sealed("f", digests(5000, 100)))
        assert all(has(opened, digest) for digest in digests(5000, 100))
        found = sum(has(opened, digest) for digest in digests(0, 900))
        assert found == (0 if opened.created else 900)
        return opened.created


def test_a_deleted_index_is_made_anew(files):
    shutil.rmtree(files)
    assert works(files)


@pytest.mark.parametrize("name", ["data.mdb", "lock.mdb"])
def test_a_deleted_file_is_made_anew(files, name):
    (files / name).unlink()
    assert works(files) == (name == "data.mdb")


def test_an_index_cut_at_any_page_works(files, tmp_path):
    size = (files / "data.mdb").stat().st_size
    new = 0
    for number, length in enumerate(range(0, size, PAGE)):
        copy = tmp_path / f"copy {number}"
        shutil.copytree(files, copy)
        os.truncate(copy / "data.mdb", length)
        new += works(copy)
    # Where only pages are lost that nobody needs, the rest is still good.
    assert size // PAGE - new < 6


@pytest.mark.parametrize("length", [1, 100, PAGE - 1, PAGE + 1, 2 * PAGE + 17])
def test_an_index_cut_in_a_page_works(files, length):
    os.truncate(files / "data.mdb", length)
    assert works(files)


@pytest.mark.parametrize(
    "content",
    [b"", b"garbage", bytes(100_000), random.Random(1).randbytes(100_000)],
    ids=["nothing", "a word", "zeros", "noise"],
)
def test_an_index_of_other_content_is_made_anew(files, content):
    (files / "data.mdb").write_bytes(content)
    assert works(files)


def test_an_index_with_noise_behind_its_head_is_made_anew(files):
    data = (files / "data.mdb").read_bytes()
    noise = random.Random(1).randbytes(len(data) - 2 * PAGE)
    (files / "data.mdb").write_bytes(data[: 2 * PAGE] + noise)
    assert works(files)


@pytest.mark.parametrize("schema", [b"0", b"2", b""])
def test_an_index_of_another_schema_is_made_anew(files, monkeypatch, schema):
    with monkeypatch.context() as patch:
        patch.setattr(index, "SCHEMA", schema)
        with Index(files) as opened:
            assert opened.created
    assert works(files)
    assert SCHEMA == b"1"


def test_an_index_that_is_damaged_under_another_is_made_anew_for_both(files):
    with Index(files) as first:
        os.truncate(files / "data.mdb", PAGE)
        with Index(files) as second:
            assert second.created
            second.add_pack(sealed("f", digests(5000, 1)))
            assert has(first, digests(5000, 1)[0])


def test_clearing_heals_what_cannot_be_read(files):
    """Emptying the tables page by page would meet the damage; the files are replaced."""
    data = bytearray((files / "data.mdb").read_bytes())
    rng = random.Random(5)
    for page in range(2, len(data) // PAGE):
        data[page * PAGE : page * PAGE + 64] = rng.randbytes(64)
    with Index(files) as opened:
        (files / "data.mdb").write_bytes(data)
        opened.clear()
    assert not works_after_clear(files)


def works_after_clear(directory):
    with Index(directory) as opened:
        opened.add_pack(sealed("f", digests(5000, 100)))
        assert all(has(opened, digest) for digest in digests(5000, 100))
        return opened.created


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(150))
def test_damage_anywhere_is_an_error_and_not_a_crash(files, seed):
    """In a child process: LMDB itself is what could crash."""
    rng = random.Random(seed)
    data = bytearray((files / "data.mdb").read_bytes())
    page = rng.randrange(len(data) // PAGE) * PAGE
    if seed % 3:
        data[page + rng.randrange(64)] ^= 1 << rng.randrange(8)
    else:
        data[page : page + PAGE] = rng.choice([bytes(PAGE), rng.randbytes(PAGE)])
    (files / "data.mdb").write_bytes(data)

    def child():
        try:
            with Index(files) as opened:
                opened.add_pack(sealed("f", digests(5000, 100)))
                for digest in digests(0, 900):
                    find(opened, digest)
                opened.packs()
        except StorageError as error:
            assert "rebuild-index" in error.hint
        with Index(files) as opened:
            opened.clear()
            assert opened.counts()["chunks"] == 0
        return works_after_clear(files)

    assert not in_child(child)


# -- what is not damage ----------------------------------------------------------------------------


@pytest.mark.parametrize("error", [lmdb.MemoryError, lmdb.ReadersFullError, lmdb.LockError])
def test_an_index_is_not_thrown_away_for_another_reason(files, monkeypatch, error):
    def fail(*args, **kwargs):
        raise error("not now")

    before = (files / "data.mdb").read_bytes()
    with monkeypatch.context() as patch:
        patch.setattr(environment.lmdb, "open", fail)
        with pytest.raises(StorageError, match="not now") as caught:
            Index(files)
    assert "rebuild-index" in caught.value.hint
    assert (files / "data.mdb").read_bytes() == before
    assert not works(files)


def test_a_file_in_the_place_of_the_directory(tmp_path):
    (tmp_path / "index").write_bytes(b"")
    with pytest.raises(StorageError, match="cannot use"):
        Index(tmp_path / "index")


def test_a_directory_in_the_place_of_the_file(tmp_path):
    (tmp_path / "index" / "data.mdb").mkdir(parents=True)
    with pytest.raises(StorageError, match="cannot use"):
        Index(tmp_path / "index")


def test_a_directory_that_vanished(directory):
    with Index(directory):
        pass
    opened = Index(directory)
    opened.close()
    shutil.rmtree(directory)
    with pytest.raises(StorageError, match="No such file"):
        opened.counts()


def test_a_full_disk_is_a_storage_error(opened, monkeypatch):
    class Full:
        def begin(self, *args, **kwargs):
            raise lmdb.DiskError(os.strerror(errno.ENOSPC))

    monkeypatch.setattr(opened._opened(), "env", Full())
    with pytest.raises(StorageError, match="No space left"):
        opened.add_pack(sealed("a", digests(0, 1)))
    with pytest.raises(StorageError, match="No space left"):
        opened.stat_update([(b"a", b"b")], ())
    monkeypatch.undo()
