"""Git, asked in real repositories, some of them hostile."""

from __future__ import annotations

import dataclasses
import multiprocessing
import os
import resource
import sys
import threading

import pytest

from datastore.errors import (
    FormatError,
    LockedError,
    NotFoundError,
    StorageError,
    UsageError,
)
from datastore.workspace import git_program
from datastore.workspace.git import Git
from datastore.workspace.git_objects import MAX_OBJECT_BYTES
from tests.workspace.conftest import HOSTILE_NAMES


@pytest.fixture
def git(workspace):
    with Git.discover(workspace.path) as git:
        yield git


@pytest.fixture
def spawned(monkeypatch):
    """Lists the arguments of every git process that is started."""
    calls = []
    for name in ("run", "start"):
        inner = getattr(git_program, name)

        def wrapped(directory, arguments, inner=inner, **options):
            calls.append(list(arguments))
            return inner(directory, arguments, **options)

        monkeypatch.setattr(git_program, name, wrapped)
    return calls


# -- finding the repository -----------------------------------------------------------------------


def test_discover_from_the_top_a_subdirectory_and_a_file(workspace, spawned):
    workspace.write({"a/b/c.txt": "x"})
    for start in ("", "a", "a/b", "a/b/c.txt"):
        spawned.clear()
        git = Git.discover(workspace.path / start)
        assert git.worktree == workspace.path
        assert git.git_dir == git.common_dir == workspace.path / ".git"
        assert len(spawned) == 1


def test_discover_in_a_linked_working_tree(workspace, tmp_path):
    workspace.commit({"a.ds": "1"})
    workspace("worktree", "add", "--quiet", str(tmp_path / "linked"))
    (tmp_path / "linked" / "sub").mkdir()
    git = Git.discover(tmp_path / "linked" / "sub")
    assert git.worktree == tmp_path / "linked"
    assert git.git_dir == workspace.path / ".git" / "worktrees" / "linked"
    assert git.common_dir == workspace.path / ".git"
    with git:
        assert git.pointers("HEAD") == git.workspace_pointers() == ["a.ds"]
        git.config_set("a.b", "c")
        assert Git.discover(workspace.path).config_get("a.b") == "c"


def test_discover_in_a_linked_working_tree_of_a_bare_repository(workspace, tmp_path):
    workspace.commit({"a.ds": "1"})
    workspace("clone", "--quiet", "--bare", ".", str(tmp_path / "bare.git"))
    workspace(
        "-C", str(tmp_path / "bare.git"), "worktree", "add", "--quiet", str(tmp_path / "tree")
    )
    git = Git.discover(tmp_path / "tree")
    assert (git.worktree, git.common_dir) == (tmp_path / "tree", tmp_path / "bare.git")


def test_discover_in_a_submodule(make_workspace):
    inner, outer = make_workspace("inner"), make_workspace("outer")
    inner.commit({"a.ds": "1"})
    outer("submodule", "--quiet", "add", str(inner.path), "sub")
    outer.commit({"b.ds": "2"})
    with Git.discover(outer.path / "sub") as git:
        assert git.worktree == outer.path / "sub"
        assert git.common_dir == git.git_dir == outer.path / ".git" / "modules" / "sub"
        assert git.pointers("HEAD") == ["a.ds"]
    with Git.discover(outer.path) as git:
        assert git.pointers("HEAD") == git.workspace_pointers() == ["b.ds"]


def test_discover_through_a_symbolic_link(workspace, tmp_path):
    workspace.write({"a/b/c.txt": "x"})
    (tmp_path / "link").symlink_to(workspace.path / "a" / "b")
    git = Git.discover(tmp_path / "link")
    assert (git.worktree, git.common_dir) == (workspace.path, workspace.path / ".git")


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_discover_where_the_name_is_hostile(make_workspace, name):
    workspace = make_workspace(f"{name}/{name}")
    workspace.commit({"sub/a.ds": "1"})
    with Git.discover(workspace.path / "sub") as git:
        assert git.worktree == workspace.path
        assert git.common_dir == workspace.path / ".git"
        assert git.pointers("HEAD") == git.workspace_pointers() == ["sub/a.ds"]


