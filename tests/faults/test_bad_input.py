"""Files, names and pointers that are not as they should be: refused by name, or kept exactly."""

from __future__ import annotations

import os
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
import unicodedata
from functools import partial

import pytest

from datastore.errors import (
    ConflictError,
    DatastoreError,
    FormatError,
    NotFoundError,
    StorageError,
    UsageError,
)
from datastore.trees import files, prolly
from datastore.workspace import ingest
from datastore.workspace.planning import check_plan, make_plan
from datastore.workspace.status import examine, pointer_deltas
from tests.faults.conftest import fill
from tests.faults.driver import SOURCE

E_COMPOSED, E_DECOMPOSED = "caf\u00e9.txt", "cafe\u0301.txt"


@pytest.fixture
def repository(empty):
    with empty.open() as opened:
        yield opened


def refused(repository, kind, *words: str, path: str = "images") -> DatastoreError:
    """`add` refuses, in these words, and records nothing."""
    before = sorted(repository.top.glob("*.ds"))
    with pytest.raises(kind) as caught:
        repository.add(path)
    for word in words:
        assert word in str(caught.value)
    assert caught.value.hint
    assert sorted(repository.top.glob("*.ds")) == before
    return caught.value


def comes_back(repository, project, *datasets: str) -> None:
    """What was added is restored exactly from nothing."""
    before = project.contents(*datasets)
    for dataset in datasets or ("images",):
        subprocess.run(["rm", "-rf", str(project.top / dataset)], check=True)
    repository.checkout()
    assert project.contents(*datasets) == before
    assert repository.status().clean


# -- files that change ---------------------------------------------------------------------------

APPENDING = """
import sys
with open(sys.argv[1], "ab", buffering=0) as file:
    print("ready", flush=True)
    while True:
        file.write(b"one more line\\n")
"""


def test_a_file_that_somebody_appends_to(empty, repository):
    """Refused, unless a read fell between two writes: then what was stored is what was there."""
    empty.write("images/quiet.txt", b"quiet")
    path = empty.write("images/busy.log", b"\0" * 500_000)
    writer = subprocess.Popen([sys.executable, "-c", APPENDING, str(path)], stdout=subprocess.PIPE)
    try:
        writer.stdout.readline()
        for _ in range(3):
            try:
                repository.add("images")
            except ConflictError as error:
                assert "images/busy.log: it keeps changing" in str(error)
                assert "quiet.txt" not in str(error)
                assert not (empty.top / "images.ds").exists()
                break
            assert path.read_bytes().startswith(repository.read("images/busy.log"))
            (empty.top / "images.ds").unlink()
    finally:
        writer.kill()
        writer.wait()
        writer.stdout.close()
    repository.add("images")
    assert repository.read("images/busy.log") == path.read_bytes()


class Meddler:
    """Changes a file after each of the first so many reads of it."""

    def __init__(self, monkeypatch, path, times: int, change) -> None:
        self.left = times
        self._inode = path.stat().st_ino
        self._change = change
        for name in ("read", "readv"):
            monkeypatch.setattr(os, name, self._wrap(getattr(os, name)))

    def _wrap(self, real):
        def read(descriptor, *arguments):
            found = real(descriptor, *arguments)
            if self.left and os.fstat(descriptor).st_ino == self._inode:
                self.left -= 1
                self._change()
            return found

        return read


SIZES = [0, 10, 100_000, 131_072, 400_000, 6_000_000]


@pytest.mark.parametrize("size", SIZES)
def test_a_file_that_changes_at_every_read(empty, repository, monkeypatch, size):
    empty.write("images/quiet.txt", b"quiet")
    path = empty.write("images/busy.log", b"\0" * size)

    def append():
        with path.open("ab") as file:
            file.write(b"one more line\n")

    Meddler(monkeypatch, path, 1_000_000, append)
    error = refused(repository, ConflictError, "images/busy.log", "keeps changing")
    assert "quiet.txt" not in str(error)
    assert "nothing was recorded" in error.hint
    monkeypatch.undo()
    repository.add("images")
    assert repository.read("images/busy.log") == path.read_bytes()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("times", [1, 2])
