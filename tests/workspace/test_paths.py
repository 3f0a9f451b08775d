"""Names from a hostile dataset, and names that would be one file."""

from __future__ import annotations

import contextlib
import os
import timeit
import unicodedata

import pytest

from datastore.errors import FormatError, StorageError
from datastore.workspace.paths import (
    check_link_target,
    check_path,
    collisions,
    fold,
    portability_problem,
    probe_folding,
)

GOOD = [
    "a",
    "a.jpg",
    "train/class 1/IMG_0001 (1).JPG",
    "labels.json",
    ".hidden",
    ".gitignore",
    ".gitattributes",
    ".github/x",
    "git",
    "a.git",
    "x/.git2",
    "my.git/HEAD",
    "git~2",
    "...and more",
    "a..b",
    "-rf",
    "~",
    "~root",
    "$HOME",
    "con-vert.txt",
    "console",
    "auxiliary.txt",
    "com10.txt",
    "com",
    "com0",
    "nul_",
    "\u6570\u636e/\u56fe\u7247.png",
    "\u6570\u636e.git",
    "caf\u00e9",
    "cafe\u0301",
    "\U0001f469\u200d\U0001f52c.png",
    "x" * 255,
    "/".join(["x" * 63] * 64),
]

# Refused everywhere, and the word by which the message says why.
HOSTILE = [
    ("", "empty"),
    ("/", "absolute"),
    ("/etc/passwd", "absolute"),
    ("//server/share", "absolute"),
    ("\\x", "absolute"),
    ("\\\\server\\share", "absolute"),
    ("C:", "drive"),
    ("C:/x", "drive"),
    ("c:\\x", "drive"),
    (".", "component '.'"),
    ("..", "component '.'"),
    ("../x", "component '.'"),
    ("a/../x", "component '.'"),
    ("a/..", "component '.'"),
    ("./a", "component '.'"),
    ("a/.", "component '.'"),
    ("..\\x", "component '.'"),
    ("a\\..\\..\\x", "component '.'"),
    ("a/..\\x", "component '.'"),
    ("a//b", "empty component"),
    ("a/", "empty component"),
    ("a\0b", "NUL"),
    ("a\0/../b", "NUL"),
    ("a\udcff", "UTF-8"),
    ("\ud800/x", "UTF-8"),
    ("x" * 256, "component longer than 255"),
    ("\u00e9" * 128, "component longer than 255"),
    ("a/" + "\u56fe" * 86 + "/b", "component longer than 255"),
    ("/".join(["x" * 240] * 18), "longer than 4096"),
]

GIT = [
    ".git",
    ".GIT",
    ".gIt/config",
    "a/b/.git/hooks/post-checkout",
    "git~1",
    "GIT~1/config",
    ".git.",
    ".git ",
    ".git . .",
    ".git...",
    ".git::$INDEX_ALLOCATION/config",
    ".git:x",
    ".git .:x",
    "git~1::$INDEX_ALLOCATION",
    "git~1 .",
    "a\\.git\\config",
    "a/.git\\config",
    ".git\\config",
    ".g\u200cit",
    "\u200c.git",
    ".git\u200d/config",
    ".gi\u202at",
    ".git\u206f",
    "\ufeff.git",
    ".g\u00adit",
    ".gi\ufe0ft",
    ".git\U000e0001",
    "g\u200bit~1",
    "\uff0egit",
    ".\uff47\uff49\uff54",
    ".\uff27IT",
    "\u2024git",
    "\u200c.G\u200dI\u200eT\u200f. ",
]

# Good on POSIX, refused on Windows.
NOT_PORTABLE = [
    ("a:b.txt", "colon"),
    ("dir/a:b", "colon"),
    ("12:30.txt", "colon"),
    ("x/C:", "colon"),
    ("a\\b.txt", "backslash"),
    ("images\\001.jpg", "backslash"),
    ("a?.txt", "'?'"),
    ("a*", "'*'"),
    ("<a>", "'<'"),
    ("a|b", "'|'"),
    ('a"b', "'\"'"),
    ("a\nb", r"'\\n'"),
    ("a\x1fb", r"'\\x1f'"),
    ("a.", "dot or space"),
    ("a ", "dot or space"),
    ("a./b", "dot or space"),
    ("a /b", "dot or space"),
    ("...", "dot or space"),
    ("etc...", "dot or space"),
    *[
        (name, "device")
        for name in (
            "con",
            "CON",
            "Prn",
            "aux.txt",
            "AUX.tar.gz",
            "nul",
            "x/nul.txt/y",
            "COM1",
            "com9.log",
            "LPT1",
            "lpt9.x",
            "com\u00b9",
            "LPT\u00b2.txt",
            "com\u00b3",
            "CONIN$",
            "conout$.txt",
            "con .txt",
            "aux  .x",
        )
    ],
]


