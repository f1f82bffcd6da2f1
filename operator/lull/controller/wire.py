"""Between the API's dicts and the policy's values. Whatever is written reads back as the same value."""

import hashlib
from typing import Any

from lull.api import ModelPoolSpec, ModelServiceSpec
from lull.api.names import AGAIN, ANNOTATION_EVALUATED, ANNOTATION_ROLLOUT
from lull.api.quantities import parse_bytes, parse_duration_seconds
from lull.policy import Gateway, Model, Placement, Pool, Report, Reported, Service, State
from lull.policy.fleet import CANDIDATE_MARK, Artifact, Window
from lull.policy.power import PowerProfile, PowerSetting, profile
from lull.policy.rollout import Wish
from lull.policy.verdict import Bar

Object = dict[str, Any]

_COMMANDS = ("promote", "abort")


def key_of(item: Object) -> str:
    """Return `namespace/name`."""
    return f"{item['metadata']['namespace']}/{item['metadata']['name']}"


def service_of(key: str) -> str:
    """Return the ModelService, as `namespace/name`, that a key of the fleet belongs to: a candidate's too."""
    return key.partition(CANDIDATE_MARK)[0]


def service_from(item: Object) -> Service:
    """Read a ModelService.

    Raises:
        ValueError: it breaks the schema (pydantic's error, which names the field).
    """
    spec = ModelServiceSpec.model_validate(item["spec"])
    resources, objective = spec.resources, spec.objective
    return Service(
        key=key_of(item),
        model=_model(
            spec.model.uri,
            spec.model.digest or "",
            spec.model.format,
            spec.model.name or item["metadata"]["name"],
        ),
        pool=spec.pool,
        generation=item["metadata"].get("generation", 1),
        memory_bytes=parse_bytes(resources.memory) if resources and resources.memory else None,
        dedicated=spec.isolation == "Dedicated",
        min_replicas=spec.replicas.min,
        max_replicas=spec.replicas.max,
        idle_after_seconds=_seconds(spec.idle_after),
        suspend=spec.suspend,
        hold_seconds=parse_duration_seconds(spec.hold.timeout),
        drain_deadline_seconds=parse_duration_seconds(spec.drain_deadline),
        schedule=tuple(
            Window(entry.cron, entry.time_zone, parse_duration_seconds(entry.duration), entry.min)
            for entry in spec.schedule or ()
        ),
        latency_seconds=_seconds(objective.latency) if objective else None,
        percentile=objective.percentile if objective else 99,
        delayed_percent=objective.delayed_percent if objective else None,
    )


def wish_from(item: Object, revision: str) -> Wish:
    """Read how a ModelService wants the `revision` of its spec to take over.

    Raises:
        ValueError: it breaks the schema.
    """
    rollout = ModelServiceSpec.model_validate(item["spec"]).rollout
    analysis = rollout.analysis
    return Wish(
        revision=revision,
        steps=rollout.steps,
        pause_seconds=parse_duration_seconds(rollout.pause),
        shadow_percent=rollout.shadow_percent,
        bar=Bar(
            analysis.min_requests,
            analysis.error_percent,
            analysis.latency_percent,
            analysis.disagree_percent,
            analysis.min_accuracy_percent,
        ),
        command=_command(item),
    )


def accuracy_percent(item: Object, revision: str) -> float | None:
    """Return what `lull evaluate` found of a revision; None where it found nothing, or writes no number."""
    words = _annotation(item, ANNOTATION_EVALUATED)
    if len(words) != 2 or words[0] != revision:
        return None
    try:
        accuracy = float(words[1])
    except ValueError:
        return None
    return accuracy if 0 <= accuracy <= 100 else None


def pool_from(item: Object) -> Pool:
    """Read a ModelPool.

    Raises:
        ValueError: it breaks the schema.
    """
    spec = ModelPoolSpec.model_validate(item["spec"])
    return Pool(
        name=item["metadata"]["name"],
        capacity_bytes=host_memory_bytes(spec.accelerator is not None, item["spec"])
        * (100 - spec.headroom_percent)
        // 100,
        max_hosts=spec.hosts.max,
        min_hosts=spec.hosts.min,
        empty_after_seconds=_seconds(spec.empty_after),
        namespaced=spec.sharing == "Namespace",
        allow_code=spec.allow.code,
        profile=power_profile(item),
        staged_bytes=parse_bytes(spec.staging.size) if spec.staging else None,
    )


def host_memory_bytes(accelerated: bool, spec: Object) -> int:
    """Return the memory that a pool's models live in: the accelerators' of a host, or its Pod's own."""
    if accelerated:
        accelerator = spec["accelerator"]
        return parse_bytes(accelerator["memory"]) * int(accelerator.get("count", 1))
    return parse_bytes(spec["memory"])


