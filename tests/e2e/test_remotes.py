"""Sharing, as a new user would try it: two clones, real servers, and the program as a process."""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.remote_data import snapshot, write_version
from tests.e2e.remote_people import (
    Person,
    begin,
    local_settings,
    stored_bytes,
)
from tests.servers.processes import Address, Ports

PLACES = ["s3", "gcs", "azure", "sftp", "directory"]


@pytest.fixture
def place(request):
    return request.getfixturevalue(request.param)


@pytest.fixture
def ada(shell) -> Person:
    return Person(shell("ada").directory)


# -- three versions, there and back ----------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("place", PLACES, indirect=True)
def test_three_versions_go_to_another_clone(ada, place, tmp_path):
    if place.url.startswith("gs:"):
        ada = Person(ada.directory, program=("git", "ds"))
    begin(ada, place)
    data = ada.directory / "data"
    contents = {}

    write_version(data, 1)
    contents["v1"] = snapshot(data)
    assert len(contents["v1"]) > 280
    ada.tagged("v1", "data")
    assert "1 of 1 version not there" in ada.datastore("status", "--remote")
    first = ada.json("push")
    assert [each["path"] for each in first["roots"]] == ["data"]
    assert first["bytes"] > 15_000_000
    assert "Everything is there (1 version)." in ada.datastore("status", "--remote")

    for number in (2, 3):
        write_version(data, number)
        contents[f"v{number}"] = snapshot(data)
        ada.tagged(f"v{number}", "data")
    missing = ada.json("status", "--remote", "--exit-code", status=1)["remote"]["missing"]
    assert [each["rev"] for each in missing] == [
        ada.git("rev-parse", tag).strip()[: len(missing[0]["rev"])] for tag in ("v2", "v3")
    ]
    second = ada.json("push")
    assert len(second["roots"]) == 2
    assert second["bytes"] < first["bytes"] / 8  # an insertion into 20 MB costs what is around it
    assert ada.datastore("push").endswith("): Everything is there already.\n")
    assert ada.json("status", "--remote", "--exit-code")["remote"]["missing"] == []

    bea = ada.cloned("bea")
    (status,) = bea.json("status")["pointers"]
    assert status["state"] == "missing", status["message"]
    bea.git("checkout", "-q", "v1")
    assert bea.datastore("pull").startswith("data: ")
    assert snapshot(bea.directory / "data") == contents["v1"]
    bea.git("checkout", "-q", "main")
    third = bea.json("pull")
    assert third["fetched_bytes"] < first["bytes"] / 8
    assert snapshot(bea.directory / "data") == contents["v3"]
    assert bea.json("status")["clean"]
    assert bea.git("status", "--porcelain") == ""

    out = tmp_path / "out"
    bea.datastore("pull", "--rev", "v2", "--out", str(out), "data/images/cat")
    wanted = {
        path.removeprefix("images/cat/"): what
        for path, what in contents["v2"].items()
        if path.startswith("images/cat/")
    }
    assert len(wanted) == 64
    assert snapshot(out / "data/images/cat") == wanted
    assert sum(1 for path in out.rglob("*") if path.is_file()) == 64
    assert snapshot(bea.directory / "data") == contents["v3"]  # the workspace is as it was
    assert bea.json("verify", "--rev", "HEAD")["ok"]


@pytest.mark.parametrize("place", PLACES, indirect=True)
def test_a_small_version_by_both_programs(ada, place):
    begin(ada, place)
    write_small(ada, {"a.jpg": b"a" * 3000, "b/c.jpg": b"c" * 200_000})
    ada.tagged("v1", "images")
    ada.git("ds", "push", "-q")
    bea = ada.cloned("bea")
    bea.git("ds", "pull", "-q")
    assert snapshot(bea.directory / "images") == snapshot(ada.directory / "images")
    assert bea.datastore("remote", "check", "-q") == ""


