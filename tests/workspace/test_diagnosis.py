"""What ``doctor`` finds."""

from __future__ import annotations

import platform
import shutil

import pytest

from datastore.repository import Repository


def checks(repo):
    return {check.name: check for check in repo.doctor().checks}


def test_all_is_well(project):
    project.version("v1", {"a": "1", "b": "2"})
    found = checks(project.repo)
    assert all(check.ok for check in found.values())
    assert all(check.hint == "" for check in found.values())
    assert found["runtime"].value == f"Python {platform.python_version()}"
    assert found["workspace"].value == str(project.top)
    assert str(project.store) in found["store"].value
    assert found["git drivers"].value == "installed"
    assert found["packs"].value.startswith("2 files, ")
    assert found["index"].value.endswith(" chunks in 2 packs")
    assert found["datasets"].value == "1 in the workspace"
    assert found["setting format"].value.endswith("config.yaml")


def test_before_anything(repo):
    found = checks(repo)
    assert all(check.ok for check in found.values())
    assert found["packs"].value == "0 files, 0 bytes"
    assert found["datasets"].value == "0 in the workspace"


def test_drivers_that_are_not_installed(project):
    project.repo.git_uninstall()
    check = checks(project.repo)["git drivers"]
    assert (check.ok, check.value) == (False, "not installed in this clone")
    assert check.hint == "run: datastore git install"
    project.repo.git_install()
    assert checks(project.repo)["git drivers"].ok


def test_a_pack_that_the_index_does_not_know(project):
    project.version("v1", {"a": "1"})
    pack = next(project.store.glob("packs/*/*.pack"))
    shutil.copy(pack, pack.with_name(pack.name.replace("-", "-0")))
    check = checks(project.repo)["index"]
    assert not check.ok
    assert "but 3 packs on disk" in check.value
    assert "--rebuild-index" in check.hint


def test_a_pack_that_is_gone(project):
    project.version("v1", {"a": "1"})
    next(project.store.glob("packs/*/*.pack")).unlink()
    assert not checks(project.repo)["index"].ok


@pytest.mark.parametrize("text", ["garbage\n", "<<<<<<< ours\n"])
def test_a_broken_dataset(project, text):
    project.version("v1", {"a": "1"})
    project.write({"images.ds": text})
    check = checks(project.repo)["datasets"]
    assert not check.ok
    assert "images.ds" in check.value
    assert check.hint == "run: datastore status"


def test_a_clone_without_the_store(project, tmp_path):
    project.version("v1", {"a": "1"})
    project.git("clone", "--quiet", str(project.top), str(tmp_path / "clone"))
    with Repository.open(tmp_path / "clone") as clone:
        found = checks(clone)
        assert not found["datasets"].ok
        assert "does not have the version of images" in found["datasets"].value
        assert not found["git drivers"].ok


def test_settings_and_where_they_come_from(project, tmp_path):
    local = project.store / "local.yaml"
    local.write_text(f"store:\n  path: {tmp_path / 'packs here'}\n")
    with Repository.open(project.top) as repo:
        found = checks(repo)
        assert found["setting store"].value == f"from {local}"
        assert str(tmp_path / "packs here") in found["store"].value
        assert (tmp_path / "packs here/packs").is_dir()
