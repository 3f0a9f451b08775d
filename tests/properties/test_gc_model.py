"""The protocol of push and garbage collection, explored in every order of its steps.

One chunk is all there is. At the start it lies in pack 0, which the index names and no root needs.
Pushers want to acknowledge a root that needs it; collectors want to reclaim what no root needs.
Each step is one request, or the clock goes on. Safe means: while an acknowledged root stands, some
pack has the chunk. With any one rule of ``docs/reference/format/remote.md`` dropped, it is not.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple

import pytest

GRACE: Final = 4
"""Ticks between a tombstone and the deletion."""
WINDOW: Final = 2
"""Ticks after the last look within which a root must stand: half of it."""


class Pusher(NamedTuple):
    at: str = "begin"
    pack: int = -1
    looked: int = -1
    """When the last look began."""


class Collector(NamedTuple):
    at: str = "scan"
    pack: int = -1
    buried: int = -1
    """When the tombstone was written, by this collector's own clock."""


class World(NamedTuple):
    now: int
    packs: frozenset[int]
    tombs: frozenset[int]
    roots: frozenset[int]
    unused: int
    """The next name of a pack."""
    pushers: tuple[Pusher, ...]
    collectors: tuple[Collector, ...]


Step = tuple[str, World]


class Protocol(NamedTuple):
    """How many take part, how long, and which rule is dropped."""

    pushers: int = 1
    collectors: int = 1
    ticks: int = 11
    packs: int = 5
    drop: str = ""
    retire: bool = False
    """Whether owners give versions up again."""
    believe: bool = False
    """Whether a pusher believes a root that it finds listed, as `push` does."""

    def start(self) -> World:
        return World(
            now=0,
            packs=frozenset({0}),
            tombs=frozenset(),
            roots=frozenset(),
            unused=1,
            pushers=(Pusher(),) * self.pushers,
            collectors=(Collector(),) * self.collectors,
        )

    def steps(self, world: World) -> Iterator[Step]:
        if world.now < self.ticks:
            yield "tick", world._replace(now=world.now + 1)
        for who, pusher in enumerate(world.pushers):
            for name, changed, after in self._push(world, who, pusher):
                mine = (*after.pushers[:who], changed, *after.pushers[who + 1 :])
                yield f"pusher {who} {name}", after._replace(pushers=mine)
        for who, collector in enumerate(world.collectors):
            for name, changed, after in self._collect(world, collector):
                mine = (*after.collectors[:who], changed, *after.collectors[who + 1 :])
                yield f"collector {who} {name}", after._replace(collectors=mine)

    # -- a push ------------------------------------------------------------------------------------

    def _push(self, world: World, who: int, pusher: Pusher) -> Iterator[tuple[str, Pusher, World]]:
        match pusher.at:
            case "begin":
                yield from self._choose(world)
            case "look":
                yield self._look(world, pusher)
            case "look again":
                yield self._look_again(world, pusher)
            case "write root":
                if self._in_time(world, pusher) or self.drop == "window before the root":
                    roots = world.roots | {who}
                    yield "root", pusher._replace(at="acknowledge"), world._replace(roots=roots)
                else:
                    yield "too late", Pusher("look", pusher.pack), world
            case "acknowledge":
                if self._in_time(world, pusher):
                    yield "acknowledged", Pusher("acknowledged"), world
                else:
                    yield "too late", Pusher("look", pusher.pack), world
            case "acknowledged":
                if self.retire:
                    yield "retired", Pusher("retired"), world._replace(roots=world.roots - {who})

    def _choose(self, world: World) -> Iterator[tuple[str, Pusher, World]]:
        """Counts on a pack that is there, or sends one under a new name."""
        if self.believe and world.roots:
            yield "finds it acknowledged", Pusher("acknowledged"), world
        sound = world.packs - world.tombs
        for pack in sound:
            yield f"counts on {pack}", Pusher("look", pack), world
        if sound:
            return
        if self.drop == "new names":
            again = world._replace(packs=world.packs | {0}, tombs=world.tombs - {0})
            yield "sends 0 again", Pusher("look", 0), again
        elif world.unused < self.packs:
            yield f"sends {world.unused}", Pusher("look", world.unused), _with_pack(world)

    def _look(self, world: World, pusher: Pusher) -> tuple[str, Pusher, World]:
        looked = pusher._replace(looked=world.now)
        if self.drop == "last look":
            return "does not look", looked._replace(at="write root"), world
        wrong_way_round = self.drop == "tombstones first"
        lost = pusher.pack not in world.packs if wrong_way_round else pusher.pack in world.tombs
        if lost:
            return "lost", Pusher(), world
        return "first look", looked._replace(at="look again"), world

    def _look_again(self, world: World, pusher: Pusher) -> tuple[str, Pusher, World]:
        if self.drop == "tombstones first":
            sound = pusher.pack not in world.tombs
        else:
            sound = pusher.pack in world.packs or self.drop == "packs are there"
        if sound:
            return "second look", pusher._replace(at="write root"), world
        return "lost", Pusher(), world

    def _in_time(self, world: World, pusher: Pusher) -> bool:
        return world.now - pusher.looked <= WINDOW or self.drop == "window"

    # -- a collection ------------------------------------------------------------------------------

    def _collect(
        self, world: World, collector: Collector
    ) -> Iterator[tuple[str, Collector, World]]:
        pack = collector.pack
        match collector.at:
            case "scan":
                if not world.roots:
                    for dead in world.packs:
                        yield f"finds {dead} dead", Collector("bury", dead), world
            case "bury":
                yield self._bury(world, pack)
            case "wait":
                if world.now - collector.buried >= GRACE:
                    yield from self._judge(world, collector)
            case "delete":
                packs = world.packs - {pack}
                yield f"deletes {pack}", Collector("unbury", pack), world._replace(packs=packs)
            case "unbury":
                tombs = world.tombs - {pack}
                yield f"removes tombstone {pack}", Collector(), world._replace(tombs=tombs)

    def _bury(self, world: World, pack: int) -> tuple[str, Collector, World]:
        if pack not in world.packs:
            return "is late", Collector(), world
        if self.drop == "grace":
            return f"does not bury {pack}", Collector("delete", pack), world
        tombs = world.tombs | {pack}
        return f"buries {pack}", Collector("wait", pack, world.now), world._replace(tombs=tombs)

    def _judge(self, world: World, collector: Collector) -> Iterator[tuple[str, Collector, World]]:
        """Looks at the roots once more; what one needs now is copied before it is deleted."""
        delete = collector._replace(at="delete", buried=-1)
        if self.drop == "second look at roots" or not world.roots:
            yield "still dead", delete, world
        elif collector.pack not in world.packs:
            yield "gone", Collector(), world
        elif self.drop == "tombstones stay":
            tombs = world.tombs - {collector.pack}
            yield "withdraws", Collector(), world._replace(tombs=tombs)
        elif world.unused < self.packs:
            yield f"copies to {world.unused}", delete, _with_pack(world)


