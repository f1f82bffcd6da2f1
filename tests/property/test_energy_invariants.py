"""Accounts under any history: totals never fall, a crash loses and doubles nothing, parts sum up."""

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from lull.controller.books import (
    account_from,
    account_to,
    pool_account_from,
    pool_account_to,
)
from lull.policy.energy import (
    Account,
    HostReading,
    PoolAccount,
    Reading,
    charge,
    charge_host,
    close,
    close_hosts,
    rebase,
    rebase_pool,
    resize,
    run_meter,
)

START = 1_700_000_000.0
PLACEMENTS = ("a", "b", "c")

growth = st.tuples(st.sampled_from(PLACEMENTS), st.integers(0, 500), st.integers(0, 500), st.integers(0, 50))
steps = st.lists(
    st.one_of(
        st.tuples(st.just("grow"), growth),
        st.tuples(st.just("write"), st.none()),
        st.tuples(st.just("crash"), st.none()),
        st.tuples(st.just("old reading"), st.sampled_from(PLACEMENTS)),
        st.tuples(st.just("leave"), st.sampled_from(PLACEMENTS)),
    ),
    max_size=40,
)


class Service:
    """A service's account as a controller keeps it, beside the truth: counters that only grow."""

    def __init__(self):
        self.truth = {name: Reading() for name in PLACEMENTS}
        self.generation = dict.fromkeys(PLACEMENTS, 0)
        self.gone_joules = 0
        self.gone_requests = 0
        self.account = Account()
        self.written = account_to(self.account, "pool", START)
        self.now = START

    def id(self, name):
        return f"{name}{self.generation[name]}"

    def charge(self, name, reading):
        self.account = charge(self.account, self.id(name), reading, self.now, 0.1)

    def write(self):
        present = {self.id(name) for name in PLACEMENTS}
        self.account = close(self.account, present)
        self.written = account_to(self.account, "pool", self.now)

    def step(self, what, value):
        self.now += 7
        if what == "grow":
            name, idle, dynamic, requests = value
            old = self.truth[name]
            self.truth[name] = Reading(
                old.idle_joules + idle, old.dynamic_joules + dynamic, old.requests + requests
            )
            self.charge(name, self.truth[name])
        elif what == "write":
            self.write()
        elif what == "crash":
            self.account = account_from(self.written)
            for name in PLACEMENTS:
                self.charge(name, self.truth[name])
        elif what == "old reading":
            self.charge(value, Reading(0, 0, 0))
        else:
            # A placement leaves for good only once its last figures are written.
            self.write()
            self.gone_joules += self.truth[value].idle_joules + self.truth[value].dynamic_joules
            self.gone_requests += self.truth[value].requests
            self.generation[value] += 1
            self.truth[value] = Reading()
            self.write()


@given(steps)
def test_totals_never_fall_and_a_crash_neither_loses_nor_doubles(history):
    service = Service()
    before = service.account
    for what, value in history:
        service.step(what, value)
        now = service.account
        assert now.idle_joules >= before.idle_joules
        assert now.dynamic_joules >= before.dynamic_joules
        assert now.baseline_joules >= before.baseline_joules
        assert now.requests >= before.requests
        reported = sum(r.idle_joules + r.dynamic_joules for r in service.truth.values())
        assert now.joules == reported + service.gone_joules
        assert now.requests == sum(r.requests for r in service.truth.values()) + service.gone_requests
        assert sum(now.hours.values()) <= now.joules
        before = now


@given(steps)
def test_what_is_written_reads_back_as_the_same_account(history):
    service = Service()
    for what, value in history:
        service.step(what, value)
    service.write()
    assert account_from(service.written) == replace(service.account, spare_milligrams=0.0)


sizes = st.lists(st.integers(1, 80_000), min_size=1, max_size=6)
rates = st.lists(
    st.tuples(st.integers(1, 2_000_000), st.floats(0.01, 5000.0), st.booleans()), min_size=1, max_size=12
)


@given(sizes, rates)
def test_the_services_baselines_never_exceed_the_pools_over_changes_and_crashes(mebibytes, history):
    now = START
    pool = PoolAccount(at=now)
    accounts = [resize(Account(), size, pool.meter_at(now)) for size in mebibytes]
    seen = [0.0] * len(accounts)
    for milliwatts, seconds, crash in history:
        pool = run_meter(pool, milliwatts, sum(mebibytes), now)
        written = pool_account_to(pool)
        now += seconds
        # The rate was written when it changed; nothing since.
        pool = pool_account_from(written) if crash else rebase_pool(pool, now)
        accounts = [rebase(account, pool.meter_at(now)) for account in accounts]
        parts = [account.baseline_at(pool.meter_at(now)) for account in accounts]
        # The times of ledgers have microseconds, begun joules of a new rate count whole.
        assert sum(parts) <= pool.baseline_at(now) + 1e-6 * sum(mebibytes) * len(history) + 1
        assert all(part >= last - 1e-2 for part, last in zip(parts, seen, strict=True))
        seen = parts


@given(st.lists(st.tuples(st.sampled_from("xy"), st.integers(0, 900), st.integers(0, 900), st.booleans())))
def test_a_pool_counts_each_hosts_growth_once(history):
    truth = {"x": HostReading(), "y": HostReading()}
    pool = PoolAccount(at=START)
    written = pool_account_to(pool)
    for name, joules, dynamic, crash in history:
        if crash:
            pool = pool_account_from(written)
        old = truth[name]
        truth[name] = HostReading(old.joules + joules + dynamic, old.dynamic_joules + dynamic)
        for host, reading in truth.items():
            pool = charge_host(pool, host, reading, 0.1)
        assert pool.joules == sum(reading.joules for reading in truth.values())
        assert pool.baseline_joules == sum(reading.dynamic_joules for reading in truth.values())
        if joules % 2:
            pool = close_hosts(pool, truth)
            written = pool_account_to(pool)