def test_discover_ignores_what_a_hook_inherits(make_workspace, monkeypatch):
    workspace, other = make_workspace(), make_workspace("other")
    workspace.commit({"a.ds": "1"})
    monkeypatch.setenv("GIT_DIR", str(other.path / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other.path))
    monkeypatch.setenv("GIT_INDEX_FILE", str(other.path / "index"))
    monkeypatch.setenv("GIT_PREFIX", "sub/")
    monkeypatch.setenv("GIT_LITERAL_PATHSPECS", "1")
    with Git.discover(workspace.path) as git:
        assert git.worktree == workspace.path
        assert git.pointers("HEAD") == git.workspace_pointers() == git.tracked("") == ["a.ds"]


def test_discover_outside_a_repository(tmp_path):
    with pytest.raises(NotFoundError, match="is not in a Git repository") as caught:
        Git.discover(tmp_path)
    assert "git init" in caught.value.hint


def test_discover_where_nothing_is(workspace):
    with pytest.raises(NotFoundError, match="there is no"):
        Git.discover(workspace.path / "missing")


def test_discover_in_a_bare_repository(make_workspace):
    bare = make_workspace("bare.git", "--bare")
    for path in (bare.path, bare.path / "refs"):
        with pytest.raises(UsageError, match="bare Git repository"):
            Git.discover(path)


def test_discover_inside_of_gits_own_directory(workspace):
    with pytest.raises(UsageError, match="inside Git's own directory"):
        Git.discover(workspace.path / ".git" / "refs")


def test_discover_where_git_does_not_trust_the_owner(workspace, monkeypatch):
    monkeypatch.setenv("GIT_TEST_ASSUME_DIFFERENT_OWNER", "1")
    with pytest.raises(UsageError, match="of another user") as caught:
        Git.discover(workspace.path)
    assert "safe.directory" in caught.value.hint


def test_discover_in_a_damaged_repository(workspace):
    workspace.write({".git/config": "[core\n"})
    with pytest.raises(StorageError, match="bad config"):
        Git.discover(workspace.path)


def test_no_git_program(workspace, monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path / "nowhere"))
    with pytest.raises(NotFoundError, match="there is no git program") as caught:
        Git.discover(workspace.path)
    assert "Install Git" in caught.value.hint


# -- commits --------------------------------------------------------------------------------------


def test_resolve(workspace, git):
    first = workspace.commit({"a": "1"}, "First of all")
    second = workspace.commit({"a": "2"}, "Second")
    workspace("tag", "light", first)
    workspace("tag", "--annotate", "--message", "x", "heavy", first)
    workspace("branch", "feature/x", first)
    for rev in ("HEAD~1", "light", "heavy", "feature/x", first, first[:8], "HEAD^", ":/First of"):
        assert git.resolve(rev) == first
    assert git.resolve("HEAD") == git.resolve("main") == git.resolve("@") == second
    third = workspace.commit({"a": "3"})
    assert git.resolve("HEAD") == third  # seen by the process that runs already


@pytest.mark.parametrize(
    "rev",
    [
        "",
        "nothing",
        "HEAD~5",
        "-x",
        "--all",
        "HEAD:a",
        "HEAD^{tree}",
        "HEAD\nHEAD",
        "HEAD\0",
        "HEAD..HEAD",
        "0" * 40,
        "0" * 64,
        "\udcff",
        "HEAD commit 1",
    ],
)
def test_resolve_what_is_no_revision(workspace, git, rev):
    head = workspace.commit({"a": "1"})
    with pytest.raises(NotFoundError, match="there is no revision") as caught:
        git.resolve(rev)
    assert "git log" in caught.value.hint
    assert git.resolve("HEAD") == head


def test_resolve_an_ambiguous_name(workspace, git):
    commits = {workspace.commit({}, f"{number}") for number in range(20)}
    starts = [commit[:1] for commit in commits]
    common = max(starts, key=starts.count)
    with pytest.raises(NotFoundError):
        git.resolve(common)


def test_resolve_without_commits(git):
    for rev in ("HEAD", "main", "nothing"):
        with pytest.raises(NotFoundError, match="no commits yet") as caught:
            git.resolve(rev)
        assert "git commit" in caught.value.hint


