"""Single-flight: one call for many who ask the same, and nobody waits for what cannot come."""

from __future__ import annotations

import asyncio
import threading
import time

import pytest

from llm_savings.semantic_cache.flights import Flights


def test_a_hundred_threads_have_one_leader() -> None:
    flights, leaders, barrier = Flights(5), [], threading.Barrier(100)

    def ask() -> None:
        barrier.wait()
        if not flights.wait("q"):
            leaders.append(threading.get_ident())
            time.sleep(0.2)
            flights.land("q")

    threads = [threading.Thread(target=ask) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert len(leaders) == 1


async def test_a_hundred_tasks_have_one_leader() -> None:
    flights, leaders = Flights(5), 0

    async def ask() -> None:
        nonlocal leaders
        if not await flights.await_("q"):
            leaders += 1
            await asyncio.sleep(0.1)
            flights.land("q")

    await asyncio.gather(*[ask() for _ in range(100)])
    assert leaders == 1


async def test_tasks_wait_for_a_thread_and_threads_for_a_task() -> None:
    flights = Flights(5)
    led = threading.Event()

    def lead() -> None:
        assert not flights.wait("q")
        led.set()
        time.sleep(0.1)
        flights.land("q")

    thread = threading.Thread(target=lead)
    thread.start()
    await asyncio.to_thread(led.wait)
    assert await flights.await_("q")
    thread.join()

    assert not await flights.await_("r")
    follower = asyncio.create_task(asyncio.to_thread(flights.wait, "r"))
    await asyncio.sleep(0.05)
    assert not follower.done()
    flights.land("r")
    assert await follower


def test_nobody_waits_for_their_own_thread() -> None:
    flights = Flights(60)
    assert not flights.wait("q")
    assert not flights.wait("q")  # the second prompt of one batch: the first is not sent before this returns


async def test_nobody_waits_for_their_own_task_nor_blocks_their_own_loop() -> None:
    flights = Flights(60)
    assert not await flights.await_("q")
    assert not await flights.await_("q")
    assert not flights.wait("q")  # waiting here would stop the loop that the leader runs on


async def test_a_task_that_fails_lets_one_other_lead() -> None:
    flights = Flights(60)
    leaders: list[str] = []

    async def fail() -> None:
        assert not await flights.await_("q")
        await asyncio.sleep(0.05)
        raise RuntimeError

    async def follow(name: str) -> None:
        while await flights.await_("q"):
            pass
        leaders.append(name)

    failing = asyncio.create_task(fail())
    await asyncio.sleep(0.01)
    followers = [asyncio.create_task(follow(name)) for name in ("a", "b")]
    with pytest.raises(RuntimeError):
        await failing
    # The first to wake leads. Its task ends without landing, so the other leads after it.
    await asyncio.wait_for(asyncio.gather(*followers), 5)
    assert sorted(leaders) == ["a", "b"]


async def test_a_cancelled_leader_lets_others_go_on() -> None:
    flights = Flights(60)

    async def lead() -> None:
        await flights.await_("q")
        await asyncio.sleep(60)

    leader = asyncio.create_task(lead())
    await asyncio.sleep(0.01)
    follower = asyncio.create_task(flights.await_("q"))
    await asyncio.sleep(0.01)
    leader.cancel()
    assert await asyncio.wait_for(follower, 5)


async def test_a_cancelled_follower_harms_nobody() -> None:
    flights = Flights(60)
    led = threading.Event()

    def lead() -> None:
        flights.wait("q")
        led.set()

    await asyncio.to_thread(lead)
    assert led.is_set()
    cancelled, other = asyncio.create_task(flights.await_("q")), asyncio.create_task(flights.await_("q"))
    await asyncio.sleep(0.01)
    cancelled.cancel()
    await asyncio.sleep(0)
    flights.land("q")
    assert await asyncio.wait_for(other, 5)


def test_a_wait_ends_and_a_leader_that_never_lands_is_given_up() -> None:
    flights = Flights(0.1)
    leader = threading.Thread(target=flights.wait, args=("q",))
    leader.start()
    leader.join()
    assert flights.wait("q")  # waited in vain
    assert not flights.wait("q")  # and leads now


def test_an_old_leader_does_not_land_its_successors_flight() -> None:
    flights, taken, over = Flights(0.05), threading.Event(), threading.Event()

    def lead_next() -> None:
        flights.wait("q")
        taken.set()
        over.wait(10)  # a thread that has ended may leave its identity to the next one

    async def lead() -> None:
        await flights.await_("q")
        await asyncio.sleep(0.1)
        threading.Thread(target=lead_next, daemon=True).start()
        assert taken.wait(5)

    asyncio.run(lead())  # the first leader's task has ended
    flights.patience = 60
    waited = threading.Thread(target=flights.wait, args=("q",), daemon=True)
    waited.start()
    waited.join(0.1)
    assert waited.is_alive()
    flights.land("q")
    waited.join(5)
    assert not waited.is_alive()
    over.set()


def test_who_looked_before_an_answer_landed_looks_again() -> None:
    flights = Flights(60)
    began = time.monotonic()
    assert not flights.wait("q", began)
    flights.land("q")
    assert flights.wait("q", began)  # its look may have been too early
    assert not flights.wait("q", time.monotonic())
    assert not flights.wait("r", began)


def test_different_questions_do_not_wait() -> None:
    flights = Flights(60)
    assert not flights.wait("q")
    done: list[bool] = []
    other = threading.Thread(target=lambda: done.append(flights.wait("r")))
    other.start()
    other.join(5)
    assert done == [False]


async def test_a_held_call_goes_on_after_its_task() -> None:
    flights = Flights(5)

    async def lead() -> None:
        assert not await flights.await_("q")
        flights.hold("q")

    await asyncio.create_task(lead())
    follower = asyncio.create_task(flights.await_("q"))
    await asyncio.sleep(0.05)
    assert not follower.done()
    flights.land("q")
    assert await follower
    flights.hold("q")  # nobody leads any more
