"""The remotes in a project's settings: naming, listing and forgetting them. None is talked to."""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from datastore import config
from datastore.errors import FormatError, UsageError
from datastore.settings import editing
from datastore.settings.remotes import RemoteSettings, remote_problem
from datastore.storage.clouds import check_options
from datastore.storage.failures import storage_error
from datastore.storage.local import write_durably
from datastore.storage.places import parse_url
from datastore.workspace.diagnosis import Check
from datastore.workspace.layout import LOCK_TIMEOUT, Workspace


@dataclass(frozen=True, slots=True)
class RemoteInfo:
    """A remote as it is named in the settings."""

    name: str
    url: str
    default: bool
    options: dict[str, str]


@dataclass(frozen=True, slots=True)
class RemoteCheck:
    """What a trial of a remote has shown."""

    ok: bool
    remote: str
    url: str
    checks: tuple[Check, ...]


def inherit_remotes(workspace: Workspace) -> None:
    """Lets an older commit know the remotes that were named after it, if it knows none itself.

    Whoever checks out a commit from before there was a remote wants its data all the same. Later
    commits of the same line say where it is; the files in the workspace stay as they are.
    """
    if workspace.config.remotes:
        return
    path = workspace.project_directory / config.PROJECT_FILE
    name = f"{config.DIRECTORY}/{config.PROJECT_FILE}"
    for tip in workspace.git.later_tips():
        text = workspace.git.read(tip, name)
        if text is None:
            continue
        try:
            later = config.load(path, workspace.home / config.LOCAL_FILE, text=text)
        except FormatError:
            continue  # not what this command is about
        known = workspace.config.repository
        if later.remotes and known in {"", later.repository}:
            workspace.config = later
            return


def list_remotes(workspace: Workspace) -> tuple[RemoteInfo, ...]:
    """Lists the remotes, in the order of the settings."""
    return tuple(_info(workspace, name) for name in workspace.config.remotes)


def add_remote(
    workspace: Workspace,
    name: str,
    url: str,
    options: Mapping[str, str],
    *,
    default: bool,
) -> RemoteInfo:
    """Writes a remote into the shared settings, and the project's own name if it has none.

    Args:
        workspace: Whose settings.
        name: What to call it.
        url: A URL, or a path; a relative one starts where the user is, and is kept relative to the
            top of the worktree, so that it means the same directory to every command.
        options: For the storage.
        default: Make it the default remote; the first one is in any case.

    Raises:
        UsageError: The name, the URL or an option cannot be used, a secret is among them, or there
            is a remote of that name.
        FormatError: The file is written in a way that cannot be edited.
        StorageError: The file cannot be written.
    """
    problem = remote_problem(name, {"url": url, **options})
    if problem is not None:
        what = problem.key or repr(name)
        raise UsageError(f"{what} {problem.reason}", hint=problem.hint, where=name)
    remote = RemoteSettings(name, _kept(workspace, url), options)
    place = parse_url(remote.located(workspace.top))
    check_options(place.cloud.scheme, options)

    def edit(text: str) -> str:
        text = editing.with_remote(_identified(workspace, text), remote)
        first = not workspace.config.default_remote
        return editing.with_default(text, name) if default or first else text

    _rewrite(workspace, edit)
    return _info(workspace, name)


def remove_remote(workspace: Workspace, name: str) -> None:
    """Takes a remote out of the shared settings; nothing on the remote itself is touched.

    Raises:
        UsageError: The shared settings have no such remote.
        FormatError: The file is written in a way that cannot be edited.
        StorageError: The file cannot be written.
    """
    _rewrite(workspace, lambda text: editing.without_remote(text, name))


def repository_id(workspace: Workspace) -> str:
    """Returns the name that the project goes by on remotes; one is made where it has none.

    Raises:
        FormatError: The file is written in a way that cannot be edited.
        StorageError: The file cannot be written.
    """
    if not workspace.config.repository:
        _rewrite(workspace, lambda text: _identified(workspace, text))
    return workspace.config.repository


def _info(workspace: Workspace, name: str) -> RemoteInfo:
    settings = workspace.config
    remote = settings.remotes[name]
    return RemoteInfo(name, remote.url, name == settings.default_remote, dict(remote.options))


def _kept(workspace: Workspace, url: str) -> str:
    if "://" in url or os.path.isabs(url):
        return url
    inside = os.path.relpath(workspace.directory / url, workspace.top)
    return inside if inside in {".", ".."} or inside.startswith("../") else f"./{inside}"


def _identified(workspace: Workspace, text: str) -> str:
    if workspace.config.repository:
        return text
    return editing.with_repository(text, config.new_repository())


def _rewrite(workspace: Workspace, edit: Callable[[str], str]) -> None:
    """Edits the shared settings, and lets them be in force from now on."""
    path = workspace.project_directory / config.PROJECT_FILE
    local = workspace.home / config.LOCAL_FILE
    with workspace.lock().acquire(LOCK_TIMEOUT):
        workspace.config = config.load(path, local)  # another command may have edited it
        try:
            text = path.read_bytes().decode()
            mode = stat.S_IMODE(path.stat().st_mode)
        except OSError as error:
            raise storage_error(error, "read", path) from error
        try:
            edited = edit(text)
        except FormatError as error:
            error.where = str(path)
            raise
        if edited != text:
            write_durably(path, edited.encode(), mode=mode)
            workspace.config = config.load(path, local)
