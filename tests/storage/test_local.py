"""Files that are wholly there or not there, whatever happens while they are written."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from datastore.errors import StorageError, UsageError
from datastore.storage import mounts
from datastore.storage.local import (
    TEMPORARY_PREFIX,
    DurableFile,
    filesystem_type,
    fsync_directory,
    is_network,
    storage_error,
    sweep,
    write_durably,
)
from datastore.storage.lock import try_lock

ROOT = Path(__file__).parents[2]


def program(text: str, *arguments: object) -> subprocess.Popen[str]:
    """Starts a Python program in a process of its own, to be killed or limited."""
    return subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(text), *map(str, arguments)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )


def leftovers(directory: Path) -> list[str]:
    return [name for name in os.listdir(directory) if name.startswith(TEMPORARY_PREFIX)]


@pytest.fixture
def umask():
    old = os.umask(0o027)
    yield
    os.umask(old)


def failing(number: int):
    def fail(*args, **kwargs):
        raise OSError(number, os.strerror(number))

    return fail


# -- writing ---------------------------------------------------------------------------------------


def test_a_file_is_written_and_replaced(tmp_path):
    path = tmp_path / "pointer.ds"
    write_durably(path, b"one")
    write_durably(path, b"two")
    assert path.read_bytes() == b"two"
    assert os.listdir(tmp_path) == ["pointer.ds"]


@pytest.mark.parametrize(("mode", "left"), [(0o666, 0o640), (0o444, 0o440), (0o600, 0o600)])
def test_the_umask_takes_away(tmp_path, umask, mode, left):
    write_durably(tmp_path / "file", b"", mode=mode)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == left


def test_the_order_survives_a_power_cut(tmp_path, monkeypatch):
    """Bytes, their sync, then the name, then the syncs of all directories with new names."""
    done = []
    writev, fsync, replace = os.writev, os.fsync, os.replace

    def name(descriptor):
        path = Path(os.readlink(f"/proc/self/fd/{descriptor}"))
        return "temporary" if path.name.startswith(TEMPORARY_PREFIX) else path.name

    monkeypatch.setattr(os, "writev", lambda fd, parts: done.append("write") or writev(fd, parts))
    monkeypatch.setattr(os, "fsync", lambda fd: done.append(name(fd)) or fsync(fd))
    monkeypatch.setattr(os, "replace", lambda a, b: done.append("rename") or replace(a, b))
    (tmp_path / "store").mkdir()
    with DurableFile(tmp_path / "store") as file:
        file.write([b"bytes"])
        file.publish(tmp_path / "store" / "packs" / "aa" / "x.pack")
    assert done[:4] == ["write", "temporary", "rename", "aa"]
    assert sorted(done[4:]) == ["packs", "store"]
    assert (tmp_path / "store" / "packs" / "aa" / "x.pack").read_bytes() == b"bytes"


@pytest.mark.parametrize("call", ["writev", "fsync", "replace"])
@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO])
def test_a_failure_leaves_the_old_file(tmp_path, monkeypatch, call, number):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    monkeypatch.setattr(os, call, failing(number))
    with pytest.raises(StorageError) as caught:
        write_durably(path, b"new")
    assert not caught.value.retryable
    assert str(tmp_path) in str(caught.value)
    assert os.strerror(number) in str(caught.value)
    assert caught.value.hint
    assert caught.value.where
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_what_may_pass_is_retryable():
    assert storage_error(OSError(errno.EMFILE, "many"), "open", "x").retryable
    assert not storage_error(OSError("odd"), "open", "x").retryable


def test_a_real_limit_cuts_a_write_short(tmp_path):
    """The kernel first writes less than asked, then refuses: the second call sees the error."""
    path = tmp_path / "file"
    path.write_bytes(b"old")
    child = program(
        """
        import resource, sys
        from pathlib import Path
        from datastore.errors import StorageError
        from datastore.storage.local import write_durably
        resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, resource.RLIM_INFINITY))
        try:
            write_durably(Path(sys.argv[1]), bytes(300_000))
        except StorageError as error:
            print(error)
        """,
        path,
    )
    said, _ = child.communicate(timeout=60)
    assert os.strerror(errno.EFBIG) in said
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("call", ["writev", "fsync", "replace"])
def test_kill_9_leaves_the_old_file(tmp_path, call):
    path = tmp_path / "file"
    path.write_bytes(b"old")
    child = program(
        """
        import os, signal, sys
        from pathlib import Path
        from datastore.storage.local import write_durably
        setattr(os, sys.argv[2], lambda *args: os.kill(os.getpid(), signal.SIGKILL))
        write_durably(Path(sys.argv[1]), b"new")
        """,
        path,
        call,
    )
    child.communicate(timeout=60)
    assert child.returncode == -signal.SIGKILL
    assert path.read_bytes() == b"old"
    assert len(leftovers(tmp_path)) == 1
    assert sweep(tmp_path) == 1
    assert os.listdir(tmp_path) == ["file"]


@pytest.mark.parametrize("most", [1, 7, 1000, 10**6])
def test_short_writes_are_continued(tmp_path, monkeypatch, most):
    write = os.write
    monkeypatch.setattr(os, "writev", lambda fd, parts: write(fd, b"".join(parts)[:most]))
    monkeypatch.setattr(os, "write", lambda fd, part: write(fd, bytes(part)[:most]))
    parts = [bytes([i % 256]) * (i % 5) for i in range(300)]
    with DurableFile(tmp_path) as file:
        file.write(parts)
        file.publish(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == b"".join(parts)


def test_any_number_and_kind_of_parts(tmp_path):
    """More parts than one writev takes, empty ones, and views of wider items."""
    wide = memoryview(b"12345678" * 10).cast("Q")
    parts = [b"a", b"", memoryview(b"bc")[1:], wide] * 1000
    expected = (b"ac" + b"12345678" * 10) * 1000
    with DurableFile(tmp_path) as file:
        file.write(parts)
        file.write([])
        file.write([b""])
        assert file.size == len(expected)
        file.publish(tmp_path / "file")
    assert (tmp_path / "file").read_bytes() == expected


def test_what_is_not_published_is_discarded(tmp_path):
    with DurableFile(tmp_path) as file:
        file.write([b"x"])
        assert len(leftovers(tmp_path)) == 1
    assert os.listdir(tmp_path) == []
    file.discard()
    with pytest.raises(UsageError):
        file.write([b"y"])
    with pytest.raises(UsageError):
        file.publish(tmp_path / "file")


def test_a_published_file_outlives_discard(tmp_path):
    with DurableFile(tmp_path) as file:
        file.publish(tmp_path / "file")
        file.discard()
    assert os.listdir(tmp_path) == ["file"]


def test_an_interrupt_discards(tmp_path):
    file = DurableFile(tmp_path)
    file.write([b"x"])
    with pytest.raises(KeyboardInterrupt), file:
        raise KeyboardInterrupt
    assert os.listdir(tmp_path) == []


def test_no_descriptor_stays_open(tmp_path, monkeypatch):
    before = len(os.listdir("/dev/fd"))
    write_durably(tmp_path / "file", b"x")
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", failing(errno.EIO))
        with pytest.raises(StorageError):
            write_durably(tmp_path / "file", b"y")
    assert len(os.listdir("/dev/fd")) == before


def test_a_link_is_replaced_not_followed(tmp_path):
    (tmp_path / "elsewhere").write_bytes(b"mine")
    (tmp_path / "link").symlink_to("elsewhere")
    write_durably(tmp_path / "link", b"new")
    assert (tmp_path / "elsewhere").read_bytes() == b"mine"
    assert not (tmp_path / "link").is_symlink()


def test_a_directory_is_not_replaced(tmp_path):
    (tmp_path / "name").mkdir()
    with pytest.raises(StorageError, match="name"):
        write_durably(tmp_path / "name", b"new")
    assert os.listdir(tmp_path) == ["name"]


def test_a_missing_directory_is_an_error(tmp_path):
    with pytest.raises(StorageError, match="missing") as caught:
        write_durably(tmp_path / "missing" / "file", b"")
    assert caught.value.hint


def test_a_setgid_directory_gives_its_group(tmp_path):
    """A file that is only renamed into the directory does not get it from the kernel."""
    groups = [12345] if os.geteuid() == 0 else [os.getegid(), *os.getgroups()]
    there = tmp_path / "shared"
    there.mkdir()
    os.chown(there, -1, groups[-1])
    there.chmod(0o2775)
    with DurableFile(tmp_path) as file:
        file.publish(there / "file")
    with DurableFile(tmp_path) as file:
        file.publish(there / "sub" / "file")
    assert (there / "file").stat().st_gid == groups[-1]
    assert (there / "sub" / "file").stat().st_gid == groups[-1]


def test_syncing_a_missing_directory_is_an_error(tmp_path):
    fsync_directory(tmp_path)
    with pytest.raises(StorageError, match="cannot sync"):
        fsync_directory(tmp_path / "missing")


@pytest.mark.parametrize(("number", "fine"), [(errno.EINVAL, True), (errno.EIO, False)])
def test_a_filesystem_need_not_sync_directories(tmp_path, monkeypatch, number, fine):
    monkeypatch.setattr(os, "fsync", failing(number))
    if fine:
        fsync_directory(tmp_path)
    else:
        with pytest.raises(StorageError):
            fsync_directory(tmp_path)


def test_the_cache_of_the_drive_is_written_where_that_can_be_asked_for(tmp_path, monkeypatch):
    """macOS: its fsync leaves bytes in the drive, which another call does not."""
    asked = []
    monkeypatch.setattr(fcntl, "F_FULLFSYNC", 51, raising=False)
    monkeypatch.setattr(fcntl, "fcntl", lambda _, command: asked.append(command))
    monkeypatch.setattr(os, "fsync", failing(errno.EIO))
    write_durably(tmp_path / "file", b"x")
    assert asked == [51, 51]
    monkeypatch.setattr(fcntl, "fcntl", failing(errno.ENOTSUP))
    with pytest.raises(StorageError):
        write_durably(tmp_path / "file", b"y")
    assert (tmp_path / "file").read_bytes() == b"x"


# -- sweeping --------------------------------------------------------------------------------------


def test_the_sweep_spares_the_living(tmp_path):
    alien = tmp_path / f"{TEMPORARY_PREFIX}notes.txt"
    alien.write_bytes(b"not one of ours")
    with DurableFile(tmp_path) as file:
        child = program(
            """
            import sys
            from pathlib import Path
            from datastore.storage.local import DurableFile
            file = DurableFile(Path(sys.argv[1]))
            print("made", flush=True)
            sys.stdin.read()
            """,
            tmp_path,
        )
        assert child.stdout is not None
        assert child.stdout.readline() == "made\n"
        assert sweep(tmp_path) == 0
        child.kill()
        child.communicate(timeout=60)
        assert sweep(tmp_path) == 1
        file.write([b"still here"])
        file.publish(tmp_path / "file")
    assert sorted(os.listdir(tmp_path)) == sorted([alien.name, "file"])


def test_nothing_to_sweep(tmp_path):
    assert sweep(tmp_path / "missing") == 0
    (tmp_path / "file").touch()
    with pytest.raises(StorageError, match="cannot list"):
        sweep(tmp_path / "file")


def test_a_sweep_just_before_the_lock_costs_only_a_new_name(tmp_path, monkeypatch):
    """The file is locked after it was created: a sweeper in between must not win for good."""
    with monkeypatch.context() as patch:

        def late(descriptor):
            patch.undo()
            assert sweep(tmp_path) == 1
            return try_lock(descriptor)

        patch.setattr("datastore.storage.local.try_lock", late)
        file = DurableFile(tmp_path)
    file.publish(tmp_path / "file")
    assert os.listdir(tmp_path) == ["file"]


def test_without_locks_nothing_is_swept(tmp_path, monkeypatch):
    monkeypatch.setattr("datastore.storage.local.try_lock", failing(errno.ENOLCK))
    with DurableFile(tmp_path) as file:
        assert sweep(tmp_path) == 0
        file.publish(tmp_path / "file")
    assert os.listdir(tmp_path) == ["file"]


# -- filesystems -----------------------------------------------------------------------------------

TABLE = rb"""
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
23 22 0:5 / /proc rw - proc proc rw
30 22 0:40 / /home rw shared:2 master:3 - autofs systemd-1 rw
31 30 0:41 / /home rw - nfs4 server:/home rw
32 22 0:42 / /mnt/my\040data\134x rw - cifs //server/data rw
33 22 0:43 / /mnt/a rw - fuse.sshfs host: rw
34 22 0:44 / /mnt/ab rw - xfs /dev/sdb rw
short line
"""


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/etc/hosts", "ext4"),
        ("/", "ext4"),
        ("/home", "nfs4"),
        ("/home/me/data", "nfs4"),
        ("/homes", "ext4"),
        ("/mnt/my data\\x/images", "cifs"),
        ("/mnt/a/b", "fuse.sshfs"),
        ("/mnt/ab", "xfs"),
        ("/mnt/abc", "ext4"),
    ],
)
def test_the_longest_mount_point_holds_a_path(path, kind):
    assert mounts._mounted(TABLE, path.encode()) == kind


def test_an_empty_table_knows_nothing():
    assert mounts._mounted(b"", b"/etc") == ""


@pytest.mark.skipif(sys.platform != "linux", reason="there is no mountinfo elsewhere")
def test_the_type_of_a_real_filesystem(tmp_path):
    assert filesystem_type(Path("/proc/self")) == "proc"
    assert filesystem_type(tmp_path)
    link = tmp_path / "link"
    link.symlink_to("/proc")
    assert filesystem_type(link / "self") == "proc"


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        *[(kind, True) for kind in ("nfs", "nfs4", "cifs", "smb3", "9p", "lustre", "ceph", "gpfs")],
        *[(kind, True) for kind in ("afs", "virtiofs", "fuse.sshfs", "fuse.s3fs", "fuse")],
        *[(kind, False) for kind in ("ext4", "xfs", "btrfs", "zfs", "tmpfs", "overlay", "apfs")],
        *[(kind, False) for kind in ("fuseblk", "fuse.gocryptfs", "fuse.fuse-overlayfs", "")],
    ],
)
def test_which_filesystems_other_machines_write_to(monkeypatch, tmp_path, kind, expected):
    monkeypatch.setattr(mounts, "filesystem_type", lambda _: kind)
    assert is_network(tmp_path) is expected
