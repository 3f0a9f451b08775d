"""Two releases of something like a large unpacked wheel, replaced one by the other.

The releases are made up, from seeds: about two thousand files in the layout of a scientific
package, with shared libraries of up to 20 MB of which parts change, sources of which some lines
change, files that come, go, move and change their kind.
"""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest

from tests.e2e.conftest import Shell
from tests.project import tree

MIB = 1024 * 1024
PACKAGES = [
    *["core", "linalg", "fft", "random", "lib/index"],
    *["lib/tests", "ma/tests", "f2py/src", "typing"],
]


def library(seed: int, size: int, changed: int) -> bytes:
    """Code-like bytes of which a few regions, and the length, depend on the release."""
    source = random.Random(seed)
    pieces = [source.randbytes(64) for _ in range(400)]
    data = bytearray()
    while len(data) < size:
        # Half of it repeats, as machine code does; half is noise.
        data += source.choice(pieces) + source.randbytes(64)
    release = random.Random(seed * 1000 + changed)
    for _ in range(changed * 6):
        at = release.randrange(len(data))
        data[at : at + 2000] = release.randbytes(release.randrange(1900, 2300))
    return bytes(data)


def module(number: int, release: int) -> str:
    """A source file; every fifth one changes with the release."""
    source = random.Random(number)
    lines = [
        f"def function_{number}_{at}(argument):\n    return argument + {source.randrange(10**6)}\n"
        for at in range(source.randrange(3, 60))
    ]
    if release and number % 5 == 0:
        lines[len(lines) // 2] = f"# changed in release {release}\n" + lines[0]
    return "\n".join(lines)


def unpack(top: Path, release: int) -> None:
    """Writes a release."""
    for number in range(1900):
        if number % 97 == release:  # some come, some go
            continue
        package = PACKAGES[number % len(PACKAGES)]
        if number % 50 == 7 and release:
            package = "moved/" + package
        path = top / package / f"module_{number:04}.{'pyi' if number % 9 == 0 else 'py'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(module(number, release))
    for number, size in enumerate([20 * MIB, 20 * MIB, 5 * MIB, MIB, 300_000, 120_000]):
        path = top / ".libs" / f"lib{number}-{'0' * 8}.so"
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(library(number, size, release))
        path.chmod(0o755)
    for number in range(60):
        (top / "core" / f"__init__{number}.py").write_bytes(b"")
    (top / "linked.so").symlink_to(".libs/lib0-00000000.so")
    if release == 0:
        (top / "becomes_a_package.py").write_text("old = True\n")
        (top / "becomes_a_file").mkdir()
        (top / "becomes_a_file/inside.py").write_text("old = True\n")
    else:
        (top / "becomes_a_package.py").mkdir()
        (top / "becomes_a_package.py/__init__.py").write_text("new = True\n")
        (top / "becomes_a_file").write_text("new = True\n")


@pytest.mark.slow
def test_two_releases(shell, tmp_path):
    work = shell("work")
    work.git("init", "--quiet")
    work.datastore("init")
    wheel = work.directory / "wheel"
    originals, sums = [], []
    for release in (0, 1):
        original = tmp_path / f"release-{release}"
        original.mkdir()
        unpack(original, release)
        originals.append(tree(original))
        if wheel.exists():
            shutil.rmtree(wheel)
        shutil.copytree(original, wheel, symlinks=True)
        if release:
            status = work.json("status")["pointers"][0]
            assert status["state"] == "modified"
            assert len(status["renamed"]) > 20
            assert len(status["modified"]) > 300
        (added,) = work.json("add", "wheel")["pointers"]
        sums.append(added)
        work.commit(f"Release {release}")
        work.git("tag", f"r{release}")

    assert sums[0]["files"] > 1900
    assert sums[0]["bytes"] > 46 * MIB
    # Of the second release only what really changed is stored.
    assert sums[1]["new_bytes"] < 6 * MIB
    assert sums[1]["stored_bytes"] < 5 * MIB
    counts = work.json("diff", "HEAD~1")["files"]
    assert counts["renamed"] > 20
    assert counts["modified"] == sums[1]["modified"] > 300
    assert [each["files"] for each in work.json("log", "wheel")["versions"]] == [
        sums[1]["files"],
        sums[0]["files"],
    ]

    for release in (0, 1, 0, 1):
        work.datastore("checkout", f"r{release}")
        assert tree(wheel) == originals[release]
        assert work.digests("wheel") == Shell(tmp_path).digests(f"release-{release}")
    assert work.git("status", "--porcelain") == ""
    shutil.rmtree(wheel)
    work.datastore("checkout")
    assert tree(wheel) == originals[1]
    assert work.json("verify")["ok"]
