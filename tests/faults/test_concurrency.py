"""Several processes at once: all succeed, or one says for whom it waits."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from datastore.errors import LockedError
from datastore.workspace import adding, layout
from tests.faults.conftest import Project, fill
from tests.faults.driver import SOURCE, Driver

BEGIN = """
import sys, time
from datastore.repository import Repository
while time.time() < float(sys.argv[1]):
    pass
"""


def start(project: Project, program: str, *arguments: object) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", program, *map(str, arguments)],
        cwd=project.top,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def finish(*processes: subprocess.Popen[bytes]) -> list[bytes]:
    found = [process.communicate(timeout=120) for process in processes]
    assert [process.returncode for process in processes] == [0] * len(processes), found
    return [out for out, _ in found]


def soon() -> float:
    """A moment at which processes that are started now can begin together."""
    return time.time() + 1.0


ADD = (
    BEGIN
    + """
with Repository.open(".") as repository:
    for _ in range(int(sys.argv[3])):
        repository.add(sys.argv[2])
"""
)


def test_two_add_different_datasets(empty):
    for name in ("one", "two"):
        for at in range(50):
            empty.write(f"{name}/{at}.txt", f"{name} {at}".encode() * 20)
    moment = soon()
    finish(*(start(empty, ADD, moment, name, 3) for name in ("one", "two")))
    with empty.open() as repository:
        assert repository.status().clean
        assert {each.path for each in repository.status().pointers} == {"one", "two"}
        assert repository.verify().ok
    ignored = (empty.top / ".gitignore").read_text().splitlines()
    assert {"/one", "/two"} <= set(ignored)


def test_the_first_command_of_all_is_run_twice(empty):
    """Nothing of the store exists yet: both make the index."""
    for _ in range(3):
        subprocess.run(["rm", "-rf", str(empty.store)], check=True)
        for name in ("one", "two"):
            empty.write(f"{name}/a.txt", os.urandom(20))
        moment = soon()
        finish(*(start(empty, ADD, moment, name, 1) for name in ("one", "two")))
        with empty.open() as repository:
            assert repository.status().clean
            assert repository.verify().ok
            assert repository.doctor().checks
            assert all(check.ok for check in repository.doctor().checks)


def test_two_add_the_same_dataset(empty):
    fill(empty, 1)
    moment = soon()
    finish(*(start(empty, ADD, moment, "images", 3) for _ in range(2)))
    empty.commit("v1")
    with empty.open() as repository:
        assert repository.status().clean
        assert repository.verify().ok
        for path, content in empty.versions["v1"].items():
            if content.startswith("file"):
                assert repository.read(path) == (empty.top / path).read_bytes()


PARTS = (
    BEGIN
    + """
from pathlib import Path
name = sys.argv[2]
with Repository.open(".") as repository:
    for round_ in range(int(sys.argv[3])):
        Path(f"images/{name}/{round_}.txt").write_text(f"{name} {round_}")
        repository.add(f"images/{name}/{round_}.txt")
"""
)


def test_two_add_parts_of_one_dataset(empty):
    names = ("left", "right")
    for name in names:
        empty.write(f"images/{name}/first.txt", name.encode())
    with empty.open() as repository:
        repository.add("images")
    rounds = 8
    moment = soon()
    finish(*(start(empty, PARTS, moment, name, rounds) for name in names))
    with empty.open() as repository:
        listed = {entry.path for entry in repository.ls("images", recursive=True)}
        assert listed == {
            f"images/{name}/{at}.txt" for name in names for at in ["first", *range(rounds)]
        }
        assert repository.status().clean
        assert repository.verify().ok


READ = (
    BEGIN
    + """
import json
count = 0
with Repository.open(".") as repository:
    while time.time() < float(sys.argv[1]) + 2:
        count += 1
        for rev, path, digest in json.loads(sys.argv[2]):
            import hashlib
            data = repository.read(path, rev=rev)
            assert hashlib.sha256(data).hexdigest() == digest, (rev, path)
        repository.status()
print(count)
"""
)
EDIT = (
    BEGIN
    + """
from pathlib import Path
with Repository.open(".") as repository:
    at = 0
    while time.time() < float(sys.argv[1]) + 2:
        at += 1
        Path("images/new.txt").write_text(f"round {at}")
        repository.add("images")
print(at)
"""
)
REBUILD = (
    BEGIN
    + """
