"""Edits that time stamps do not show, or hardly: same size, same mtime, the same tick of the clock.

A file system's clock ticks every few milliseconds. A file that is changed twice in one tick has the
same stat values before and after, and nothing that looks at these can tell. So the stat cache must
not believe what it saw at such a moment, and these tests make every moment one.
"""

from __future__ import annotations

import os
import random
import time

import pytest

from datastore.progress import SILENT
from datastore.workspace import ingest, scan
from datastore.workspace.statcache import COARSE_MARGIN, RACY_MARGIN
from datastore.workspace.status import examine
from tests.faults.conftest import Project

OLD = 1_600_000_000_000_000_123
SECOND = 1_000_000_000


@pytest.fixture
def tracked(empty) -> Project:
    for name in ("a", "b", "c"):
        empty.write(f"images/{name}.txt", b"one")
    with empty.open() as repository:
        repository.add("images")
    empty.commit("v1")
    return empty


@pytest.fixture
def repository(tracked):
    with tracked.open() as opened:
        yield opened


@pytest.fixture
def reads(monkeypatch):
    """Counts the files of which the content is read."""
    names: list[str] = []
    real = ingest.Ingester._content

    def content(self, descriptor, row):
        names.append(row.name)
        return real(self, descriptor, row)

    monkeypatch.setattr(ingest.Ingester, "_content", content)
    return names


def modified(repository) -> tuple[str, ...]:
    (status,) = repository.status().pointers
    return status.modified


def settle(repository) -> None:
    """Waits until time stamps can be trusted, and lets the cache learn them."""
    time.sleep(RACY_MARGIN / 1e9 + 0.05)
    repository.status()
    assert repository.status().clean


def rewrite(path, content: bytes) -> None:
    """Writes in place and puts the mtime back, as a careless tool or a restored backup does."""
    before = path.stat()
    with path.open("r+b") as file:
        file.write(content)
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = path.stat()
    assert (after.st_size, after.st_mtime_ns, after.st_ino) == (
        before.st_size,
        before.st_mtime_ns,
        before.st_ino,
    )


def test_an_edit_with_the_mtime_put_back_is_seen(tracked, repository, reads):
    settle(repository)
    reads.clear()
    assert repository.status().clean
    assert reads == []  # the cache is at work
    rewrite(tracked.top / "images/b.txt", b"two")
    assert modified(repository) == ("images/b.txt",)
    assert set(reads) == {"b.txt"}
    repository.add("images")
    assert repository.read("images/b.txt") == b"two"


def test_a_replaced_file_of_the_same_stamps_is_seen(tracked, repository):
    path = tracked.top / "images/b.txt"
    settle(repository)
    before = path.stat()
    other = tracked.write("images/.b.txt.swp", b"two")
    os.utime(other, ns=(before.st_atime_ns, before.st_mtime_ns))
    os.replace(other, path)
    assert modified(repository) == ("images/b.txt",)


def test_two_files_that_change_places_are_seen(tracked, repository):
    tracked.write("images/b.txt", b"two")
    repository.add("images")
    for name in ("a", "b"):
        os.utime(tracked.top / f"images/{name}.txt", ns=(OLD, OLD))
    settle(repository)
    first, second = tracked.top / "images/a.txt", tracked.top / "images/b.txt"
    first.rename(tracked.top / "images/x")
    second.rename(first)
    (tracked.top / "images/x").rename(second)
    assert modified(repository) == ("images/a.txt", "images/b.txt")


class OneTick:
    """A file system whose clock stands still: no stat value of a file ever changes.

    Only the size, the inode and what kind of file it is are real.
    """

    def __init__(self, monkeypatch, stamp: int) -> None:
        self.stamp = stamp
        real_scandir, real_fstat, real_row = os.scandir, os.fstat, scan.row_of

        class Entry:
            def __init__(entry, inner) -> None:  # noqa: N805 - `self` is the clock
                entry.name, entry._inner = inner.name, inner

            def stat(entry, *, follow_symlinks):  # noqa: N805 - `self` is the clock
                return self._still(entry._inner.stat(follow_symlinks=follow_symlinks))

        class Listing:
            def __init__(listing, where) -> None:  # noqa: N805 - `self` is the clock
                listing._inner = real_scandir(where)

            def __enter__(listing):  # noqa: N805 - `self` is the clock
                return (Entry(inner) for inner in listing._inner)

            def __exit__(listing, *_):  # noqa: N805 - `self` is the clock
                listing._inner.close()

        monkeypatch.setattr(scan.os, "scandir", Listing)
        monkeypatch.setattr(os, "fstat", lambda descriptor: self._still(real_fstat(descriptor)))
        monkeypatch.setattr(
            scan, "row_of", lambda name, status: real_row(name, self._still(status))
        )

    def _still(self, status):
        fields = {name: getattr(status, name) for name in dir(status) if name.startswith("st_")}
        return Still({**fields, "st_mtime_ns": self.stamp, "st_ctime_ns": self.stamp})