def test_a_file_that_changes_and_then_stops_is_read_again(
    empty, repository, monkeypatch, size, times
):
    path = empty.write("images/once.bin", b"a" * size)
    meddler = Meddler(
        monkeypatch, path, times, lambda: path.write_bytes(b"%d" % meddler.left * size)
    )
    repository.add("images")
    assert not meddler.left
    assert repository.read("images/once.bin") == path.read_bytes()
    assert repository.status().clean


def test_a_file_that_grows_between_the_look_and_the_read(empty, repository, monkeypatch):
    path = empty.write("images/grows.txt", b"short")
    real = ingest.Ingester._content

    def content(self, descriptor, row):
        path.write_bytes(b"a good deal longer")
        return real(self, descriptor, row)

    monkeypatch.setattr(ingest.Ingester, "_content", content)
    repository.add("images")
    assert repository.read("images/grows.txt") == b"a good deal longer"


@pytest.mark.parametrize("becomes", ["nothing", "a fifo", "a directory", "a link"])
def test_a_file_that_goes_while_it_is_to_be_read(empty, repository, monkeypatch, becomes):
    path = empty.write("images/goes.txt", b"x")
    empty.write("images/stays.txt", b"y")
    real = ingest.Ingester._content

    def content(self, descriptor, row):
        if row.name == "goes.txt":
            path.unlink(missing_ok=True)
            if becomes == "a fifo":
                os.mkfifo(path)
            elif becomes == "a directory":
                path.mkdir()
            elif becomes == "a link":
                path.symlink_to("stays.txt")
        return real(self, descriptor, row)

    monkeypatch.setattr(ingest.Ingester, "_content", content)
    error = refused(repository, (ConflictError, StorageError), "images/goes.txt")
    assert "stays.txt" not in str(error)


def test_a_file_that_goes_while_its_directory_is_listed(empty, repository, monkeypatch):
    for name in "abc":
        empty.write(f"images/{name}.txt", name.encode())
    real = os.scandir

    class Listing:
        def __init__(self, where):
            self._found = real(where)

        def __enter__(self):
            return iter(self)

        def __iter__(self):
            for entry in self._found:
                if entry.name == "b.txt":
                    (empty.top / "images/b.txt").unlink(missing_ok=True)
                yield entry

        def __exit__(self, *_):
            self._found.close()

    monkeypatch.setattr(os, "scandir", Listing)
    error = refused(repository, ConflictError, "images/b.txt", "vanished")
    assert error.paths == ("images/b.txt",)
    monkeypatch.undo()
    repository.add("images")
    assert [each.path for each in repository.ls("images")] == ["images/a.txt", "images/c.txt"]


def test_a_directory_that_goes_while_it_is_walked(empty, repository, monkeypatch):
    empty.write("images/a.txt", b"a")
    empty.write("images/sub/b.txt", b"b")
    real = os.open

    def opened(path, flags, *rest, **options):
        if path == "sub":
            subprocess.run(["rm", "-rf", str(empty.top / "images/sub")], check=True)
        return real(path, flags, *rest, **options)

    monkeypatch.setattr(os, "open", opened)
    refused(repository, ConflictError, "images/sub", "vanished")


def test_status_and_diff_meet_a_file_that_goes(project, monkeypatch):
    path = project.top / "images/dogs/edited.txt"
    path.write_bytes(b"edited again")
    real = ingest.Ingester._content

    def content(self, descriptor, row):
        if row.name == "edited.txt":
            path.unlink(missing_ok=True)
        return real(self, descriptor, row)

    monkeypatch.setattr(ingest.Ingester, "_content", content)
    with project.open() as repository, pytest.raises(ConflictError, match=r"edited\.txt"):
        repository.status()


@pytest.fixture
def nobody(make_project):
    """A repository, and the user to whom it belongs and who is not root, or None."""
    with tempfile.TemporaryDirectory() as directory:  # pytest's own are closed to others
        os.chmod(directory, 0o755)
        yield make_project(f"{directory}/project"), 65534 if os.geteuid() == 0 else None


