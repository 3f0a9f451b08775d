"""Seeded data sets, each in two versions, that stand for what people put under version control.

========  ==========================================  ==========================================
name      version 1 (scale ``full``)                  version 2
========  ==========================================  ==========================================
images    20,000 incompressible files, 12-40 KB       1 % each replaced, added, deleted, moved
tensors   one 1.5 GB file: bf16, fp32, int8, sparse   3 insertions, 0.5 % overwritten in 64 KiB runs
jsonl     one 400 MB file of rows of text             0.5 % of rows edited, 1 % inserted: scattered
                                                      (v2), or the same in 40 clusters (v2c)
tiny      100,000 label files of 200-2,000 bytes      1 % each replaced, added, deleted, moved
========  ==========================================  ==========================================

``DIR/NAME/v1``, ``v2`` (and ``v2c``) are the trees, ``changes.json`` is how to turn one into the
other in place, and ``dataset.json`` has the seed, the sizes and a fingerprint of every version: two
machines with equal fingerprints measure the same bytes.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import shutil
import sys
import time
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from contents import LAYER, Rows, layer, overwritten, picture, polygons, source

if TYPE_CHECKING:
    import numpy as np

SEED = 71
FIRST_TIME = 1_650_000_000
SECOND_TIME = 1_660_000_000
CLUSTERS = 40


@dataclass(frozen=True, slots=True)
class Scale:
    """How much of each data set: files for images and tiny, bytes for tensors and jsonl."""

    images: int
    tensors: int
    jsonl: int
    tiny: int


SCALES: Mapping[str, Scale] = {
    "full": Scale(20_000, 1_500_000_000, 400_000_000, 100_000),
    "small": Scale(2_000, 150_000_000, 40_000_000, 10_000),
    "tiny": Scale(200, 10_000_000, 2_000_000, 500),
}


# --------------------------------------------------------------------------- many small files


def many_files(
    out: Path,
    rng: np.random.Generator,
    count: int,
    *,
    make: Callable[[np.random.Generator], bytes],
    name: Callable[[int, int], str],
    folders: int,
) -> None:
    """Writes `count` files over `folders` directories, and a version 2 with 1 % of each change.

    Args:
        out: Directory of the data set.
        rng: Random numbers.
        count: Files in version 1.
        make: Makes the content of a file.
        name: Makes a path of a folder's and a file's number.
        folders: Directories to spread over.
    """
    paths = [name(i % folders, i) for i in range(count)]
    for path in paths:
        write(out / "v1" / path, make(rng), FIRST_TIME)
    shutil.copytree(out / "v1", out / "v2")
    each = max(1, count // 100)
    picked = rng.permutation(count)[: 3 * each].tolist()
    moved = [
        (paths[i], name((i + 1 + int(rng.integers(folders - 1))) % folders, i))
        for i in picked[2 * each :]
    ]
    changes: dict[str, Any] = {
        "replaced": [paths[i] for i in picked[:each]],
        "deleted": [paths[i] for i in picked[each : 2 * each]],
        "added": [name(int(rng.integers(folders)), count + i) for i in range(each)],
        "moved": moved,
    }
    for old, new in moved:
        (out / "v2" / new).parent.mkdir(parents=True, exist_ok=True)
        (out / "v2" / old).rename(out / "v2" / new)
    for path in changes["deleted"]:
        (out / "v2" / path).unlink()
    for path in changes["replaced"] + changes["added"]:
        write(out / "v2" / path, make(rng), SECOND_TIME)
    drop_empty(out / "v2")
    write_json(out / "changes.json", changes)


def images(out: Path, seed: int, scale: Scale) -> None:
    """Writes the data set ``images``."""
    many_files(
        out,
        source(seed, 1),
        scale.images,
        make=picture,
        name=lambda folder, i: f"train/{folder:03d}/photo{i:07d}.jpg",
        folders=100,
    )


def tiny(out: Path, seed: int, scale: Scale) -> None:
    """Writes the data set ``tiny``."""
    many_files(
        out,
        source(seed, 2),
        scale.tiny,
        make=polygons,
        name=lambda folder, i: f"labels/part{folder:03d}/{i:08d}.txt",
        folders=200,
    )


# --------------------------------------------------------------------------- one large file


def tensors(out: Path, seed: int, scale: Scale) -> None:
    """Writes the data set ``tensors``: a length, a JSON header, then the tensors end to end."""
    rng, size = source(seed, 3), scale.tensors
    names = {f"block.{i}.weight": [i * LAYER, (i + 1) * LAYER] for i in range(size // LAYER)}
    header = json.dumps(names).encode()
    old, new = out / "v1" / "weights.tensors", out / "v2" / "weights.tensors"
    with create(old) as file:
        file.write(len(header).to_bytes(8, "little") + header)
        number = 0
        while (left := size - file.tell()) > 0:
            file.write(layer(rng, number)[:left])
            number += 1
    with old.open("rb") as before, create(new) as after:
        for piece in overwritten(before, size, source(seed, 3, 2)):
            after.write(piece)
    finish(old, FIRST_TIME)
    finish(new, SECOND_TIME)
    write_json(out / "changes.json", one_file("weights.tensors"))


def jsonl(out: Path, seed: int, scale: Scale) -> None:
    """Writes the data set ``jsonl``, with a scattered (v2) and a clustered (v2c) second version."""
    import numpy as np  # noqa: PLC0415

    rows, rng, count = Rows(seed), source(seed, 5), 0
    old = out / "v1" / "rows.jsonl"
    with create(old) as file:
        while file.tell() < scale.jsonl:
            for row in rows.make(rng, count, 1000):
                file.write(row)
            count += 1000
    edits, inserts = max(1, count // 200), max(1, count // 100)
    rng = source(seed, 5, 2)
    edited = rng.choice(count, edits, replace=False)
    inserted = rng.integers(0, count, inserts)
    edit_rows(old, out / "v2" / "rows.jsonl", rows, rng, edited=edited, inserted=inserted)
    rng = source(seed, 5, 3)
    centres = rng.integers(0, count - edits // CLUSTERS - 1, CLUSTERS)
    run = centres[:, None] + np.arange(-(-edits // CLUSTERS))
    edited, inserted = run.ravel()[:edits], np.repeat(centres, -(-inserts // CLUSTERS))[:inserts]
    edit_rows(old, out / "v2c" / "rows.jsonl", rows, rng, edited=edited, inserted=inserted)
    finish(old, FIRST_TIME)
    write_json(out / "changes.json", one_file("rows.jsonl"))


def edit_rows(
    old: Path,
    new: Path,
    rows: Rows,
    rng: np.random.Generator,
    *,
    edited: np.ndarray[Any, Any],
    inserted: np.ndarray[Any, Any],
) -> None:
    """Writes a copy of a file with some rows replaced and some inserted before others."""
    replace = set(edited.tolist())
    insert = Counter(inserted.tolist())
    fresh = 1 << 30
    with old.open("rb") as before, create(new) as after:
        for number, line in enumerate(before):
            if more := insert[number]:
                after.writelines(rows.make(rng, fresh, more))
                fresh += more
            after.writelines(rows.make(rng, number, 1) if number in replace else [line])
    finish(new, SECOND_TIME)


# --------------------------------------------------------------------------- files and versions


def create(path: Path) -> IO[bytes]:
    """Opens a new file for bytes, making its directory."""
    path.parent.mkdir(parents=True, exist_ok=True)
    return path.open("wb", buffering=1 << 20)


def write(path: Path, data: bytes, moment: int) -> None:
    """Writes a file with a fixed modification time."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(data)
    finish(path, moment)


