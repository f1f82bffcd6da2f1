"""A fixed number of hosts, always on, with the models used last in their memory: ModelMesh and Seldon.

Both unload what was used least recently when memory is needed (least recently: the end of the last request),
load one model at a time on a host, and begin empty. A model that still computes leaves when it is done.
"""

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, field

from lull.simulate.meter import Meter
from lull.simulate.outcome import Outcome
from lull.simulate.peers.serving import serve
from lull.simulate.setting import Setting
from lull.simulate.trace import Trace


@dataclass(slots=True)
class Cache:
    """One host's memory. `used` is when each of its models had its last request done."""

    free_bytes: int
    loads_until: float = 0.0
    used: dict[int, float] = field(default_factory=dict)

    @property
    def oldest(self) -> float:
        """When its least recently used model was used."""
        return min(self.used.values(), default=0.0)


class Mesh(ABC):
    """Where a model is loaded that is loaded nowhere."""

    def __init__(self, sizes: Sequence[int], caches: Sequence[Cache]) -> None:
        self.sizes, self.caches = sizes, caches

    @abstractmethod
    def place(self, model: int) -> Cache:
        """Return one of the caches."""


class ModelMesh(Mesh):
    """One LRU cache over all hosts, spread out: where most room is, or else what is oldest.

    Instances are ranked by room, and by the age of their least recently used model once they are full:
    kserve/modelmesh, ModelMesh.java (CacheMissForwardingLB). Its second copies of models in regular use
    (between 7 and 40 minutes apart, while a tenth of all memory is free) are left out: with one request
    stream a model they only take memory from others.
    """

    def place(self, model: int) -> Cache:
        """Return the cache with the most room, or else the one whose eviction costs least."""
        roomiest = max(self.caches, key=lambda cache: cache.free_bytes)
        if roomiest.free_bytes >= self.sizes[model]:
            return roomiest
        return min(self.caches, key=lambda cache: cache.oldest)


class Seldon(Mesh):
    """Each model is registered with one host, the one with the most memory left, and overcommitted there.

    Seldon Core 2, "Multi-Model Serving with Overcommit": the agent of a host evicts its least recently used
    models to disk and reloads them on a request. The default of `SELDON_OVERCOMMIT_PERCENTAGE`, 10 %, would
    refuse most models of these traces; here it is as large as it has to be.
    """

    def __init__(self, sizes: Sequence[int], caches: Sequence[Cache]) -> None:
        super().__init__(sizes, caches)
        self._homes: dict[int, Cache] = {}
        self._registered = [0] * len(caches)

    def place(self, model: int) -> Cache:
        """Return its home."""
        if model not in self._homes:
            home = min(range(len(self.caches)), key=self._registered.__getitem__)
            self._registered[home] += self.sizes[model]
            self._homes[model] = self.caches[home]
        return self._homes[model]


def modelmesh(trace: Trace, setting: Setting) -> Outcome:
    """Run ModelMesh on `fixed_hosts` hosts of each tenant."""
    return _run("modelmesh", ModelMesh, trace, setting)


def seldon(trace: Trace, setting: Setting) -> Outcome:
    """Run Seldon Core 2 on `fixed_hosts` hosts of each tenant."""
    return _run("seldon", Seldon, trace, setting)


def _run(name: str, kind: type[Mesh], trace: Trace, setting: Setting) -> Outcome:
    meter = Meter(trace, setting)
    sizes = [model.memory_bytes for model in trace.models]
    meshes: dict[str, Mesh] = {}
    for tenant in sorted({model.tenant for model in trace.models}):
        for host in range(setting.fixed_hosts):
            meter.host_kept(f"{tenant}-{host}", 0.0)
        meshes[tenant] = kind(sizes, [Cache(setting.gpu_memory_bytes) for _ in range(setting.fixed_hosts)])
    where: dict[int, Cache] = {}
    ready = [0.0] * len(sizes)
    for at, model, duration in zip(trace.at_seconds, trace.model, trace.duration_seconds, strict=True):
        if model not in where:
            traced = trace.models[model]
            cache = meshes[traced.tenant].place(model)
            begin = _make_room(cache, sizes, model, at, where)
            cache.loads_until = ready[model] = begin + setting.load_seconds_of(traced.key)
            meter.loaded(model)
        cache = where[model]
        left = serve(meter, model, at, ready[model], duration)
        cache.used[model] = max(cache.used.get(model, 0.0), left)
    return meter.outcome(name, trace.length_seconds)


def _make_room(cache: Cache, sizes: Sequence[int], model: int, now: float, where: dict[int, Cache]) -> float:
    """Give a model memory, taking it from those used least recently; return when its load may begin."""
    begin = max(now, cache.loads_until)
    while cache.free_bytes < sizes[model]:
        victim = min(cache.used, key=cache.used.__getitem__)
        begin = max(begin, cache.used.pop(victim))
        cache.free_bytes += sizes[victim]
        del where[victim]
    cache.free_bytes -= sizes[model]
    where[model] = cache
    return begin