def give_away(project, user: int | None) -> None:
    for base, directories, names in os.walk(project.top) if user is not None else ():
        for name in ("", *directories, *names):
            os.lchown(os.path.join(base, name), user, user)


@pytest.mark.parametrize("what", ["file", "directory"])
def test_what_cannot_be_read(nobody, driver, what):
    project, user = nobody
    project.write("images/good.txt", b"good")
    project.write("images/secret/one.txt", b"secret")
    target = project.top / ("images/secret/one.txt" if what == "file" else "images/secret")
    give_away(project, user)
    target.chmod(0)
    (done,) = driver.run(project.top, ("cli", "add", "images"), user=user).values
    target.chmod(0o755)
    assert done["code"] == 5, done
    assert str(target.relative_to(project.top)) in done["err"]
    assert "Permission denied" in done["err"]
    assert "good.txt" not in done["err"]
    assert "hint: check owner and permissions" in done["err"]
    assert not (project.top / "images.ds").exists()
    (done,) = driver.run(project.top, ("cli", "add", "images"), user=user).values
    assert done["code"] == 0, done


def test_what_cannot_be_written(nobody, driver):
    """A directory, the store, the pointer's directory: each refusal names what it is."""
    project, user = nobody
    project.write("data/a/file.txt", b"a")
    project.write("data/b/file.txt", b"b")
    give_away(project, user)
    run = partial(driver.run, project.top, user=user)
    assert run(("add", "data")).error is None
    for closed in ("data/a", ".datastore/tmp", ".git/datastore/packs", ".git/datastore/index"):
        (project.top / "data/a/file.txt").unlink()
        place = project.top / closed
        place.chmod(0o500)
        found = run(("checkout",))
        place.chmod(0o755)
        if found.error is not None:
            assert found.error.kind == "StorageError", found.error
            assert str(place) in found.error.message, found.error
            assert found.error.hint
        assert run(("checkout",)).error is None
        assert (project.top / "data/a/file.txt").read_bytes() == b"a"
    for closed in (".git/datastore/packs", ".git/datastore/tmp", ".git/datastore/index", "."):
        project.write("data/c.txt", closed.encode())
        give_away(project, user)
        places = [each for each in (project.top / closed).rglob("*") if each.is_dir()]
        places = [project.top / closed, *(places if closed.endswith("packs") else [])]
        for place in places:
            place.chmod(0o500)
        before = (project.top / "data.ds").read_bytes()
        found = run(("add", "data"))
        for place in places:
            place.chmod(0o755)
        if found.error is not None:
            assert found.error.kind == "StorageError", found.error
            assert str(places[0]) in found.error.message, found.error
            assert found.error.hint
            assert (project.top / "data.ds").read_bytes() == before
        assert run(("add", "data")).error is None
        (status,) = run(("status",)).values
        assert status == {"data": ["clean", ""]}


# -- names ---------------------------------------------------------------------------------------


def test_names_that_are_not_utf_8(empty, repository):
    empty.write("images/good.txt", b"good")
    for name in (b"bad-\xff.txt", b"worse-\xe9"):
        with open(os.fsencode(empty.top) + b"/images/" + name, "wb") as file:
            file.write(b"x")
    error = refused(repository, UsageError, "2 files", "UTF-8")
    assert "good.txt" not in str(error)
    assert "bad-" in str(error)
    assert "worse-" in str(error)
    str(error).encode()  # can be printed
    (done,) = [run(empty, "add", "images")]
    assert done.returncode == 2
    assert b"bad-\\377" in done.stderr or b"bad-\\xff" in done.stderr or b"udcff" in done.stderr


def test_a_directory_or_dataset_whose_name_is_not_utf_8(empty, repository):
    where = os.fsencode(empty.top) + b"/images/\xff"
    os.makedirs(where)
    refused(repository, UsageError, "UTF-8")
    os.rmdir(where)
    with open(os.fsencode(empty.top) + b"/\xffdata", "wb") as file:
        file.write(b"x")
    refused(repository, UsageError, "UTF-8", path=os.fsdecode(b"\xffdata"))