def write_small(person: Person, files: dict[str, bytes], dataset: str = "images") -> None:
    for name, content in files.items():
        path = person.directory / dataset / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)


# -- what remote check says when something is wrong ------------------------------------------------


def trouble(person: Person, url: str, *options: str) -> str:
    """Names a remote, which says at once what is wrong; returns what ``remote check`` then says."""
    person.git("init", "-q")
    person.datastore("init", "-q")
    words = [f"{word}" for option in options for word in ("-o", option)]
    begun = time.monotonic()
    warned = person.call(*person.program, "remote", "add", "origin", url, *words, status=0).err
    assert time.monotonic() - begun < 20
    assert "warning: the remote was added, but it does not work yet" in warned
    said = person.datastore("remote", "check", status=5)
    assert "does not work" in said.splitlines()[0]
    found = person.json("remote", "check", status=5)
    assert found["ok"] is False
    bad = next(check for check in found["checks"] if not check["ok"])
    assert bad["hint"]
    assert bad["hint"] in warned
    assert bad["hint"] in said
    return f"{bad['name']}: {bad['value']} -> {bad['hint']}"


@pytest.mark.parametrize(
    ("place", "url", "said"),
    [
        ("s3", "s3://no-such-bucket/cats", "there is no such bucket"),
        ("gcs", "gs://no-such-bucket/cats", "there is no such bucket"),
        ("azure", "az://no-such-container/cats", "there is no such bucket"),
    ],
    indirect=["place"],
)
def test_no_such_bucket(ada, place, url, said):
    options = [f"endpoint_url={place.endpoint.url}"] if url[0] in "sg" else []
    found = trouble(ada, url, *options)
    assert said in found
    assert "Create it with the provider's own tools" in found


def test_a_wrong_secret_for_s3(ada, s3, monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    found = trouble(ada, s3.url, f"endpoint_url={s3.endpoint.url}")
    assert "the signature does not match: the secret is wrong" in found


def test_an_unknown_key_for_s3(ada, s3, monkeypatch):
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "nobody")
    found = trouble(ada, s3.url, f"endpoint_url={s3.endpoint.url}")
    assert "no valid credentials" in found
    assert "aws configure" in found


def test_no_credentials_for_s3(ada, s3, monkeypatch):
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    monkeypatch.delenv("AWS_SECRET_ACCESS_KEY")
    found = trouble(ada, s3.url, f"endpoint_url={s3.endpoint.url}")
    assert "no valid credentials" in found
    assert "AWS_ACCESS_KEY_ID" in found


def test_a_wrong_secret_for_azure(ada, azure, monkeypatch):
    text = azure.environment["AZURE_STORAGE_CONNECTION_STRING"]
    wrong = text.replace("Eby8vdM02", "Eby8vdM03")
    assert wrong != text
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", wrong)
    found = trouble(ada, azure.url)
    assert "the signature does not match" in found


def test_no_credentials_for_azure(ada, azure, monkeypatch):
    monkeypatch.delenv("AZURE_STORAGE_CONNECTION_STRING")
    found = trouble(ada, azure.url)
    assert "no valid credentials" in found
    assert "az login" in found


def closed_port() -> Address:
    with Ports(1) as ports:
        return Address("127.0.0.1", next(iter(ports)))


def test_nobody_listens(ada, s3):
    found = trouble(ada, s3.url, f"endpoint_url={closed_port().url}")
    assert "the server cannot be reached" in found
    assert "endpoint_url" in found


@pytest.mark.slow
def test_nobody_listens_for_gcs(ada, gcs):
    assert "the server cannot be reached" in trouble(
        ada, gcs.url, f"endpoint_url={closed_port().url}"
    )


@pytest.mark.slow
def test_nobody_listens_for_sftp(ada, sftp):
    port = closed_port().port
    url = f"sftp://someone@127.0.0.1:{port}/data"
    assert "the server cannot be reached" in trouble(ada, url, f"key_file={sftp.key}")


