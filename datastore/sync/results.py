"""What pushes, fetches and comparisons with a remote have to tell."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class PushedRoot:
    """A version of a dataset, as a commit names it."""

    path: str
    """Of the dataset, from the top of the worktree."""
    rev: str
    """Abbreviated commit; empty for the workspace."""
    root: str
    """``b3:<64 hex>``."""


@dataclass(frozen=True, slots=True)
class PushResult:
    """What a push did.

    Args:
        remote: Name of the remote.
        url: Where it is.
        roots: The versions that were not on the remote before.
        known: How many versions were there already.
        packs: How many packs were sent.
        bytes: How many bytes were sent, all objects together.
        requests: How many requests that took.
        healed: Names of packs that the remote had lost or was about to delete, sent again.
        absent: The versions that were not sent: parts of them are neither here nor on the remote.
    """

    remote: str
    url: str
    roots: tuple[PushedRoot, ...]
    known: int
    packs: int
    bytes: int
    requests: int
    healed: tuple[str, ...] = ()
    absent: tuple[PushedRoot, ...] = ()


@dataclass(frozen=True, slots=True)
class FetchResult:
    """What a fetch brought.

    Args:
        remote: Name of the remote.
        versions: How many versions are now here whole, or in the parts that were asked for.
        packs: How many packs were looked into.
        fetched_bytes: How many bytes came over the network.
        requests: How many requests that took.
        absent: The versions that are neither here nor on the remote.
    """

    remote: str
    versions: int
    packs: int
    fetched_bytes: int
    requests: int
    absent: tuple[PushedRoot, ...] = ()


@dataclass(frozen=True, slots=True)
class RemoteDamage:
    """Something on the remote that is not what it should be."""

    path: str
    rev: str
    pack: str
    reason: str


@dataclass(frozen=True, slots=True)
class RemoteStatus:
    """What of the history a remote has.

    Args:
        remote: Name of the remote.
        url: Where it is.
        versions: How many versions were looked for.
        missing: The versions that are not on the remote.
        damaged: What is on the remote, but not whole.
    """

    remote: str
    url: str
    versions: int
    missing: tuple[PushedRoot, ...]
    damaged: tuple[RemoteDamage, ...] = ()