def run(project, *arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "datastore", "-C", str(project.top), *arguments],
        capture_output=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(SOURCE)},
    )


STRANGE = [
    "new\nline",
    "tab\t",
    "back\\slash",
    'quo"te',
    "-rf",
    "*",
    " ",
    "\u202eabc",
    "a:b",
    "\x1b[2J",
]


def test_strange_names_come_back_exactly(empty, repository):
    for name in STRANGE:
        empty.write(f"images/{name}", name.encode())
        empty.write(f"images/in {name}/file", name.encode())
    repository.add("images")
    comes_back(repository, empty)


def test_names_with_newlines_are_printed_quoted(empty, repository):
    empty.write("images/new\nline", b"x")
    repository.add("images")
    empty.write("images/new\nline", b"y!")
    listed = run(empty, "status").stdout
    assert b'"images/new\\nline"' in listed
    os.mkfifo(empty.top / "images/fifo\nhere\x1b[2J")
    done = run(empty, "add", "images")
    assert done.returncode == 2
    assert b"fifo\\nhere" in done.stderr
    assert b"fifo\nhere" not in done.stderr
    assert b"\x1b[2J" not in done.stderr


def test_two_names_that_are_one_in_nfc(empty, repository):
    empty.write(f"images/{E_COMPOSED}", b"one")
    empty.write(f"images/{E_DECOMPOSED}", b"two")
    error = refused(repository, UsageError, "NFC")
    assert repr(E_COMPOSED) in str(error) or E_COMPOSED in str(error)
    assert repr(E_DECOMPOSED) in str(error) or E_DECOMPOSED in str(error)


def test_two_directories_that_are_one_in_nfc(empty, repository):
    empty.write("images/\u00e9/a.txt", b"one")
    empty.write("images/e\u0301/b.txt", b"two")
    refused(repository, UsageError, "NFC")


def test_a_decomposed_name_alone_comes_back_as_spelled(empty, repository):
    empty.write(f"images/{E_DECOMPOSED}", b"one")
    empty.write("images/e\u0301/x.txt", b"two")
    repository.add("images")
    listed = [each.path for each in repository.ls("images", recursive=True)]
    assert listed == [unicodedata.normalize("NFC", path) for path in listed]
    comes_back(repository, empty)
    assert sorted(os.listdir(empty.top / "images")) == sorted([E_DECOMPOSED, "e\u0301"])
    assert repository.read(f"images/{E_COMPOSED}") == b"one"


def test_a_name_that_is_respelled(empty, repository):
    """Only the spelling changes: what is on disk is the other name, and both come back."""
    empty.write(f"images/{E_DECOMPOSED}", b"one")
    repository.add("images")
    empty.commit("v1")
    os.rename(empty.top / f"images/{E_DECOMPOSED}", empty.top / f"images/{E_COMPOSED}")
    repository.add("images")
    empty.commit("v2")
    for rev in ("v1", "v2", "v1"):
        repository.checkout(rev)
        assert empty.contents() == empty.versions[rev]


def test_names_that_differ_only_by_case(empty, repository):
    for name in ("Cat.jpg", "cat.jpg", "dogs/A", "Dogs/B"):
        empty.write(f"images/{name}", name.encode())
    repository.add("images")
    comes_back(repository, empty)
    workspace = repository._workspace
    dataset = workspace.dataset("images")
    subprocess.run(["rm", "-rf", str(dataset.top)], check=True)
    target = workspace.version("images")
    task = repository_task()
    examined = examine(dataset, task)
    deltas = pointer_deltas(dataset, target, examined)
    plan = make_plan(dataset, deltas, examined, [target])
    with pytest.raises(ConflictError) as caught:
        check_plan(dataset, plan, (True, False))
    assert "'Cat.jpg' and 'cat.jpg'" in str(caught.value)
    assert "'Dogs' and 'dogs'" in str(caught.value)
    assert not dataset.top.exists()
    check_plan(dataset, plan, (False, True))


def repository_task():
    from datastore.progress import SILENT

    return SILENT.task("", None, "")


