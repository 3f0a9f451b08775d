"""Text for people: paths, numbers, and the parts that need no repository."""

from __future__ import annotations

import json

import click
import pytest

from datastore.cli import output, reports
from datastore.cli import text as words
from datastore.maintenance import Damage, VerifyResult
from datastore.workspace.changes import DiffCounts, DiffResult, FileChange
from datastore.workspace.ingest import AddedPointer
from datastore.workspace.status import PointerStatus


def text(lines) -> str:
    return click.unstyle("\n".join(lines))


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        ("images/a.png", "images/a.png"),
        ("with space/ü/日本.png", "with space/ü/日本.png"),
        ("日本\u3000.png", "日本\u3000.png"),  # a space, if a wide one
        ("new\nline", r'"new\nline"'),
        ("tab\t\\", r'"tab\t\\"'),
        ('say "hi"', r'"say \"hi\""'),
        ("\x1b[31mred", r'"\033[31mred"'),
        ("\udcff.png", r'"\377.png"'),
        ("\u202egnp.exe", r'"\342\200\256gnp.exe"'),
        ("\ud800", r'"\355\240\200"'),
    ],
)
def test_paths_stay_one_line_and_steer_nothing(path, shown):
    assert words.quote(path) == shown


@pytest.mark.parametrize(
    ("count", "shown"),
    [
        (0, "0 B"),
        (999, "999 B"),
        (1000, "1.0 kB"),
        (484_400_000, "484.4 MB"),
        (999_950, "1.0 MB"),
        (1_500_000_000, "1.5 GB"),
        (2_000_000_000_000_000, "2,000.0 TB"),
    ],
)
def test_sizes(count, shown):
    assert words.size(count) == shown


def test_counts():
    assert words.many(1, "file") == "1 file"
    assert words.many(20_000, "file") == "20,000 files"


def test_json_keeps_paths_exact_and_is_plain_ascii():
    change = FileChange("added", "a\n\udcffü", None, None, 1)
    written = output.json_text(DiffResult(DiffCounts(added=1), (change,)), {"labels": []})
    assert written.isascii()
    assert written.startswith('{"schema": 1, "files": {"added": 1, ')
    assert json.loads(written)["changes"][0]["path"] == "a\n\udcffü"


def pointer(**given) -> AddedPointer:
    fields = dict.fromkeys(AddedPointer.__dataclass_fields__, 0)
    fields |= {"path": "images", "kind": "files", "root": "b3:00", "changed": True}
    return AddedPointer(**{**fields, **given})


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (
            {"files": 20_000, "bytes": 484_400_000, "added": 20_000}
            | {"new_bytes": 484_400_000, "stored_bytes": 484_600_000},
            (
                "images: 20,000 files, 484.4 MB. 20,000 added.\n"
                "  New data: 484.4 MB, stored as 484.6 MB."
            ),
        ),
        (
            {"files": 3, "bytes": 3000, "added": 1, "removed": 2, "modified": 1}
            | {"new_bytes": 1000, "stored_bytes": 600},
            (
                "images: 3 files, 3.0 kB. 1 added, 2 removed, 1 modified.\n"
                "  New data: 1.0 kB, stored as 600 B. 2.0 kB was stored already."
            ),
        ),
        (
            {"files": 1, "bytes": 7, "added": 1},
            "images: 1 file, 7 B. 1 added.\n  All of the data was stored already.",
        ),
        ({"files": 1, "bytes": 7, "changed": False}, "images: 1 file, 7 B. Nothing has changed."),
    ],
)
def test_add(given, shown):
    assert text(output.added(pointer(**given))) == shown


def test_status_lists_twenty_paths_of_a_kind():
    added = tuple(f"images/{number:03}" for number in range(25))
    status = PointerStatus("images", "modified", added, (), ("images/gone",))
    lines = text(output.status([status])).splitlines()
    assert lines[:4] == [
        "images: 25 added, 1 deleted",
        '  (use "datastore add images" to keep this as a new version)',
        '  (use "datastore checkout --force -- images" to discard the changes)',
        "    added:     images/000",
    ]
    assert lines[-3:] == [
        "    added:     images/019",
        "    ... and 5 more",
        "    deleted:   images/gone",
    ]


