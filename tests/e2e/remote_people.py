"""People who share data: each has a directory, an environment, and perhaps a user of the system."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from tests.e2e.conftest import Shell
from tests.servers.places import Place, SftpPlace


class Ended(NamedTuple):
    """A program that ended."""

    status: int
    out: str
    err: str
    seconds: float = 0.0


@dataclass(frozen=True)
class Person(Shell):
    """Somebody who runs programs in a directory of their own.

    Attributes:
        program: By which name datastore is called: ``("git", "ds")`` does the same.
        environment: On top of ours.
        user: Of the system, by number; ours where None. Needs root.
        groups: That this user is in.
    """

    program: tuple[str, ...] = ("datastore",)
    environment: Mapping[str, str] = field(default_factory=dict)
    user: int | None = None
    groups: tuple[int, ...] = ()

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Starts a program."""
        somebody = {}
        if self.user is not None and command[0] != sys.executable:  # which sees to it itself
            somebody = {"user": self.user, "group": self.user, "extra_groups": self.groups}
        return subprocess.Popen(
            command,
            cwd=self.directory,
            env={**os.environ, **self.environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **somebody,
        )

    def call(self, *command: str, status: int | None = None) -> Ended:
        """Runs a program to its end, which must have this status if one is given."""
        process = self.start(*command)
        out, err = process.communicate()
        ended = Ended(process.returncode, out, err)
        assert status in {None, ended.status}, (command, ended)
        assert "Traceback" not in err, err
        return ended

    def run(self, *command: str, status: int = 0) -> str:
        return self.call(*command, status=status).out

    def datastore(self, *arguments: str, status: int = 0) -> str:
        return self.run(*self.program, *arguments, status=status)

    def fail(self, *arguments: str, status: int) -> str:
        """Runs datastore, which must end with this status; returns its stderr."""
        return self.call(*self.program, *arguments, status=status).err

    def json(self, *arguments: str, status: int = 0) -> dict:
        return json.loads(self.datastore(*arguments, "--json", status=status))

    def interrupt(self, *arguments: str, when: Callable[[], object]) -> Ended:
        """Presses Ctrl-C while datastore is at work; `seconds` is how long it then took."""
        # Where the tests run in the background, children would take no notice of Ctrl-C.
        before = signal.signal(signal.SIGINT, signal.default_int_handler)
        try:
            process = self.start(*self.program, *arguments)
        finally:
            signal.signal(signal.SIGINT, before)
        end = time.monotonic() + 60
        while not when():
            assert process.poll() is None, process.communicate()
            assert time.monotonic() < end, "it never came so far"
            time.sleep(0.01)
        process.send_signal(signal.SIGINT)
        pressed = time.monotonic()
        out, err = process.communicate(timeout=60)
        return Ended(process.returncode, out, err, time.monotonic() - pressed)

    def tagged(self, tag: str, *paths: str) -> None:
        """Adds datasets, commits and tags them."""
        self.datastore("add", "-q", *paths)
        self.commit(tag)
        self.git("tag", tag)

    def cloned(self, name: str, **changes: object) -> Person:
        """Clones by way of Git alone, into a directory beside this one."""
        target = self.directory.parent / name
        self.git("clone", "-q", str(self.directory), str(target))
        fields = {"program": self.program, "environment": self.environment, **changes}
        return Person(target, **fields)


def options_of(place: Place) -> list[str]:
    """What to give ``remote add`` besides the URL, as a user would."""
    options: Mapping[str, object] = place.options
    if isinstance(place, SftpPlace):
        options = {"key_file": place.key, "known_hosts": place.known_hosts}
    return [word for key, value in options.items() for word in ("-o", f"{key}={value}")]


def begin(person: Person, place: Place, *more: str) -> None:
    """Makes a repository whose data goes to a place."""
    person.git("init", "-q")
    person.datastore("init", "-q")
    person.datastore("remote", "add", "-q", "origin", place.url, *options_of(place), *more)
    person.commit("Begin")


def local_settings(person: Person, *lines: str) -> None:
    """Writes ``local.yaml``."""
    path = person.directory / ".git/datastore/local.yaml"
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join([*lines, ""]))


def stored_bytes(person: Person) -> int:
    """Of all packs in the store."""
    packs = person.directory.glob(".git/datastore/packs/*/*.pack")
    return sum(path.stat().st_size for path in packs)
