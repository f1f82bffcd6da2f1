"""A fleet around a real controller: a kubelet, agents and pilots as simple as their contracts."""

import asyncio
import time
from collections import Counter

from lull.api.latency import BINS
from lull.controller.main import Settings, build
from lull.kube import MODELGATEWAYS, MODELHOSTS, MODELPOOLS, MODELSERVICES, PODS, Reflector

from .fake_api import FakeApi

DEADLINE_SECONDS = 10.0


def service(name="digits", namespace="demo", uri="file:///digits.tar", **spec):
    return {
        "apiVersion": "lull.dev/v1alpha1",
        "kind": "ModelService",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"model": {"uri": uri, "digest": "sha256:" + "0" * 64}, "idleAfter": "300s"} | spec,
    }


def pool(name="default", *, most=3, **spec):
    return {
        "apiVersion": "lull.dev/v1alpha1",
        "kind": "ModelPool",
        "metadata": {"name": name},
        "spec": {"hosts": {"max": most}, "memory": "4Gi", "emptyAfter": "60s"} | spec,
    }


def unready(*, since, initialized):
    """The status of a Pod that is not ready, with times of one day; `initialized` is None before that."""
    times = {
        "Ready": ("False", since),
        "Initialized": ("True" if initialized else "False", initialized or since),
    }
    conditions = [
        {"type": type_, "status": status, "lastTransitionTime": f"2026-01-01T{time}Z"}
        for type_, (status, time) in times.items()
    ]
    return {"phase": "Running", "conditions": conditions}


