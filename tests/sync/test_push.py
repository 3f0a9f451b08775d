"""A push: what it sends, in which order, and what is left when it is stopped anywhere."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from datastore.errors import CorruptionError, StorageError
from datastore.kernel.hashing import chunk_digest, format_digest
from datastore.objects.pack import pack_path
from datastore.sync import push as push_module
from datastore.sync.keys import MARKER, parse_root_key
from datastore.sync.push import WINDOW
from datastore.sync.survey import Version
from tests.kernel.samples import noise
from tests.sync.bucket import Bucket, Client, Request, Stop
from tests.sync.clones import Clone, Files, pulled_afresh

ONE: Files = {"a.txt": b"alpha", "b.bin": noise(300_000, "b"), "c.jpg": b"\xff\xd8" + noise(900)}
TWO: Files = ONE | {"a.txt": b"another", "d.txt": b"delta"}


def acknowledged(bucket: Bucket) -> set[bytes]:
    found = (parse_root_key(key) for key in bucket.keys("roots/"))
    return {root for root in found if root is not None}


def check_roots(bucket: Bucket, directory, expected: dict[bytes, Files]) -> None:
    """Every acknowledged root can be pulled byte for byte by somebody who has nothing."""
    for root in acknowledged(bucket):
        assert pulled_afresh(bucket, directory, root) == expected[root]


# -- what is sent --------------------------------------------------------------------------------


def test_order_of_what_is_sent(clone, bucket):
    client = Client(bucket)
    result = clone.push(clone.version(ONE, rev="abc"), storage=client)
    order = [f"{verb} {key.split('/')[0]}" for verb, key in client.seen]
    writes = [each for each in order if each.startswith(("write", "create"))]
    assert writes == [
        "create datastore.json",
        *["write packs"] * 2,
        *["write index"] * 2,
        "write roots",
    ]
    # The last look stands between index and root, and looks at the tombstones first.
    looks = order[order.index("write index") + 2 : order.index("write roots")]
    assert looks[0] == "list gc"
    assert result.packs == 2
    assert [each.rev for each in result.roots] == ["abc"]
    assert (result.known, result.healed, result.absent) == (0, (), ())


def test_data_goes_before_what_leads_to_it(clone, bucket):
    client = Client(bucket)
    clone.push(clone.version(ONE), storage=client)
    sent = [key for verb, key in client.seen if verb == "write" and key.startswith("packs/")]
    kinds = [bucket.objects[key][10] for key in sent]
    assert kinds == sorted(kinds) == [1, 2]


def test_tombstones_are_listed_before_packs_are_looked_for(clone, bucket):
    clone.push(clone.version(ONE))
    client = Client(bucket)
    clone.push(clone.version(TWO), storage=client)
    tombs = client.seen.index(Request("list", "gc/tomb/"))
    looks = [
        at
        for at, (verb, key) in enumerate(client.seen)
        if (verb in {"list", "size"}) and key.startswith("packs/")
    ]
    assert looks
    assert min(looks) > tombs
    assert max(looks) < client.seen.index(
        next(each for each in client.seen if each.key.startswith("roots/") and each.verb == "write")
    )


def test_a_second_version_sends_only_what_is_new(clone, bucket, pull_afresh):
    one = clone.version(ONE)
    first = clone.push(one)
    two = clone.version(TWO)
    client = Client(bucket)
    second = clone.push(two, one, storage=client)
    assert first.requests <= 10 + first.packs
    assert second.requests <= 12
    assert second.packs == client.count("write", "packs/") == 2
    assert second.bytes < 20_000 < first.bytes
    assert (second.known, len(second.roots)) == (1, 1)
    assert pull_afresh(two.root) == TWO


def test_a_push_of_what_is_there_takes_two_requests(clone, bucket):
    one = clone.version(ONE)
    clone.push(one)
    client = Client(bucket)
    result = clone.push(one, storage=client)
    assert len(client.seen) == result.requests == 2
    assert (result.known, result.roots, result.packs, result.bytes) == (1, (), 0, 0)


def test_what_another_clone_sent_is_not_sent_again(new_clone):
    first, second = new_clone("one"), new_clone("two")
    first.push(first.version(ONE), first.version(TWO))
    result = second.push(second.version(TWO), second.version(ONE | {"a.txt": b"another"}))
    assert (len(result.roots), result.known) == (1, 1)
    assert result.packs == 1  # the leaf is another one; chunks are all there


def test_every_version_of_a_history_is_sent(clone, pull_afresh):
    contents = [ONE | {"n.txt": b"%d" % number} for number in range(4)]
    versions = [clone.version(each) for each in contents]
    result = clone.push(*reversed(versions))
    assert len(result.roots) == 4
    for version, content in zip(versions, contents, strict=True):
        assert pull_afresh(version.root) == content


def test_a_version_that_several_commits_name_is_acknowledged_once(clone, bucket):
    version = clone.version(ONE)
    again = version._replace(path="labels", rev="other")
    result = clone.push(version, again)
    assert len(result.roots) == 1
    assert len(bucket.keys("roots/")) == 1


def test_an_empty_version(clone, pull_afresh):
    version = clone.version({})
    assert len(clone.push(version).roots) == 1
    assert pull_afresh(version.root) == {}


def test_nothing_to_push(clone, bucket):
    result = clone.push()
    assert (result.roots, result.known, result.packs) == ((), 0, 0)
    assert bucket.keys() == [MARKER]


# -- stopping anywhere ---------------------------------------------------------------------------


def requests_of_a_push(new_clone, name: str) -> int:
    trial = new_clone(name)
    trial.bucket = Bucket()
    client = Client(trial.bucket)
    trial.push(trial.version(ONE), storage=client)
    two = trial.version(TWO)
    client = Client(trial.bucket)
    trial.push(two, storage=client)
    return len(client.seen)


@pytest.mark.parametrize("moment", ["before", "after"])
@pytest.mark.parametrize("first", [True, False])
def test_a_push_that_stops_anywhere_is_completed_by_the_next(
    new_clone, bucket, tmp_path, moment, first
):
    """Whether the request that fails was carried out or not, and in whatever state it finds."""
    clone = new_clone()
    one, two = clone.version(ONE), clone.version(TWO)
    expected = {one.root: ONE, two.root: TWO}
    for number in range(100):
        bucket.objects.clear()
        for path in sorted(clone.known.rglob("*")):
            if path.is_file():
                path.unlink()
        if not first:
            clone.push(one)
        versions = (two, one) if not first else (one,)
        stop = Stop(number)
        sent: list[str] = []
        client = Client(bucket, **{moment: stop})
        try:
            clone.push(*versions, storage=client)
        except StorageError as error:
            assert "stopped" in str(error)
        check_roots(bucket, tmp_path / "fresh", expected)
        finished = clone.known.joinpath("uploaded")
        sent = finished.read_text().split() if finished.exists() else []
        again = Client(bucket)
        result = clone.push(*versions, storage=again)
        assert acknowledged(bucket) == {each.root for each in versions}
        check_roots(bucket, tmp_path / "fresh", expected)
        sent_again = {key for verb, key in again.seen if verb == "write" and "packs/" in key}
        assert not sent_again & {f"packs/{name[:2]}/{name}.pack" for name in sent}
        assert result.packs == len(sent_again)
        if not stop.reached:
            assert number > 8
            return
    raise AssertionError("the push never ended")


def test_a_finished_pack_is_not_sent_twice(clone, bucket):
    """The index did not get there: only the journal knows of the packs."""
    version = clone.version(ONE)

    def refuse(request: Request) -> None:
        if request == Request("write", request.key) and request.key.startswith("index/"):
            raise StorageError("the index is refused")

    with pytest.raises(StorageError, match="refused"):
        clone.push(version, storage=Client(bucket, before=refuse))
    assert len(bucket.packs) == 2
    client = Client(bucket)
    result = clone.push(version, storage=client)
    assert client.count("write", "packs/") == 0
    assert (result.packs, len(result.roots)) == (0, 1)
    assert not (clone.known / "uploaded").exists()


def test_a_pack_that_the_journal_names_and_that_is_gone_is_sent_again(clone, bucket, pull_afresh):
    version = clone.version(ONE)
    with pytest.raises(StorageError):
        clone.push(version, storage=Client(bucket, before=refuse_at("write", "index/")))
    for key in bucket.keys("packs/"):
        del bucket.objects[key]
    clone.push(version)
    assert pull_afresh(version.root) == ONE


def refuse_at(verb: str, prefix: str) -> Callable[[Request], None]:
    def step(request: Request) -> None:
        if request.verb == verb and request.key.startswith(prefix):
            raise StorageError(f"no {verb} of {prefix}")

    return step


def test_a_pack_that_is_damaged_here_is_not_sent(clone, bucket):
    version = clone.version(ONE)
    path = next(clone.store.pack_files())
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)
    with pytest.raises((CorruptionError, StorageError)) as caught:
        clone.push(version)
    assert path.name.removesuffix(".pack") in str(caught.value)
    assert not acknowledged(bucket)
    assert path.name.removesuffix(".pack") not in bucket.packs


# -- validation ----------------------------------------------------------------------------------


def once(verb: str, prefix: str, work: Callable[[], None]) -> Callable[[Request], None]:
    """Does something at the first request of a kind."""
    done: list[Request] = []

    def step(request: Request) -> None:
        if not done and request.verb == verb and request.key.startswith(prefix):
            done.append(request)
            work()

    return step


def delete(bucket: Bucket, name: str) -> None:
    del bucket.objects[bucket.packs[name]]


def truncate(bucket: Bucket, name: str) -> None:
    key = bucket.packs[name]
    bucket.objects[key] = bucket.objects[key][:-1]


def bury(bucket: Bucket, name: str) -> None:
    bucket.objects[f"gc/tomb/{name}.json"] = b"{}"


@pytest.mark.parametrize("harm", [delete, truncate, bury])
def test_a_pack_lost_before_the_last_look_is_sent_under_a_new_name(clone, bucket, tmp_path, harm):
    one = clone.version(ONE)
    clone.push(one)
    old = set(bucket.packs)
    two = clone.version(TWO)
    expected = {one.root: ONE, two.root: TWO}
    names = sorted(old)

    def work() -> None:
        for name in names:
            harm(bucket, name)

    def no_root_yet(request: Request) -> None:
        if request.verb == "write" and request.key.startswith("roots/"):
            fresh = set(bucket.packs) - old
            assert {name.partition("-")[0] for name in old} <= {
                name.partition("-")[0] for name in fresh
            }

    client = Client(bucket, before=once("list", "gc/tomb/", work), after=no_root_yet)
    result = clone.push(two, one, storage=client)
    assert result.healed == tuple(names)
    assert client.count("list", "gc/tomb/") == 2
    # The gc ends its work: what was buried goes.
    for name in names:
        bucket.objects.pop(f"packs/{name[:2]}/{name}.pack", None)
    check_roots(bucket, tmp_path / "fresh", expected)
    assert two.root in acknowledged(bucket)


def test_a_pack_of_this_push_that_is_buried_at_once_is_sent_again(clone, bucket, pull_afresh):
    version = clone.version(ONE)

    def work() -> None:
        for name in list(bucket.packs):
            bury(bucket, name)

    client = Client(bucket, before=once("list", "gc/tomb/", work))
    result = clone.push(version, storage=client)
    assert result.packs == 4
    for key in bucket.keys("gc/tomb/"):
        delete(bucket, key[8:-5])
    assert pull_afresh(version.root) == ONE


def test_packs_that_go_on_being_lost_end_the_push(clone, bucket):
    version = clone.version(ONE)

    def work(request: Request) -> None:
        if request == Request("list", "gc/tomb/"):
            for name in list(bucket.packs):
                bury(bucket, name)

    with pytest.raises(StorageError, match="keeps losing"):
        clone.push(version, storage=Client(bucket, before=work))
    assert not acknowledged(bucket)


class Clock:
    """Stands still but when told to go on."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def test_roots_that_took_too_long_are_validated_again(clone, bucket, pull_afresh):
    version = clone.version(ONE)
    clock = Clock()
    late = once("write", "roots/", lambda: setattr(clock, "now", clock.now + WINDOW + 1))
    client = Client(bucket, before=late)
    result = clone.push(version, storage=client, clock=clock)
    assert client.count("list", "gc/tomb/") == 2
    assert len(result.roots) == 1
    assert pull_afresh(version.root) == ONE


