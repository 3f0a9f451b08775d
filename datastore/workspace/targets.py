"""Which paths ``add`` may be given, and what dataset each one belongs to."""

from __future__ import annotations

import os
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from datastore.config import DIRECTORY
from datastore.errors import NotFoundError, UsageError
from datastore.workspace.ignore import IGNORE_FILE, Ignore
from datastore.workspace.layout import Place, Workspace
from datastore.workspace.paths import path_problem, printable
from datastore.workspace.pointer import POINTER_SUFFIX, pointer_path


def targets(workspace: Workspace, paths: Sequence[str]) -> list[Place]:
    """Finds the datasets, old and new, and the parts of them that are to be stored.

    Args:
        workspace: Where they are.
        paths: Workspace paths; what lies inside another one of them is left out.

    Raises:
        NotFoundError: A path does not exist.
        UsageError: A path cannot be a dataset or a part of one.
    """
    places: dict[Place, None] = {}
    for path in paths:
        place = workspace.place(path) or Place(path, "")
        _check_links(workspace, path)
        if place.inner:
            place = place._replace(inner=_as_spelled(workspace.top / place.dataset, place.inner))
            _check_inner(workspace, place)
        else:
            _check_new(workspace, path)
        places[place] = None
    whole = {place.dataset for place in places if not place.inner}
    for path in sorted(whole):
        outer = next(filter(whole.__contains__, parents(path)), None)
        if outer is not None:
            raise _nested(outer, path)
    return [place for place in places if not place.inner or place.dataset not in whole]


def parents(path: str) -> list[str]:
    """Returns the directories above a path, outermost first."""
    parts = path.split("/")[:-1]
    return ["/".join(parts[: count + 1]) for count in range(len(parts))]


def _check_links(workspace: Workspace, path: str) -> None:
    """Data is reached through directories only, never through a link."""
    for parent in parents(path):
        if (workspace.top / parent).is_symlink():
            raise UsageError(
                f"{path!r} lies behind the symbolic link {parent!r}, which is not followed",
                hint="add the link itself, or what it points to where that is",
                where=path,
            )


def _as_spelled(top: Path, inner: str) -> str:
    """Finds a path that is on disk in another Unicode composition than it was given in."""
    if inner.isascii() or os.path.lexists(top / inner):
        return inner
    found: list[str] = []
    for name in inner.split("/"):
        at = top.joinpath(*found)
        if not os.path.lexists(at / name) and at.is_dir():
            wanted = unicodedata.normalize("NFC", name)
            alike = [n for n in os.listdir(at) if unicodedata.normalize("NFC", n) == wanted]
            found.append(alike[0] if len(alike) == 1 else name)
        else:
            found.append(name)
    return "/".join(found)


def _check_inner(workspace: Workspace, place: Place) -> None:
    top = workspace.top / place.dataset
    path = f"{place.dataset}/{place.inner}"
    if os.path.lexists(top) and not top.is_dir():
        raise UsageError(
            f"{place.dataset!r} is a file, so nothing can be in it",
            hint=f"add it whole: datastore add {place.dataset}",
            where=path,
        )
    at = top / place.inner
    is_dir = at.is_dir() and not at.is_symlink()
    ignoring = Ignore(workspace.top, place.dataset)
    if os.path.lexists(at) and ignoring.match(place.inner, is_dir):
        raise UsageError(
            f"{path!r} is ignored by {IGNORE_FILE}",
            hint=f"change the line in {IGNORE_FILE} that says so",
            where=path,
        )


def _check_new(workspace: Workspace, path: str) -> None:
    top = workspace.top / path
    if not path or path.split("/", maxsplit=1)[0] in {DIRECTORY, ".git"}:
        raise UsageError(
            f"{path or '.'!r} cannot be a dataset",
            hint="name a file or a directory inside the workspace",
            where=path,
        )
    problem = path_problem(path)
    if problem is not None:
        raise UsageError(
            f"{path!r} cannot be a dataset: {problem}", hint="rename it", where=printable(path)
        )
    if top.is_symlink():
        raise UsageError(
            f"{path!r} is a symbolic link, which is not followed",
            hint="add the directory that it points to, or move the data here",
            where=path,
        )
    if not top.exists():
        raise NotFoundError(f"{path!r} does not exist", hint="check the spelling", where=path)
    if not top.is_dir() and not top.is_file():
        raise UsageError(
            f"{path!r} is neither a file nor a directory",
            hint="copy what it gives into a file, and add that",
            where=path,
        )
    if path.endswith(POINTER_SUFFIX):
        raise UsageError(
            f"{path!r} has the name of a pointer",
            hint=f"add the data: 'datastore add {path.removesuffix(POINTER_SUFFIX)}'",
            where=path,
        )
    _check_git(workspace, path)


def _check_git(workspace: Workspace, path: str) -> None:
    pointer = pointer_path(path)
    if workspace.pointer_data(path) is None and workspace.git.is_ignored(pointer):
        raise UsageError(
            f"Git ignores {pointer!r}, so no commit would hold the pointer of {path!r}",
            hint=f"'git check-ignore -v {pointer}' shows which line says so: change that",
            where=path,
        )
    tracked = workspace.git.tracked(path)
    if tracked:
        raise UsageError(
            f"Git tracks {tracked[0]!r}"
            + (f" and {len(tracked) - 1} more files of {path!r}" if len(tracked) > 1 else ""),
            hint=f"hand them over first: git rm -r -q --cached {path}",
            where=path,
        )
    for inside in workspace.dataset_paths():
        # Data may be named like a pointer.
        if inside.startswith(path + "/") and _is_pointer(workspace.pointer_data(inside)):
            raise _nested(path, inside)


def _is_pointer(data: bytes | None) -> bool:
    return data is not None and data.startswith((b"datastore:", b"<<<<<<<"))


def _nested(outer: str, inner: str) -> UsageError:
    return UsageError(
        f"{outer!r} holds the dataset {inner!r}; datasets cannot be nested",
        hint=f"remove {inner}{POINTER_SUFFIX} first, or add them one by one",
        where=outer,
    )
