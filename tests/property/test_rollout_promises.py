"""What rollouts promise, over random histories of what is seen and said."""

from bisect import bisect_left
from dataclasses import dataclass, field, replace
from math import ceil
from random import Random

import hypothesis.strategies as st
import pytest
from hypothesis import given, settings

from lull.api.latency import BINS, EDGES_SECONDS
from lull.policy.rollout import REFUSALS, TAKEN_BACK, Phase, Rollout, Signs, Wish, advance, begin
from lull.policy.verdict import Bar, Sample, Verdict, verdict

PAUSE_SECONDS = 10.0
SAMPLES = st.sampled_from([Sample(), Sample(30), Sample(100), Sample(100, 50), Sample(compared=80)])
FAILURES = st.sampled_from(
    [None, None, *((r, "words") for r in ("Unreachable", "LoadFailed", "GoldenMismatch"))]
)
SIGNS = st.builds(
    Signs,
    wanted=st.integers(0, 3),
    have=st.integers(0, 3),
    failure=FAILURES,
    no_room_seconds=st.sampled_from([None, None, 1.0, 40.0]),
    stable_lost=st.sampled_from([False, False, True]),
    old=SAMPLES,
    new=SAMPLES,
    accuracy_percent=st.sampled_from([None, 50.0, 99.0]),
)
WISHES = st.builds(
    Wish,
    revision=st.sampled_from(["b", "b", "b", "a", "c"]),
    steps=st.lists(st.integers(1, 100), min_size=1, max_size=4).map(sorted).map(tuple),
    pause_seconds=st.just(PAUSE_SECONDS),
    shadow_percent=st.sampled_from([0, 0, 20]),
    bar=st.builds(Bar, min_accuracy_percent=st.sampled_from([None, None, 90])),
    command=st.sampled_from([None, None, None, ("promote", "b"), ("abort", "b"), ("promote", "c")]),
)
HISTORIES = st.lists(st.tuples(WISHES, SIGNS, st.sampled_from([0.0, 1.0, 11.0])), min_size=1, max_size=12)


def states(history):
    """Yield each state with what it follows from: the one before, the wish, the signs, and when."""
    rollout, now = begin("a", replace(history[0][0], revision="b"), history[0][1], 0.0), 0.0
    for wish, signs, seconds in history:
        now += seconds
        before = rollout
        rollout, due_at = advance(before, wish, signs, now)
        yield before, wish, signs, now, rollout, due_at


def is_another(before, rollout):
    """Tell whether it has just begun, or begun again: what was seen then was not of it."""
    taken_up = before.reason == TAKEN_BACK and rollout.reason != TAKEN_BACK
    return taken_up or before.candidate != rollout.candidate


def step_of(rollout):
    """Return what is told apart by time and phase alone: samples are of one of these."""
    return rollout.candidate, rollout.phase, rollout.step, rollout.since


@given(HISTORIES)
def test_the_share_is_never_above_the_step_s(history):
    for _, wish, _, _, rollout, _ in states(history):
        if rollout.phase is Phase.STEPPING:
            assert rollout.percent <= wish.steps[rollout.step - 1] < 100
        elif rollout.phase is Phase.PROMOTED:
            assert rollout.percent == 100
        elif rollout.phase is not Phase.PROMOTING:
            assert rollout.percent == 0
        assert rollout.percent < 100 or rollout.phase is Phase.PROMOTED


@given(HISTORIES)
def test_no_request_is_copied_but_in_shadow(history):
    for _, wish, _, _, rollout, _ in states(history):
        assert rollout.shadow_percent == (wish.shadow_percent if rollout.phase is Phase.SHADOWING else 0)


@given(HISTORIES)
def test_what_its_host_refuses_gets_nothing_from_the_next_state_on_and_never_serves(history):
    for before, wish, signs, _, rollout, _ in states(history):
        reason = signs.failure[0] if signs.failure else ""
        refused = reason in REFUSALS and before.running
        same = wish.revision == before.candidate == rollout.candidate
        if not (refused and same) or (before.phase is Phase.SWAPPING and signs.have):
            continue
        if wish.command != ("promote", before.candidate) or reason == "GoldenMismatch":
            assert (rollout.percent, rollout.serving) == (0, before.stable)
            assert not rollout.running


@given(HISTORIES)
def test_the_fleet_never_serves_what_was_rejected_or_aborted(history):
    for _, _, _, _, rollout, _ in states(history):
        if rollout.phase in (Phase.REJECTED, Phase.ABORTED):
            assert rollout.serving == rollout.stable != rollout.candidate
            assert rollout.reason


@given(HISTORIES)
def test_the_same_look_at_the_same_moment_changes_nothing_and_time_only_when_it_is_said_to(history):
    for before, wish, signs, now, rollout, due_at in states(history):
        begun = is_another(before, rollout)
        again = Signs(signs.wanted) if begun else signs  # they were another candidate's
        if step_of(before) != step_of(rollout):
            again = replace(again, old=Sample(), new=Sample())  # they were another step's
        if due_at is not None:
            assert due_at > now
        after, same_due_at = advance(rollout, wish, again, now)
        assert after is rollout
        assert begun or same_due_at == due_at
        if same_due_at is None:
            assert advance(rollout, wish, again, now + 1e6)[0] is rollout, "nobody would have looked"


