"""Datasets that somebody made to do harm: they are refused, and nothing outside is touched.

The trees are built through the trees' own functions, which trust their caller: so does whoever
writes a program of his own. A clone gets them with the pointer, and `checkout` is asked to write
them.
"""

from __future__ import annotations

import os
import unicodedata
from pathlib import Path

import msgpack
import pytest

from datastore.errors import ConflictError, CorruptionError, DatastoreError, FormatError
from datastore.kernel.hashing import chunk_digest
from datastore.trees import files
from datastore.trees.files import Entry, Kind
from datastore.trees.manifest import ChunkRef, Content, encode_page
from datastore.workspace.pointer import Pointer
from tests.faults.conftest import Project

BODY = b"harm\n"


class Maker:
    """Stores hostile datasets and points ``data.ds`` at them."""

    def __init__(self, project: Project) -> None:
        self.project = project
        self.repository = project.open()
        self.store = self.repository._workspace.store

    def file(self, data: bytes = BODY, **fields) -> Entry:
        """Stores a chunk and returns a file of it."""
        with self.store.session() as session:
            digest = session.put_chunk(data)
            session.commit()
        return Entry(Kind.FILE, Content(len(data), digest))._replace(**fields)

    def page(self, data: bytes) -> bytes:
        """Stores a node or manifest page."""
        with self.store.session() as session:
            digest = session.put_node(data)
            session.commit()
        return digest

    def point(self, rows: dict[bytes, Entry | bytes], *, count: int | None = None) -> None:
        """Writes a pointer to a dataset of these rows."""
        encoded = {
            key: value if isinstance(value, bytes) else files.encode_entry(value)
            for key, value in rows.items()
        }
        with self.store.session() as session:
            tree = files.build(sorted(encoded.items()), session)
            version = files.seal(tree, len(rows) if count is None else count, 0, session)
            session.commit()
        self.point_to(version.root)

    def point_to(self, root: bytes) -> None:
        pointer = Pointer("files", 1, 1, root)
        (self.project.top / "data.ds").write_bytes(pointer.encode())


@pytest.fixture
def maker(empty, tmp_path):
    found = Maker(empty)
    yield found
    found.repository.close()


def snapshot(top: Path, *left_out: Path) -> dict[str, object]:
    """Notes everything below a directory: kinds, contents, where links lead."""
    found: dict[str, object] = {}
    for base, directories, names in os.walk(top):
        directories[:] = [name for name in directories if Path(base, name) not in left_out]
        for name in [*directories, *names]:
            path = Path(base, name)
            if path.is_symlink():
                found[str(path)] = os.readlink(path)
            elif path not in left_out:
                found[str(path)] = path.read_bytes() if path.is_file() else path.lstat().st_mode
    return found


def elsewhere(maker: Maker, tmp_path: Path) -> dict[str, object]:
    """Notes everything but the dataset, the store and the place where files are made."""
    top = maker.project.top
    return snapshot(tmp_path, top / "data", maker.project.store, top / ".datastore/tmp")


def check_refused(maker: Maker, tmp_path: Path, *words: str, kind=DatastoreError) -> DatastoreError:
    """Checkout refuses, names the path, and neither leaves the dataset nor half does it."""
    data = maker.project.top / "data"
    maker.repository.status()  # whatever it says, it ends
    before = elsewhere(maker, tmp_path)
    there = snapshot(data)
    for force in (False, True):
        with pytest.raises(kind) as caught:
            maker.repository.checkout(force=force)
        for word in words:
            assert word in str(caught.value), str(caught.value)
        assert caught.value.hint or isinstance(caught.value, ConflictError)
        str(caught.value).encode()
        assert elsewhere(maker, tmp_path) == before
        assert snapshot(data) == there
    return caught.value


HOSTILE = [
    b"../x",
    b"../../x",
    b"a/../../x",
    b"a/..",
    b"..",
    b"./x",
    b"a/./x",
    b"/abs",
    b"//abs",
    b"a//b",
    b"a/",
    b"",
    b".git",
    b".git/hooks/post-checkout",
    b"a/.git/hooks/x",
    b".GIT/x",
    b".Git",
    b".git./x",
    b".git /x",
    b"git~1/x",
    b"GIT~1",
    b".git::$INDEX_ALLOCATION/x",
    ".g\u200dit/config".encode(),
    "\uff0egit/config".encode(),
    b"C:\\x",
    b"c:/x",
    b"C:",
    b"\\x",
    b"..\\x",
    b"a\\..\\..\\x",
    b"\\\\server\\share",
    b"a\x00b",
    b"\xff",
    b"a/\xc3",
    b"\xed\xa0\x80",
    b"n" * 256,
    b"/".join([b"d" * 200] * 25),
]