class World:
    """The parts that are not the controller do one step each time they are asked."""

    def __init__(self):
        self.api = FakeApi()
        self.time = 1_000_000.0
        self.held = {"gw-a": set(), "gw-b": set()}
        self.silent = set()
        self.outcome = {}  # service or URI -> (state, reason, message), or None for Ready
        self.idle = set()
        self.unschedulable = False
        self.unloading = False
        self.meters = {}  # placement id -> [idle joules, dynamic joules, requests], once `draw` was called
        self.metered = False
        self.busy_percent = 30  # of each placement that is asked
        self.knows_power = True
        self.host_joules = {}
        self.controller = None
        self._heartbeat = 0
        self.habits = {}  # what is wrong with a model, by URI: `fails`, `slow`, `differs`
        self.answered = Counter()  # requests that a revision's answer was given to a client of, by URI
        self.traffic = {name: {} for name in self.held}
        for name in self.held:
            self.api.put(MODELGATEWAYS, {"metadata": {"name": name, "namespace": "lull-system"}, "spec": {}})

    async def __aenter__(self):
        await self.start()
        return self

    async def __aexit__(self, *_):
        await self.stop()

    def clock(self):
        return self.time

    async def start(self):
        """Start a controller on what the API holds."""
        settings = Settings(address="127.0.0.1", identity="test")
        self.parts = build(self.api, settings, self.clock)
        users = [self._reflector(kind) for kind in (MODELSERVICES, MODELPOOLS)]

        async def run():
            async with asyncio.TaskGroup() as group:
                for reflector in users:
                    group.create_task(reflector.run())
                for reflector in users:
                    await reflector.synced.wait()
                for part in self.parts.tasks:
                    group.create_task(part())

        self.controller = asyncio.create_task(run())

    async def stop(self):
        """Kill the controller."""
        self.controller.cancel()
        await asyncio.gather(self.controller, return_exceptions=True)

    def _reflector(self, kind):
        def changed(key, item):
            namespace, name = key
            self.parts.planner.see(kind, f"{namespace}/{name}" if namespace else name, item)

        return Reflector(self.api, kind, on_change=changed)

    async def until(self, condition, what="it"):
        """Step the others until `condition` holds, and return its value."""
        deadline = time.monotonic() + DEADLINE_SECONDS
        while not (value := condition()):
            if self.controller.done():
                self.controller.result()
            assert time.monotonic() < deadline, f"{what} never came to be: {self.summary()}"
            self.step()
            await asyncio.sleep(0.002)
        return value

    async def rest(self):
        """Step until nobody has anything left to do."""
        quiet = 0
        before = None
        deadline = time.monotonic() + DEADLINE_SECONDS
        while quiet < 30:
            assert time.monotonic() < deadline, f"it never came to rest: {self.summary()}"
            self.step()
            await asyncio.sleep(0.002)
            resting = self.parts.planner.resting and self.api.now == before
            quiet = quiet + 1 if resting else 0
            before = self.api.now

    async def advance(self, seconds):
        """Let time pass for everybody, heartbeats included."""
        self.time += seconds
        self._heartbeat += 1
        self.step()
        await asyncio.sleep(0.01)
        self.parts.planner.done()

    def step(self):
        for pod in self.api.all(PODS):
            self._kubelet(pod)
        for host in self.api.all(MODELHOSTS):
            self._agent(host)
        for name in self.held:
            if name not in self.silent:
                self._pilot(name)

    def _kubelet(self, pod):
        if self.unschedulable:
            condition = {
                "type": "PodScheduled",
                "status": "False",
                "reason": "Unschedulable",
                "message": "0/1 nodes",
            }
        else:
            condition = {"type": "Ready", "status": "True"}
        if not pod.get("status"):
            name = pod["metadata"]["name"]
            self.api.set_status(PODS, name, "lull-hosts", {"phase": "Running", "conditions": [condition]})

    def _agent(self, host):
        name = host["metadata"]["name"]
        pod = self.api.objects.get(("pods", "lull-hosts", name))
        if pod is None or not _ready(pod):
            return
        entries = [self._report(entry) for entry in host["spec"]["models"]]
        if self.unloading:
            wanted = {entry["id"] for entry in entries}
            old = (host.get("status") or {}).get("models", [])
            entries += [entry | {"state": "Unloading"} for entry in old if entry["id"] not in wanted]
        status = {"address": "127.0.0.9", "models": entries}
        if self.metered:
            status |= self._host_figures(name)
        self.api.set_status(MODELHOSTS, name, "lull-hosts", status)

    def _report(self, entry):
        report = {
            "id": entry["id"],
            "service": entry["service"],
            "revision": entry["revision"],
            "memory": "100Mi",
            "trainingWattHours": "3.500",
        }
        outcome = self.outcome.get(entry["service"]) or self.outcome.get(entry["uri"])
        if outcome:
            state, reason, message = outcome
            return report | {"state": state, "reason": reason, "message": message}
        if entry["service"] in self.idle:
            report["idleSince"] = "2026-01-01T00:00:00.000000Z"
        if self.metered:
            report |= self._figures(entry)
        return report | {"state": "Ready"}

    def _figures(self, entry):
        idle, dynamic, requests = self.meters.setdefault(entry["id"], [0, 0, 0])
        asked = entry["service"] not in self.idle
        figures = {
            "counters": {"requests": requests, "failures": 0},
            "utilization": {
                "window": "60s",
                "requestsPerMinute": 120 if asked else 0,
                "busyPercent": self.busy_percent if asked else 0,
                "queueMilliseconds": 2,
                "latencyP99": "40ms",
            },
            "energy": {
                "idleMilliwatts": 20_000,
                "dynamicMilliwatts": 5_000 if asked else 0,
                "idleJoules": idle,
                "dynamicJoules": dynamic,
            },
        }
        return figures if self.knows_power else {k: v for k, v in figures.items() if k != "energy"}

    def _host_figures(self, name):
        joules, dynamic, unallocated = self.host_joules.setdefault(name, [0, 0, 0])
        energy = {
            "basis": "Modelled",
            "milliwatts": 42_000,
            "joules": joules,
            "dynamicJoules": dynamic,
            "unallocatedMilliwatts": 17_000,
            "unallocatedJoules": unallocated,
        }
        return {"busyPercent": 30} | ({"energy": energy} if self.knows_power else {})

    async def draw(self, seconds):
        """Let time pass in which what is loaded draws 20 W idle and, asked, 5 W for 2 requests a second.

        The controller hears of it before it looks at the clock: else it may write the old figures, and the
        new ones are not due for as long as time stands still.
        """
        self.metered = True
        for host in self.hosts():
            total = self.host_joules.setdefault(host["metadata"]["name"], [0, 0, 0])
            total[0] += 17 * seconds
            total[2] += 17 * seconds
            for entry in host["spec"]["models"]:
                meter = self.meters.setdefault(entry["id"], [0, 0, 0])
                asked = entry["service"] not in self.idle
                meter[0] += 20 * seconds
                meter[1] += 5 * seconds * asked
                meter[2] += 2 * seconds * asked
                total[0] += (20 + 5 * asked) * seconds
                total[1] += 5 * seconds * asked
        if not self.controller.done():
            self.step()
            await self.until(self.heard, "word of all agents")
        await self.advance(seconds)

    def ask(self, requests, key="demo/digits", gateway="gw-a"):
        """Ask a service through a gateway, which routes and counts by what the statuses say."""
        namespace, name = key.split("/")
        rollout = self.status(name, namespace).get("rollout") or {"phase": "Promoted"}
        routed = {entry["revision"]: entry["uri"] for entry in self.models(key) if self._routed(entry)}
        new, old = rollout.get("candidate"), rollout.get("stable")
        running = rollout["phase"] in ("Validating", "Shadowing", "Stepping", "Promoting")
        if not running:
            served = next(
                (r for r in (new, *routed) if r in routed and not self._taken_back(rollout, r)), None
            )
            assert served, "nothing answers"
            self.answered[routed[served]] += requests
            return
        assert old in routed, "a rollout took the old revision away"
        share = requests * rollout["percent"] // 100 if new in routed else 0
        told = self.traffic[gateway]
        self._count(told, f"{key}@{old}", requests - share, routed[old])
        self.answered[routed[old]] += requests - share
        if share:
            failed = self._count(told, f"{key}@{new}", share, routed[new])
            self.answered[routed[new]] += share - failed
            self.answered[routed[old]] += failed  # asked again of the old one
        if rollout["shadowPercent"] and new in routed:
            counts = told.setdefault(f"{key}@{new}", _no_traffic())
            counts["compared"] += requests
            counts["differed"] += requests * ("differs" in self.habits.get(routed[new], ()))

    def _count(self, told, name, requests, uri):
        habits = self.habits.get(uri, ())
        counts = told.setdefault(name, _no_traffic())
        failed = requests if "fails" in habits else 0
        counts["requests"] += requests
        counts["failures"] += failed
        counts["latency"][24 if "slow" in habits else 12] += requests
        return failed

    def _routed(self, entry):
        host = next(h for h in self.hosts() if any(m["id"] == entry["id"] for m in h["spec"]["models"]))
        reports = {r["id"]: r["state"] for r in (host.get("status") or {}).get("models", [])}
        return entry["state"] == "Loaded" and reports.get(entry["id"]) == "Ready"

    def _taken_back(self, rollout, revision):
        return rollout["phase"] in ("Rejected", "Aborted") and revision == rollout["candidate"]

    def _pilot(self, name):
        drained = [
            f"{entry['id']}.{entry['epoch']}"
            for host in self.api.all(MODELHOSTS)
            for entry in host["spec"]["models"]
            if entry["state"] == "Draining"
        ]
        self.api.set_status(
            MODELGATEWAYS,
            name,
            "lull-system",
            {
                "renewTime": f"beat-{self._heartbeat}",
                "held": sorted(self.held[name]),
                "drained": drained,
                **({"traffic": self.traffic[name]} if self.traffic[name] else {}),
            },
        )

    # What tests ask.

    def heard(self):
        """Whether the controller knows what the agents say."""
        known = self.parts.view.raw[MODELHOSTS]
        return all(known.get(host["metadata"]["name"]) == host for host in self.hosts())

    def hold(self, key="demo/digits"):
        self.held["gw-a"].add(key)

    def release(self, key="demo/digits"):
        for held in self.held.values():
            held.discard(key)

    def hosts(self):
        return self.api.all(MODELHOSTS)

    def models(self, key="demo/digits"):
        return [entry for host in self.hosts() for entry in host["spec"]["models"] if entry["service"] == key]

    def state(self, key="demo/digits"):
        return [entry["state"] for entry in self.models(key)]

    def routed(self, key="demo/digits"):
        """Whether a gateway would route to the service."""
        for host in self.hosts():
            reports = {entry["id"]: entry for entry in (host.get("status") or {}).get("models", [])}
            for entry in host["spec"]["models"]:
                ready = reports.get(entry["id"], {}).get("state") == "Ready"
                if entry["service"] == key and entry["state"] == "Loaded" and ready:
                    return True
        return False

    def condition(self, type_, name="digits", namespace="demo"):
        item = self.api.objects.get(("modelservices", namespace, name), {})
        conditions = (item.get("status") or {}).get("conditions", [])
        return next((c for c in conditions if c["type"] == type_), {})

    def status(self, name="digits", namespace="demo"):
        return self.api.objects["modelservices", namespace, name].get("status") or {}

    def pool_status(self, name="default"):
        return self.api.objects["modelpools", "", name].get("status") or {}

    def asleep(self, name="digits"):
        return self.condition("Active", name).get("reason") == "Asleep"

    def summary(self):
        return {
            "services": [(s["metadata"]["name"], s.get("status")) for s in self.api.all(MODELSERVICES)],
            "hosts": [(h["metadata"]["name"], h["spec"]["models"], h.get("status")) for h in self.hosts()],
            "pods": [(p["metadata"]["name"], p.get("status")) for p in self.api.all(PODS)],
            "gateways": [(g["metadata"]["name"], g.get("status")) for g in self.api.all(MODELGATEWAYS)],
        }


def _no_traffic():
    return {"requests": 0, "failures": 0, "latency": [0] * BINS, "compared": 0, "differed": 0}


def _ready(pod):
    conditions = (pod.get("status") or {}).get("conditions", [])
    return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)