def _with_pack(world: World) -> World:
    return world._replace(packs=world.packs | {world.unused}, unused=world.unused + 1)


def find_loss(protocol: Protocol) -> list[str] | None:
    """Returns the steps that lead to a loss, as few as there are; None where none does."""
    start = protocol.start()
    before: dict[World, tuple[World, str] | None] = {start: None}
    waiting = deque([start])
    while waiting:
        world = waiting.popleft()
        if not world.packs and any(each.at == "acknowledged" for each in world.pushers):
            return _way_to(world, before)
        for name, after in protocol.steps(world):
            if after not in before:
                before[after] = world, name
                waiting.append(after)
    return None


def _way_to(world: World, before: dict[World, tuple[World, str] | None]) -> list[str]:
    names = []
    step = before[world]
    while step is not None:
        names.append(step[1])
        step = before[step[0]]
    return names[::-1]


@pytest.mark.parametrize(
    "rule",
    [
        "grace",
        "second look at roots",
        "last look",
        "window",
        "tombstones first",
        "packs are there",
        "new names",
    ],
)
def test_without_one_rule_something_is_lost(rule):
    loss = find_loss(Protocol(drop=rule))
    assert loss is not None
    assert any(step.endswith("acknowledged") for step in loss)
    assert any("deletes" in step for step in loss)


def test_a_root_that_was_written_too_late_must_not_be_found():
    """Whoever wrote it would look again; but whoever lists it does not, and believes it."""
    late = Protocol(pushers=2, ticks=8, packs=3, drop="window before the root")
    assert find_loss(late) is None
    loss = find_loss(late._replace(believe=True))
    assert loss is not None
    assert any(step.endswith("finds it acknowledged") for step in loss)


def test_without_tombstones_that_stay_something_is_lost():
    """It takes two collectors, and an owner who gives a version up."""
    protocol = Protocol(pushers=2, collectors=2, ticks=5, packs=1, retire=True)
    assert find_loss(protocol._replace(drop="tombstones stay")) is not None


@pytest.mark.parametrize(
    "protocol",
    [
        Protocol(ticks=9, packs=4, retire=True),
        Protocol(pushers=2, ticks=6, packs=3),
        Protocol(pushers=2, ticks=6, packs=3, believe=True),
        Protocol(collectors=2, ticks=6, packs=3, retire=True),
    ],
    ids=["one of each", "two pushers", "two pushers who believe", "two collectors"],
)
def test_nothing_is_lost(protocol):
    assert find_loss(protocol) is None


@pytest.mark.slow
@pytest.mark.parametrize(
    "protocol",
    [
        Protocol(ticks=12, retire=True),
        Protocol(pushers=2, ticks=8, packs=4, retire=True),
        Protocol(collectors=2, ticks=8, packs=4, retire=True),
        Protocol(pushers=2, collectors=2, ticks=4, packs=2, retire=True),
    ],
    ids=["one of each", "two pushers", "two collectors", "two of each"],
)
def test_nothing_is_lost_in_a_longer_time(protocol):
    assert find_loss(protocol) is None
