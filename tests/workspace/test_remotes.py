"""Remotes in a project's settings: the files that are written, and what is in force then."""

from __future__ import annotations

import os

import pytest

from datastore.errors import FormatError, LockedError, UsageError
from datastore.storage.lock import FileLock
from datastore.workspace import remotes
from datastore.workspace.git import Git
from datastore.workspace.layout import Workspace


@pytest.fixture
def workspace(project):
    opened = Workspace(Git.discover(project.top), project.top)
    yield opened
    opened.close()


def settings(project) -> str:
    return project.path(".datastore/config.yaml").read_text()


def add(workspace, name="origin", url="s3://bucket", default=False, **options):
    return remotes.add_remote(workspace, name, url, options, default=default)


def test_adding_and_removing(project, workspace):
    before = settings(project)
    origin = add(workspace, region="eu")
    assert origin == remotes.RemoteInfo("origin", "s3://bucket", True, {"region": "eu"})
    nas = add(workspace, "nas", "sftp://nas/x")
    assert not nas.default
    assert remotes.list_remotes(workspace) == (origin, nas)
    assert "\nremote: origin\nremotes:\n  origin:\n    url: s3://bucket\n" in settings(project)
    remotes.remove_remote(workspace, "origin")
    assert [(each.name, each.default) for each in remotes.list_remotes(workspace)] == [
        ("nas", True)
    ]
    remotes.remove_remote(workspace, "nas")
    assert settings(project) == before
    assert remotes.list_remotes(workspace) == ()


def test_another_default(project, workspace):
    add(workspace)
    assert add(workspace, "nas", "/nas", default=True).default
    assert [each.default for each in remotes.list_remotes(workspace)] == [False, True]
    assert "\nremote: nas\n" in settings(project)


def test_what_another_command_wrote_meanwhile_is_kept(project, workspace):
    other = Workspace(Git.discover(project.top), project.top)
    add(other)
    add(workspace, "nas", "/nas")
    assert [each.name for each in remotes.list_remotes(workspace)] == ["origin", "nas"]
    assert "\nremote: origin\n" in settings(project)
    other.close()


def test_two_commands_do_not_write_at_once(workspace, monkeypatch):
    monkeypatch.setattr(remotes, "LOCK_TIMEOUT", 0.05)
    held = FileLock(workspace.git.git_dir / "datastore" / "workspace.lock", command="another")
    with held.acquire(1), pytest.raises(LockedError, match="another"):
        add(workspace)


@pytest.mark.parametrize(
    ("inside", "url", "kept"),
    [
        ("", "../shared", "../shared"),
        ("", "./a/../b/", "./b"),
        ("", ".", "."),
        ("", "./.hidden", "./.hidden"),
        ("sub/dir", "../shared", "./sub/shared"),
        ("sub/dir", "../../..", ".."),
        ("sub/dir", "../../../shared", "../shared"),
        ("sub/dir", "/full/./path", "/full/./path"),
        ("sub/dir", "s3://b/c", "s3://b/c"),
    ],
)
def test_a_relative_path_starts_where_the_user_is(project, inside, url, kept):
    directory = project.path(inside)
    directory.mkdir(parents=True, exist_ok=True)
    workspace = Workspace(Git.discover(directory), directory)
    assert add(workspace, url=url).url == kept
    found = workspace.config.remote().located(workspace.top)
    assert "://" in url or found == os.path.normpath(directory / url)
    workspace.close()


@pytest.mark.parametrize(
    ("name", "url", "options", "what"),
    [
        ("a b", "s3://b", {}, "'a b' is no name for a remote"),
        ("origin", "bucket/path", {}, "url is neither a URL nor a path"),
        ("origin", "s3://a:b@c", {}, "url holds a secret"),
        ("origin", "s3://b", {"secret": "x"}, "secret holds a secret"),
        ("origin", "s3://b", {"region": ""}, "region must be text"),
        ("origin", "s3://b", {"regoin": "eu"}, "s3:// has no option 'regoin'"),
        ("origin", "/b", {"region": "eu"}, "file:// has no option 'region'"),
        ("origin", "ftp://b", {}, "ftp:// is not a kind of storage"),
    ],
)
def test_what_is_refused_is_not_written(project, workspace, name, url, options, what):
    before = settings(project)
    with pytest.raises(UsageError) as caught:
        add(workspace, name, url, **options)
    assert caught.value.message.startswith(what)
    assert caught.value.hint
    assert settings(project) == before


