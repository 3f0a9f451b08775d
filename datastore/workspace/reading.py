"""The verbs ``ls`` and ``cat``: looking into a version where it lies, without a checkout."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from datastore.errors import NotFoundError, UsageError
from datastore.kernel.hashing import format_digest
from datastore.trees import files, prolly
from datastore.trees.filereader import FileReader
from datastore.trees.files import Entry, FileTree, Kind
from datastore.workspace.changes import full_path
from datastore.workspace.dataset import key_of, keys_within
from datastore.workspace.layout import Place, Workspace

_KINDS: Final = {
    Kind.FILE: "file",
    Kind.EXECUTABLE: "exec",
    Kind.LINK: "link",
    Kind.DIRECTORY: "dir",
}
_BUFFER: Final = 128 * 1024


@dataclass(frozen=True, slots=True)
class LsEntry:
    """One name in a listing."""

    path: str
    kind: str
    """``file``, ``exec``, ``link``, ``dir`` or ``dataset``."""
    size: int
    """In bytes; of a directory or dataset, the sum of the files below."""
    digest: str
    """Printed; empty for links and directories."""


def ls(workspace: Workspace, path: str, rev: str | None, *, recursive: bool) -> Iterator[LsEntry]:
    """Lists a version; see `Repository.ls`."""
    place = workspace.place(path, rev)
    if place is not None:
        version = _version(workspace, place, rev)
        yield from _list_inside(workspace, version, place, rev, recursive=recursive)
        return
    for found in workspace.places((path,) if path else (), rev):
        pointer = workspace.pointer(found.dataset, rev)
        if pointer is not None:
            digest = format_digest(pointer.root)
            yield LsEntry(found.dataset, "dataset", pointer.bytes, digest)


def _version(workspace: Workspace, place: Place, rev: str | None) -> FileTree:
    version = workspace.version(place.dataset, rev)
    if version is None:
        raise NotFoundError(f"{place.dataset!r} is not a dataset", where=place.dataset)
    return version


def _list_inside(
    workspace: Workspace, version: FileTree, place: Place, rev: str | None, *, recursive: bool
) -> Iterator[LsEntry]:
    wanted, start, stop = keys_within(place.inner)
    depth = len(wanted) + 1 if wanted else 0
    found = False
    directory, size = b"", 0
    for key, value in prolly.scan(version.tree, workspace.store, start=start, stop=stop):
        if not files.is_within(key, wanted):
            continue
        found = True
        entry = files.decode_entry(value)
        head, slash, _ = key[depth:].partition(b"/")
        if recursive or not slash or key == wanted:
            if directory:
                yield LsEntry(full_path(place.dataset, directory), "dir", size, "")
                directory = b""
            yield _ls_entry(place, key, entry)
        elif directory != key[:depth] + head:
            if directory:
                yield LsEntry(full_path(place.dataset, directory), "dir", size, "")
            directory, size = key[:depth] + head, entry.size
        else:
            size += entry.size
    if directory:
        yield LsEntry(full_path(place.dataset, directory), "dir", size, "")
    if place.inner and not found:
        raise _not_inside(place, rev)


def _ls_entry(place: Place, key: bytes, entry: Entry) -> LsEntry:
    digest = format_digest(entry.content.digest) if entry.is_file else ""
    return LsEntry(full_path(place.dataset, key), _KINDS[entry.kind], entry.size, digest)


def _not_inside(place: Place, rev: str | None) -> NotFoundError:
    where = f" at {rev}" if rev else ""
    return NotFoundError(
        f"{place.dataset}/{place.inner} is not in that version of {place.dataset}{where}",
        hint=f"list it: datastore ls {(rev + ':') if rev else ''}{place.dataset}",
        where=f"{rev + ':' if rev else ''}{place.dataset}/{place.inner}",
    )


def find_entry(workspace: Workspace, path: str, rev: str | None) -> Entry:
    """Finds the entry of a workspace path.

    Raises:
        NotFoundError: There is no such dataset, version or file.
    """
    place = workspace.place(path, rev)
    if place is None:
        workspace.places((path,), rev)
        raise NotFoundError(
            f"{path!r} is a directory of datasets, not a file",
            where=path,
            hint="see 'datastore ls'",
        )
    version = _version(workspace, place, rev)
    key = key_of(place.inner) if place.inner else files.SELF_KEY
    value = prolly.get(version.tree, key, workspace.store)
    if value is None and not place.inner:
        raise UsageError(
            f"{path!r} is a directory, not a file",
            hint=f"name a file in it: datastore ls {path}",
            where=path,
        )
    if value is None:
        raise _not_inside(place, rev)
    return files.decode_entry(value)


def open_file(workspace: Workspace, path: str, rev: str | None) -> io.BufferedReader:
    """Opens a stored file; see `Repository.open_file`."""
    entry = find_entry(workspace, path, rev)
    if not entry.is_file:
        raise UsageError(
            f"{path!r} is a {_KINDS[entry.kind]}, which has no content",
            hint="a link is kept, not followed: name the file that it points to",
            where=path,
        )
    return io.BufferedReader(FileReader(entry.content, workspace.store), _BUFFER)
