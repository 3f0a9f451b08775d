"""Every bit of a small store turned over, and every file of it cut at every length.

What is read is right, or an error: never wrong bytes. `verify` finds what a version needs and says
which file of which version it costs, and adding the file again heals it.
"""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pytest

from datastore import maintenance
from datastore.errors import DatastoreError
from datastore.objects.packreader import read_footer
from datastore.objects.store import ObjectStore
from datastore.progress import SILENT
from datastore.trees import files
from datastore.workspace import history
from tests.faults.conftest import Project
from tests.faults.driver import SOURCE, version_contents

QUICK_FLIPS = 400
QUICK_CUTS = 150
INDEX_FLIPS = 150


def words(seed: int, count: int) -> bytes:
    """Gives text that compresses."""
    chance = random.Random(seed)
    return b" ".join(chance.choice([b"cat", b"dog", b"bird", b"fish"]) for _ in range(count))


@pytest.fixture(scope="module")
def original(tmp_path_factory) -> Project:
    """Two versions in four packs of about a kilobyte; of two files, one compresses."""
    from datastore.repository import Repository

    project = Project(tmp_path_factory.mktemp("flips") / "project")
    project.top.mkdir()
    project.git("init", "--quiet", "--template=")
    Repository.init(project.top).close()
    for version in (1, 2):
        project.write("images/text.txt", words(version, 150))
        project.write("images/noise.bin", random.Random(version).randbytes(300))
        project.write("images/sub/small.txt", b"%d" % version)
        project.write("images/same.txt", words(0, 60))
        with project.open() as repository:
            repository.add("images")
        project.commit(f"v{version}")
    return project


@pytest.fixture
def project(original, tmp_path) -> Project:
    """A copy to be damaged."""
    copy = Project(tmp_path / "project", dict(original.versions))
    shutil.copytree(original.top, copy.top, symlinks=True)
    return copy


def packs_of(project: Project) -> list[Path]:
    return sorted(project.store.rglob("*.pack"))


class Bench:
    """One damaged pack at a time, looked at through a store that stays open."""

    def __init__(self, project: Project) -> None:
        self.repository = project.open()
        self.workspace = self.repository._workspace
        self.store: ObjectStore = self.workspace.store
        self.versions = list(history.versions(self.workspace, ["v1", "v2"]))
        assert len(self.versions) == 2
        self.good = [self.read(version.root) for version in self.versions]
        self.seen: Counter[str] = Counter()

    def read(self, root: bytes) -> dict[str, bytes]:
        from datastore.trees.filereader import iter_bytes

        version = files.load(root, self.store)
        return {
            path: b"".join(iter_bytes(entry.content, self.store))
            for path, entry in files.entries(version, self.store)
        }

    def look(self, what: str) -> bool:
        """Reads both versions; says whether all of it could be read."""
        whole = True
        for version, good in zip(self.versions, self.good, strict=True):
            try:
                tree = files.load(version.root, self.store)
                rows = list(files.entries(tree, self.store))
            except DatastoreError:
                whole = False
                continue
            assert [path for path, _ in rows] == list(good), what
            right = [self._right(path, entry, good, what) for path, entry in rows]  # all are read
            whole = all(right) and whole
        self.seen["whole" if whole else "refused"] += 1
        return whole

    def _right(self, path: str, entry, good: dict[str, bytes], what: str) -> bool:
        from datastore.trees.filereader import iter_bytes

        try:
            data = b"".join(iter_bytes(entry.content, self.store))
        except DatastoreError:
            return False
        assert data == good[path], f"wrong bytes of {path}: {what}"
        return True

    def verify(self) -> maintenance.VerifyResult:
        verifier = maintenance.Verifier(self.store, SILENT.task("", None, ""), quick=False)
        verifier.check_packs()
        verifier.check_versions(maintenance.Version(*each) for each in self.versions)
        return verifier.result()

    def check(self, what: str, *, pack: str) -> None:
        """The damage is found, and what cannot be read is named with its version."""
        whole = self.look(what)
        found = self.verify()
        assert not found.ok, f"verify finds nothing: {what}"
        assert any(each.pack == pack for each in found.damaged), what
        named = {(each.rev, each.path) for each in found.damaged if each.path}
        assert whole != bool(named), (what, found.damaged)
        for rev, path in named:
            assert rev
            assert path == "images" or path.startswith("images/"), path


