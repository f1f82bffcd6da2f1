"""A plan that looks at what has changed decides what one does that looks at everything: one change at a time.

`tests/property/test_plan_scope.py` promises it of all histories; here each kind of news has a case.
"""

from dataclasses import replace

import pytest

from lull.policy import Notes, observe, plan
from lull.policy.fleet import Count, Window
from lull.policy.habits import BINS, Habit
from lull.policy.learning import BEGUN, Learned
from lull.policy.power import PowerProfile
from lull.policy.prices import Price
from unit.policy.fleets import (
    GIB,
    NOW,
    Gateway,
    Pod,
    Report,
    State,
    altered,
    failing,
    fleet,
    host,
    placement,
    pool,
    reported,
    riding,
    service,
)

SERVICES = {
    s.key: s
    for s in (
        service("a/serves", min_replicas=1),
        service("a/beside"),
        service("a/sleeps"),
        service("a/alone"),
        service("a/away"),
        service("a/waits", gib=4),
        service("a/leaves"),
    )
}
SERVES, BESIDE, SLEEPS, ALONE, AWAY, WAITS, LEAVES = SERVICES.values()
COSTS_A_NODE = pool(max_hosts=4, profile=PowerProfile(70.0, 50.0, 700.0, 240.0))
WORTH, RATE = 1000.0, 0.0013  # 1.3 host-seconds a second: a host costs 1, and 1.67 with its node


def there():
    """A fleet at rest: one host serves, on two of two nodes all sleep, from one somebody leaves."""
    drains = placement(LEAVES, state=State.DRAINING)
    hosts = [
        host("h1", placement(SERVES), *riding(BESIDE), node="n1"),
        host("h2", *riding(SLEEPS), node="n1"),
        host("h3", *riding(ALONE), node="n2"),
        host("h4", drains, placement(SERVES, id_="second", state=State.DRAINING), node="n2"),
    ]
    return fleet(*SERVICES.values(), *hosts, pools=[COSTS_A_NODE])


def known():
    habits = {key: Habit(silent_since=NOW - 60, hazards=(RATE,) * BINS) for key in SERVICES}
    learned = Learned(habits, {}, {("pool", 5): Price(WORTH)})
    since = {BEGUN: NOW - 9000}
    since |= {
        (fact, f"h{n}"): NOW - 9000 + 10 * (fact == "Empty") for n in (1, 2, 3) for fact in ("Kept", "Empty")
    }
    return Notes(learned=learned, since=since)


def with_service(of, changed):
    return replace(of, services={**of.services, changed.key: changed})


def with_pool(of, **fields):
    return replace(of, pools={"pool": replace(of.pools["pool"], **fields)})


def with_gateways(of, *gateways):
    return replace(of, gateways={g.name: g for g in gateways})


def without(of, name):
    return replace(of, hosts={key: h for key, h in of.hosts.items() if key != name})


