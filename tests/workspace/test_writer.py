"""Writing into a workspace that somebody hostile, careless or merely quick has been at."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
from pathlib import Path

import pytest

from datastore.errors import (
    ConflictError,
    CorruptionError,
    FormatError,
    NotFoundError,
    StorageError,
)
from datastore.storage.local import TEMPORARY_PREFIX
from datastore.workspace.writer import Writer, sweep_staging

ROOT = Path(__file__).parents[2]


@pytest.fixture
def top(tmp_path):
    (tmp_path / "top").mkdir()
    return tmp_path / "top"


@pytest.fixture
def outside(tmp_path):
    """What must never change."""
    path = tmp_path / "outside"
    path.mkdir()
    (path / "precious").write_bytes(b"mine")
    yield path
    assert os.listdir(path) == ["precious"]
    assert (path / "precious").read_bytes() == b"mine"
    assert stat.S_IMODE((path / "precious").stat().st_mode) & 0o111 == 0


@pytest.fixture
def staging(tmp_path):
    return tmp_path / "top" / ".datastore" / "tmp"


@pytest.fixture
def writer(top, staging):
    with Writer(top, staging) as writer:
        yield writer
    assert os.listdir(staging) == []


def put(writer, path, data=b"data", *, executable=False):
    return writer.write_file(path, [data], executable=executable, size=len(data))


def tree(top):
    """All names below the top but our own."""
    return sorted(
        os.path.relpath(os.path.join(where, name), top)
        for where, directories, files in os.walk(top)
        for name in directories + files
        if ".datastore" not in os.path.relpath(os.path.join(where, name), top).split(os.sep)
    )


OPERATIONS = {
    "write_file": put,
    "write_link": lambda writer, path: writer.write_link(path, b"x"),
    "make_directory": lambda writer, path: writer.make_directory(path),
    "remove": lambda writer, path: writer.remove(path),
    "remove_directory": lambda writer, path: writer.remove_directory(path),
    "prune": lambda writer, path: writer.prune([path + "/x/y"]),
    "set_executable": lambda writer, path: writer.set_executable(path, True),
}


@pytest.fixture(params=OPERATIONS)
def operation(request):
    return OPERATIONS[request.param]


# -- what it is for --------------------------------------------------------------------------------


def test_files_are_written_and_replaced(writer, top):
    put(writer, "a.jpg", b"one")
    put(writer, "train/x/b.jpg", b"")
    put(writer, "a.jpg", b"two")
    assert tree(top) == ["a.jpg", "train", "train/x", "train/x/b.jpg"]
    assert (top / "a.jpg").read_bytes() == b"two"
    assert (top / "train" / "x" / "b.jpg").read_bytes() == b""


def test_many_parts_make_one_file(writer, top):
    parts = [b"a" * i for i in range(100)] + [b"", memoryview(b"end")]
    data = b"".join(parts)
    writer.write_file("a", iter(parts), executable=False, size=len(data))
    assert (top / "a").read_bytes() == data


def test_short_writes_are_continued(writer, top, monkeypatch):
    write = os.write
    monkeypatch.setattr(os, "write", lambda fd, part: write(fd, bytes(part)[:7]))
    put(writer, "a", bytes(range(256)))
    assert (top / "a").read_bytes() == bytes(range(256))


def test_the_state_is_that_of_the_file(writer, top):
    """Also its change time, which the renaming moved: a stat cache compares it."""
    assert put(writer, "a/b") == os.lstat(top / "a" / "b")
    assert writer.write_link("a/l", b"b") == os.lstat(top / "a" / "l")
    assert writer.set_executable("a/b", True) == os.lstat(top / "a" / "b")


@pytest.mark.parametrize(
    ("umask", "plain", "executable"),
    [(0o022, 0o644, 0o755), (0o027, 0o640, 0o750), (0o077, 0o600, 0o700), (0o002, 0o664, 0o775)],
)
def test_only_the_executable_bit_and_the_umask_matter(writer, top, umask, plain, executable):
    old = os.umask(umask)
    try:
        put(writer, "plain")
        put(writer, "exec", executable=True)
    finally:
        os.umask(old)
    assert stat.S_IMODE((top / "plain").stat().st_mode) == plain
    assert stat.S_IMODE((top / "exec").stat().st_mode) == executable


@pytest.mark.parametrize(("mode", "set_to"), [(0o644, 0o755), (0o600, 0o700), (0o640, 0o750)])
def test_the_executable_bit_follows_the_readable_ones(writer, top, mode, set_to):
    put(writer, "a")
    (top / "a").chmod(mode)
    assert stat.S_IMODE(writer.set_executable("a", True).st_mode) == set_to
    assert stat.S_IMODE(writer.set_executable("a", True).st_mode) == set_to
    assert stat.S_IMODE(writer.set_executable("a", False).st_mode) == mode
    assert stat.S_IMODE((top / "a").stat().st_mode) == mode


def test_a_setgid_directory_gives_its_group(top, writer):
    group = 12345 if os.geteuid() == 0 else [os.getegid(), *os.getgroups()][-1]
    (top / "shared").mkdir()
    os.chown(top / "shared", -1, group)
    (top / "shared").chmod(0o2775)
    assert put(writer, "shared/a").st_gid == group
    assert put(writer, "shared/sub/a").st_gid == group


NAMES = [
    "new\nline",
    "tab\t",
    " space ",
    "-rf",
    "*",
    "caf\u00e9",
    "cafe\u0301",
    "\u6570\u636e",
    "\U0001f600",
    "a:b.txt",
    "aux.txt",
    "back\\slash",
    "lock",
    "1",
    "x" * 255,
    "\u00e9" * 127,
]


@pytest.mark.parametrize("name", NAMES)
def test_odd_names(writer, top, name):
    put(writer, f"{name}/{name}", name.encode())
    writer.write_link(f"{name}/link", b"x")
    assert (top / name / name).read_bytes() == name.encode()
    writer.set_executable(f"{name}/{name}", True)
    assert writer.remove(f"{name}/{name}")
    assert writer.remove(f"{name}/link")
    assert writer.prune([f"{name}/{name}"]) == 1
    assert tree(top) == []


@pytest.mark.parametrize("target", [b"a", b"/etc/passwd", b"../x", b"\xff\xfe", b"new\nline", b" "])
def test_links_are_kept_as_they_are(writer, top, target):
    writer.write_link("d/link", b"before")
    writer.write_link("d/link", target)
    assert os.readlink(os.fsencode(top / "d" / "link")) == target


def test_directories_are_made(writer, top):
    writer.make_directory("a/b/c")
    writer.make_directory("a/b/c")
    writer.make_directory("a")
    assert tree(top) == ["a", "a/b", "a/b/c"]


def test_removing(writer, top, outside):
    put(writer, "a/b")
    writer.write_link("a/l", os.fsencode(outside))
    assert writer.remove("a/b")
    assert not writer.remove("a/b")
    assert not writer.remove("missing/b")
    assert writer.remove("a/l")
    assert tree(top) == ["a"]
    assert not writer.remove_directory("missing/a")
    assert not writer.remove_directory("missing")
    assert writer.remove_directory("a")
    assert tree(top) == []


def test_pruning_keeps_what_is_not_empty_and_the_top(writer, top):
    paths = ["a/b/c/one", "a/b/two", "x/y/three", "four"]
    for path in paths:
        put(writer, path)
    (top / "x" / "mine").touch()
    for path in paths:
        writer.remove(path)
    assert writer.prune(paths) == 4
    assert tree(top) == ["x", "x/mine"]
    assert writer.prune(paths) == 0
    assert writer.prune(["x/mine"]) == 0
    assert not writer.remove_directory("x")


def test_a_pruned_directory_can_be_written_again(writer, top):
    """No descriptor of the removed directory may be used."""
    for _ in range(3):
        put(writer, "a/b/c")
        writer.remove("a/b/c")
        writer.prune(["a/b/c"])
    put(writer, "a/b/c")
    writer.remove("a/b/c")
    writer.remove_directory("a/b")
    put(writer, "a/b")
    assert tree(top) == ["a", "a/b"]


def test_a_missing_file_has_no_executable_bit(writer):
    for path in ("missing", "a/missing"):
        with pytest.raises(NotFoundError, match="missing"):
            writer.set_executable(path, True)


# -- many and deep ---------------------------------------------------------------------------------


def test_few_directories_stay_open(writer, top):
    before = len(os.listdir("/dev/fd"))
    for number in range(300):
        put(writer, f"d{number % 150}/e/{number}")
        assert len(os.listdir("/dev/fd")) <= before + 64
    assert len(tree(top)) == 600


def test_a_path_of_two_thousand_directories(writer, top):
    """Deeper than the interpreter recurses and than directories stay open."""
    path = "/".join(["d"] * 2000) + "/file"
    put(writer, path, b"deep")
    assert writer.set_executable(path, True).st_size == 4
    assert writer.remove(path)
    assert writer.prune([path]) == 2000
    assert tree(top) == []


def test_all_is_closed_at_the_end(top, staging):
    before = len(os.listdir("/dev/fd"))
    with Writer(top, staging) as writer:
        put(writer, "a/b/c")
        with pytest.raises(CorruptionError):
            writer.write_file("a/b/d", [b"x"], executable=False, size=2)
        with pytest.raises(ConflictError):
            put(writer, "a/b")
        with pytest.raises(ConflictError):
            put(writer, "a/b/c/d")
    assert len(os.listdir("/dev/fd")) == before


# -- hostile workspaces ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["", ".", "..", "../x", "a/../../x", "/etc/x", "a//b", ".git/config", "a\0b", "\udcff"]
)
def test_hostile_paths_are_refused_by_all(operation, path, writer, top):
    with pytest.raises(FormatError):
        operation(writer, path)
    assert tree(top) == []


BLOCKERS = {
    "a link to a directory": lambda path, outside: path.symlink_to(outside),
    "a relative link": lambda path, _: path.symlink_to("../outside"),
    "a dangling link": lambda path, outside: path.symlink_to(outside / "missing"),
    "a link to itself": lambda path, _: path.symlink_to(path),
    "a link to a file": lambda path, outside: path.symlink_to(outside / "precious"),
    "a file": lambda path, _: path.write_bytes(b""),
    "a named pipe": lambda path, _: os.mkfifo(path),
}


@pytest.mark.timeout(60)
@pytest.mark.parametrize("blocker", BLOCKERS)
@pytest.mark.parametrize("where", ["d", "sub/d"])
def test_what_is_no_directory_is_never_gone_through(
    operation, blocker, where, writer, top, outside
):
    (top / "sub").mkdir()
    BLOCKERS[blocker](top / where, outside)
    before = os.lstat(top / where)
    for path in (f"{where}/precious", f"{where}/new/file"):
        with pytest.raises(ConflictError, match="not a directory") as caught:
            operation(writer, path)
        assert caught.value.paths == (where,)
        assert repr(where) in str(caught.value)
        assert caught.value.hint
    assert os.lstat(top / where) == before


@pytest.mark.parametrize("blocker", BLOCKERS)
def test_a_directory_is_not_made_in_place_of_something(blocker, writer, top, outside):
    BLOCKERS[blocker](top / "d", outside)
    with pytest.raises(ConflictError):
        writer.make_directory("d")
    assert not writer.remove_directory("d")
    assert os.path.lexists(top / "d")


@pytest.mark.timeout(60)
@pytest.mark.parametrize("blocker", BLOCKERS)
@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_has_the_name_is_replaced_not_written_through(blocker, kind, writer, top, outside):
    BLOCKERS[blocker](top / "d", outside)
    if kind == "file":
        put(writer, "d", b"new")
        assert stat.S_ISREG(os.lstat(top / "d").st_mode)
        assert (top / "d").read_bytes() == b"new"
    else:
        writer.write_link("d", b"new")
        assert os.readlink(top / "d") == "new"


@pytest.mark.timeout(60)
@pytest.mark.parametrize("blocker", BLOCKERS)
def test_only_files_get_the_executable_bit(blocker, writer, top, outside):
    BLOCKERS[blocker](top / "d", outside)
    if blocker == "a file":
        writer.set_executable("d", True)
    else:
        with pytest.raises(ConflictError):
            writer.set_executable("d", True)
    (top / "e").mkdir()
    with pytest.raises(ConflictError):
        writer.set_executable("e", True)


def test_other_hard_links_keep_their_bytes(writer, top, outside):
    os.link(outside / "precious", top / "a")
    put(writer, "a", b"new", executable=True)
    assert (top / "a").read_bytes() == b"new"
    assert (outside / "precious").stat().st_nlink == 1


@pytest.mark.parametrize("content", [[], ["file"]])
@pytest.mark.parametrize("name", ["write_file", "write_link", "remove"])
def test_a_directory_is_never_replaced(name, content, writer, top):
    (top / "d").mkdir()
    for each in content:
        (top / "d" / each).touch()
    with pytest.raises(ConflictError, match="is a directory") as caught:
        OPERATIONS[name](writer, "d")
    assert caught.value.paths == ("d",)
    assert os.listdir(top / "d") == content


def test_the_top_may_be_a_link(tmp_path, top, staging):
    """The user put the data on a larger disk; below it links are refused as ever."""
    (tmp_path / "link").symlink_to("top")
    with Writer(tmp_path / "link", staging) as writer:
        put(writer, "a/b")
    assert tree(top) == ["a", "a/b"]


def test_a_missing_top_is_an_error(tmp_path):
    with (
        pytest.raises(StorageError, match="missing"),
        Writer(tmp_path / "missing", tmp_path / "staging"),
    ):
        pass


def test_a_staging_directory_is_not_reached_through_a_link(top, outside):
    (top / "tmp").symlink_to(outside)
    before = len(os.listdir("/dev/fd"))
    with pytest.raises(ConflictError, match="tmp"), Writer(top, top / "tmp"):
        pass
    assert len(os.listdir("/dev/fd")) == before


# -- while it writes -------------------------------------------------------------------------------


def test_a_directory_swapped_for_a_link(tmp_path, top, staging, outside):
    """The file goes into the directory that was opened, and the swap is told at the end."""
    leaving = contextlib.ExitStack()
    writer = leaving.enter_context(Writer(top, staging))
    put(writer, "a/one")
    (top / "a").rename(tmp_path / "moved")
    (top / "a").symlink_to(outside)
    put(writer, "a/two")
    put(writer, "a/sub/three")
    with pytest.raises(ConflictError, match="'a'") as caught:
        leaving.close()
    assert caught.value.paths == ("a", "a/sub")
    assert sorted(os.listdir(tmp_path / "moved")) == ["one", "sub", "two"]


def test_a_directory_swapped_while_the_bytes_come(tmp_path, top, staging, outside):
    def parts():
        yield b"da"
        (top / "a" / "b").rename(tmp_path / "moved")
        (top / "a" / "b").symlink_to(outside)
        yield b"ta"

    with pytest.raises(ConflictError, match="'a/b'"), Writer(top, staging) as writer:
        writer.write_file("a/b/file", parts(), executable=False, size=4)
    assert (tmp_path / "moved" / "file").read_bytes() == b"data"


def test_a_swap_is_told_also_when_the_directory_was_closed_long_ago(tmp_path, top, staging):
    leaving = contextlib.ExitStack()
    writer = leaving.enter_context(Writer(top, staging))
    put(writer, "first/file")
    (top / "first").rename(tmp_path / "moved")
    for number in range(100):
        put(writer, f"{number}/file")
    (tmp_path / "moved").rename(top / "first")
    with pytest.raises(ConflictError, match="'first'"):
        leaving.close()


def test_a_failure_is_told_rather_than_a_swap(tmp_path, top, staging):
    leaving = contextlib.ExitStack()
    writer = leaving.enter_context(Writer(top, staging))
    put(writer, "a/one")
    (top / "a").rename(tmp_path / "moved")
    with pytest.raises(CorruptionError), leaving:
        writer.write_file("b", [], executable=False, size=1)


def test_a_directory_that_was_only_looked_into_may_go(top, staging):
    with Writer(top, staging) as writer:
        writer.make_directory("a")
        writer.remove("a/missing")
        (top / "a").rmdir()


def test_a_directory_removed_meanwhile_is_an_error(top, staging):
    leaving = contextlib.ExitStack()
    writer = leaving.enter_context(Writer(top, staging))
    put(writer, "a/one")
    shutil.rmtree(top / "a")
    with pytest.raises(StorageError, match="a/two"):
        put(writer, "a/two")
    with pytest.raises(ConflictError, match="'a'"):
        leaving.close()


@pytest.mark.parametrize("how", ["replaced", "changed", "touched"])
def test_a_file_changed_at_the_same_moment_is_noticed(writer, top, monkeypatch, how):
    rename = os.rename

    def racing(*args, **kwargs):
        rename(*args, **kwargs)
        if how == "replaced":
            (top / "other").write_bytes(b"data")
            rename(top / "other", top / "a")
        elif how == "changed":
            (top / "a").write_bytes(b"longer than before")
        else:
            os.utime(top / "a", ns=(0, 0))

    monkeypatch.setattr(os, "rename", racing)
    with pytest.raises(ConflictError, match="another program") as caught:
        put(writer, "a")
    assert caught.value.paths == ("a",)


@pytest.mark.parametrize(
    ("parts", "said"),
    [
        ([], "only 0 came"),
        ([b"abc"], "only 3 came"),
        ([b"abcde"], "more came"),
        ([b"abcd", b"e"], "more came"),
    ],
)
def test_the_byte_count_is_checked(writer, top, parts, said):
    put(writer, "a", b"old")
    with pytest.raises(CorruptionError, match=said) as caught:
        writer.write_file("a", parts, executable=False, size=4)
    assert "'a'" in str(caught.value)
    assert (top / "a").read_bytes() == b"old"


@pytest.mark.parametrize(
    "error", [StorageError("the pack cannot be read"), CorruptionError("bad"), KeyboardInterrupt()]
)
def test_what_the_bytes_raise_goes_through(writer, top, staging, error):
    def parts():
        yield b"data"
        raise error

    put(writer, "a", b"old")
    with pytest.raises(type(error)) as caught:
        writer.write_file("a", parts(), executable=False, size=10)
    assert caught.value is error
    assert (top / "a").read_bytes() == b"old"
    (mine,) = os.listdir(staging)
    assert os.listdir(staging / mine) == ["lock"]


@pytest.mark.parametrize("call", ["write", "close", "rename"])
def test_a_full_disk(writer, top, staging, monkeypatch, call):
    put(writer, "a", b"old")
    put(writer, "keeps the directory open")
    real = getattr(os, call)

    def full(*args, **kwargs):
        if call == "close":
            real(*args)
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, full)
        with pytest.raises(StorageError, match=os.strerror(errno.ENOSPC)) as caught:
            put(writer, "a", b"new")
    assert not caught.value.retryable
    assert caught.value.hint
    assert (top / "a").read_bytes() == b"old"
    (mine,) = os.listdir(staging)
    assert os.listdir(staging / mine) == ["lock"]


@pytest.fixture
def unprivileged():
    """A directory of a user whom permissions bind, whoever runs the tests."""
    with tempfile.TemporaryDirectory() as directory:
        if os.geteuid() != 0:
            yield Path(directory)
            return
        os.chown(directory, 65534, 65534)
        os.setegid(65534)
        os.seteuid(65534)
        try:
            yield Path(directory)
        finally:
            os.seteuid(0)
            os.setegid(0)


def test_a_read_only_directory(unprivileged):
    top = unprivileged / "top"
    (top / "closed").mkdir(parents=True)
    (top / "closed" / "old").write_bytes(b"old")
    (top / "closed").chmod(0o555)
    with Writer(top, top / ".datastore" / "tmp") as writer:
        put(writer, "open/a")
        for name in ("write_file", "write_link", "remove"):
            with pytest.raises(StorageError, match="closed/old") as caught:
                OPERATIONS[name](writer, "closed/old")
            assert os.strerror(errno.EACCES) in str(caught.value)
            assert "permissions" in caught.value.hint
            assert not caught.value.retryable
        with pytest.raises(StorageError, match="closed/new"):
            put(writer, "closed/new/file")
        with pytest.raises(StorageError, match="closed/new"):
            writer.make_directory("closed/new")
    (top / "closed").chmod(0o755)
    assert tree(top) == ["closed", "closed/old", "open", "open/a"]
    assert (top / "closed" / "old").read_bytes() == b"old"


def test_a_directory_that_may_not_be_entered(unprivileged):
    top = unprivileged / "top"
    (top / "closed" / "in").mkdir(parents=True)
    (top / "closed").chmod(0)
    with Writer(top, top / ".datastore" / "tmp") as writer:
        for use in OPERATIONS.values():
            with pytest.raises(StorageError, match="closed"):
                use(writer, "closed/in/file")
    (top / "closed").chmod(0o755)


# -- another filesystem for staging ----------------------------------------------------------------


@pytest.fixture(params=["real", "simulated"])
def apart(request, tmp_path, monkeypatch):
    """A staging directory from which nothing can be renamed into the workspace."""
    if request.param == "simulated":
        rename = os.rename

        def refuse(src, dst, *, src_dir_fd=None, dst_dir_fd=None):
            if src_dir_fd != dst_dir_fd:
                raise OSError(errno.EXDEV, os.strerror(errno.EXDEV))
            rename(src, dst, src_dir_fd=src_dir_fd, dst_dir_fd=dst_dir_fd)

        monkeypatch.setattr(os, "rename", refuse)
        yield tmp_path / "staging"
        return
    here = tmp_path.stat().st_dev
    for place in ("/dev/shm", "/run/user", "/var/tmp", tempfile.gettempdir()):
        if os.path.isdir(place) and os.stat(place).st_dev != here and os.access(place, os.W_OK):
            with tempfile.TemporaryDirectory(dir=place) as directory:
                yield Path(directory)
            return
    pytest.skip("there is only one filesystem here")


def test_files_and_links_get_there(top, apart):
    large = os.urandom(3_000_000)
    with Writer(top, apart) as writer:
        writer.write_file("a/b", iter([b"da", b"ta"]), executable=True, size=4)
        put(writer, "a/large", large)
        put(writer, "c/large", large)
        put(writer, "c/b", b"old")
        assert put(writer, "c/b", b"new") == os.lstat(top / "c" / "b")
        writer.write_link("a/l", b"b")
        writer.write_link("l/l/l", b"b")
        put(writer, "top", executable=True)
        (mine,) = os.listdir(apart)
        assert os.listdir(apart / mine) == ["lock"]
    assert tree(top) == [
        "a",
        "a/b",
        "a/l",
        "a/large",
        "c",
        "c/b",
        "c/large",
        "l",
        "l/l",
        "l/l/l",
        "top",
    ]
    assert (top / "a" / "b").read_bytes() == b"data"
    assert (top / "a" / "b").stat().st_mode & 0o100
    assert (top / "a" / "large").read_bytes() == large
    assert (top / "c" / "large").read_bytes() == large
    assert (top / "c" / "b").read_bytes() == b"new"
    assert os.readlink(top / "l" / "l" / "l") == "b"


def test_failures_leave_nothing_beside(top, apart):
    with Writer(top, apart) as writer:
        put(writer, "a/b", b"old")
        (top / "a" / "d").mkdir()
        for _ in range(2):
            with pytest.raises(CorruptionError):
                writer.write_file("a/b", [b"xy"], executable=False, size=1)
            with pytest.raises(ConflictError):
                put(writer, "a/d")
            with pytest.raises(ConflictError):
                writer.write_link("a/d", b"x")
            with pytest.raises(ConflictError):
                put(writer, "a/b/x")
    assert tree(top) == ["a", "a/b", "a/d"]
    assert (top / "a" / "b").read_bytes() == b"old"


def test_what_the_dead_left_beside_is_removed(top, apart):
    dead = f"{TEMPORARY_PREFIX}99-{'0' * 16}-1"
    alien = f"{TEMPORARY_PREFIX}notes"
    (top / "a").mkdir()
    (top / "a" / dead).touch()
    (top / "a" / alien).touch()
    with Writer(top, apart) as other:
        put(other, "b/file")
        (name,) = os.listdir(apart)
        living = f"{TEMPORARY_PREFIX}{name}-1"
        (top / "a" / living).touch()
        with Writer(top, apart) as writer:
            put(writer, "a/file")
        assert sorted(os.listdir(top / "a")) == sorted([alien, living, "file"])


# -- kills and company -----------------------------------------------------------------------------


def test_kill_9_leaves_the_old_file_and_the_next_writer_sweeps(top, staging):
    text = """
        import os, signal, sys
        from pathlib import Path
        from datastore.workspace.writer import Writer
        def parts():
            yield b"new"
            os.kill(os.getpid(), signal.SIGKILL)
        with Writer(Path(sys.argv[1]), Path(sys.argv[2])) as writer:
            writer.write_file("done", [b"done"], executable=False, size=4)
            writer.write_file("a", parts(), executable=False, size=6)
    """
    (top / "a").write_bytes(b"old")
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(text), str(top), str(staging)],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    assert (top / "a").read_bytes() == b"old"
    assert (top / "done").read_bytes() == b"done"
    (dead,) = os.listdir(staging)
    assert sorted(os.listdir(staging / dead)) == ["2", "lock"]
    with Writer(top, staging) as writer:
        assert dead not in os.listdir(staging)
        put(writer, "a", b"new")
    assert os.listdir(staging) == []


def test_writers_side_by_side(top, staging):
    """The sweep of the second must not take the file that the first is writing."""

    def parts():
        yield b"da"
        with Writer(top, staging) as second:
            assert sweep_staging(staging) == 0
            put(second, "b/two")
        yield b"ta"

    with Writer(top, staging) as first:
        first.write_file("b/one", parts(), executable=False, size=4)
    assert tree(top) == ["b", "b/one", "b/two"]
    assert os.listdir(staging) == []


def test_one_writer_after_the_other(top, staging):
    writer = Writer(top, staging)
    for _ in range(2):
        with writer:
            put(writer, "a/b")
    assert tree(top) == ["a", "a/b"]
