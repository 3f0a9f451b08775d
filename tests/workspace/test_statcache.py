"""The stat cache: what it vouches for, and that it vouches for nothing when in doubt."""

from __future__ import annotations

import os

import pytest

from datastore.objects.index import Index
from datastore.workspace.statcache import (
    COARSE_MARGIN,
    RACY_MARGIN,
    STALE,
    CacheDamagedError,
    Row,
    Snapshot,
    StatCache,
    compress,
    identity_of,
    is_racy,
    pack_rows,
    settled,
    summarize,
    unpack_rows,
)

ROOT = b"\1" * 32
OTHER = b"\2" * 32
OLD = 1_700_000_000_123_456_789
NOW = OLD + 60_000_000_000


def row(name, *, size=1, mtime=OLD, ctime=OLD):
    return Row(name, 0o100644, 4711, size, mtime, ctime)


@pytest.fixture
def index(tmp_path):
    opened = Index(tmp_path / "index")
    yield opened
    opened.close()


@pytest.fixture
def cache(index):
    return StatCache(index, "workspace\0images")


def summary(rows):
    return summarize(pack_rows(rows))


ROWS = [row("a"), row("b\u00e9"), row(os.fsdecode(b"bad\xff"))]


# -- rows ------------------------------------------------------------------------------------------


def test_rows_come_back():
    assert unpack_rows(compress(pack_rows(ROWS))) == ROWS
    assert unpack_rows(compress(pack_rows([]))) == []


@pytest.mark.parametrize("damage", [b"", b"garbage", b"\x28\xb5\x2f\xfd garbage"])
def test_what_is_no_row(damage):
    with pytest.raises(CacheDamagedError):
        unpack_rows(damage)
    with pytest.raises(CacheDamagedError):
        unpack_rows(compress(b"\xc1"))
    with pytest.raises(CacheDamagedError):
        unpack_rows(compress(pack_rows([row("a")[:3]])))


@pytest.mark.parametrize(
    "other",
    [
        [row("a"), row("b\u00e9")],
        [*ROWS[:2], row("c")],
        [*ROWS[:2], ROWS[2]._replace(size=2)],
        [*ROWS[:2], ROWS[2]._replace(mode=0o100755)],
        [*ROWS[:2], ROWS[2]._replace(inode=1)],
        [*ROWS[:2], ROWS[2]._replace(mtime_ns=OLD + 1)],
        [*ROWS[:2], ROWS[2]._replace(ctime_ns=OLD + 1)],
    ],
)
def test_every_field_counts(other):
    assert summary(ROWS) != summary(other)
    assert summary(ROWS) == summary(list(ROWS))


@pytest.mark.parametrize(
    ("mtime", "ctime", "captured", "racy"),
    [
        (OLD, OLD, OLD, True),
        (OLD, OLD, OLD + RACY_MARGIN, True),
        (OLD, OLD, OLD + RACY_MARGIN + 1, False),
        (OLD - 10**12, OLD, OLD + RACY_MARGIN, True),  # a restored mtime helps nobody
        (OLD, OLD - 10**12, OLD + RACY_MARGIN, True),
        (OLD + 10**12, OLD, NOW, True),  # from the future
        (10**18, 10**18, 10**18 + COARSE_MARGIN, True),  # whole seconds
        (10**18, 10**18, 10**18 + COARSE_MARGIN + 1, False),
        (0, 0, NOW, False),
    ],
)
def test_a_young_file_is_not_trusted(mtime, ctime, captured, racy):
    young = row("a", mtime=mtime, ctime=ctime)
    assert is_racy(young, captured) is racy
    (kept,) = settled([young], captured)
    assert kept == (young._replace(mtime_ns=STALE) if racy else young)


# -- records ---------------------------------------------------------------------------------------


def test_nothing_is_known_at_first(cache):
    assert cache.root is None
    assert cache.directories() == set()
    assert cache.read(identity_of("")) is None
    assert not cache.matches("", summary([]))
    assert cache.announced() == []


def test_what_was_saved_is_known(cache, index):
    snapshots = [
        Snapshot("", tuple(ROWS)),
        Snapshot("sub/\u00e9", (row("c"),)),
        Snapshot("empty", ()),
    ]
    cache.save(ROOT, snapshots, ())
    for each in (cache, StatCache(index, "workspace\0images")):
        assert each.root == ROOT
        assert each.directories() == {identity_of(path) for path in ("", "sub/\u00e9", "empty")}
        assert each.matches("", summary(ROWS))
        assert each.matches("empty", summary([]))
        assert not each.matches("", summary(ROWS[:2]))
        assert not each.matches("sub", summary([row("c")]))
        for snapshot in snapshots:
            assert each.read(identity_of(snapshot.directory)) == snapshot


def test_a_stale_row_lets_nothing_match(cache):
    stale = (row("a"), row("b")._replace(mtime_ns=STALE))
    cache.save(ROOT, [Snapshot("", stale)], ())
    assert not cache.matches("", summary(stale))
    assert cache.read(identity_of("")).rows == stale


