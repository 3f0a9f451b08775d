"""Settings: what the project shares, and what belongs to this machine.

``.datastore/config.yaml`` is committed; ``local.yaml`` lies in the store's directory inside Git's
own and never is. Formats are in ``docs/reference/configuration.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import yaml

from datastore.errors import FormatError, StorageError

DIRECTORY: Final = ".datastore"
PROJECT_FILE: Final = "config.yaml"
LOCAL_FILE: Final = "local.yaml"
FORMAT: Final = 1
_MAX_BYTES: Final = 1024 * 1024

PROJECT_TEXT: Final = f"""\
# Settings of datastore that everybody who clones this repository shares.
format: {FORMAT}
"""
"""What `init` writes."""


@dataclass(frozen=True, slots=True)
class Config:
    """The settings in force.

    Args:
        format: Of the files in ``.datastore`` and of the store.
        store_path: Where packs lie, if not in Git's common directory.
        sources: For each setting that was read, the file that it came from.
    """

    format: int = FORMAT
    store_path: Path | None = None
    sources: Mapping[str, str] = ()  # type: ignore[assignment]


def load(project: Path, local: Path) -> Config:
    """Reads both files; one that does not exist has no settings.

    Raises:
        FormatError: A file is malformed, or needs a newer version.
        StorageError: A file cannot be read.
    """
    shared, own = _read(project), _read(local)
    _check_format(shared.get("format", FORMAT), project)
    sources = {key: str(project) for key in shared} | {key: str(local) for key in own}
    return Config(FORMAT, _store_path(own.get("store"), local), sources)


def _check_format(version: Any, project: Path) -> None:
    if type(version) is not int or version < 1:
        raise FormatError(
            f"{project}: format must be a whole number, not {version!r}",
            hint="take the file back from Git: git checkout -- .datastore",
            where=str(project),
        )
    if version != FORMAT:
        raise FormatError(
            f"{project} has format {version}; this version knows {FORMAT}",
            hint="a newer datastore wrote it: pip install --upgrade datastore-ml",
            where=str(project),
        )


def _store_path(store: Any, local: Path) -> Path | None:
    if store is None:
        return None
    path = store.get("path") if isinstance(store, dict) else store
    if path is None and isinstance(store, dict):
        return None
    # A relative path would be another directory for each one that a command is run in.
    if not isinstance(store, dict) or not isinstance(path, str) or not Path(path).is_absolute():
        raise FormatError(
            f"{local}: store.path must be the full path of a directory, not {path!r}",
            hint="write two lines: 'store:' and '  path: /where/the/packs/lie'",
            where=str(local),
        )
    return Path(path)


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}", where=str(path)) from error
    if len(data) > _MAX_BYTES:
        raise FormatError(f"{path} is larger than 1 MiB", where=str(path))
    try:
        found = yaml.safe_load(data)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise FormatError(
            f"{path} is not YAML: {error}", hint="correct it by hand", where=str(path)
        ) from error
    if found is None:
        return {}
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise FormatError(f"{path} must hold keys and values", where=str(path))
    return found
