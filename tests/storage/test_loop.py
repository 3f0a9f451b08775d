from __future__ import annotations

import asyncio
import threading
import time

import pytest

from datastore.storage.body import Body, sent
from datastore.storage.loop import Loop, LoopClosedError


@pytest.fixture
def loop():
    made = Loop("test")
    yield made
    made.close()


async def double(number):
    await asyncio.sleep(0)
    return 2 * number


def test_results_and_errors_come_back(loop):
    assert loop.run(double(4)) == 8

    async def fail():
        raise KeyError("x")

    with pytest.raises(KeyError):
        loop.run(fail())


def test_calls_of_several_threads_run_together(loop):
    both = asyncio.Barrier(2)
    threads = [threading.Thread(target=lambda: loop.run(both.wait())) for _ in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(5)
        assert not thread.is_alive()


def test_closing_ends_what_is_under_way_and_finishes(loop):
    ended, done = [], []

    async def wait():
        try:
            await asyncio.sleep(100)
        finally:
            ended.append(True)

    async def finish():
        done.append(True)

    errors = []

    def call():
        with pytest.raises(LoopClosedError) as caught:
            loop.run(wait())
        errors.append(caught.value)

    thread = threading.Thread(target=call)
    thread.start()
    time.sleep(0.05)
    loop.close(finish())
    thread.join(1)
    assert (ended, done, len(errors)) == ([True], [True], 1)
    loop.close(finish())
    with pytest.raises(LoopClosedError):
        loop.run(double(1))


def test_who_waits_is_told_at_once_even_where_a_library_blocks(loop):
    told = []

    async def block():
        time.sleep(1.0)  # noqa: ASYNC251

    def call():
        with pytest.raises(LoopClosedError):
            loop.run(block())
        told.append(time.monotonic())

    thread = threading.Thread(target=call)
    thread.start()
    time.sleep(0.05)
    began = time.monotonic()
    loop.close()
    thread.join()
    assert told[0] - began < 0.5


def test_an_interrupted_wait_cancels_its_call(loop, monkeypatch):
    cancelled = threading.Event()

    async def wait():
        try:
            await asyncio.sleep(100)
        except asyncio.CancelledError:
            cancelled.set()
            raise

    import concurrent.futures

    real = concurrent.futures.Future.result

    def interrupted(self, timeout=None):
        if timeout is None:
            time.sleep(0.05)
            raise KeyboardInterrupt
        return real(self, timeout)

    monkeypatch.setattr(concurrent.futures.Future, "result", interrupted)
    with pytest.raises(KeyboardInterrupt):
        loop.run(wait())
    assert cancelled.wait(1)


def test_an_upload_may_be_slow_but_not_stand_still(loop):
    async def slow(body):
        while body.read(1):  # noqa: ASYNC110
            await asyncio.sleep(0.03)
        return "done"

    async def stuck(body):
        body.read(1)
        await asyncio.sleep(100)

    body = Body(bytes(10))
    assert loop.run(sent(body, slow(body), stall=0.2)) == "done"
    body = Body(bytes(10))
    with pytest.raises(TimeoutError):
        loop.run(sent(body, stuck(body), stall=0.05))


def test_a_body_is_not_copied():
    data = bytes(1000)
    body = Body(data)
    with body.getbuffer() as view:
        assert view.obj is data
    assert body.getvalue() is data
