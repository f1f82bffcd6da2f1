"""Each peer on traces that are small enough to be counted by hand."""

from dataclasses import replace

import pytest

from lull.simulate.outcome import Delays
from lull.simulate.peers.always_on import always_on, packed_always_on
from lull.simulate.peers.caches import modelmesh, seldon
from lull.simulate.peers.pods import keda, keda_shared, knative, knative_shared
from lull.simulate.setting import GIB, Setting
from unit.simulate.traces import trace

SETTING = Setting(gpu_memory_bytes=20 * GIB, load_seconds=20.0, host_start_seconds=30.0)
SCALED = {knative: 90.0, keda: 300.0, knative_shared: 90.0, keda_shared: 300.0}
FIXED = [modelmesh, seldon]


def kept_seconds(outcome):
    return pytest.approx(outcome.host_hours * 3600)


def waits(outcome):
    return outcome.delayed, outcome.delay_seconds.max


def hosts_at(outcome, at):
    return [count for since, count in outcome.kept if since <= at][-1]


def test_always_on_keeps_a_gpu_for_each_model_and_lets_nobody_wait():
    told = always_on(trace((10, "a", 1), (10, "b", 1), (50, "a", 1), length_seconds=100), SETTING)
    assert (told.policy, told.requests, told.delayed, told.loads) == ("always-on", 3, 0, 0)
    assert kept_seconds(told) == 2 * 100


def test_packed_always_on_keeps_as_few_gpus_as_hold_the_models():
    requests = [(at, name, 1) for at, name in enumerate("abcd")]
    told = packed_always_on(
        trace(*requests, length_seconds=100, sizes={"a": 9, "b": 12, "c": 8, "d": 11}), SETTING
    )
    assert kept_seconds(told) == 2 * 100  # 12 + 8 and 11 + 9
    assert told.delayed == 0


def test_packed_always_on_puts_no_two_tenants_on_one_gpu():
    told = packed_always_on(
        trace((0, "a", 1), (0, "b", 1), length_seconds=10, tenants={"b": "other"}), SETTING
    )
    assert kept_seconds(told) == 2 * 10


@pytest.mark.parametrize("peer", SCALED)
def test_a_pod_starts_for_a_request_and_goes_so_long_after_the_last(peer):
    told = peer(trace((100, "a", 2), (130, "a", 1), (1000, "a", 3), length_seconds=5000), SETTING)
    # up at 150 and done at 152, which the second request waited for too; up again at 1050 and done at 1053
    assert waits(told) == (3, 50.0)
    assert told.delay_seconds == Delays(50.0, 50.0, 50.0, 50.0)
    assert told.loads == 2
    assert kept_seconds(told) == (152 + SCALED[peer] - 100) + (1053 + SCALED[peer] - 1000)


@pytest.mark.parametrize("peer", SCALED)
def test_a_request_within_the_idle_time_finds_the_pod_and_keeps_it(peer):
    idle = SCALED[peer]
    told = peer(trace((0, "a", 1), (51 + idle - 1, "a", 1), length_seconds=5000), SETTING)
    assert waits(told) == (1, 50.0)
    assert kept_seconds(told) == 51 + idle - 1 + 1 + idle


@pytest.mark.parametrize("peer", SCALED)
def test_a_request_after_the_idle_time_finds_no_pod(peer):
    told = peer(trace((0, "a", 1), (51 + SCALED[peer], "a", 1), length_seconds=5000), SETTING)
    assert told.loads == 2


@pytest.mark.parametrize("peer", SCALED)
def test_a_long_request_keeps_its_pod_though_a_short_one_ends_before(peer):
    told = peer(trace((0, "a", 400), (60, "a", 1), (449, "a", 1), length_seconds=5000), SETTING)
    assert told.loads == 1


@pytest.mark.parametrize("peer", SCALED)
def test_a_request_that_is_held_too_long_is_dropped_and_the_pod_goes_on(peer):
    slow = replace(SETTING, load_seconds=50.0)
    told = peer(trace((0, "a", 1), (30, "a", 1), length_seconds=5000), slow)
    assert (told.dropped, told.delayed) == (1, 2)
    assert kept_seconds(told) == 81 + SCALED[peer]


@pytest.mark.parametrize("peer", SCALED)
def test_a_pod_is_idle_from_the_end_of_its_load_though_all_its_requests_were_dropped(peer):
    told = peer(trace((0, "a", 7), length_seconds=5000), replace(SETTING, load_seconds=50.0))
    assert told.dropped == 1
    assert kept_seconds(told) == 80 + SCALED[peer]


@pytest.mark.parametrize("peer", [knative_shared, keda_shared])
def test_a_pod_that_goes_leaves_its_memory_to_others(peer):
    idle = SCALED[peer]
    stays = [(60.0 + at, "b", 1) for at in range(0, 2 * round(idle), 40)]
    requests = sorted([(0.0, "a", 1), (0.0, "b", 1), *stays, (51 + idle + 1, "c", 1)])
    told = peer(trace(*requests, length_seconds=5000), SETTING)
    assert max(count for _, count in told.kept) == 1