def test_records_are_replaced_and_dropped(cache, index):
    cache.save(ROOT, [Snapshot("", (row("a"),)), Snapshot("b", (row("c"),))], ())
    cache.save(OTHER, [Snapshot("", (row("z"),))], [identity_of("b"), identity_of("never")])
    again = StatCache(index, "workspace\0images")
    assert again.root == OTHER
    assert again.directories() == {identity_of("")}
    assert again.read(identity_of("")).rows == (row("z"),)
    assert again.read(identity_of("b")) is None


def test_a_large_directory_is_cut_into_slices(cache, index):
    rows = tuple(
        Row(os.urandom(40).hex(), 0o100644, number, number, OLD + number, OLD)
        for number in range(3000)
    )
    cache.save(ROOT, [Snapshot("", rows), Snapshot("b", (row("c"),))], ())
    again = StatCache(index, "workspace\0images")
    assert again.read(identity_of("")).rows == rows
    again.save(ROOT, [Snapshot("", rows[:1])], ())
    assert again.read(identity_of("")).rows == rows[:1]
    assert again.read(identity_of("b")).rows == (row("c"),)


def test_each_path_has_its_own(index):
    one, two = StatCache(index, "workspace\0one"), StatCache(index, "workspace\0two")
    one.save(ROOT, [Snapshot("", (row("a"),))], ())
    two.save(OTHER, [Snapshot("", (row("b"),))], ())
    assert StatCache(index, "workspace\0one").read(identity_of("")).rows == (row("a"),)
    one.forget()
    assert StatCache(index, "workspace\0one").root is None
    assert StatCache(index, "workspace\0two").root == OTHER


def test_forgetting(cache, index):
    cache.save(ROOT, [Snapshot("", (row("a"),))], ())
    cache.announce(OTHER)
    cache.forget()
    for each in (cache, StatCache(index, "workspace\0images")):
        assert each.root is None
        assert each.directories() == set()
        assert each.announced() == [OTHER]  # half of it may lie on disk


def test_what_is_on_its_way(cache, index):
    cache.announce(ROOT)
    cache.announce(OTHER)
    cache.announce(ROOT)
    assert StatCache(index, "workspace\0images").announced() == [OTHER, ROOT]
    cache.save(ROOT, [], ())
    assert cache.announced() == [OTHER, ROOT]
    cache.save(ROOT, [], (), arrived=True)
    assert cache.announced() == []


def test_two_that_save_at_once(index):
    one, two = StatCache(index, "same"), StatCache(index, "same")
    one.save(ROOT, [Snapshot("", (row("a"),))], ())
    two.save(OTHER, [Snapshot("b", (row("b"),))], ())
    # A mixture of both would be wrong; the first stands.
    for each in (two, StatCache(index, "same")):
        assert each.root == ROOT
        assert each.directories() == {identity_of("")}


# -- damage ----------------------------------------------------------------------------------------


def stored(index):
    """All rows of the stat cache in the index."""
    return index.stat_scan(b"", b"\xff" * 40)


def test_a_record_that_is_lost(cache, index):
    cache.save(ROOT, [Snapshot("", (row("a"),)), Snapshot("b", (row("c"),))], ())
    heads = [key for key, value in stored(index) if key[16:17] == b"h"]
    assert len(heads) == 2
    index.stat_update((), heads[:1])
    again = StatCache(index, "workspace\0images")
    assert again.root is None  # or the deletion of its files would go unseen
    assert again.directories() == set()


@pytest.mark.parametrize("damage", ["lost", "flipped", "cut", "swapped"])
def test_a_record_that_is_damaged(cache, index, damage):
    cache.save(ROOT, [Snapshot("", (row("a"),)), Snapshot("b", (row("c"),))], ())
    slices = [(key, value) for key, value in stored(index) if key[16:17] == b"s"]
    for (key, value), (_, other) in zip(slices, slices[::-1], strict=True):
        changed = {
            "flipped": bytes([value[0] ^ 1]) + value[1:],
            "cut": value[:-1],
            "swapped": other,
        }
        index.stat_update(
            [(key, changed[damage])] if damage in changed else [], [key] * (damage == "lost")
        )
    again = StatCache(index, "workspace\0images")
    for path in ("", "b"):
        with pytest.raises(CacheDamagedError):
            again.read(identity_of(path))


def test_saving_heals_what_could_not_be_trusted(cache, index):
    cache.save(ROOT, [Snapshot("", (row("a"),)), Snapshot("b", (row("c"),))], ())
    index.stat_update((), [key for key, _ in stored(index) if key[16:17] == b"h"][:1])
    again = StatCache(index, "workspace\0images")
    again.save(OTHER, [Snapshot("", (row("z"),))], ())
    healed = StatCache(index, "workspace\0images")
    assert healed.root == OTHER
    assert healed.directories() == {identity_of("")}
