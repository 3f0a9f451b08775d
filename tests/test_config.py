"""Settings: what is read, and that what cannot be is named."""

from __future__ import annotations

import pytest

from datastore import config
from datastore.config import Config, load
from datastore.errors import FormatError, StorageError
from datastore.repository import Repository


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
    files[0].write_text(config.PROJECT_TEXT)
    assert load(*files).sources == {"format": str(files[0])}


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
    files[0].write_text("format: 1\nremotes: {origin: s3://bucket}\n")
    files[1].write_text("colour: blue\n")
    settings = load(*files)
    assert settings.sources == {
        "format": str(files[0]),
        "remotes": str(files[0]),
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