@pytest.fixture
def bench(project):
    found = Bench(project)
    yield found
    found.repository.close()


def flip_bits(bench: Bench, project: Project, bits) -> None:
    for pack in packs_of(project):
        good = pack.read_bytes()
        descriptor = os.open(pack, os.O_WRONLY)
        try:
            for bit in bits(len(good) * 8, pack):
                at, mask = bit // 8, 1 << bit % 8
                os.pwrite(descriptor, bytes([good[at] ^ mask]), at)
                bench.check(f"bit {bit} of {pack.name[:8]}", pack=pack.name)
                os.pwrite(descriptor, good[at : at + 1], at)
        finally:
            os.close(descriptor)
    assert bench.look("repaired")
    assert bench.verify().ok
    assert bench.seen["refused"] > 10
    assert bench.seen["whole"] > 10


def sample(count: int, seed: int):
    def bits(total: int, pack: Path) -> list[int]:
        return sorted(random.Random(seed).sample(range(total), min(count, total)))

    return bits


def test_some_bits_of_every_pack(bench, project):
    flip_bits(bench, project, sample(QUICK_FLIPS // len(packs_of(project)), seed=1))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_bit_of_every_pack(bench, project):
    flip_bits(bench, project, lambda total, pack: range(total))


def cut_short(bench: Bench, project: Project, lengths) -> None:
    for pack in packs_of(project):
        good = pack.read_bytes()
        for length in lengths(len(good), pack):
            os.truncate(pack, length)
            bench.check(f"{pack.name[:8]} cut to {length}", pack=pack.name)
            pack.write_bytes(good)
        pack.write_bytes(good + b"\0")
        bench.check(f"{pack.name[:8]} with a byte more", pack=pack.name)
        pack.write_bytes(good)
        pack.unlink()
        bench.store.forget_packs()
        bench.check(f"{pack.name[:8]} gone", pack=pack.name)
        pack.write_bytes(good)
        bench.store.forget_packs()
    assert bench.look("repaired")
    assert bench.verify().ok


def test_every_pack_cut_at_some_lengths(bench, project):
    cut_short(bench, project, sample(QUICK_CUTS // len(packs_of(project)), seed=2))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_every_pack_cut_at_every_length(bench, project):
    cut_short(bench, project, lambda total, pack: range(total))


def test_packs_that_change_places(bench, project):
    """Whole packs under each other's names: the digests in them are right, but not these."""
    one, other, *_ = packs_of(project)
    contents = one.read_bytes(), other.read_bytes()
    one.write_bytes(contents[1])
    other.write_bytes(contents[0])
    bench.store.forget_packs()
    bench.look("exchanged")
    assert not bench.verify().ok


def zero_page(data: bytes, at: int, size: int) -> bytes:
    return data[:at] + bytes(len(data[at : at + size])) + data[at + size :]


def test_stretches_of_zeros(bench, project):
    """As a disk gives back a sector that it could not read, or a file after a power cut."""
    for pack in packs_of(project):
        good = pack.read_bytes()
        for at in range(0, len(good), 64):
            damaged = zero_page(good, at, 64)
            if damaged != good:
                pack.write_bytes(damaged)
                bench.check(f"zeros at {at}", pack=pack.name)
        pack.write_bytes(good)


# -- healing -------------------------------------------------------------------------------------


def damage_plans(project: Project, count: int) -> list[tuple[Path, int]]:
    chance = random.Random(3)
    packs = packs_of(project)
    return [
        (pack, chance.randrange(pack.stat().st_size * 8))
        for pack in (chance.choice(packs) for _ in range(count))
    ]


def heal(project: Project, count: int) -> None:
    healed = lost = 0
    for pack, bit in damage_plans(project, count):
        good = pack.read_bytes()
        damaged = bytearray(good)
        damaged[bit // 8] ^= 1 << bit % 8
        pack.write_bytes(damaged)
        with project.open() as repository:
            before = repository.verify()
            assert not before.ok
            rebuilt = repository.rebuild_index()
            assert rebuilt.damaged == (pack.name,)
            repository.add("images")
            assert repository.status().clean
            contents = version_contents(repository, "v2")
            assert contents == project.versions["v2"], bit
            after = repository.verify()
            # The damaged pack stays, as what is lost of old versions may be in it.
            assert {each.path for each in after.damaged if each.rev == ""} <= {""}
            assert not [each for each in after.damaged if each.path and each.rev == "v2"]
            named = {each.path for each in after.damaged if each.path}
            healed += not named
            lost += bool(named)
            for path in named:
                assert path == "images" or path.startswith("images/")
            if not named:
                assert version_contents(repository, "v1") == project.versions["v1"], bit
            else:
                with pytest.raises(DatastoreError):
                    version_contents(repository, "v1")
        pack.write_bytes(good)
        with project.open() as repository:
            repository.rebuild_index()
            assert repository.verify().ok
    assert healed
    assert lost


def test_adding_again_heals(project):
    heal(project, 12)


@pytest.mark.slow
def test_adding_again_heals_often(project):
    heal(project, 200)


def test_an_add_over_a_damaged_store_does_not_make_it_worse(project):
    """Before anybody has looked: the pointer is written only if what it names can be read."""
    for pack, bit in damage_plans(project, 10):
        good = pack.read_bytes()
        damaged = bytearray(good)
        damaged[bit // 8] ^= 1 << bit % 8
        pack.write_bytes(damaged)
        project.write("images/sub/small.txt", b"bit %d" % bit)
        with project.open() as repository:
            try:
                repository.add("images")
            except DatastoreError as error:
                assert error.hint
                repository.rebuild_index()
                repository.add("images")
            repository.rebuild_index()
            repository.add("images")
            assert repository.read("images/sub/small.txt") == b"bit %d" % bit
            for path in ("text.txt", "noise.bin", "same.txt"):
                data = (project.top / "images" / path).read_bytes()
                assert repository.read(f"images/{path}") == data
        pack.write_bytes(good)


@pytest.mark.parametrize("way", ["footer", "header", "all but the blocks"])
def test_a_pack_that_lost_what_is_around_its_blocks(project, way):
    """The blocks describe themselves."""
    for pack in packs_of(project):
        good = pack.read_bytes()
        sealed = read_footer(pack)
        data = bytearray(good)
        last = sealed.blocks[-1]
        if way != "footer":
            data[:16] = bytes(16)
        if way != "header":
            del data[last.payload + last.stored :]
        pack.write_bytes(data)
    with project.open() as repository:
        assert not repository.verify().ok
        repository.rebuild_index()
        for rev in ("v1", "v2"):
            assert version_contents(repository, rev) == project.versions[rev]


# -- the index -----------------------------------------------------------------------------------

LOOK = """
import json, os, sys
from pathlib import Path
from datastore.errors import DatastoreError
from datastore.objects.store import ObjectStore
from datastore.trees import files
from datastore.trees.filereader import iter_bytes

directory, roots = Path(sys.argv[1]), json.loads(sys.argv[2])
good = json.loads(sys.argv[3])


def look():
    with ObjectStore(directory) as store:
        for root, contents in zip(roots, good):
            version = files.load(bytes.fromhex(root), store)
            found = {
                path: b"".join(iter_bytes(entry.content, store)).hex()
                for path, entry in files.entries(version, store)
            }
            if found != contents:
                return "wrong"
        with store.session() as session:
            session.put_chunk(os.urandom(50))
            session.commit()
    return "right"


index = directory / "index" / "data.mdb"
image = index.read_bytes()
packs = {path: path.read_bytes() for path in directory.rglob("*.pack")}
for line in sys.stdin:
    how, at = line.split()
    at = int(at)
    child = os.fork()
    if child == 0:
        data = bytearray(image)
        if how == "flip":
            data[at // 8] ^= 1 << at % 8
        elif how == "zero":
            data[at : at + 4096] = bytes(4096)
        else:
            del data[at:]
        index.write_bytes(data)
        (index.parent / "lock.mdb").unlink(missing_ok=True)
        try:
            outcome = {"right": 0, "wrong": 1}[look()]
        except DatastoreError:
            outcome = 2
        except BaseException as error:
            print(repr(error), file=sys.stderr)
            outcome = 3
        os._exit(outcome)
    _, state = os.waitpid(child, 0)
    signal = os.WTERMSIG(state) if os.WIFSIGNALED(state) else 0
    for path in directory.rglob("*.pack"):
        if path not in packs:
            path.unlink()
    print(how, at, signal, os.WEXITSTATUS(state) if not signal else -1, flush=True)
"""


def damage_index(project: Project, plans: list[tuple[str, int]]) -> Counter[str]:
    """Damages the index in each of these ways, each in a process of its own."""
    bench = Bench(project)
    roots = json.dumps([version.root.hex() for version in bench.versions])
    good = json.dumps(
        [{path: data.hex() for path, data in contents.items()} for contents in bench.good]
    )
    bench.repository.close()
    done = subprocess.run(
        [sys.executable, "-c", LOOK, str(project.store), roots, good],
        input="".join(f"{how} {at}\n" for how, at in plans),
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        text=True,
    )
    outcomes: Counter[str] = Counter()
    names = {0: "right", 1: "wrong", 2: "refused", 3: "defect"}
    for line in done.stdout.splitlines():
        how, at, signal, code = line.split()
        outcome = f"signal {signal}" if int(signal) else names[int(code)]
        outcomes[outcome] += 1
        if outcome not in {"right", "refused"}:
            print(how, at, outcome)
    assert sum(outcomes.values()) == len(plans)
    print(dict(outcomes), done.stderr)
    return outcomes


def check_index(outcomes: Counter[str]) -> None:
    """No wrong bytes, no defect; and hardly ever does LMDB take the process along.

    It believes its pages and has no checksums in this file format. Of all bits 1 in 10,000 ends the
    process when turned over, by SIGBUS or a failed assertion; of those in page headers 1 in 100.
    """
    crashes = sum(count for outcome, count in outcomes.items() if outcome.startswith("signal"))
    assert outcomes["wrong"] == outcomes["defect"] == 0, outcomes
    assert crashes <= max(1, sum(outcomes.values()) // 100), outcomes
    assert outcomes["right"] > 0, outcomes


def index_size(project: Project) -> int:
    return (project.store / "index" / "data.mdb").stat().st_size


def test_some_bits_of_the_index(project):
    total = index_size(project) * 8
    chance = random.Random(5)
    plans = [("flip", chance.randrange(total)) for _ in range(INDEX_FLIPS)]
    check_index(damage_index(project, plans))


def test_the_index_cut_short(project):
    size = index_size(project)
    chance = random.Random(6)
    lengths = {0, 1, 151, 4095, 4096, 4097, 8191, 8192, 8193, size - 4096, size - 1}
    lengths |= {chance.randrange(size) for _ in range(40)}
    lengths |= set(range(0, size, 4096))
    outcomes = damage_index(project, [("cut", length) for length in sorted(lengths)])
    assert set(outcomes) == {"right"}, outcomes


def test_pages_of_the_index_that_are_zeros(project):
    plans = [("zero", at) for at in range(0, index_size(project), 4096)]
    check_index(damage_index(project, plans))


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_many_bits_of_the_index(project):
    total = index_size(project) * 8
    chance = random.Random(7)
    plans = [("flip", chance.randrange(total)) for _ in range(1500)]
    check_index(damage_index(project, plans))


@pytest.mark.parametrize("data", [b"", b"x" * 100, b"\0" * 8192, b"\xff" * 100_000])
def test_an_index_that_is_none(project, data):
    index = project.store / "index" / "data.mdb"
    index.write_bytes(data)
    (index.parent / "lock.mdb").write_bytes(b"")
    with project.open() as repository:
        for rev in ("v1", "v2"):
            assert version_contents(repository, rev) == project.versions[rev]
        assert repository.verify().ok


def test_the_index_deleted(project):
    shutil.rmtree(project.store / "index")
    with project.open() as repository:
        assert repository.status().clean
        for rev in ("v1", "v2"):
            assert version_contents(repository, rev) == project.versions[rev]
        assert repository.verify().ok
        assert repository.add("images").pointers[0].stored_bytes == 0
