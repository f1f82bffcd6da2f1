"""The pilot's view follows the watch: any order of events ends where the newest objects say."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lull.gateway.settings import HOLD_LIMIT_SECONDS
from lull.gateway.view import RUNNING, Lease, Targets, View, targets
from unit.gateway.objects import host_object, placement, rollout, service_object


def view(*services):
    fresh = View()
    for service in services:
        fresh.set_service(f"demo/{service}", service_object(service))
    return fresh


@pytest.mark.parametrize(
    ("state", "status", "address", "routed"),
    [
        ("Loaded", "Ready", "10.0.0.1", True),
        ("Loaded", "Loading", "10.0.0.1", False),
        ("Loaded", None, "10.0.0.1", False),
        ("Draining", "Ready", "10.0.0.1", False),
        ("Resident", "Ready", "10.0.0.1", False),
        ("Loaded", "Ready", None, False),
        ("Loaded", "Ready", "no address", False),
        ("Loaded", "Ready", "fd00::1", True),
    ],
)
def test_routed_means_loaded_and_ready_at_an_address(state, status, address, routed):
    ours = view("digits")
    ours.set_host("h", host_object(address, placement("d-1", "demo/digits", state=state, status=status)))
    assert bool(ours.routed("demo/digits")) is routed


def test_nothing_is_routed_to_a_host_that_is_being_deleted_though_its_lost_pod_may_stand_for_ever():
    ours = view("digits")
    host = host_object("10.0.0.1", placement("d-1", "demo/digits"))
    ours.set_host("h", host)
    host["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    assert ours.set_host("h", host) == {"demo/digits"}
    assert ours.routed("demo/digits") == []
    assert list(ours.placements()) == []


def test_without_its_service_nothing_is_routed():
    ours = view()
    ours.set_host("h", host_object("10.0.0.1", placement("d-1", "demo/digits")))
    assert ours.routed("demo/digits") == []
    assert ours.set_service("demo/digits", service_object("digits"))
    assert [item.lease for item in ours.routed("demo/digits")] == [Lease("d-1", 1)]


def test_under_a_new_wire_name_the_placements_of_the_old_one_are_not_routed():
    ours = view("digits")
    ours.set_host("h", host_object("10.0.0.1", placement("d-1", "demo/digits")))
    ours.set_service("demo/digits", service_object("digits", model="review"))
    assert ours.routed("demo/digits") == []
    ours.set_host("h", host_object("10.0.0.1", placement("d-2", "demo/digits", "review")))
    assert [item.lease for item in ours.routed("demo/digits")] == [Lease("d-2", 1)]


def shared(phase, ready, percent=10, shadow_percent=5):
    """Return the targets of a service whose placements are ready as these revisions."""
    ours = View()
    said = rollout(phase, percent=percent, shadow_percent=shadow_percent)
    ours.set_service("demo/digits", service_object("digits", rollout=said))
    models = [placement(f"d-{revision}", "demo/digits", revision=revision) for revision in ready]
    ours.set_host("h", host_object("10.0.0.1", *models))
    return targets(ours.services["demo/digits"].rollout, ours.routed("demo/digits"))


R0, R1, R2 = (Lease(f"d-r{n}", 1) for n in range(3))


@pytest.mark.parametrize("phase", sorted(RUNNING))
def test_while_a_rollout_runs_the_stable_revision_serves_and_the_candidate_has_its_share(phase):
    assert shared(phase, ["r1", "r2"]) == Targets((R1,), (R2,), "r2", 10, 5)
    assert shared(phase, ["r1"]) == Targets((R1,))


@pytest.mark.parametrize("phase", sorted(RUNNING))
def test_a_candidate_alone_serves_nothing_and_nor_does_what_neither_revision_is(phase):
    assert shared(phase, ["r0", "r2"]) == Targets(())


@pytest.mark.parametrize("phase", ["Rejected", "Aborted"])
def test_what_was_rejected_or_taken_back_gets_nothing_though_it_is_ready(phase):
    assert shared(phase, ["r1", "r2"]) == Targets((R1,))
    assert shared(phase, ["r2"]) == Targets(())
    assert shared(phase, ["r0"]) == Targets((R0,))


@pytest.mark.parametrize("phase", ["Promoted", "Swapping"])
def test_the_new_revision_takes_over_and_the_old_one_serves_where_it_is_not_ready(phase):
    assert shared(phase, ["r1", "r2"]) == Targets((R2,))
    assert shared(phase, ["r1"]) == Targets((R1,))


def test_a_route_names_the_candidate_only_where_it_has_a_share():
    assert shared("Stepping", ["r1", "r2"]).leases == {R1, R2}
    assert shared("Shadowing", ["r1", "r2"], percent=0).leases == {R1}


hosts = st.dictionaries(
    st.sampled_from(["d-1", "d-2", "r-1"]),
    st.tuples(st.integers(1, 3), st.sampled_from(["Loaded", "Draining"]), st.sampled_from(["Ready", None])),
)


@given(events=st.lists(st.tuples(st.sampled_from(["h1", "h2"]), st.none() | hosts), max_size=12))
def test_only_the_newest_state_of_each_host_counts(events):
    def item(host, models):
        return host_object(
            "10.0.0.1",
            *(
                placement(
                    f"{id_}-{host}",
                    "demo/digits" if id_[0] == "d" else "demo/review",
                    epoch=epoch,
                    state=state,
                    status=status,
                )
                for id_, (epoch, state, status) in models.items()
            ),
        )

    ours, newest = view("digits", "review"), {}
    for host, models in events:
        newest[host] = models
        ours.set_host(host, None if models is None else item(host, models))
    fresh = view("digits", "review")
    for host, models in newest.items():
        if models is not None:
            fresh.set_host(host, item(host, models))
    for service in ("demo/digits", "demo/review"):
        assert ours.routed(service) == fresh.routed(service)
    assert set(ours.placements()) == set(fresh.placements())


def test_an_unchanged_object_is_no_change():
    ours = view("digits")
    assert not ours.set_service("demo/digits", service_object("digits"))
    item = host_object("10.0.0.1", placement("d-1", "demo/digits"))
    assert ours.set_host("h", item) == {"demo/digits"}
    assert ours.set_host("h", item) == set()
    assert ours.set_host("h", None) == {"demo/digits"}


def test_a_hold_is_never_longer_than_envoy_waits():
    ours = View()
    ours.set_service("demo/digits", service_object("digits", hold={"timeout": "24h", "max": 5}))
    service = ours.services["demo/digits"]
    assert (service.hold_seconds, service.hold_max) == (HOLD_LIMIT_SECONDS, 5)


@pytest.mark.parametrize(("observed", "refused"), [(2, True), (1, False)])
def test_a_service_is_stalled_only_as_of_its_newest_spec(observed, refused):
    item = service_object("digits")
    item["metadata"]["generation"] = 2
    condition = {"type": "Stalled", "status": "True", "reason": "TooLarge", "message": "m"}
    item["status"] = {"conditions": [{**condition, "observedGeneration": observed}]}
    ours = View()
    ours.set_service("demo/digits", item)
    assert (ours.services["demo/digits"].refusal is not None) is refused


@given(id_=st.from_regex(r"[a-z0-9]([-a-z0-9]{0,20}[a-z0-9])?", fullmatch=True), epoch=st.integers(1, 10**9))
def test_a_clusters_name_tells_its_lease(id_, epoch):
    lease = Lease(id_, epoch)
    assert Lease.of_cluster(lease.cluster("grpc")) == lease
    assert Lease.of_cluster(f"{id_}|ftp") is None
    assert Lease.of_cluster("pilot") is None