def test_no_root_is_written_once_the_window_is_over(clone, bucket):
    """Nobody may take it for true later, should this process not live to look again."""
    version = clone.version(ONE)
    clock = Clock()
    slept = once("size", "packs/", lambda: setattr(clock, "now", clock.now + WINDOW + 1))
    clone.push(version)
    two = clone.version(TWO)
    client = Client(bucket, after=slept)
    clone.push(two, storage=client, clock=clock)
    order = [each for each in client.seen if each.key.startswith(("gc/", "roots/"))]
    assert [each.verb for each in order] == ["list", "list", "list", "write"]


def test_packs_that_were_sent_long_ago_are_looked_for(clone, bucket, pull_afresh):
    """An upload of weeks: what it sent first may have been buried, deleted and forgotten."""
    version = clone.version(ONE)
    clock = Clock()

    def long_after() -> None:
        clock.now += 10 * 24 * 3600
        for name in list(bucket.packs):
            delete(bucket, name)

    client = Client(bucket, before=once("list", "gc/tomb/", long_after))
    result = clone.push(version, storage=client, clock=clock)
    assert len(result.roots) == 1
    assert pull_afresh(version.root) == ONE


# -- what is not here ----------------------------------------------------------------------------


def drop_chunk(clone: Clone, data: bytes) -> None:
    """Takes the pack with a chunk out of the store."""
    (found,) = clone.store.places([chunk_digest(data)])
    assert found is not None
    row = next(row for row in clone.store.index.packs() if row.number == found.pack)
    clone.store.evict([row.name])