@pytest.mark.parametrize("path", GOOD)
def test_good_everywhere(path):
    check_path(path, windows=False)
    check_path(path, windows=True)
    assert portability_problem(path) is None


@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize(("path", "why"), HOSTILE)
def test_refused_everywhere(path, why, windows):
    with pytest.raises(FormatError, match=why) as caught:
        check_path(path, windows=windows)
    assert repr(path)[:200].rstrip("'\"") in str(caught.value)
    assert caught.value.hint
    str(caught.value).encode()  # can be printed
    caught.value.where.encode()


@pytest.mark.parametrize("windows", [False, True])
@pytest.mark.parametrize("path", GIT)
def test_git_is_refused_in_any_spelling(path, windows):
    with pytest.raises(FormatError):
        check_path(path, windows=windows)


@pytest.mark.parametrize("path", GIT)
def test_git_is_refused_for_being_git(path):
    with pytest.raises(FormatError, match=r"'\.git'"):
        check_path(path, windows=False)


@pytest.mark.parametrize(("path", "why"), NOT_PORTABLE)
def test_refused_on_windows_and_told_elsewhere(path, why):
    check_path(path, windows=False)
    problem = portability_problem(path)
    assert problem is not None
    assert why.replace("\\\\", "\\") in problem
    with pytest.raises(FormatError) as caught:
        check_path(path, windows=True)
    assert problem in str(caught.value)


@pytest.mark.parametrize("letter", [chr(code) for code in range(128)])
def test_every_ascii_letter_is_decided(letter):
    """The fast path takes nothing that the slow one refuses."""
    for path in (letter, f"a{letter}", f"a{letter}b", f"a/{letter}b/c", f"a/b{letter}/c"):
        components = path.split("/")
        refused = letter == "\0" or {"", ".", ".."} & set(components) or path[0] in "/\\"
        refused = refused or path == "a:"
        if refused:
            with pytest.raises(FormatError):
                check_path(path, windows=False)
        else:
            check_path(path, windows=False)
        odd = letter in '<>:"|?*\\' or ord(letter) < 32
        tail = any(component.endswith((".", " ")) for component in components)
        if refused or odd or tail:
            with pytest.raises(FormatError):
                check_path(path, windows=True)
        else:
            check_path(path, windows=True)


def test_the_default_is_this_system():
    if os.name == "nt":
        with pytest.raises(FormatError):
            check_path("aux.txt")
    else:
        check_path("aux.txt")


def test_a_long_path_is_not_repeated_in_full():
    with pytest.raises(FormatError) as caught:
        check_path("x" * 100_000)
    assert len(str(caught.value)) < 500


@pytest.mark.parametrize(
    "path", ["x" * 4096, "a/" * 2047 + "a", "a." * 2000, "a " * 2000 + ".", "\u00e9" * 4000]
)
def test_no_path_takes_long(path):
    def check():
        with contextlib.suppress(FormatError):
            check_path(path, windows=True)
        portability_problem(path)

    assert min(timeit.repeat(check, number=1, repeat=3)) < 0.05


# -- names that are one file -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "two", "case", "normalize"),
    [
        ("A/b", "a/B", True, False),
        ("\u00c9", "\u00e9", True, False),
        ("\u03c2", "\u03a3", True, False),
        ("caf\u00e9", "cafe\u0301", False, True),
        ("CAF\u00c9", "cafe\u0301", True, True),
        ("\u00df", "SS", True, True),
        ("\u1e9e", "\u00df", True, True),
        ("\ufb01", "FI", True, True),
        ("\u212b", "\u00e5", True, True),
    ],
)
def test_folded_alike(one, two, case, normalize):
    assert fold(one, case=case, normalize=normalize) == fold(two, case=case, normalize=normalize)
    assert fold(one, case=False, normalize=False) == one


@pytest.mark.parametrize(
    ("one", "two", "case", "normalize"),
    [
        ("A", "a", False, True),
        ("caf\u00e9", "cafe\u0301", True, False),
        ("stra\u00dfe", "strasse", True, False),
        ("\u00e9", "e", True, True),
        ("a/b", "ab", True, True),
    ],
)
def test_folded_apart(one, two, case, normalize):
    assert fold(one, case=case, normalize=normalize) != fold(two, case=case, normalize=normalize)


def test_folding_twice_changes_nothing_for_any_letter():
    letters = [chr(code) for code in range(0x30000) if not 0xD800 <= code < 0xE000]
    text = "".join(letters)
    for case, normalize in [(True, False), (False, True), (True, True)]:
        once = fold(text, case=case, normalize=normalize)
        assert fold(once, case=case, normalize=normalize) == once


