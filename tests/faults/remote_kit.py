"""A project at several moments of its life with a remote, and copies of both to break.

A `Stage` is made once for a place: it adds two versions, pushes them one after the other, and keeps
copies of the project, of a clone and of all objects on the remote as they are at each step. A test
then takes a `Scene`: a copy of one project beside a copy of one remote, at a prefix of its own.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import pytest
import yaml

from datastore.kernel.hashing import pack_hasher
from datastore.repository import Repository
from datastore.sharing.remotes import open_remote
from datastore.storage import places, s3
from datastore.storage.base import Storage
from datastore.storage.body import sent
from datastore.storage.retry import Retrying
from tests.faults.conftest import Project
from tests.faults.driver import disk_contents, version_contents

Files = dict[str, bytes]
"""By path in the dataset."""
Objects = dict[str, bytes]
"""By key on the remote."""

DATASET = "images"
READ_TIMEOUT = 0.5
"""Seconds that the S3 client waits for an answer in these tests."""
PATIENCE_OF = 500.0
"""Pauses before another try are so many times shorter than users have them."""


def contents(number: int) -> Files:
    """The files of a version: small and large ones, and some that both versions share."""
    noise = random.Random(0)
    big = bytearray(noise.randbytes(300_000))
    big[-900:] = random.Random(number).randbytes(900)
    return {
        **{f"cats/{at}.txt": f"cat {at}\n".encode() * 30 for at in range(5)},
        "big.bin": bytes(big),
        "edited.txt": f"version {number}\n".encode() * 40,
        "empty.txt": b"",
        f"only-{number}.bin": random.Random(number + 10).randbytes(20_000),
        "same.bin": noise.randbytes(150_000),
    }


VERSIONS = {f"v{number}": contents(number) for number in (1, 2)}


def put(top: Path, files: Files) -> None:
    """Makes a dataset hold exactly these files."""
    directory = top / DATASET
    if directory.exists():
        shutil.rmtree(directory)
    for name, data in files.items():
        path = directory / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)


# -- less patience than users have -----------------------------------------------------------------


def hurry(patch: pytest.MonkeyPatch) -> None:
    """Shortens pauses and timeouts in this process, and what it costs to make an S3 client."""
    pause = random.Random(1)

    def sleep(seconds: float) -> None:
        import time

        time.sleep(seconds / PATIENCE_OF)

    patch.setattr(places, "Retrying", partial(Retrying, sleep=sleep, chance=pause.random))
    from aiobotocore.session import AioSession

    session, real = AioSession(), s3.s3fs.S3FileSystem

    def make(*, config_kwargs, **options):
        config = {**config_kwargs, "read_timeout": READ_TIMEOUT, "connect_timeout": 5}
        # A session reads a megabyte of JSON: one for all. There may be one where two threads hurry.
        return real(config_kwargs=config, **{"session": session, **options})

    patch.setattr(s3, "s3fs", SimpleNamespace(S3FileSystem=make))
    patch.setattr(s3, "sent", partial(sent, stall=2 * READ_TIMEOUT))


# -- a project and its remote ----------------------------------------------------------------------


@dataclass
class Scene:
    """One copy of a project, and the copy of a remote that it uses.

    Attributes:
        top: Of the worktree.
        url: Of the remote.
        options: Of the remote.
        raw: The remote, without a project.
        stage: Where this was taken from.
    """

    top: Path
    url: str
    options: dict[str, str]
    raw: Storage
    stage: Stage

    @property
    def project(self) -> Project:
        return Project(self.top)

    @property
    def name(self) -> str:
        """The last part of the URL, which nothing else has."""
        return self.url.rpartition("/")[2]

    def open(self) -> Repository:
        return Repository.open(self.top)

    def objects(self) -> Objects:
        """Everything on the remote."""
        return {key: self.raw.read(key) for key, _ in self.raw.list("")}

    def keys(self, prefix: str = "") -> list[str]:
        """The keys on the remote, sorted."""
        return sorted(key for key, _ in self.raw.list(prefix))

    def fresh(self) -> Scene:
        """Another clone, that has nothing yet, of the same remote."""
        return self.stage.use(self.stage.copy("clone"), self)

    def check_fresh(self, *revs: str) -> None:
        """A fresh clone gets versions byte for byte."""
        clone = self.fresh()
        try:
            clone.check_fetched(*(revs or VERSIONS), fetch=True)
        finally:
            shutil.rmtree(clone.top)

    def check_fetched(self, *revs: str, fetch: bool = False) -> None:
        """Versions are here, byte for byte, with no look at the remote (but to fetch them)."""
        with self.open() as repository:
            if fetch:
                repository.fetch(revs)
            repository._workspace.store.source = None
            for rev in revs:
                assert version_contents(repository, rev) == self.stage.expected[rev], rev

    def wrong_files(self) -> list[str]:
        """Files in the workspace that no version has, and what was left half made."""
        known = [self.stage.expected[rev] for rev in VERSIONS]
        found = disk_contents(self.top, DATASET)
        wrong = [p for p, data in found.items() if all(each.get(p) != data for each in known)]
        return wrong + self.project.leftovers() + self.wrong_packs()

    def wrong_packs(self) -> list[str]:
        """Packs in the store that are not what their names say."""
        return [
            path.name
            for path in (self.project.store / "packs").rglob("*.pack")
            if not has_digest_of_name(path.name, path.read_bytes())
        ]

    def holds(self, rev: str) -> bool:
        """Whether the workspace is what a version is."""
        return disk_contents(self.top, DATASET) == self.stage.expected[rev]


def has_digest_of_name(name: str, data: bytes) -> bool:
    hasher = pack_hasher()
    hasher.update(data)
    return hasher.digest().hex() == name.rpartition("/")[2].partition("-")[0]


class Stage:
    """Projects and remotes at several moments, at one place.

    Args:
        top: An empty directory.
        template: A project without data.
        url: Below which every scene has its own prefix.
        options: Of the remotes.

    Attributes:
        expected: What each version holds, in the words of `tests.faults.driver`.
        remotes: Objects of a remote by moment: ``empty``, ``v1`` and ``v2``.
    """

    def __init__(self, top: Path, template: Path, url: str, options: dict[str, str]) -> None:
        self.top = top
        self.url = url
        self.options = options
        self.expected: dict[str, dict[str, str]] = {}
        self.remotes: dict[str, Objects] = {"empty": {}}
        self._numbers = itertools.count()
        self._make(template)

    def _make(self, template: Path) -> None:
        author = self.top / "author"
        shutil.copytree(template, author, symlinks=True)
        scene = self._scene(author, self._next_url())
        project = scene.project
        with scene.open() as repository:
            repository.remote_add("origin", scene.url, options=self.options)
            for rev, files in VERSIONS.items():
                put(author, files)
                repository.add([DATASET])
                project.commit(rev)
                self.expected[rev] = project.contents(DATASET)
        self._keep("author", scene)
        clone = self.top / "clone"
        subprocess.run(
            ["git", "clone", "--quiet", "--template=", author, clone], check=True, cwd=self.top
        )
        (clone / ".git/datastore").mkdir()
        self._keep("clone", scene, clone)
        self._settle(scene)
        for rev in VERSIONS:
            with scene.open() as repository:
                repository.push(rev)
            self.remotes[rev] = scene.objects()
            self._keep(f"author-{rev}", scene)
        older = scene.fresh()
        with older.open() as repository:
            repository.pull("v1")
        self._keep("clone-v1", older)
        scene.raw.close()

    def _keep(self, moment: str, scene: Scene, top: Path | None = None) -> None:
        shutil.copytree(top or scene.top, self.top / "moments" / moment, symlinks=True)

    def _next_url(self) -> str:
        return f"{self.url}/{os.urandom(4).hex()}"

    def _scene(self, top: Path, url: str) -> Scene:
        return Scene(top, url, self.options, places.open_storage(url, self.options), self)

    def _settle(self, scene: Scene) -> None:
        """Lets a project use the remote of its scene, with less at once than a user."""
        remote = {"url": scene.url, **scene.options}
        settings = {"transfers": {"jobs": 4}, "remotes": {"origin": remote}}
        (scene.project.store / "local.yaml").write_text(yaml.safe_dump(settings))

    def copy(self, moment: str) -> Path:
        """Copies a project; to be handed to `use`."""
        top = self.top / f"{next(self._numbers)}"
        shutil.copytree(self.top / "moments" / moment, top, symlinks=True)
        return top

    def use(self, copied: Path, other: Scene) -> Scene:
        """Lets a copied project use the remote of a scene."""
        scene = Scene(copied, other.url, other.options, other.raw, self)
        self._settle(scene)
        for known in list((scene.project.store / "remotes").glob("*")):
            with scene.open() as repository, open_remote(repository._workspace, None) as remote:
                known.rename(remote._directory)  # it is named for the URL
        return scene

    @contextlib.contextmanager
    def scene(self, moment: str, remote: str) -> Iterator[Scene]:
        """A project as it was at a moment, and a remote as it was at one.

        Args:
            moment: ``author`` (has never pushed), ``author-v1`` (has pushed v1 and remembers it),
                ``author-v2``, ``clone`` (has nothing) or ``clone-v1`` (has pulled v1).
            remote: ``empty``, ``v1`` or ``v2``.
        """
        made = self._scene(self.top, self._next_url())
        scene = self.use(self.copy(moment), made)
        try:
            write_all(scene.raw, self.remotes[remote])
            yield scene
        finally:
            scene.raw.close()
            shutil.rmtree(scene.top, ignore_errors=True)


def write_all(storage: Storage, objects: Objects) -> None:
    """Puts objects on a remote."""
    for key, data in objects.items():
        storage.write(key, data)
