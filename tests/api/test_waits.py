from __future__ import annotations

import asyncio
import threading

import pytest

from api.waits import CLOSING, Closed, Waits

LONG_S = 30.0


def test_a_hint_between_the_look_and_the_wait_is_not_lost() -> None:
    waits = Waits()
    seen: list[int] = []

    def look() -> int:
        seen.append(len(seen))
        if len(seen) == 1:
            waits.hint("job:1")  # it happens after this look has read
        return len(seen)

    assert asyncio.run(waits.look_until("job:1", LONG_S, look, lambda count: count == 2)) == 2


def test_a_hint_from_another_thread_wakes_a_parked_wait() -> None:
    waits = Waits()
    done = threading.Event()

    async def scenario() -> bool:
        parked = asyncio.create_task(waits.look_until("node:3", LONG_S, done.is_set, bool))
        while not waits.listening("node:3"):
            await asyncio.sleep(0)
        done.set()
        await asyncio.to_thread(waits.hint, "node:3")
        return await parked

    assert asyncio.run(scenario())


def test_a_hint_for_another_key_wakes_nobody() -> None:
    async def scenario() -> bool:
        waits = Waits()
        with waits.listen("job:1") as bell:
            waits.hint("job:2")
            return await bell.wait(0.01)

    assert not asyncio.run(scenario())


def test_many_hints_between_two_waits_are_one() -> None:
    async def scenario() -> tuple[bool, bool]:
        waits = Waits()
        with waits.listen("events") as bell:
            for _ in range(5):
                waits.hint("events")
            return await bell.wait(LONG_S), await bell.wait(0.01)

    assert asyncio.run(scenario()) == (True, False)


def test_the_last_look_comes_after_the_time_is_up() -> None:
    looks: list[int] = []
    asyncio.run(Waits().look_until("job:1", 0.2, lambda: looks.append(1), lambda _: False))
    assert len(looks) == 2


def test_no_wait_looks_once_and_listens_to_nothing() -> None:
    waits = Waits()
    looks: list[int] = []
    asyncio.run(waits.look_until("job:1", 0, lambda: looks.append(waits.listening("job:1")), lambda _: False))
    assert looks == [0]


def test_closing_wakes_who_waits_and_lets_nobody_wait_again() -> None:
    waits = Waits()

    async def scenario() -> str:
        parked = asyncio.create_task(waits.look_until("job:1", LONG_S, lambda: "as it is", lambda _: False))
        while not waits.listening("job:1"):
            await asyncio.sleep(0)
        await asyncio.to_thread(waits.close)
        await waits.look_until("job:2", LONG_S, lambda: "late", lambda _: False)
        return await parked

    assert asyncio.run(scenario()) == "as it is"


def test_a_waiter_that_is_done_is_forgotten() -> None:
    waits = Waits()
    asyncio.run(waits.look_until("job:1", LONG_S, lambda: True, bool))
    assert waits.listening("job:1") == 0


def test_a_hint_after_the_loop_has_ended_harms_nobody() -> None:
    waits = Waits()

    async def scenario() -> None:
        waits.listen("job:1").__enter__()

    asyncio.run(scenario())
    waits.hint("job:1")


def test_what_arrives_before_the_server_stops_arrives() -> None:
    async def arriving() -> str:
        return "all of it"

    async def both() -> list[str]:
        waits = Waits()
        before = await waits.unless_closed(arriving())
        waits.close()
        return [before, await waits.unless_closed(arriving())]

    assert asyncio.run(both()) == ["all of it", "all of it"]


def test_what_has_not_arrived_when_the_server_stops_is_given_up() -> None:
    async def stopped() -> None:
        waits = Waits()
        waiting = asyncio.ensure_future(waits.unless_closed(asyncio.Event().wait()))
        while not waits.listening(CLOSING):
            await asyncio.sleep(0)
        waits.close()
        await waiting

    with pytest.raises(Closed):
        asyncio.run(stopped())
