"""What a simulation is of: the trace, the sizes of its models, and the machine."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import yaml

from lull.api.quantities import format_bytes, parse_bytes
from lull.policy.packing import HOST_OVERHEAD_BYTES
from lull.policy.power import PRODUCTS, PowerProfile, PowerSetting, profile
from lull.simulate.setting import GIB, Setting
from lull.simulate.trace import Trace, TracedModel, TraceError

DEFAULT_GPU = "H100"
LARGEST_MODELS_FILE_BYTES = 2**20


def synthetic_trace(seed: int, tenants: int, memory_bytes: int) -> Trace:
    """Return the made-up trace of 23 days."""
    from lull.simulate.synthetic import synthetic  # numpy is of an extra

    return synthetic(seed, tenants=tenants, memory_bytes=memory_bytes)


def dealt(trace: Trace, tenants: int) -> Trace:
    """Return the trace with its models dealt round robin to this many tenants."""
    return replace(
        trace,
        models=[
            replace(model, key=f"tenant-{at % tenants}/{model.key.replace('/', '.')}")
            for at, model in enumerate(trace.models)
        ],
    )


def sizes(file: Path) -> dict[str, int]:
    """Return the bytes of models by their names, of a YAML file such as `resnet: 2Gi`.

    Raises:
        TraceError: it says something else.
    """
    try:
        with file.open("rb") as opened:
            said = yaml.safe_load(opened.read(LARGEST_MODELS_FILE_BYTES))
    except (OSError, yaml.YAMLError) as error:
        raise TraceError(f"{file}: {error}") from error
    if not isinstance(said, dict):
        raise TraceError(f"{file}: it has to map models to their memory, a line each: resnet: 2Gi")
    found = {}
    for name, memory in said.items():
        try:
            found[str(name)] = parse_bytes(str(memory))
        except ValueError as error:
            raise TraceError(f"{file}: {name}: {error}") from error
        if not found[str(name)]:
            raise TraceError(f"{file}: {name}: a model takes some memory, such as 2Gi")
    return found


def sized(trace: Trace, known: Mapping[str, int]) -> Trace:
    """Return the trace with the sizes of the models that are known; names go with or without the tenant.

    Raises:
        TraceError: a name is of no model of the trace.
    """
    names = {name for model in trace.models for name in _names(model)}
    strange = sorted(set(known) - names)
    if strange:
        raise TraceError(
            f"{trace.name} has no model {strange[0]!r}; it has {', '.join(sorted(names)[:5])}, …"
        )

    def size(model: TracedModel) -> int:
        return next((known[name] for name in _names(model) if name in known), model.memory_bytes)

    return replace(trace, models=[replace(model, memory_bytes=size(model)) for model in trace.models])


def assert_fits(trace: Trace, memory_bytes: int) -> None:
    """Refuse a model that no host has room for, beside what Triton itself takes.

    Raises:
        TraceError: there is one.
    """
    for model in trace.models:
        if model.memory_bytes > memory_bytes - HOST_OVERHEAD_BYTES:
            raise TraceError(
                f"{model.key} takes {format_bytes(model.memory_bytes)}, and a GPU has "
                f"{format_bytes(memory_bytes)}, of which {format_bytes(HOST_OVERHEAD_BYTES)} are for Triton "
                "itself: say --gpu-memory-gib, or give it less memory"
            )


def draw(gpu: str, context_watts: float | None, node_watts: float) -> PowerProfile:
    """Return what a host of one such GPU draws; `node_watts` is of its whole node.

    Raises:
        ValueError: its watts are not known, or nothing is left to compute with.
    """
    published = profile(gpu, 1, PowerSetting())
    if published is None:
        raise ValueError(f"no watts are known of {gpu!r}; of these they are: {', '.join(PRODUCTS)}")
    most = published.max_watts - published.idle_watts
    if context_watts is None:
        context_watts = published.context_watts
    elif context_watts >= most:
        raise ValueError(
            f"--context-watts has to be under {most:g}, which is all that one {gpu} draws beyond idling"
        )
    return replace(published, context_watts=context_watts, node_watts=node_watts)


def gpu_memory_bytes(gpu: str, said_gib: float | None) -> int:
    """Return the memory of one host: what is said, else the simulator's own for the default GPU.

    Raises:
        ValueError: another GPU's memory has to be said.
    """
    if said_gib is not None:
        return round(said_gib * GIB)
    if profile(gpu, 1, PowerSetting()) != profile(DEFAULT_GPU, 1, PowerSetting()):  # however it is spelled
        raise ValueError(f"say how much memory one {gpu} has too: --gpu-memory-gib")
    return Setting().gpu_memory_bytes


def _names(model: TracedModel) -> tuple[str, str]:
    return model.key, model.key.partition("/")[2]
