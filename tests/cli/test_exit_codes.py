"""Every exit code, reached as a user would reach it."""

from __future__ import annotations

import random

import pytest


def flip_a_byte(project) -> None:
    """Damages every pack that holds data, in the middle."""
    for pack in project.store.rglob("*.pack"):
        data = bytearray(pack.read_bytes())
        data[len(data) // 2] ^= 1
        pack.chmod(0o644)
        pack.write_bytes(data)


def test_done(project):
    assert project.run("status").exit_code == 0


def test_differences(changed):
    assert changed.run("status", "--exit-code").exit_code == 1


def test_usage(project):
    assert project.run("add", "../outside").exit_code == 2


@pytest.mark.parametrize(
    "args",
    [
        ["add", "nothing-here"],
        ["cat", "images/nope"],
        ["diff", "v9..v1"],
        ["diff", "v9", "--"],
        ["checkout", "v9", "--", "images"],
        ["ls", "v1:nope"],
        ["status", "nope"],
        ["log", "nope"],
        ["verify", "--rev", "v9"],
    ],
)
def test_not_found(project, args):
    result = project.run(*args)
    assert result.exit_code == 3, result.output
    assert result.stderr.startswith("error: ")


def test_conflict(changed):
    assert changed.run("checkout", "v1").exit_code == 4


def test_storage(project):
    for pack in (project.store / "packs").iterdir():
        if pack.is_dir():
            for each in pack.iterdir():
                each.unlink()
            pack.rmdir()
    (project.store / "packs").rmdir()
    (project.store / "packs").write_bytes(b"in the way")
    project.write("images/more", b"more")
    assert project.run("add", "images").exit_code == 5


def test_locked(project, monkeypatch):
    from datastore.storage.lock import FileLock
    from datastore.workspace import adding

    monkeypatch.setattr(adding, "LOCK_TIMEOUT", 0.1)
    project.write("images/more", b"more")
    held = FileLock(project.store / "workspace.lock", command="somebody's add")
    with held.acquire(1):
        result = project.run("add", "images")
    assert result.exit_code == 8
    assert "somebody's add" in result.stderr
    assert project.run("add", "images").exit_code == 0


def test_format(project):
    project.write("images.ds", "datastore: 1\nkind: films\n")
    assert project.run("ls", "images").exit_code == 6


def test_corruption(project):
    project.write("images/noise", random.Random(1).randbytes(100_000))
    project.ok("add", "images")
    flip_a_byte(project)
    result = project.run("verify")
    assert result.exit_code == 7
    assert "damaged: " in result.stdout
    assert project.json("verify")["ok"] is False
    assert project.run("cat", "images/noise").exit_code == 7
