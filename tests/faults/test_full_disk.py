"""A disk that is full, over quota or broken: an error that says so, and nothing lost.

First by refusing, one after the other, every call that needs space; then by real limits: the size
that a file may have (RLIMIT_FSIZE) and, where the test may mount one, a file system of a megabyte.
"""

from __future__ import annotations

import ctypes
import errno
import os
import random
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from datastore.errors import StorageError
from tests.faults.conftest import Project, fill
from tests.faults.driver import NEEDS_SPACE, Driver, spread

QUICK = 12
CLONE_NEWNS = 0x00020000  # of unshare(2)
ERRORS = {"ENOSPC": errno.ENOSPC, "EDQUOT": errno.EDQUOT, "EIO": errno.EIO}
FREE_SPACE = ("free", "full", "quota", "disk")
"""One of these is in every hint: what to do is a matter of the disk."""


def plans_for(points: list[str], *, number: int) -> list[dict]:
    """Refuses each call that needs space: only that, and from there on; writes also halfway."""
    plans = []
    for point in points:
        name = point.partition("#")[0]
        if name not in NEEDS_SPACE:
            continue
        plans.append({"point": point, "errno": number, "lasting": True})
        plans.append({"point": point, "errno": number})
        if name.startswith("write"):
            plans.append({"point": point, "errno": number, "short": True, "lasting": True})
    return plans


def check_refused(project: Project, found, plan) -> None:
    """The error is one of the disk, says where, and what to do."""
    assert found.error.kind == "StorageError", (plan, found.error)
    assert found.error.where, (plan, found.error)
    assert (
        found.error.where in found.error.message or repr(found.error.where) in found.error.message
    )
    assert any(word in found.error.hint.lower() for word in FREE_SPACE), (plan, found.error)


def check_versions(project: Project, driver) -> None:
    verified, read = driver.do(project.top, ("verify",), ("read", *project.versions))
    assert verified == {"ok": True, "damaged": []}
    assert read == project.versions


def refuse_adds(project, driver, saved, choose, number) -> None:
    fill(project, 3)
    state = saved(project)
    before = (project.top / "images.ds").read_bytes()
    clean = driver.run(project.top, ("add", "images"))
    after = (project.top / "images.ds").read_bytes()
    for plan in choose(plans_for(clean.points, number=number)):
        state.restore()
        found = driver.run(project.top, ("add", "images"), fault=plan)
        pointer = (project.top / "images.ds").read_bytes()
        if found.error is None:
            # What is for people, or for speed, may fail unseen.
            assert pointer == after, plan
        else:
            check_refused(project, found, plan)
            # Past the rename of the pointer only the sync of its directory is left.
            assert pointer == before or plan["point"].startswith("fsync"), plan
        check_versions(project, driver)
        again = driver.run(project.top, ("add", "images"))
        assert again.error is None, (plan, again.error)
        assert (project.top / "images.ds").read_bytes() == after, plan
        check_versions(project, driver)
        assert driver.do(project.top, ("status",)) == [{"images": ["clean", ""]}], plan
        assert project.leftovers() == [], plan


@pytest.mark.parametrize("error", ERRORS)
def test_add_refused_at_points(project, driver, saved, error):
    count = QUICK if error == "ENOSPC" else 4
    refuse_adds(project, driver, saved, lambda plans: spread(plans, count), ERRORS[error])


@pytest.mark.slow
@pytest.mark.parametrize("error", ERRORS)
def test_add_refused_at_every_point(project, driver, saved, error):
    refuse_adds(project, driver, saved, lambda plans: plans, ERRORS[error])


def refuse_checkouts(project, driver, choose) -> None:
    clean = driver.run(project.top, ("checkout", "v1"))
    driver.do(project.top, ("checkout", "v2"))
    for plan in choose(plans_for(clean.points, number=errno.ENOSPC)):
        found = driver.run(project.top, ("checkout", "v1"), fault=plan)
        if found.error is None:
            assert project.contents() == project.versions["v1"], plan
        else:
            check_refused(project, found, plan)
        check_versions(project, driver)
        again = driver.run(project.top, ("checkout", "v1"))
        assert again.error is None, (plan, again.error)
        assert project.contents() == project.versions["v1"], plan
        driver.do(project.top, ("checkout", "v2"))
        assert project.contents() == project.versions["v2"], plan
        assert project.leftovers() == [], plan


def test_checkout_refused_at_points(project, driver):
    refuse_checkouts(project, driver, lambda plans: spread(plans, QUICK))


@pytest.mark.slow
def test_checkout_refused_at_every_point(project, driver):
    refuse_checkouts(project, driver, lambda plans: plans)


def test_the_program_says_it(project, driver):
    fill(project, 3)
    plan = {"point": "writev#3", "errno": errno.ENOSPC, "lasting": True}
    (found,) = driver.run(project.top, ("cli", "add", "images"), fault=plan).values
    assert found["code"] == 5
    assert found["out"] == ""
    assert "No space left on device" in found["err"]
    assert str(project.store) in found["err"]
    assert "hint: The disk is full: free some space and run the command again." in found["err"]
    (found,) = driver.do(project.top, ("cli", "add", "images"))
    assert found["code"] == 0


# -- limits that are real ------------------------------------------------------------------------


