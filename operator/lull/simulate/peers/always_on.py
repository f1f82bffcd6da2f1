"""Every model is always loaded: what a cluster without scaling to zero keeps."""

from collections.abc import Iterable

from lull.simulate.meter import Meter
from lull.simulate.outcome import Outcome
from lull.simulate.peers.serving import serve
from lull.simulate.setting import Setting
from lull.simulate.trace import Trace, TracedModel


def always_on(trace: Trace, setting: Setting) -> Outcome:
    """Give each model a GPU of its own: a Deployment that asks for `nvidia.com/gpu: 1`."""
    return _run("always-on", trace, setting, hosts=len(trace.models))


def packed_always_on(trace: Trace, setting: Setting) -> Outcome:
    """Give the models of each tenant as few GPUs as hold them, by first fit decreasing.

    That is at most 11/9 of the fewest and 6/9 of one more (Dósa 2007); the fewest where all sizes are equal.
    """
    tenants: dict[str, list[TracedModel]] = {}
    for model in trace.models:
        tenants.setdefault(model.tenant, []).append(model)
    return _run(
        "packed-always-on",
        trace,
        setting,
        hosts=sum(_bins((m.memory_bytes for m in own), setting.gpu_memory_bytes) for own in tenants.values()),
    )


def _bins(sizes: Iterable[int], capacity: int) -> int:
    """Return how many bins first fit decreasing fills."""
    free: list[int] = []
    for size in sorted(sizes, reverse=True):
        bin_ = next((at for at, room in enumerate(free) if room >= size), None)
        if bin_ is None:
            free.append(capacity - size)
        else:
            free[bin_] -= size
    return len(free)


def _run(name: str, trace: Trace, setting: Setting, *, hosts: int) -> Outcome:
    meter = Meter(trace, setting)
    for host in range(hosts):
        meter.host_kept(f"host-{host}", 0.0)
    for at, model, duration in zip(trace.at_seconds, trace.model, trace.duration_seconds, strict=True):
        serve(meter, model, at, 0.0, duration)
    return meter.outcome(name, trace.length_seconds)