def test_status_of_what_cannot_be_compared():
    assert text(output.status([PointerStatus("images", "missing")])) == (
        'images: missing\n  (use "datastore checkout -- images" to get it back)'
    )
    broken = PointerStatus("a b", "broken", message="line 3: no such key")
    assert text(output.status([broken])) == "a b: broken: line 3: no such key"


def test_status_without_pointers():
    assert text(output.status([])).startswith("No data is tracked here yet.")


def changes() -> DiffResult:
    return DiffResult(
        DiffCounts(1, 1, 1, 1),
        (
            FileChange("added", "images/cats/c.png", None, None, 1500),
            FileChange("modified", "images/cats/d.png", None, 1000, 2000),
            FileChange("renamed", "images/new", "images/old", 5, 5),
            FileChange("removed", "images/<b>|`*_&", None, 10, None),
        ),
    )


def test_diff():
    assert text(output.diff(changes())) == (
        "added:    images/cats/c.png  (1.5 kB)\n"
        "modified: images/cats/d.png  (1.0 kB -> 2.0 kB)\n"
        "renamed:  images/old -> images/new\n"
        "removed:  images/<b>|`*_&  (10 B)\n"
        "4 files changed: 1 added, 1 removed, 1 modified, 1 renamed (+2.5 kB)"
    )


def test_diff_stat():
    assert text(output.diff_stat(changes())) == (
        " images      | -1 >1\n"
        " images/cats | +1 ~1\n"
        "4 files changed: 1 added, 1 removed, 1 modified, 1 renamed (+2.5 kB)"
    )


def test_no_changes():
    nothing = DiffResult(DiffCounts(), ())
    assert text(output.diff(nothing)) == text(output.diff_stat(nothing)) == "No changes."
    assert text(reports.markdown(nothing, "v1 to v2")) == "### v1 to v2\n\nNo changes."


def test_markdown():
    lines = text(reports.markdown(changes(), "v1 to v2")).splitlines()
    assert lines[2] == "**4 files changed**: 1 added, 1 removed, 1 modified, 1 renamed"
    assert lines[4:7] == [
        "| Change | Path | Before | After |",
        "|---|---|--:|--:|",
        "| added | <code>images/cats/c.png</code> |  | 1.5 kB |",
    ]
    hostile = lines[-1]
    assert not set("`*_&") & set(hostile.replace("&#", ""))
    assert hostile.count("|") == 5


def test_a_long_diff_in_markdown_stays_postable():
    many = tuple(FileChange("added", f"{number}", None, None, 1) for number in range(1000))
    written = text(reports.markdown(DiffResult(DiffCounts(1000), many), "title"))
    assert written.endswith("... and 800 more.")
    assert len(written) < 65_000


def test_a_page_is_inert_and_needs_nothing_else():
    change = FileChange("added", "<script>alert(1)</script>\"'&", None, None, 1)
    result = DiffResult(DiffCounts(added=1), (change,))
    page = reports.page(result, "<v1> to <v2>")
    assert "<script" not in page
    assert "&lt;script&gt;alert(1)" in page
    assert "&lt;v1&gt;" in page
    assert "http" not in page
    assert "src=" not in page


def test_the_same_damage_is_told_once():
    damaged = tuple(
        Damage(f"images/{number:02}", "v1", "aa.pack", f"b3:{number:064x} is damaged")
        for number in range(30)
    )
    lines = text(
        output.verified(VerifyResult(False, {"packs": 2, "bytes": 5000}, damaged))
    ).splitlines()
    assert lines[:4] == [
        "Checked 2 packs, 5.0 kB.",
        "damaged: pack aa.pack",
        "  a chunk is damaged",
        "    v1:images/00",
    ]
    assert lines[-1] == "    ... and 10 more"
    assert len(lines) == 24