def test_a_folding_file_system_refuses_beforehand(empty, repository, monkeypatch):
    for name in ("Cat.jpg", "cat.jpg"):
        empty.write(f"images/{name}", name.encode())
    repository.add("images")
    subprocess.run(["rm", "-rf", str(empty.top / "images")], check=True)
    monkeypatch.setattr("datastore.workspace.steps.probe_folding", lambda _: (True, True))
    with pytest.raises(ConflictError, match=r"cat\.jpg"):
        repository.checkout()
    assert not (empty.top / "images").exists()


def test_a_folding_file_system_and_a_file_that_is_there(empty, repository, monkeypatch):
    """The name that is in the way need not be written itself."""
    for name in ("Cat.jpg", "cat.jpg"):
        empty.write(f"images/{name}", name.encode())
    repository.add("images")
    (empty.top / "images/cat.jpg").unlink()
    monkeypatch.setattr("datastore.workspace.steps.probe_folding", lambda _: (True, True))
    with pytest.raises(ConflictError, match=r"cat\.jpg"):
        repository.checkout()
    assert os.listdir(empty.top / "images") == ["Cat.jpg"]


def test_a_long_name_and_deep_directories(empty, repository):
    empty.write("images/" + "n" * 255, b"long")
    empty.write("images/" + "\u00e9" * 127, b"long in bytes")
    deep = "images/" + "/".join(["d"] * 200)
    empty.write(f"{deep}/file.txt", b"deep")
    repository.add("images")
    comes_back(repository, empty)
    empty.write(f"{deep}/file.txt", b"deep down")
    repository.add(deep)
    assert repository.read(f"{deep}/file.txt") == b"deep down"


def test_directories_deeper_than_a_path_can_be(empty, repository):
    """More levels than Python has stack, than a process has descriptors, than a path has bytes."""
    os.makedirs(empty.top / "images")
    empty.write("images/a.txt", b"a")
    here = os.getcwd()
    try:
        os.chdir(empty.top / "images")
        for _ in range(3000):
            os.mkdir("d")
            os.chdir("d")
        with open("file.txt", "wb") as file:
            file.write(b"x")
    finally:
        os.chdir(here)
    try:
        with pytest.raises((UsageError, StorageError)) as caught:
            repository.add("images")
        assert "images/d/d" in str(caught.value)
        assert not (empty.top / "images.ds").exists()
    finally:
        subprocess.run(["rm", "-rf", str(empty.top / "images")], check=True)


# -- kinds of files ------------------------------------------------------------------------------


def test_links_are_kept_and_never_followed(empty, repository, tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.txt").write_bytes(b"not part of it")
    empty.write("images/real/a.txt", b"a")
    links = {
        "dangling": "no/such/file",
        "absolute": str(outside / "secret.txt"),
        "directory": "real",
        "out": "../../outside",
        "self": "self",
        "strange": "new\nline \\ \u00e9",
    }
    for name, target in links.items():
        os.symlink(target, empty.top / "images" / name)
    os.symlink(b"\xff\xfe", os.fsencode(empty.top / "images/bytes"))
    repository.add("images")
    kinds = {each.path: each.kind for each in repository.ls("images")}
    assert kinds == {
        **{f"images/{name}": "link" for name in [*links, "bytes"]},
        "images/real": "dir",
    }
    stored = b"".join(path.read_bytes() for path in empty.store.rglob("*.pack"))
    assert b"not part of it" not in stored
    comes_back(repository, empty)
    for name, target in links.items():
        assert os.readlink(empty.top / "images" / name) == target
    assert os.readlink(os.fsencode(empty.top / "images/bytes")) == b"\xff\xfe"
    with pytest.raises(UsageError):
        repository.open_file("images/absolute")
    with pytest.raises((UsageError, NotFoundError)):
        repository.add("images/directory/a.txt")
    with pytest.raises((UsageError, NotFoundError)):
        repository.add("images/out/secret.txt")


def test_a_link_that_takes_the_place_of_a_directory(empty, repository, tmp_path):
    """Edits through a link that somebody put there are not made elsewhere."""
    outside = tmp_path / "outside"
    outside.mkdir()
    empty.write("images/sub/a.txt", b"a")
    repository.add("images")
    empty.commit("v1")
    empty.write("images/sub/a.txt", b"b")
    repository.add("images")
    empty.commit("v2")
    subprocess.run(["rm", "-rf", str(empty.top / "images/sub")], check=True)
    (empty.top / "images/sub").symlink_to(outside)
    with pytest.raises(ConflictError, match="images"):
        repository.checkout("v1")
    assert os.listdir(outside) == []
    assert (empty.top / "images/sub").is_symlink()


@pytest.mark.parametrize("tracked", [False, True])
def test_a_link_in_place_of_a_dataset(empty, repository, tmp_path, tracked):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "a.txt").write_bytes(b"outside")
    if tracked:
        empty.write("images/a.txt", b"inside")
        repository.add("images")
        subprocess.run(["rm", "-rf", str(empty.top / "images")], check=True)
    (empty.top / "images").symlink_to(outside)
    refused(repository, UsageError, "images", "symbolic link")
    if tracked:
        with pytest.raises(ConflictError, match="images"):
            repository.checkout()
        assert (empty.top / "images").is_symlink()
        assert not repository.status().clean
        repository.checkout(force=True)
        assert not (empty.top / "images").is_symlink()
        assert repository.status().clean
    assert {each.name: each.read_bytes() for each in outside.iterdir()} == {"a.txt": b"outside"}


