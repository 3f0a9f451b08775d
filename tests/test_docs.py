"""What the pages say is so: verbs, error codes and links exist, and the commands and code run."""

from __future__ import annotations

import doctest
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

import datastore
from datastore import errors
from datastore.cli.main import EXIT_CODES, VERBS

TOP = Path(__file__).parent.parent
DOCS = TOP / "docs"
PAGES = [TOP / "README.md", *sorted(DOCS.rglob("*.md"))]
VISIBLE = sorted(name for name, entry in VERBS.items() if entry.section)


def name_of(page: Path) -> str:
    return str(page.relative_to(TOP))


def error_classes() -> list[type[errors.DatastoreError]]:
    found, todo = [], [errors.DatastoreError]
    while todo:
        found.append(todo.pop())
        todo.extend(found[-1].__subclasses__())
    return [each for each in found if each.__module__.startswith("datastore.")]


# -- names ------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", VISIBLE)
def test_every_verb_is_in_the_reference(verb):
    text = (DOCS / "reference" / "cli.md").read_text(encoding="utf-8")
    assert re.search(rf"^#+ .*\b{re.escape(verb)}\b", text, re.MULTILINE), f"no heading for {verb}"


@pytest.mark.parametrize("kind", error_classes(), ids=lambda kind: kind.__name__)
def test_every_error_is_in_the_reference(kind):
    text = (DOCS / "reference" / "errors.md").read_text(encoding="utf-8")
    rows = [row for row in text.splitlines() if row.startswith(f"| `{kind.code}` ")]
    assert len(rows) == 1, f"expected one table row for the code {kind.code!r}"
    assert f"`{kind.__name__}`" in rows[0]
    assert f"| {EXIT_CODES.get(kind, 1)} |" in rows[0]


@pytest.mark.parametrize("name", datastore.__all__)
def test_every_public_name_is_in_the_reference(name):
    text = (DOCS / "reference" / "api.md").read_text(encoding="utf-8")
    assert re.search(rf"(?<!\w){re.escape(name)}(?!\w)", text)


# -- links ------------------------------------------------------------------------------------


def prose(page: Path) -> str:
    """Returns a page without its code, in which brackets mean other things."""
    text = page.read_text(encoding="utf-8")
    return re.sub(r"(?ms)^```.*?^```$|`[^`\n]*`", "", text)


def anchors(page: Path) -> set[str]:
    """Names a page's headings as code hosts do."""
    text = re.sub(r"(?ms)^```.*?^```$", "", page.read_text(encoding="utf-8"))
    headings = re.findall(r"^#+ +(.*?) *$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", each).strip().lower().replace(" ", "-") for each in headings}


def broken_links(page: Path) -> Iterator[str]:
    for target in re.findall(r"\]\(<?([^)\s>]+)", prose(page)):
        if re.match(r"[a-z]+:", target):
            continue
        path, _, anchor = target.partition("#")
        aim = (page.parent / path).resolve() if path else page
        if not aim.exists():
            yield f"{target}: no such file"
        elif anchor and aim.suffix == ".md" and anchor not in anchors(aim):
            yield f"{target}: no such heading"


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page):
    assert list(broken_links(page)) == []


def test_a_broken_link_is_found(tmp_path):
    (tmp_path / "b.md").write_text("# One two\n", encoding="utf-8")
    page = tmp_path / "a.md"
    page.write_text("[a](b.md#one-two) [b](c.md) [c](b.md#three) `[d](e.md)`\n", encoding="utf-8")
    assert list(broken_links(page)) == ["c.md: no such file", "b.md#three: no such heading"]


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=name_of)
def test_every_page_can_be_reached_from_the_index(page):
    seen, todo = set(), [DOCS / "index.md"]
    while todo:
        here = todo.pop()
        if here in seen or here.suffix != ".md" or not here.exists():
            continue
        seen.add(here)
        targets = re.findall(r"\]\(<?([^)\s>#]+)", prose(here))
        todo.extend((here.parent / target).resolve() for target in targets)
    assert page.resolve() in seen


# -- the set-up contract ----------------------------------------------------------------------


def test_ci_runs_the_two_commands_of_the_readme():
    readme = (TOP / "README.md").read_text(encoding="utf-8")
    ci = (TOP / ".ci" / "run").read_text(encoding="utf-8")
    section = readme.partition("\n## Two commands\n")[2].partition("\n## ")[0]
    commands = re.findall(r"^```sh\n(.*?)\n```$", section, re.MULTILINE | re.DOTALL)
    assert commands == [
        re.search(rf'^{step}="(.*)"$', ci, re.MULTILINE)[1] for step in ("demo", "tests")
    ]


