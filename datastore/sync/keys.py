"""What lies where on a remote; the format is in ``docs/reference/format/remote.md``."""

from __future__ import annotations

import json
import os
import re
from typing import Final, NamedTuple

from datastore.errors import FormatError
from datastore.kernel.hashing import Digest, format_digest
from datastore.objects.pack import NONCE_SIZE, SUFFIX

FORMAT: Final = 1
MARKER: Final = "datastore.json"
"""Says that this is a remote, and which one."""
PACKS: Final = "packs/"
INDEX: Final = "index/"
ROOTS: Final = "roots/"
TOMBS: Final = "gc/tomb/"
_TOMB_SUFFIX: Final = ".json"
_ROOT: Final = re.compile(rf"([0-9a-f]{{64}})-[0-9a-f]{{{2 * NONCE_SIZE}}}\.json")
_UUID: Final = re.compile(r"[0-9a-f]{32}")


class Marker(NamedTuple):
    """What ``datastore.json`` says."""

    uuid: str
    """Of this remote: another one at the same address is another one."""

    def encode(self) -> bytes:
        """Returns the bytes of the object."""
        fields = {"format": FORMAT, "uuid": self.uuid, "digest": "blake3", "features": []}
        return json.dumps(fields).encode() + b"\n"


def new_marker() -> Marker:
    """Returns the marker of a new remote."""
    return Marker(os.urandom(16).hex())


def decode_marker(data: bytes, url: str) -> Marker:
    """Reads ``datastore.json``.

    Raises:
        FormatError: It is malformed, or of a newer format.
    """
    try:
        fields = json.loads(data)
        version, uuid = fields["format"], fields["uuid"]
        features, digest = fields.get("features", []), fields["digest"]
        sound = type(version) is int and isinstance(uuid, str) and bool(_UUID.fullmatch(uuid))
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise _no_marker(url) from error
    if not sound:
        raise _no_marker(url)
    if version != FORMAT or features or digest != "blake3":
        raise FormatError(
            f"the remote {url} has format {version} (digest {digest!r}, features {features!r}); "
            f"this version knows {FORMAT}",
            hint="a newer datastore made it: pip install --upgrade datastore-ml",
            where=url,
        )
    return Marker(uuid)


def _no_marker(url: str) -> FormatError:
    return FormatError(
        f"{url}/{MARKER} is not what a remote begins with",
        hint="is the address right? Something else may lie there",
        where=url,
    )


def pack_key(name: str) -> str:
    """Returns where a pack lies."""
    return f"{PACKS}{name[:2]}/{name}{SUFFIX}"


def parse_pack_key(key: str) -> str:
    """Returns the name of the pack at a key; what is no pack has a name that no pack has."""
    return key.rpartition("/")[2].removesuffix(SUFFIX)


def new_nonce() -> bytes:
    """Returns what makes a name on a remote one that is never used again."""
    return os.urandom(NONCE_SIZE)


def roots_prefix(repository: str) -> str:
    """Returns where a repository's roots are listed."""
    return f"{ROOTS}{repository}/"


def root_key(repository: str, root: Digest) -> str:
    """Returns a new key for a root."""
    return f"{roots_prefix(repository)}{root.hex()}-{new_nonce().hex()}.json"


def parse_root_key(key: str) -> Digest | None:
    """Returns the root that a key acknowledges; None where it is no such key."""
    found = _ROOT.fullmatch(key.rpartition("/")[2])
    return bytes.fromhex(found[1]) if found else None


def encode_root(root: Digest, path: str, rev: str) -> bytes:
    """Returns what stands behind a root's key: for people; the key alone says what is meant."""
    fields = {"format": FORMAT, "root": format_digest(root), "path": path, "rev": rev}
    return json.dumps(fields).encode() + b"\n"


def parse_tomb_key(key: str) -> str:
    """Returns the name of the pack that a tombstone stands for."""
    return key.rpartition("/")[2].removesuffix(_TOMB_SUFFIX)
