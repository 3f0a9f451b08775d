"""Every fault at every request of push, fetch and pull; see `tests.faults.remote_matrix`.

Print the size and the result of the whole matrix with ``python -m tests.faults.remote_matrix``.
"""

from __future__ import annotations

import pytest

from tests.faults.driver import do_cli, spread
from tests.faults.remote_kit import Stage, hurry
from tests.faults.remote_matrix import SCENARIOS, Matrix
from tests.servers import answers
from tests.servers.faultproxy import FaultProxy
from tests.servers.fixtures import fresh
from tests.servers.places import S3Place

QUICK = 6
"""Cells of each command in the quick suite."""


@pytest.fixture(scope="module")
def matrix(weed_server, template, tmp_path_factory):
    """The matrix over SeaweedFS."""
    with pytest.MonkeyPatch.context() as patch, FaultProxy(weed_server.address) as proxy:
        hurry(patch)
        direct = S3Place(url=fresh("s3"), endpoint=weed_server.address)
        place = direct.through(proxy).enter(patch)
        stage = Stage(tmp_path_factory.mktemp("stage"), template, place.url, place.options)
        yield Matrix(stage, proxy)


@pytest.mark.parametrize("scenario", SCENARIOS)
def test_some_faults_at_some_operations(matrix, scenario):
    seed = list(SCENARIOS).index(scenario)
    tally = matrix.run(scenario, lambda cells: spread(cells[seed::7], QUICK))
    assert tally.wrong == [], tally


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_every_fault_at_every_operation(matrix, scenario, record_property):
    tally = matrix.run(scenario)
    record_property("fault matrix", tally.encode())
    print(tally)
    assert tally.wrong == [], tally


# -- through the command line ----------------------------------------------------------------------

PUSH, PULL = ("author", "empty", "push"), ("clone", "v2", "pull")
ENDS = {
    # What is done to which request, of which command: the exit code, and what is said.
    "denied": (PUSH, ("PUT", "/packs/", "status", 403), 5, "access was denied"),
    "denied to list": (PULL, ("GET", "prefix=", "status", 403), 5, "access was denied"),
    "no bucket": (PULL, ("GET", "datastore.json", "status", 404), 3, "nothing was ever pushed"),
    "a pack is gone": (PULL, ("GET", "/packs/", "status", 404), 3, "origin"),
    "a bit is always turned": (PULL, ("GET", "/packs/", "corrupt", 300), 7, "damaged"),
    "nothing is listed": (PULL, ("GET", "prefix=", "empty_listing"), 3, "origin"),
    "the server always fails": (PUSH, ("PUT", "/index/", "status", 500), 5, "10 tries"),
    "too many requests": (PUSH, ("PUT", "/roots/", "status", 429), 5, "fewer requests"),
    "no network": (PULL, (".*", "", "reset"), 5, "the connection broke off"),
    "silence": (PULL, ("GET", "/packs/", "stall"), 5, "no answer in time"),
}


@pytest.mark.parametrize("end", ENDS)
def test_exit_codes(matrix, end):
    (moment, remote, verb), rule, code, said = ENDS[end]
    with matrix.stage.scene(moment, remote) as scene:
        matrix.proxy.clear()
        matrix.proxy.add(*rule)
        found = do_cli(scene.top, verb)
        assert found["code"] == code, found
        assert said in found["err"], found
        assert "hint:" in found["err"], found
        assert scene.url in found["err"] or "origin" in found["err"], found
        assert "Traceback" not in found["err"]
        matrix.proxy.clear()
        assert scene.wrong_files() == []
        assert do_cli(scene.top, verb)["code"] == 0
        scene.check_fresh()


@pytest.mark.parametrize(("verb", "most"), [("push", 12), ("pull", 6)])
@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 0.95])
def test_credentials_expire_in_the_middle(matrix, monkeypatch, verb, most, share):
    monkeypatch.setitem(answers._S3_CODES, 400, "ExpiredToken")
    moment, remote = ("author", "empty") if verb == "push" else ("clone", "v2")
    with matrix.stage.scene(moment, remote) as scene:
        matrix.proxy.clear()
        matrix.proxy.add(".*", scene.name, "status", 400, skip=int(most * share))
        found = do_cli(scene.top, verb)
        assert found["code"] == 5, found
        assert "have expired" in found["err"]
        assert "Log in again" in found["err"]
        matrix.proxy.clear()
        assert scene.wrong_files() == []
        assert do_cli(scene.top, verb)["code"] == 0
        scene.check_fresh()
