"""The tour: what it shows is real, and it touches nothing else."""

from __future__ import annotations

import json
import os
import time
import zlib

import pytest
from click.testing import CliRunner

from datastore.cli.commands import demo
from datastore.cli.main import program


@pytest.fixture(scope="module")
def tour(tmp_path_factory):
    """One run for all tests, in a directory that stays."""
    kept = tmp_path_factory.mktemp("tour") / "kept"
    began = time.monotonic()
    result = CliRunner().invoke(program, ["demo", "--keep", str(kept), "--json"])
    assert result.exit_code == 0, result.output
    return kept, json.loads(result.stdout)["steps"], time.monotonic() - began


def shown(steps, command: str) -> str:
    return next(step["output"] for step in steps if step["command"] == command)


def test_every_step_succeeds_in_time(tour):
    _, steps, seconds = tour
    assert [step["command"] for step in steps if step["exit_code"]] == []
    assert len(steps) == sum(isinstance(step, demo.Run) for step in demo.TOUR)
    assert seconds < 10 * 3  # 10 is the promise; the rest is for a busy machine


def test_it_shows_what_it_says(tour):
    _, steps, _ = tour
    assert "40 files" in shown(steps, "datastore add images labels.csv")
    assert "images/circles/007.png -> images/circles/seven.png" in shown(steps, "datastore status")
    assert "diff --datastore a/images.ds b/images.ds" in shown(steps, "git diff")
    assert "4 files changed" in shown(steps, "datastore diff v1..v2")
    assert "squares/004.png,square," in shown(steps, "datastore cat v1:labels.csv")
    assert "Everything is as it was stored." in shown(steps, "datastore verify")


def test_it_ends_clean(tour):
    kept, steps, _ = tour
    matching = [s for s in steps if s["output"].startswith("Everything matches its pointer")]
    assert len(matching) == 2
    assert (kept / "tour" / "images" / "circles" / "seven.png").exists()


def test_a_colleague_gets_what_was_pushed(tour):
    kept, steps, _ = tour
    pushes = [step["output"] for step in steps if step["command"] == "datastore push"]
    assert "sent 4 versions" in pushes[0]
    assert "Everything is there already." in pushes[1]
    assert contents(kept / "colleague") == contents(kept / "tour")
    first = sorted(path.name for path in (kept / "first" / "images" / "circles").iterdir())
    assert first == [f"{number:03}.png" for number in range(20)]


def contents(top):
    files = [*(top / "images").rglob("*.png"), top / "labels.csv"]
    return {path.relative_to(top): path.read_bytes() for path in files}


def test_it_shows_commands_and_leaves_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    monkeypatch.setattr(demo, "TOUR", demo.TOUR[:4])
    result = CliRunner().invoke(program, ["demo"])
    assert result.exit_code == 0, result.output
    assert "$ datastore init\nReady to version data in " in result.stdout
    assert os.listdir(tmp_path) == []


def test_it_stops_where_a_step_fails(monkeypatch):
    monkeypatch.setattr(demo, "TOUR", (demo.Run("git nonsense"), demo.Run("git --version")))
    result = CliRunner().invoke(program, ["demo"])
    assert result.exit_code == 1
    assert "$ git nonsense\n" in result.stdout
    assert "--version" not in result.stdout


def test_it_overwrites_nothing(tmp_path):
    result = CliRunner().invoke(program, ["demo", "--keep", str(tmp_path)])
    assert result.exit_code == 2
    assert "exists already" in result.stderr


def test_its_pictures_are_pictures():
    data = demo.picture("circles", 3)
    assert data.startswith(b"\x89PNG\r\n\x1a\n")
    start = data.index(b"IDAT") + 4
    length = int.from_bytes(data[start - 8 : start - 4], "big")
    pixels = zlib.decompress(data[start : start + length])
    assert len(pixels) == demo.SIDE * (1 + 3 * demo.SIDE)
    drawn = {demo.picture(kind, n) for kind in ("circles", "squares") for n in range(21)}
    assert len(drawn) == 42
