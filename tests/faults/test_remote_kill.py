"""kill -9 in the middle of push and pull, two who push at once, a server that dies and comes back.

Whatever was sent as a whole is not sent again: packs that arrive are counted at the proxy.
"""

from __future__ import annotations

import random
import shutil
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import pytest

from tests.faults.driver import SOURCE, kills, spread
from tests.faults.remote_driver import RemoteDriver
from tests.faults.remote_kit import DATASET, VERSIONS, Scene, Stage, put
from tests.servers.faultproxy import FaultProxy
from tests.servers.fixtures import fresh
from tests.servers.places import S3Place

QUICK = 5
"""Kills of each scenario in the quick suite."""


@pytest.fixture(scope="module")
def proxy(weed_server):
    with FaultProxy(weed_server.address) as started:
        yield started


@pytest.fixture(scope="module")
def stage(weed_server, proxy, template, tmp_path_factory):
    """Projects and remotes on SeaweedFS."""
    with pytest.MonkeyPatch.context() as patch:
        direct = S3Place(url=fresh("s3"), endpoint=weed_server.address)
        place = direct.through(proxy).enter(patch)
        yield Stage(tmp_path_factory.mktemp("stage"), template, place.url, place.options)


@pytest.fixture(scope="module")
def killer(stage):
    """Runs verbs in children that may be killed; has the environment of the place."""
    with RemoteDriver() as started:
        yield started


@pytest.fixture(autouse=True)
def calm(proxy):
    proxy.clear()


def packs_sent(proxy: FaultProxy, scene: Scene) -> list[str]:
    """The keys of the packs that arrived whole, as often as they did."""
    found = proxy.seen("PUT", rf"{scene.name}/packs/")
    return [request.path.partition("?")[0] for request in found if request.status == 200]


# -- killed at points ------------------------------------------------------------------------------

PUSHES = {"first": ("author", "empty"), "more": ("author-v1", "v1")}
PULLS = {
    "pull": ("clone", ("pull", "v2")),
    "over": ("clone-v1", ("pull", "v2")),
    "fetch": ("clone", ("fetch", "v1", "v2")),
}


def try_pushes(stage, proxy, killer, scenario, choose) -> None:
    moment, remote = PUSHES[scenario]
    with stage.scene(moment, remote) as scene:
        clean = killer.run(scene.top, ("push",))
        assert clean.error is None, clean.error
    for plan in choose(kills(clean.points)):
        with stage.scene(moment, remote) as scene:
            proxy.clear()
            killed = killer.run(scene.top, ("push",), fault=plan)
            if killed.signal != 9:  # threads take turns: there may be one call less this time
                assert killed.error is None, (plan, killed.error)
            killer.do(scene.top, ("push",))
            most = Counter(packs_sent(proxy, scene)).most_common(1)
            # One that arrived while its sender died, before it could make a note, goes twice.
            assert not most or most[0][1] <= 2, (plan, most)
            assert scene.wrong_packs() == [], plan
            scene.check_fresh()


@pytest.mark.parametrize("scenario", PUSHES)
def test_push_killed_at_points(stage, proxy, killer, scenario):
    try_pushes(stage, proxy, killer, scenario, lambda plans: spread(plans, QUICK))


@pytest.mark.slow
@pytest.mark.parametrize("scenario", PUSHES)
def test_push_killed_at_every_point(stage, proxy, killer, scenario):
    try_pushes(stage, proxy, killer, scenario, lambda plans: plans)


def try_pulls(stage, killer, scenario, choose) -> None:
    moment, step = PULLS[scenario]
    with stage.scene(moment, "v2") as scene:
        clean = killer.run(scene.top, step)
        assert clean.error is None, clean.error
    for plan in choose(kills(clean.points)):
        with stage.scene(moment, "v2") as scene:
            killed = killer.run(scene.top, step, fault=plan)
            assert killed.error is None, (plan, killed.error)
            # What is half made lies aside, and goes with the next run; a directory may be empty.
            wrong = [name for name in scene.wrong_files() if "tmp" not in name]
            assert [name for name in wrong if not (scene.top / name).is_dir()] == [], plan
            killer.do(scene.top, step)
            assert scene.wrong_files() == [], plan
            scene.check_fetched("v2")
            assert step[0] != "pull" or scene.holds("v2"), plan


@pytest.mark.parametrize("scenario", PULLS)
def test_pull_killed_at_points(stage, killer, scenario):
    try_pulls(stage, killer, scenario, lambda plans: spread(plans, QUICK))


@pytest.mark.slow
@pytest.mark.parametrize("scenario", PULLS)
def test_pull_killed_at_every_point(stage, killer, scenario):
    try_pulls(stage, killer, scenario, lambda plans: spread(plans, 60))


# -- killed at random times ------------------------------------------------------------------------


