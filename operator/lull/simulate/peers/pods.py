"""A pod for each model, that goes after so long without a request: Knative Serving and KEDA.

Each with a GPU of its own a pod, and with pods of one tenant packed by memory on time-sliced GPUs. The latter
is a best case: each pod goes to the fullest GPU that has room for it (kube-scheduler's MostAllocated), a GPU
is kept from a pod's wish for it until the last pod on it is gone, pods load side by side, and a pod whose GPU
is kept already waits for nothing but its load.
"""

import heapq
from dataclasses import dataclass
from functools import partial

from lull.simulate.meter import Meter
from lull.simulate.outcome import Outcome
from lull.simulate.peers.serving import serve
from lull.simulate.setting import Setting
from lull.simulate.trace import Trace

KNATIVE_WINDOW_SECONDS = 60.0
"""`stable-window`, over which the concurrency has to have been 0: knative/serving,
config/core/configmaps/autoscaler.yaml. A pod takes 100 requests at once there
(`container-concurrency-target-default`), so no second one is modelled."""
KNATIVE_IDLE_SECONDS = KNATIVE_WINDOW_SECONDS + 30.0
"""And `scale-to-zero-grace-period`, "the time an inactive revision is left running before it is scaled to
zero" (there). It is an upper bound on how long network programming may take, so a real pod may go up to 30 s
sooner: with fewer hosts, and more delays. `make bench` reports both."""
KEDA_IDLE_SECONDS = 300.0
"""`cooldownPeriod` of a ScaledObject (keda.sh, ScaledObject specification) and `scaledownPeriod` of an
HTTPScaledObject (kedacore/http-add-on, docs/ref). `pollingInterval` (30 s) delays nothing here: the add-on
pushes."""


@dataclass(slots=True)
class _Gpu:
    name: str
    tenant: str
    ready_at: float
    free_bytes: int
    pods: int = 0


@dataclass(slots=True)
class _Pod:
    gpu: _Gpu
    bytes: int
    ready_at: float
    idle_from: float


class _Cluster:
    """The pods and GPUs of one run."""

    def __init__(self, trace: Trace, setting: Setting, idle_seconds: float, *, shared: bool) -> None:
        self._trace, self._setting = trace, setting
        self._idle_seconds, self._shared = idle_seconds, shared
        self._meter = Meter(trace, setting)
        self._gpus: dict[str, _Gpu] = {}
        self._pods: dict[int, _Pod] = {}
        self._checks: list[tuple[float, int]] = []
        """One for each pod: when to look whether it goes, not later than it does."""
        self._made = 0

    def run(self, name: str) -> Outcome:
        trace = self._trace
        for at, model, duration in zip(trace.at_seconds, trace.model, trace.duration_seconds, strict=True):
            self._scale_down(at)
            pod = self._pods.get(model) or self._start(model, at)
            left = serve(self._meter, model, at, pod.ready_at, duration)
            pod.idle_from = max(pod.idle_from, left)
        self._scale_down(trace.length_seconds)
        return self._meter.outcome(name, trace.length_seconds)

    def _start(self, model: int, at: float) -> _Pod:
        traced, setting = self._trace.models[model], self._setting
        wanted = traced.memory_bytes if self._shared else setting.gpu_memory_bytes
        gpu = self._fullest(traced.tenant, wanted) or self._keep(traced.tenant, at)
        gpu.free_bytes -= wanted
        gpu.pods += 1
        ready_at = max(at, gpu.ready_at) + setting.load_seconds_of(traced.key)
        self._meter.loaded(model)
        pod = self._pods[model] = _Pod(gpu, wanted, ready_at, idle_from=ready_at)
        heapq.heappush(self._checks, (ready_at + self._idle_seconds, model))
        return pod

    def _fullest(self, tenant: str, wanted_bytes: int) -> _Gpu | None:
        room = (gpu for gpu in self._gpus.values() if gpu.tenant == tenant and gpu.free_bytes >= wanted_bytes)
        return min(room, key=lambda gpu: gpu.free_bytes, default=None)

    def _keep(self, tenant: str, at: float) -> _Gpu:
        self._made += 1
        gpu = _Gpu(
            f"host-{self._made}",
            tenant,
            at + self._setting.host_start_seconds,
            self._setting.gpu_memory_bytes,
        )
        self._gpus[gpu.name] = gpu
        self._meter.host_kept(gpu.name, at)
        return gpu

    def _scale_down(self, now: float) -> None:
        """Let pods go that have had no request for so long, each at its time."""
        while self._checks and self._checks[0][0] <= now:
            at, model = heapq.heappop(self._checks)
            goes_at = self._pods[model].idle_from + self._idle_seconds
            if goes_at > at:
                heapq.heappush(self._checks, (goes_at, model))
                continue
            pod = self._pods.pop(model)
            pod.gpu.free_bytes += pod.bytes
            pod.gpu.pods -= 1
            if not pod.gpu.pods:
                del self._gpus[pod.gpu.name]
                self._meter.host_gone(pod.gpu.name, at)


def scaled_pods(name: str, idle_seconds: float, shared: bool, trace: Trace, setting: Setting) -> Outcome:
    """Run pods that go after so long without a request, each with a GPU of its own or on `shared` ones."""
    return _Cluster(trace, setting, idle_seconds, shared=shared).run(name)


knative = partial(scaled_pods, "knative", KNATIVE_IDLE_SECONDS, False)
keda = partial(scaled_pods, "keda", KEDA_IDLE_SECONDS, False)
knative_shared = partial(scaled_pods, "knative-shared", KNATIVE_IDLE_SECONDS, True)
keda_shared = partial(scaled_pods, "keda-shared", KEDA_IDLE_SECONDS, True)