@pytest.mark.parametrize(
    ("paths", "found"),
    [
        ([], []),
        (["a", "b", "a/x"], []),
        (["a", "A"], [("a", "A")]),
        (["A", "a", "a"], [("A", "a")]),
        (["A/x", "a/y", "a/z", "A/w"], [("A", "a")]),
        (["a/x", "a/X"], [("a/x", "a/X")]),
        (["a/b/x", "a/B/x"], [("a/b/x", "a/B/x")]),
        (["a", "A/x"], [("a", "A")]),
        (["d/a", "d/A", "D/b"], [("d/a", "d/A"), ("d", "D")]),
    ],
)
def test_collisions(paths, found):
    assert collisions(iter(paths), case=True, normalize=True) == found
    assert collisions(paths, case=False, normalize=False) == []


def test_collisions_by_composition():
    composed, split = "caf\u00e9/x", "cafe\u0301/y"
    assert collisions([composed, split], case=False, normalize=True) == [
        ("caf\u00e9", "cafe\u0301")
    ]
    assert collisions([composed, split], case=True, normalize=False) == []


def test_the_probe_agrees_with_the_filesystem(tmp_path):
    case, normalize = probe_folding(tmp_path)
    assert os.listdir(tmp_path) == []
    (tmp_path / "a\u00e9").touch()
    assert (tmp_path / "A\u00e9").exists() == case
    assert (tmp_path / unicodedata.normalize("NFD", "a\u00e9")).exists() == normalize


@pytest.mark.parametrize(("case", "normalize"), [(True, False), (False, True), (True, True)])
def test_the_probe_sees_loose_filesystems(tmp_path, monkeypatch, case, normalize):
    def loose(path):
        wanted = fold(os.path.basename(path), case=case, normalize=normalize)
        there = [fold(name, case=case, normalize=normalize) for name in os.listdir(tmp_path)]
        return wanted in there

    monkeypatch.setattr(os.path, "lexists", loose)
    assert probe_folding(tmp_path) == (case, normalize)
    assert os.listdir(tmp_path) == []


def test_the_probe_needs_a_directory(tmp_path):
    with pytest.raises(StorageError, match="missing"):
        probe_folding(tmp_path / "missing")


# -- links -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("path", "target"),
    [
        ("a", "b"),
        ("a", "b/c/d"),
        ("a", "./b//c/"),
        ("a", "."),
        ("d/a", "../b"),
        ("d/a", ".."),
        ("d/e/a", "../.././x"),
        ("d/e/a", "./../x"),
        ("a", "missing"),
        ("a", "caf\u00e9 \udcff"),
        ("a", "b:c"),
        ("a", "..b"),
    ],
)
def test_links_that_stay(path, target):
    check_link_target(path, target)


@pytest.mark.parametrize(
    ("path", "target", "why"),
    [
        ("a", "/etc/passwd", "absolute"),
        ("a", "/", "absolute"),
        ("a", "C:/x", "absolute"),
        ("a", "c:\\x", "absolute"),
        ("a", "\\\\server\\x", "absolute"),
        ("a", "..", "leads out"),
        ("a", "../x", "leads out"),
        ("d/a", "../../x", "leads out"),
        ("d/a", ".././../x", "leads out"),
        ("a", "..\\x", "leads out"),
        ("d/a", "..\\../x", "leads out"),
        # Through another link of the dataset this could lead anywhere.
        ("a", "b/../../x", "leads out"),
        ("d/e/f/a", "x/..", "leads out"),
    ],
)
def test_links_that_lead_out(path, target, why):
    with pytest.raises(FormatError, match=why) as caught:
        check_link_target(path, target)
    assert repr(path) in str(caught.value)
    check_link_target(path, target, allow_outside=True)


@pytest.mark.parametrize("allow", [False, True])
@pytest.mark.parametrize("target", ["", "a\0b", "x" * 4096])
def test_targets_that_are_none(target, allow):
    with pytest.raises(FormatError, match="is no path"):
        check_link_target("a", target, allow_outside=allow)


def test_a_chain_of_allowed_links_stays_inside(tmp_path):
    """The rule that looks only at text holds on a real filesystem, also link by link."""
    top = tmp_path / "top"
    (top / "x" / "y" / "z").mkdir(parents=True)
    links = {"x/y/z/up": "../../..", "x/y/over": "z/up/x", "here": "x/y/over/y/z/up/x"}
    for path, target in links.items():
        check_link_target(path, target)
        (top / path).symlink_to(target)
    for path in links:
        assert (top / path).resolve().is_relative_to(top.resolve())
    with pytest.raises(FormatError):
        check_link_target("evil", "x/y/z/up/..")
