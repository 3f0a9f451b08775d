"""Settings: what the project shares, and what belongs to this machine.

``.datastore/config.yaml`` is committed; ``local.yaml`` lies in the store's directory inside Git's
own and never is. Formats are in ``docs/reference/configuration.md``.
"""

from __future__ import annotations

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from pathlib import Path
from typing import Any, Final

import yaml

from datastore.errors import FormatError, StorageError, UsageError
from datastore.settings.remotes import RemoteSettings, remote_problem

DIRECTORY: Final = ".datastore"
PROJECT_FILE: Final = "config.yaml"
LOCAL_FILE: Final = "local.yaml"
FORMAT: Final = 1
DEFAULT_JOBS: Final = 16
"""Transfers at a time."""
_MAX_JOBS: Final = 256
_MAX_BYTES: Final = 1024 * 1024
_REPOSITORY: Final = re.compile(r"[0-9a-f]{32}")
_SIZE: Final = re.compile(r"(\d+(?:\.\d+)?) *(?:([kmgtp])(i?)b|b)?", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Config:
    """The settings in force.

    Args:
        format: Of the files in ``.datastore`` and of the store.
        store_path: Where packs lie, if not in Git's common directory.
        sources: For each setting that was read, the file that it came from.
        repository: 32 hexadecimal digits that tell this project's versions on a remote from those
            of others; empty in a project that never had a remote.
        remotes: By name, with what this machine adds.
        default_remote: The name of the remote that is meant where none is named: what ``remote:``
            says, else the first; empty where there is none.
        max_size: Bytes that the store may take before what is on a remote is dropped from it.
        jobs: Transfers at a time.
    """

    format: int = FORMAT
    store_path: Path | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    repository: str = ""
    remotes: Mapping[str, RemoteSettings] = field(default_factory=dict)
    default_remote: str = ""
    max_size: int | None = None
    jobs: int = DEFAULT_JOBS

    def remote(self, name: str | None = None) -> RemoteSettings:
        """Finds a remote.

        Args:
            name: What it is called; the default remote where None.

        Raises:
            UsageError: There is none of that name, or none at all.
        """
        wanted = name or self.default_remote
        if wanted in self.remotes:
            return self.remotes[wanted]
        known = ", ".join(self.remotes)
        raise UsageError(
            f"there is no remote {wanted!r}" if wanted else "this project has no remote",
            hint=f"there is: {known}" if known else "name one: datastore remote add origin URL",
            where=wanted,
        )


def project_text(repository: str) -> str:
    """Returns what `init` writes.

    Args:
        repository: See `Config`.
    """
    return f"""\
# Settings of datastore that everybody who clones this repository shares.
format: {FORMAT}
repository: {repository}
"""


def new_repository() -> str:
    """Makes the name of a new project: random, and text in YAML, which digits alone are not."""
    found = ""
    while not re.search("[a-f]", found):
        found = os.urandom(16).hex()
    return found


def load(project: Path, local: Path, *, text: bytes | None = None) -> Config:
    """Reads both files; one that does not exist has no settings.

    Args:
        project: The file that everybody shares.
        local: The file of this machine.
        text: What to take for the content of `project`, as another commit has it.

    Raises:
        FormatError: A file is malformed, needs a newer version, or holds a secret.
        StorageError: A file cannot be read.
    """
    shared = _read(project) if text is None else _parsed(text, project)
    own = _read(local)
    _check_format(shared.get("format", FORMAT), project)
    remotes = _remotes(shared, own, project, local)
    return Config(
        format=FORMAT,
        store_path=_store_path(own.get("store"), local),
        sources={key: str(project) for key in shared} | {key: str(local) for key in own},
        repository=_repository(shared.get("repository", ""), project),
        remotes=remotes,
        default_remote=_default_remote(shared, own, remotes, project, local),
        max_size=_max_size(own.get("store"), local),
        jobs=_jobs(own.get("transfers"), local),
    )


def _wrong(path: Path, what: str, hint: str) -> FormatError:
    return FormatError(f"{path}: {what}", hint=hint, where=str(path))


def _check_format(version: Any, project: Path) -> None:
    if type(version) is not int or version < 1:
        raise _wrong(
            project,
            f"format must be a whole number, not {version!r}",
            "take the file back from Git: git checkout -- .datastore",
        )
    if version != FORMAT:
        raise FormatError(
            f"{project} has format {version}; this version knows {FORMAT}",
            hint="a newer datastore wrote it: pip install --upgrade datastore-ml",
            where=str(project),
        )


def _repository(value: Any, project: Path) -> str:
    if isinstance(value, str) and (not value or _REPOSITORY.fullmatch(value)):
        return value
    raise _wrong(
        project,
        "repository must be 32 hexadecimal digits",
        "take the line back from Git: the versions on the remotes are filed under it",
    )


# -- remotes --------------------------------------------------------------------------------------


def _remotes(
    shared: Mapping[str, Any], own: Mapping[str, Any], project: Path, local: Path
) -> dict[str, RemoteSettings]:
    """Puts what this machine adds on top of what the project shares, key by key."""
    theirs, ours = _remote_table(shared, project), _remote_table(own, local)
    found = {}
    for name in theirs | ours:
        fields = {**theirs.get(name, {}), **ours.get(name, {})}
        url = fields.pop("url", None)
        if url is not None:
            found[name] = RemoteSettings(name, url, fields)
        elif name in theirs:
            raise _wrong(project, f"remotes.{name} has no url", "write 'url: URL' below it")
        # Else somebody has taken the remote out of the shared file, and this machine still has
        # options for it: nothing that should keep any command from working.
    return found


def _remote_table(settings: Mapping[str, Any], path: Path) -> dict[str, dict[str, str]]:
    table = settings.get("remotes")
    hint = "write below 'remotes:' a line '  NAME:' and below that '    url: URL'"
    if table is None:
        return {}
    if not isinstance(table, dict):
        raise _wrong(path, "remotes must hold names with a url each", hint)
    found: dict[str, dict[str, str]] = {}
    for name, fields in table.items():
        if not isinstance(fields, dict):
            raise _wrong(path, f"remotes.{name} must hold a url", hint)
        texts = {key: _text(value) for key, value in fields.items()}
        problem = remote_problem(name, texts)
        if problem is not None:
            key = f"remotes.{name}.{problem.key}" if problem.key else f"remotes.{name}"
            raise _wrong(path, f"{key} {problem.reason}", problem.hint)
        found[name] = texts
    return found


def _text(value: Any) -> Any:
    """Takes ``port: 22`` and ``anon: true`` for the text that they are meant as."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(value) if isinstance(value, int) else value


def _default_remote(
    shared: Mapping[str, Any],
    own: Mapping[str, Any],
    remotes: Mapping[str, RemoteSettings],
    project: Path,
    local: Path,
) -> str:
    for settings, path in ((own, local), (shared, project)):
        name = settings.get("remote")
        if name is None:
            continue
        # That there is such a remote is seen to when it is used: most commands need none.
        if not isinstance(name, str) or remote_problem(name, {}):
            raise _wrong(path, "remote must be the name of a remote", "write 'remote: NAME'")
        return name
    return next(iter(remotes), "")


# -- this machine ---------------------------------------------------------------------------------


def _store_path(store: Any, local: Path) -> Path | None:
    if store is None:
        return None
    path = store.get("path") if isinstance(store, dict) else store
    if path is None and isinstance(store, dict):
        return None
    # A relative path would be another directory for each one that a command is run in.
    if not isinstance(store, dict) or not isinstance(path, str) or not Path(path).is_absolute():
        raise _wrong(
            local,
            f"store.path must be the full path of a directory, not {path!r}",
            "write two lines: 'store:' and '  path: /where/the/packs/lie'",
        )
    return Path(path)


def _max_size(store: Any, local: Path) -> int | None:
    value = store.get("max_size") if isinstance(store, dict) else None
    if value is None:
        return None
    found = parse_size(str(value)) if type(value) in {int, str} else None
    if not found:
        raise _wrong(
            local,
            f"store.max_size must be a number of bytes, not {value!r}",
            "write it as '50 GB' or '20 GiB'",
        )
    return found


def parse_size(text: str) -> int | None:
    """Reads a number of bytes: ``50 GB`` (powers of 1000), ``20GiB`` (of 1024) or ``1000``.

    Returns:
        The number, rounded down; None where the text is none.
    """
    found = _SIZE.fullmatch(text.strip())
    if found is None:
        return None
    number, unit, binary = found.groups()
    power = " kmgtp".index(unit.lower()) if unit else 0
    return int(Fraction(number) * (1024 if binary else 1000) ** power)


def _jobs(transfers: Any, local: Path) -> int:
    value = transfers.get("jobs") if isinstance(transfers, dict) else transfers
    if value is None:
        return DEFAULT_JOBS
    if isinstance(transfers, dict) and type(value) is int and 1 <= value <= _MAX_JOBS:
        return value
    raise _wrong(
        local,
        f"transfers.jobs must be a whole number from 1 to {_MAX_JOBS}, not {value!r}",
        f"write two lines: 'transfers:' and '  jobs: {DEFAULT_JOBS}'",
    )


# -- files ----------------------------------------------------------------------------------------


def _read(path: Path) -> dict[str, Any]:
    try:
        with path.open("rb") as file:
            data = file.read(_MAX_BYTES + 1)
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise StorageError(f"{path} cannot be read: {error.strerror}", where=str(path)) from error
    return _parsed(data, path)


def _parsed(data: bytes, path: Path) -> dict[str, Any]:
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