def test_a_version_that_is_absent_does_not_keep_back_others(clone, bucket, tmp_path):
    lost = clone.version({"lost.txt": b"only in this one"}, rev="1")
    sharing = clone.version({"lost.txt": b"only in this one", "more": b"more"}, rev="2")
    whole = clone.version(ONE, rev="3")
    drop_chunk(clone, b"only in this one")
    result = clone.push(whole, sharing, lost)
    assert [each.rev for each in result.roots] == ["3"]
    assert sorted(each.rev for each in result.absent) == ["1", "2"]
    assert acknowledged(bucket) == {whole.root}
    check_roots(bucket, tmp_path / "fresh", {whole.root: ONE})


def test_a_version_of_which_nothing_is_here(clone, bucket):
    unknown = Version("images", "1", bytes(32))
    whole = clone.version(ONE, rev="2")
    result = clone.push(whole, unknown)
    assert [each.root for each in result.absent] == [format_digest(bytes(32))]
    assert acknowledged(bucket) == {whole.root}


def test_all_names_of_an_absent_version_are_told(clone, bucket):
    lost = clone.version({"lost.txt": b"gone"}, rev="1")
    drop_chunk(clone, b"gone")
    result = clone.push(lost, lost._replace(path="other", rev="2"))
    assert result.roots == ()
    assert len(result.absent) == 2
    assert not acknowledged(bucket)


