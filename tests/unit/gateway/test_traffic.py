"""Traffic: what both revisions were asked is counted once, whatever Envoy and rollouts do meanwhile."""

from lull.api.latency import BINS
from lull.gateway.traffic import (
    CANDIDATE_ROUTES,
    LONGEST,
    OWN_ROUTES,
    Rollout,
    Statistics,
    Traffic,
    routes_name,
)
from lull.gateway.view import Lease, Split

OWN = Lease("digits-1", 1)
SERVICE = "demo/digits"


def rollouts(candidate="r2", own=(OWN,)):
    return {SERVICE: Rollout(Split("r1", candidate, "Stepping", 10), own)}


def statistics(own=None, candidate=None, *, of="r2", grpc_failed=0, own_bins=None, candidate_bins=None):
    """Return what Envoy would say; the outcomes by their short names."""
    counters, histograms = {f"cluster.{OWN.name}|grpc.grpc.failure": grpc_failed}, {}
    for routes, outcomes, bins in (
        (OWN_ROUTES, own or {}, own_bins),
        (CANDIDATE_ROUTES, candidate or {}, candidate_bins),
    ):
        stem = f"vhost.{SERVICE}.route.{routes_name(routes, of)}.upstream_rq_"
        counters |= {stem + name: value for name, value in outcomes.items()}
        if bins:
            histograms[stem + "time"] = (*bins, *(0,) * BINS)[:BINS]
    return Statistics(counters, histograms)


def entry(requests, latency):
    return {"requests": requests, "failures": 0, "latency": latency, "compared": 0, "differed": 0}


def counted(*looks, candidate="r2"):
    """Return the totals after these looks at Envoy, the first of which finds nothing."""
    traffic = Traffic()
    for look in (Statistics(), *looks):
        traffic.take(traffic.follow(rollouts(candidate)), look)
    return traffic.totals()


def test_each_revision_has_what_its_share_was_asked():
    totals = counted(
        statistics({"completed": 90}, {"completed": 10}, own_bins=[80, 10], candidate_bins=[0, 10])
    )
    assert totals == {
        "demo/digits@r1": entry(90, [80, 10]),
        "demo/digits@r2": entry(10, [0, 10]),
    }


def test_a_failure_that_the_other_revision_then_answered_is_the_candidates():
    totals = counted(statistics({}, {"completed": 10, "retry": 4}))
    assert (totals["demo/digits@r2"]["requests"], totals["demo/digits@r2"]["failures"]) == (10, 4)
    assert "demo/digits@r1" not in totals


def test_what_both_refused_is_one_failure():
    totals = counted(statistics({}, {"completed": 10, "retry": 4, "retry_limit_exceeded": 4, "4xx": 4}))
    assert totals["demo/digits@r2"]["failures"] == 4


def test_what_was_too_large_to_be_asked_again_is_a_failure_too():
    totals = counted(statistics({}, {"completed": 10, "retry": 4, "5xx": 3}))
    assert totals["demo/digits@r2"]["failures"] == 7


def test_the_own_revisions_failures_are_those_that_clients_saw_over_http_and_grpc():
    own = {"completed": 50, "4xx": 1, "5xx": 2, "retry": 9}
    assert counted(statistics(own, grpc_failed=3))["demo/digits@r1"]["failures"] == 6


def test_no_more_has_failed_than_was_asked_while_the_second_try_is_under_way():
    assert counted(statistics({}, {"retry": 2}))["demo/digits@r2"]["failures"] == 0


def test_what_was_counted_before_the_rollout_is_not_its():
    old = statistics({"completed": 1000}, {"completed": 500, "retry": 500}, grpc_failed=70)
    traffic = Traffic()
    traffic.take(traffic.follow(rollouts()), old)
    assert traffic.totals() == {}
    traffic.take(traffic.follow(rollouts()), old)
    assert traffic.totals() == {}


def test_what_a_former_candidate_ends_late_is_not_the_next_ones():
    traffic = Traffic()
    for candidate, look in (
        ("r2", Statistics()),
        ("r3", statistics({}, {"completed": 5})),
        ("r3", statistics({}, {"completed": 9, "retry": 4})),
    ):
        traffic.take(traffic.follow(rollouts(candidate)), look)
    assert traffic.totals() == {}


def test_totals_never_fall_when_envoy_starts_anew():
    totals = counted(
        statistics({"completed": 90}, {}, own_bins=[90], grpc_failed=5),
        statistics({"completed": 7}, {}, own_bins=[7], grpc_failed=1),
    )
    assert totals["demo/digits@r1"]["requests"] == 97
    assert totals["demo/digits@r1"]["latency"] == [97]
    assert totals["demo/digits@r1"]["failures"] == 6


def test_a_rollout_that_is_over_is_forgotten():
    traffic = Traffic()
    traffic.take(traffic.follow(rollouts()), Statistics())
    traffic.take(traffic.follow(rollouts()), statistics({"completed": 1}, {"completed": 1}))
    traffic.follow({})
    assert traffic.totals() == {}
    traffic.compared(SERVICE, "r2", True)
    assert traffic.totals() == {}


def test_comparisons_are_counted_for_the_candidate_of_a_running_rollout():
    traffic = Traffic()
    traffic.follow(rollouts())
    for differed in (True, False, False):
        traffic.compared(SERVICE, "r2", differed)
    traffic.compared(SERVICE, "r9", True)
    ((key, entry),) = traffic.totals().items()
    assert (key, entry["compared"], entry["differed"]) == ("demo/digits@r2", 3, 1)


def test_a_candidate_that_nobody_asks_takes_the_place_of_none_that_is_asked():
    idle = {f"demo/a{i:03}": Rollout(Split("r1", "r2", "Stepping", 10), ()) for i in range(LONGEST)}
    loading = {f"demo/b{i:03}": Rollout(Split("r1", "r2", "Validating"), (OWN,)) for i in range(LONGEST)}
    asked = {"demo/c": Rollout(Split("r1", "r2", "Stepping", 10), (OWN,))}
    shadowed = {"demo/d": Rollout(Split("r1", "r2", "Shadowing", 0, 10), (OWN,))}
    assert list(Traffic().follow(idle | loading | asked | shadowed))[:2] == ["demo/c", "demo/d"]


def test_as_many_revisions_are_counted_as_a_gateway_may_say():
    traffic = Traffic()
    many = {f"demo/s{i:03}": Rollout(Split("r1", "r2", "Stepping", 10), ()) for i in range(LONGEST)}
    followed = traffic.follow(many)
    assert len(followed) == LONGEST // 2
    for service in many:
        traffic.compared(service, "r1", False)
        traffic.compared(service, "r2", False)
    assert len(traffic.totals()) == LONGEST
