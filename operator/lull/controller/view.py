"""All that the controller knows, kept as the policy's values; one object's event changes one value.

Own writes are seen at once: what is being written is assumed, and the answer of a write counts like an event.
An older state of an object, as a watch may still deliver, never replaces a newer one.
"""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TypeVar

from lull.api.names import ANNOTATION_DRAIN, SYSTEM_NAMESPACE
from lull.api.quantities import parse_bytes
from lull.controller.history import history_from, over
from lull.controller.pods import pod_ended, pod_state, pod_trouble
from lull.controller.wire import (
    Object,
    gateway_from,
    key_of,
    placements_of,
    pool_from,
    reported_from,
    service_from,
    service_of,
    stage_of,
    wish_from,
)
from lull.kube import (
    MODELGATEWAYS,
    MODELHOSTS,
    MODELPOOLS,
    MODELSERVICES,
    PODS,
    PRIORITYCLASSES,
    Resource,
)
from lull.policy import Fleet, Gateway, Host, Model, Placement, Pod, Pool, Reported, Service
from lull.policy.fleet import Count, candidate_key
from lull.policy.roster import Roster

T = TypeVar("T")

Value = Service | Pool | Host | Gateway | tuple[Service | None, ...]

_GRAIN_BYTES = 16 * 2**20
"""Measured memory is rounded up to this, so that its jitter changes nothing."""


@dataclass(frozen=True, slots=True)
class Measured:
    """What hosts said of one revision of a service."""

    memory_bytes: int | None = None
    code: bool | None = None
    training_watt_hours: str = ""


