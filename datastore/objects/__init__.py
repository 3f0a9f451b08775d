"""Immutable chunks and nodes at rest on this disk: packs are the truth, the index is a cache."""
