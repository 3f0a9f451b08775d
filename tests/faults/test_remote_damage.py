"""Bits turned, ends cut off and objects deleted on a remote: nothing wrong is ever written.

The remote is a directory, so that each kind of object can be damaged at many places; what is
damaged on S3 goes the same way from the adapter on, and once through all of it.
"""

from __future__ import annotations

import random
import shutil
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

import pytest

from datastore.errors import CorruptionError, DatastoreError, FormatError, NotFoundError
from datastore.objects.pack import Kind
from tests.faults.driver import disk_contents, do_cli, spread
from tests.faults.remote_kit import DATASET, VERSIONS, Scene, Stage, hurry
from tests.servers.fixtures import fresh
from tests.servers.places import S3Place

QUICK = 12
PER_OBJECT = 14
"""Places at which each object is damaged."""


@pytest.fixture(scope="module")
def stage(template, tmp_path_factory):
    """Projects and remotes in directories."""
    top = tmp_path_factory.mktemp("stage")
    (top / "remotes").mkdir()
    return Stage(top, template, str(top / "remotes"), {})


class Flip(NamedTuple):
    """A bit to turn."""

    key: str
    offset: int
    bit: int


def flips(stage: Stage) -> list[Flip]:
    """Chooses bits in every object: the first and the last bytes of it, and some between."""
    chance = random.Random(5)
    found = []
    for key, data in sorted(stage.remotes["v2"].items()):
        edges = {0, 5, 17, 40, 64, 80, len(data) - 1, len(data) - 20, len(data) - 50}
        inside = {chance.randrange(len(data)) for _ in range(PER_OBJECT - len(edges))}
        offsets = {offset for offset in edges | inside if 0 <= offset < len(data)}
        found += [Flip(key, offset, chance.randrange(8)) for offset in sorted(offsets)]
    return found


def turn(scene: Scene, flip: Flip) -> None:
    data = bytearray(scene.raw.read(flip.key))
    data[flip.offset] ^= 1 << flip.bit
    scene.raw.write(flip.key, bytes(data))


def pulled(clone: Scene) -> DatastoreError | None:
    try:
        with clone.open() as repository:
            repository.pull()
    except DatastoreError as error:
        return error
    return None


def check_pull(clone: Scene, flip: Flip) -> str:
    """Pulls from a damaged remote; says how it ended."""
    error = pulled(clone)
    assert clone.wrong_files() == [], flip
    if error is None:
        assert clone.holds("v2"), flip
        return "whole"
    assert isinstance(error, CorruptionError | FormatError | NotFoundError), (flip, error)
    if flip.key.startswith("packs/") and _kind(clone, flip.key) is Kind.DATA:
        _check_others(clone, flip, error)
    again = do_cli(clone.top, "pull")
    assert again["code"] == {FormatError: 6, NotFoundError: 3}.get(type(error), 7), (flip, again)
    assert clone.url in again["err"] or "origin" in again["err"], (flip, again)
    return type(error).__name__


def _check_others(clone: Scene, flip: Flip, error: DatastoreError) -> None:
    """Names the file and the pack; all that does not need what is damaged is there."""
    assert isinstance(error, CorruptionError), (flip, error)
    name = flip.key.rpartition("/")[2].removesuffix(".pack")
    assert name in error.message, (flip, error)
    missing = clone.stage.expected["v2"].keys() - disk_contents(clone.top, DATASET).keys()
    assert missing, flip
    assert any(path.removeprefix(f"{DATASET}/") in error.message for path in missing), error
    for path in missing:
        if path.removeprefix(f"{DATASET}/") not in error.message:
            with clone.open() as repository, pytest.raises(CorruptionError):
                repository.read(path)


def _kind(clone: Scene, key: str) -> Kind:
    sizes = {key: len(data) for key, data in clone.stage.remotes["v2"].items() if "packs/" in key}
    return Kind.DATA if sizes[key] > 5000 else Kind.META


def try_flip(stage: Stage, flip: Flip) -> str:
    with stage.scene("author-v2", "v2") as author:
        turn(author, flip)
        clone = author.fresh()
        ended = check_pull(clone, flip)
        if flip.key.startswith("packs/"):
            with author.open() as repository:
                repository.push(read_data=True)
            assert pulled(clone) is None, flip
            assert clone.holds("v2"), flip
            author.check_fresh()
        return ended


def count(stage: Stage, chosen: list[Flip]) -> dict[str, Counter[str]]:
    found: dict[str, Counter[str]] = {}
    for flip in chosen:
        kind = flip.key.partition("/")[0]
        found.setdefault(kind, Counter())[try_flip(stage, flip)] += 1
    return found


def test_some_bits_are_turned(stage):
    count(stage, spread(flips(stage), QUICK))


