"""The commands of the pages on clouds, against servers that stand in for them.

Blocks of ``sh`` that hold only our commands, Git's and ``cd`` run from top to bottom, as they are
but for three things: the bucket is one of the test server's, ``remote add`` is told where that
server is, and what is cloned is the repository that was pushed to.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator
from pathlib import Path

import pytest

from datastore.storage import reasons
from tests.e2e.conftest import SOURCE
from tests.e2e.remote_data import snapshot
from tests.e2e.remote_people import Person, options_of

HOW_TO = SOURCE / "docs" / "how-to"
PAGES = {"s3": "use-s3.md", "gcs": "use-gcs.md", "azure": "use-azure.md", "sftp": "use-sftp.md"}


def blocks(page: Path) -> Iterator[str]:
    for block in re.findall(r"(?ms)^```sh\n(.*?)^```$", page.read_text(encoding="utf-8")):
        if all(line.split()[0] in {"datastore", "git", "cd"} for line in block.splitlines()):
            yield block


@pytest.mark.parametrize("kind", PAGES)
def test_a_pages_commands_work(kind, request, shell, tmp_path):
    place = request.getfixturevalue(kind)
    page = HOW_TO / PAGES[kind]
    hub = tmp_path / "cats.git"
    ada = Person(shell("work").directory)
    ada.git("init", "-q", "--bare", str(hub))
    ada.git("init", "-q")
    ada.git("remote", "add", "origin", str(hub))
    ada.git("config", "push.autoSetupRemote", "true")
    ada.datastore("init", "-q")
    (ada.directory / "images").mkdir()
    for number in range(3):
        (ada.directory / f"images/{number}.jpg").write_bytes(b"picture %d" % number)
    ada.datastore("add", "-q", "images")
    ada.commit("Three images")

    url = re.search(r"remote add origin ([a-z0-9]+://\S+)", page.read_text(encoding="utf-8"))[1]
    options = shlex.join(options_of(place))
    if kind == "azure":  # the emulator's account is in the environment, which goes first
        assert not options
    ran, here = [], ada.directory
    for block in blocks(page):
        text = re.sub(
            rf"(remote add origin ){re.escape(url)}.*", rf"\1{place.url} {options}", block
        )
        text = text.replace("https://example.org/acme/cats.git", str(hub))
        if "clone" in text:
            here = tmp_path / "elsewhere"
            here.mkdir()
        Person(here).call("bash", "-e", "-c", text, status=0)
        ran += text.splitlines()
    assert [line for line in ran if line.startswith("datastore remote add")]
    assert {"datastore push", "git push", "datastore pull"} <= set(ran)
    clone = tmp_path / "elsewhere/cats"
    assert snapshot(clone / "images") == snapshot(ada.directory / "images")


# -- words -----------------------------------------------------------------------------------------

REASONS = sorted(reasons._SENTENCES.keys() - {reasons.MISSING, reasons.EXISTS, reasons.CLOSED})
"""Those that somebody gets to see: of the others, two are answers, and one ends a program."""


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_is_in_the_reference(reason):
    text = (SOURCE / "docs/reference/errors.md").read_text(encoding="utf-8")
    rows = [row for row in text.splitlines() if row.startswith(f"| `{reason}` |")]
    assert len(rows) == 1
    assert reasons._SENTENCES[reason] in rows[0]
    assert ("| yes |" in rows[0]) == (reason in reasons.RETRYABLE)


@pytest.mark.parametrize("page", [*PAGES.values(), "use-a-shared-directory.md"])
def test_a_page_quotes_what_remote_check_says(page):
    text = (HOW_TO / page).read_text(encoding="utf-8")
    rows = re.findall(r"(?m)^\| ([^|]+) \| `(\w+)` \|", text)
    assert rows.pop(0)[1] == "reason"
    for said, reason in rows:
        assert said in {reasons._SENTENCES.get(reason), "is a symbolic link"}, reason