def test_a_repository_with_sha256_names(make_workspace):
    workspace = make_workspace("long", "--object-format=sha256")
    commit = workspace.commit({"a.ds": "1", "b\nc.ds": "2"})
    with Git.discover(workspace.path) as git:
        assert git.resolve("HEAD") == commit
        assert len(commit) == 64
        assert git.read_many([("HEAD", "a.ds"), (commit, "b\nc.ds")]) == [b"1", b"2"]
        assert git.pointers("HEAD") == ["a.ds", "b\nc.ds"]


def test_merge_base_and_ranges(workspace, git):
    base = workspace.commit({"a": "1"})
    workspace("switch", "--quiet", "--create", "side")
    side = workspace.commit({"b": "1"})
    workspace("switch", "--quiet", "main")
    workspace.commit({"c": "1"})
    assert git.merge_base("side", "main") == base
    assert git.parse_range("main..side") == ("main", "side")
    assert git.parse_range("side..") == ("side", "HEAD")
    assert git.parse_range("..side") == ("HEAD", "side")
    assert git.parse_range("main...side") == (base, "side")
    assert git.parse_range("...side") == (base, "side")
    assert git.parse_range("side...") == (base, "HEAD")
    assert git.parse_range(f"v1.0..{side}") == ("v1.0", side)
    with pytest.raises(NotFoundError, match="nothing"):
        git.parse_range("nothing...side")


@pytest.mark.parametrize("text", ["", "HEAD", "..", "...", "a..b..c", "a...b...c", "a....b"])
def test_what_is_no_range(workspace, git, text):
    workspace.commit({})
    with pytest.raises((UsageError, NotFoundError)):
        git.parse_range(text)


def test_merge_base_of_strangers(workspace, git):
    workspace.commit({"a": "1"})
    workspace("switch", "--quiet", "--orphan", "stranger")
    workspace.commit({"b": "1"})
    with pytest.raises(NotFoundError, match="no common ancestor") as caught:
        git.merge_base("main", "stranger")
    assert "--unshallow" in caught.value.hint


# -- history --------------------------------------------------------------------------------------


def test_log(workspace, git):
    first = workspace.commit({"a.ds": "1"}, "Begin\n\nA body\nthat is not asked for")
    second = workspace.commit({"b.ds": "1", "-c": "1"}, "Zwei: „ü\"\n'")
    workspace.commit({"other": "1"})
    workspace("switch", "--quiet", "--create", "side", first)
    third = workspace.commit({"a.ds": "2"})
    workspace("switch", "--quiet", "main")
    workspace("merge", "--quiet", "--no-edit", "side")
    found = {commit.digest: commit for commit in git.log()}
    assert set(found) >= {first, second, third}
    assert found[first].subject == "Begin"
    assert found[first].parents == ()
    assert found[second].subject == "Zwei: „ü\" '"
    assert found[second].parents == (first,)
    assert (found[first].author, found[first].email) == ("Tess Ter", "tess@example.org")
    assert [commit.digest for commit in git.log(["-c"])] == [second]
    assert [commit.digest for commit in git.log(["a.ds"], rev="main~1")] == [first]
    assert [commit.digest for commit in git.log(["*"])] == []
    assert len(list(git.log(limit=1))) == 1
    assert list(git.log(limit=0)) == []
    merged = workspace("rev-parse", "HEAD")
    (merge,) = (commit for commit in git.log([""]) if commit.digest == merged)
    assert len(merge.parents) == 2


def test_log_tells_the_authors_time(workspace, git):
    workspace.write({"a.ds": "1"})
    workspace("add", "a.ds")
    workspace("commit", "--quiet", "--message", "x", "--date", "2024-02-29T23:59:58+05:30")
    (commit,) = git.log()
    assert commit.date == "2024-02-29T23:59:58+05:30"
    with pytest.raises(dataclasses.FrozenInstanceError):
        commit.date = ""


