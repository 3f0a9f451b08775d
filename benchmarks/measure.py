"""Runs commands and says what they cost; medians and Markdown tables of the answers.

The kernel is asked, not a sampler: `os.wait4` gives the CPU time of a process and of everything it
waited for, and the memory of the biggest process among them.
"""

from __future__ import annotations

import json
import os
import platform
import signal
import statistics
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeAlias

Command: TypeAlias = list[str]
Row: TypeAlias = dict[str, Any]
"""One measured fact; what the JSON results are a list of."""

MB = 1_000_000
TAIL = 1500


class StepError(Exception):
    """A measured command failed; the message has the end of what it printed."""


@dataclass(frozen=True, slots=True)
class Cost:
    """What one step took.

    Attributes:
        wall: Seconds by the clock.
        cpu: User and system seconds, of all processes of the step together.
        rss: Peak resident bytes of the biggest process.
        others: Share of the machine that other work took meanwhile, 0 to 1; None if not known.
    """

    wall: float
    cpu: float
    rss: int
    others: float | None = None

    def row(self) -> Row:
        """Returns the figures as a JSON object."""
        return asdict(self)


def run(
    commands: Sequence[Command],
    *,
    cwd: Path,
    env: Mapping[str, str],
    log: Path,
    timeout: float = 3600,
) -> Cost:
    """Runs commands one after the other and adds up what they cost.

    The operating system is asked to write back what earlier steps left dirty first, so that no
    tool pays for the one before it.

    Raises:
        StepError: A command ended with another code than 0, or took longer than `timeout` seconds.
    """
    os.sync()
    wall = cpu = 0.0
    rss = 0
    before = _machine()
    for command in commands:
        one = _run_one(command, cwd=cwd, env=env, log=log, timeout=timeout)
        wall, cpu, rss = wall + one.wall, cpu + one.cpu, max(rss, one.rss)
    return Cost(wall, cpu, rss, _others(before, _machine(), cpu))


def _run_one(
    command: Command, *, cwd: Path, env: Mapping[str, str], log: Path, timeout: float
) -> Cost:
    with log.open("ab") as out:
        out.write(f"\n$ {' '.join(command)}\n".encode())
        out.flush()
        start = time.perf_counter()
        process = subprocess.Popen(
            command,
            cwd=cwd,
            env=dict(env),
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,  # so that a timeout ends the whole family
        )
        timer = threading.Timer(timeout, os.killpg, (process.pid, signal.SIGKILL))
        timer.start()
        try:
            _, status, usage = os.wait4(process.pid, 0)
        finally:
            timer.cancel()
        wall = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        tail = log.read_bytes()[-TAIL:].decode(errors="replace")
        raise StepError(f"exit code {process.returncode} after {wall:.0f} s: ...{tail}")
    unit = 1 if platform.system() == "Darwin" else 1024
    return Cost(wall, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * unit)


def _machine() -> tuple[float, float] | None:
    """Returns the busy and all CPU seconds of the machine since it started (Linux only)."""
    try:
        first = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0]
    except OSError:
        return None
    ticks = [int(word) for word in first.split()[1:9]]
    idle = ticks[3] + ticks[4]
    second = os.sysconf("SC_CLK_TCK")
    return (sum(ticks) - idle) / second, sum(ticks) / second


def _others(
    before: tuple[float, float] | None, after: tuple[float, float] | None, own: float
) -> float | None:
    if before is None or after is None or after[1] <= before[1]:
        return None
    return max(0.0, after[0] - before[0] - own) / (after[1] - before[1])


@dataclass(frozen=True, slots=True)
class Stored:
    """What a part of a store takes.

    Attributes:
        bytes: Length of its files; for a sparse file what the disk holds of it.
        files: How many files.
    """

    bytes: int
    files: int


def stored(tops: Iterable[Path]) -> Stored:
    """Measures everything below some directories; one that does not exist counts nothing."""
    total = files = 0
    for top in tops:
        for folder, _, names in os.walk(top):
            for name in names:
                facts = os.lstat(os.path.join(folder, name))
                # A memory map is made at its largest size and has holes: count what is there.
                total += min(facts.st_size, facts.st_blocks * 512)
                files += 1
    return Stored(total, files)


def warm(top: Path) -> None:
    """Reads every file below a directory, so that each tool finds the same page cache."""
    buffer = bytearray(1 << 20)
    for folder, _, names in os.walk(top):
        for name in names:
            with open(os.path.join(folder, name), "rb", buffering=0) as file:
                while file.readinto(buffer):
                    pass


def timed(work: Callable[[], object], repeats: int) -> tuple[float, float]:
    """Runs a function in this process; returns its median wall and CPU seconds."""
    walls, cpus = [], []
    for _ in range(repeats):
        wall, cpu = time.perf_counter(), time.process_time()
        work()
        walls.append(time.perf_counter() - wall)
        cpus.append(time.process_time() - cpu)
    return statistics.median(walls), statistics.median(cpus)


def median(rows: Iterable[Row], field: str) -> float | None:
    """Returns the median of a field over rows that have it."""
    values = [float(row[field]) for row in rows if row.get(field) is not None]
    return statistics.median(values) if values else None


def figure(value: float | None) -> str:
    """Prints a number with three digits that count, and nothing for None."""
    if value is None:
        return ""
    size = abs(value)
    if size >= 99.95:
        return f"{value:,.0f}"
    if size >= 9.995:
        return f"{value:.1f}"
    return f"{value:.2f}" if size >= 0.9995 or size == 0 else f"{value:.3f}"


def table(head: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    """Prints a Markdown table; floats by `figure`, None as an empty cell."""
    lines = ["| " + " | ".join(head) + " |", "|" + "---|" * len(head)]
    for row in rows:
        cells = [figure(cell) if isinstance(cell, float) else _text(cell) for cell in row]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join(lines)


def _text(cell: object) -> str:
    return "" if cell is None else str(cell)


def machine() -> Row:
    """Describes the machine, for the head of a report."""
    return {
        "system": f"{platform.system()} {platform.release()}",
        "cpus": os.cpu_count(),
        "processor": _processor(),
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d"),
    }


def _processor() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    except OSError:
        pass
    return platform.processor()


def save(path: Path, value: object) -> None:
    """Writes JSON aside and renames it, so that a run stopped half-way leaves good results."""
    aside = path.with_suffix(path.suffix + ".part")
    aside.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")
    aside.replace(path)
