"""What ``doctor`` looks at."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from datastore.errors import DatastoreError
from datastore.storage.local import filesystem_type, is_network
from datastore.workspace import drivers
from datastore.workspace.layout import Workspace


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at."""

    name: str
    ok: bool
    value: str
    hint: str = ""


@dataclass(frozen=True, slots=True)
class DoctorResult:
    """All that was looked at."""

    checks: tuple[Check, ...]


def diagnose(workspace: Workspace, runtime: str) -> DoctorResult:
    """Looks at runtime, Git, store, index and settings."""
    return DoctorResult((Check("runtime", ok=True, value=runtime), *_checks(workspace)))


def _checks(workspace: Workspace) -> Iterator[Check]:
    store = workspace.store
    yield Check("workspace", ok=True, value=str(workspace.top))
    yield Check("store", ok=True, value=f"{store.directory} ({_disk(workspace)})")
    installed = drivers.installed(workspace.git)
    yield Check(
        "git drivers",
        ok=installed,
        value="installed" if installed else "not installed in this clone",
        hint="" if installed else "run: datastore git install",
    )
    sizes = [path.stat().st_size for path in store.pack_files()]
    yield Check("packs", ok=True, value=f"{len(sizes)} files, {sum(sizes)} bytes")
    yield _index(workspace, len(sizes))
    yield _datasets(workspace)
    for key, source in sorted(workspace.config.sources.items()):
        yield Check(f"setting {key}", ok=True, value=f"from {source}")


def _disk(workspace: Workspace) -> str:
    kind = filesystem_type(workspace.store.directory) or "unknown file system"
    return kind + (", over a network" if is_network(workspace.store.directory) else "")


def _index(workspace: Workspace, packs: int) -> Check:
    counts = workspace.store.index.counts()
    missing = packs - counts["packs"]
    value = f"{counts['chunks']} chunks in {counts['packs']} packs"
    if missing == 0:
        return Check("index", ok=True, value=value)
    return Check(
        "index",
        ok=False,
        value=f"{value}, but {packs} packs on disk",
        hint="run: datastore verify --rebuild-index",
    )


def _datasets(workspace: Workspace) -> Check:
    broken = []
    paths = workspace.dataset_paths()
    for path in paths:
        try:
            workspace.version(path)
        except DatastoreError as error:
            broken.append(f"{path}: {error}")
    value = f"{len(paths)} in the workspace"
    if not broken:
        return Check("datasets", ok=True, value=value)
    return Check(
        "datasets",
        ok=False,
        value=f"{value}; {'; '.join(broken)}",
        hint="run: datastore status",
    )
