"""Settings: what is read, and that what cannot be is named."""

from __future__ import annotations

import pytest

from datastore import config
from datastore.config import Config, load, parse_size
from datastore.errors import FormatError, StorageError, UsageError
from datastore.repository import Repository
from datastore.settings.remotes import RemoteSettings

ID = "0123456789abcdef" * 2


@pytest.fixture
def files(tmp_path):
    """Where the two files would be."""
    return tmp_path / "config.yaml", tmp_path / "local.yaml"


def test_without_files(files):
    assert load(*files) == Config(1, None, {})


@pytest.mark.parametrize(
    "text", ["", "# only a comment\n", "format: 1\n", "---\nformat: 1\n", "{}\n"]
)
def test_the_shared_file(files, text):
    files[0].write_text(text)
    settings = load(*files)
    assert (settings.format, settings.store_path) == (1, None)


def test_what_init_writes(files):
    names = {config.new_repository() for _ in range(100)}
    assert len(names) == 100
    for name in names:
        files[0].write_text(config.project_text(name))
        assert load(*files).repository == name
    assert load(*files).sources == dict.fromkeys(["format", "repository"], str(files[0]))


@pytest.mark.parametrize("text", ["", "store:\n", "store: {}\n", "store: {path: }\n", "other: 1\n"])
def test_a_local_file_without_a_store(files, text):
    files[1].write_text(text)
    assert load(*files).store_path is None


def test_a_store_elsewhere(files, tmp_path):
    files[1].write_text(f"store:\n  path: {tmp_path / 'shared disk'}\n")
    settings = load(*files)
    assert settings.store_path == tmp_path / "shared disk"
    assert settings.sources == {"store": str(files[1])}


def test_unknown_keys_are_left_alone(files):
    files[0].write_text("format: 1\nanimals: {cats: 3}\n")
    files[1].write_text("colour: blue\n")
    settings = load(*files)
    assert settings.sources == {
        "format": str(files[0]),
        "animals": str(files[0]),
        "colour": str(files[1]),
    }


def test_a_newer_format(files):
    files[0].write_text("format: 2\n")
    with pytest.raises(
        FormatError, match=r"config\.yaml has format 2; this version knows 1"
    ) as caught:
        load(*files)
    assert "pip install --upgrade" in caught.value.hint
    assert caught.value.where == str(files[0])


@pytest.mark.parametrize("value", ["'1'", "1.0", "true", "one", "[1]", "0", "-1", "~"])
def test_a_format_that_is_no_number(files, value):
    files[0].write_text(f"format: {value}\n")
    with pytest.raises(FormatError, match="format must be a whole number") as caught:
        load(*files)
    assert "git checkout" in caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "store: {path: 5}\n",
        "store: {path: ''}\n",
        "store: {path: relative/path}\n",
        "store: {path: ~/packs}\n",
        "store: {path: [/a]}\n",
        "store: /a\n",
        "store: 5\n",
        "store: [/a]\n",
    ],
)
def test_a_store_path_that_is_none(files, text):
    files[1].write_text(text)
    with pytest.raises(
        FormatError, match=r"local\.yaml: store\.path must be the full path"
    ) as caught:
        load(*files)
    assert caught.value.hint
    assert caught.value.where == str(files[1])


# -- remotes --------------------------------------------------------------------------------------

SHARED = """\
format: 1
repository: 0123456789abcdef0123456789abcdef
remote: origin
remotes:
  origin:
    url: s3://bucket/path
    region: eu-central-1
  backup:
    url: ../backup
"""


def test_remotes(files):
    files[0].write_text(SHARED)
    settings = load(*files)
    assert settings.repository == ID
    assert settings.default_remote == "origin"
    assert settings.remotes == {
        "origin": RemoteSettings("origin", "s3://bucket/path", {"region": "eu-central-1"}),
        "backup": RemoteSettings("backup", "../backup", {}),
    }
    assert settings.remote() == settings.remotes["origin"]
    assert settings.remote("backup").url == "../backup"


