"""Other places than S3, and servers that die: a smaller matrix each.

Google's and Microsoft's protocols get the faults of the proxy; SSH has its connections cut after so
many bytes; a directory is taken away, or may only be read.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import socket
import tempfile
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from datastore.errors import DatastoreError, StorageError
from tests.faults.driver import spread
from tests.faults.remote_driver import RemoteDriver
from tests.faults.remote_kit import Scene, Stage, hurry
from tests.faults.remote_matrix import FAULTS, SCENARIOS, Matrix
from tests.servers.faultproxy import FaultProxy
from tests.servers.fixtures import fresh
from tests.servers.places import AzurePlace, GcsPlace
from tests.servers.processes import LOOPBACK, Address

QUICK = 5
HTTP_FAULTS = (
    "503 twice",
    "500",
    "403 from here",
    "404 once",
    "reset",
    "answer lost",
    "reset in the body",
    "body cut short",
    "bit turned",
    "bit turned, upload",
    "empty listing",
)
"""Without those that wait for a time-out, which these clients have elsewhere each."""
COMMANDS = ("push", "push more", "fetch", "pull")


@pytest.fixture(scope="module", params=["gcs", "azure"])
def matrix(request, template, tmp_path_factory) -> Iterator[Matrix]:
    server = request.getfixturevalue(f"{request.param}_server")
    kind, scheme = {"gcs": (GcsPlace, "gs"), "azure": (AzurePlace, "az")}[request.param]
    with pytest.MonkeyPatch.context() as patch, FaultProxy(server.address) as proxy:
        hurry(patch)
        place = kind(url=fresh(scheme), endpoint=server.address).through(proxy).enter(patch)
        stage = Stage(tmp_path_factory.mktemp("stage"), template, place.url, place.options)
        yield Matrix(stage, proxy, {name: FAULTS[name] for name in HTTP_FAULTS})


@pytest.mark.parametrize("scenario", ["push more", "pull"])
def test_some_faults_at_some_operations(matrix, scenario):
    tally = matrix.run(scenario, lambda cells: spread(cells[3::5], QUICK))
    assert tally.wrong == [], tally


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("scenario", COMMANDS)
def test_every_fault_at_every_operation(matrix, scenario, record_property):
    assert scenario in SCENARIOS
    tally = matrix.run(scenario)
    record_property("fault matrix", tally.encode())
    print(tally)
    assert tally.wrong == [], tally


# -- SSH -------------------------------------------------------------------------------------------


class Relay:
    """Passes bytes between clients and a server, and cuts connections off.

    Args:
        server: Where the bytes go.

    Attributes:
        address: Where it listens.
        left: Bytes, of both directions together, after which every connection is reset; None for
            never. What comes after is passed on again where `once` is set.
    """

    def __init__(self, server: Address) -> None:
        self._server = server
        self._socket = socket.create_server((LOOPBACK, 0))
        self.address = Address(*self._socket.getsockname())
        self.left: int | None = None
        self.once = True
        self.passed = 0
        self._lock = threading.Lock()
        threading.Thread(target=self._listen, daemon=True).start()

    def close(self) -> None:
        self._socket.close()

    def _listen(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._socket.accept()
                pair = client, socket.create_connection(self._server)
                for one, other in (pair, pair[::-1]):
                    threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    def _pass(self, one: socket.socket, other: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while (data := one.recv(4096)) and not self._ends(len(data)):
                other.sendall(data)
        for each in (one, other):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _ends(self, size: int) -> bool:
        with self._lock:
            self.passed += size
            if self.left is None:
                return False
            self.left -= size
            if self.left > 0:
                return False
            if self.once:
                self.left = None
            return True


@pytest.fixture(scope="module")
def relay(ssh_server) -> Iterator[Relay]:
    made = Relay(ssh_server.server.address)
    yield made
    made.close()


@pytest.fixture(scope="module")
def ssh_stage(ssh_server, relay, template, tmp_path_factory) -> Iterator[Stage]:
    top = tmp_path_factory.mktemp("stage")
    (top / "remotes").mkdir()
    place = ssh_server.place(top / "remotes")
    known = top / "known_hosts"
    known.write_text(
        place.known_hosts.read_text().replace(f":{place.endpoint.port} ", f":{relay.address.port} ")
    )
    url = place.url.replace(f":{place.endpoint.port}/", f":{relay.address.port}/")
    moved = replace(place, url=url, known_hosts=known)
    with pytest.MonkeyPatch.context() as patch:
        hurry(patch)
        yield Stage(top, template, moved.url, moved.options)


def act(scene: Scene, verb: str) -> None:
    with scene.open() as repository:
        if verb == "push":
            repository.push()
        else:
            repository.pull()


def check_done(scene: Scene, verb: str) -> None:
    if verb == "push":
        scene.check_fresh()
    else:
        assert scene.holds("v2")
        scene.check_fetched("v2")


STARTS = {"push": ("author", "empty"), "pull": ("clone", "v2")}


def cut(stage: Stage, relay: Relay, verb: str, shares, *, once: bool) -> None:
    with stage.scene(*STARTS[verb]) as scene:
        before = relay.passed
        act(scene, verb)
        total = relay.passed - before
    for share in shares:
        with stage.scene(*STARTS[verb]) as scene:
            relay.once, relay.left = once, max(1, int(total * share))
            try:
                act(scene, verb)
            except DatastoreError as error:
                assert isinstance(error, StorageError), error
                assert not once, error
                assert scene.url in error.message, error
            finally:
                relay.left = None
            assert scene.wrong_files() == [], share
            act(scene, verb)
            check_done(scene, verb)


# The library's own threads do not expect a connection to end.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("verb", STARTS)
@pytest.mark.parametrize("once", [True, False])
def test_ssh_connections_are_cut(ssh_stage, relay, verb, once):
    cut(ssh_stage, relay, verb, (0.1, 0.6, 0.95), once=once)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
@pytest.mark.parametrize("verb", STARTS)
@pytest.mark.parametrize("once", [True, False])
def test_ssh_connections_are_cut_anywhere(ssh_stage, relay, verb, once):
    cut(ssh_stage, relay, verb, [at / 12 for at in range(12)], once=once)


# -- a server that dies ----------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("verb", STARTS)
def test_the_server_is_killed_and_comes_back(weed_server, template, tmp_path, monkeypatch, verb):
    from tests.servers.places import S3Place

    with FaultProxy(weed_server.address) as proxy:
        place = S3Place(url=fresh("s3"), endpoint=weed_server.address)
        place = place.through(proxy).enter(monkeypatch)
        stage = Stage(tmp_path, template, place.url, place.options)
        with stage.scene(*STARTS[verb]) as scene:
            proxy.clear()
            proxy.latency = 0.02
            ended: list[BaseException | None] = []
            working = threading.Thread(target=lambda: ended.append(_caught(scene, verb)))
            working.start()
            while not proxy.seen(path=f"{scene.name}/packs/"):
                time.sleep(0.005)
            weed_server.kill()
            weed_server.start()
            working.join(60)
            assert ended, "it hangs"
            assert ended[0] is None or isinstance(ended[0], StorageError), ended
            assert scene.wrong_files() == []
            act(scene, verb)
            check_done(scene, verb)


def _caught(scene: Scene, verb: str) -> BaseException | None:
    try:
        act(scene, verb)
    except BaseException as error:  # noqa: BLE001  (looked at by the test)
        return error
    return None


# -- a directory -----------------------------------------------------------------------------------


@pytest.fixture
def open_top() -> Iterator[Path]:
    """A directory that other users can enter; pytest's own are closed to them."""
    with tempfile.TemporaryDirectory() as directory:
        os.chmod(directory, 0o755)
        yield Path(directory)