def finish(path: Path, moment: int) -> None:
    """Sets a modification time, so that a copy is the same on every machine."""
    os.utime(path, (moment, moment))


def one_file(name: str) -> dict[str, Any]:
    """Returns the changes of a data set of one file."""
    return {"replaced": [name], "added": [], "deleted": [], "moved": []}


def write_json(path: Path, value: object) -> None:
    """Writes a JSON file."""
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def drop_empty(top: Path) -> None:
    """Removes directories with nothing in them: most tools do not keep them."""
    for folder, _, _ in os.walk(top, topdown=False):
        if not os.listdir(folder):
            os.rmdir(folder)


def apply_changes(dataset: Path, target: Path, version: str) -> None:
    """Turns a copy of version 1 into another version in place, as an editor would.

    A changed file is unlinked and written anew: the bytes of a hard link into some tool's store
    must not change under it.
    """
    changes = json.loads((dataset / "changes.json").read_text(encoding="utf-8"))
    for old, new in changes["moved"]:
        (target / new).parent.mkdir(parents=True, exist_ok=True)
        (target / old).rename(target / new)
    for path in changes["deleted"]:
        (target / path).unlink()
    for path in changes["replaced"] + changes["added"]:
        (target / path).parent.mkdir(parents=True, exist_ok=True)
        (target / path).unlink(missing_ok=True)
        shutil.copy2(dataset / version / path, target / path)
    drop_empty(target)


def describe(tree: Path) -> dict[str, object]:
    """Counts the files and bytes of a tree and takes a fingerprint of names and contents."""
    files = sorted(path for path in tree.rglob("*") if path.is_file())
    total, whole = 0, hashlib.sha256()
    for path in files:
        with path.open("rb") as file:
            content = hashlib.file_digest(file, "sha256").hexdigest()
        total += path.stat().st_size
        whole.update(f"{path.relative_to(tree).as_posix()}\0{content}\n".encode())
    return {"files": len(files), "bytes": total, "fingerprint": whole.hexdigest()[:16]}


DATASETS: Mapping[str, Callable[[Path, int, Scale], None]] = {
    "images": images,
    "tensors": tensors,
    "jsonl": jsonl,
    "tiny": tiny,
}


def generate(out: Path, name: str, scale: str, seed: int = SEED) -> dict[str, Any]:
    """Writes one data set to ``out/name``, replacing what is there; returns ``dataset.json``."""
    top = out / name
    shutil.rmtree(top, ignore_errors=True)
    top.mkdir(parents=True)
    DATASETS[name](top, seed, SCALES[scale])
    trees = sorted(path for path in top.iterdir() if path.is_dir())
    facts: dict[str, Any] = {"name": name, "scale": scale, "seed": seed}
    facts["versions"] = {tree.name: describe(tree) for tree in trees}
    write_json(top / "dataset.json", facts)
    return facts


def main() -> None:
    """Generates data sets as the command line asks."""
    parser = argparse.ArgumentParser(description="Write the seeded benchmark data sets.")
    parser.add_argument("--out", type=Path, required=True, help="directory to write to")
    parser.add_argument("--scale", choices=SCALES, default="full")
    parser.add_argument("--only", nargs="+", choices=DATASETS, default=list(DATASETS))
    parser.add_argument("--seed", type=int, default=SEED)
    args = parser.parse_args()
    for name in args.only:
        start = time.perf_counter()
        facts = generate(args.out, name, args.scale, args.seed)
        for version, about in facts["versions"].items():
            sys.stdout.write(
                f"{name}/{version}: {about['files']} files, {about['bytes'] / 1e6:.1f} MB, "
                f"fingerprint {about['fingerprint']}\n"
            )
        sys.stdout.write(f"  {time.perf_counter() - start:.1f} s\n")
        sys.stdout.flush()


if __name__ == "__main__":
    main()