SAID = placement(SERVES)
CHANGES = {
    "nothing": lambda of: of,
    "a gateway holds": lambda of: with_gateways(of, Gateway("g", "now", frozenset(["a/away"]))),
    "a gateway holds what has no room": lambda of: with_gateways(
        of, Gateway("g", "now", frozenset(["a/waits"]))
    ),
    "a gateway lets go": lambda of: with_gateways(
        of, Gateway("g", "now", drained=frozenset([placement(LEAVES, state=State.DRAINING).claim]))
    ),
    "a gateway comes": lambda of: with_gateways(of, *of.gateways.values(), Gateway("g2", "now")),
    "a gateway goes": lambda of: with_gateways(of),
    "the pool has to keep more": lambda of: with_pool(of, min_hosts=4),
    "the pool may have more": lambda of: with_pool(of, max_hosts=9),
    "the pool may have fewer": lambda of: with_pool(of, max_hosts=1),
    "the pool says when": lambda of: with_pool(of, empty_after_seconds=5.0),
    "tenants keep apart": lambda of: with_pool(of, namespaced=True),
    "there is no pool any more": lambda of: replace(of, pools={}),
    "a host says that it is smaller": lambda of: altered(of, "h1", capacity_bytes=3 * GIB),
    "a host does not start": lambda of: altered(of, "h2", pod=Pod.STARTING, trouble="no node has room"),
    "a host loads nothing any more": lambda of: altered(
        of, "h2", reports={SAID.id: reported(SAID, Report.FAILED, reason="LoadTimeout")}
    ),
    "a host comes to a node": lambda of: replace(of, hosts={**of.hosts, "h0": host("h0", node="n2")}),
    "a host moves to another node": lambda of: altered(of, "h3", node="n1"),
    "a host is to be used again": lambda of: altered(of, "h3", cordoned=True, vacated=True),
    "a host is cordoned": lambda of: altered(of, "h1", cordoned=True),
    "an idle host is cordoned": lambda of: altered(of, "h2", cordoned=True),
    "an idle host may not be let go": lambda of: altered(of, "h3", cordoned=True, kept=True),
    "a host goes from a node": lambda of: without(of, "h1"),
    "a host on a node of its own goes": lambda of: without(of, "h3"),
    "a Pod is gone": lambda of: altered(of, "h1", pod=Pod.GONE),
    "an idle Pod is gone": lambda of: altered(of, "h2", pod=Pod.GONE),
    "a Pod ends": lambda of: altered(of, "h1", pod=Pod.TERMINATING),
    "a Pod is not ready": lambda of: altered(of, "h1", pod=Pod.UNREADY),
    "a host was never made": lambda of: altered(of, "h2", pod=Pod.MISSING),
    "a load fails": lambda of: altered(of, "h1", reports={SAID.id: reported(SAID, Report.FAILED)}),
    "a model grows": lambda of: altered(of, "h1", reports={SAID.id: reported(SAID, memory_bytes=4 * GIB)}),
    "a model is idle": lambda of: altered(of, "h1", reports={SAID.id: reported(SAID, idle=True)}),
    "a user suspends": lambda of: with_service(of, replace(SLEEPS, suspend=True)),
    "a user suspends what leaves": lambda of: with_service(of, replace(LEAVES, suspend=True)),
    "a user wants a replica": lambda of: with_service(of, replace(AWAY, min_replicas=1)),
    "a user wants a window": lambda of: with_service(
        of, replace(AWAY, schedule=(Window("* * * * *", "UTC", 60.0),))
    ),
    "a user wants none any more": lambda of: with_service(of, replace(SERVES, min_replicas=0)),
    "a user wants another revision": lambda of: with_service(
        of, service("a/serves", revision="r2", min_replicas=1)
    ),
    "a user moves to another pool": lambda of: with_service(of, replace(SLEEPS, pool="other")),
    "a service is gone": lambda of: replace(
        of, services={k: s for k, s in of.services.items() if k != "a/alone"}
    ),
    "a service comes": lambda of: with_service(of, service("b/new", min_replicas=1)),
    "requests are counted": lambda of: replace(of, counts={"a/serves": Count(9, 1)}),
}


@pytest.mark.parametrize("later", [1.0, 40_000.0])
@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_changed_is_decided_on_as_if_all_was_looked_at(change, later):
    before = there()
    notes = observe(known(), before, NOW)
    last = plan(before, notes, NOW, plan(before, notes, NOW))
    after, now = change(before), NOW + later

    seen = observe(notes, after, now)
    narrow, whole = plan(after, seen, now, last), plan(after, seen, now)

    assert seen.since == observe(replace(notes, seen=None), after, now).since
    assert narrow.changes == whole.changes
    assert narrow.services == whole.services
    assert narrow.pools == whole.pools
    assert narrow.next_at == whole.next_at


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_what_is_as_it_was_again_is_decided_on_as_if_all_was_looked_at(change):
    before, now = there(), NOW + 2
    notes = observe(known(), before, NOW)
    changed, last = change(before), plan(before, notes, NOW)
    notes = observe(notes, changed, NOW + 1)
    last = plan(changed, notes, NOW + 1, last)

    seen = observe(notes, before, now)
    narrow, whole = plan(before, seen, now, last), plan(before, seen, now)

    assert (narrow.changes, narrow.services, narrow.pools) == (whole.changes, whole.services, whole.pools)
    assert narrow.next_at == whole.next_at


@pytest.mark.parametrize("worth", [100.0, 10_000.0])
def test_another_price_is_decided_on_as_if_all_was_looked_at(worth):
    of = there()
    notes = observe(known(), of, NOW)
    last = plan(of, notes, NOW)
    seen = observe(
        replace(notes, learned=replace(notes.learned, prices={("pool", 5): Price(worth)})), of, NOW + 1
    )

    narrow, whole = plan(of, seen, NOW + 1, last), plan(of, seen, NOW + 1)

    assert (narrow.changes, narrow.next_at) == (whole.changes, whole.next_at)


def test_a_failure_that_is_noted_or_forgotten_is_decided_on_as_if_all_was_looked_at():
    of = with_service(there(), replace(AWAY, min_replicas=1))
    calm, failed = (
        observe(n, of, NOW) for n in (known(), replace(known(), failures=failing("a/away").failures))
    )

    for one, other in ((calm, failed), (failed, calm)):
        narrow, whole = plan(of, other, NOW, plan(of, one, NOW)), plan(of, other, NOW)
        assert (narrow.changes, narrow.services, narrow.next_at) == (
            whole.changes,
            whole.services,
            whole.next_at,
        )
