"""A disk that is full while a pull, a fetch or a push is under way, here or on the remote."""

from __future__ import annotations

import errno
import shutil

import pytest

from tests.faults.driver import spread
from tests.faults.remote_driver import RemoteDriver
from tests.faults.remote_kit import Scene, Stage
from tests.faults.test_full_disk import FREE_SPACE, grow, inside, leave, plans_for, small_disk

__all__ = ["inside", "small_disk"]  # fixtures

QUICK = 8
STEPS = {
    "pull": ("clone", "v2", ("pull", "v2")),
    "over": ("clone-v1", "v2", ("pull", "v2")),
    "fetch": ("clone", "v2", ("fetch", "v1", "v2")),
    "push": ("author-v1", "v1", ("push",)),
}


@pytest.fixture(scope="module")
def stage(template, tmp_path_factory):
    """Projects and remotes in directories."""
    top = tmp_path_factory.mktemp("stage")
    (top / "remotes").mkdir()
    return Stage(top, template, str(top / "remotes"), {})


@pytest.fixture(scope="module")
def broken():
    """Runs verbs in children with faults in them."""
    with RemoteDriver() as started:
        yield started


def check_refused(found, plan) -> None:
    """The error is one of the disk, says where, and what to do."""
    assert found.signal == 0, plan
    assert found.error.kind == "StorageError", (plan, found.error)
    assert found.error.where, (plan, found.error)
    assert any(word in found.error.hint.lower() for word in FREE_SPACE), (plan, found.error)


def check_whole(scene: Scene, step: tuple[str, ...], plan) -> None:
    """The command has done all that it is to do."""
    assert scene.wrong_files() == [], plan
    if step[0] == "pull":
        assert scene.holds("v2"), plan
    if step[0] == "push":
        scene.check_fresh()
    else:
        scene.check_fetched("v2")


def refuse(stage: Stage, broken: RemoteDriver, name: str, choose) -> None:
    moment, remote, step = STEPS[name]
    with stage.scene(moment, remote) as scene:
        clean = broken.run(scene.top, step)
        assert clean.error is None
    for plan in choose(plans_for(clean.points, number=errno.ENOSPC)):
        with stage.scene(moment, remote) as scene:
            found = broken.run(scene.top, step, fault=plan)
            assert scene.wrong_packs() == [], plan
            if found.error is None:
                check_whole(scene, step, plan)  # what is for speed may fail unseen
            else:
                check_refused(found, plan)
            broken.do(scene.top, step)
            check_whole(scene, step, plan)


@pytest.mark.parametrize("name", STEPS)
def test_refused_at_points(stage, broken, name):
    refuse(stage, broken, name, lambda plans: spread(plans, QUICK))


@pytest.mark.slow
@pytest.mark.parametrize("name", STEPS)
def test_refused_at_every_point(stage, broken, name):
    refuse(stage, broken, name, lambda plans: spread(plans, 100))


# -- real disks ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def seeing(inside):
    """Runs verbs in children that see what this process mounts."""
    with RemoteDriver() as started:
        yield started


def on_small_disk(stage: Stage, scene: Scene, disk, size: str) -> Scene:
    """Moves a project to a disk of its own."""
    grow(disk, size)
    shutil.copytree(scene.top, disk / "project", symlinks=True)
    return Scene(disk / "project", scene.url, scene.options, scene.raw, stage)


@pytest.mark.parametrize("pages", [0, 4, 20, 40, 80, 120, 160])
@pytest.mark.parametrize("step", [("pull", "v2"), ("fetch", "v1", "v2")])
def test_the_clone_is_on_a_full_disk(stage, seeing, small_disk, step, pages):
    with stage.scene("clone", "v2") as scene:
        clone = on_small_disk(stage, scene, small_disk, "8m")
        leave(small_disk, pages)
        found = seeing.run(clone.top, step)
        assert clone.wrong_packs() == []
        if found.error is None:
            check_whole(clone, step, pages)
        else:
            check_refused(found, pages)
            assert str(small_disk) in found.error.where
            (said,) = seeing.do(clone.top, ("cli", step[0]))
            assert said["code"] == 5, said
        (small_disk / "ballast").unlink(missing_ok=True)
        seeing.do(clone.top, step)
        check_whole(clone, step, pages)


@pytest.mark.parametrize("pages", [0, 1, 2, 10, 40])
def test_the_remote_is_a_full_disk(stage, seeing, small_disk, pages):
    with stage.scene("author", "empty") as scene:
        grow(small_disk, "4m")
        url = str(small_disk / "remote")
        other = Scene(scene.top, url, {}, scene.raw, stage)
        stage._settle(other)
        leave(small_disk, pages)
        found = seeing.run(scene.top, ("push",))
        check_refused(found, pages)
        assert str(small_disk) in found.error.message
        (said,) = seeing.do(scene.top, ("cli", "push"))
        assert said["code"] == 5, said
        (small_disk / "ballast").unlink()
        seeing.do(scene.top, ("push",))
        clone = stage.use(stage.copy("clone"), other)
        clone.check_fetched("v1", "v2", fetch=True)