@pytest.mark.slow
def test_an_unknown_host(ada, s3):
    found = trouble(ada, s3.url, "endpoint_url=http://storage.invalid")
    assert "the server cannot be reached" in found


@pytest.mark.slow
def test_an_unknown_host_for_sftp(ada, sftp):
    found = trouble(ada, "sftp://nobody@storage.invalid/data", f"key_file={sftp.key}")
    assert "the server cannot be reached" in found


def test_an_unknown_host_key(ada, sftp, tmp_path):
    (tmp_path / "known").write_text("")
    options = [f"key_file={sftp.key}", f"known_hosts={tmp_path / 'known'}"]
    found = trouble(ada, sftp.url, *options)
    assert "the server's host key is not known" in found
    assert "SHA256:" in found
    assert f"ssh-keyscan -p {sftp.endpoint.port}" in found


def test_a_host_key_that_changed(ada, sftp, tmp_path):
    other = sftp.key.with_suffix(".pub").read_text()
    (tmp_path / "known").write_text(f"[127.0.0.1]:{sftp.endpoint.port} {other}")
    options = [f"key_file={sftp.key}", f"known_hosts={tmp_path / 'known'}"]
    assert "Somebody may be in between" in trouble(ada, sftp.url, *options)


def test_a_key_that_is_not_let_in(ada, sftp):
    key = sftp.key.with_name("host_key")
    options = [f"key_file={key}", f"known_hosts={sftp.known_hosts}"]
    assert "no valid credentials" in trouble(ada, sftp.url, *options)


def test_a_key_file_that_is_none(ada, sftp, tmp_path):
    (tmp_path / "key").write_text("-----BEGIN OPENSSH PRIVATE KEY-----\nhello\n")
    options = [f"key_file={tmp_path / 'key'}", f"known_hosts={sftp.known_hosts}"]
    found = trouble(ada, sftp.url, *options)
    assert "no valid credentials" in found
    assert "Correct the remote's options." in found


def test_a_token_file_that_is_missing(ada, gcs, tmp_path):
    options = [f"token_file={tmp_path / 'key.json'}", f"endpoint_url={gcs.endpoint.url}"]
    found = trouble(ada, gcs.url, *options)
    assert "no valid credentials" in found
    assert "No such file or directory" in found


@pytest.mark.parametrize("scheme", ["s3", "gs"])
def test_an_endpoint_that_is_no_url(ada, scheme):
    ada.git("init", "-q")
    ada.datastore("init", "-q")
    words = ["-o", "endpoint_url=storage.example.org:9000"]
    said = ada.fail("remote", "add", "origin", f"{scheme}://b/x", *words, status=2)
    assert "the option endpoint_url is the address of a server" in said
    assert "https://host" in said


def test_something_else_lies_there(ada, directory):
    directory.path.mkdir()
    (directory.path / "datastore.json").write_text("{}")
    assert "is not what a remote begins with" in trouble(ada, directory.url)


def test_a_directory_whose_parent_is_missing(ada, tmp_path):
    url = str(tmp_path / "no/such/mount")
    assert "directory is not there" in trouble(ada, url)


# -- parts of the data -----------------------------------------------------------------------------