def test_special_files_are_refused_by_name(empty, repository):
    empty.write("images/good.txt", b"good")
    os.mkfifo(empty.top / "images/pipe")
    here = os.getcwd()
    with socket.socket(socket.AF_UNIX) as listening:
        try:
            os.chdir(empty.top / "images")  # the path of a socket must be short
            listening.bind("sock")
        finally:
            os.chdir(here)
        expected = ["images/pipe: a fifo", "images/sock: a socket"]
        if os.geteuid() == 0:
            os.mknod(empty.top / "images/device", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
            expected.append("images/device: a character device")
        error = refused(repository, UsageError, *expected)
    assert "good.txt" not in str(error)


def test_a_special_file_as_a_dataset(empty, repository):
    os.mkfifo(empty.top / "pipe")
    refused(repository, UsageError, "pipe", path="pipe")


def test_a_git_directory_inside(empty, repository):
    empty.write("images/a.txt", b"a")
    empty.write("images/sub/.git/HEAD", b"ref: refs/heads/main\n")
    refused(repository, UsageError, "images/sub/.git")


@pytest.mark.parametrize(
    "name", [".GIT", ".Git", "git~1", ".git ", ".git.", ".gi\u200ct", ".git::$DATA"]
)
def test_a_name_that_some_systems_take_for_git(empty, repository, name):
    """It could be added here and checked out nowhere, so it is refused where it can be renamed."""
    empty.write(f"images/{name}", b"a")
    refused(repository, UsageError, "images/")


def test_nothing_at_all(empty, repository):
    empty.write("images/empty.txt", b"")
    empty.write("images/sub/empty.txt", b"")
    (empty.top / "images/hollow/inner").mkdir(parents=True)
    (empty.top / "void").mkdir()
    empty.write("none.txt", b"")
    result = repository.add(["images", "void", "none.txt"])
    assert [(each.files, each.bytes) for each in result.pointers] == [(2, 0), (0, 0), (1, 0)]
    comes_back(repository, empty, "images", "void")
    (empty.top / "none.txt").unlink()
    repository.checkout()
    assert (empty.top / "none.txt").read_bytes() == b""
    assert repository.status().clean


def test_a_dataset_becomes_a_file_and_a_directory_again(empty, repository):
    empty.write("data/a.txt", b"a")
    empty.write("data/b/c.txt", b"c")
    repository.add("data")
    empty.commit("directory", "data")
    subprocess.run(["rm", "-rf", str(empty.top / "data")], check=True)
    empty.write("data", b"a file now")
    repository.add("data")
    empty.commit("file", "data")
    for rev in ("directory", "file", "directory", "file"):
        repository.checkout(rev)
        if rev == "file":
            assert (empty.top / "data").read_bytes() == b"a file now"
        else:
            assert empty.contents("data") == empty.versions["directory"]
        assert repository.status().clean


def test_a_file_becomes_a_directory_inside(empty, repository):
    empty.write("images/x", b"a file")
    empty.write("images/y/z", b"a file")
    repository.add("images")
    empty.commit("v1")
    (empty.top / "images/x").unlink()
    subprocess.run(["rm", "-rf", str(empty.top / "images/y")], check=True)
    empty.write("images/x/inner", b"deeper")
    (empty.top / "images/y").symlink_to("x")
    repository.add("images")
    empty.commit("v2")
    for rev in ("v1", "v2", "v1"):
        repository.checkout(rev)
        assert empty.contents() == empty.versions[rev]
        assert repository.status().clean


# -- pointers ------------------------------------------------------------------------------------


EDITS = {
    "datastore: 1": "datastore: 01",
    "kind: files": "kind: fils",
    "files: 12": "files: -1",
    "bytes: 3": "bytes: 3e5",
    "root: b3:": "root: b3:00",
    "root: ": "Root: ",
}


@pytest.fixture
def tracked(empty):
    empty.write("images/a.txt", b"a")
    empty.write("images/b.bin", bytes(300_000))
    with empty.open() as repository:
        repository.add("images")
    empty.commit("v1")
    return empty


def check_broken(project, kind, *words: str, heals: bool = True) -> None:
    """Every verb that needs the pointer says what is wrong with it; `add` makes a new one."""
    pointer = project.top / "images.ds"
    bad = pointer.read_bytes()
    with project.open() as repository:
        (status,) = repository.status().pointers
        assert status.state in {"broken", "conflict"}
        assert all(word in status.message for word in words), status.message
        before = project.contents()
        for verb in (
            repository.checkout,
            lambda: list(repository.ls("images")),
            lambda: repository.read("images/a.txt"),
            lambda: repository.add("images/a.txt"),
        ):
            with pytest.raises(kind) as caught:
                verb()
            assert all(word in str(caught.value) for word in words), str(caught.value)
            assert caught.value.hint
        assert project.contents() == before
        assert pointer.read_bytes() == bad
        assert repository.read("images/a.txt", rev="HEAD") == b"a"
        if heals:
            repository.add("images")
            assert repository.status().clean


LINES = ["datastore", "kind", "files", "bytes", "root"]


@pytest.mark.parametrize("field", LINES)
@pytest.mark.parametrize("value", ["", "0x1", "-1", "1 ", "'1'", "99999999999999999999", "~", "[]"])
def test_a_pointer_edited_by_hand(tracked, field, value):
    pointer = tracked.top / "images.ds"
    lines = pointer.read_text().splitlines()
    at = LINES.index(field)
    lines[at] = f"{field}: {value}"
    pointer.write_text("\n".join(lines) + "\n")
    with tracked.open() as repository, pytest.raises(FormatError, match=r"images\.ds"):
        repository.checkout()
    if value == "-1":
        check_broken(tracked, FormatError, "images.ds", f"line {at + 1}")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("kind: files\n", ""),
        ("kind: files\n", "kind: files\nkind: files\n"),
        ("datastore: 1\nkind: files\n", "kind: files\ndatastore: 1\n"),
        ("root:", "# why\nroot:"),
        ("root: b3:", "root: B3:"),
        ("root:", "\nroot:"),
        ("\nfiles:", "\n files:"),
        ("files: 2", "files: 2\u00a0"),
        ("files: 2", "files: 2\t"),
    ],
)
def test_a_pointer_of_another_shape(tracked, old, new):
    pointer = tracked.top / "images.ds"
    text = pointer.read_text()
    assert old in text
    pointer.write_text(text.replace(old, new))
    check_broken(tracked, FormatError, "images.ds", "line ")


