"""A dataset as a tree: path -> file entry, under one root record.

The format is in ``docs/reference/format/dataset.md``.
"""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

import msgpack

from datastore.errors import FormatError, UsageError
from datastore.kernel.chunking import CHUNKERS, DEFAULT_CHUNKER
from datastore.kernel.hashing import DIGEST_SIZE, Digest, format_digest, node_digest
from datastore.trees import prolly
from datastore.trees.manifest import (
    EMPTY_DIGEST,
    FAULTY,
    INLINE_CHUNKS,
    MAX_DEPTH,
    ChunkRef,
    Content,
    encode_page,
)
from datastore.trees.prolly import NodeReader, NodeWriter, Shape, Tree

FORMAT: Final = 1
SHAPE: Final = Shape(leaf_rows=128)
"""Fixed for every dataset, so that equal files always give equal roots: a row takes about 80
bytes, which makes a leaf about 10 KB."""
SELF_KEY: Final = b"."
"""The one key of a dataset that is a single file: a pointer can be renamed without a new root."""
MAX_LINK_SIZE: Final = 4096
_MAX_ENTRY_SIZE: Final = 16 * 1024
"""Bytes of an entry: a link's target, a name and what is small beside them."""
_MAX_RECORD_SIZE: Final = 1024


class Kind(enum.IntEnum):
    """What an entry is."""

    FILE = 0
    EXECUTABLE = 1
    LINK = 2
    DIRECTORY = 3


class Entry(NamedTuple):
    """One row of a dataset."""

    kind: Kind
    content: Content = Content(0, b"")
    """Of a file; empty for a link or an (empty) directory."""
    target: bytes = b""
    """Of a link, as the file system gives it."""
    name: str = ""
    """The path as the file system spells it, where that is not the key (Unicode NFC)."""

    @property
    def size(self) -> int:
        """Bytes of the file; 0 for a link or a directory."""
        return self.content.size

    @property
    def is_file(self) -> bool:
        """Whether the entry has content."""
        return self.kind <= Kind.EXECUTABLE


@dataclass(frozen=True, slots=True)
class FileTree:
    """A version of a dataset."""

    root: Digest
    """Names the root record."""
    tree: Tree
    files: int
    """Files and links; empty directories do not count."""
    bytes: int
    """Sum of the files' sizes."""


def encode_entry(entry: Entry) -> bytes:
    """Encodes an entry as a tree's value."""
    row: list[object] = [int(entry.kind)]
    if entry.is_file:
        row += [entry.content.size, entry.content.digest]
        if entry.content.chunks:
            row.append([chunk.size for chunk in entry.content.chunks])
            row.append(b"".join([chunk.digest for chunk in entry.content.chunks]))
        elif entry.content.depth:
            row.append(entry.content.depth)
    elif entry.kind is Kind.LINK:
        row.append(entry.target)
    if entry.name:
        row.append(entry.name)
    packed: bytes = msgpack.packb(row)
    return packed


def decode_entry(value: bytes) -> Entry:
    """Decodes a tree's value.

    Raises:
        FormatError: It is no entry of this format.
    """
    if len(value) > _MAX_ENTRY_SIZE:
        raise FormatError(f"a file entry has {len(value)} bytes", hint=FAULTY)
    try:
        row = list(msgpack.unpackb(value))
        kind = Kind(row[0])
        name = row.pop() if type(row[-1]) is str else ""
        entry = _assemble(kind, row, name)
        sound = encode_entry(entry) == value
    except (ValueError, TypeError, IndexError, msgpack.UnpackException) as error:
        raise FormatError(f"a file entry is malformed: {error}", hint=FAULTY) from error
    if not sound:
        raise FormatError("a file entry is not in its canonical form", hint=FAULTY)
    return entry


def _assemble(kind: Kind, row: list[object], name: str) -> Entry:
    if kind is Kind.DIRECTORY:
        return Entry(kind, name=name)
    if kind is Kind.LINK:
        target = row[1]
        if type(target) is not bytes or not 0 < len(target) <= MAX_LINK_SIZE:
            raise ValueError("link target")
        return Entry(kind, target=target, name=name)
    size, digest = row[1], row[2]
    if type(size) is not int or size < 0 or type(digest) is not bytes or len(digest) != DIGEST_SIZE:
        raise ValueError("size or digest")
    content = Content(size, digest)
    if len(row) == 5:
        content = content._replace(depth=1, chunks=_inline(row[3], row[4], size))
        if node_digest(encode_page(1, content.chunks)) != digest:
            raise ValueError("digest of an inline manifest")
    elif len(row) == 4:
        if type(row[3]) is not int or not 0 < row[3] <= MAX_DEPTH:
            raise ValueError("manifest depth")
        content = content._replace(depth=row[3])
    if (size == 0) != (digest == EMPTY_DIGEST) or (size == 0 and content.depth):
        raise ValueError("empty file")
    return Entry(kind, content, name=name)