def test_this_machine_adds_to_remotes(files):
    files[0].write_text(SHARED)
    files[1].write_text(
        "remote: mine\n"
        "remotes:\n"
        "  origin: {region: us-east-1, profile: work, port: 9000, anon: true}\n"
        "  mine: {url: /mnt/data}\n"
        "  gone: {profile: work}\n"  # a remote that somebody took out of the shared file
    )
    settings = load(*files)
    assert settings.remotes["origin"].url == "s3://bucket/path"
    assert settings.remotes["origin"].options == {
        "region": "us-east-1",
        "profile": "work",
        "port": "9000",
        "anon": "true",
    }
    assert list(settings.remotes) == ["origin", "backup", "mine"]
    assert settings.default_remote == "mine"


def test_the_first_remote_is_the_default(files):
    assert load(*files).default_remote == ""
    files[0].write_text(SHARED.replace("remote: origin\n", ""))
    assert load(*files).default_remote == "origin"


def test_a_remote_that_is_none(files):
    with pytest.raises(UsageError, match="this project has no remote") as caught:
        load(*files).remote()
    assert "datastore remote add" in caught.value.hint
    with pytest.raises(UsageError, match="no remote 'nas'"):
        load(*files).remote("nas")
    files[0].write_text(SHARED.replace("remote: origin", "remote: gone"))
    settings = load(*files)  # most commands need no remote
    with pytest.raises(UsageError, match="no remote 'gone'") as caught:
        settings.remote()
    assert caught.value.hint == "there is: origin, backup"


def test_where_a_relative_path_leads(tmp_path):
    assert RemoteSettings("a", "../b").located(tmp_path / "top") == str(tmp_path / "b")
    assert RemoteSettings("a", "/b").located(tmp_path) == "/b"
    assert RemoteSettings("a", "s3://b/../c").located(tmp_path) == "s3://b/../c"


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("remotes: [a]", "remotes"),
        ("remotes: text", "remotes"),
        ("remotes: {origin: s3://bucket}", "remotes.origin"),
        ("remotes: {a b: {url: s3://b}}", "remotes.a b"),
        ("remotes: {-x: {url: s3://b}}", "remotes.-x"),
        ("remotes: {1: {url: s3://b}}", "remotes.1"),
        ("remotes: {origin: {url: }}", "remotes.origin.url"),
        ("remotes: {origin: {url: [s3://b]}}", "remotes.origin.url"),
        ("remotes: {origin: {url: s3://b, region: [a]}}", "remotes.origin.region"),
        ("remotes: {origin: {url: s3://b, region: 2024-01-01}}", "remotes.origin.region"),
        ("remotes: {origin: {url: s3://b, re gion: a}}", "remotes.origin.re gion"),
        ("remotes: {origin: {url: bucket/path}}", "remotes.origin.url"),
        ("remotes: {origin: {url: s3://b, secret: abc}}", "remotes.origin.secret"),
        ("remotes: {origin: {url: 's3://a:b@c'}}", "remotes.origin.url"),
        ("remote: [a]", "remote"),
        ("remote: ''", "remote"),
    ],
)
def test_remotes_that_cannot_be(files, which, text, key):
    files[which].write_text(f"{text}\n")
    with pytest.raises(FormatError) as caught:
        load(*files)
    assert caught.value.message.startswith(f"{files[which]}: {key} ")
    assert caught.value.where == str(files[which])
    assert caught.value.hint


def test_a_shared_remote_without_a_url(files):
    files[0].write_text("remotes: {origin: {region: eu}}\n")
    with pytest.raises(FormatError, match=r"config\.yaml: remotes\.origin has no url"):
        load(*files)
    files[1].write_text("remotes: {origin: {url: s3://b}}\n")
    assert load(*files).remotes["origin"].options == {"region": "eu"}


@pytest.mark.parametrize("value", [ID[1:], ID.upper(), f"{ID}0", "12", "~", "[a]", "1" * 32])
def test_a_repository_that_is_none(files, value):
    files[0].write_text(f"repository: {value}\n")
    with pytest.raises(FormatError, match="repository must be 32 hexadecimal digits"):
        load(*files)


