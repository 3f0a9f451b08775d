"""Real label histories as plain files: every version comes back byte for byte.

The files are not part of this repository: see ``DATASTORE_SHARED_DATA``, or the directory
``shared/data`` beside the checkout. ``sha256sum`` of the system is asked as well as Python.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from tests.e2e.conftest import SOURCE, digest

DATA = Path(os.environ.get("DATASTORE_SHARED_DATA") or SOURCE.parent / "shared" / "data")

HISTORIES = {
    "taco": ("taco.json", "taco/v*.json"),
    "wnut17": ("dev.conll", "wnut17_dev/v*.conll"),
    "unicode": ("UnicodeData.txt", "unicode/*/UnicodeData.txt"),
    "raccoon": ("raccoon", "raccoon_voc/v*"),
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        not DATA.is_dir(),
        reason=f"no label histories in {DATA}: set DATASTORE_SHARED_DATA to where they are",
    ),
]


@pytest.mark.parametrize("history", HISTORIES)
def test_every_version_comes_back(shell, history):
    name, pattern = HISTORIES[history]
    versions = sorted(DATA.glob(pattern))
    assert len(versions) >= 2, f"{pattern} is missing in {DATA}"
    work = shell("work")
    work.git("init", "--quiet")
    work.datastore("init")
    expected = []
    for number, version in enumerate(versions):
        put(version, work.directory / name)
        work.datastore("add", name)
        work.git("add", "--all")
        work.git("commit", "--quiet", "--allow-empty", "--message", f"Version {number}")
        work.git("tag", f"v{number}")
        expected.append(work.digests(name))
        assert work.json("status")["clean"]
    for number in [*range(len(versions)), 0]:
        work.datastore("checkout", f"v{number}")
        assert work.digests(name) == expected[number]
        assert same_by_sha256sum(work, versions[number], name)
    for number, version in enumerate(versions):
        for path in sampled(version):
            inside = f"/{path.relative_to(version)}" if version.is_dir() else ""
            assert digest(work.cat(f"v{number}:{name}{inside}")) == digest(path.read_bytes())
    work.git("checkout", "--quiet", "--", f"{name}.ds")
    work.datastore("checkout")
    assert work.git("status", "--porcelain") == ""
    assert work.json("verify")["ok"]


def put(version: Path, target: Path) -> None:
    """Replaces the data by a version, in files of its own that may be written."""
    if target.is_dir():
        shutil.rmtree(target)
    if version.is_dir():
        target.mkdir()
        for path in version.iterdir():
            shutil.copyfile(path, target / path.name)
    else:
        shutil.copyfile(version, target)


def sampled(version: Path) -> list[Path]:
    """All of a version's files, or the first, the last and some between."""
    if version.is_file():
        return [version]
    found = sorted(version.iterdir())
    return found if len(found) < 6 else [found[0], *found[50:200:75], found[-1]]


def same_by_sha256sum(work, version: Path, name: str) -> bool:
    """Compares with the original by another program; without it, Python's word stands."""
    if shutil.which("sha256sum") is None:
        return True
    names = sorted(os.listdir(version)) if version.is_dir() else [""]
    sums = []
    for top in (version, work.directory / name):
        listed = work.run("sha256sum", "--binary", *(str(top / each) for each in names))
        sums.append([line.split()[0] for line in listed.splitlines()])
    return sums[0] == sums[1]