def test_log_is_not_led_astray_by_settings(workspace, git, tmp_path):
    workspace.commit({"a.ds": "a longer text\nof lines\n"})
    workspace("mv", "a.ds", "b.ds")
    workspace.commit({}, "Bewegt: ü")
    verifier = tmp_path / "verifier"
    verifier.write_text("#!/bin/sh\necho spoofed >&2\n")
    verifier.chmod(0o755)
    signed = workspace("cat-file", "commit", "HEAD").replace("\n\n", "\ngpgsig x\n\n", 1)
    (tmp_path / "signed").write_text(signed + "\n")
    moved = workspace("hash-object", "-t", "commit", "-w", str(tmp_path / "signed"))
    workspace("reset", "--quiet", moved)
    for key, value in {
        "log.follow": "true",
        "log.showSignature": "true",
        "gpg.program": str(verifier),
        "log.date": "relative",
        "log.decorate": "full",
        "format.pretty": "fuller",
        "color.ui": "always",
        "i18n.logOutputEncoding": "latin1",
        "diff.external": "false",
    }.items():
        workspace("config", key, value)
    found = [(commit.digest, commit.subject) for commit in git.log(["b.ds"])]
    assert found == [(moved, "Bewegt: ü")]
    assert {content for _, content in git.pointer_versions()} == {"a.ds", "b.ds"}


@pytest.mark.parametrize("path", HOSTILE_NAMES)
def test_log_of_a_hostile_name(workspace, git, path):
    commit = workspace.commit({f"{path}.ds": "1"})
    workspace.commit({"other.ds": "1"})
    assert [each.digest for each in git.log([f"{path}.ds"])] == [commit]


def test_log_without_commits_fails_when_called(git):
    with pytest.raises(NotFoundError, match="no commits yet"):
        git.log()


def test_log_reads_on_over_piece_borders(workspace, git, monkeypatch):
    monkeypatch.setattr("datastore.workspace.git_log._PIECE", 7)
    commits = [workspace.commit({"a.ds": f"{number}"}, f"No. {number}") for number in range(5)]
    assert [(each.digest, each.subject) for each in git.log()] == [
        (commit, f"No. {number}") for number, commit in reversed(list(enumerate(commits)))
    ]


def test_log_ends_its_process_when_nobody_reads_on(workspace, git, monkeypatch):
    for number in range(3):
        workspace.commit({"a.ds": f"{number}"})
    started = []
    inner = git_program.start
    monkeypatch.setattr(
        git_program,
        "start",
        lambda *given, **more: started.append(inner(*given, **more)) or started[-1],
    )
    commits = git.log(rev=git.resolve("HEAD"))
    next(commits)
    commits.close()
    assert started[-1].returncode is not None


def test_log_of_a_damaged_repository(workspace, git):
    first = workspace.commit({"a.ds": "1"})
    workspace.commit({"a.ds": "2"})
    (workspace.path / ".git" / "objects" / first[:2] / first[2:]).unlink()
    with pytest.raises(StorageError, match="git log failed"):
        list(git.log())


def test_log_of_every_ref(workspace, git):
    assert list(git.log(every=True)) == []
    first = workspace.commit({"a.ds": "1"})
    workspace("switch", "--quiet", "--create", "side")
    side = workspace.commit({"a.ds": "2"})
    workspace("switch", "--quiet", "main")
    workspace.commit({"a.txt": "no pointer"})
    workspace("merge", "--quiet", "--strategy", "ours", "--no-edit", "side")
    workspace("branch", "--delete", "side")
    workspace("tag", "kept", workspace.commit({"b.ds": "1"}))
    tagged = workspace("rev-parse", "HEAD")
    workspace("reset", "--quiet", "--hard", "HEAD~1")
    workspace("switch", "--quiet", "--detach")
    detached = workspace.commit({"c.ds": "1"})
    every = {commit.digest for commit in git.log(every=True)}
    assert every >= {first, side, tagged, detached}
    assert {commit.digest for commit in git.log()} == {first, detached}


