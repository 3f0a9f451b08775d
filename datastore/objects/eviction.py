"""Making room: packs go, and the index forgets what only they held."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from datastore.errors import DatastoreError
from datastore.kernel.hashing import Digest
from datastore.objects.index import Index, PackRow
from datastore.objects.pack import SUFFIX, Sealed, pack_path, parse_name
from datastore.objects.packreader import read_footer
from datastore.storage.local import storage_error


def evict(index: Index, packs: Path, names: Iterable[str]) -> int:
    """Removes packs from the index and then from the disk.

    In this order, because what the index does not have is looked for elsewhere, while what it has
    in vain is an error. Should the process be killed in between, the files are still there to be
    entered again. What other packs hold too is found in them from now on.

    Args:
        index: Knows the packs.
        packs: The directory of packs.
        names: Of the packs; one that is not there is passed over.

    Returns:
        How many bytes the files had.

    Raises:
        FormatError: That is not the name of a pack.
        StorageError: The index cannot be written, or a file cannot be removed.
    """
    gone = {parse_name(name + SUFFIX) for name in names}
    rows = index.packs()
    leaving = [row for row in rows if row.name in gone]
    orphans = _placed_in(index, packs, leaving)
    index.drop_packs(row.number for row in leaving)
    try:
        return sum(_remove(pack_path(packs, name)) for name in sorted(gone))
    finally:
        _find_again(index, packs, orphans, [row for row in rows if row.name not in gone])


def _placed_in(index: Index, packs: Path, leaving: list[PackRow]) -> set[Digest]:
    """Returns what the index will no longer find."""
    numbers = {row.number for row in leaving}
    placed: set[Digest] = set()
    for row in leaving:
        sealed = _contents(packs, row)
        if sealed is None:
            placed.update(index.digests_of(row.number))
            continue
        with index.lookup() as lookup:
            for digest in sealed.digests:
                found = lookup.find(digest)
                if found is not None and found.pack in numbers:
                    placed.add(digest)
    return placed


def _find_again(index: Index, packs: Path, orphans: set[Digest], staying: list[PackRow]) -> None:
    """Enters the packs anew that hold some of what the index has just lost."""
    heirs = []
    for row in staying if orphans else []:
        sealed = _contents(packs, row)
        if sealed is not None and not orphans.isdisjoint(sealed.digests):
            heirs.append(row)
    index.drop_packs(row.number for row in heirs)
    for row in heirs:
        index.add_pack(read_footer(pack_path(packs, row.name)))


def _contents(packs: Path, row: PackRow) -> Sealed | None:
    try:
        return read_footer(pack_path(packs, row.name))
    except DatastoreError:
        return None


def _remove(path: Path) -> int:
    try:
        size = path.stat().st_size
        path.unlink()
    except FileNotFoundError:
        return 0
    except OSError as error:
        raise storage_error(error, "remove", path) from error
    return size