def test_a_name_that_is_taken(project, workspace):
    add(workspace)
    with pytest.raises(UsageError, match="a remote 'origin' already"):
        add(workspace, url="/elsewhere")
    with pytest.raises(UsageError, match="no remote 'nas'"):
        remotes.remove_remote(workspace, "nas")


def test_a_file_that_cannot_be_edited_is_named(project):
    project.write({".datastore/config.yaml": "{format: 1}\n"})
    workspace = Workspace(Git.discover(project.top), project.top)
    with pytest.raises(FormatError, match="cannot be edited") as caught:
        add(workspace)
    assert caught.value.where == str(project.path(".datastore/config.yaml"))
    assert settings(project) == "{format: 1}\n"
    workspace.close()


def test_a_project_from_before_remotes_gets_its_name(project):
    project.write({".datastore/config.yaml": "# old\nformat: 1\n"})
    workspace = Workspace(Git.discover(project.top), project.top)
    assert workspace.config.repository == ""
    name = remotes.repository_id(workspace)
    assert settings(project) == f"# old\nformat: 1\nrepository: {name}\n"
    add(workspace)
    assert remotes.repository_id(workspace) == name
    assert settings(project).count("repository:") == 1
    workspace.close()


def test_permissions_of_the_file_stay(project, workspace):
    path = project.path(".datastore/config.yaml")
    path.chmod(0o640)
    add(workspace)
    assert path.stat().st_mode & 0o777 == 0o640


def test_what_this_machine_adds_is_shown(project):
    (project.store / "local.yaml").write_text("remotes: {origin: {profile: work}}\n")
    workspace = Workspace(Git.discover(project.top), project.top)
    assert add(workspace).options == {"profile": "work"}
    assert "profile" not in settings(project)
    workspace.close()


def test_an_older_commit_knows_the_remotes_of_later_ones(project, workspace):
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "before")
    add(workspace, region="eu")
    project.git("commit", "-q", "-a", "-m", "named")
    project.git("checkout", "-q", "HEAD~1")
    text = settings(project)
    older = Workspace(Git.discover(project.top), project.top)
    remotes.inherit_remotes(older)
    assert [each.name for each in remotes.list_remotes(older)] == ["origin"]
    assert older.config.remote().options == {"region": "eu"}
    assert settings(project) == text
    older.close()


def test_nothing_is_inherited_by_a_tip_that_dropped_its_remote(project, workspace):
    add(workspace)
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "named")
    remotes.remove_remote(workspace, "origin")
    remotes.inherit_remotes(workspace)
    assert remotes.list_remotes(workspace) == ()  # not committed yet, and gone all the same
    project.git("commit", "-q", "-a", "-m", "dropped")
    remotes.inherit_remotes(workspace)
    assert remotes.list_remotes(workspace) == ()


def test_nothing_is_inherited_from_another_project(project, workspace):
    project.git("add", "-A")
    project.git("commit", "-q", "-m", "before")
    add(workspace)
    config = project.path(".datastore/config.yaml")
    lines = [
        "repository: '" + "a" * 32 + "'" if line.startswith("repository:") else line
        for line in config.read_text().splitlines()
    ]
    config.write_text("\n".join(lines) + "\n")
    project.git("commit", "-q", "-a", "-m", "another identity")
    project.git("checkout", "-q", "HEAD~1")
    older = Workspace(Git.discover(project.top), project.top)
    remotes.inherit_remotes(older)
    assert remotes.list_remotes(older) == ()
    older.close()