def test_pointer_versions(workspace, git, spawned):
    assert git.pointer_versions() == []
    workspace.commit({"a.ds": "1", "new\nline.ds": "1", "c.txt": "1", "..ds": "1"})
    workspace("switch", "--quiet", "--create", "side")
    workspace.commit({"a.ds": "2"})
    workspace("switch", "--quiet", "main")
    workspace.commit({"a.ds": "3", "sub/b.ds": "other"})
    (workspace.path / "sub" / "b.ds").unlink()
    (workspace.path / "link.ds").symlink_to("x")
    workspace.commit({"d.txt": "1"})
    workspace("merge", "--quiet", "side", ok=False)
    workspace.commit({"a.ds": "merged"})
    assert len(workspace("log", "-1", "--format=%P").split()) == 2
    workspace("branch", "--delete", "side")
    workspace("switch", "--quiet", "--create", "dropped")
    workspace.commit({"a.ds": "dropped"})
    workspace("switch", "--quiet", "main")
    workspace.commit({"a.ds": "1"})
    workspace("merge", "--quiet", "--strategy", "ours", "--no-edit", "dropped")
    workspace("branch", "--delete", "dropped")
    spawned.clear()
    found = git.pointer_versions()
    assert len(spawned) == 1
    contents = dict(zip(found, git.read_many(found), strict=True))
    assert sorted((path, data) for (_, path), data in contents.items()) == [
        ("a.ds", b"1"),
        ("a.ds", b"2"),
        ("a.ds", b"3"),
        ("a.ds", b"dropped"),
        ("a.ds", b"merged"),
        ("new\nline.ds", b"1"),
        ("sub/b.ds", b"other"),
    ]
    commits = workspace("rev-list", "--all").split()
    everything = [(commit, path) for commit in commits for path in git.pointers(commit)]
    assert {(path, data) for (_, path), data in contents.items()} == {
        (path, data) for (_, path), data in zip(everything, git.read_many(everything), strict=True)
    }


# -- files of a commit ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", HOSTILE_NAMES)
def test_read_a_hostile_name(workspace, git, name):
    workspace.commit({f"{name}.ds": "root", f"sub/{name}.ds": "sub", f"{name}": b"\0\n"})
    assert git.read("HEAD", f"{name}.ds") == b"root"
    assert git.read_many([("HEAD", f"sub/{name}.ds"), ("main", name)]) == [b"sub", b"\0\n"]
    assert git.pointers("HEAD") == sorted([f"{name}.ds", f"sub/{name}.ds"])
    assert git.workspace_pointers() == git.pointers("HEAD")
    assert git.tracked(f"{name}.ds") == [f"{name}.ds"]
    assert git.tracked(name) == [name]
    assert not git.is_ignored(name)
    assert git.changed_pointers() == []
    (workspace.path / f"{name}.ds").write_text("changed")
    assert git.changed_pointers() == [f"{name}.ds"]


def test_names_need_not_be_text(workspace, git):
    name = os.fsdecode(b"caf\xe9")
    try:
        (workspace.path / f"{name}.ds").write_text("1")
    except OSError:
        pytest.skip("this file system has no such names")
    assert git.changed_pointers() == [f"{name}.ds"]
    workspace.commit({})
    assert git.read("HEAD", f"{name}.ds") == b"1"
    assert git.pointers("HEAD") == git.workspace_pointers() == [f"{name}.ds"]
    assert git.tracked(f"{name}.ds") == [f"{name}.ds"]
    assert len(list(git.log([f"{name}.ds"]))) == 1


def test_read_what_is_no_file(workspace, git):
    workspace.commit({"dir/a": "1", "line\nbreak/a": "1"})
    paths = [
        "",
        "dir",
        "dir/",
        "missing",
        "dir/a/b",
        "./dir/a",
        "../a",
        "/dir/a",
        "a\0",
        "dir/../dir/a",
    ]
    paths += ["line\nbreak", "missing\nbreak", "./dir\n/a", "line\nbreak/"]
    assert git.read_many([("HEAD", path) for path in paths]) == [None] * len(paths)
    assert git.read("HEAD", "line\nbreak/a") == b"1"


def test_read_is_not_confused_by_names_that_look_like_answers(workspace, git):
    workspace.commit({"a": "1"})
    lie = "0" * 40 + " blob 1000000"
    assert git.read_many([("HEAD", lie), ("HEAD", "a"), ("HEAD", "a missing")]) == [
        None,
        b"1",
        None,
    ]