@pytest.mark.parametrize("key", HOSTILE, ids=lambda key: repr(key[:40]))
def test_a_hostile_path(maker, tmp_path, key):
    maker.point({b"good.txt": maker.file(), key: maker.file()})
    error = check_refused(maker, tmp_path, kind=FormatError)
    assert not (maker.project.top / "data").exists()
    if key and len(key) < 100:
        shown = key.decode(errors="backslashreplace")
        assert shown in str(error) or repr(shown)[1:-1] in str(error) or repr(key) in str(error)


@pytest.mark.parametrize("key", HOSTILE, ids=lambda key: repr(key[:40]))
def test_a_hostile_path_as_link_directory_or_spelling(maker, tmp_path, key):
    for entry in (Entry(Kind.LINK, target=b"x"), Entry(Kind.DIRECTORY)):
        maker.point({key: entry})
        check_refused(maker, tmp_path, kind=FormatError)
    try:
        name = key.decode()
    except UnicodeDecodeError:
        return
    if name:
        maker.point({b"good.txt": maker.file(name=name)})
        check_refused(maker, tmp_path, kind=FormatError)


@pytest.mark.parametrize("key", HOSTILE, ids=lambda key: repr(key[:40]))
def test_a_hostile_path_can_be_looked_at(maker, tmp_path, key):
    """Listing, comparing and reading write nothing, and end."""
    maker.point({b"good.txt": maker.file(), key: maker.file()})
    before = elsewhere(maker, tmp_path)
    for verb in (
        lambda: list(maker.repository.ls("data", recursive=True)),
        maker.repository.status,
        maker.repository.verify,
        lambda: maker.repository.read("data/good.txt"),
    ):
        try:
            verb()
        except DatastoreError as error:
            str(error).encode()
    assert elsewhere(maker, tmp_path) == before
    assert not (maker.project.top / "data").exists()


def test_what_is_removed_is_in_the_dataset(maker, tmp_path):
    """A version that was on disk, by its own word, takes nothing along that lies elsewhere."""
    outside = tmp_path / "outside.txt"
    outside.write_bytes(BODY)
    maker.point({b"../../outside.txt": maker.file(), b"a": maker.file()})
    (maker.project.top / "data").mkdir()
    (maker.project.top / "data/a").write_bytes(BODY)
    maker.project.git("add", "--all", "--force")
    maker.project.git("commit", "--quiet", "--message", "hostile")
    maker.project.git("rm", "--quiet", "--cached", "data/a")
    maker.point({})
    for force in (False, True):
        with _Anything():
            maker.repository.checkout(force=force)
        assert outside.read_bytes() == BODY


class _Anything:
    """Lets a refusal pass: what counts is what is left."""

    def __enter__(self):
        return self

    def __exit__(self, kind, error, trace):
        return kind is not None and issubclass(kind, DatastoreError)


SAME_PLACE = {
    "a file and a file in it": ({b"a": "file", b"a/b": "file"}, b"a"),
    "a file and, not next to it, a file in it": (
        {b"a": "file", b"a-b": "file", b"a.txt": "file", b"a/b": "file"},
        b"a",
    ),
    "a link and a file through it": ({b"d": "link", b"d/x": "file"}, b"d"),
    "a link and a directory through it": ({b"d": "link", b"d/x": "dir"}, b"d"),
    "a link and a link through it": ({b"d": "link", b"d/x/y": "link"}, b"d"),
    "a directory that is not empty": ({b"d": "dir", b"d/x": "file"}, b"d"),
    "two spellings": (
        {"caf\u00e9".encode(): "file", "cafe\u0301".encode(): "file"},
        "cafe\u0301".encode(),
    ),
    "a decomposed key": ({"cafe\u0301".encode(): "file"}, "cafe\u0301".encode()),
    "a decomposed directory": ({"e\u0301/x".encode(): "file"}, "e\u0301/x".encode()),
    "itself and more": ({b".": "file", b"x": "file"}, b"x"),
}


