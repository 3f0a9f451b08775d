"""Every single-bit flip and every cut of a small store: the right bytes or an error, and a report.

The quick tests take samples, the slow ones everything.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator

import pytest

from datastore.errors import DatastoreError
from datastore.kernel.hashing import node_digest
from datastore.maintenance import Verifier, rebuild_index
from datastore.objects.store import ObjectStore
from datastore.progress import SILENT
from tests.kernel.samples import noise, text
from tests.objects.stores import labels, put

CHUNKS = [*labels(0, 10), noise(200), b"\xff\xd8\xff" + noise(150), text(700)]
NODES = [b"node %d" % number for number in range(4)]


@pytest.fixture
def small(store) -> dict[bytes, bytes]:
    """What a store of two packs holds, by digest; together they have less than 3 KB."""
    digests = put(store, CHUNKS, NODES)
    packs = list(store.pack_files())
    assert len(packs) == 2
    assert sum(path.stat().st_size for path in packs) < 3000
    return dict(zip(digests, CHUNKS + NODES, strict=True))


def read_all(store, contents) -> int:
    """Reads everything one by one; returns how much of it could be read, and was right."""
    right = 0
    for digest, data in contents.items():
        try:
            if digest == node_digest(data):
                found = store.read_nodes([digest])[0]
            else:
                found = store.get_chunk(digest)
        except DatastoreError:
            continue
        assert found == data
        right += 1
    return right


def verify(store):
    verifier = Verifier(store, SILENT.task("verify", None, "B"), quick=False)
    verifier.check_packs()
    return verifier.result()


def flips(store, wanted=None) -> Iterator[None]:
    """Flips one bit after another in the packs, and back; all, or a sample."""
    places = [
        (path, at, bit)
        for path in store.pack_files()
        for at in range(path.stat().st_size)
        for bit in range(8)
    ]
    for path, at, bit in random.Random(3).sample(places, wanted or len(places)):
        with path.open("r+b", buffering=0) as file:
            byte = os.pread(file.fileno(), 1, at)
            os.pwrite(file.fileno(), bytes([byte[0] ^ 1 << bit]), at)
            yield
            os.pwrite(file.fileno(), byte, at)


def cuts(store, wanted=None) -> Iterator[None]:
    """Cuts the packs to one length after another, and mends them; all, or a sample."""
    lengths = [(path, at) for path in store.pack_files() for at in range(path.stat().st_size)]
    for path, length in random.Random(4).sample(lengths, wanted or len(lengths)):
        data = path.read_bytes()
        os.truncate(path, length)
        yield
        path.write_bytes(data)


HARMS = [flips, cuts]


def sample_or_all(quick, whole=None):
    return pytest.mark.parametrize(
        "wanted", [quick, pytest.param(whole, marks=pytest.mark.slow, id="all")]
    )


@pytest.mark.parametrize("harm", HARMS)
@sample_or_all(300)
def test_a_read_is_right_or_an_error(store, small, harm, wanted):
    for _ in harm(store, wanted):
        assert read_all(store, small) <= len(small)
    assert read_all(store, small) == len(small)


@pytest.mark.parametrize("harm", HARMS)
@sample_or_all(200)
def test_verify_reports_each(store, small, harm, wanted):
    assert verify(store).ok
    for _ in harm(store, wanted):
        result = verify(store)
        assert not result.ok
        assert {damage.pack for damage in result.damaged} <= {
            path.name for path in store.pack_files()
        }
    store.check_packs()
    assert verify(store).ok


@pytest.mark.parametrize("harm", HARMS)
@sample_or_all(25, 400)
def test_a_read_is_right_or_an_error_with_an_index_made_from_what_is_left(
    directory, store, small, harm, wanted
):
    """As after the loss of the index: footers are believed until a read proves them wrong."""
    store.close()
    for _ in harm(store, wanted):
        shutil.rmtree(directory / "index")
        with ObjectStore(directory) as opened:
            assert read_all(opened, small) <= len(small)


@pytest.mark.parametrize("harm", HARMS)
@sample_or_all(25, 400)
def test_putting_it_again_heals_after_the_index_was_made_anew(store, small, harm, wanted):
    """What ``verify --rebuild-index`` leaves out counts as not stored: adding stores it again."""
    task = SILENT.task("verify", None, "B")
    packs = {path: path.read_bytes() for path in store.pack_files()}
    for _ in harm(store, wanted):
        assert rebuild_index(store, task).damaged
        before = read_all(store, small)
        with store.session() as session:
            for data in CHUNKS:
                session.put_chunk(data)
            for data in NODES:
                session.put_node(data)
            session.commit()
            assert session.account.new_chunks <= len(small) - before
        assert read_all(store, small) == len(small)
        for path in list(store.directory.rglob("*.pack")):
            path.unlink()
        for path, data in packs.items():
            path.write_bytes(data)


def test_two_packs_that_change_places_are_found_out(store, small):
    """Each is sound by itself, and holds nothing that its name promises."""
    one, other = store.pack_files()
    data, more = one.read_bytes(), other.read_bytes()
    one.write_bytes(more)
    other.write_bytes(data)
    assert read_all(store, small) == 0
    result = verify(store)
    assert {damage.pack for damage in result.damaged} == {one.name, other.name}


def test_a_pack_that_is_gone_is_reported(store, small):
    path = next(store.pack_files())
    path.unlink()
    result = verify(store)
    assert [(damage.pack, damage.reason) for damage in result.damaged] == [
        (path.name, "the pack is gone")
    ]
    assert read_all(store, small) in (len(CHUNKS), len(NODES))
