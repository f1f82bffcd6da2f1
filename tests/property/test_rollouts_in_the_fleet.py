"""I1–I8 hold, and narrow plans say the same as whole ones, while revisions come and go.

A candidate is shown as the controller shows it: beside its service, whose own its placements become once it
is promoted, and whose old ones once it is aborted.
"""

from dataclasses import replace

import hypothesis.strategies as st
from hypothesis import HealthCheck, settings
from hypothesis.stateful import invariant, rule

from lull.policy.fleet import candidate_key

from .fleet_world import SERVICES, FleetWorld
from .test_policy_invariants import KEYS, Fleets


class RolloutWorld(FleetWorld):
    """One whose services may have a candidate each."""

    def __init__(self):
        super().__init__(max_hosts=4)
        self.candidates = {}  # keys, by the services that they follow
        self.revisions = 0

    def begin(self, key):
        """Roll another revision out."""
        self.revisions += 1
        revision = f"c{self.revisions}"
        stable = self.services[key]
        fresh = replace(stable.model, revision=revision, uri=f"file:///{key}-{revision}")
        self.candidates[key] = candidate_key(key, revision)
        self.services[self.candidates[key]] = replace(stable, model=fresh)
        self.share(key, 10)

    def share(self, key, percent):
        """Show the candidate with a share, and all else as its service has it."""
        candidate, stable = self.candidates[key], self.services[key]
        self.services[candidate] = replace(
            stable,
            key=candidate,
            model=self.services[candidate].model,
            follows=key,
            share_percent=percent,
            min_replicas=0,
        )

    def end(self, key, *, promoted):
        """Let the candidate be what its service is, or nothing any more."""
        candidate = self.candidates.pop(key)
        model = self.services.pop(candidate).model
        if promoted:
            self.services[key] = replace(self.services[key], model=model)
        elif key in self.services:
            unfit = self.services[key].unfit | {model.revision}
            self.services[key] = replace(self.services[key], unfit=unfit)
        self._rename(candidate, key)

    def _rename(self, old, new):
        """Show the placements of one service as another's: agents know only the one."""

        def renamed(of):
            return replace(of, service=new) if of.service == old else of

        for name, host in self.hosts.items():
            placements = tuple(map(renamed, host.placements))
            reports = {id_: renamed(report) for id_, report in host.reports.items()}
            if (placements, reports) != (host.placements, host.reports):
                self.hosts[name] = replace(host, placements=placements, reports=reports)
        for machine in self.machines.values():
            machine.loaded = {id_: (renamed(p), *rest) for id_, (p, *rest) in machine.loaded.items()}
            machine.unloading = {id_: (renamed(p), size) for id_, (p, size) in machine.unloading.items()}

    def agent_reports(self, name, idle):
        """Report the candidates of those idle that nobody asks, too."""
        super().agent_reports(name, {*idle, *(self.candidates.get(key, key) for key in idle)})


class Rollouts(Fleets):
    """The same histories, with candidates in them."""

    def __init__(self):
        super().__init__()
        self.world = RolloutWorld()

    def apply(self, key, **fields):
        before = self.world.services.get(key)
        super().apply(key, **fields)
        if before:
            self.world.services[key] = replace(self.world.services[key], unfit=before.unfit)
        self.follow(key)

    def follow(self, key):
        """Show the candidate as its service is by now."""
        world = self.world
        if key in world.candidates:
            world.share(key, world.services[world.candidates[key]].share_percent)

    @rule(key=KEYS, what=st.sampled_from(["delete", "suspend", "resume"]))
    def user_changes_mind(self, key, what):
        super().user_changes_mind(key, what)
        if key in self.world.services:
            self.follow(key)
        elif key in self.world.candidates:
            self.world.end(key, promoted=False)

    @rule(key=KEYS, most=st.integers(1, 3), least=st.integers(0, 2))
    def user_wants_more(self, key, most, least):
        self.apply(key, max_replicas=most, min_replicas=min(most, least))

    @rule(
        key=KEYS,
        what=st.sampled_from(["begin", "step", "promote", "abort"]),
        percent=st.sampled_from([1, 50, 100]),
    )
    def rollout_goes_on(self, key, what, percent):
        world = self.world
        if what == "begin" and key in world.services and key not in world.candidates:
            world.begin(key)
        elif key in world.candidates and what == "step":
            world.share(key, percent)
        elif key in world.candidates and what in ("promote", "abort"):
            world.end(key, promoted=what == "promote")

    @rule(key=KEYS, percent=st.sampled_from([1, 50, 100]), most=st.integers(1, 2))
    def rollout_gets_far(self, key, percent, most):
        """Its service is asked, its candidate is loaded, and both are used until another history goes on."""
        world = self.world
        if key not in world.services or world.services[key].suspend:
            self.apply(key, max_replicas=most, min_replicas=most)
        world.gateway_holds("g1", key, True)
        if key not in world.candidates:
            world.begin(key)
        world.share(key, percent)
        for _ in range(4):
            self.pass_time(1.0)
            world.everybody_acts(self.idle)
            self.plan()
            world.gateway_holds("g1", key, False)

    @invariant()
    def a_narrow_look_says_the_same(self):
        self.world.look()

    def ready(self, key):
        """Placements that are in use; unfit ones are not, as no gateway routes to them."""
        service = self.world.services[key]
        placed = {p.id: p for h in self.world.hosts.values() for p in h.placements}
        return {id_ for id_ in super().ready(key) if placed[id_].model.revision not in service.unfit}

    def check_availability(self, before, states, decided):
        """I2: what is in use keeps a ready replica, also of the new revision once there is one."""
        super().check_availability(before, states, decided)
        placed = {p.id: p for h in self.world.fleet().hosts.values() for p in h.placements}
        for key, ready in before.items():
            service = self.world.services[key]
            new = [i for i in ready if i in placed and placed[i].model.revision == service.model.revision]
            if new and not service.suspend:
                assert self.ready(key), f"{key} lost all that is ready of its revision: {decided.changes}"
            wants = decided.services[key].desired
            if key in SERVICES and len(new) >= wants > 0:
                left = {i for i in self.ready(key) if placed[i].model.revision == service.model.revision}
                assert len(left) >= wants, f"{key} wants {wants}, and is left {left}"


TestRollouts = Rollouts.TestCase
TestRollouts.settings = settings(
    max_examples=60,
    stateful_step_count=30,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
)
