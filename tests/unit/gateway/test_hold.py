"""Places to wait in: bounded per service and in all, and always given back."""

import asyncio

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lull.gateway.hold import Bell, FullError, Ledger

SERVICES = ["demo/a", "demo/b", "other/a"]


@given(
    total=st.integers(1, 8),
    limit=st.integers(1, 5),
    moves=st.lists(st.tuples(st.booleans(), st.sampled_from(SERVICES)), max_size=60),
)
def test_the_ledger_never_exceeds_a_bound_and_forgets_who_left(total, limit, moves):
    ledger = Ledger(total)
    held = dict.fromkeys(SERVICES, 0)
    for enters, service in moves:
        if enters:
            room = held[service] < limit and sum(held.values()) < total
            try:
                ledger.enter(service, limit)
                entered = True
            except FullError:
                entered = False
            assert entered == room
            held[service] += entered
        elif held[service]:
            ledger.leave(service)
            held[service] -= 1
        assert ledger.total == sum(held.values())
        assert ledger.services == {service for service, count in held.items() if count}
        assert all(ledger.taken(service) == count for service, count in held.items())


def test_a_refusal_says_whose_bound_it_was():
    ledger = Ledger(2)
    ledger.enter("demo/a", 1)
    with pytest.raises(FullError, match=r"spec\.hold\.max"):
        ledger.enter("demo/a", 1)
    ledger.enter("demo/b", 1)
    with pytest.raises(FullError, match="gateway"):
        ledger.enter("other/a", 1)


async def test_the_bell_wakes_all_who_wait_and_nobody_else():
    bell = Bell()
    ours = [asyncio.create_task(bell.wait("demo/a", 5)) for _ in range(3)]
    other = asyncio.create_task(bell.wait("demo/b", 5))
    await asyncio.sleep(0)
    bell.ring("demo/a")
    await asyncio.gather(*ours)
    assert not other.done()
    other.cancel()


async def test_the_bell_gives_up_in_time_and_keeps_nobody():
    bell = Bell()
    with pytest.raises(TimeoutError):
        await bell.wait("demo/a", 0.01)
    assert not bell._waiters


async def test_a_cancelled_waiter_leaves_the_others_waiting():
    bell = Bell()
    leaver, stayer = (asyncio.create_task(bell.wait("demo/a", 5)) for _ in range(2))
    await asyncio.sleep(0)
    leaver.cancel()
    await asyncio.sleep(0)
    bell.ring("demo/a")
    await stayer