@pytest.mark.slow
def test_looking_around_in_a_clone_without_data(ada, s3):
    begin(ada, s3)
    cats = {f"cat/{n}.jpg": os.urandom(300_000) for n in range(12)}
    write_small(ada, {**cats, "notes.txt": b"first\n"})
    ada.tagged("v1", "images")
    write_small(ada, {"notes.txt": b"second\n", "dog/1.jpg": b"dog"})
    ada.tagged("v2", "images")
    ada.datastore("push", "-q")
    bea = ada.cloned("bea")
    assert "images/cat/7.jpg\n" in bea.datastore("ls", "-r", "v1:images")
    assert bea.json("diff", "v1", "v2")["files"] == {
        "added": 1,
        "removed": 0,
        "modified": 1,
        "renamed": 0,
    }
    assert [each["subject"] for each in bea.json("log", "images")["versions"]] == ["v2", "v1"]
    assert bea.cat("v1:images/notes.txt") == b"first\n"
    assert bea.cat("images/cat/7.jpg") == cats["cat/7.jpg"]
    assert bea.datastore("pull", "images/dog").startswith("images: 1 file written")
    assert snapshot(bea.directory / "images").keys() == {"dog/1.jpg"}
    assert stored_bytes(bea) < 1_200_000  # of 3.6 MB; a range may take in a neighbour
    assert bea.json("doctor", status=1)["checks"]  # no drivers, but nothing to say of the store
    assert "origin: fetched " in bea.datastore("fetch", "v2", "--", "images/cat/8.jpg")
    bea.datastore("pull", "-q")
    assert snapshot(bea.directory / "images") == snapshot(ada.directory / "images")


@pytest.mark.slow
def test_a_store_with_a_limit(ada, s3):
    begin(ada, s3)
    contents = {}
    for number in range(1, 4):
        contents[f"v{number}"] = os.urandom(2_000_000)
        write_small(ada, {"large.bin": contents[f"v{number}"]})
        ada.tagged(f"v{number}", "images")
    assert stored_bytes(ada) > 6_000_000
    local_settings(ada, "store:", "  max_size: 5 MB")
    ada.datastore("push", "-q")
    assert stored_bytes(ada) <= 5_000_000
    for tag, content in contents.items():
        assert ada.cat(f"{tag}:images/large.bin") == content
    ada.datastore("fetch", "-q", "v1", "v2", "v3")
    assert stored_bytes(ada) <= 5_000_000
    for tag, content in contents.items():
        ada.datastore("checkout", "-q", tag)
        assert (ada.directory / "images/large.bin").read_bytes() == content
    assert ada.json("push", "--verify")["healed"] == []
    assert stored_bytes(ada) <= 5_000_000


def test_nothing_is_dropped_that_no_remote_has(ada, directory):
    begin(ada, directory)
    local_settings(ada, "store:", "  max_size: 1 MB")
    for number in range(1, 4):
        write_small(ada, {"large.bin": os.urandom(1_000_000)})
        ada.tagged(f"v{number}", "images")
    assert stored_bytes(ada) > 3_000_000
    ada.datastore("push", "-q", "v1")
    assert 2_000_000 < stored_bytes(ada) < 2_100_000


def test_what_only_another_remote_has_is_not_dropped(ada, directory, tmp_path):
    begin(ada, directory)
    ada.datastore("remote", "add", "-q", "backup", str(tmp_path / "backup"))
    local_settings(ada, "store:", "  max_size: 1 MB")
    content = os.urandom(1_500_000)
    write_small(ada, {"large.bin": content})
    ada.tagged("v1", "images")
    ada.datastore("push", "-q", "--remote", "backup")
    assert ada.cat("v1:images/large.bin") == content
    assert len(ada.json("push")["roots"]) == 1


def test_a_pull_from_another_remote_needs_only_that_one(ada, directory, tmp_path):
    begin(ada, directory)
    ada.datastore("remote", "add", "-q", "backup", str(tmp_path / "backup"))
    write_small(ada, {"large.bin": os.urandom(1_500_000)})
    ada.tagged("v1", "images")
    ada.datastore("push", "-q")
    ada.datastore("push", "-q", "--remote", "backup")
    bea = ada.cloned("bea")
    local_settings(bea, "store:", "  max_size: 1 MB")
    directory.path.rename(tmp_path / "away")
    bea.datastore("pull", "-q", "--remote", "backup")
    assert snapshot(bea.directory / "images") == snapshot(ada.directory / "images")


# -- get -------------------------------------------------------------------------------------------


