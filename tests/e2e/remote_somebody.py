"""Runs the program as another user: ``python -m tests.e2e.remote_somebody USER GROUPS ARG...``.

Everything is imported before, as root: others need not be able to read where Python lies.
"""

from __future__ import annotations

import codecs
import importlib
import os
import pkgutil
import sys

import datastore
from datastore.cli.main import main

_NEEDS_A_CLOUD = ("azure", "gcs", "s3", "sftp", "ssh", "connections")


def become(user: int, groups: list[int]) -> None:
    """Gives up being root."""
    os.setgroups(groups)
    os.setgid(user)
    os.setuid(user)
    os.umask(0o077)  # what a group may do must not hang on anybody's umask


if __name__ == "__main__":
    for name in ("ascii", "latin-1", "idna", "utf-8"):
        codecs.lookup(name)
    for found in pkgutil.walk_packages(datastore.__path__, "datastore."):
        if not found.name.endswith(("__main__", *(f".{name}" for name in _NEEDS_A_CLOUD))):
            importlib.import_module(found.name)
    become(int(sys.argv[1]), [int(group) for group in sys.argv[2].split(",") if group])
    sys.argv = ["datastore", *sys.argv[3:]]
    main()