def _inline(sizes: object, joined: object, total: int) -> tuple[ChunkRef, ...]:
    if type(sizes) is not list or type(joined) is not bytes:
        raise ValueError("inline manifest")
    if not 2 <= len(sizes) <= INLINE_CHUNKS or len(joined) != DIGEST_SIZE * len(sizes):
        raise ValueError("inline manifest length")
    if any(type(size) is not int or size <= 0 for size in sizes) or sum(sizes) != total:
        raise ValueError("inline manifest sizes")
    return tuple(
        ChunkRef(joined[at * DIGEST_SIZE : (at + 1) * DIGEST_SIZE], size)
        for at, size in enumerate(sizes)
    )


def seal(tree: Tree, files: int, size: int, writer: NodeWriter) -> FileTree:
    """Writes a version's root record.

    Args:
        tree: Path -> entry.
        files: Files and links in it.
        size: Sum of the files' sizes, in bytes.
        writer: Where the record goes.
    """
    record = _encode_root(DEFAULT_CHUNKER, tree, files, size)
    return FileTree(writer.put_node(record), tree, files, size)


def _encode_root(chunker: str, tree: Tree, files: int, size: int) -> bytes:
    shape = (tree.shape.leaf_rows, tree.shape.inner_rows)
    counts = (tree.level, tree.rows, files, size)
    packed: bytes = msgpack.packb(["files", FORMAT, chunker, *shape, *counts, tree.top])
    return packed


def load(root: Digest, reader: NodeReader) -> FileTree:
    """Reads a version's root record.

    Raises:
        NotFoundError: It is not stored.
        FormatError: It is no root of a dataset, or of a newer format.
    """
    (record,) = reader.read_nodes((root,))
    if len(record) > _MAX_RECORD_SIZE:
        raise _malformed(root, f"it has {len(record)} bytes")
    try:
        kind, version, chunker, *fields = msgpack.unpackb(record)
    except (ValueError, TypeError, msgpack.UnpackException) as error:
        raise _malformed(root, "it is no array of fields") from error
    if (type(kind), type(version), type(chunker)) != (str, int, str):
        raise _malformed(root, "it is of no kind and format")
    if kind != "files" or version != FORMAT or chunker not in CHUNKERS:
        raise FormatError(
            f"the root record {format_digest(root)} is of kind {kind!r}, format {version!r}, "
            f"chunker {chunker!r}",
            hint="a newer datastore wrote it: pip install --upgrade datastore-ml",
        )
    *numbers, top = fields or (None,)
    if len(numbers) != 6 or any(type(number) is not int or number < 0 for number in numbers):
        raise _malformed(root, "it holds no sound counts")
    leaf, inner, level, rows, files, size = numbers
    if type(top) is not bytes or len(top) != DIGEST_SIZE or files > rows:
        raise _malformed(root, "it names no sound tree")
    try:
        tree = Tree(Shape(leaf, inner), top, level, rows)
    except UsageError as error:
        raise _malformed(root, str(error)) from error
    if _encode_root(chunker, tree, files, size) != record:
        raise _malformed(root, "it is not in its canonical form")
    return FileTree(root, tree, files, size)


def _malformed(root: Digest, why: str) -> FormatError:
    return FormatError(f"the root record {format_digest(root)} is malformed: {why}", hint=FAULTY)


def build(rows: Iterable[tuple[bytes, bytes]], writer: NodeWriter) -> Tree:
    """Builds a dataset's tree from its rows, keys strictly increasing."""
    return prolly.build(rows, SHAPE, writer)


def entries(version: FileTree, reader: NodeReader) -> Iterator[tuple[str, Entry]]:
    """Lists a version's paths and entries in key order."""
    for key, value in prolly.scan(version.tree, reader):
        yield decode_key(key), decode_entry(value)


def scan(
    version: FileTree, reader: NodeReader, *, start: bytes = b"", stop: bytes | None = None
) -> Iterator[tuple[bytes, bytes]]:
    """Lists a version's keys and encoded entries in key order, from `start` and before `stop`."""
    return prolly.scan(version.tree, reader, start=start, stop=stop)


def decode_key(key: bytes) -> str:
    """Reads a path.

    Raises:
        FormatError: It is not UTF-8.
    """
    try:
        return key.decode()
    except UnicodeDecodeError as error:
        raise FormatError(f"a path in the dataset is not UTF-8: {key!r}", hint=FAULTY) from error


def key_range(path: str) -> tuple[bytes, bytes | None]:
    """Returns the range of keys of a path and all below it; ``""`` is the whole dataset.

    The range may hold keys of siblings (``a.txt`` lies between ``a`` and ``a/b``): see `is_within`.
    """
    if not path:
        return b"", None
    key = path.encode()
    return key, key + b"0"


def is_within(key: bytes, path: bytes) -> bool:
    """Whether a key is a path or lies below it; ``b""`` is the whole dataset."""
    return not path or key == path or key.startswith(path + b"/")
