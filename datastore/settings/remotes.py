"""What the settings may say of a remote: its shape, and that nothing secret is among it.

Which options a kind of remote knows is the storage's to say; here nothing is known but text.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple


@dataclass(frozen=True, slots=True)
class RemoteSettings:
    """A remote as the settings have it.

    Args:
        name: What it is called here.
        url: As written; see `located`.
        options: For the storage behind the URL, such as ``region`` or ``profile``.
    """

    name: str
    url: str
    options: Mapping[str, str] = field(default_factory=dict)

    def located(self, top: Path) -> str:
        """Returns the URL, with a relative path made a full one.

        Args:
            top: The top of the worktree, where relative paths start.
        """
        return self.url if "://" in self.url else os.path.normpath(top / self.url)


class Problem(NamedTuple):
    """Why something cannot be in the settings."""

    key: str
    """Below the remote's name; empty for the remote itself."""
    reason: str
    """Follows the key in a sentence; never shows a value that may be secret."""
    hint: str


_NAME: Final = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,99}")
_OPTION: Final = re.compile(r"[A-Za-z][A-Za-z0-9._-]{0,99}")
_URL: Final = re.compile(r"([a-z][a-z0-9+.-]*)://(.*)", re.IGNORECASE)
_SECRET_NAMES: Final = frozenset(
    {"auth", "key", "keys", "login", "pass", "pwd", "sas", "conn_str", "connection_string"}
)
_SECRET_PARTS: Final = re.compile(
    r"secret|token|passw|passphrase|credential|(access|account|api|private|shared)_?key"
)
_NAMES_A_PLACE: Final = re.compile(r"_(file|filename|path|env)$")
# Kinds of text that are secret whatever they are called: keys of AWS, private keys, keys and
# signatures of Azure.
_SECRET_VALUES: Final = re.compile(
    r"\b(AKIA|ASIA)[0-9A-Z]{16}\b|-----BEGIN |AccountKey=|SharedAccessSignature|[?&]sig="
)
_WHERE_SECRETS_GO: Final = {
    "s3": "put it into a profile of ~/.aws/credentials, and its name into the option profile; or "
    "into AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY in the environment",
    "gs": "run 'gcloud auth application-default login', or let GOOGLE_APPLICATION_CREDENTIALS in "
    "the environment name a file",
    "az": "run 'az login', or set AZURE_STORAGE_CONNECTION_STRING in the environment",
    "sftp": "use a key that ssh-agent holds, or name its file with the option key_file",
}
_SCHEMES: Final = {"gcs": "gs", "abfs": "az", "abfss": "az", "adl": "az", "ssh": "sftp"}


def remote_problem(name: object, fields: Mapping[Any, object]) -> Problem | None:
    """Finds what is wrong with a remote, None where nothing is.

    Args:
        name: What it is called.
        fields: Its ``url``, and the options.
    """
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        return Problem(
            "",
            "is no name for a remote",
            "use letters, digits, '.', '_' and '-', such as 'origin'; quote one that is a number",
        )
    return next(_problems(fields), None)


def _problems(fields: Mapping[Any, object]) -> Iterator[Problem]:
    url = fields.get("url")
    scheme = _scheme(url) if isinstance(url, str) else ""
    for key, value in fields.items():
        if not isinstance(key, str) or not _OPTION.fullmatch(key):
            yield Problem(str(key), "is no name for an option", "use letters, digits and '_'")
        elif _is_secret_name(key):
            yield _secret(key, scheme)
        elif not isinstance(value, str) or not value:
            yield Problem(key, "must be text", f"write '{key}: VALUE' in one line")
        elif not value.isprintable() or value != value.strip():
            yield Problem(key, "holds spaces at an end, or characters that cannot be seen", "")
        elif _SECRET_VALUES.search(value) or _holds_password(value):
            yield _secret(key, scheme)
    if isinstance(url, str):
        yield from _url_problems(url)


def _scheme(url: str) -> str:
    found = _URL.fullmatch(url)
    scheme = found[1].lower() if found else ""
    return _SCHEMES.get(scheme, scheme)


def _is_secret_name(key: str) -> bool:
    """Tells the name of a secret from that of a file or a variable that holds one."""
    snake = re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", key).lower().replace("-", "_").replace(".", "_")
    if _NAMES_A_PLACE.search(snake):
        return False
    return snake in _SECRET_NAMES or _SECRET_PARTS.search(snake) is not None


def _secret(key: str, scheme: str) -> Problem:
    return Problem(
        key,
        "holds a secret, and settings are no place for one",
        _WHERE_SECRETS_GO.get(scheme, "put it into the environment, or a file of the provider's")
        + "; if it was ever committed, make a new one",
    )


def _holds_password(value: str) -> bool:
    """Finds ``user:password@`` in a URL, also where the password itself holds slashes."""
    found = _URL.fullmatch(value)
    if found is None or found[1].lower() == "file":
        return False
    authority = re.split(r"[/?#]", found[2], maxsplit=1)[0]
    user, at, host = authority.rpartition("@")
    if at and ":" in user:
        return True
    port = re.sub(r"^\[[^\]]*\]", "", host).partition(":")[2]
    return not at and port != "" and not port.isdigit() and "@" in found[2]


def _url_problems(url: str) -> Iterator[Problem]:
    found = _URL.fullmatch(url)
    if found is None:
        # "bucket/name" is more often an address that lacks its scheme than a directory.
        if not re.match(r"/|\.{1,2}(/|$)", url):
            yield Problem(
                "url",
                "is neither a URL nor a path",
                "write SCHEME://... for a server, such as s3://bucket/path; for a directory a full "
                "path, or one that begins with ./ or ../",
            )
        return
    scheme, rest = found[1].lower(), found[2]
    if scheme == "file" and not rest.startswith("/"):
        yield Problem("url", "must be a full path after file://", "write file:///data/shared")
    elif scheme != "file" and re.search(r"[?#]", rest):
        yield Problem("url", "has a '?' or '#'", "give options with '-o KEY=VALUE'")
