"""SIGKILL: whatever was acknowledged stays, and the same command run again just works.

Killed is at *points*, the calls by which the product changes the disk (`tests.faults.driver`), and
at random times, which also hits what LMDB and Git do between them.
"""

from __future__ import annotations

import os
import random
import shutil
import time

import pytest

from tests.faults.conftest import Project, fill
from tests.faults.driver import kills, spread

# A kill costs a fork, three verbs and a look at all bytes: 6 to 8 a second on one core.
QUICK = 14
"""Kills of each scenario in the quick suite."""

ADDS = {
    "first": ("add", "images"),
    "second": ("add", "images"),
    "part": ("add", "images/dogs"),
}


def undisturbed(project: Project) -> dict[str, tuple]:
    """Notes all that would show if somebody had touched the user's files."""
    found = {}
    for base, directories, names in os.walk(project.top / "images"):
        for name in [*names, *directories]:
            path = os.path.join(base, name)
            status = os.lstat(path)
            found[path] = (
                status.st_ino,
                status.st_mode,
                status.st_size,
                status.st_mtime_ns,
                status.st_ctime_ns,
                status.st_nlink if name in names else 0,
            )
    return found


def check_versions(project: Project, driver, *more: str) -> None:
    """Every committed version verifies and reads back byte for byte."""
    revs = list(project.versions)
    verified, read, *_ = driver.do(project.top, ("verify",), ("read", *revs), *more)
    assert verified == {"ok": True, "damaged": []}
    assert read == project.versions


def prepare_add(project: Project, scenario: str) -> None:
    """Brings about what the verb is to work on."""
    if scenario == "first":
        fill(project, 1)
        return
    for seed in (1, 2):
        fill(project, seed)
        with project.open() as repository:
            repository.add(["images"])
        project.commit(f"v{seed}")
    fill(project, 3)


def try_adds(project, driver, saved, scenario, choose) -> None:
    prepare_add(project, scenario)
    before = undisturbed(project)
    state = saved(project)
    clean = driver.run(project.top, ADDS[scenario])
    assert clean.error is None
    pointer = (project.top / "images.ds").read_bytes()
    for plan in choose(kills(clean.points)):
        state.restore()
        killed = driver.run(project.top, ADDS[scenario], fault=plan)
        assert killed.signal == 9, plan
        if project.versions:
            check_versions(project, driver)
        assert driver.run(project.top, ADDS[scenario]).error is None, plan
        assert (project.top / "images.ds").read_bytes() == pointer, plan
        check_versions(project, driver)
        assert driver.do(project.top, ("status",)) == [{"images": ["clean", ""]}], plan
        assert undisturbed(project) == before, plan
        assert project.leftovers() == [], plan
        assert set(project.untracked()) <= {
            ".datastore/.gitignore",
            ".datastore/config.yaml",
            ".gitattributes",
            ".gitignore",
            "images.ds",
        }, plan


@pytest.mark.parametrize("scenario", ADDS)
def test_add_killed_at_points(empty, driver, saved, scenario):
    try_adds(empty, driver, saved, scenario, lambda plans: spread(plans, QUICK))


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("scenario", ADDS)
def test_add_killed_at_every_point(empty, driver, saved, scenario):
    try_adds(empty, driver, saved, scenario, lambda plans: plans)


def try_checkouts(project: Project, driver, choose) -> None:
    """Goes to and fro between two versions, and into an empty workspace, killed on the way."""
    for scenario in ("older", "back", "empty"):
        rev = "v1" if scenario == "older" else "v2"
        clean = go(project, driver, scenario, rev, None)
        for plan in choose(kills(clean.points)):
            if scenario != "empty":
                driver.do(project.top, ("checkout", "v2" if rev == "v1" else "v1"))
            killed = go(project, driver, scenario, rev, plan)
            if killed.signal != 9:
                # The files may have settled in the stat cache meanwhile, which spares a write.
                assert killed.error is None
                continue
            check_versions(project, driver)
            again = driver.run(project.top, ("checkout", rev))
            assert again.error is None, (scenario, plan, again.error)
            assert project.contents() == project.versions[rev], (scenario, plan)
            assert driver.do(project.top, ("status",)) == [{"images": ["clean", ""]}], plan
            pointer = project.git("show", f"{rev}:images.ds") + "\n"
            assert (project.top / "images.ds").read_text() == pointer, (scenario, plan)
            assert project.leftovers() == [], (scenario, plan)
            assert set(project.untracked()) <= {"images.ds"}, (scenario, plan)


def go(project: Project, driver, scenario: str, rev: str, plan: dict | None):
    if scenario == "empty":
        shutil.rmtree(project.top / "images")
    return driver.run(project.top, ("checkout", rev), fault=plan)


def test_checkout_killed_at_points(project, driver):
    try_checkouts(project, driver, lambda plans: spread(plans, QUICK))


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_checkout_killed_at_every_point(project, driver):
    try_checkouts(project, driver, lambda plans: plans)


class Stress:
    """Commands at random, killed at random times, over a history that grows."""

    def __init__(self, project: Project, driver, seed: int) -> None:
        self.project = project
        self.driver = driver
        self.random = random.Random(seed)
        self.killed = 0
        self.seed = 2

    def one(self) -> None:
        """Kills one command, looks at everything, runs it again."""
        verb = self.random.choice(["add", "add", "checkout", "checkout", "part", "rebuild"])
        if verb in {"add", "part"}:
            self.seed += 1
            fill(self.project, self.seed)
        step = {
            "add": ("add", "images"),
            "part": ("add", "images/dogs"),
            "checkout": ("checkout", self.random.choice(list(self.project.versions))),
            "rebuild": ("rebuild",),
        }[verb]
        ended = self.driver.run(self.project.top, step, seconds=self.random.uniform(0.002, 0.09))
        assert ended.error is None, (step, ended.error)
        self.killed += ended.signal == 9
        if verb == "checkout" and self.random.random() < 0.3:
            # One that was given up for another: three versions may lie mixed on disk.
            step = ("checkout", self.random.choice(list(self.project.versions)))
            ended = self.driver.run(self.project.top, step, seconds=self.random.uniform(0.01, 0.09))
            assert ended.error is None, (step, ended.error)
            self.killed += ended.signal == 9
        check_versions(self.project, self.driver)
        again = self.driver.run(self.project.top, step)
        assert again.error is None, (step, again.error)
        self.settle(step)

    def settle(self, step: tuple[str, ...]) -> None:
        if step[0] == "checkout":
            assert self.project.contents() == self.project.versions[step[1]], step
        elif step[0] == "add":
            if step[1] != "images":
                self.driver.do(self.project.top, ("add", "images"))
            self.project.commit(f"v{len(self.project.versions) + 1}")
            check_versions(self.project, self.driver)
        assert self.project.leftovers() == [], step


def stress(make_project, driver, seed: int, kills_wanted: int) -> None:
    killed = 0
    for run in range(1000):
        project = make_project(f"{seed}-{run}")
        for version in (1, 2):
            fill(project, version)
            with project.open() as repository:
                repository.add(["images"])
            project.commit(f"v{version}")
        one = Stress(project, driver, seed * 1000 + run)
        while len(project.versions) < 12:
            one.one()
            if killed + one.killed >= kills_wanted:
                return
        killed += one.killed
        shutil.rmtree(project.top)


def test_killed_at_random_times(make_project, driver):
    stress(make_project, driver, seed=time.time_ns() % 100_000, kills_wanted=20)


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_at_random_times_for_long(make_project, driver):
    stress(make_project, driver, seed=7, kills_wanted=500)
