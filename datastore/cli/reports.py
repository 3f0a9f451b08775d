"""A diff as a document: Markdown for a pull request's comment, HTML for anybody.

Paths are data that somebody else chose: nothing in one may become markup.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from html import escape

from datastore.cli.output import sizes
from datastore.cli.text import many, quote, size
from datastore.workspace.changes import DiffResult, FileChange

MARKDOWN_ROWS = 200
"""Rows in Markdown: a comment on a code host holds about 65,000 characters."""

PAGE_ROWS = 10_000
"""Rows in a page: a browser still scrolls this many well."""

_KINDS = ("added", "removed", "modified", "renamed")
_MARKUP = re.compile(r"[!-+:-@\[-`{-~]")  # all ASCII punctuation but , - . /

_STYLE = """
body{font:15px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:60rem;padding:0 1rem;
color:#1c1e21;background:#fff}
h1{font-size:1.4rem}table{border-collapse:collapse;width:100%}
th,td{text-align:left;padding:.25rem .6rem;border-bottom:1px solid #8884}
td.n,th.n{text-align:right;white-space:nowrap}td.p{font-family:ui-monospace,monospace;
overflow-wrap:anywhere}
.counts span{display:inline-block;margin:0 1rem .5rem 0;padding:.1rem .6rem;border-radius:1rem;
background:#8882}
.added{color:#13794b}.removed{color:#c02b2b}.modified{color:#8a6100}.renamed{color:#1d6fa5}
@media(prefers-color-scheme:dark){body{color:#e6e6e6;background:#16181c}.added{color:#5fd39a}
.removed{color:#ff8a80}.modified{color:#e3b341}.renamed{color:#7cc4f2}}
"""


def _counts(result: DiffResult) -> list[tuple[str, int]]:
    return [(kind, getattr(result.files, kind)) for kind in _KINDS]


def _bytes(count: int | None) -> str:
    return "" if count is None else size(count)


# -- Markdown -------------------------------------------------------------------------------------


def markdown(result: DiffResult, title: str) -> Iterator[str]:
    """Writes a summary and a table in Markdown, line by line."""
    yield f"### {_inert(title)}"
    yield ""
    if not result.changes:
        yield "No changes."
        return
    counts = [f"{count:,} {kind}" for kind, count in _counts(result) if count]
    yield f"**{many(len(result.changes), 'file')} changed**: {', '.join(counts)}"
    yield ""
    yield "| Change | Path | Before | After |"
    yield "|---|---|--:|--:|"
    for change in result.changes[:MARKDOWN_ROWS]:
        before, after = _bytes(change.old_size), _bytes(change.new_size)
        yield f"| {change.kind} | {_markdown_path(change)} | {before} | {after} |"
    if len(result.changes) > MARKDOWN_ROWS:
        yield ""
        yield f"... and {len(result.changes) - MARKDOWN_ROWS:,} more."


def _markdown_path(change: FileChange) -> str:
    paths = [change.path] if change.old_path is None else [change.old_path, change.path]
    return " → ".join(f"<code>{_inert(quote(path))}</code>" for path in paths)


def _inert(text: str) -> str:
    """Writes whatever could be Markdown or HTML as character references."""
    return _MARKUP.sub(lambda found: f"&#{ord(found.group())};", text)


# -- HTML -----------------------------------------------------------------------------------------


def page(result: DiffResult, title: str) -> str:
    """Writes a page that needs no other file and no network."""
    heading = escape(title)
    counts = "".join(
        f'<span class="{kind}">{count:,} {kind}</span>' for kind, count in _counts(result) if count
    )
    left = len(result.changes) - PAGE_ROWS
    return "\n".join(
        [
            '<!doctype html><html lang="en"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width,initial-scale=1">',
            f"<title>{heading}</title><style>{_STYLE}</style></head><body>",
            f"<h1>{heading}</h1>",
            f'<p class="counts">{counts or "No changes."}</p>',
            "<table><thead><tr><th>Change</th><th>Path</th>",
            '<th class="n">Before</th><th class="n">After</th></tr></thead><tbody>',
            *map(_row, result.changes[:PAGE_ROWS]),
            "</tbody></table>",
            f"<p>... and {left:,} more.</p>" if left > 0 else "",
            "</body></html>\n",
        ]
    )


def _row(change: FileChange) -> str:
    path = escape(quote(change.path))
    if change.old_path is not None:
        path = f"{escape(quote(change.old_path))} → {path}"
    return (
        f'<tr title="{escape(sizes(change).strip())}"><td class="{change.kind}">{change.kind}</td>'
        f'<td class="p">{path}</td><td class="n">{_bytes(change.old_size)}</td>'
        f'<td class="n">{_bytes(change.new_size)}</td></tr>'
    )