@pytest.mark.parametrize("size", [0, 100, 5000, 40_000, 100_000, 200_000, 290_000])
def test_files_may_not_grow(project, driver, size):
    fill(project, 3)
    project.write("images/dogs/new.bin", random.Random(size).randbytes(300_000))
    before = (project.top / "images.ds").read_bytes()
    found = driver.run(project.top, ("add", "images"), file_size=size)
    assert found.signal == 0
    assert found.error is not None
    assert found.error.kind == "StorageError", found.error
    assert "limit" in found.error.hint or "large" in found.error.hint, found.error
    assert (project.top / "images.ds").read_bytes() == before
    check_versions(project, driver)
    driver.do(project.top, ("add", "images"))
    project.commit("v3")
    check_versions(project, driver)
    assert project.leftovers() == []


@pytest.fixture(scope="module")
def inside():
    """A driver that sees what this process mounts from here on, which nobody else does.

    In a name space of mounts of their own, they end with the process: a killed test leaves none.
    """
    if sys.platform != "linux" or os.geteuid() or ctypes.CDLL(None).unshare(CLONE_NEWNS):
        pytest.skip("may not mount a file system")
    subprocess.run(["mount", "--make-rprivate", "/"], check=True)
    with Driver() as started:
        yield started


def grow(path: Path, size: str) -> None:
    subprocess.run(["mount", "-o", f"remount,size={size}", str(path)], check=True)


@pytest.fixture
def small_disk(inside, tmp_path):
    """A file system of one megabyte."""
    disk = tmp_path / "disk"
    disk.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(disk)], check=True)
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


def test_the_store_is_on_a_full_disk(empty, inside, small_disk):
    project = empty
    (project.store / "local.yaml").write_text(f"store:\n  path: {small_disk / 'store'}\n")
    for seed in (1, 2):
        fill(project, seed)
        inside.do(project.top, ("add", "images"))
        project.commit(f"v{seed}")
    before = (project.top / "images.ds").read_bytes()
    project.write("images/large.bin", random.Random(1).randbytes(1_500_000))
    found = inside.run(project.top, ("add", "images"))
    check_refused(project, found, "tmpfs")
    assert str(small_disk) in found.error.where
    assert (project.top / "images.ds").read_bytes() == before
    check_versions(project, inside)
    (said,) = inside.do(project.top, ("cli", "add", "images"))
    assert said["code"] == 5
    grow(small_disk, "16m")
    inside.do(project.top, ("add", "images"))
    project.commit("v3")
    check_versions(project, inside)
    assert not list((small_disk / "store" / "tmp").iterdir())


def leave(disk: Path, pages: int) -> None:
    """Fills a file system but for so many pages."""
    page = os.sysconf("SC_PAGE_SIZE")
    room = shutil.disk_usage(disk).free - pages * page
    if room > 0:
        (disk / "ballast").write_bytes(b"\0" * room)


@pytest.mark.parametrize("pages", [0, 1, 2, 4, 8, 12, 16, 24, 32, 40, 50, 60, 80, 100])
def test_everything_is_on_a_full_disk(make_project, inside, small_disk, pages):
    grow(small_disk, "4m")
    project = make_project(small_disk / "project")
    for seed in (1, 2):
        fill(project, seed)
        inside.do(project.top, ("add", "images"))
        project.commit(f"v{seed}")
    fill(project, 3)
    project.write("images/new.bin", random.Random(pages).randbytes(100_000))
    pointer = (project.top / "images.ds").read_bytes()
    leave(small_disk, pages)
    found = inside.run(project.top, ("add", "images"))
    assert found.signal == 0
    if found.error is not None:
        check_refused(project, found, pages)
        assert (project.top / "images.ds").read_bytes() == pointer
    reading = inside.run(project.top, ("read", "v1", "v2"))
    assert reading.signal == 0
    assert reading.error is None, reading.error
    assert reading.values == [project.versions]
    (small_disk / "ballast").unlink(missing_ok=True)
    inside.do(project.top, ("add", "images"))
    project.commit("v3")
    check_versions(project, inside)
    assert project.leftovers() == []


@pytest.mark.parametrize("pages", [0, 1, 2, 3, 5, 8, 16, 33, 34, 40, 48])
def test_the_index_is_made_on_a_full_disk(make_project, inside, small_disk, pages):
    """The first command after the index was deleted."""
    grow(small_disk, "4m")
    project = make_project(small_disk / "project")
    fill(project, 1)
    inside.do(project.top, ("add", "images"))
    project.commit("v1")
    shutil.rmtree(project.store / "index")
    leave(small_disk, pages)
    found = inside.run(project.top, ("read", "v1"))
    assert found.signal == 0, "it was ended by a signal"
    if found.error is not None:
        check_refused(project, found, pages)
    else:
        assert found.values == [project.versions]
    (small_disk / "ballast").unlink(missing_ok=True)
    check_versions(project, inside)


def test_one_process_goes_on_when_there_is_space_again(make_project, small_disk):
    """A program that keeps a repository open need not be started again."""
    grow(small_disk, "4m")
    project = make_project(small_disk / "project")
    fill(project, 1)
    with project.open() as repository:
        repository.add("images")
        for pages in (0, 3, 6, 10, 14, 20, 40):
            project.write("images/new.bin", random.Random(pages).randbytes(60_000))
            leave(small_disk, pages)
            try:
                repository.add("images")
            except StorageError as error:
                assert "full" in error.hint, pages
            (small_disk / "ballast").unlink(missing_ok=True)
            repository.add("images")
            assert repository.verify().ok
            assert repository.read("images/new.bin") == random.Random(pages).randbytes(60_000)
