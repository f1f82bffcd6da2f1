"""What hosts are told to keep ready: the most worthy that fit, and seldom something else."""

import pytest

from lull.policy import NOTHING_NOTED, Notes, Pod, Stage
from lull.policy.fleet import Artifact, candidate_key
from lull.policy.habits import BINS, Habit
from lull.policy.learning import Learned
from lull.policy.staging import HOSTS_AT_ONCE, MOST_ARTIFACTS, SERVICES_AT_ONCE, stages
from unit.policy.fleets import GIB, NOW, fleet, host, pool, replace, service


def digest(number):
    return f"sha256:{number:064x}"


def with_artifact(key, number, *, of="", **fields):
    made = service(key, **fields)
    model = replace(made.model, uri=f"oci://store/{number}", digest=digest(number))
    return replace(made, model=model, follows=of)


A, B, C = (with_artifact(f"a/{name}", number) for number, name in enumerate(("one", "two", "three"), 1))


def artifact(of):
    return Artifact(of.model.uri, of.model.digest, of.follows or of.key)


def silent_for(**ages):
    """Notes of services that are silent for so many seconds."""
    habits = {f"a/{name}": Habit(silent_since=NOW - age) for name, age in ages.items()}
    return Notes(learned=Learned(habits))


ALL_SILENT = silent_for(one=60, two=3600, three=90_000)


def staging(*things, gib=2, **fields):
    return fleet(*things, pools=[pool(staged_bytes=gib * GIB if gib else None)], **fields)


def told(now, notes=ALL_SILENT):
    return {change.host: change.artifacts for change in stages(now, notes, NOW) if change}


def test_each_host_is_told_of_the_most_worthy_that_fit_and_then_of_nothing_more():
    now = staging(A, B, C, host("h1"), host("h2"))
    assert told(now) == {"h1": (artifact(A), artifact(B)), "h2": (artifact(A), artifact(B))}
    hosts = {name: replace(now.hosts[name], stage=listed) for name, listed in told(now).items()}
    assert told(replace(now, hosts=hosts)) == {}


def test_who_is_awake_is_kept_ready_for_the_next_host_too():
    assert told(staging(A, B, C, host("h1")), silent_for(one=60, three=90_000))["h1"] == (
        artifact(B),
        artifact(A),
    )


def test_a_listed_one_stays_until_somebody_is_worth_twice_as_much():
    listed = host("h1", stage=(artifact(C),))
    assert told(staging(A, C, listed, gib=1), silent_for(one=60, three=80)) == {}
    assert told(staging(A, C, listed, gib=1)) == {"h1": (artifact(A),)}


@pytest.mark.parametrize(("rate", "taken"), [(0.19, []), (0.21, ["h1"])])
def test_twice_as_much_is_enough_to_take_a_place(rate, taken):
    habits = {"a/one": (rate,) * BINS, "a/three": (0.1,) * BINS}
    known = Learned({key: Habit(silent_since=NOW - 60, hazards=rates) for key, rates in habits.items()})
    of = staging(A, C, host("h1", stage=(artifact(C),)), gib=1)
    assert list(told(of, Notes(learned=known))) == taken


def test_the_order_alone_is_no_news():
    listed = host("h1", stage=(artifact(B), artifact(A)))
    assert told(staging(A, B, listed)) == {}


def test_a_rollout_s_candidate_comes_first_in_the_name_of_its_service():
    candidate = with_artifact(candidate_key(C.key, "r2"), 9, of=C.key)
    assert told(staging(A, B, candidate, host("h1"), gib=1)) == {
        "h1": (Artifact("oci://store/9", digest(9), C.key),)
    }


def test_a_candidate_of_a_suspended_service_is_left_out():
    candidate = with_artifact(candidate_key(C.key, "r2"), 9, of=C.key, suspend=True)
    assert told(staging(A, candidate, host("h1"))) == {"h1": (artifact(A),)}


def test_one_artifact_of_two_services_is_listed_once():
    twin = replace(B, model=replace(B.model, uri=A.model.uri, digest=A.model.digest))
    assert told(staging(A, twin, C, host("h1")))["h1"] == (artifact(A), artifact(C))


def test_a_digest_in_the_uri_is_one_and_without_any_nothing_is_staged():
    said = replace(A, model=replace(A.model, uri=f"oci://store/m@{digest(5)}", digest=""))
    unsaid = replace(B, model=replace(B.model, digest=""))
    [only] = told(staging(said, unsaid, host("h1")))["h1"]
    assert only.digest == digest(5)


def test_the_digest_that_a_user_declares_is_believed_before_that_in_the_uri():
    both = replace(A, model=replace(A.model, uri=f"oci://store/m@{digest(5)}"))
    [only] = told(staging(both, host("h1")))["h1"]
    assert only.digest == A.model.digest


@pytest.mark.parametrize(
    "left_out",
    [{"suspend": True}, {"pool": "other"}, {"memory_bytes": 3 * GIB}, {"measured_bytes": 3 * GIB}],
)
def test_who_sleeps_for_good_lives_elsewhere_or_is_too_large_is_not_staged(left_out):
    assert told(staging(replace(A, **left_out), B, host("h1")))["h1"] == (artifact(B),)


def test_an_unknown_size_is_guessed():
    unknown = [replace(each, memory_bytes=None) for each in (A, B, C)]
    assert len(told(staging(*unknown, host("h1")))["h1"]) == 2


def test_no_more_is_listed_than_the_api_takes():
    many = [with_artifact(f"a/m{n}", n, memory_bytes=1) for n in range(1, MOST_ARTIFACTS + 10)]
    assert len(told(staging(*many, host("h1")))["h1"]) == MOST_ARTIFACTS


@pytest.mark.parametrize("other", [{"pod": Pod.STARTING}, {"cordoned": True}])
def test_hosts_that_come_or_go_are_told_nothing(other):
    assert told(staging(A, host("h1", **other))) == {}


def test_without_staging_nothing_is_asked_for_any_more():
    assert told(staging(A, host("h1"), gib=None)) == {}
    listed = staging(A, host("h1", stage=(artifact(A),)), gib=None)
    assert list(filter(None, stages(listed, NOTHING_NOTED, NOW))) == [Stage("h1", ())]


def test_so_many_services_and_hosts_are_looked_at_and_then_there_is_a_pause():
    many = [with_artifact(f"a/m{n}", n, memory_bytes=1) for n in range(2 * SERVICES_AT_ONCE)]
    hosts = [host(f"h{n}") for n in range(2 * HOSTS_AT_ONCE)]
    steps = list(stages(staging(*many, *hosts), NOTHING_NOTED, NOW))
    assert [step and step.host for step in steps[:5]] == [None, None, None, "h0", "h1"]
    assert steps.count(None) == 5, "two among services, one before the hosts, two among them"


def test_where_no_pool_stages_nobody_is_looked_at():
    many = [with_artifact(f"a/m{n}", n) for n in range(2 * SERVICES_AT_ONCE)]
    assert list(stages(staging(*many, host("h1"), gib=None), NOTHING_NOTED, NOW)) == []