@pytest.mark.parametrize("data", [b"", b"\n", b"\0" * 120, b"\xff" * 120, b"x" * 5000, b"<html>\n"])
def test_what_is_no_pointer(tracked, data):
    (tracked.top / "images.ds").write_bytes(data)
    check_broken(tracked, FormatError, "images.ds")


def test_a_pointer_with_crlf(tracked):
    pointer = tracked.top / "images.ds"
    pointer.write_bytes(pointer.read_bytes().replace(b"\n", b"\r\n"))
    check_broken(tracked, FormatError, "CRLF", "line 1")


def test_a_pointer_from_the_future(tracked):
    pointer = tracked.top / "images.ds"
    pointer.write_bytes(pointer.read_bytes().replace(b"datastore: 1", b"datastore: 2"))
    check_broken(tracked, FormatError, "newer")


def test_a_pointer_with_keys_of_the_future(tracked):
    pointer = tracked.top / "images.ds"
    pointer.write_bytes(pointer.read_bytes() + b"colour: blue\n")
    with tracked.open() as repository:
        assert repository.status().pointers[0].state == "clean"
        repository.checkout()
    assert b"colour: blue" in pointer.read_bytes()


def test_conflict_markers(tracked):
    pointer = tracked.top / "images.ds"
    text = pointer.read_text()
    pointer.write_text(f"<<<<<<< ours\n{text}=======\n{text}>>>>>>> theirs\n")
    check_broken(tracked, ConflictError, "conflict markers")