def test_what_is_absent_here_may_be_there(new_clone, bucket, pull_afresh):
    """A clone that has only what differs can push, as the remote has the rest."""
    first, second = new_clone("one"), new_clone("two")
    one = first.version(ONE)
    first.push(one)
    two = second.version(TWO)
    drop_chunk(second, ONE["c.jpg"])
    result = second.push(two, one)
    if not result.absent:
        assert pull_afresh(two.root) == TWO
    assert bucket.packs


# -- healing -------------------------------------------------------------------------------------


@pytest.mark.parametrize("harm", [delete, truncate, bury])
def test_verify_heals(new_clone, bucket, tmp_path, harm):
    clone, other = new_clone("one"), new_clone("two")
    one, two = clone.version(ONE), clone.version(TWO)
    clone.push(two, one)
    other.version(TWO)
    other.version(ONE)
    names = sorted(bucket.packs)
    for name in names:
        harm(bucket, name)
    result = other.push(two, one, verify=True)
    assert result.healed == tuple(names)
    for name in names:
        bucket.objects.pop(f"packs/{name[:2]}/{name}.pack", None)
    check_roots(bucket, tmp_path / "fresh", {one.root: ONE, two.root: TWO})
    assert len(acknowledged(bucket)) == 2


def test_verify_where_nothing_is_wrong_sends_nothing(clone, bucket):
    version = clone.version(ONE)
    clone.push(version)
    before = dict(bucket.objects)
    result = clone.push(version, verify=True)
    assert (result.packs, result.healed, result.roots, result.known) == (0, (), (), 1)
    assert bucket.objects == before


def test_verify_tells_what_cannot_be_healed(new_clone, bucket):
    clone, other = new_clone("one"), new_clone("two")
    version = clone.version(ONE)
    clone.push(version)
    for name in list(bucket.packs):
        delete(bucket, name)
    result = other.push(version, verify=True)
    assert [each.root for each in result.absent] == [format_digest(version.root)]


def test_an_index_that_was_deleted_there_is_written_again(clone, bucket, pull_afresh):
    """This clone remembers what it said; nobody else could find anything."""
    one = clone.version(ONE)
    clone.push(one)
    for key in bucket.keys("index/"):
        del bucket.objects[key]
    two = clone.version(TWO)
    result = clone.push(two, one)
    assert result.packs == 2
    assert pull_afresh(two.root) == TWO
    assert pull_afresh(one.root) == ONE


# -- listings that lag ---------------------------------------------------------------------------


@pytest.mark.parametrize("stale", [("index/",), ("roots/",), ("packs/",), ("index/", "packs/")])
@pytest.mark.parametrize("forgetful", [True, False])
def test_a_listing_that_lacks_everything_costs_only_time(clone, bucket, tmp_path, stale, forgetful):
    one = clone.version(ONE)
    clone.push(one)
    two = clone.version(TWO)
    if forgetful:
        for path in clone.known.rglob("*"):
            if path.is_file():
                path.unlink()
    client = Client(bucket)
    client.stale = stale
    result = clone.push(two, one, storage=client)
    assert result.healed == ()
    assert two.root in acknowledged(bucket)
    check_roots(bucket, tmp_path / "fresh", {one.root: ONE, two.root: TWO})


