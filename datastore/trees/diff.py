"""Diff and three-way merge of trees.

This is the place to import them from; the trees themselves are in `datastore.trees.prolly`.
"""

from __future__ import annotations

from datastore.trees.changes import Change, diff
from datastore.trees.merge import UNRESOLVED, Conflict, Merge, Resolver, Unresolved, merge

__all__ = [
    "UNRESOLVED",
    "Change",
    "Conflict",
    "Merge",
    "Resolver",
    "Unresolved",
    "diff",
    "merge",
]
