"""Versions data and labels with Git: deduplicated, verified, diffed and merged by the sample.

    import datastore

    with datastore.Repository.open(".") as repo:
        repo.add(["images"])
        for change in repo.diff("HEAD~1").changes:
            print(change.kind, change.path)

This module holds the public names and nothing else, and finds each on first use: ``import
datastore`` costs next to nothing and opens nothing. Anything that is not named here may change
without notice.
"""

from __future__ import annotations

TYPE_CHECKING = False  # typing's own costs 5 ms of import; type checkers know the name
if TYPE_CHECKING:
    from datastore.errors import (
        ConflictError,
        CorruptionError,
        DatastoreError,
        FormatError,
        LockedError,
        NotFoundError,
        StorageError,
        UsageError,
    )
    from datastore.maintenance import Damage, VerifyResult
    from datastore.progress import SILENT, Progress, Task
    from datastore.repository import (
        Check,
        CheckedOut,
        CheckoutResult,
        DiffCounts,
        DiffResult,
        DoctorResult,
        FetchResult,
        LogEntry,
        LsEntry,
        PullResult,
        PushedRoot,
        PushResult,
        RebuildResult,
        RemoteCheck,
        RemoteInfo,
        RemoteStatus,
        Repository,
        get,
    )
    from datastore.workspace.changes import FileChange
    from datastore.workspace.ingest import AddedPointer, AddResult
    from datastore.workspace.pointer import Pointer
    from datastore.workspace.status import PointerStatus, StatusResult

__version__ = "0.1.0"

__all__ = [
    "SILENT",
    "AddResult",
    "AddedPointer",
    "Check",
    "CheckedOut",
    "CheckoutResult",
    "ConflictError",
    "CorruptionError",
    "Damage",
    "DatastoreError",
    "DiffCounts",
    "DiffResult",
    "DoctorResult",
    "FetchResult",
    "FileChange",
    "FormatError",
    "LockedError",
    "LogEntry",
    "LsEntry",
    "NotFoundError",
    "Pointer",
    "PointerStatus",
    "Progress",
    "PullResult",
    "PushResult",
    "PushedRoot",
    "RebuildResult",
    "RemoteCheck",
    "RemoteInfo",
    "RemoteStatus",
    "Repository",
    "StatusResult",
    "StorageError",
    "Task",
    "UsageError",
    "VerifyResult",
    "__version__",
    "get",
]

_HOMES = {
    "datastore.errors": (
        "ConflictError",
        "CorruptionError",
        "DatastoreError",
        "FormatError",
        "LockedError",
        "NotFoundError",
        "StorageError",
        "UsageError",
    ),
    "datastore.maintenance": ("Damage", "VerifyResult"),
    "datastore.progress": ("SILENT", "Progress", "Task"),
    "datastore.repository": (
        "Check",
        "CheckedOut",
        "CheckoutResult",
        "DiffCounts",
        "DiffResult",
        "DoctorResult",
        "FetchResult",
        "LogEntry",
        "LsEntry",
        "PullResult",
        "PushResult",
        "PushedRoot",
        "RebuildResult",
        "RemoteCheck",
        "RemoteInfo",
        "RemoteStatus",
        "Repository",
        "get",
    ),
    "datastore.workspace.changes": ("FileChange",),
    "datastore.workspace.ingest": ("AddResult", "AddedPointer"),
    "datastore.workspace.pointer": ("Pointer",),
    "datastore.workspace.status": ("PointerStatus", "StatusResult"),
}


def __getattr__(name: str) -> object:
    """Finds a public name in its module, and keeps it here."""
    for module, names in _HOMES.items():
        if name in names:
            import importlib  # noqa: PLC0415 - 1 ms that `datastore --version` need not pay

            value: object = getattr(importlib.import_module(module), name)
            globals()[name] = value
            return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    """Lists the public names, found already or not."""
    return __all__