# -- this machine ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("50 GB", 50_000_000_000),
        ("20GiB", 20 * 1024**3),
        ("1.5 TB", 1_500_000_000_000),
        ("0.1 kB", 100),
        ("7", 7),
        ("7 B", 7),
        ("1 mib", 1024**2),
        ("50 G", None),
        ("GB", None),
        ("-1 GB", None),
        ("1e9", None),
        ("1,5 GB", None),
    ],
)
def test_sizes(text, count):
    assert parse_size(text) == count


def test_how_much_may_be_stored_and_moved(files):
    assert (load(*files).max_size, load(*files).jobs) == (None, 16)
    files[1].write_text("store: {max_size: 50 GB}\ntransfers: {jobs: 4}\n")
    settings = load(*files)
    assert (settings.max_size, settings.jobs, settings.store_path) == (50 * 10**9, 4, None)
    files[1].write_text("store: {max_size: 1000000}\ntransfers: {}\n")
    assert (load(*files).max_size, load(*files).jobs) == (1_000_000, 16)


@pytest.mark.parametrize(
    ("text", "key"),
    [
        ("store: {max_size: much}", "store.max_size"),
        ("store: {max_size: 0}", "store.max_size"),
        ("store: {max_size: -5}", "store.max_size"),
        ("store: {max_size: true}", "store.max_size"),
        ("store: {max_size: 1.5}", "store.max_size"),
        ("store: {max_size: [1]}", "store.max_size"),
        ("transfers: 5", "transfers.jobs"),
        ("transfers: {jobs: 0}", "transfers.jobs"),
        ("transfers: {jobs: 257}", "transfers.jobs"),
        ("transfers: {jobs: true}", "transfers.jobs"),
        ("transfers: {jobs: '5'}", "transfers.jobs"),
    ],
)
def test_numbers_that_are_none(files, text, key):
    files[1].write_text(f"{text}\n")
    with pytest.raises(FormatError) as caught:
        load(*files)
    assert caught.value.message.startswith(f"{files[1]}: {key} must be ")
    assert caught.value.hint


# -- files ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize(
    "data",
    [
        b"a: b: c\n",
        b"\tx\n",
        b"key: 'open\n",
        b"\x80abc",
        b"a: &a [*a, *b]\n",
        b"!!python/name:os.system\n",
    ],
)
def test_what_is_not_yaml(files, which, data):
    files[which].write_bytes(data)
    with pytest.raises(FormatError, match="is not YAML") as caught:
        load(*files)
    assert str(files[which]) in caught.value.message
    assert caught.value.where == str(files[which])


@pytest.mark.parametrize("which", [0, 1])
@pytest.mark.parametrize("text", ["- a\n- b\n", "just text\n", "5\n", "1: 2\n", "{[a]: 1}\n"])
def test_what_holds_no_keys_and_values(files, which, text):
    files[which].write_text(text)
    with pytest.raises(FormatError):
        load(*files)


def test_a_file_that_is_too_large(files):
    files[0].write_text("# " + "x" * 1024 * 1024)
    with pytest.raises(FormatError, match="larger than 1 MiB"):
        load(*files)


def test_a_file_that_cannot_be_read(files):
    files[0].mkdir()
    with pytest.raises(StorageError, match="cannot be read"):
        load(*files)


def test_a_repository_with_bad_settings(project):
    project.close()
    project.write({".datastore/config.yaml": "format: 7\n"})
    with pytest.raises(FormatError, match="has format 7"):
        Repository.open(project.top)
    project.write({".datastore/config.yaml": "format: 1\n"})
    (project.store / "local.yaml").write_text("store: {path: nowhere}\n")
    with pytest.raises(FormatError, match=r"store\.path"):
        Repository.open(project.top)


def test_a_store_on_another_disk(project, tmp_path):
    elsewhere = tmp_path / "elsewhere"
    (project.store / "local.yaml").write_text(f"store:\n  path: {elsewhere}\n")
    project.close()
    project.version("v1", {"a": "1"})
    assert list(elsewhere.glob("packs/*/*.pack"))
    assert not list(project.store.glob("packs/*/*.pack"))
    assert (project.store / "index").is_dir()
    assert project.repo.read("images/a") == b"1"
    assert project.repo.verify().ok