def test_get_from_the_url_of_a_repository(ada, s3, tmp_path):
    begin(ada, s3)
    write_small(ada, {"cat/1.jpg": b"one", "cat/2.jpg": b"two", "dog.jpg": b"dog"})
    ada.tagged("v1", "images")
    write_small(ada, {"cat/1.jpg": b"another"})
    ada.tagged("v2", "images")
    ada.datastore("push", "-q")
    ada.git("clone", "-q", "--bare", ".", str(tmp_path / "hub.git"))
    elsewhere = Person(tmp_path)
    url = (tmp_path / "hub.git").as_uri()
    said = elsewhere.datastore("get", url, "images", "--rev", "v1", "--out", "got")
    assert said.startswith("Wrote 3 files")
    assert (tmp_path / "got/images/cat/1.jpg").read_bytes() == b"one"
    assert snapshot(tmp_path / "got/images").keys() == {"cat/1.jpg", "cat/2.jpg", "dog.jpg"}
    elsewhere.datastore("get", "-q", url, "images/cat/1.jpg", "--out", "newest")
    assert (tmp_path / "newest/images/cat/1.jpg").read_bytes() == b"another"
    assert not (tmp_path / "newest/images/dog.jpg").exists()
    assert elsewhere.fail("get", url, "pictures", "--out", "x", status=3)
    assert elsewhere.fail("get", url, "images", "--rev", "v9", "--out", "x", status=3)
    assert elsewhere.fail("get", f"{url}x", "images", "--out", "x", status=3)
    assert not (tmp_path / "x").exists()


# -- Git's pre-push hook ---------------------------------------------------------------------------


def test_git_push_sends_the_data_first(ada, directory, tmp_path):
    begin(ada, directory)
    hub = tmp_path / "hub.git"
    ada.git("init", "-q", "--bare", str(hub))
    notes = tmp_path / "notes"
    arrival = hub / "hooks/pre-receive"  # runs before the hub takes a commit
    arrival.write_text(f"#!/bin/sh\nls {directory.path}/roots/* | wc -l >> {notes}\n")
    arrival.chmod(0o755)
    ada.git("remote", "add", "hub", str(hub))
    ada.datastore("git", "install", "--pre-push", "-q")
    for number in (1, 2):
        write_small(ada, {f"{number}.jpg": os.urandom(1000)})
        ada.tagged(f"v{number}", "images")
        ada.git("push", "-q", "hub", "main")
    assert notes.read_text().split() == ["1", "2"]


@pytest.mark.slow
def test_git_does_not_push_while_the_remote_is_down(ada, proxied_s3, tmp_path):
    begin(ada, proxied_s3)
    ada.git("init", "-q", "--bare", str(tmp_path / "hub.git"))
    ada.git("remote", "add", "hub", str(tmp_path / "hub.git"))
    ada.datastore("git", "install", "--pre-push", "-q")
    write_small(ada, {"1.jpg": b"one"})
    ada.tagged("v1", "images")
    proxied_s3.proxy.down()
    ended = ada.call("git", "push", "hub", "main")
    assert ended.status != 0
    assert "the server cannot be reached" in ended.err
    assert "The data was not sent, so Git is told not to push." in ended.err
    assert ada.git("ls-remote", "hub") == ""
    proxied_s3.proxy.up()
    assert "sent 1 version" in ada.call("git", "push", "hub", "main", status=0).err
    assert "refs/heads/main" in ada.git("ls-remote", "hub")
    bea = ada.cloned("bea")
    bea.datastore("pull", "-q")
    assert (bea.directory / "images/1.jpg").read_bytes() == b"one"


# -- Ctrl-C ----------------------------------------------------------------------------------------

SLOW = 1_500_000
"""Bytes per second: what is sent below takes some ten seconds."""