@pytest.fixture
def directory_stage(template, open_top) -> Stage:
    (open_top / "remotes").mkdir()
    return Stage(open_top, template, str(open_top / "remotes"), {})


@pytest.fixture
def as_nobody():
    with RemoteDriver() as started:
        yield started


def own(scene: Scene, user: int) -> None:
    for base, directories, names in os.walk(scene.top):
        for name in ("", *directories, *names):
            os.lchown(os.path.join(base, name), user, user)


def test_a_directory_may_only_be_read(directory_stage, as_nobody):
    """Who may only read can pull, and is told why a push does not work."""
    if os.geteuid():
        pytest.skip("only root can be somebody else")
    with directory_stage.scene("author-v1", "v1") as scene:
        own(scene, 65534)
        found = as_nobody.run(scene.top, ("push",), user=65534)
        assert found.error.kind == "StorageError", found.error
        assert scene.url in found.error.message
        assert "ermission" in found.error.message + found.error.hint
        (said,) = as_nobody.run(scene.top, ("cli", "push"), user=65534).values
        assert said["code"] == 5, said
        clone = scene.fresh()
        own(clone, 65534)
        done = as_nobody.run(clone.top, ("fetch", "v1"), user=65534)
        assert done.error is None, done.error
        own(clone, 0)
        clone.check_fetched("v1")
        own(scene, 0)
        act(scene, "push")
        scene.check_fresh()


@pytest.mark.parametrize("what", ["remote", "packs", "index", "roots", "datastore.json"])
def test_a_directory_may_not_be_read(directory_stage, as_nobody, what):
    if os.geteuid():
        pytest.skip("only root can be somebody else")
    with directory_stage.scene("clone", "v2") as scene:
        own(scene, 65534)
        target = Path(scene.url) if what == "remote" else Path(scene.url, what)
        mode = target.stat().st_mode
        target.chmod(0)
        found = as_nobody.run(scene.top, ("pull",), user=65534)
        target.chmod(mode)
        if what == "roots":
            assert found.error is None, found.error  # they are for those who push
        else:
            assert found.error.kind == "StorageError", found.error
            assert scene.url in found.error.message
        assert scene.wrong_files() == []
        own(scene, 0)
        act(scene, "pull")
        check_done(scene, "pull")


@pytest.mark.parametrize("verb", STARTS)
def test_a_disk_is_taken_away_and_put_back(directory_stage, verb):
    """A mount point without its disk is not taken for a remote in which there is nothing."""
    moment, remote = {"push": ("author-v1", "v1"), "pull": ("clone-v1", "v2")}[verb]
    with directory_stage.scene(moment, remote) as scene:
        place = Path(scene.url)
        for leave_directory in (False, True):
            place.rename(f"{place}.away")
            if leave_directory:
                place.mkdir()
            with pytest.raises(DatastoreError, match=place.name):
                go_on(scene, verb)
            assert not place.exists() or not any(place.iterdir())
            shutil.rmtree(place, ignore_errors=True)
            Path(f"{place}.away").rename(place)
        go_on(scene, verb)
        check_done(scene, verb)


def go_on(scene: Scene, verb: str) -> None:
    """Pushes or pulls what a project with v1 still lacks."""
    with scene.open() as repository:
        if verb == "push":
            repository.push()
        else:
            repository.pull("v2")
