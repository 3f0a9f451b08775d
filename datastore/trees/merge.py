"""Three-way merge of trees: two diffs walked together, then one edit.

Import it from `datastore.trees.diff`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Final, NamedTuple, TypeAlias

from datastore.trees.changes import Change, diff
from datastore.trees.edit import edit
from datastore.trees.tree import NodeReader, NodeWriter, Tree


class Unresolved(Enum):
    """The type of `UNRESOLVED`: None already says that a key is deleted."""

    UNRESOLVED = "unresolved"


UNRESOLVED: Final = Unresolved.UNRESOLVED
"""What a resolver returns to leave a conflict as it is."""


class Conflict(NamedTuple):
    """One key that both sides changed, each in its own way.

    Attributes:
        key: The key.
        base: Its value before; None where it was not there.
        ours: Our value; None where we deleted it.
        theirs: Their value; None where they deleted it.
    """

    key: bytes
    base: bytes | None
    ours: bytes | None
    theirs: bytes | None


Resolver: TypeAlias = Callable[[Conflict], bytes | Unresolved | None]
"""Settles a conflict with a value, with None (the key is deleted), or not at all."""


@dataclass(frozen=True, slots=True)
class Merge:
    """The outcome of a merge.

    Attributes:
        tree: Both sides' changes. A key in conflict keeps our value.
        conflicts: The conflicts that were not settled, in key order.
    """

    tree: Tree
    conflicts: tuple[Conflict, ...]


def merge(
    base: Tree,
    ours: Tree,
    theirs: Tree,
    reader: NodeReader,
    writer: NodeWriter,
    *,
    resolve: Resolver | None = None,
) -> Merge:
    """Merges two trees that come from one.

    The same change on both sides is no conflict. Exchanging the sides gives the same tree but for
    the keys in conflict, which keep our value. Everything streams but the list of conflicts.

    Args:
        base: The tree that both sides began with.
        ours: Our tree; the result has its shape.
        theirs: Their tree.
        reader: Where the nodes of all three are.
        writer: Where new nodes go.
        resolve: Called for each conflict, in key order; without it none is settled.

    Raises:
        UsageError: Rows are too large for a node.
        FormatError: A node is malformed.
        NotFoundError: A node is not there.
        CorruptionError: A node's bytes do not have its digest.
    """
    if theirs in (base, ours):
        return Merge(ours, ())
    if ours == base and ours.shape == theirs.shape:
        return Merge(theirs, ())
    conflicts: list[Conflict] = []
    settled = _settled(base, ours, theirs, reader, resolve, conflicts)
    return Merge(edit(ours, settled, reader, writer), tuple(conflicts))


def _settled(
    base: Tree,
    ours: Tree,
    theirs: Tree,
    reader: NodeReader,
    resolve: Resolver | None,
    conflicts: list[Conflict],
) -> Iterator[tuple[bytes, bytes | None]]:
    """Yields the edits that make our tree the merged one; notes the conflicts left."""
    for our, their in _paired(diff(base, ours, reader), diff(base, theirs, reader)):
        if our is None:
            yield their.key, their.new
        elif our.new != their.new:
            conflict = Conflict(our.key, our.old, our.new, their.new)
            value = resolve(conflict) if resolve else UNRESOLVED
            if isinstance(value, Unresolved):
                conflicts.append(conflict)
            else:
                yield our.key, value


def _paired(
    ours: Iterator[Change], theirs: Iterator[Change]
) -> Iterator[tuple[Change | None, Change]]:
    """Pairs each of their changes with our change of the same key, if any."""
    our = next(ours, None)
    for their in theirs:
        while our is not None and our.key < their.key:
            our = next(ours, None)
        yield (our if our is not None and our.key == their.key else None), their
