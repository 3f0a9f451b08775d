"""A store is a dictionary: whatever is put, given up, reopened or rebuilt, and in which order."""

from __future__ import annotations

import shutil
import tempfile
from pathlib import Path

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from datastore.errors import NotFoundError
from datastore.kernel.hashing import chunk_digest, node_digest
from datastore.objects import packer, session
from datastore.objects.pack import Kind
from datastore.objects.store import ObjectStore
from datastore.storage.local import TEMPORARY_PREFIX
from tests.kernel.samples import noise, text

DATA = st.one_of(
    st.binary(max_size=20),
    st.integers(0, 30).map(lambda number: b"label %d" % number),
    st.integers(1, 2000).map(noise),
    st.integers(1, 2000).map(text),
    st.integers(0, 5).map(lambda number: b"\xff\xd8\xff" + noise(300, str(number))),
)
TIMES = st.integers(1, 12)


class StoreMachine(RuleBasedStateMachine):
    """`kept` must be there, `open` will be after the commit, `doubtful` may be there or not."""

    def __init__(self):
        super().__init__()
        self.patch = pytest.MonkeyPatch()
        # Small enough for a session to fill blocks and seal packs.
        self.patch.setattr(session, "BLOCK_TARGET", 500)
        self.patch.setattr(session, "_LOOKUPS_PER_TRANSACTION", 3)
        self.patch.setattr(packer, "_TARGETS", {Kind.DATA: 2500, Kind.META: 1500})
        self.place = tempfile.TemporaryDirectory()
        self.directory = Path(self.place.name) / "store"
        self.store = ObjectStore(self.directory)
        self.session = None
        self.kept = {}
        self.open = {}
        self.doubtful = {}

    def teardown(self):
        if self.session is not None:
            self.session.__exit__(None, None, None)
        self.store.close()
        self.place.cleanup()
        self.patch.undo()

    # -- writing ----------------------------------------------------------------------------------

    @precondition(lambda self: self.session is None)
    @rule(threads=st.integers(1, 2))
    def begin(self, threads):
        self.session = self.store.session(threads=threads)

    @precondition(lambda self: self.session is not None)
    @rule(data=DATA)
    def put_chunk(self, data):
        digest = self.session.put_chunk(data)
        assert digest == chunk_digest(data)
        self.open[Kind.DATA, digest] = data

    @precondition(lambda self: self.session is not None)
    @rule(data=DATA)
    def put_node(self, data):
        digest = self.session.put_node(data)
        assert digest == node_digest(data)
        self.open[Kind.META, digest] = data

    @precondition(lambda self: self.session is not None)
    @rule(first=st.integers(0, 50), count=TIMES)
    def put_many(self, first, count):
        for number in range(first, first + count):
            self.put_chunk(noise(700, str(number)))
            self.put_node(noise(200, str(number)))

    @precondition(lambda self: self.session is not None)
    @rule()
    def commit(self):
        self.session.commit()
        self.session = None
        self.kept |= self.open
        self.open = {}

    @precondition(lambda self: self.session is not None)
    @rule()
    def give_up(self):
        self.session.__exit__(None, None, None)
        self.session = None
        self.doubtful |= self.open
        self.open = {}

    # -- what may happen in between ---------------------------------------------------------------

    @precondition(lambda self: self.session is None)
    @rule(ruin=st.sampled_from(["nothing", "delete", "truncate", "garbage"]))
    def reopen(self, ruin):
        self.store.close()
        index = self.directory / "index"
        if ruin == "delete":
            shutil.rmtree(index)
        elif ruin == "truncate":
            data = (index / "data.mdb").read_bytes()
            (index / "data.mdb").write_bytes(data[: len(data) // 2])
        elif ruin == "garbage":
            (index / "data.mdb").write_bytes(noise(20_000))
        self.store = ObjectStore(self.directory)

    @precondition(lambda self: self.session is None)
    @rule()
    def rebuild(self):
        self.store.clear_index()
        assert self.store.refresh().damaged == ()

    @rule()
    def check_packs(self):
        self.store.check_packs()

    @rule()
    def another_writes(self):
        """What somebody else stores at the same time is stored twice at worst."""
        with ObjectStore(self.directory) as other, other.session() as opened:
            for data in list(self.open.values())[:3]:
                self.kept[Kind.DATA, opened.put_chunk(data)] = data
            opened.commit()

    # -- reading ----------------------------------------------------------------------------------

    def read(self, kind, digest):
        if kind is Kind.DATA:
            return self.store.get_chunk(digest)
        return self.store.read_nodes([digest])[0]

    @invariant()
    def all_that_was_committed_is_there(self):
        chunks = [digest for kind, digest in self.kept if kind is Kind.DATA]
        nodes = [digest for kind, digest in self.kept if kind is Kind.META]
        found = {(Kind.DATA, digest): data for digest, data in self.store.read_chunks(chunks)}
        read = zip(nodes, self.store.read_nodes(nodes), strict=True)
        found |= {(Kind.META, digest): data for digest, data in read}
        assert found == self.kept
        assert self.store.missing(chunks + nodes) == []

    @invariant()
    def what_was_given_up_is_right_or_not_there(self):
        for (kind, digest), data in self.doubtful.items():
            try:
                assert self.read(kind, digest) == data
            except NotFoundError:
                assert (kind, digest) not in self.kept

    @invariant()
    def what_was_never_put_is_not_there(self):
        assert not self.store.has(chunk_digest(b"never"))

    @precondition(lambda self: self.session is None)
    @invariant()
    def nothing_is_left_over(self):
        assert not [path for path in self.directory.rglob("*") if TEMPORARY_PREFIX in path.name]


TestStoreMachine = StoreMachine.TestCase
TestStoreMachine.settings = settings(max_examples=25, stateful_step_count=25, deadline=None)


@pytest.mark.slow
class TestStoreMachineForLong(StoreMachine.TestCase):
    settings = settings(max_examples=300, stateful_step_count=60, deadline=None)
