"""Memory is bounded by what is under way, not by what is sent or fetched."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
BOUND = 280
"""MiB: the interpreter, the budget twice, and what the index takes."""

PUSH = """
import sys
from pathlib import Path
from datastore.objects import packer
from datastore.objects.pack import Kind
from tests.kernel.samples import noise
from tests.sync.clones import Clone
from datastore.storage.directory import DirectoryStorage

packer._TARGETS = {Kind.DATA: 4 << 20, Kind.META: 1 << 20}
top = Path(sys.argv[1])
seed = noise(1 << 20)
clone = Clone(top / "origin", None, jobs=16)

names = {}
for part in range(24):
    contents = {f"{part}/{n:03}": (b"%d-%d" % (part, n)) + seed[n:n + 120_000] for n in range(200)}
    # Encrypted looking: no two chunks alike, so that nothing is compressed away.
    contents = {k: bytes(a ^ b for a, b in zip(v[:64], k.encode() * 64)) + v[64:] for k, v in
                contents.items()}
    names[part] = clone.version(contents, path=f"part{part}")
storage = DirectoryStorage(top / "remote")
result = clone.push(*names.values(), storage=storage)
assert result.bytes > 200 << 20, result.bytes
(top / "roots").write_text(" ".join(each.root.hex() for each in names.values()))
"""
PULL = """
import sys
from pathlib import Path
from tests.sync.clones import Clone
from datastore.trees import files
from datastore.storage.directory import DirectoryStorage

top = Path(sys.argv[1])
clone = Clone(top / "fresh", None, jobs=16)
with clone.fetching(DirectoryStorage(top / "remote")) as fetcher:
    def contents():
        for root in (top / "roots").read_text().split():
            version = files.load(bytes.fromhex(root), clone.store)
            yield from (entry.content for _, entry in files.entries(version, clone.store))
    fetcher.bring(contents())
    assert fetcher.traffic.bytes_down > 200 << 20
    assert fetcher.unmet is None
"""


STATUS = Path("/proc/self/status")
PRINT_PEAK = "    if line.startswith('VmHWM'): print(int(line.split()[1]) // 1024)\n"


def peak(program: str, directory: Path) -> float:
    """Runs a program in a process of its own; returns the most memory that it had, in MiB."""
    # Not by getrusage: a child begins with the peak of the process that it was forked from.
    measured = program + "\nfor line in open('/proc/self/status'):\n" + PRINT_PEAK
    ended = subprocess.run(
        [sys.executable, "-c", measured, str(directory)],
        cwd=TOP,
        capture_output=True,
        text=True,
        check=False,
    )
    assert ended.returncode == 0, ended.stderr
    return float(ended.stdout.split()[-1])


@pytest.mark.slow
@pytest.mark.skipif(not STATUS.exists(), reason="only Linux tells a process its own peak")
def test_hundreds_of_megabytes(tmp_path):
    peaks = [peak(PUSH, tmp_path), peak(PULL, tmp_path)]
    assert max(peaks) < BOUND, peaks