@pytest.mark.parametrize("case", SAME_PLACE)
@pytest.mark.parametrize("there", [False, True])
def test_two_entries_for_one_place(maker, tmp_path, case, there):
    outside = tmp_path / "outside"
    outside.mkdir()
    rows, culprit = SAME_PLACE[case]
    made = {
        "file": maker.file(),
        "link": Entry(Kind.LINK, target=os.fsencode(outside)),
        "dir": Entry(Kind.DIRECTORY),
    }
    if there and case != "itself and more":
        # Part of it was checked out before, when it was part of a good version.
        first = min(rows)
        if unicodedata.normalize("NFC", first.decode()).encode() == first:
            maker.point({first: made[rows[first]], b"before": maker.file(b"kept")})
            maker.repository.checkout()
    maker.point({**{key: made[kind] for key, kind in rows.items()}, b"zz": maker.file()})
    error = check_refused(maker, tmp_path, kind=(FormatError, ConflictError))
    assert culprit.decode() in str(error) or repr(culprit.decode())[1:-1] in str(error)
    assert os.listdir(outside) == []
    assert not (maker.project.top / "data/zz").exists()


@pytest.mark.parametrize("name", ["other", "sub/good.txt", "good.txt ", "Good.txt", "good.tx"])
def test_a_spelling_that_is_not_of_the_key(maker, tmp_path, name):
    maker.point({b"good.txt": maker.file(name=name)})
    check_refused(maker, tmp_path, "good.txt", kind=FormatError)


def test_a_link_is_made_and_never_written_through(maker, tmp_path):
    """Version one brings the link, version two a file behind it; or the link was there before."""
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "x").write_bytes(b"mine")
    link = Entry(Kind.LINK, target=os.fsencode(outside))
    data = maker.project.top / "data"
    maker.point({b"d": link, b"keep": maker.file(b"keep")})
    maker.repository.checkout()
    assert os.readlink(data / "d") == str(outside)
    maker.point({b"d/x": maker.file(), b"keep": maker.file(b"keep")})
    maker.repository.checkout(force=True)
    assert (outside / "x").read_bytes() == b"mine"
    assert os.listdir(outside) == ["x"]
    if (data / "d").is_symlink():
        pytest.fail("the link should have made place for a directory")
    assert (data / "d/x").read_bytes() == BODY


@pytest.mark.parametrize("where", ["data", "data/d"])
def test_a_link_of_the_users_on_the_way(maker, tmp_path, where):
    outside = tmp_path / "outside"
    outside.mkdir()
    maker.point({b"d/x": maker.file(), b"e/y": maker.file()})
    (maker.project.top / where).parent.mkdir(exist_ok=True)
    (maker.project.top / where).symlink_to(outside)
    with pytest.raises(ConflictError) as caught:
        maker.repository.checkout()
    assert "data" in str(caught.value)
    assert os.listdir(outside) == []
    with _Anything():
        maker.repository.checkout(force=True)
    assert os.listdir(outside) == []


@pytest.mark.parametrize("target", [b"", b"a\0b", b"x" * 4096, b"x" * 5000])
def test_a_target_that_no_link_has(maker, tmp_path, target):
    maker.point({b"link": msgpack.packb([2, target])})
    check_refused(maker, tmp_path, "link", kind=FormatError)


# -- contents that are forged --------------------------------------------------------------------