# -- two at once ---------------------------------------------------------------------------------


def test_another_push_between_any_two_requests(new_clone, bucket, tmp_path):
    """One push runs as a whole between two requests of another, wherever that is."""
    first, second = new_clone("one"), new_clone("two")
    one, two = first.version(ONE), second.version(TWO)
    expected = {one.root: ONE, two.root: TWO}
    number = 0
    while True:
        bucket.objects.clear()
        for clone in (first, second):
            for path in clone.known.rglob("*"):
                if path.is_file():
                    path.unlink()
        left = [number]

        def step(_: Request, left: list[int] = left) -> None:
            left[0] -= 1
            if left[0] == -1:
                second.push(two)

        first.push(one, storage=Client(bucket, before=step))
        if left[0] >= 0:
            break
        assert acknowledged(bucket) == {one.root, two.root}
        check_roots(bucket, tmp_path / "fresh", expected)
        number += 1
    assert number > 8


class Lockstep:
    """Lets several threads pass one at a time, in an order that is given.

    Args:
        order: Who comes next; when it is used up, whoever is there.
        count: How many there are.
    """

    def __init__(self, order: Sequence[int], count: int) -> None:
        self._order: Iterator[int] = iter(order)
        self._changed = threading.Condition()
        self._active = set(range(count))
        self._turn = self._next()

    def _next(self) -> int | None:
        for number in self._order:
            if number in self._active:
                return number
        return min(self._active, default=None)

    def step(self, who: int) -> None:
        with self._changed:
            assert self._changed.wait_for(lambda: self._turn == who, timeout=60)
            self._turn = self._next()
            self._changed.notify_all()

    def leave(self, who: int) -> None:
        with self._changed:
            self._active.discard(who)
            if self._turn == who:
                self._turn = self._next()
            self._changed.notify_all()


def push_together(clones: Sequence[Clone], versions: Sequence[Version], order: Sequence[int]):
    lockstep = Lockstep(order, len(clones))
    failures: list[BaseException] = []

    def run(who: int) -> None:
        client = Client(clones[who].bucket, before=lambda _: lockstep.step(who))
        try:
            clones[who].push(versions[who], storage=client)
        except BaseException as error:  # noqa: BLE001 - raised in the test's thread
            failures.append(error)
        finally:
            lockstep.leave(who)

    threads = [threading.Thread(target=run, args=(who,)) for who in range(len(clones))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for failure in failures:
        raise failure


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(order=st.lists(st.integers(0, 1), max_size=30))
def test_two_pushes_in_lockstep(new_clone, tmp_path, order):
    if not hasattr(new_clone, "pair"):
        first, second = new_clone("one"), new_clone("two")
        new_clone.pair = (first, second), (first.version(ONE), second.version(TWO))
    clones, versions = new_clone.pair
    bucket = Bucket()
    for clone in clones:
        clone.bucket = bucket
        for path in clone.known.rglob("*"):
            if path.is_file():
                path.unlink()
    push_together(clones, versions, order)
    assert acknowledged(bucket) == {each.root for each in versions}
    expected = {versions[0].root: ONE, versions[1].root: TWO}
    check_roots(bucket, tmp_path / "fresh", expected)


def test_two_first_pushes_make_one_remote(new_clone, bucket, tmp_path):
    """Both find nothing, and both make the marker: one wins, and both go on."""
    clones = [new_clone("one"), new_clone("two")]
    versions = [clones[0].version(ONE), clones[1].version(TWO)]
    push_together(clones, versions, [0, 1, 0, 1, 0, 1])
    assert acknowledged(bucket) == {each.root for each in versions}
    assert {(clone.known / MARKER).read_bytes() for clone in clones} == {bucket.objects[MARKER]}
    check_roots(bucket, tmp_path / "fresh", {versions[0].root: ONE, versions[1].root: TWO})


def test_the_clock_does_not_jump():
    assert push_module._uptime() <= push_module._uptime()


def test_a_pack_that_was_evicted_during_the_push(clone, bucket):
    version = clone.version(ONE)

    def evicted() -> None:
        for row in clone.store.index.packs():
            pack_path(clone.store.packs, row.name).unlink()

    result = clone.push(version, storage=Client(bucket, before=once("list", "index/", evicted)))
    assert len(result.absent) == 1
    assert not acknowledged(bucket)
