"""Two clones, one remote, a gc and bad luck: what was acknowledged can be pulled, come what may."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from datastore.errors import StorageError
from datastore.kernel.hashing import format_digest
from datastore.objects.pack import Kind
from datastore.sync import merging
from datastore.sync.keys import parse_root_key
from datastore.sync.shard import encode_shard, shard_name
from datastore.sync.shardreader import Shard
from datastore.sync.survey import Version
from datastore.trees import files
from datastore.trees.closure import needs
from tests.sync.bucket import Bucket, Client, Request, Stop
from tests.sync.clones import Clone, Files, pulled_afresh

CLONES = st.integers(0, 1)
CONTENTS = st.dictionaries(
    st.sampled_from(["a", "b", "c/d"]), st.integers(0, 3).map(lambda n: b"%d" % n * 50), max_size=3
)
WORKS = st.sampled_from(["bury", "judge", "sweep"])
STALE = st.sampled_from([(), (), ("index/",), ("roots/",), ("packs/",), ("index/", "roots/")])


def pick(data, keys):
    """Picks one of what names that are random, and threads that race, have made: by its rank."""
    ordered = sorted(keys)
    return ordered[data.draw(st.integers(0, 99)) % len(ordered)]


class SyncMachine(RuleBasedStateMachine):
    """`promised` are the roots that a push said were on the remote."""

    def __init__(self):
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        self.patch.setattr(merging, "MOST_SHARDS", 3)
        self.place = tempfile.TemporaryDirectory()
        self.top = Path(self.place.name)
        self.bucket = Bucket()
        self.clones = [Clone(self.top / name, self.bucket) for name in ("one", "two")]
        self.versions: list[list[Version]] = [[], []]
        self.expected: dict[bytes, Files] = {}
        self.needs: dict[bytes, set[bytes]] = {}
        self.promised: set[bytes] = set()
        self.buried: set[str] = set()
        self.doomed: set[str] = set()

    def teardown(self):
        try:
            for root in self.listed():
                assert self.pulled(root) == self.expected[root]
        finally:
            for clone in self.clones:
                clone.close()
            self.place.cleanup()
            self.patch.undo()

    def listed(self) -> set[bytes]:
        """The roots that stand on the remote; whoever lists one believes it."""
        found = {parse_root_key(key) for key in self.bucket.keys("roots/")} - {None}
        assert self.promised <= found
        return found

    def pulled(self, root: bytes) -> Files:
        return pulled_afresh(self.bucket, self.top / "fresh", root)

    # -- what users do ----------------------------------------------------------------------------

    @initialize(contents=CONTENTS, other=CONTENTS)
    def begin(self, contents, other):
        self.add(0, contents)
        self.add(1, other)

    @rule(which=CLONES, contents=CONTENTS)
    def add(self, which, contents):
        version = self.clones[which].version(contents, rev=str(len(self.expected)))
        self.versions[which] = [
            version,
            *(each for each in self.versions[which] if each.root != version.root),
        ]
        self.expected[version.root] = contents
        store = self.clones[which].store
        batches = list(needs(files.load(version.root, store), store))
        chunks = {digest for batch in batches for digest, _ in batch.chunks}
        self.needs[version.root] = chunks.union(*(batch.nodes for batch in batches))

    def push(self, which: int, client: Client, *, verify: bool = False) -> None:
        versions = self.versions[which]
        result = self.clones[which].push(*versions, storage=client, verify=verify)
        absent = {each.root for each in result.absent}
        assert all(self.lacks(which, v) for v in versions if format_digest(v.root) in absent)
        assert {each.root for each in result.roots} <= {format_digest(v.root) for v in versions}
        self.promised |= {v.root for v in versions if format_digest(v.root) not in absent}

    def lacks(self, which: int, version: Version) -> bool:
        """Whether some of a version is not in a clone's store."""
        return bool(self.clones[which].store.missing(self.needs[version.root]))

    @rule(which=CLONES, stale=STALE)
    def push_all(self, which, stale):
        client = Client(self.bucket)
        client.stale = stale
        self.push(which, client)

    @rule(which=CLONES, number=st.integers(0, 25), moment=st.sampled_from(["before", "after"]))
    def push_and_stop(self, which, number, moment):
        stop = Stop(number)
        try:
            self.push(which, Client(self.bucket, **{moment: stop}))
        except StorageError:
            assert stop.reached

    @rule(number=st.integers(0, 20))
    def push_during_a_push(self, number):
        left = [number]

        def step(_: Request) -> None:
            left[0] -= 1
            if left[0] == -1:
                self.push(1, Client(self.bucket))

        self.push(0, Client(self.bucket, before=step))

    @precondition(lambda self: self.promised)
    @rule(data=st.data())
    def pull(self, data):
        root = pick(data, self.listed())
        assert self.pulled(root) == self.expected[root]

    @precondition(lambda self: self.promised)
    @rule(which=CLONES, data=st.data())
    def pull_here(self, which, data):
        root = pick(data, self.listed())
        assert self.clones[which].pull(root) == self.expected[root]
        known = {each.root for each in self.versions[which]}
        if root not in known:
            self.versions[which].append(Version("images", "pulled", root))

    @rule(which=CLONES)
    def forget(self, which):
        """What is remembered of a remote is a cache."""
        shutil.rmtree(self.clones[which].known, ignore_errors=True)

    # -- what a gc does ---------------------------------------------------------------------------

    def needed(self) -> set[str]:
        """The packs that some root needs, by what the index says."""
        wanted = set().union(*(self.needs[root] for root in self.listed()))
        shards = [
            Shard.of(key.rpartition("/")[2], self.bucket.objects[key])
            for key in self.bucket.keys("index/")
        ]
        return {
            listing.name
            for shard in shards
            for listing in shard.listings()
            if not wanted.isdisjoint(listing.digests)
        }

    def bury(self) -> None:
        for name in self.bucket.packs.keys() - self.needed():
            self.bucket.objects[f"gc/tomb/{name}.json"] = b"{}"
            self.buried.add(name)

    def judge(self) -> None:
        """After the grace period: what a root needs by now is copied before it is deleted."""
        live = self.needed()
        for name in self.buried & live & self.bucket.packs.keys():
            self.copy(name)
        self.doomed |= self.buried
        self.buried.clear()

    def sweep(self) -> None:
        for name in self.doomed:
            self.bucket.objects.pop(f"packs/{name[:2]}/{name}.pack", None)
        for name in self.doomed:
            self.bucket.objects.pop(f"gc/tomb/{name}.json", None)
        self.doomed.clear()

    @precondition(lambda self: self.bucket.packs.keys() - self.needed())
    @rule()
    def collect_bury(self):
        self.bury()

    @precondition(lambda self: self.bucket.packs.keys() - self.needed())
    @rule(which=CLONES)
    def collect_around_a_push(self, which):
        """The push comes when all is decided; it must not count on what is about to go."""
        self.bury()
        self.judge()
        self.push(which, Client(self.bucket))
        self.sweep()

    @precondition(lambda self: self.buried)
    @rule()
    def collect_judge(self):
        self.judge()

    @precondition(lambda self: self.doomed)
    @rule()
    def collect_sweep(self):
        self.sweep()

    @rule(which=CLONES, contents=CONTENTS, last=st.sampled_from(["roots/", "gc/"]))
    def leave_garbage(self, which, contents, last):
        """A push of something new that ends when all but the root is there."""
        self.add(which, contents)

        def stop(request: Request) -> None:
            if request.key.startswith(last) and (request.verb == "write" or last == "gc/"):
                raise StorageError("stopped")

        with contextlib.suppress(StorageError):
            self.push(which, Client(self.bucket, before=stop))

    @precondition(lambda self: self.bucket.packs.keys() - self.needed())
    @rule(which=CLONES, work=WORKS, number=st.integers(0, 20))
    def collect_during_a_push(self, which, work, number):
        """One step, so that between tombstone and judgement lies more than a push may take."""
        left = [number]

        def step(_: Request) -> None:
            left[0] -= 1
            if left[0] == -1:
                getattr(self, work)()

        self.push(which, Client(self.bucket, before=step))

    def copy(self, name: str) -> None:
        fresh = f"{name.partition('-')[0]}-{len(self.bucket.objects):016x}"
        key = self.bucket.packs[name]
        self.bucket.objects[f"packs/{fresh[:2]}/{fresh}.pack"] = self.bucket.objects[key]
        for at in self.bucket.keys("index/"):
            shard = Shard.of(at.rpartition("/")[2], self.bucket.objects[at])
            for listing in shard.listings({name}):
                data = encode_shard(shard.kind, [listing._replace(name=fresh)])
                named = shard_name(data, Kind(shard.kind), bytes.fromhex(fresh[-16:]))
                self.bucket.objects[f"index/{named}"] = data

    # -- bad luck ---------------------------------------------------------------------------------

    @precondition(lambda self: self.bucket.packs)
    @rule(data=st.data(), whole=st.booleans())
    def lose_a_pack_and_heal(self, data, whole):
        """Somebody deletes an object, or cuts it off; whoever has the data brings it back."""
        before = dict(self.bucket.objects)
        key = pick(data, self.bucket.packs.values())
        if whole:
            del self.bucket.objects[key]
        else:
            self.bucket.objects[key] = self.bucket.objects[key][:-1]
        here: set[bytes] = set()
        for which in (0, 1):
            self.push(which, Client(self.bucket), verify=True)
            here |= {v.root for v in self.versions[which] if not self.lacks(which, v)}
        for root in self.promised & here:
            assert self.pulled(root) == self.expected[root]
        self.bucket.objects[key] = before[key]  # others, of which nobody has the data, want it


TestSync = SyncMachine.TestCase
TestSync.settings = settings(max_examples=25, stateful_step_count=20)


@pytest.mark.slow
class TestSyncLonger(SyncMachine.TestCase):
    settings = settings(max_examples=120, stateful_step_count=30)
