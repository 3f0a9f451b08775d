"""Tree nodes as bytes: canonical msgpack, and a decoder that believes nothing it reads.

The format is in ``docs/reference/format/tree.md``. One node has exactly one encoding, so equal rows
have equal digests; bytes that would not be written this way again are refused.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from operator import itemgetter, lt
from typing import Any, ClassVar, Final, NoReturn, TypeAlias

import msgpack

from datastore.errors import FormatError, UsageError
from datastore.kernel.hashing import DIGEST_SIZE, Digest

Child: TypeAlias = tuple[Digest, int]
"""What an inner node says of a child: its digest and how many rows stand below it."""

MAX_NODE_SIZE: Final = 16 * 1024 * 1024
"""The most bytes that an encoded node may have."""

MAX_NODE_ROWS: Final = 2048
"""The most rows that a node may have. It also bounds what hostile array headers can allocate."""

MAX_LEVEL: Final = 63
"""The highest level. An inner node that is not the last of its level has two rows or more."""

MAX_ROWS: Final = 2**63 - 1
"""The most rows that a tree may have."""

_LEAF_FIELDS: Final = 3
_INNER_FIELDS: Final = 4  # also how many arrays there are: three columns in one


@dataclass(frozen=True, slots=True)
class Leaf:
    """A run of rows.

    Attributes:
        keys: Strictly increasing, bytewise.
        values: One opaque value for each key.
    """

    level: ClassVar[int] = 0

    keys: list[bytes]
    values: list[bytes]

    @property
    def rows(self) -> int:
        """How many rows the leaf holds."""
        return len(self.keys)


@dataclass(frozen=True, slots=True)
class Inner:
    """A run of nodes of the level below.

    Attributes:
        level: How far above the leaves, from 1.
        keys: The last key of each child.
        children: The digest and the row count of each child.
    """

    level: int
    keys: list[bytes]
    children: list[Child]

    @property
    def rows(self) -> int:
        """How many rows stand below the node."""
        return sum(map(itemgetter(1), self.children))


Node: TypeAlias = Leaf | Inner


class _Packer(threading.local):
    """A packer for each thread: a new one costs fifty times the packing of an average node."""

    def __init__(self) -> None:
        self.pack: Callable[[object], bytes] = msgpack.Packer(use_bin_type=True).pack


_packer: Final = _Packer()


def encode_leaf(keys: Sequence[bytes], values: Sequence[bytes]) -> bytes:
    """Encodes a leaf.

    Args:
        keys: Strictly increasing; not checked here, as builders check whole batches.
        values: One for each key.

    Raises:
        UsageError: A key or a value is not `bytes`, or the rows are too large for one node.
    """
    if not (_all_bytes(keys) and _all_bytes(values)):
        raise UsageError("a tree row cannot be stored: its key and its value must be bytes")
    return _bounded(_packer.pack((0, keys, values)), keys)


def encode_inner(level: int, keys: Sequence[bytes], children: Sequence[Child]) -> bytes:
    """Encodes an inner node.

    Args:
        level: From 1.
        keys: The last key of each child.
        children: The digest and the row count of each child.

    Raises:
        UsageError: The keys are too large for one node.
    """
    digests, counts = zip(*children, strict=True)
    return _bounded(_packer.pack((level, keys, digests, counts)), keys)


def decode(data: bytes, *, where: str = "") -> Node:
    """Decodes and checks one node.

    Checked are the types, the level, equal lengths, the order of the keys, digest sizes, row counts
    and that the bytes are the canonical ones. What a parent says of the node is checked by whoever
    has the parent. Whatever `data` holds, memory stays within its size and some 20 MiB.

    Args:
        data: The encoded node.
        where: The node's printed digest, for the error.

    Raises:
        FormatError: `data` is not a node.
    """
    if len(data) > MAX_NODE_SIZE:
        _refuse(f"{len(data)} bytes are more than the {MAX_NODE_SIZE} allowed", where)
    try:
        fields: Any = _unpacked(data)
    except (ValueError, msgpack.UnpackException) as error:
        _refuse(f"it is not msgpack of the expected form ({error})", where)
    flaw = _flaw(fields)
    if flaw:
        _refuse(flaw, where)
    if _packer.pack(fields) != data:
        _refuse("its encoding is not the canonical one", where)
    if fields[0] == 0:
        return Leaf(fields[1], fields[2])
    return Inner(fields[0], fields[1], list(zip(fields[2], fields[3], strict=True)))


def _unpacked(data: bytes) -> object:
    """Unpacks arrays, byte strings and integers, in memory of the order of the data."""
    arrays = 0

    def count(array: list[object]) -> list[object]:
        # Called as each array ends. Without it, 16 MiB of empty arrays would take 1 GiB.
        nonlocal arrays
        arrays += 1
        if arrays > _INNER_FIELDS:
            raise ValueError("too many arrays")
        return array

    unpacked: object = msgpack.unpackb(
        data,
        list_hook=count,
        max_array_len=MAX_NODE_ROWS,
        max_map_len=0,
        max_ext_len=0,
        max_str_len=0,
    )
    return unpacked


def _flaw(fields: object) -> str:
    """Says what is wrong with decoded fields; empty where nothing is."""
    if type(fields) is not list or len(fields) not in (_LEAF_FIELDS, _INNER_FIELDS):
        return "it is not an array of three or four fields"
    level, *columns = fields
    if type(level) is not int or not 0 <= level <= MAX_LEVEL:
        return f"its level is not an integer from 0 to {MAX_LEVEL}"
    if (level == 0) != (len(columns) + 1 == _LEAF_FIELDS):
        return f"{len(columns) + 1} fields do not fit level {level}"
    if any(type(column) is not list for column in columns):
        return "a field after the level is not an array"
    if len(set(map(len, columns))) != 1:
        return "its arrays differ in length"
    return _key_flaw(columns[0]) or (
        _inner_flaw(columns[1], columns[2]) if level else _leaf_flaw(columns[1])
    )


def _key_flaw(keys: list[Any]) -> str:
    if not _all_bytes(keys):
        return "a key is not a byte string"
    return "" if increasing(keys) else "its keys do not strictly increase"


def _leaf_flaw(values: list[Any]) -> str:
    return "" if _all_bytes(values) else "a value is not a byte string"


def _inner_flaw(digests: list[Any], counts: list[Any]) -> str:
    if not digests:
        return "it has no children"
    if not _all_bytes(digests) or set(map(len, digests)) != {DIGEST_SIZE}:
        return f"a child's digest is not {DIGEST_SIZE} bytes"
    if set(map(type, counts)) != {int} or min(counts) < 1 or sum(counts) > MAX_ROWS:
        return "a row count is not an integer from 1, or all together are too many"
    return ""


def increasing(keys: Sequence[bytes]) -> bool:
    """Tells whether the keys strictly increase, bytewise."""
    return all(map(lt, keys, keys[1:]))


def _all_bytes(items: Sequence[object]) -> bool:
    # isinstance in a generator would cost ten times as much, on the hot path of build and scan.
    return set(map(type, items)) <= {bytes}


def _bounded(data: bytes, keys: Sequence[bytes]) -> bytes:
    if len(data) > MAX_NODE_SIZE:
        raise UsageError(
            f"a tree node of {len(data)} bytes is more than the {MAX_NODE_SIZE} allowed, "
            f"in the rows up to key {keys[-1][:64]!r}",
            hint="Store large values as chunks and keep their digests in the tree.",
        )
    return data


def _refuse(why: str, where: str) -> NoReturn:
    name = f"tree node {where}" if where else "a tree node"
    raise FormatError(
        f"{name} is malformed: {why}",
        where=where,
        hint="The writer of this node was faulty or hostile: fetch the version from another copy.",
    )