@given(HISTORIES)
def test_none_waits_for_requests_that_are_turned_away_as_the_old_one_fails(history):
    for before, wish, signs, _, rollout, _ in states(history):
        if is_another(before, rollout) or rollout.reason:
            continue  # one that failed before is not swapped in again
        evaluated = wish.bar.min_accuracy_percent is None or signs.accuracy_percent == 99.0
        if rollout.phase in (Phase.VALIDATING, Phase.SHADOWING, Phase.STEPPING) and signs.stable_lost:
            assert not evaluated or (signs.wanted and not signs.have), "only for its own replicas"


@dataclass
class Revision:
    """How a revision answers: always alike, so that it is clearly good or clearly bad."""

    fails: bool = False
    differs: bool = False
    seconds: float = 0.01


@dataclass
class Service:
    """A service that is asked all the time, by whose status a rollout goes on after each restart."""

    new: Revision
    wish: Wish
    rollout: Rollout = field(init=False)
    now: float = 0.0
    due: float = 0.0
    samples: dict = field(default_factory=dict)

    def __post_init__(self):
        self.rollout = begin("a", self.wish, Signs(wanted=2), self.now)

    def second(self, requests):
        """Go on for a second; the new revision's replicas are ready as soon as they are wanted."""
        self.now += 1.0
        self.due += requests * self.rollout.percent / 100
        asked, self.due = int(self.due), self.due % 1
        shadowed = requests * self.rollout.shadow_percent // 100
        self.count("a", requests - asked, Revision())
        self.count("b", asked, self.new, shadowed)
        signs = Signs(2, 2, old=self.samples.get("a", Sample()), new=self.samples.get("b", Sample()))
        before, (self.rollout, _) = self.rollout, advance(self.rollout, self.wish, signs, self.now)
        if self.rollout.since != before.since:
            self.samples.clear()

    def count(self, name, requests, revision, shadowed=0):
        latency = [0] * BINS
        latency[bisect_left(EDGES_SECONDS, revision.seconds)] = requests
        failed, differed = revision.fails * requests, revision.differs * shadowed
        seen = Sample(requests, failed, tuple(latency), shadowed, differed)
        self.samples[name] = self.samples.get(name, Sample()) + seen

    def restart(self):
        """Go on from the status, where a time has no fractions; what was counted is gone."""
        written = replace(self.rollout, since=float(ceil(self.rollout.since)))
        self.rollout, self.samples = written, {}


GOOD, FAILS, SLOW, DIFFERS = Revision(), Revision(fails=True), Revision(seconds=1.0), Revision(differs=True)


@settings(max_examples=40)
@given(
    st.sampled_from([GOOD, FAILS, SLOW, DIFFERS]),
    st.lists(st.sampled_from([10, 25, 50, 90, 100]), min_size=1, max_size=3).map(sorted).map(tuple),
    st.booleans(),
    st.sets(st.integers(0, 60), max_size=4),
)
def test_a_restart_anywhere_leads_to_the_same_end(revision, steps, shadows, restarts):
    wish = Wish("b", steps, PAUSE_SECONDS, shadow_percent=20 if shadows else 0)
    ends = []
    for at in (set(), restarts):
        service = Service(revision, wish)
        for second in range(300):
            if second in at:
                service.restart()
            service.second(40)
        ends.append((service.rollout.phase, service.rollout.reason, service.rollout.serving))
    assert ends[0] == ends[1]
    seen = shadows if revision is DIFFERS else steps[0] < 100 and revision is not GOOD
    assert ends[0][0] is (Phase.REJECTED if seen else Phase.PROMOTED)


def looks_worse(random, share, failing, bar, requests):
    """Tell whether a revision that is the same as the old one is ever called bad, looked at so often."""
    seen = {name: [0, 0, [0] * BINS] for name in "ab"}
    while seen["b"][0] < requests:
        name = "b" if random.random() < share else "a"
        counts = seen[name]
        counts[0] += 1
        counts[1] += random.random() < failing
        counts[2][bisect_left(EDGES_SECONDS, random.lognormvariate(-3, 0.5))] += 1
        if name == "b":
            old, new = (Sample(n, failed, tuple(took)) for n, failed, took in seen.values())
            if verdict(old, new, bar)[0] is Verdict.BAD:
                return True
    return False


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
@pytest.mark.parametrize("bar", [Bar(), Bar(error_percent=0, latency_percent=0)], ids=["usual", "strictest"])
def test_one_that_is_the_same_is_called_bad_in_less_than_one_of_a_hundred_rollouts(share, bar):
    random = Random(20)
    bad = sum(looks_worse(random, share, 0.05, bar, 100) for _ in range(200))
    assert bad <= 1