def test_read_at_an_unknown_revision(workspace, git):
    workspace.commit({"a": "1"})
    for rev in ("nothing", "0" * 40, "HEAD:", ":0"):
        with pytest.raises(NotFoundError, match="there is no revision"):
            git.read(rev, "a")


def test_read_many_keeps_order_and_uses_one_process(workspace, git, spawned):
    files = {f"{'deep/' * 20}{number}.ds": f"{number}" * 50 for number in range(600)}
    workspace.commit(files)
    wanted = [("HEAD", path) for path in reversed(files)] + [("HEAD", "missing")]
    expected = [content.encode() for content in reversed(files.values())] + [None]
    assert git.read_many(wanted * 3) == expected * 3
    assert git.read_many([]) == []
    assert len(spawned) == 1


def test_a_name_longer_than_the_pipe(workspace, git):
    workspace.commit({"a": "1"})
    assert git.read_many([("HEAD", "x/" * 100_000), ("HEAD", "a")]) == [None, b"1"]


def test_a_large_file_is_refused_and_the_next_one_read(workspace, git):
    workspace.commit(
        {"large": b"\0" * (MAX_OBJECT_BYTES + 1), "limit": b"\0" * MAX_OBJECT_BYTES, "a": "1"}
    )
    with pytest.raises(FormatError, match="at most"):
        git.read_many([("HEAD", "large"), ("HEAD", "a")])
    assert git.read("HEAD", "a") == b"1"
    assert len(git.read("HEAD", "limit")) == MAX_OBJECT_BYTES


def test_a_reader_that_died_is_reported_and_replaced(workspace, git):
    workspace.commit({"a": "1"})
    assert git.read("HEAD", "a") == b"1"
    git._objects._process.kill()
    git._objects._process.wait()
    with pytest.raises(StorageError, match="Git stopped answering"):
        git.read("HEAD", "a")
    assert git.read("HEAD", "a") == b"1"


def test_an_interrupted_read_leaves_no_answers_behind(workspace, git, monkeypatch):
    workspace.commit({"a": "1", "b": "2"})
    inner = git._objects._ask

    def interrupted(names):
        for number, found in enumerate(inner(names)):
            if number == 1:
                raise KeyboardInterrupt
            yield found

    git.resolve("HEAD")
    with monkeypatch.context() as patch:
        patch.setattr(git._objects, "_ask", interrupted)
        with pytest.raises(KeyboardInterrupt):
            git._objects.read([b"HEAD:a"] * 3)
    assert git.read("HEAD", "b") == b"2"


