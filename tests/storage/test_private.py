"""Directories of one process, which a sweep tells from those of dead ones."""

from __future__ import annotations

import errno
import os
import stat
import subprocess
import sys
import textwrap
import threading
from pathlib import Path

import pytest

from datastore.errors import ConflictError, StorageError
from datastore.storage import private
from datastore.storage.private import PrivateDirectory, sweep_private

ROOT = Path(__file__).parents[2]

HOLD = """
    import os, sys
    from pathlib import Path
    from datastore.storage.private import PrivateDirectory
    mine = PrivateDirectory(Path(sys.argv[1]))
    os.symlink("/", "link", dir_fd=mine.descriptor)
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=mine.descriptor))
    print(mine.name, flush=True)
    sys.stdin.read()
"""


def put(directory: PrivateDirectory, name: str) -> None:
    os.close(os.open(name, os.O_CREAT | os.O_WRONLY, dir_fd=directory.descriptor))


def test_it_goes_with_all_that_is_in_it(tmp_path):
    parent = tmp_path / "a" / "tmp"
    with PrivateDirectory(parent) as mine:
        put(mine, "file")
        os.symlink("/", "link", dir_fd=mine.descriptor)
        assert mine.siblings() == {mine.name}
        assert sorted(os.listdir(parent / mine.name)) == ["file", "link", "lock"]
        assert stat.S_IMODE((parent / mine.name).stat().st_mode) & 0o077 == 0
    assert os.listdir(parent) == []
    mine.close()


def test_a_sweep_removes_the_dead_and_spares_the_living(tmp_path):
    (tmp_path / "notes").mkdir()
    (tmp_path / f"1-{'0' * 16}").write_text("a file of that name")
    child = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(HOLD), str(tmp_path)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert child.stdout is not None
    name = child.stdout.readline().strip()
    with PrivateDirectory(tmp_path) as mine:
        assert mine.siblings() >= {mine.name, name}
        assert sweep_private(tmp_path) == 0
        child.kill()
        child.communicate(timeout=60)
        assert sweep_private(tmp_path) == 1
        put(mine, "file")
    assert sorted(os.listdir(tmp_path)) == [f"1-{'0' * 16}", "notes"]


def test_a_half_made_or_half_swept_one_is_removed(tmp_path):
    (tmp_path / f"1-{'0' * 16}").mkdir()
    (tmp_path / f"2-{'0' * 16}").mkdir()
    (tmp_path / f"2-{'0' * 16}" / "file").touch()
    assert sweep_private(tmp_path) == 2
    assert os.listdir(tmp_path) == []


def test_what_should_not_be_in_it_stays(tmp_path):
    odd = tmp_path / f"1-{'0' * 16}" / "directory"
    odd.mkdir(parents=True)
    assert sweep_private(tmp_path) == 0
    assert odd.is_dir()


def test_a_link_of_that_name_is_not_followed(tmp_path):
    precious = tmp_path / "precious"
    precious.mkdir()
    (precious / "file").touch()
    (tmp_path / f"1-{'0' * 16}").symlink_to(precious)
    assert sweep_private(tmp_path) == 0
    assert os.listdir(precious) == ["file"]


def test_a_link_as_parent_is_refused(tmp_path):
    """A committed ``.datastore/tmp`` could lead anywhere."""
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "tmp").symlink_to("elsewhere")
    for use in (PrivateDirectory, sweep_private):
        with pytest.raises(ConflictError, match="tmp"):
            use(tmp_path / "tmp")
    assert os.listdir(tmp_path / "elsewhere") == []


def test_a_file_as_parent_is_refused(tmp_path):
    (tmp_path / "tmp").touch()
    for use in (PrivateDirectory, sweep_private):
        with pytest.raises(ConflictError, match="tmp"):
            use(tmp_path / "tmp")


def test_nothing_to_sweep(tmp_path):
    assert sweep_private(tmp_path / "missing") == 0


def test_makers_and_sweepers_at_once(tmp_path):
    """A sweeper may catch a directory before its lock; nothing that was put into one may go."""
    stop = threading.Event()
    swept = []

    def sweep():
        while not stop.is_set():
            swept.append(sweep_private(tmp_path))

    lost = []

    def make():
        for number in range(150):
            with PrivateDirectory(tmp_path) as mine:
                put(mine, str(number))
                if sorted(os.listdir(mine.descriptor)) != sorted([str(number), "lock"]):
                    lost.append(number)

    sweepers = [threading.Thread(target=sweep) for _ in range(2)]
    makers = [threading.Thread(target=make) for _ in range(3)]
    for thread in sweepers + makers:
        thread.start()
    for thread in makers:
        thread.join()
    stop.set()
    for thread in sweepers:
        thread.join()
    assert lost == []
    sweep_private(tmp_path)
    assert os.listdir(tmp_path) == []


def test_a_sweeper_before_the_lock_costs_only_a_new_name(tmp_path, monkeypatch):
    lock = private.try_lock
    with monkeypatch.context() as patch:

        def late(descriptor):
            patch.undo()
            assert sweep_private(tmp_path) == 1
            return lock(descriptor)

        patch.setattr(private, "try_lock", late)
        mine = PrivateDirectory(tmp_path)
    put(mine, "file")
    mine.close()
    assert os.listdir(tmp_path) == []


def test_somebody_who_removes_all_ends_in_an_error(tmp_path, monkeypatch):
    monkeypatch.setattr(private, "try_lock", lambda _: False)
    before = len(os.listdir("/dev/fd"))
    with pytest.raises(StorageError, match="removed at once"):
        PrivateDirectory(tmp_path)
    assert len(os.listdir("/dev/fd")) == before


def test_without_locks_nothing_is_swept(tmp_path, monkeypatch):
    def none(descriptor):
        raise OSError(errno.ENOLCK, "no locks")

    monkeypatch.setattr(private, "try_lock", none)
    with PrivateDirectory(tmp_path) as mine:
        put(mine, "file")
        assert sweep_private(tmp_path) == 0
        assert sorted(os.listdir(mine.descriptor)) == ["file", "lock"]
    assert os.listdir(tmp_path) == []


@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")
def test_a_forked_child_leaves_it_alone(tmp_path):
    with PrivateDirectory(tmp_path) as mine:
        put(mine, "file")
        child = os.fork()
        if child == 0:
            mine.close()
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        assert sweep_private(tmp_path) == 0
        assert sorted(os.listdir(mine.descriptor)) == ["file", "lock"]


def test_no_descriptor_stays_open(tmp_path):
    before = len(os.listdir("/dev/fd"))
    for _ in range(3):
        PrivateDirectory(tmp_path).close()
        sweep_private(tmp_path)
    assert len(os.listdir("/dev/fd")) == before