@pytest.mark.slow
def test_bits_are_turned_all_over(stage):
    found = count(stage, flips(stage))
    print(found)
    assert found["packs"]["CorruptionError"] > 20


# -- gone, and cut short ---------------------------------------------------------------------------


def objects(stage: Stage, prefix: str) -> list[str]:
    return [key for key in sorted(stage.remotes["v2"]) if key.startswith(prefix)]


def damages(stage: Stage) -> Iterator[tuple[str, bytes | None]]:
    """Lists ways to lose packs: deleted, empty, without the end, with more at the end."""
    for key in objects(stage, "packs/"):
        data = stage.remotes["v2"][key]
        yield key, None
        yield key, b""
        yield key, data[: len(data) // 2]
        yield key, data[:-1]
        yield key, data + b"more"


def lose(scene: Scene, key: str, data: bytes | None) -> None:
    if data is None:
        scene.raw.delete(key)
    else:
        scene.raw.write(key, data)


def try_lost_pack(stage: Stage, key: str, data: bytes | None) -> None:
    with stage.scene("author-v2", "v2") as author:
        lose(author, key, data)
        name = key.rpartition("/")[2]
        with author.open() as repository:
            seen = repository.remote_status()
            assert {each.pack for each in seen.damaged} == {name}, (key, seen)
            assert do_cli(author.top, "status", "--remote", "--exit-code")["code"] == 1
        clone = author.fresh()
        error = pulled(clone)
        assert clone.wrong_files() == [], key
        if error is not None:
            assert name.removesuffix(".pack") in error.message or author.url in error.message, error
        with author.open() as repository:
            done = repository.push(verify=True)
            assert done.healed == (name.removesuffix(".pack"),), (key, done)
            assert repository.remote_status().damaged == ()
        assert pulled(clone) is None, key
        assert clone.holds("v2"), key
        author.check_fresh()


def test_lost_packs_are_seen_and_healed(stage):
    for key, data in spread(list(damages(stage)), 6):
        try_lost_pack(stage, key, data)


@pytest.mark.slow
def test_every_lost_pack_is_seen_and_healed(stage):
    for key, data in damages(stage):
        try_lost_pack(stage, key, data)


@pytest.mark.parametrize("how", ["deleted", "turned"])
@pytest.mark.parametrize("forgotten", [False, True])
def test_the_index_is_damaged(stage, how, forgotten):
    """Healed from a clone that has the data, be it that it remembers the index or not."""
    for key in objects(stage, "index/"):
        with stage.scene("author-v2", "v2") as author:
            if how == "deleted":
                author.raw.delete(key)
            else:
                turn(author, Flip(key, len(author.raw.read(key)) // 2, 3))
            if forgotten:
                shutil.rmtree(author.project.store / "remotes")
            clone = author.fresh()
            error = pulled(clone)
            assert clone.wrong_files() == [], key
            assert error is not None
            assert author.url in error.message or "origin" in error.message, error
            with author.open() as repository:
                # Whoever has a sound copy does not read what is there, unless asked to.
                repository.push(verify=True, read_data=not forgotten)
            author.check_fresh()
            assert pulled(clone) is None
            assert clone.holds("v2")


def test_roots_are_deleted(stage):
    with stage.scene("author-v2", "v2") as author:
        for key in author.keys("roots/"):
            author.raw.delete(key)
        with author.open() as repository:
            assert len(repository.remote_status().missing) == len(VERSIONS)
            done = repository.push()
            assert len(done.roots) == len(VERSIONS)
            assert done.packs == 0
        author.check_fresh()


def test_the_marker_is_deleted(stage):
    """It is not made anew: what was pushed might be lost with a disk that is not mounted."""
    with stage.scene("author-v2", "v2") as author:
        author.raw.delete("datastore.json")
        clone = author.fresh()
        for each, verb in ((author, "push"), (clone, "pull")):
            said = do_cli(each.top, verb)
            assert said["code"] == 3, said
            assert author.url in said["err"], said
        assert clone.wrong_files() == []


# -- on S3 -----------------------------------------------------------------------------------------


@pytest.fixture
def stage_on_s3(weed_server, template, tmp_path, monkeypatch):
    hurry(monkeypatch)
    place = S3Place(url=fresh("s3"), endpoint=weed_server.address).enter(monkeypatch)
    return Stage(tmp_path, template, place.url, place.options)


def test_a_bit_is_turned_on_s3(stage_on_s3):
    sizes = {key: len(data) for key, data in stage_on_s3.remotes["v2"].items()}
    largest = max(sizes, key=lambda key: sizes[key])
    assert try_flip(stage_on_s3, Flip(largest, sizes[largest] // 2, 1)) == "CorruptionError"


def test_a_pack_is_deleted_on_s3(stage_on_s3):
    try_lost_pack(stage_on_s3, objects(stage_on_s3, "packs/")[0], None)