def forged(maker: Maker) -> dict[str, Entry | bytes]:
    """Makes entries that promise what they do not hold."""
    small = maker.file()
    digest = small.content.digest
    chunks = tuple(ChunkRef(maker.file(bytes([at]) * 10).content.digest, 10) for at in range(20))
    page = maker.page(encode_page(1, chunks))
    short = maker.page(encode_page(1, [chunk._replace(size=9) for chunk in chunks]))
    deep = maker.page(encode_page(2, [ChunkRef(page, 199)]))
    wrong_depth = maker.page(encode_page(3, [ChunkRef(page, 200)]))
    garbage = maker.page(b"\xc1\xc1\xc1")
    pages = maker.page(msgpack.packb([1, [2**70 % 2**63] * 2, bytes(64)]))
    empty_page = maker.page(encode_page(1, []))
    many = maker.page(msgpack.packb([1, [1] * 200, chunks[0].digest * 200]))
    return {
        "size too small": small._replace(content=Content(3, digest)),
        "size too large": small._replace(content=Content(99, digest)),
        "size enormous": small._replace(content=Content(2**62, digest)),
        "nothing, with a digest": small._replace(content=Content(0, digest)),
        "something, empty": small._replace(content=Content(5, chunk_digest(b""))),
        "depth 200": msgpack.packb([0, 200, page, 200]),
        "depth 0": msgpack.packb([0, 200, page, 0]),
        "depth -1": msgpack.packb([0, 200, page, -1]),
        "depth as text": msgpack.packb([0, 200, page, "1"]),
        "chunk for a page": Entry(Kind.FILE, Content(5, digest, 1)),
        "page for a chunk": Entry(Kind.FILE, Content(5, page)),
        "page of another size": Entry(Kind.FILE, Content(201, page, 1)),
        "page of shorter chunks": Entry(Kind.FILE, Content(180, short, 1)),
        "page below of another size": Entry(Kind.FILE, Content(199, deep, 2)),
        "page of another depth": Entry(Kind.FILE, Content(200, wrong_depth, 2)),
        "page that is garbage": Entry(Kind.FILE, Content(5, garbage, 1)),
        "page of enormous sizes": Entry(Kind.FILE, Content(5, pages, 1)),
        "page without chunks": Entry(Kind.FILE, Content(5, empty_page, 1)),
        "page with too many chunks": Entry(Kind.FILE, Content(200, many, 1)),
        "inline, of another size": msgpack.packb(
            [0, 5, page, [10, 10], chunks[0].digest + chunks[1].digest]
        ),
        "inline, of shorter chunks": Entry(
            Kind.FILE,
            Content(10, page, 1, (chunks[0]._replace(size=5), chunks[1]._replace(size=5))),
        ),
        "inline, of one": msgpack.packb([0, 10, page, [10], chunks[0].digest]),
        "inline, digests cut": msgpack.packb([0, 20, page, [10, 10], chunks[0].digest + b"x"]),
        "inline, under a false digest": Entry(
            Kind.FILE, Content(20, b"\x07" * 32, 1, (chunks[0], chunks[1]))
        ),
        "no such chunk": Entry(Kind.FILE, Content(5, b"\x07" * 32)),
        "no such page": Entry(Kind.FILE, Content(5, b"\x07" * 32, 1)),
        "no such kind": msgpack.packb([4, 5, digest]),
        "kind as truth": msgpack.packb([True, 5, digest]),
        "a map": msgpack.packb({}),
        "a map with rows": msgpack.packb({"a": 1, "b": 2}),
        "a number": msgpack.packb(3),
        "text": msgpack.packb("abc"),
        "bytes": msgpack.packb(b"\x03"),
        "nothing at all": msgpack.packb(None),
        "an empty list": msgpack.packb([]),
        "no msgpack": b"\xc1",
        "no bytes": b"",
        "more than one": msgpack.packb([3]) + msgpack.packb([3]),
        "size as a float": msgpack.packb([0, 5.0, digest]),
        "size below nothing": msgpack.packb([0, -5, digest]),
        "digest cut": msgpack.packb([0, 5, digest[:31]]),
        "a row too many": msgpack.packb([0, 5, digest, 1, b"", b"", b""]),
        "not canonical": b"\xdc\x00\x03" + msgpack.packb([0, 5, digest])[1:],
        "nested": b"\x91" * 5000 + b"\x00",
        "a time stamp": msgpack.packb([0, msgpack.Timestamp(1), digest]),
    }


@pytest.fixture
def entries(maker):
    return forged(maker)


FORGED = """size too small|size too large|size enormous|nothing, with a digest|something, empty
depth 200|depth 0|depth -1|depth as text|chunk for a page|page for a chunk|page of another size
page of shorter chunks|page below of another size|page of another depth|page that is garbage
page of enormous sizes|page without chunks|page with too many chunks|inline, of another size
inline, of shorter chunks|inline, of one|inline, digests cut|inline, under a false digest
no such chunk|no such page|no such kind|kind as truth|a map|a map with rows|a number|text|bytes
nothing at all|an empty list|no msgpack|no bytes|more than one|size as a float|size below nothing
digest cut|a row too many|not canonical|nested|a time stamp""".replace("\n", "|").split("|")