def power_profile(pool: Object) -> PowerProfile | None:
    """Return what a host of a ModelPool draws by configuration; None where that is not known."""
    spec = pool["spec"]
    power, accelerator = spec.get("power") or {}, spec.get("accelerator") or {}
    setting = PowerSetting(
        idle_watts=power.get("idleWatts"),
        context_watts=power.get("contextWatts"),
        max_watts=power.get("maxWatts"),
        node_watts=power.get("nodeWatts"),
        hosts_per_node=power.get("hostsPerNode", 1),
    )
    return profile(accelerator.get("product"), accelerator.get("count", 1), setting)


def gateway_from(item: Object) -> Gateway:
    """Read a ModelGateway."""
    status = item.get("status") or {}
    return Gateway(
        name=item["metadata"]["name"],
        renewed=status.get("renewTime", ""),
        held=frozenset(status.get("held", ())),
        drained=frozenset(status.get("drained", ())),
    )


def placements_of(host: Object) -> tuple[Placement, ...]:
    """Read `spec.models` of a ModelHost."""
    return tuple(placement_from(entry) for entry in host["spec"].get("models", ()))


def placement_from(entry: Object) -> Placement:
    """Read one entry of `ModelHost.spec.models`."""
    return Placement(
        id=entry["id"],
        service=entry["service"],
        model=Model(
            entry["revision"],
            entry["name"],
            entry["uri"],
            entry.get("digest", ""),
            entry.get("format", "Auto"),
        ),
        memory_bytes=parse_bytes(entry.get("memory", "0")),
        idle_after_seconds=parse_duration_seconds(entry.get("idleAfter", "0s")),
        state=State(entry["state"]),
        epoch=entry.get("epoch", 1),
    )


def placement_to(placement: Placement, service: Service | None) -> Object:
    """Write one entry of `ModelHost.spec.models`; with its service's objective, where there is still one.

    A candidate's is its service's, and its own is the revision.
    """
    objective = service.latency_seconds if service else None
    return {
        "id": placement.id,
        "service": service_of(placement.service),
        "name": placement.model.name,
        "revision": placement.model.revision,
        "uri": placement.model.uri,
        "digest": placement.model.digest,
        "format": placement.model.format,
        "memory": str(placement.memory_bytes),
        "idleAfter": exact_duration(placement.idle_after_seconds),
        "epoch": placement.epoch,
        "state": placement.state.value,
        **({} if objective is None else {"latency": exact_duration(objective)}),
    }


def stage_of(host: Object) -> tuple[Artifact, ...]:
    """Read `spec.stage` of a ModelHost."""
    listed = host["spec"].get("stage", ())
    return tuple(Artifact(entry["uri"], entry["digest"], entry["service"]) for entry in listed)


def artifact_to(artifact: Artifact) -> Object:
    """Write one entry of `ModelHost.spec.stage`."""
    return {"uri": artifact.uri, "digest": artifact.digest, "service": artifact.service}


def reported_from(entry: Object, name: str) -> Reported:
    """Read one entry of `ModelHost.status.models`; `name` is the wire name, which it does not carry.

    Figures are rounded, so that their jitter is no news.
    """
    use = entry.get("utilization") or {}
    latency = use.get("latencyP99")
    return Reported(
        id=entry["id"],
        service=entry["service"],
        name=name,
        state=Report(entry["state"]),
        memory_bytes=parse_bytes(entry["memory"]) if entry.get("memory") else 0,
        idle=entry.get("idleSince") is not None,
        code=entry.get("code"),
        reason=entry.get("reason", ""),
        message=entry.get("message", ""),
        busy=round(use.get("busyPercent", 0) / 5) * 5 / 100,
        queue_seconds=two_digits(use.get("queueMilliseconds", 0) / 1000),
        latency_seconds=two_digits(parse_duration_seconds(latency)) if latency else None,
        load_seconds=float(entry["loadSeconds"]) if entry.get("loadSeconds") else None,
    )


def exact_duration(seconds: float) -> str:
    """Return a duration string that reads back as the same number of milliseconds."""
    return f"{int(seconds)}s" if seconds == int(seconds) else f"{round(seconds * 1000)}ms"


def two_digits(figure: float) -> float:
    """Return a figure rounded to two significant digits."""
    return float(f"{figure:.2g}")


def _command(item: Object) -> tuple[str, ...] | None:
    words = _annotation(item, ANNOTATION_ROLLOUT)
    whole = len(words) >= 2 and words[0] in _COMMANDS and words[2:] in ([], [AGAIN])
    return tuple(words) if whole else None


def _annotation(item: Object, name: str) -> list[str]:
    return str((item["metadata"].get("annotations") or {}).get(name) or "").split()


def _seconds(duration: str | None) -> float | None:
    return None if duration is None else round(parse_duration_seconds(duration), 3)


def _model(uri: str, digest: str, format_: str, name: str) -> Model:
    revision = hashlib.sha256("\n".join((uri, digest, format_, name)).encode()).hexdigest()[:10]
    return Model(revision, name, uri, digest, format_)
