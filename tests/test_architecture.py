"""Rules of the house that no linter knows, checked on the syntax tree of every module.

The direction of imports is import-linter's part: see ``[tool.importlinter]`` in pyproject.toml.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest

import datastore

PACKAGE = Path(datastore.__file__).parent
MODULES = sorted(PACKAGE.rglob("*.py"))
BELOW_CLI = [path for path in MODULES if path.relative_to(PACKAGE).parts[0] != "cli"]

MAX_MODULE_LINES = 450
MAX_FUNCTION_LINES = 60  # without its docstring

Finding = tuple[int, str]
Functions = (ast.FunctionDef, ast.AsyncFunctionDef)
Definitions = (*Functions, ast.ClassDef)


@cache
def parsed(path: Path) -> ast.Module:
    return ast.parse(path.read_text(encoding="utf-8"), filename=str(path))


def dotted(node: ast.AST) -> str:
    """Spells ``a.b.c`` as it is written; an empty string for anything else."""
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = dotted(node.value)
        return f"{base}.{node.attr}" if base else f"?.{node.attr}"
    return ""


# -- the rules: each takes a module and yields what breaks it ----------------------------------


def surroundings(module: ast.Module) -> Iterator[Finding]:
    """Below the command line there is no terminal, environment, argument list or home directory."""
    banned = re.compile(
        r"print|input"
        r"|os\.(environb?|getenvb?|putenv|unsetenv|path\.expanduser|path\.expandvars)"
        r"|sys\.(argv|stdin|stdout|stderr|exit)"
        r"|(Path|PurePath|pathlib\.Path)\.home|.*\.expanduser"
    )
    for node in ast.walk(module):
        name = ""
        if isinstance(node, ast.Attribute):
            name = dotted(node)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            name = node.func.id
        elif isinstance(node, ast.ImportFrom) and node.module in {"os", "sys"}:
            for alias in node.names:
                if banned.fullmatch(f"{node.module}.{alias.name}"):
                    yield node.lineno, f"imports {alias.name} from {node.module}"
        if name and banned.fullmatch(name):
            yield node.lineno, f"uses {name}: the command line passes such things in"


def swallowed(module: ast.Module) -> Iterator[Finding]:
    """Whoever catches everything raises again, or hands the error itself to who will."""
    for node in ast.walk(module):
        if not isinstance(node, ast.ExceptHandler):
            continue
        kinds = node.type.elts if isinstance(node.type, ast.Tuple) else [node.type]
        names = {"" if kind is None else dotted(kind) for kind in kinds}
        broad = names & {"", "Exception", "BaseException"}
        if broad and not any(goes_up(inner, node.name) for inner in ast.walk(node)):
            yield node.lineno, f"catches {broad.pop() or 'everything'} and goes on"


def goes_up(node: ast.AST, error: str | None) -> bool:
    """Tells a raise, and an error that is kept for another thread to raise: whole, not as text."""
    if isinstance(node, ast.Assign):
        return error is not None and dotted(node.value) == error
    if isinstance(node, ast.Call) and dotted(node.func) not in {"str", "repr", "type"}:
        return error is not None and error in map(dotted, node.args)
    return isinstance(node, ast.Raise)


def undocumented(module: ast.Module) -> Iterator[Finding]:
    """Every module and every public name says what it is for."""
    if not ast.get_docstring(module):
        yield 1, "the module has no docstring"
    scopes: list[ast.Module | ast.ClassDef] = [module]
    while scopes:
        for node in scopes.pop().body:
            if not isinstance(node, Definitions) or node.name.startswith("_"):
                continue
            if not ast.get_docstring(node) and not is_accessor(node):
                yield node.lineno, f"{node.name} has no docstring"
            if isinstance(node, ast.ClassDef):
                scopes.append(node)


def is_accessor(node: ast.AST) -> bool:
    """Tells a setter, deleter or overload, which its first definition describes."""
    decorators = [dotted(each) for each in getattr(node, "decorator_list", [])]
    return any(name.endswith((".setter", ".deleter", "overload")) for name in decorators)


def long_functions(module: ast.Module) -> Iterator[Finding]:
    """A function is short enough to be read in one go."""
    for node in ast.walk(module):
        if isinstance(node, Functions):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if ast.get_docstring(node):
                text = node.body[0]
                length -= (text.end_lineno or text.lineno) - text.lineno + 1
            if length > MAX_FUNCTION_LINES:
                yield node.lineno, f"{node.name} has {length} lines, over {MAX_FUNCTION_LINES}"


def relative_imports(module: ast.Module) -> Iterator[Finding]:
    """Imports are absolute, so that every arrow between layers can be searched for."""
    for node in ast.walk(module):
        if isinstance(node, ast.ImportFrom) and node.level:
            yield node.lineno, "imports relatively"


def foreign_words(module: ast.Module) -> Iterator[Finding]:
    """One word per idea: we have chunks and digests. Names of foreign things are left alone."""
    banned = {"blob", "blobs", "oid", "oids", "sha", "shas", "fsck"}
    for node in ast.walk(module):
        if isinstance(node, Definitions):
            name = node.name
        elif isinstance(node, ast.arg):
            name = node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            name = node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            name = node.attr
        else:
            continue
        snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
        if banned & set(snake.split("_")):
            yield node.lineno, f"{name}: see docs/glossary.md for our word"


def rank(name: str) -> int:
    return 0 if name.isupper() else 1 if name[0].isupper() else 2


def unsorted_exports(module: ast.Module) -> Iterator[Finding]:
    """``__all__`` is sorted as ruff sorts it: CONSTANTS, Classes, then the rest."""
    for node in module.body:
        if isinstance(node, ast.Assign) and dotted(node.targets[0]) == "__all__":
            names = ast.literal_eval(node.value)
            if names != sorted(names, key=lambda name: (rank(name), name)):
                yield node.lineno, "__all__ is not sorted"


RULES: list[tuple[Callable[[ast.Module], Iterator[Finding]], list[Path], str]] = [
    (surroundings, BELOW_CLI, "import os\nx = os.environ['HOME']"),
    (surroundings, BELOW_CLI, "from os import getenv"),
    (surroundings, BELOW_CLI, "print('done')"),
    (surroundings, BELOW_CLI, "import sys\nx = sys.argv"),
    (surroundings, BELOW_CLI, "from pathlib import Path\nx = Path('~').expanduser()"),
    (surroundings, BELOW_CLI, "from pathlib import Path\nx = Path.home()"),
    (swallowed, MODULES, "try:\n    x = 1\nexcept Exception:\n    x = 2"),
    (swallowed, MODULES, "try:\n    x = 1\nexcept (OSError, BaseException) as error:\n    x = 2"),
    (swallowed, MODULES, "try:\n    x = 1\nexcept:\n    x = 2"),
    (swallowed, MODULES, "try:\n    x = 1\nexcept Exception as e:\n    x = str(e)"),
    (undocumented, MODULES, "x = 1"),
    (undocumented, MODULES, '"""Doc."""\nclass A:\n    """Doc."""\n    def b(self): ...'),
    (long_functions, MODULES, "def f():\n" + "    x = 1\n" * MAX_FUNCTION_LINES),
    (relative_imports, MODULES, "from .. import errors"),
    (foreign_words, MODULES, "def read(blob_id): ..."),
    (foreign_words, MODULES, "class GitOid: ..."),
    (unsorted_exports, MODULES, "__all__ = ['b', 'a']"),
]


@pytest.mark.parametrize("rule", list(dict.fromkeys(rule for rule, _, _ in RULES)))
def test_every_module_keeps_to(rule):
    modules = next(modules for each, modules, _ in RULES if each is rule)
    found = [
        f"{path.relative_to(PACKAGE.parent)}:{line}: {what}"
        for path in modules
        for line, what in rule(parsed(path))
    ]
    assert not found, "\n".join([rule.__doc__ or "", *found])


@pytest.mark.parametrize(("rule", "bad"), [(rule, bad) for rule, _, bad in RULES])
def test_a_breach_is_found(rule, bad):
    assert list(rule(ast.parse(bad)))


@pytest.mark.parametrize("rule", list(dict.fromkeys(rule for rule, _, _ in RULES)))
def test_good_code_is_left_alone(rule):
    good = '''"""A module."""
import hashlib
__all__ = ["LIMIT", "Reader", "read"]
LIMIT = hashlib.sha256(b"").digest_size
class Reader:
    """A class."""
    def __enter__(self): return self
    def _seek(self): ...
def read(shape):
    """A function."""
    try:
        return reprint(shape.blob)
    except OSError:
        return None
    except Exception as error:
        shape.failed(error)
    except BaseException:
        shape.close()
        raise
'''
    assert not list(rule(ast.parse(good)))


def test_modules_hold_one_idea():
    long = {
        str(path.relative_to(PACKAGE)): lines
        for path in MODULES
        if (lines := path.read_text(encoding="utf-8").count("\n")) > MAX_MODULE_LINES
    }
    assert not long


def test_no_module_is_named_for_what_it_is_not():
    banned = {"utils", "util", "helpers", "helper", "common", "core", "misc"}
    assert not [str(path) for path in PACKAGE.rglob("*") if path.stem in banned]


# -- the public face ------------------------------------------------------------------------------


def test_import_is_cheap():
    heavy = ["asyncio", "click", "fsspec", "lmdb", "numpy", "tqdm", "yaml"]
    program = f"import sys, datastore; print([m for m in {heavy} if m in sys.modules])"
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"


@pytest.mark.parametrize("name", datastore.__all__)
def test_every_public_name_is_found(name):
    assert getattr(datastore, name) is not None
    assert name in dir(datastore)


def test_an_unknown_public_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="Repositry"):
        _ = datastore.Repositry


def test_type_checkers_see_the_same_public_names():
    """The imports under TYPE_CHECKING, the list and the table of modules must agree."""
    module = parsed(PACKAGE / "__init__.py")
    seen = {
        (node.module, alias.name)
        for node in ast.walk(module)
        if isinstance(node, ast.ImportFrom) and node.module != "__future__"
        for alias in node.names
    }
    assert seen == {(home, name) for home, names in datastore._HOMES.items() for name in names}
    assert {name for _, name in seen} | {"__version__"} == set(datastore.__all__)
