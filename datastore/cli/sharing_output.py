"""How results of sharing look; see `datastore.cli.output`, whose rules hold here."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import click

from datastore.cli.output import checked_out, damages, doctor
from datastore.cli.text import SHOWN, bold, many, plain, quote, size, some

if TYPE_CHECKING:
    from datastore.sync.results import FetchResult, PushedRoot, PushResult, RemoteStatus
    from datastore.workspace.remotes import RemoteCheck, RemoteInfo
    from datastore.workspace.steps import PullResult


def _place(name: str, url: str) -> str:
    return f"{bold(plain(name))} ({plain(url)})" if url else bold(plain(name))


def _version(version: PushedRoot) -> str:
    at = f"at {version.rev[:9]}" if version.rev else "in the workspace, not committed"
    return f"{quote(version.path)} {at}"


# -- remote ---------------------------------------------------------------------------------------


def remotes(listed: Sequence[RemoteInfo], *, detailed: bool = False) -> Iterator[str]:
    """Lists the remotes, a line each; in detail with their options."""
    width = max((len(each.name) for each in listed), default=0)
    for each in listed:
        default = "  (default)" if each.default else ""
        yield f"{bold(each.name)}{' ' * (width - len(each.name))}  {plain(each.url)}{default}"
        if detailed:
            yield from (f"    {key}: {plain(each.options[key])}" for key in sorted(each.options))


def remote_checked(result: RemoteCheck) -> Iterator[str]:
    """Says what a trial of a remote has shown."""
    yield f"{_place(result.remote, result.url)}: {'works' if result.ok else 'does not work'}"
    yield from doctor(result.checks)


# -- push, fetch, pull ----------------------------------------------------------------------------


def pushed(result: PushResult, most: int = SHOWN) -> Iterator[str]:
    """Says what was sent, and which versions others can have now."""
    place = _place(result.remote, result.url)
    sent = f"{many(result.packs, 'pack')}, {size(result.bytes)} ({_requests(result.requests)})"
    if result.roots:
        yield f"{place}: sent {many(len(result.roots), 'version')} in {sent}"
        yield from some(result.roots, _version, most=most)
    elif result.healed:
        yield f"{place}: sent {sent}"
    elif result.known and not result.absent:
        yield f"{place}: Everything is there already."
    elif result.absent:
        yield f"{place}: Nothing was sent."
    else:
        yield f"{place}: No commit has data to send."
    if result.healed:
        yield f"  {many(len(result.healed), 'pack')} that the remote had lost went there again."
    if result.absent:
        count = many(len(result.absent), "version")
        what = f"Not sent: {count} with parts that are neither here nor there"
        yield click.style(what, fg="red")
        yield '  (use "datastore push --verify" in a clone that has the data)'
        yield from some(result.absent, _version, most=most)


def fetched(result: FetchResult, most: int) -> Iterator[str]:
    """Says what came from where, and what did not."""
    place = bold(plain(result.remote))
    versions = many(result.versions, "version")
    if result.versions and not result.packs:
        yield f"{place}: Everything is here already ({versions})."
    elif result.versions:
        packs = f"{size(result.fetched_bytes)} out of {many(result.packs, 'pack')}"
        yield f"{place}: fetched {packs} for {versions} ({_requests(result.requests)})"
    elif not result.absent:
        yield f"{place}: No commit has data to fetch."
    if result.absent:
        count = many(len(result.absent), "version")
        yield click.style(f"Not fetched: {count} that the remote does not have", fg="red")
        yield '  (use "datastore push --all" in a clone that has the data)'
        yield from some(result.absent, _version, most=most)


def pulled(result: PullResult) -> Iterator[str]:
    """Says what each dataset got, and what of it came over the network."""
    if result.out:
        yield f"Wrote {many(result.files, 'file')}, {size(result.bytes)}, to {quote(result.out)}."
    else:
        yield from map(checked_out, result.pointers)
    if result.fetched_bytes:
        yield f"Fetched {size(result.fetched_bytes)} ({_requests(result.requests)})."
    elif result.files:
        yield "Nothing had to be fetched."


def _requests(count: int) -> str:
    return many(count, "request")


# -- status ---------------------------------------------------------------------------------------


def remote_status(
    result: RemoteStatus, *, again: str = "datastore push", most: int = SHOWN
) -> Iterator[str]:
    """Says which versions a remote lacks, and what it has but not whole.

    Args:
        result: What was found.
        again: The command that sends what is missing.
        most: How many versions are listed.
    """
    place = _place(result.remote, result.url)
    if not result.versions:
        yield f"{place}: No commit has data yet."
    elif result.missing:
        counts = f"{len(result.missing):,} of {many(result.versions, 'version')}"
        yield f"{place}: {click.style(f'{counts} not there', fg='red')}"
        yield f'  (use "{again}" to send what is missing)'
        yield from some(result.missing, _version, most=most)
    elif not result.damaged:
        yield f"{place}: Everything is there ({many(result.versions, 'version')})."
    else:
        yield f"{place}: {many(result.versions, 'version')}, damaged"
    if result.damaged:
        yield from damages(result.damaged, most)
        yield f'  (use "{again} --verify" where the data still is, to send it again)'
