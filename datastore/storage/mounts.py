"""Which filesystem a path lies on: memory maps and locks cannot be trusted on all of them."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Final

# Filesystems whose shared memory maps and locks other machines do not see, or not at once.
_NETWORK: Final = re.compile(
    r"9p|acfs|afs|beegfs|ceph|cifs|coda|davfs|drvfs|fhgfs|fuse|gfs2?|glusterfs|gpfs|lustre|mfs"
    r"|ncp(fs)?|nfs[34]?|ocfs2|orangefs|panfs|prl_fs|pvfs2|quobyte|smb(fs|2|3)?|vboxsf|virtiofs"
    r"|vmhgfs|webdav|weka(fs)?"
)
# Every other filesystem in user space may lead anywhere.
_LOCAL_FUSE: Final = re.compile(
    r"fuse\.(bindfs|encfs|exfat(-fuse)?|fuse-overlayfs|gocryptfs|ntfs(-3g)?)"
)
_OCTAL: Final = re.compile(rb"\\([0-7]{3})")


def _mounted(table: bytes, path: bytes) -> str:
    """Looks up a path in the text of ``/proc/self/mountinfo``; "" when nothing holds it."""
    best, kind = -1, b""
    for line in table.splitlines():
        fields, separator, rest = line.partition(b" - ")
        columns = fields.split(b" ")
        if not separator or len(columns) < 5:
            continue
        point = _OCTAL.sub(lambda found: bytes([int(found[1], 8) & 255]), columns[4])
        holds = path == point or path.startswith(point.rstrip(b"/") + b"/")
        if holds and len(point) >= best:  # of several on one point the last covers the others
            best, kind = len(point), rest.split(b" ", 1)[0]
    return os.fsdecode(kind)


def filesystem_type(path: Path) -> str:
    """Names the filesystem that holds a path as the kernel does: ``"ext4"``, ``"nfs4"``.

    Returns:
        The type; "" where it cannot be known, which is everywhere but on Linux.
    """
    try:
        table = Path("/proc/self/mountinfo").read_bytes()
    except OSError:
        return ""
    return _mounted(table, os.fsencode(os.path.realpath(path)))


def is_network(path: Path) -> bool:
    """Says whether a path lies on a filesystem that other machines may write to at the same time.

    In doubt a filesystem in user space counts as one; an unknown type does not.
    """
    kind = filesystem_type(path)
    if kind.startswith("fuse."):
        return not _LOCAL_FUSE.fullmatch(kind)
    return bool(_NETWORK.fullmatch(kind))
