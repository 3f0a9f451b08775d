"""Edits of ``config.yaml``: text in, text out, and what the user wrote around it stays.

Each edit knows what the file is to say afterwards, and reads its own result back: a file that is
written in a way that an edit does not understand is an error, never another setting.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NoReturn

import yaml

from datastore.errors import FormatError, UsageError
from datastore.settings.remotes import RemoteSettings

_REMOTES: Final = "remotes"
_DEFAULT: Final = "remote"
_REPOSITORY: Final = "repository"
_FIRST: Final = ("format", _REPOSITORY)
"""Below these a new line of the top level goes."""
_INDENT: Final = 2


def with_repository(text: str, repository: str) -> str:
    """Sets ``repository:``.

    Raises:
        FormatError: The text cannot be edited; the hint has the lines to write by hand.
    """
    return _with_value(text, _REPOSITORY, repository)


def with_default(text: str, name: str) -> str:
    """Sets ``remote:``, the default remote; raises as `with_repository`."""
    return _with_value(text, _DEFAULT, name)


def with_remote(text: str, remote: RemoteSettings) -> str:
    """Adds a remote.

    Comments inside of braces are lost, where ``remotes:`` was written with braces.

    Raises:
        UsageError: There is one of that name.
        FormatError: As for `with_repository`.
    """
    data = _load(text)
    old: dict[str, Any] = data.get(_REMOTES) or {}
    if remote.name in old:
        raise UsageError(
            f"there is a remote {remote.name!r} already",
            hint=f"choose another name, or first: datastore remote remove {remote.name}",
            where=remote.name,
        )
    fields = {"url": remote.url, **remote.options}
    data[_REMOTES] = {**old, remote.name: fields}
    lines = _Lines(text)
    key, value = lines.entry(_REMOTES)
    if key is None or value is None:
        lines.insert(len(lines.rows), _block({_REMOTES: {remote.name: fields}}))
    elif isinstance(value, yaml.MappingNode) and not value.flow_style:
        start = value.value[0][0].start_mark.column
        lines.insert(_last_row(value) + 1, _block({remote.name: fields}, start))
    else:
        del lines.rows[key.start_mark.line : _last_row(value) + 1]
        lines.insert(key.start_mark.line, _block({_REMOTES: data[_REMOTES]}))
    return lines.checked(data)


def without_remote(text: str, name: str) -> str:
    """Takes a remote out, and ``remote:`` with it where that names it.

    Raises:
        UsageError: There is none of that name.
        FormatError: As for `with_repository`.
    """
    data = _load(text)
    old: dict[str, Any] = data.get(_REMOTES) or {}
    if name not in old:
        raise UsageError(
            f"there is no remote {name!r} in the shared settings",
            hint="'datastore remote list' names them; local.yaml is edited by hand",
            where=name,
        )
    if data.get(_DEFAULT) == name:
        text = _without_key(text, _DEFAULT)
        del data[_DEFAULT]
    del old[name]
    if not old:
        del data[_REMOTES]
    lines = _Lines(text)
    key, value = lines.entry(_REMOTES)
    if key is None or not isinstance(value, yaml.MappingNode):
        lines.refuse(data)
    if value.flow_style:
        del lines.rows[key.start_mark.line : _last_row(value) + 1]
        lines.insert(key.start_mark.line, _block({_REMOTES: old}) if old else [])
        return lines.checked(data)
    for each, fields in value.value:
        if each.value == name:
            del lines.rows[each.start_mark.line : _last_row(fields) + 1]
    if not old:
        del lines.rows[key.start_mark.line]
    return lines.checked(data)


def _with_value(text: str, name: str, setting: str) -> str:
    data = _load(text)
    data[name] = setting
    lines = _Lines(text)
    key, value = lines.entry(name)
    if key is None or value is None:
        lines.insert(lines.below_first(), _block({name: setting}))
        return lines.checked(data)
    if not isinstance(value, yaml.ScalarNode):
        lines.refuse(data)
    start, end = value.start_mark.index, value.end_mark.index
    gap = " " if text[start - 1] == ":" else ""
    return _Lines(text[:start] + gap + _scalar(setting) + text[end:]).checked(data)


def _without_key(text: str, name: str) -> str:
    data = _load(text)
    del data[name]
    lines = _Lines(text)
    key, value = lines.entry(name)
    if key is None or value is None:
        lines.refuse(data)
    del lines.rows[key.start_mark.line : _last_row(value) + 1]
    return lines.checked(data)


class _Lines:
    """A text as lines, with what YAML finds in it."""

    def __init__(self, text: str) -> None:
        self.rows = text.splitlines(keepends=True)
        self.ending = "\r\n" if self.rows and self.rows[0].endswith("\r\n") else "\n"
        try:
            root = yaml.compose(text, Loader=yaml.SafeLoader)
        except yaml.YAMLError as error:
            raise FormatError(f"the settings are not YAML: {error}") from error
        self._pairs = root.value if isinstance(root, yaml.MappingNode) else []

    def entry(self, name: str) -> tuple[yaml.Node | None, yaml.Node | None]:
        """Finds a key of the top level and its value."""
        found = [(key, value) for key, value in self._pairs if key.value == name]
        return found[-1] if found else (None, None)

    def below_first(self) -> int:
        """Finds the row where a new line of the top level goes."""
        ends = [_last_row(value) + 1 for key, value in self._pairs if key.value in _FIRST]
        if ends:
            return max(ends)
        starts = [key.start_mark.line for key, _ in self._pairs]
        return min(starts, default=len(self.rows))

    def insert(self, row: int, lines: list[str]) -> None:
        """Puts lines before a row."""
        if lines and row and not self.rows[row - 1].endswith(("\n", "\r")):
            self.rows[row - 1] += self.ending
        self.rows[row:row] = [line + self.ending for line in lines]

    def checked(self, data: Mapping[str, Any]) -> str:
        """Returns the text, if it says what it is to say."""
        text = "".join(self.rows)
        try:
            found = yaml.safe_load(text) or {}
        except yaml.YAMLError:
            found = None
        if found != data:
            self.refuse(data)
        return text

    def refuse(self, data: Mapping[str, Any]) -> NoReturn:
        """Says how to do by hand what cannot be done here."""
        wanted = {key: data[key] for key in (_DEFAULT, _REPOSITORY, _REMOTES) if key in data}
        lines = "\n".join(_block(wanted)) or "(nothing of remotes)"
        raise FormatError(
            "the shared settings are written in a way that cannot be edited here",
            hint=f"write by hand, in .datastore/config.yaml:\n{lines}",
        )


def _last_row(node: yaml.Node) -> int:
    """Finds the row where the text of a value ends, comments below it left out."""
    if isinstance(node, yaml.MappingNode) and not node.flow_style and node.value:
        return max(_last_row(value) for _, value in node.value)
    if isinstance(node, yaml.SequenceNode) and not node.flow_style and node.value:
        return max(map(_last_row, node.value))
    start, end = node.start_mark, node.end_mark
    # The end of text in several lines ("|") is told as the beginning of the next line.
    return end.line - 1 if end.column == 0 and end.line > start.line else end.line


def _block(data: Mapping[str, Any], start: int = 0) -> list[str]:
    """Writes keys and values, a line each."""
    rows = []
    for key, value in data.items():
        if isinstance(value, Mapping):
            rows += [" " * start + f"{_scalar(key)}:", *_block(value, start + _INDENT)]
        else:
            rows.append(" " * start + f"{_scalar(key)}: {_scalar(value)}")
    return rows


def _scalar(value: Any) -> str:
    """Writes text, a number or a truth value in one line, quoted where YAML needs it."""
    written: str = yaml.safe_dump(value, width=2**20, allow_unicode=True)
    return written.removesuffix("...\n").strip()


def _load(text: str) -> dict[str, Any]:
    try:
        found = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise FormatError(f"the settings are not YAML: {error}") from error
    return found if isinstance(found, dict) else {}