class Still:
    """A stat result with other time stamps."""

    def __init__(self, fields: dict) -> None:
        self.__dict__.update(fields)


@pytest.mark.parametrize("stamp", [OLD, OLD // SECOND * SECOND], ids=["fine", "whole seconds"])
@pytest.mark.parametrize("later", [0, 1, 5_000_000, RACY_MARGIN - 1, RACY_MARGIN])
def test_an_edit_in_the_tick_of_the_last_look_is_seen(
    tracked, repository, monkeypatch, stamp, later
):
    """Nothing but the content differs, and the cache was written in the same tick."""
    OneTick(monkeypatch, stamp)
    monkeypatch.setattr(scan.time, "time_ns", lambda: stamp + later)
    for round_ in range(5):
        content = b"%03d" % round_
        tracked.write("images/b.txt", content)
        repository.add("images")
        assert repository.read("images/b.txt") == content
        tracked.write("images/b.txt", b"%03d" % (round_ + 500))
        assert modified(repository) == ("images/b.txt",)
        assert modified(repository) == ("images/b.txt",)
        repository.add("images")
        assert repository.read("images/b.txt") == b"%03d" % (round_ + 500)


def test_time_stamps_in_whole_seconds_get_more_time(tracked, repository, monkeypatch):
    stamp = OLD // SECOND * SECOND
    OneTick(monkeypatch, stamp)
    monkeypatch.setattr(scan.time, "time_ns", lambda: stamp + 2 * SECOND)
    tracked.write("images/b.txt", b"two")
    repository.add("images")
    tracked.write("images/b.txt", b"six")
    assert modified(repository) == ("images/b.txt",)


@pytest.mark.parametrize("margin", [RACY_MARGIN, COARSE_MARGIN])
def test_the_tests_would_notice_a_cache_that_believes_too_much(
    tracked, repository, monkeypatch, margin
):
    stamp = OLD if margin == RACY_MARGIN else OLD // SECOND * SECOND
    OneTick(monkeypatch, stamp)
    monkeypatch.setattr(scan.time, "time_ns", lambda: stamp + margin + 1)
    tracked.write("images/b.txt", b"two")
    repository.add("images")
    tracked.write("images/b.txt", b"six")
    assert modified(repository) == ()


def trials(tracked: Project, count: int, seed: int) -> None:
    """Edits, looks and adds in quick succession, the mtime always the same."""
    chance = random.Random(seed)
    path = tracked.top / "images/b.txt"
    with tracked.open() as repository:
        dataset = repository._workspace.dataset
        task = SILENT.task("", None, "")
        content = b"000"
        for trial in range(count):
            if chance.random() < 0.3:
                repository.add("images")
            new = b"%03d" % chance.randrange(1000)
            path.write_bytes(new)
            os.utime(path, ns=(OLD, OLD))
            if chance.random() < 0.05:
                time.sleep(chance.random() * 0.02)
            examined = examine(dataset("images"), task)
            known = examined.known
            assert known is not None
            seen = examined.edits.get(b"b.txt")
            content = content if seen is None else new
            stored = repository.read("images/b.txt") if trial % 50 == 0 else None
            if stored is not None:
                assert (seen is None) == (stored == new), trial
            elif seen is None:
                assert repository.read("images/b.txt") == new, trial


def test_equal_stamps_in_quick_succession(tracked):
    trials(tracked, 150, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_equal_stamps_ten_thousand_times(tracked):
    trials(tracked, 10_000, seed=2)


def test_a_touched_file_stays_clean_and_is_cached_again(tracked, repository, reads):
    settle(repository)
    for name in ("a", "b"):
        os.utime(tracked.top / f"images/{name}.txt")
    reads.clear()
    assert repository.status().clean
    assert set(reads) == {"a.txt", "b.txt"}
    time.sleep(RACY_MARGIN / 1e9 + 0.05)
    repository.status()
    reads.clear()
    assert repository.status().clean
    assert reads == []


def test_a_checkout_is_cached_once_it_has_settled(tracked, repository, reads):
    tracked.write("images/b.txt", b"two")
    tracked.write("images/sub/d.txt", b"new")
    repository.add("images")
    tracked.commit("v2")
    for rev in ("v1", "v2", "v1"):
        repository.checkout(rev)
        time.sleep(RACY_MARGIN / 1e9 + 0.05)
        assert repository.status().clean
        reads.clear()
        assert repository.status().clean
        assert reads == []


@pytest.mark.parametrize("jump", [-(10**18), -3600 * SECOND, 3600 * SECOND, 10**18])
def test_a_clock_that_jumps(tracked, repository, monkeypatch, jump):
    """The clock is wrong when the cache is written, and right again when it is read."""
    for round_ in range(3):
        tracked.write("images/b.txt", b"%03d" % round_)
        time.sleep(0.03)  # beyond one tick: with a clock ahead no other sign is left
        real = time.time_ns
        monkeypatch.setattr(time, "time_ns", lambda: real() + jump)  # noqa: B023
        repository.add("images")
        repository.status()
        monkeypatch.undo()
        assert repository.status().clean
        time.sleep(0.03)
        rewrite(tracked.top / "images/b.txt", b"%03d" % (round_ + 500))
        assert modified(repository) == ("images/b.txt",)


@pytest.mark.parametrize("stamp", [0, 1, 2**62, 4_000_000_000 * SECOND])
def test_files_from_the_far_past_and_future(tracked, repository, stamp):
    path = tracked.top / "images/b.txt"
    os.utime(path, ns=(stamp, stamp))
    repository.add("images")
    assert repository.status().clean
    settle(repository)
    rewrite(path, b"two")
    assert modified(repository) == ("images/b.txt",)


def test_an_edit_while_a_checkout_runs(tracked, repository, monkeypatch):
    """Somebody changes a file just after it was written: no row may vouch for it."""
    from datastore.workspace.writer import Writer

    tracked.write("images/b.txt", b"two")
    repository.add("images")
    tracked.commit("v2")
    path = tracked.top / "images/b.txt"
    real = Writer.write_file

    def write_file(self, name, *arguments, **options):
        status = real(self, name, *arguments, **options)
        time.sleep(0.02)
        rewrite(path, b"own")
        return status

    monkeypatch.setattr(Writer, "write_file", write_file)
    repository.checkout("v1")
    monkeypatch.undo()
    assert modified(repository) == ("images/b.txt",)
    time.sleep(RACY_MARGIN / 1e9 + 0.05)
    assert modified(repository) == ("images/b.txt",)
    repository.add("images")
    assert repository.read("images/b.txt") == b"own"


@pytest.mark.parametrize("what", ["written", "untouched", "directory", "all"])
def test_a_removal_while_a_checkout_runs(tracked, repository, monkeypatch, what):
    """What goes meanwhile is missing afterwards, and is said to be."""
    from datastore.workspace import restoring

    tracked.write("images/sub/d.txt", b"d")
    tracked.write("images/sub/e.txt", b"e")
    repository.add("images")
    tracked.commit("v2")
    tracked.write("images/b.txt", b"two")
    repository.add("images")
    tracked.commit("v3")
    settle(repository)
    gone = {
        "written": ["images/b.txt"],
        "untouched": ["images/a.txt"],
        "directory": ["images/sub/d.txt", "images/sub/e.txt"],
        "all": ["images/a.txt", "images/b.txt", "images/c.txt"],
    }[what]
    real = restoring.remember

    def remember(*arguments, **options):
        for path in gone:
            (tracked.top / path).unlink()
        if what == "directory":
            (tracked.top / "images/sub").rmdir()
        tracked.write("images/new.txt", b"n")  # and as many come as go
        return real(*arguments, **options)

    monkeypatch.setattr(restoring, "remember", remember)
    repository.checkout("v2")
    monkeypatch.undo()
    for _ in range(3):
        (status,) = repository.status().pointers
        assert set(status.deleted) == set(gone)
        assert status.added == ("images/new.txt",)
        time.sleep(RACY_MARGIN / 1e9 + 0.05)
    repository.add("images")
    with pytest.raises(LookupError):
        repository.read(gone[0])


def test_a_status_while_an_add_runs(tracked, monkeypatch):
    """Each of them knows a state of the files; a mixture of both must not be remembered."""
    from datastore.workspace import adding

    path = tracked.top / "images/b.txt"
    with tracked.open() as one, tracked.open() as other:
        settle(one)
        path.write_bytes(b"two")
        real = adding.ingest

        def slow(*arguments, **options):
            monkeypatch.undo()
            found = real(*arguments, **options)  # holds "two"
            path.write_bytes(b"six")
            other.add("images")  # holds "six", and remembers it
            time.sleep(RACY_MARGIN / 1e9 + 0.05)
            other.status()
            return found

        monkeypatch.setattr(adding, "ingest", slow)
        one.add("images")
        stored = one.read("images/b.txt")
        assert stored in (b"two", b"six")
        assert (modified(one) == ()) == (stored == b"six")
        assert (modified(other) == ()) == (stored == b"six")
        one.add("images")
        assert one.read("images/b.txt") == b"six"
