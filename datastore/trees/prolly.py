"""Ordered maps that are the same bytes whatever their history: prolly trees.

This is the place to import trees from. The format is in ``docs/reference/format/tree.md``; `diff`
and `merge` are in `datastore.trees.diff`.
"""

from __future__ import annotations

from datastore.trees.builder import build
from datastore.trees.edit import edit
from datastore.trees.lookup import get, get_many, scan
from datastore.trees.shape import Shape
from datastore.trees.tree import NodeReader, NodeWriter, Tree

__all__ = [
    "NodeReader",
    "NodeWriter",
    "Shape",
    "Tree",
    "build",
    "edit",
    "get",
    "get_many",
    "scan",
]