def test_threads_share_a_reader(workspace, git):
    files = {f"{number}": f"content {number}" for number in range(50)}
    workspace.commit(files)
    wrong = []

    def read(path):
        wrong.extend(path for _ in range(20) if git.read("HEAD", path) != files[path].encode())

    threads = [threading.Thread(target=read, args=(f"{number}",)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


def _read_and_close(git, path, results):
    results.put((git.read("HEAD", path), git._objects._process.pid))
    git.close()


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_a_fork_has_its_own_reader(workspace, git):
    workspace.commit({"a": "1", "b": "2"})
    assert git.read("HEAD", "a") == b"1"
    context = multiprocessing.get_context("fork")
    results = context.SimpleQueue()
    child = context.Process(target=_read_and_close, args=(git, "b", results))
    child.start()
    child.join(30)
    content, reader = results.get()
    assert content == b"2"
    assert reader != git._objects._process.pid
    assert git.read("HEAD", "a") == b"1"


def test_close_may_be_repeated_and_is_not_the_end(workspace, git):
    workspace.commit({"a": "1"})
    git.close()
    assert git.read("HEAD", "a") == b"1"
    git.close()
    git.close()
    assert git.read("HEAD", "a") == b"1"


def test_pointers_at_a_revision_are_regular_files(workspace, git):
    old = workspace.commit({"b.ds": "1", "a/c.ds": "1", "a.dsx": "1", ".ds": "1", "dir.ds/x": "1"})
    workspace.write({"b.ds": "2", "..ds": "1", "...ds": "1", ".git.ds": "1", ".x.ds": "1"})
    (workspace.path / "link.ds").symlink_to("b.ds")
    (workspace.path / "a" / "c.ds").unlink()
    workspace.commit({})
    assert git.pointers(old) == ["a/c.ds", "b.ds"]
    assert git.pointers("HEAD") == git.workspace_pointers() == [".x.ds", "b.ds"]


# -- files of the working tree --------------------------------------------------------------------


def test_workspace_pointers(workspace, git):
    assert git.workspace_pointers() == []
    workspace.commit({"tracked.ds": "1", "gone.ds": "1", "sub/deep/x.ds": "1", "a.txt": "1"})
    workspace.write(
        {"new.ds": "1", "ignored.ds": "1", "out/y.ds": "1", ".gitignore": "/ignored.ds\nout\n"}
    )
    (workspace.path / "gone.ds").unlink()
    (workspace.path / "dir.ds").mkdir()
    assert git.workspace_pointers() == ["new.ds", "sub/deep/x.ds", "tracked.ds"]


def test_pointers_in_conflict_are_listed_once(workspace, git):
    workspace.commit({"a.ds": "1"})
    workspace("switch", "--quiet", "--create", "side")
    workspace.commit({"a.ds": "2"})
    workspace("switch", "--quiet", "main")
    workspace.commit({"a.ds": "3"})
    workspace("merge", "--quiet", "side", ok=False)
    assert workspace("ls-files", "--unmerged")
    assert git.workspace_pointers() == ["a.ds"]
    assert git.tracked("") == ["a.ds"]
    assert git.changed_pointers() == ["a.ds"]


def test_changed_pointers(workspace, git):
    workspace.write({"a.ds": "1"})
    assert git.changed_pointers() == ["a.ds"]
    names = ["clean", "edited", "staged", "deleted", "touched", "moved"]
    workspace.commit({f"sub/{name}.ds": f"{name}\n" * 9 for name in names} | {"a.txt": "1"})
    workspace.write({"sub/edited.ds": "2", "sub/staged.ds": "2", "a.txt": "2", "ignored.ds": "1"})
    workspace("add", "sub/staged.ds")
    workspace("mv", "sub/moved.ds", "to.ds")
    workspace.write({"sub/new.ds": "1", ".gitignore": "ignored.ds\n"})
    (workspace.path / "sub" / "deleted.ds").unlink()
    os.utime(workspace.path / "sub" / "touched.ds", (0, 0))
    index = (workspace.path / ".git" / "index").read_bytes()
    assert git.changed_pointers() == [
        "sub/deleted.ds",
        "sub/edited.ds",
        "sub/moved.ds",
        "sub/new.ds",
        "sub/staged.ds",
        "to.ds",
    ]
    assert (workspace.path / ".git" / "index").read_bytes() == index


def test_changed_pointers_is_not_led_astray_by_settings(workspace, git):
    workspace.commit({"sub/a.ds": "1"})
    workspace.write({"sub/a.ds": "2", "b.ds": "1"})
    for key, value in {
        "status.relativePaths": "true",
        "status.showUntrackedFiles": "no",
        "status.branch": "true",
        "status.short": "true",
        "status.showStash": "true",
        "status.renames": "copies",
    }.items():
        workspace("config", key, value)
    assert git.changed_pointers() == ["b.ds", "sub/a.ds"]


def test_tracked(workspace, git):
    workspace.commit({"images/a": "1", "images/b/c": "1", "images2/d": "1", "e": "1"})
    workspace.write({"images/untracked": "1"})
    assert git.tracked("images") == git.tracked("images/") == ["images/a", "images/b/c"]
    assert git.tracked("e") == ["e"]
    assert git.tracked("missing") == git.tracked("image*") == []
    assert len(git.tracked("")) == len(git.tracked(".")) == 4


def test_is_ignored(workspace, git):
    workspace.commit({"tracked.log": "1"})
    workspace.write({".gitignore": "*.log\n/out/\n[x]\n", "[x]": "1", "x": "1", "out/a": "1"})
    assert git.is_ignored("a.log")
    assert git.is_ignored("sub/a.log")
    assert git.is_ignored("out")
    assert git.is_ignored("out/missing")
    assert git.is_ignored("x")
    assert not git.is_ignored("[x]")
    assert not git.is_ignored("tracked.log")
    assert not git.is_ignored("a.txt")
    assert not git.is_ignored("-q")


def test_is_ignored_of_a_directory_that_is_not_there(workspace, git):
    workspace.write({".gitignore": "out/\n"})
    assert git.is_ignored("out/")
    assert not git.is_ignored("out")


@pytest.mark.parametrize("path", ["/etc", "..", "a/../../b", "../a", "a\0b"])
def test_paths_that_lead_outside_are_refused(git, path):
    for method in (git.tracked, git.is_ignored, lambda path: git.log([path])):
        with pytest.raises((UsageError, NotFoundError)):
            method(path)


# -- configuration --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "value", ["plain", "", " spaces ", "q\"uo'te", "-dash", "a\nb", "ü # ; x\\"]
)
def test_config_there_and_back(workspace, git, value):
    assert git.config_get("diff.datastore.command") is None
    git.config_set("diff.datastore.command", value)
    assert git.config_get("diff.datastore.command") == value
    assert git.config_unset("diff.datastore.command")
    assert git.config_get("diff.datastore.command") is None
    assert not git.config_unset("diff.datastore.command")


def test_config_is_the_repositorys_own(workspace, git):
    assert git.config_get("user.name") is None
    git.config_set("user.name", "Nobody")
    assert workspace("config", "--local", "user.name") == "Nobody"


def test_config_with_several_values_becomes_one(workspace, git):
    workspace("config", "--add", "a.b", "1")
    workspace("config", "--add", "a.b", "2")
    assert git.config_get("a.b") == "2"
    git.config_set("a.b", "3")
    assert workspace("config", "--get-all", "a.b") == "3"


def test_config_that_is_locked(workspace, git):
    workspace.write({".git/config.lock": ""})
    with pytest.raises(LockedError, match="must wait") as caught:
        git.config_set("a.b", "c")
    assert caught.value.holder == "another git process"


def test_a_failure_says_what_git_said(workspace, git):
    workspace.write({".git/index": "no index"})
    with pytest.raises(StorageError, match=r"git ls-files failed in .*: .*index") as caught:
        git.tracked("")
    assert caught.value.hint


def test_what_git_inherits(workspace, git, monkeypatch, tmp_path):
    program = tmp_path / "bin" / "git"
    program.parent.mkdir()
    program.write_text("#!/bin/sh\nenv\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent), prepend=os.pathsep)
    monkeypatch.setenv("LC_ALL", "de_DE.UTF-8")
    monkeypatch.setenv("GIT_SSH_COMMAND", "ssh -4")
    for name in ("GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_ICASE_PATHSPECS"):
        monkeypatch.setenv(name, "1")
    printed = git_program.run(workspace.path, []).stdout.decode()
    seen = dict(line.split("=", 1) for line in printed.splitlines() if "=" in line)
    assert seen["LC_ALL"] == "C"  # messages are looked into
    assert seen["GIT_OPTIONAL_LOCKS"] == "0"
    assert seen["GIT_SSH_COMMAND"] == "ssh -4"
    assert not {"GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_ICASE_PATHSPECS"} & set(seen)


# -- cost -----------------------------------------------------------------------------------------


def test_what_status_asks_takes_few_processes_and_little_time(workspace, spawned):
    workspace.commit({f"{number}.ds": f"{number}" for number in range(10)})
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    with Git.discover(workspace.path) as git:
        pointers = git.workspace_pointers()
        assert all(git.read_many([("HEAD", path) for path in pointers]))
        assert git.changed_pointers() == []
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    assert [arguments[0] for arguments in spawned] == [
        "rev-parse",
        "ls-files",
        "cat-file",
        "status",
    ]
    used = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    assert used < 0.1  # seconds; measured: 0.02


def test_a_program_that_cannot_be_started(workspace, git, monkeypatch):
    monkeypatch.setattr(git_program, "_PROGRAM", (str(workspace.path / "missing"),))
    for act in (lambda: git.tracked(""), lambda: git.resolve("HEAD")):
        with pytest.raises(StorageError, match="cannot start"):
            act()