def test_a_root_that_is_no_root(tracked):
    """The digest of a chunk, of a tree's node, of a manifest page, of nothing at all."""
    pointer = tracked.top / "images.ds"
    good = pointer.read_text()
    with tracked.open() as repository:
        workspace = repository._workspace
        version = workspace.version("images")
        entry = files.decode_entry(prolly.get(version.tree, b"b.bin", workspace.store))
        wrong = {
            "chunk": (entry.content.chunks[0].digest, NotFoundError),
            "node": (version.tree.top, FormatError),
            "nothing": (b"\x11" * 32, NotFoundError),
        }
    for digest, kind in wrong.values():
        head = good.partition("root: ")[0]
        pointer.write_text(f"{head}root: b3:{digest.hex()}\n")
        check_broken(tracked, kind, "images", heals=False)
        with tracked.open() as repository:
            repository.add("images")
        assert pointer.read_text() == good


def test_counts_that_do_not_fit_the_root(tracked):
    """They are for people: the root decides, and the next `add` corrects them."""
    pointer = tracked.top / "images.ds"
    good = pointer.read_text()
    pointer.write_text(good.replace("files: 2", "files: 999"))
    with tracked.open() as repository:
        repository.checkout()
        assert repository.read("images/a.txt") == b"a"
        repository.add("images")
    assert pointer.read_text() == good


def test_a_pointer_that_is_no_file(tracked):
    pointer = tracked.top / "images.ds"
    data = pointer.read_bytes()
    pointer.unlink()
    pointer.mkdir()
    with tracked.open() as repository:
        assert repository.status().pointers == ()
        with pytest.raises(DatastoreError):
            repository.add("images")
    pointer.rmdir()
    pointer.write_bytes(data)
    with tracked.open() as repository:
        repository.add("images")
        assert repository.status().clean


def test_a_gitignore_that_is_a_link(empty, repository, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    elsewhere.write_bytes(b"mine\n")
    (empty.top / ".gitignore").symlink_to(elsewhere)
    empty.write("images/a.txt", b"a")
    refused(repository, UsageError, ".gitignore")
    assert elsewhere.read_bytes() == b"mine\n"


def test_threads_that_write_while_status_looks(project):
    """Whatever it says, it ends, and says the truth once the writer is done."""
    stop = threading.Event()

    def write():
        at = 0
        while not stop.is_set():
            project.write("images/dogs/edited.txt", b"x" * (at % 50))
            at += 1

    writer = threading.Thread(target=write)
    writer.start()
    try:
        with project.open() as repository:
            for _ in range(10):
                try:
                    repository.status()
                except ConflictError as error:
                    assert "edited.txt" in str(error)
                time.sleep(0.01)
    finally:
        stop.set()
        writer.join()
    with project.open() as repository:
        (status,) = repository.status().pointers
        assert status.modified == ("images/dogs/edited.txt",)
        fill(project, 2)
        assert repository.status().clean