# -- commands and code ------------------------------------------------------------------------
#
# In the README, the tutorial and the how-to pages every ```console block runs, and so does every
# ```python block with a prompt, from top to bottom, in one directory for the page. Output is
# compared where it is shown; "..." stands for anything. A block that cannot run (it needs a bucket,
# it shows a fragment) is written as ```sh, ```text or ```python without a prompt. The README and
# the tutorial start in an empty directory, a how-to page, whose reader has data already, in this:
HOW_TO_START = """\
$ git init -q && datastore init -q && mkdir images
$ for n in 0001 0002 0003; do echo "picture $n" > images/$n.jpg; done
$ datastore add -q images && git add -A && git commit -q -m "Three images"
"""

RUNNABLE = [TOP / "README.md", *sorted((DOCS / "tutorial").glob("*.md"))]
RUNNABLE += sorted((DOCS / "how-to").glob("*.md"))


class Block(NamedTuple):
    line: int
    language: str
    text: str


class Step(NamedTuple):
    command: str
    expected: str


def blocks(text: str) -> Iterator[Block]:
    for match in re.finditer(r"(?ms)^```(console|python)\n(.*?)^```$", text):
        yield Block(text.count("\n", 0, match.start()) + 2, match[1], match[2])


def steps(text: str) -> Iterator[Step]:
    """Splits a console block at its prompts; ``> `` carries a command on."""
    command: list[str] = []
    expected: list[str] = []
    for line in text.splitlines(keepends=True):
        if line.startswith("$ ") and command:
            yield Step("".join(command), "".join(expected))
            command, expected = [], []
        if line.startswith("$ ") or (line.startswith("> ") and not expected):
            command.append(line[2:])
        else:
            expected.append(line)
    if command:
        yield Step("".join(command), "".join(expected))


def run_console(block: Block, home: Path) -> None:
    for step in steps(block.text):
        keep = f"trap 'pwd > {shlex.quote(str(home / 'cwd'))}' EXIT\n"
        done = subprocess.run(
            ["bash", "-c", keep + step.command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
            timeout=120,
        )
        os.chdir((home / "cwd").read_text(encoding="utf-8").rstrip("\n"))
        where = f"line {block.line}: $ {step.command}\n{done.stdout}"
        assert done.returncode == 0 or step.expected, where  # a page may show an error
        if step.expected:
            agrees = doctest.OutputChecker().check_output
            flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
            assert agrees(step.expected, done.stdout, flags), f"{where}is not\n{step.expected}"


def run_python(block: Block, names: dict[str, object], page: Path) -> None:
    if ">>>" not in block.text:
        return
    parsed = doctest.DocTestParser().get_doctest(
        block.text, names, page.name, str(page), block.line
    )
    found: list[str] = []
    flags = doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    doctest.DocTestRunner(optionflags=flags).run(parsed, out=found.append, clear_globs=False)
    names.update(parsed.globs)
    assert not found, "".join(found)


def launchers(directory: Path) -> Path:
    """Makes the program's two names for a source tree that is not installed."""
    directory.mkdir()
    for name in ("datastore", "git-ds"):
        start = f"PYTHONPATH={shlex.quote(str(TOP))} exec {shlex.quote(sys.executable)} -P"
        (directory / name).write_text(f'#!/bin/sh\n{start} -m datastore "$@"\n', encoding="utf-8")
        (directory / name).chmod(0o755)
    return directory


@pytest.fixture
def fresh_machine(tmp_path, monkeypatch):
    """An empty directory, and a user who has told Git a name and nothing else."""
    work = tmp_path / "work"
    work.mkdir()
    (tmp_path / ".gitconfig").write_text(
        "[user]\nname = Ada\nemail = ada@example.org\n[init]\ndefaultBranch = main\n",
        encoding="utf-8",
    )
    for name in [name for name in os.environ if name.startswith(("GIT_", "DATASTORE_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    programs = Path(sys.executable).parent
    if not (programs / "datastore").exists():
        programs = launchers(tmp_path / "bin")
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.chdir(work)
    return tmp_path


@pytest.mark.parametrize("page", RUNNABLE, ids=name_of)
def test_commands_and_code_run(page, fresh_machine):
    names: dict[str, object] = {}
    if page.parent.name == "how-to":
        run_console(Block(0, "console", HOW_TO_START), fresh_machine)
    for block in blocks(page.read_text(encoding="utf-8")):
        if block.language == "console":
            run_console(block, fresh_machine)
        else:
            run_python(block, names, page)


def test_a_wrong_output_is_found(fresh_machine):
    run_console(Block(1, "console", "$ mkdir a && cd a\n$ pwd\n/.../a\n"), fresh_machine)
    with pytest.raises(AssertionError, match="is not"):
        run_console(Block(1, "console", "$ echo b\nc\n"), fresh_machine)
    with pytest.raises(AssertionError, match="Expected"):
        run_python(Block(1, "python", ">>> 1 + 1\n3\n"), {}, Path("page.md"))