with Repository.open(".") as repository:
    at = 0
    while time.time() < float(sys.argv[1]) + 2:
        at += 1
        assert repository.rebuild_index().damaged == ()
print(at)
"""
)


@pytest.mark.parametrize("beside", [EDIT, REBUILD], ids=["add", "rebuild"])
def test_reading_beside(project, beside):
    """Old versions are read while the store grows, and while its index is made again."""
    wanted = [
        (rev, path, content.partition(" ")[2])
        for rev, files in project.versions.items()
        for path, content in files.items()
        if content.startswith("file ")
    ]
    moment = soon()
    reader = start(project, READ, moment, json.dumps(wanted))
    writer = start(project, beside, moment)
    rounds = finish(reader, writer)
    assert all(int(each) > 0 for each in rounds)
    with project.open() as repository:
        assert repository.verify().ok


def test_adding_beside_a_rebuild(project):
    moment = soon()
    finish(start(project, REBUILD, moment), start(project, EDIT, moment))
    with project.open() as repository:
        assert repository.verify().ok
        assert repository.status().clean


# -- checkout and add ----------------------------------------------------------------------------

HOLD = """
import sys, time
from datastore.repository import Repository
from datastore.workspace.writer import Writer
real = Writer.write_file
def write_file(self, *arguments, **options):
    found = real(self, *arguments, **options)
    print("writing", flush=True)
    sys.stdin.readline()
    return found
Writer.write_file = write_file
with Repository.open(".") as repository:
    repository.checkout(sys.argv[1])
"""


def hold(project: Project, rev: str) -> subprocess.Popen[bytes]:
    """Starts a checkout that stops when it has written its first file."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, rev],
        cwd=project.top,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"writing\n"
    return process


@pytest.fixture
def impatient(monkeypatch):
    """Commands that wait wait for a moment only."""
    for module in (adding, layout, sys.modules["datastore.workspace.restoring"]):
        monkeypatch.setattr(module, "LOCK_TIMEOUT", 0.3)


@pytest.mark.parametrize("verb", ["add", "part", "checkout"])
def test_waiting_for_a_checkout_names_it(project, impatient, verb):
    process = hold(project, "v1")
    try:
        with project.open() as repository, pytest.raises(LockedError) as caught:
            {
                "checkout": lambda: repository.checkout("v2"),
                "add": lambda: repository.add("images"),
                "part": lambda: repository.add("images/dogs"),
            }[verb]()
        assert f"pid {process.pid} on " in caught.value.holder
        assert caught.value.holder in str(caught.value)
        assert "since" in caught.value.holder
        assert caught.value.hint
        with project.open() as repository:  # who only reads does not wait
            repository.status()
            assert repository.read("images/dogs/edited.txt", rev="v2")
    finally:
        process.communicate(b"\n" * 20)
    assert process.returncode == 0


def test_an_add_waits_for_a_checkout_and_then_sees_all_of_it(project):
    """Not half of it: a version that never was would be recorded."""
    process = hold(project, "v1")
    adding_ = start(project, ADD, 0, "images", 1)
    time.sleep(1.0)
    assert adding_.poll() is None
    process.communicate(b"\n" * 20)
    finish(adding_)
    assert project.contents() == project.versions["v1"]
    pointer = project.git("show", "v1:images.ds") + "\n"
    assert (project.top / "images.ds").read_text() == pointer


def test_a_checkout_waits_for_an_add(project, impatient):
    """An `add` reads the files that a checkout would change under it."""
    program = """
import sys
from datastore.repository import Repository
from datastore.workspace import adding
real = adding.ingest
def ingest(*arguments, **options):
    print("reading", flush=True)
    sys.stdin.readline()
    return real(*arguments, **options)
adding.ingest = ingest
with Repository.open(".") as repository:
    repository.add("images")
"""
    process = subprocess.Popen(
        [sys.executable, "-c", program],
        cwd=project.top,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    )
    assert process.stdout.readline() == b"reading\n"
    with project.open() as repository:
        with pytest.raises(LockedError) as caught:
            repository.checkout("v1")
        assert f"pid {process.pid} on " in caught.value.holder
        repository.add("images")  # another one does not wait
    process.communicate(b"\n")
    assert process.returncode == 0
    with project.open() as repository:
        repository.checkout("v1")
    assert project.contents() == project.versions["v1"]


