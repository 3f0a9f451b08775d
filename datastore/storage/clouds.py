"""Kinds of storage: their urls, the options each takes, and what has to be installed for it.

Options come from files that are committed, so nothing secret is taken from them: the clients find
secrets where each provider keeps them, in the environment and in the user's own settings.
"""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any, Final

from datastore.errors import UsageError

_SECRET: Final = re.compile(
    r"(?:^|_)(?:key|keys|secret|secrets|token|tokens|password|passwd|passphrase|pwd|sas|credential"
    r"|credentials|auth|login|connection_string|signature)(?:$|_)|accesskey|secretkey|apikey"
    r"|privatekey|accountkey|sastoken|connectionstring|authtoken|sessiontoken"
)
_WEB: Final = re.compile(r"https?://[^/?#\s]+", re.IGNORECASE)
_LOCATIONS: Final = frozenset({"key_file", "token_file", "known_hosts"})  # of secrets, not secrets
_TRUTHS: Final = {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}


@dataclass(frozen=True, slots=True)
class Cloud:
    """One kind of storage.

    Args:
        scheme: Of its urls.
        options: Names and types, ``bool`` or ``str``, of what a remote may set.
        requires: The module that has to be installed; empty where none has to be.
        extra: The extra of this package that installs it.
        secrets: Where secrets go instead, for people.
    """

    scheme: str
    options: Mapping[str, type] = field(default_factory=dict)
    requires: str = ""
    extra: str = ""
    secrets: str = ""


CLOUDS: Final = {
    cloud.scheme: cloud
    for cloud in (
        Cloud("file"),
        Cloud("memory"),
        Cloud(
            "s3",
            {
                "addressing_style": str,
                "anon": bool,
                "endpoint_url": str,
                "profile": str,
                "region": str,
            },
            requires="s3fs",
            extra="s3",
            secrets="AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or a profile of 'aws configure'",
        ),
        Cloud(
            "gs",
            {"anon": bool, "endpoint_url": str, "project": str, "token_file": str},
            requires="gcsfs",
            extra="gcs",
            secrets="GOOGLE_APPLICATION_CREDENTIALS, or 'gcloud auth application-default login'",
        ),
        Cloud(
            "az",
            {"account_host": str, "account_name": str, "anon": bool},
            requires="adlfs",
            extra="azure",
            secrets="AZURE_STORAGE_CONNECTION_STRING or AZURE_STORAGE_ACCOUNT_KEY, or 'az login'",
        ),
        Cloud(
            "sftp",
            {"key_file": str, "known_hosts": str},
            requires="paramiko",
            extra="sftp",
            secrets="the SSH agent (ssh-add), or the option key_file",
        ),
    )
}
"""By scheme."""

ALIASES: Final = {"gcs": "gs", "abfs": "az", "abfss": "az", "azure": "az", "ssh": "sftp"}
"""Other names for a scheme that people know."""


def cloud_of(scheme: str) -> Cloud:
    """Finds a kind of storage by the scheme of a url.

    Raises:
        UsageError: There is none.
    """
    cloud = CLOUDS.get(ALIASES.get(scheme, scheme))
    if cloud is None:
        raise UsageError(
            f"{scheme}:// is not a kind of storage that is known",
            hint=f"Known are {', '.join(f'{each}://' for each in sorted(CLOUDS))} and plain paths.",
        )
    return cloud


def check_options(scheme: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """Checks the options of a remote, as they were read from a file or a command line.

    Args:
        scheme: Of the remote's url.
        options: By name.

    Returns:
        The options with values of the right types.

    Raises:
        UsageError: An option is unknown, of the wrong type, or would be a secret.
    """
    cloud = cloud_of(scheme)
    return {name: _checked(cloud, name, value) for name, value in sorted(options.items())}


def load_module(cloud: Cloud, module: str) -> ModuleType:
    """Imports an adapter, whose own imports have to be installed.

    Raises:
        UsageError: They are not; the hint says how to install them.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        missing = error.name or str(error)
        raise UsageError(
            f"{cloud.scheme}:// needs the package {cloud.requires}, which is not installed"
            + (f" ({missing} is missing)" if missing != cloud.requires else ""),
            hint=f"pip install 'datastore-ml[{cloud.extra}]'",
        ) from error


def _checked(cloud: Cloud, name: str, value: Any) -> str | bool:
    kind = cloud.options.get(name)
    if kind is None:
        raise _unknown(cloud, name)
    if kind is bool:
        truth = value if isinstance(value, bool) else _TRUTHS.get(str(value).lower())
        if truth is None:
            raise UsageError(f"the option {name} is true or false, not {value!r}", where=name)
        return truth
    if isinstance(value, bool) or not isinstance(value, (str, int)) or not str(value).strip():
        raise UsageError(f"the option {name} is a text, not {value!r}", where=name)
    text = str(value)
    if "://" in text and "@" in text.split("://", 1)[1].split("/", 1)[0]:
        raise UsageError(
            f"the option {name} holds a user name or password",
            hint=f"Secrets are not kept in settings. Use {cloud.secrets}.",
            where=name,
        )
    if name == "endpoint_url" and not _WEB.match(text):
        raise UsageError(
            f"the option {name} is the address of a server, not {text!r}",
            hint="Write https://host, or http://host:port.",
            where=name,
        )
    return text


def _unknown(cloud: Cloud, name: str) -> UsageError:
    plain = name.lower().replace("-", "_")
    if plain not in _LOCATIONS and _SECRET.search(plain):
        return UsageError(
            f"the option {name} looks like a secret, which is not taken from settings",
            hint=f"Use {cloud.secrets}." if cloud.secrets else "Remove it.",
            where=name,
        )
    known = sorted(cloud.options)
    close = difflib.get_close_matches(name, known, n=1)
    hint = f"Did you mean {close[0]}? " if close else ""
    takes = ", ".join(known) if known else "none"
    return UsageError(
        f"{cloud.scheme}:// has no option {name!r}",
        hint=f"{hint}It takes: {takes}.",
        where=name,
    )