@pytest.fixture
def slow(ada, proxied_s3):
    """A repository with 16 MB to be sent over a slow line, and the line."""
    begin(ada, proxied_s3)
    write_small(ada, {f"{n}.bin": os.urandom(2_000_000) for n in range(8)})
    ada.tagged("v1", "images")
    proxied_s3.proxy.clear()
    proxied_s3.proxy.latency, proxied_s3.proxy.bandwidth = 0.05, SLOW
    return proxied_s3.proxy


def assert_interrupted(ended, hint: str) -> None:
    assert ended.status == 130
    assert ended.err.startswith("error: interrupted\nhint: ")
    assert hint in ended.err
    assert "Traceback" not in ended.err
    assert "Exception" not in ended.err
    assert ended.out == ""
    assert ended.seconds < 2


@pytest.mark.slow
def test_a_push_is_interrupted_and_run_again(ada, slow):
    ended = ada.interrupt("push", when=lambda: slow.bytes_up > 1_000_000)
    assert_interrupted(ended, "What was sent stays there; run the same command again")
    slow.clear()
    assert len(ada.json("status", "--remote")["remote"]["missing"]) == 1
    assert len(ada.json("push")["roots"]) == 1
    bea = ada.cloned("bea")
    bea.datastore("pull", "-q")
    assert snapshot(bea.directory / "images") == snapshot(ada.directory / "images")


@pytest.mark.slow
def test_a_pull_is_interrupted_and_run_again(ada, slow, tmp_path):
    slow.clear()
    ada.datastore("push", "-q")
    everything = snapshot(ada.directory / "images")
    bea = ada.cloned("bea")
    slow.latency, slow.bandwidth = 0.05, SLOW
    ended = bea.interrupt("pull", when=lambda: slow.bytes_down > 3_000_000)
    assert_interrupted(ended, "What has arrived is kept; run the same command again")
    if (bea.directory / "images").exists():  # what is there is whole
        assert snapshot(bea.directory / "images").items() <= everything.items()
    slow.clear()
    bea.datastore("pull", "-q")
    assert snapshot(bea.directory / "images") == everything
    assert bea.json("status")["clean"]

    slow.clear()
    slow.latency, slow.bandwidth = 0.05, SLOW
    elsewhere = Person(tmp_path)
    ended = elsewhere.interrupt(
        "get",
        ada.directory.as_uri(),
        "images",
        "--out",
        "got",
        when=lambda: slow.bytes_down > 3_000_000,
    )
    assert_interrupted(ended, "No file is half written; run the same command again")
    slow.clear()
    elsewhere.datastore("get", "-q", ada.directory.as_uri(), "images", "--out", "got")
    assert snapshot(tmp_path / "got/images") == everything


# -- several users of the system -------------------------------------------------------------------

GROUP = 12345
NOBODY = 65534


