"""Edits of config.yaml: what is asked for comes in, what the user wrote stays."""

from __future__ import annotations

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from datastore.errors import FormatError, UsageError
from datastore.settings import editing
from datastore.settings.remotes import RemoteSettings

ORIGIN = RemoteSettings("origin", "s3://bucket/path", {"region": "eu-central-1"})
NAS = RemoteSettings("nas", "../nas")

NEW = """\
# Settings of datastore that everybody who clones this repository shares.
format: 1
repository: 0123456789abcdef0123456789abcdef
"""


def test_a_life_of_remotes():
    text = editing.with_default(editing.with_remote(NEW, ORIGIN), "origin")
    assert text == NEW + (
        "remote: origin\nremotes:\n  origin:\n    url: s3://bucket/path\n    region: eu-central-1\n"
    )
    text = editing.with_remote(text, NAS)
    assert text.endswith("    region: eu-central-1\n  nas:\n    url: ../nas\n")
    text = editing.without_remote(text, "origin")
    assert text == NEW + "remotes:\n  nas:\n    url: ../nas\n"
    assert editing.without_remote(text, "nas") == NEW


COMMENTED = """\
# mine

format: 1   # one
colour: blue
remotes:  # where it lies
    # the bucket
    origin:   # of the team
        url: s3://bucket   # in Frankfurt

    # the cellar
    nas: {url: ../nas}   # slow

# after
animals:
  - cat   # my favourite
"""


def test_comments_stay():
    added = editing.with_remote(COMMENTED, RemoteSettings("new", "/new", {"a": "b"}))
    where = "    nas: {url: ../nas}   # slow\n"
    lines = "    new:\n      url: /new\n      a: b\n"
    assert added == COMMENTED.replace(where, where + lines)
    assert editing.without_remote(added, "new") == COMMENTED
    removed = editing.without_remote(COMMENTED, "origin")
    gone = "    origin:   # of the team\n        url: s3://bucket   # in Frankfurt\n"
    assert removed == COMMENTED.replace(gone, "")
    empty = editing.without_remote(removed, "nas")
    assert yaml.safe_load(empty) == {"format": 1, "colour": "blue", "animals": ["cat"]}
    for comment in ("# mine", "# the bucket", "# the cellar", "# after", "# my favourite"):
        assert comment in empty


def test_a_value_is_replaced_in_place():
    text = "format: 1\nremote:   old   # the best\nrepository:\n"
    text = editing.with_default(text, "new")
    assert text == "format: 1\nremote:   new   # the best\nrepository:\n"
    assert editing.with_repository(text, "ab" * 16) == (
        f"format: 1\nremote:   new   # the best\nrepository: {'ab' * 16}\n"
    )
    assert editing.with_default("remote: 'a b'\n", "c") == "remote: c\n"


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("", "repository: ID\n"),
        ("# only this\n", "# only this\nrepository: ID\n"),
        ("# no newline", "# no newline\nrepository: ID\n"),
        ("format: 1", "format: 1\nrepository: ID\n"),
        ("a: 1\nformat: 1\nb: 2\n", "a: 1\nformat: 1\nrepository: ID\nb: 2\n"),
        (
            "# c\nremotes:\n  a:\n    url: /b\n",
            "# c\nrepository: ID\nremotes:\n  a:\n    url: /b\n",
        ),
        ("format: 1\r\nb: 2\r\n", "format: 1\r\nrepository: ID\r\nb: 2\r\n"),
        ("---\nformat: 1\n", "---\nformat: 1\nrepository: ID\n"),
    ],
)
def test_where_a_line_goes(before, after):
    name = "0123456789abcdef" * 2
    assert editing.with_repository(before, name) == after.replace("ID", name)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "format: 1",
        "format: 1\r\n",
        "remotes:\n",
        "remotes:   # none yet\nformat: 1\n",
        "remotes: {}\n",
        "remotes: {a: {url: /a}}\nformat: 1\n",
        "remotes: {a: {url: /a},\n  b: {url: /b}}\nformat: 1\n",
        "remotes:\n  a: {url: /a}\n",
        "remotes:\n  a:\n    url: /a",
        "remotes:\n  a:\n    url: |-\n      /a\n    b: c\n  # end\nformat: 1\n",
        "remotes:\n  a:\n    url: >-\n      /a\n\n\nformat: 1\n",
        "remotes:\n\n  'a':\n\n    'url': \"/a\"\n\n",
        "remotes:\n a:\n  url: /a\n  b:\n",
        "remotes:\n  a: &x\n    url: /a\nformat: 1\n",
    ],
)
@pytest.mark.parametrize(
    "remote", [ORIGIN, NAS, RemoteSettings("null", "s3://a: b #c", {"n": "1"})]
)
def test_ways_to_write_remotes(text, remote):
    before = yaml.safe_load(text) or {}
    edited = editing.with_remote(text, remote)
    wanted = {"url": remote.url, **remote.options}
    remotes = {**(before.get("remotes") or {}), remote.name: wanted}
    assert yaml.safe_load(edited) == {**before, "remotes": remotes}
    del remotes[remote.name]
    without = yaml.safe_load(editing.without_remote(edited, remote.name)) or {}
    assert without.pop("remotes", {}) == remotes
    assert without == {key: value for key, value in before.items() if key != "remotes"}


@pytest.mark.parametrize(
    "text",
    [
        "{}\n",
        "{format: 1}\n",
        "format: 1\n...\n",
        "x: &r {a: {url: /a}}\nremotes: *r\n",
    ],
)
def test_what_cannot_be_edited_says_what_to_write(text):
    with pytest.raises(FormatError, match="cannot be edited here") as caught:
        editing.with_remote(text, ORIGIN)
    assert "  origin:\n    url: s3://bucket/path\n" in caught.value.hint


def test_a_remote_that_is_there_and_one_that_is_not():
    with pytest.raises(UsageError, match="a remote 'origin' already"):
        editing.with_remote(editing.with_remote(NEW, ORIGIN), ORIGIN)
    with pytest.raises(UsageError, match="no remote 'nas'"):
        editing.without_remote(NEW, "nas")


def test_another_default_stays():
    text = editing.with_default(editing.with_remote(editing.with_remote(NEW, ORIGIN), NAS), "nas")
    assert yaml.safe_load(editing.without_remote(text, "origin"))["remote"] == "nas"


LINES = st.text(st.sampled_from("ab:# -'\"{}[]&*!|>%@,?\t~01é\\"), max_size=12).map(
    lambda text: text.strip()
)


@given(
    names=st.lists(st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,5}", fullmatch=True), unique=True),
    url=LINES,
    options=st.dictionaries(st.from_regex(r"[A-Za-z][A-Za-z0-9._-]{0,5}", fullmatch=True), LINES),
    data=st.data(),
)
def test_any_remotes_come_and_go(names, url, options, data):
    options.pop("url", None)
    text = NEW
    for name in names:
        text = editing.with_remote(text, RemoteSettings(name, url, options))
    expected = {name: {"url": url, **options} for name in names}
    assert (yaml.safe_load(text).get("remotes") or {}) == expected
    for name in data.draw(st.permutations(names)):
        text = editing.without_remote(text, name)
    assert text == NEW