class View:
    """The newest known state of every object, raw and as the policy reads it.

    Attributes:
        raw: the objects by kind and key: `namespace/name` of services and gateways' Pods, else the name.
        invalid: what cannot be read, with the reason, by the same keys; it is left out of the fleet.
        on_news: called with kind and key after each change of `raw`, whoever brought it: a watch, or the
            answer of a call of ours. The third argument says whether a decision may hang on it.
        counts: requests by service, as its ledger says, which begins with what nobody saw while it was away.
        rolling: what the specs ask for that serve something else, or roll something out; by service.
        cordons: why a Node is to be emptied, of those that are.
        kept: the hosts that may not be let go.
    """

    def __init__(self) -> None:
        self.raw: dict[Resource, dict[str, Object]] = {
            kind: {} for kind in (MODELSERVICES, MODELPOOLS, MODELHOSTS, MODELGATEWAYS, PODS, PRIORITYCLASSES)
        }
        self.invalid: dict[Resource, dict[str, str]] = {kind: {} for kind in self.raw}
        self.on_news: Callable[[Resource, str, bool], None] = lambda _kind, _key, _matters: None
        self._roster = Roster()
        self.services = self._roster.services
        self.pools = self._roster.pools
        self.hosts = self._roster.hosts
        self.gateways = self._roster.gateways
        self.counts = self._roster.counts
        self.rolling: dict[str, Model] = {}
        self.cordons: dict[str, str] = {}
        self.kept: set[str] = set()
        self._assumed: dict[str, Host | None] = {}
        self._refused: dict[str, str] = {}
        self._measured: dict[str, dict[str, Measured]] = {}  # by service and revision
        self._candidates: dict[str, str] = {}  # revisions, by service
        self._known: dict[str, dict[str, Placement]] = {}
        self._values: dict[Resource, Mapping[str, Value]] = {
            MODELPOOLS: self.pools,
            MODELHOSTS: self.hosts,
            MODELGATEWAYS: self.gateways,
        }
        self._readers: dict[Resource, Callable[[str], None]] = {
            MODELSERVICES: self._read_service,
            MODELPOOLS: self._read_pool,
            MODELHOSTS: self._read_host,
            MODELGATEWAYS: self._read_gateway,
            PODS: self._read_pod,
            PRIORITYCLASSES: self._read_priority,
        }

    def fleet(self, seed: str) -> Fleet:
        """Return the fleet as it is now."""
        return self._roster.fleet(seed)

    def gateway_addresses(self) -> list[str]:
        """Return where the gateways listen that say so."""
        statuses = ((item.get("status") or {}) for item in self.raw[MODELGATEWAYS].values())
        return [status["address"] for status in statuses if status.get("address")]

    def offer(self, kind: Resource, item: Object) -> bool:
        """Take an object's state, unless a newer one is known. Returns whether it was news."""
        key = _key(kind, item)
        held = self.raw[kind].get(key)
        if held is not None and not _newer(item, held):
            return False
        self._take(kind, key, item)
        return True

    def update(self, kind: Resource, item: Object) -> None:
        """Take the answer of a call of ours, unless the object went meanwhile: an answer may be old."""
        if _key(kind, item) in self.raw[kind]:
            self.offer(kind, item)

    def gateway_ended(self, item: Object) -> bool:
        """Tell whether a gateway routes no more, though it is in the API: its Pod has ended, as by eviction.

        Sound on a stale cache, as no Pod comes back from that. Gateways of deleted Pods go with them.
        """
        pod = self.raw[PODS].get(f"{SYSTEM_NAMESPACE}/{item['metadata']['name']}")
        owners = [owner["uid"] for owner in item["metadata"].get("ownerReferences") or ()]
        return pod is not None and pod["metadata"]["uid"] in owners and pod_ended(pod)

    def forget(self, kind: Resource, key: str) -> None:
        """Take note that an object is gone."""
        if key in self.raw[kind]:
            self._take(kind, key, None)

    def assume(self, name: str, host: Host | None) -> None:
        """Take a host for what is being written, None for deleted, until `settle`."""
        self._assumed[name] = host
        self._show_host(name)

    def settle(self, name: str) -> None:
        """Believe of a host only what the API says again."""
        self._assumed.pop(name, None)
        self._read_host(name)

    def assumed(self, name: str) -> bool:
        """Tell whether a host is taken for what is being written."""
        return name in self._assumed

    def refuse(self, name: str, why: str) -> None:
        """Note that the API server refuses a host's Pod; an empty reason clears it."""
        if why:
            self._refused[name] = why
        else:
            self._refused.pop(name, None)
        self._read_host(name)

    def keep(self, name: str, *, kept: bool) -> None:
        """Note whether a host may not be let go."""
        (self.kept.add if kept else self.kept.discard)(name)
        self._read_host(name)

    def count(self, service: str, count: Count) -> None:
        """Take what a service was asked; the same object as before says that nothing is new."""
        if service in self.raw[MODELSERVICES] and self.counts.get(service) != count:
            self.counts[service] = count

    def cordon(self, node: str, why: str) -> bool:
        """Note why a Node is to be emptied; empty where it is not. Returns whether hosts are concerned."""
        if self.cordons.get(node, "") == why:
            return False
        if why:
            self.cordons[node] = why
        else:
            del self.cordons[node]
        there = [host.name for host in self.hosts.values() if host.node == node]
        for name in there:
            self._show_host(name)
        return bool(there)

    def measured(self, key: str, revision: str) -> Measured:
        """Return what hosts said of a revision, of those that serve or are rolled out."""
        return self._measured.get(key, {}).get(revision) or Measured()

    def unranked(self, key: str) -> str:
        """Return the PriorityClass that a service names and nobody has made; empty where all is well."""
        name = _priority_class(self.raw[MODELSERVICES].get(key))
        return name if name and name not in self.raw[PRIORITYCLASSES] else ""

    def _take(self, kind: Resource, key: str, item: Object | None) -> None:
        """Show an object's new state, None once it is gone, and tell of it."""
        held, value = self.raw[kind].get(key), self._value(kind, key)
        if item is None:
            del self.raw[kind][key]
        else:
            self.raw[kind][key] = item
        self._readers[kind](key)
        other = kind in (PODS, PRIORITYCLASSES) or not _alike(value, self._value(kind, key))
        self.on_news(kind, key, other or _generation(held) != _generation(item))

    def _value(self, kind: Resource, key: str) -> Value | None:
        if kind is MODELSERVICES:
            return self.services.get(key), self.services.get(self._candidate(key))
        return self._values[kind].get(key) if kind in self._values else None

    def _read_priority(self, name: str) -> None:
        """Give the services that a PriorityClass concerns another priority; who names it is news anyway."""
        for key, service in self.services.items():
            item = self.raw[MODELSERVICES][service_of(key)]
            priority = self._priority(item)
            if priority != service.priority or _priority_class(item) == name:
                self.services[key] = replace(service, priority=priority)

    def _priority(self, item: Object) -> int:
        """Return a service's priority; as with Pods, the lowest of a default class where it names none.

        Unlike a Pod, which would be refused, one that names a class that nobody has made has priority 0.
        """
        named = _priority_class(item)
        classes = self.raw[PRIORITYCLASSES]
        if named:
            return int(classes[named]["value"]) if named in classes else 0
        return min((int(c["value"]) for c in classes.values() if c.get("globalDefault")), default=0)

    def _read_service(self, key: str) -> None:
        """Show a service, and its candidate while one is rolled out beside it."""
        item = self.raw[MODELSERVICES].get(key)
        service = self._read(MODELSERVICES, key, service_from)
        if item is None:
            self._measured.pop(key, None)
            self.counts.pop(key, None)
        before, candidate_before = self.services.get(key), self._candidate(key)
        self._candidates.pop(key, None)
        self.rolling.pop(key, None)
        shown = self._shown(service, item) if service and item else []
        for fresh in shown:
            if self.services.get(fresh.key) != fresh:  # the same object as before says that nothing is new
                self.services[fresh.key] = fresh
        for gone in {key, candidate_before} - {fresh.key for fresh in shown}:
            self.services.pop(gone, None)
        now, candidate = self.services.get(key), self._candidate(key)
        alone = {s.max_replicas == 1 if s else None for s in (before, now)}
        if candidate != candidate_before or (now and len(alone) > 1):
            keys = {key, candidate_before, candidate}
            for name in [host.name for host in self.hosts.values() if keys & host.tenants]:
                self._show_host(name)  # whose its models are hangs on that, and what is read of them

    def _shown(self, service: Service, item: Object) -> list[Service]:
        """Return a service with what serves, and its candidate."""
        key, history = service.key, history_from(item.get("status"))
        serving = history.serving(service.model)
        candidate = history.candidate(serving)
        rollout = history.rollout_of(serving)
        if serving.revision != service.model.revision or (rollout and not over(rollout)):
            self.rolling[key] = service.model
        known = self._measured.get(key, {})
        models = [serving, candidate] if candidate else [serving]
        self._measured[key] = {
            m.revision: known.get(m.revision) or _remembered(item, m.revision) for m in models
        }
        main = self._filled(service, serving, item, unfit=history.unfit(serving))
        if not rollout or not candidate:
            return [main]
        self._candidates[key] = candidate.revision
        steps = wish_from(item, service.model.revision).steps
        beside = replace(
            service,
            key=candidate_key(key, candidate.revision),
            follows=key,
            share_percent=rollout.share_percent(steps),
            min_replicas=0,
            schedule=(),
            latency_seconds=None,
            delayed_percent=None,
        )
        return [main, self._filled(beside, candidate, item)]

    def _filled(
        self, service: Service, model: Model, item: Object, unfit: frozenset[str] = frozenset()
    ) -> Service:
        """Return a service with a model, and what is known of it beside the spec."""
        measured = self._measured[service_of(service.key)][model.revision]
        return replace(
            service,
            model=model,
            unfit=unfit,
            measured_bytes=measured.memory_bytes,
            code=measured.code,
            priority=self._priority(item),
        )

    def _candidate(self, key: str) -> str:
        """Return the key of a service's candidate; that of none where it has none."""
        return candidate_key(key, self._candidates.get(key, ""))

    def _key_of(self, service: str, revision: str) -> str:
        """Return what a revision of a service is in the fleet: the service's candidate, or its own."""
        return candidate_key(service, revision) if self._candidates.get(service) == revision else service

    def _keyed(self, placements: Iterable[Placement]) -> tuple[Placement, ...]:
        """Return placements as those of whom they are now."""
        keys = ((p, self._key_of(service_of(p.service), p.model.revision)) for p in placements)
        return tuple(p if p.service == key else replace(p, service=key) for p, key in keys)

    def _read_pool(self, key: str) -> None:
        pool = self._read(MODELPOOLS, key, pool_from)
        if pool is None:
            self.pools.pop(key, None)
        elif pool != self.pools.get(key):  # the same object as before says that nothing is new
            self.pools[key] = pool

    def _read_gateway(self, key: str) -> None:
        gateway = self._read(MODELGATEWAYS, key, gateway_from)
        if gateway is None or self.gateway_ended(self.raw[MODELGATEWAYS][key]):
            self.gateways.pop(key, None)
        else:
            self.gateways[key] = gateway

    def _read_pod(self, key: str) -> None:
        namespace, _, name = key.rpartition("/")
        (self._read_gateway if namespace else self._read_host)(name)

    def _read_host(self, key: str) -> None:
        """Show a host anew; its Pod and its ModelHost have the same name."""
        self._show_host(key)
        if key not in self.raw[MODELHOSTS]:
            self._refused.pop(key, None)
            self._known.pop(key, None)
            self.kept.discard(key)

    def _show_host(self, name: str) -> None:
        """Show a host as it is assumed or reported; one that is being deleted is none of the fleet's."""
        actual = self._read(MODELHOSTS, name, self._host_from)
        if actual is not None and "deletionTimestamp" in self.raw[MODELHOSTS][name]["metadata"]:
            actual = None
        assumed = self._assumed.get(name, actual)
        if assumed is not None and actual is not None:
            cordoned = actual.cordoned or assumed.cordoned
            vacated = actual.vacated or (assumed.vacated and not actual.cordoned)
            assumed = replace(actual, placements=assumed.placements, cordoned=cordoned, vacated=vacated)
        if assumed is not None and assumed is not actual:
            assumed = replace(assumed, placements=self._keyed(assumed.placements))
        if assumed is None:
            self._roster.hide(name)
        else:
            self._roster.show(assumed)
            self._learn(assumed)

    def _host_from(self, item: Object) -> Host:
        name = item["metadata"]["name"]
        status = item.get("status") or {}
        placements = self._keyed(placements_of(item))
        known = {p.id: p for p in placements}
        reports = {entry["id"]: self._reported(name, entry, known) for entry in status.get("models", ())}
        self._known[name] = {
            id_: p for id_, p in (self._known.get(name, {}) | known).items() if id_ in reports
        } | known
        pod = self.raw[PODS].get(name)
        state = pod_state(item, pod)
        if pod is None and name in self._assumed:
            state = Pod.MISSING  # it may be being made, and its agent's word arrive before it does
        total = (status.get("accelerator") or {}).get("memoryTotal")
        node = ((pod or {}).get("spec") or {}).get("nodeName", "")
        return Host(
            name=name,
            pool=item["spec"]["pool"],
            placements=placements,
            reports=reports,
            pod=state,
            node=node,
            trouble=self._refused.get(name, "") or pod_trouble(pod),
            capacity_bytes=parse_bytes(total) if total else None,
            cordoned=_drained(item) or _vacated(item) or node in self.cordons,
            vacated=_vacated(item) and not _drained(item) and node not in self.cordons,
            kept=name in self.kept,
            stage=stage_of(item),
        )

    def _reported(self, host: str, entry: Object, known: dict[str, Placement]) -> Reported:
        """Read a report; what is unloaded keeps the name and the reservation of its last placement."""
        last = known.get(entry["id"]) or self._known.get(host, {}).get(entry["id"])
        key = self._key_of(entry["service"], entry.get("revision", ""))
        service = self.services.get(key)
        name = last.model.name if last else service.model.name if service else ""
        report = replace(reported_from(entry, name), service=key)
        if service is None or service.max_replicas == 1:  # nothing follows from how long its requests took
            report = replace(report, queue_seconds=0.0, latency_seconds=None)
        if entry["id"] in known or last is None:
            return report
        return replace(report, memory_bytes=max(report.memory_bytes, last.memory_bytes))

    def _learn(self, host: Host) -> None:
        """Remember what a host measured of the revisions that it holds."""
        said = (self.raw[MODELHOSTS].get(host.name, {}).get("status") or {}).get("models", ())
        trained = {entry["id"]: entry.get("trainingWattHours") for entry in said}
        for placement in host.placements:
            report = host.report(placement)
            key, revision = service_of(placement.service), placement.model.revision
            last = self._measured.get(key, {}).get(revision)
            if report is None or last is None:
                continue
            size = -(-report.memory_bytes // _GRAIN_BYTES) * _GRAIN_BYTES
            code = last.code if report.code is None else report.code
            watt_hours = trained.get(placement.id) or last.training_watt_hours
            fresh = Measured(max(last.memory_bytes or 0, size) or None, code, watt_hours)
            if fresh != last:
                self._measured[key][revision] = fresh
                self._read_service(key)

    def _read(self, kind: Resource, key: str, reader: Callable[[Object], T]) -> T | None:
        """Return the object as a value, or None where there is none that can be read."""
        self.invalid[kind].pop(key, None)
        item = self.raw[kind].get(key)
        if item is None:
            return None
        try:
            return reader(item)
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self.invalid[kind][key] = f"it cannot be read: {error}"[:1024]
            return None


def _key(kind: Resource, item: Object) -> str:
    """Hosts, their Pods and gateways live in one namespace each, so their names are keys."""
    gateway_pod = kind is PODS and item["metadata"].get("namespace") == SYSTEM_NAMESPACE
    return key_of(item) if kind is MODELSERVICES or gateway_pod else str(item["metadata"]["name"])


def _drained(host: Object) -> bool:
    """Tell whether an admin wants a ModelHost emptied."""
    annotations = host["metadata"].get("annotations") or {}
    return annotations.get(ANNOTATION_DRAIN) == "true"


def _vacated(host: Object) -> bool:
    """Tell whether we empty a ModelHost."""
    return bool(host["spec"].get("vacate"))


def _priority_class(service: Object | None) -> str:
    return ((service or {}).get("spec") or {}).get("priorityClassName") or ""


def _newer(item: Object, held: Object) -> bool:
    """Tell whether an object's state is newer; versions are comparable numbers, over a re-creation too."""
    return int(item["metadata"]["resourceVersion"]) > int(held["metadata"]["resourceVersion"])


def _generation(item: Object | None) -> int | None:
    """Return the version of an object's spec; our own writes of its status leave it alone."""
    return item["metadata"].get("generation") if item else None


def _alike(before: Value | None, now: Value | None) -> bool:
    """Tell whether nothing is decided otherwise: it is the same object, or a gateway's mere heartbeat.

    That of one that holds requests may make it count again.
    """
    if isinstance(before, Gateway) and isinstance(now, Gateway):
        return before.drained == now.drained and not before.held and not now.held
    if isinstance(before, tuple):
        return before == now
    return before is now


def _remembered(item: Object, revision: str) -> Measured:
    """Return what the status of a service remembers of a revision from before."""
    known = history_from(item.get("status")).known(revision)
    if known is None:
        return Measured()
    memory_bytes = parse_bytes(known.memory) if known.memory else None
    return Measured(memory_bytes, training_watt_hours=known.training_watt_hours)