def test_the_program_exits_with_8(project, driver: Driver, monkeypatch):
    process = hold(project, "v1")
    try:
        program = (
            "import sys\n"
            "from datastore.workspace import adding\n"
            "adding.LOCK_TIMEOUT = 0.2\n"
            "from datastore.cli.main import main\n"
            "sys.argv = ['datastore', 'add', 'images']\n"
            "main()\n"
        )
        done = start(project, program)
        _, err = done.communicate(timeout=60)
        assert done.returncode == 8
        assert f"pid {process.pid}".encode() in err
    finally:
        process.communicate(b"\n" * 20)


def test_locks_of_killed_processes_hold_nobody_up(project, driver: Driver, impatient):
    process = hold(project, "v1")
    process.kill()
    process.communicate()
    locks = sorted(path.name for path in project.store.glob("*.lock"))
    assert locks
    with project.open() as repository:
        repository.checkout("v1")
        assert project.contents() == project.versions["v1"]
        repository.add("images")
        repository.checkout("v2")
        assert project.contents() == project.versions["v2"]
        assert repository.verify().ok


@pytest.mark.parametrize("data", [b"", b"\0" * 100, b"{", b'{"pid": 1}', b"x" * 100_000])
def test_lock_files_that_hold_anything(project, data):
    """What stands in a lock file is for people; a lock file of another program's is no lock."""
    for name in ("workspace.lock", "files.lock"):
        (project.store / name).write_bytes(data)
    with project.open() as repository:
        repository.checkout("v1")
        repository.add("images")


def test_a_lock_file_that_is_a_link(project, tmp_path):
    """It is not followed: what it leads to would be written to."""
    target = tmp_path / "target"
    target.write_bytes(b"mine")
    for name in ("workspace.lock", "files.lock"):
        (project.store / name).unlink(missing_ok=True)
        (project.store / name).symlink_to(target)
    with project.open() as repository, pytest.raises(OSError, match="lock"):
        repository.add("images")
    assert target.read_bytes() == b"mine"


KILLED_WHILE_WRITING = """
import os, signal
import lmdb
from datastore.objects.index import Index
from pathlib import Path
index = Index(Path({directory!r}))
environment = index._opened()
with environment.env.begin(write=True) as transaction:
    transaction.put(b"half", b"done", db=environment.stat)
    os.kill(os.getpid(), signal.SIGKILL)
"""


def test_the_index_after_a_killed_transaction(project):
    """The lock of LMDB's writer is let go of, and what it wrote is not there."""
    directory = str(project.store / "index")
    for _ in range(3):
        process = start(project, KILLED_WHILE_WRITING.format(directory=directory))
        process.communicate()
        assert process.returncode == -9
    fill(project, 3)
    with project.open() as repository:
        repository.add("images")
        assert repository.verify().ok
        assert repository._workspace.store.index.stat_get((b"half",)) == [None]


def test_readers_that_were_killed_are_forgotten(project):
    """Two thousand of them would fill the table of readers."""
    program = """
import os, signal, sys
from datastore.repository import Repository
repository = Repository.open(".")
with repository._workspace.store.index.lookup() as lookup:
    for _ in range(60):
        if os.fork() == 0:
            other = Repository.open(".")
            with other._workspace.store.index.lookup():
                os.kill(os.getpid(), signal.SIGKILL)
        os.wait()
"""
    finish(start(project, program))
    lock = project.store / "index" / "lock.mdb"
    size = lock.stat().st_size
    finish(start(project, program))
    assert lock.stat().st_size == size
    with project.open() as repository:
        environment = repository._workspace.store.index._opened().env
        assert environment.info()["num_readers"] < 100
        assert repository.verify().ok


def test_two_worktrees_share_the_store(project, tmp_path):
    other = tmp_path / "other"
    project.git("worktree", "add", "--quiet", str(other), "-b", "side")
    second = Project(other)
    with second.open() as repository:
        repository.checkout()
        assert second.contents() == project.versions["v2"]
    moment = soon()
    fill(project, 5)
    fill(second, 6)
    finish(*(start(each, ADD, moment, "images", 2) for each in (project, second)))
    for each, seed in ((project, 5), (second, 6)):
        with each.open() as repository:
            assert repository.status().clean
            assert repository.read(f"images/dogs/only-{seed}.txt") == b"comes and goes\n"
            assert repository.verify().ok
    assert Path(project.store / "index").exists()