@pytest.mark.parametrize("peer", [knative, keda])
def test_a_gpu_of_its_own_is_not_shared(peer):
    told = peer(trace((0, "a", 1), (40, "b", 1), length_seconds=5000), SETTING)
    assert waits(told) == (2, 50.0)
    assert kept_seconds(told) == 2 * (51 + SCALED[peer])


@pytest.mark.parametrize("peer", [knative_shared, keda_shared])
def test_pods_share_a_gpu_that_is_kept_as_long_as_one_is_on_it(peer):
    told = peer(trace((0, "a", 1), (10, "b", 1), (40, "c", 1), (90, "b", 1), length_seconds=5000), SETTING)
    # b finds the GPU starting and loads beside a, until 50; c has no room there, and waits for another
    assert waits(told) == (3, 50.0)
    assert told.delay_seconds.p50 == 50.0
    assert hosts_at(told, 39) == 1
    assert kept_seconds(told) == (91 + SCALED[peer]) + (51 + SCALED[peer])


@pytest.mark.parametrize("peer", [knative_shared, keda_shared])
def test_a_pod_whose_gpu_is_up_waits_for_its_load_alone(peer):
    told = peer(trace((0, "a", 1), (100, "b", 1), length_seconds=5000), SETTING)
    assert told.delay_seconds.p50 == 20.0


@pytest.mark.parametrize("peer", [knative_shared, keda_shared])
def test_a_pod_goes_to_the_fullest_gpu_with_room(peer):
    idle = SCALED[peer]
    requests = [(0, "a", 1), (0, "b", 1), (60, "c", 1), (61, "d", 1)]
    told = peer(trace(*requests, length_seconds=5000, sizes={"a": 12, "b": 10, "c": 8, "d": 10}), SETTING)
    # c beside a (8 free), not beside b (10 free), so that d fits beside b
    assert kept_seconds(told) == (81 + idle) + (82 + idle)


@pytest.mark.parametrize("peer", SCALED)
def test_tenants_share_no_gpu(peer):
    told = peer(trace((0, "a", 1), (0, "b", 1), length_seconds=5000, tenants={"b": "other"}), SETTING)
    assert kept_seconds(told) == 2 * (51 + SCALED[peer])


@pytest.mark.parametrize("peer", FIXED)
def test_fixed_hosts_are_kept_for_each_tenant_all_the_time(peer):
    told = peer(
        trace((10, "a", 1), (10, "b", 1), length_seconds=100, tenants={"b": "other"}),
        replace(SETTING, fixed_hosts=3),
    )
    assert kept_seconds(told) == 2 * 3 * 100
    assert waits(told) == (2, 20.0)


@pytest.mark.parametrize("peer", FIXED)
def test_what_was_used_least_recently_leaves_for_what_is_asked(peer):
    requests = [(0, "a", 1), (100, "b", 1), (200, "a", 1), (300, "c", 1), (400, "a", 1)]
    told = peer(trace(*requests, length_seconds=1000), SETTING)  # room for two: b leaves
    assert told.loads == 3
    assert waits(told) == (3, 20.0)


@pytest.mark.parametrize("peer", FIXED)
def test_a_host_loads_one_model_at_a_time(peer):
    told = peer(trace((0, "a", 1), (5, "b", 1), (10, "b", 1), length_seconds=100), SETTING)
    assert told.delay_seconds == Delays(30.0, 35.0, 35.0, 35.0)


@pytest.mark.parametrize("peer", FIXED)
def test_a_model_that_computes_leaves_when_it_is_done(peer):
    told = peer(trace((0, "a", 100), (30, "b", 5), length_seconds=500, gib=16), SETTING)
    assert waits(told) == (2, 60.0)  # b would begin at 140: it is dropped at 90
    assert told.dropped == 1


@pytest.mark.parametrize("peer", FIXED)
def test_a_model_computes_until_the_longest_of_its_requests_is_done(peer):
    told = peer(trace((0, "a", 60), (30, "a", 1), (50, "b", 5), length_seconds=500, gib=16), SETTING)
    assert waits(told) == (2, 50.0)  # a is done at 80


@pytest.mark.parametrize("peer", FIXED)
def test_models_spread_over_the_hosts_and_load_side_by_side(peer):
    told = peer(trace((0, "a", 1), (0, "b", 1), length_seconds=100), replace(SETTING, fixed_hosts=2))
    assert waits(told) == (2, 20.0)


def test_modelmesh_loads_anywhere_and_seldon_only_where_a_model_is_registered():
    # One model a host. a and c share Seldon's first host; b has the second one to itself, idle since 20.
    requests = [(0, "a", 1), (0, "b", 1), (100, "a", 1), (200, "c", 1), (300, "a", 1), (400, "c", 1)]
    setting = replace(SETTING, fixed_hosts=2)
    assert seldon(trace(*requests, length_seconds=1000, gib=16), setting).loads == 5
    assert modelmesh(trace(*requests, length_seconds=1000, gib=16), setting).loads == 3


@pytest.mark.parametrize("peer", [*SCALED, *FIXED])
def test_a_model_may_take_a_load_time_of_its_own(peer):
    told = peer(trace((0, "a", 1), length_seconds=1000), replace(SETTING, loads={"team/a": 5.0}))
    assert told.delay_seconds.max == 5.0 + (30.0 if peer in SCALED else 0.0)
