"""``get``: data of a repository of which there is no clone here."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator
from pathlib import Path

from datastore import config
from datastore.errors import NotFoundError, StorageError
from datastore.progress import Progress
from datastore.sharing.bringing import pull
from datastore.workspace import git_program
from datastore.workspace.git import Git
from datastore.workspace.layout import Workspace
from datastore.workspace.steps import PullResult


def get(source: str, path: str, rev: str | None, out: Path, progress: Progress) -> PullResult:
    """Brings data of another repository; see `datastore.repository.get`."""
    revision = rev or "HEAD"
    if (Path(source) / config.DIRECTORY / config.PROJECT_FILE).is_file():
        # A clone on this machine has a store, which may hold what no remote has.
        directory = Path(source).resolve()
        with _opened(directory, source, revision, None) as workspace:
            return _pull(workspace, path, revision, out, progress)
    with tempfile.TemporaryDirectory(prefix="datastore-get-") as temporary:
        top = _clone(source, revision, Path(temporary, "clone"), progress)
        with _opened(top, source, revision, top.parent / "index") as workspace:
            return _pull(workspace, path, revision, out, progress)


def _pull(workspace: Workspace, path: str, rev: str, out: Path, progress: Progress) -> PullResult:
    return pull(
        workspace,
        rev,
        [path.strip("/")],
        out=out.absolute(),
        force=False,
        remote=None,
        progress=progress,
    )


def _clone(source: str, rev: str, top: Path, progress: Progress) -> Path:
    """Makes a clone of the history alone: contents come as they are asked for."""
    with progress.task(f"clone {source}", None, "B"):
        try:
            git_program.run(
                top.parent,
                ["clone", "--quiet", "--no-checkout", "--filter=blob:none", "--", source, str(top)],
            )
        except StorageError as error:
            raise NotFoundError(
                f"there is no Git repository to be had at {source!r}: {error.message}",
                hint="SOURCE is what 'git clone' takes",
                where=source,
            ) from error
        with Git.discover(top) as git:
            commit = git.resolve(rev)
            settings = f"{config.DIRECTORY}/{config.PROJECT_FILE}"
            data = git.read(commit, settings)
    if data is None:
        raise NotFoundError(
            f"{source!r} has no datastore at {rev}",
            hint="is that the right repository and revision?",
            where=source,
        )
    (top / config.DIRECTORY).mkdir()
    (top / settings).write_bytes(data)
    return top


@contextlib.contextmanager
def _opened(top: Path, source: str, rev: str, index_directory: Path | None) -> Iterator[Workspace]:
    git = Git.discover(top)
    workspace = Workspace(git, git.worktree, index_directory=index_directory)
    try:
        if not workspace.config.default_remote:
            raise NotFoundError(
                f"{source!r} names no remote at {rev}, so its data is only where it was added",
                hint="let its owner run: datastore remote add origin URL, then push",
                where=source,
            )
        yield workspace
    finally:
        workspace.close()