class Loop:
    """Versions that are made and pushed by one clone and pulled by another, both often killed."""

    def __init__(self, scene: Scene, proxy: FaultProxy, killer: RemoteDriver, seed: int) -> None:
        self.scene = scene
        self.proxy = proxy
        self.killer = killer
        self.random = random.Random(seed)
        self.killed = self.rev = 0
        self.clone = scene.fresh()

    def one(self) -> None:
        """Makes a version; kills push and pull of it, each several times; looks at both ends."""
        self.rev += 1
        files = {name: self.random.randbytes(30_000) for name in ("a.bin", "b.bin", "c.bin")}
        put(self.scene.top, {**files, "same.txt": b"the same\n" * 100})
        self.killer.do(self.scene.top, ("add", DATASET))
        project = self.scene.project
        project.commit(f"r{self.rev}", DATASET)
        self.scene.stage.expected[f"r{self.rev}"] = project.versions[f"r{self.rev}"]
        before = len(packs_sent(self.proxy, self.scene))
        killed = self._killed_often(self.scene, "push", f"r{self.rev}")
        (done,) = self.killer.do(self.scene.top, ("push", f"r{self.rev}"))
        packs = len(self._packs_of_version())
        assert len(packs_sent(self.proxy, self.scene)) - before <= packs + killed, (packs, done)
        self._pull(f"r{self.rev}")

    def _packs_of_version(self) -> set[str]:
        return set(packs_sent(self.proxy, self.scene))

    def _killed_often(self, scene: Scene, *step: str) -> int:
        killed = 0
        for _ in range(self.random.randrange(1, 4)):
            ended = self.killer.run(scene.top, step, seconds=self.random.uniform(0.03, 0.5))
            assert ended.error is None, (step, ended.error)
            killed += ended.signal == 9
        self.killed += killed
        return killed

    def _pull(self, rev: str) -> None:
        clone = self.clone
        clone.project.git("fetch", "--quiet", "--tags", str(self.scene.top))
        self._killed_often(clone, "pull", rev)
        assert [name for name in clone.wrong_packs() if "tmp" not in name] == []
        self.killer.do(clone.top, ("pull", rev))
        assert clone.holds(rev), rev
        assert clone.wrong_packs() + clone.project.leftovers() == [], rev


def run_loop(stage, proxy, killer, *, wanted: int, seed: int) -> None:
    with stage.scene("author", "empty") as scene:
        loop = Loop(scene, proxy, killer, seed)
        while loop.killed < wanted:
            loop.one()
        last = [f"r{at}" for at in range(1, loop.rev + 1)]
        final = scene.fresh()
        final.project.git("fetch", "--quiet", "--tags", str(scene.top))
        final.check_fetched(*last, fetch=True)


def test_killed_at_random_times(stage, proxy, killer):
    run_loop(stage, proxy, killer, wanted=6, seed=time.time_ns() % 100_000)


@pytest.mark.slow
def test_killed_at_random_times_for_long(stage, proxy, killer):
    run_loop(stage, proxy, killer, wanted=60, seed=7)


# -- two at once -----------------------------------------------------------------------------------

PUSH = "import sys; from datastore.cli.main import program; sys.exit(program.run(sys.argv[1:], ''))"


def start_push(top: Path) -> subprocess.Popen:
    command = [sys.executable, "-c", PUSH, "-C", str(top), "push"]
    environment = {"cwd": SOURCE, "stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
    return subprocess.Popen(command, **environment)


def together(*tops: Path) -> None:
    """Pushes from several clones at the same time; all must succeed."""
    running = [start_push(top) for top in tops]
    for each in running:
        said, _ = each.communicate(timeout=60)
        assert each.returncode == 0, said.decode()


def another(scene: Scene, moment: str) -> Scene:
    return scene.stage.use(scene.stage.copy(moment), scene)


def add_own(scene: Scene, name: str) -> None:
    """Commits a version of one's own, of which most is shared."""
    put(scene.top, {**VERSIONS["v2"], f"{name}.bin": name.encode() * 9000})
    with scene.open() as repository:
        repository.add([DATASET])
    scene.project.commit(name)
    scene.stage.expected[name] = scene.project.contents(DATASET)


def meet(stage: Stage, proxy: FaultProxy, moment: str, remote: str) -> None:
    with stage.scene(moment, remote) as one:
        two = another(one, moment)
        add_own(one, "one")
        add_own(two, "two")
        proxy.latency = 0.01  # so that both are in the middle of it for longer
        together(one.top, two.top)
        assert one.keys().count("datastore.json") == 1
        third = one.fresh()
        for other in (one, two):
            third.project.git("fetch", "--quiet", "--tags", str(other.top))
        third.check_fetched("v1", "v2", "one", "two", fetch=True)
        for other in (one, two):
            with other.open() as repository:
                assert repository.push().roots == ()
                assert repository.remote_status().missing == ()
        shutil.rmtree(two.top)


@pytest.mark.parametrize(("moment", "remote"), [("author", "empty"), ("author-v1", "v1")])
def test_two_push_at_once(stage, proxy, moment, remote):
    meet(stage, proxy, moment, remote)


@pytest.mark.slow
@pytest.mark.parametrize("turn", range(5))
@pytest.mark.parametrize(("moment", "remote"), [("author", "empty"), ("author-v1", "v1")])
def test_two_push_at_once_again_and_again(stage, proxy, moment, remote, turn):
    meet(stage, proxy, moment, remote)


def test_one_pulls_while_another_pushes(stage, proxy):
    with stage.scene("author-v1", "v1") as scene:
        clone = scene.fresh()
        proxy.latency = 0.01
        pushing = start_push(scene.top)
        with clone.open() as repository:
            while pushing.poll() is None:
                repository.pull("v1", out=clone.top / "out", force=True)
        said, _ = pushing.communicate()
        assert pushing.returncode == 0, said.decode()
        clone.check_fetched("v1")
        scene.check_fresh()


# -- the network goes and comes --------------------------------------------------------------------


def test_the_network_is_away_for_a_while(stage, proxy):
    """What a user has done by then is done: a push waits, and goes on by itself."""
    with stage.scene("author", "empty") as scene:
        proxy.latency = 0.03
        pushing = start_push(scene.top)
        while not packs_sent(proxy, scene):
            time.sleep(0.01)
        proxy.down()
        threading.Timer(1.5, proxy.up).start()
        said, _ = pushing.communicate(timeout=60)
        assert pushing.returncode == 0, said.decode()
        most = Counter(packs_sent(proxy, scene)).most_common(1)[0][1]
        assert most == 1
        scene.check_fresh()