@pytest.fixture
def open_directory(shell) -> Iterator[Path]:
    """A directory that everybody may read, with settings of Git for everybody."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        pytest.skip("only root can be somebody else")
    top = Path(tempfile.mkdtemp(prefix="datastore-people-"))
    top.chmod(0o755)
    (top / "gitconfig").write_text(
        "[user]\n\tname = Some Body\n\temail = body@example.org\n"
        "[init]\n\tdefaultBranch = main\n[safe]\n\tdirectory = *\n"
    )
    yield top
    shutil.rmtree(top)


def somebody(top: Path, name: str, user: int, *groups: int) -> Person:
    """A user of the system with a directory of their own."""
    home = top / name
    home.mkdir()
    os.chown(home, user, user)
    environment = {
        "HOME": str(home),
        "XDG_CONFIG_HOME": str(home),
        "GIT_CONFIG_GLOBAL": str(top / "gitconfig"),
        "GIT_CEILING_DIRECTORIES": str(top),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    listed = ",".join(map(str, groups))
    program = (sys.executable, "-P", "-m", "tests.e2e.remote_somebody", str(user), listed)
    work = home / "work"
    work.mkdir()
    os.chown(work, user, user)
    return Person(work, program=program, environment=environment, user=user, groups=groups)


@pytest.mark.slow
def test_two_people_share_a_directory(open_directory):
    team = open_directory / "team"
    team.mkdir()
    os.chown(team, 0, GROUP)
    team.chmod(0o2775)
    hub = open_directory / "hub.git"
    ada = somebody(open_directory, "ada", NOBODY, GROUP)
    bea = somebody(open_directory, "bea", NOBODY - 1, GROUP)
    ada.git("init", "-q")
    Person(open_directory, environment=ada.environment).git(
        "init", "-q", "--bare", "--shared=0666", str(hub)
    )
    for each in [hub, *hub.rglob("*")]:
        each.chmod(0o777 if each.is_dir() else 0o666)

    ada.datastore("init", "-q")
    ada.datastore("remote", "add", "-q", "team", str(team))
    as_user(ada, {"1.jpg": os.urandom(5000)})
    ada.tagged("v1", "images")
    ada.datastore("push", "-q")
    ada.git("push", "-q", str(hub), "main")

    bea.git("clone", "-q", str(hub), ".")
    bea.datastore("pull", "-q")
    assert snapshot(bea.directory / "images") == snapshot(ada.directory / "images")
    as_user(bea, {"2.jpg": os.urandom(5000)})
    bea.tagged("v2", "images")
    assert bea.json("push")["bytes"] > 5000
    bea.git("push", "-q", str(hub), "main")

    ada.git("pull", "-q", str(hub), "main")
    ada.datastore("pull", "-q")
    assert snapshot(ada.directory / "images") == snapshot(bea.directory / "images")
    for number in range(18):  # until the index is merged, which deletes what the other wrote
        who = (ada, bea)[number % 2]
        as_user(who, {f"n{number}.jpg": os.urandom(500)})
        who.tagged(f"n{number}", "images")
        who.datastore("push", "-q")
    assert ada.datastore("push", "--verify").endswith("Everything is there already.\n")
    for path in team.rglob("*"):
        there = path.stat()
        assert there.st_gid == GROUP, path
        assert there.st_mode & 0o040, path


def as_user(person: Person, files: dict[str, bytes]) -> None:
    """Writes files that belong to a person."""
    write_small(person, files)
    for path in [person.directory / "images", *(person.directory / "images").rglob("*")]:
        os.chown(path, person.user, person.user)


@pytest.mark.slow
def test_a_reader_of_a_directory(open_directory, ada):
    remote = open_directory / "remote"
    ada.git("init", "-q")
    ada.datastore("init", "-q")
    ada.datastore("remote", "add", "-q", "origin", str(remote))
    write_small(ada, {"1.txt": b"one\n", "2.jpg": os.urandom(200_000)})
    ada.tagged("v1", "images")
    ada.datastore("push", "-q")
    ada.git("clone", "-q", "--bare", ".", str(open_directory / "hub.git"))
    before = sorted(remote.rglob("*"))

    reader = somebody(open_directory, "reader", NOBODY)
    reader.git("clone", "-q", str(open_directory / "hub.git"), ".")
    assert reader.datastore("cat", "images/1.txt") == "one\n"
    reader.datastore("pull", "-q")
    assert snapshot(reader.directory / "images") == snapshot(ada.directory / "images")
    assert reader.json("status", "--remote")["remote"]["missing"] == []
    assert "Everything is there already." in reader.datastore("push")
    found = reader.json("remote", "check", status=5)
    assert {check["name"]: check["ok"] for check in found["checks"]} == {
        "read": True,
        "list": True,
        "write": False,
    }
    assert "Permission denied" in found["checks"][-1]["value"]
    as_user(reader, {"3.jpg": b"mine"})
    reader.tagged("v2", "images")
    said = reader.fail("push", status=5)
    assert "Permission denied" in said
    assert "hint: " in said
    assert sorted(remote.rglob("*")) == before