def test_every_forgery_is_tried(entries):
    assert list(entries) == FORGED


@pytest.mark.parametrize("what", FORGED)
def test_a_forged_entry(maker, entries, tmp_path, what):
    maker.point({b"sub/forged.bin": entries[what]})
    error = check_refused(maker, tmp_path, "sub/forged.bin")
    assert isinstance(error, FormatError | CorruptionError | LookupError), error
    for verb in (
        lambda: maker.repository.read("data/sub/forged.bin"),
        maker.repository.verify,
        lambda: list(maker.repository.ls("data", recursive=True)),
        lambda: maker.repository.diff("HEAD"),
    ):
        with _Anything():
            verb()


def test_what_verify_says_of_a_forged_entry(maker, entries):
    """It is part of no proof of soundness."""
    harmless = {"nothing, with a digest"}
    for what, entry in entries.items():
        maker.point({b"sub/forged.bin": entry})
        found = maker.repository.verify()
        if found.ok and what not in harmless:
            with pytest.raises(DatastoreError):
                maker.repository.read("data/sub/forged.bin")
            pytest.fail(f"verify finds nothing wrong with {what}")
        if not found.ok:
            assert any("sub/forged.bin" in each.path for each in found.damaged), what


def record(**changes) -> bytes:
    """Encodes a root record with some fields changed."""
    fields = {
        "kind": "files",
        "format": 1,
        "chunker": "fastcdc2020-32k",
        "leaf": 128,
        "inner": 512,
        "level": 0,
        "rows": 1,
        "files": 1,
        "bytes": 5,
        "top": b"\0" * 32,
    }
    return msgpack.packb(list({**fields, **changes}.values()))


RECORDS = {
    "kind": {"kind": "labels"},
    "kind as a list": {"kind": []},
    "format": {"format": 2},
    "chunker": {"chunker": "rabin"},
    "chunker as a list": {"chunker": []},
    "chunker as a map": {"chunker": {}},
    "leaf 0": {"leaf": 0},
    "leaf enormous": {"leaf": 2**60},
    "inner 1": {"inner": 1},
    "level enormous": {"level": 2**40},
    "level wrong": {"level": 1},
    "level below nothing": {"level": -1},
    "rows wrong": {"rows": 7},
    "rows enormous": {"rows": 2**63},
    "rows as truth": {"rows": True},
    "files as text": {"files": "1"},
    "top cut": {"top": b"\0" * 31},
    "top missing": {"top": b"\x08" * 32},
}


@pytest.mark.parametrize("what", RECORDS)
def test_a_forged_root(maker, tmp_path, what):
    with maker.store.session() as session:
        tree = files.build([(b"a", files.encode_entry(maker.file()))], session)
        session.commit()
    fields = {"top": tree.top, **RECORDS[what]}
    maker.point_to(maker.page(record(**fields)))
    check_refused(maker, tmp_path)
    assert not maker.repository.verify().ok


@pytest.mark.parametrize(
    "data", [b"", b"\xc1", msgpack.packb({}), msgpack.packb([1] * 9), b"\x91" * 3000]
)
def test_a_root_that_is_garbage(maker, tmp_path, data):
    maker.point_to(maker.page(data))
    check_refused(maker, tmp_path, kind=FormatError)


def test_a_tree_that_names_itself_is_out_of_reach(maker, tmp_path):
    """A digest cannot name what holds it; the nearest is a level that never ends."""
    leaf = maker.page(msgpack.packb([0, [b"a"], [files.encode_entry(maker.file())]]))
    node = leaf
    for level in range(1, 200):
        node = maker.page(msgpack.packb([level, [b"a"], [node], [1]]))
    maker.point_to(maker.page(record(level=199, top=node)))
    check_refused(maker, tmp_path)


def test_rows_out_of_order(maker, tmp_path):
    entry = files.encode_entry(maker.file())
    for keys in ([b"b", b"a"], [b"a", b"a"]):
        top = maker.page(msgpack.packb([0, keys, [entry, entry]]))
        maker.point_to(maker.page(record(top=top, rows=2)))
        check_refused(maker, tmp_path, kind=FormatError)
