"""Small fleets, and the policy's answer to them."""

from dataclasses import replace

from lull.policy import (
    NOTHING_NOTED,
    CreateHost,
    DeleteHost,
    Failure,
    Fleet,
    Gateway,
    Host,
    Model,
    Notes,
    Placement,
    Pod,
    Pool,
    Report,
    Reported,
    Service,
    SetModels,
    State,
    observe,
    plan,
)
from lull.policy.packing import HOST_OVERHEAD_BYTES

GIB = 2**30
NOW = 1000.0


def service(key="a/one", *, gib=1, revision="r1", name=None, **fields):
    model = Model(revision, name or key.partition("/")[2], "file:///model")
    known = {"memory_bytes": gib * GIB if gib else None, "idle_after_seconds": 300.0}
    fields = {"pool": "pool"} | known | fields
    return Service(key, model, **fields)


def pool(*, gib=4, **fields):
    return Pool(
        **{"name": "pool", "capacity_bytes": gib * GIB + HOST_OVERHEAD_BYTES, "max_hosts": 2} | fields
    )


ONE, TWO, THREE = service("a/one"), service("a/two"), service("a/three")


def placement(of, *, state=State.LOADED, id_=None, **fields):
    fields = {
        "memory_bytes": of.memory_bytes or GIB,
        "idle_after_seconds": of.idle_after_seconds or 300.0,
    } | fields
    return Placement(id_ or f"{of.model.name}-{of.model.revision}", of.key, of.model, state=state, **fields)


def reported(of, state=Report.READY, **fields):
    return Reported(of.id, of.service, of.model.name, state, **fields)


def host(name="h1", *things, reports=None, pod=Pod.RUNNING, **fields):
    """A host with placements, or services that it serves; unless `reports` says otherwise, all are Ready."""
    placements = tuple(placement(t) if isinstance(t, Service) else t for t in things)
    told = [reported(p) for p in placements] if reports is None else reports
    fields = {"pool": "pool"} | fields
    return Host(name, placements=placements, reports={r.id: r for r in told}, pod=pod, **fields)


def telling(name, thing, state=Report.READY, pod=Pod.RUNNING, cordoned=False, **figures):
    """A host with one service or placement, and what its agent says of that."""
    p = placement(thing) if isinstance(thing, Service) else thing
    return host(name, p, reports=[reported(p, state, **figures)], pod=pod, cordoned=cordoned)


def riding(*services):
    """Free riders, one of each service."""
    return [placement(s, state=State.RESIDENT) for s in services]


def fleet(*things, held=(), drained=(), pools=None, gateways=None):
    services = {t.key: t for t in things if isinstance(t, Service)}
    hosts = {t.name: t for t in things if isinstance(t, Host)}
    one = Gateway("g", "now", frozenset(held), frozenset(drained))
    return Fleet(
        services,
        {p.name: p for p in (pools if pools is not None else [pool()])},
        hosts,
        {g.name: g for g in (gateways if gateways is not None else [one])},
        "seed",
    )


def altered(of, name="h1", **fields):
    """A fleet of which one host is another."""
    return replace(of, hosts={**of.hosts, name: replace(of.hosts[name], **fields)})


def decide(of, *, seen_at=None, now=NOW, notes=NOTHING_NOTED):
    """Plan for a fleet that has looked like this since `seen_at`."""
    if seen_at is not None:
        notes = observe(notes, of, seen_at)
    return plan(of, observe(notes, of, now), now)


def after(decided, name="h1"):
    """Return what a host should hold after the plan, or None where the plan leaves it alone."""
    for change in decided.changes:
        if isinstance(change, SetModels) and change.host == name:
            return change.after
    return None


def created(decided):
    return [change for change in decided.changes if isinstance(change, CreateHost)]


def deleted(decided):
    return [change.host for change in decided.changes if isinstance(change, DeleteHost)]


def failing(key="a/one", *, count=1, at=NOW - 1, reason="LoadFailed", revision="r1"):
    return Notes(failures={key: Failure(1, revision, reason, "it broke", at, count)})


__all__ = [
    "GIB",
    "NOW",
    "ONE",
    "THREE",
    "TWO",
    "Gateway",
    "Pod",
    "Report",
    "State",
    "after",
    "altered",
    "created",
    "decide",
    "deleted",
    "failing",
    "fleet",
    "host",
    "placement",
    "pool",
    "replace",
    "reported",
    "riding",
    "service",
    "telling",
]
