"""Accounts under any history: totals never fall, a crash loses and doubles nothing, parts sum up."""

from dataclasses import replace

from hypothesis import example, given
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
    microseconds_of,
    resize,
    set_rate,
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
        assert now.baseline.microjoules >= before.baseline.microjoules
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


names = st.sampled_from("abc")
drawn = st.integers(0, 100_000_000)
fleet_steps = st.lists(
    st.one_of(
        st.tuples(st.just("draw"), st.tuples(drawn, st.lists(st.tuples(names, drawn, drawn), max_size=4))),
        st.tuples(st.just("rate"), st.integers(0, 2_000_000)),
        st.tuples(st.just("size"), st.tuples(names, st.integers(0, 80_000))),
        st.tuples(st.just("wait"), st.floats(0.0, 5000.0)),
        st.tuples(st.just("write"), names),
        st.tuples(st.just("write pool"), st.none()),
        st.tuples(st.just("crash"), st.none()),
        st.tuples(st.just("unload"), names),
    ),
    max_size=40,
)


class Fleet:
    """A pool with one host and three services, as a controller and an agent account for them.

    The agent counts in microjoules and tells whole joules: of parts, begun ones as whole.
    """

    def __init__(self):
        self.now = START
        self.drawn = self.dynamic = self.unallocated = 0
        self.parts = {name: [0, 0] for name in "abc"}
        self.loads = 0
        self.sizes = dict.fromkeys("abc", 1000)
        self.rate = 37_000
        self.of_nobody = 0
        self.pool = PoolAccount(microseconds_of(START))
        self.accounts = {name: Account() for name in "abc"}
        self.written = {}
        self.plan()

    def placement(self, name):
        return f"{name}{self.loads}"

    def plan(self):
        old = self.pool
        self.pool = set_rate(self.pool, self.rate, sum(self.sizes.values()), self.now)
        meters = self.pool.until(self.now).meters
        for name, account in self.accounts.items():
            self.accounts[name] = resize(account, self.sizes[name], meters)
            if account.mebibytes != self.sizes[name]:
                self.write(name)  # at once, as any change of state
        if (old.baseline_milliwatts, old.mebibytes) != (self.pool.baseline_milliwatts, self.pool.mebibytes):
            self.write_pool()

    def write_pool(self):
        self.pool = self.pool.until(self.now)
        self.written_pool = pool_account_to(self.pool)

    def charge_pool(self):
        told = HostReading(self.drawn // 10**6, self.dynamic // 10**6, -(-self.unallocated // 10**6))
        before = self.pool.counted.get("h", HostReading()).unallocated_joules
        if not self.pool.mebibytes:
            self.of_nobody += told.unallocated_joules - before
        self.pool = charge_host(self.pool, "h", told, 0.0)

    def charge(self):
        self.charge_pool()
        for name, (idle, dynamic) in self.parts.items():
            told = Reading(-(-idle // 10**6), -(-dynamic // 10**6))
            self.accounts[name] = charge(self.accounts[name], self.placement(name), told, self.now, 0.0)

    def write(self, name):
        self.accounts[name] = self.accounts[name].until(self.pool.until(self.now).meters)
        self.written[name] = account_to(self.accounts[name], "p", self.now)

    def draw(self, unallocated, parts):
        self.unallocated += unallocated
        self.drawn += unallocated
        for name, idle, dynamic in parts:
            self.parts[name][0] += idle
            self.parts[name][1] += dynamic
            self.dynamic += dynamic
            self.drawn += idle + dynamic
        self.charge()

    def crash(self):
        self.pool = pool_account_from(self.written_pool)
        self.accounts = {name: account_from(ledger) for name, ledger in self.written.items()}
        self.pool = set_rate(self.pool, self.rate, sum(self.sizes.values()), self.now)
        self.charge_pool()
        self.plan()
        self.charge()

    def step(self, what, value):
        if what == "draw":
            self.draw(*value)
        elif what == "rate":
            self.rate = value if sum(self.sizes.values()) else 0
            self.plan()
        elif what == "size":
            self.sizes[value[0]] = value[1]
            self.rate = self.rate if sum(self.sizes.values()) else 0
            self.plan()
        elif what == "wait":
            self.now += value
        elif what == "write":
            self.write(value)
        elif what == "write pool":
            self.write_pool()
        elif what == "crash":
            self.crash()
        else:  # all are loaded anew: what was told of them is written before it goes
            for name in self.parts:
                self.write(name)
                self.parts[name] = [0, 0]
            self.loads += 1

    def saved(self):
        meters = self.pool.until(self.now).meters
        return [account.until(meters) for account in self.accounts.values()]


@given(fleet_steps)
@example(
    [
        ("rate", 57_407),
        ("size", ("a", 105)),
        ("wait", 1.8559365536534642),  # between two microseconds: written as one, counted on as the other
        ("write pool", None),
        ("wait", 3969.8559365536535),
        ("crash", None),
    ]
)
def test_what_services_saved_never_adds_up_to_more_than_the_pools_over_changes_and_crashes(history):
    fleet = Fleet()
    before = fleet.saved()
    for what, value in history:
        fleet.step(what, value)
        parts, pool = fleet.saved(), fleet.pool.until(fleet.now)
        idle = sum(part.baseline.microjoules - part.dynamic_joules * 10**6 for part in parts)
        assert idle <= pool.baseline_microjoules - fleet.dynamic // 10**6 * 10**6
        overhead = sum(part.overhead.microjoules for part in parts)
        told = pool.counted.get("h", HostReading()).unallocated_joules
        assert overhead >= (told - fleet.of_nobody) * 10**6
        assert sum(part.saved_joules for part in parts) <= pool.saved_joules + fleet.of_nobody + 1e-3
        for part, last in zip(parts, before, strict=True):
            assert part.baseline.microjoules >= last.baseline.microjoules
            assert part.overhead.microjoules >= last.overhead.microjoules
        before = parts


@given(st.lists(st.tuples(st.sampled_from("xy"), st.integers(0, 900), st.integers(0, 900), st.booleans())))
def test_a_pool_counts_each_hosts_growth_once(history):
    truth = {"x": HostReading(), "y": HostReading()}
    pool = PoolAccount(microseconds_of(START))
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
