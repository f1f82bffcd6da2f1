"""A day of a simulated fleet, written into a real Prometheus by promtool, and its truth.

Two pools, twelve services with hours of their own. At noon another controller Pod takes over, with its totals
kept and its histograms from zero; before that, half an hour is missing.
"""

import math
import socket
import subprocess
import time
import urllib.request
from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from lull.local.toolchain import prometheus_binaries

DAY_SECONDS = 86_400
SCRAPE_SECONDS = 60
GAP = range(41_400, 43_200)
TAKEOVER = 43_200
SOURCES = ("Host", "Loaded", "NewHost")
BUCKETS = (0.01, 0.05, 0.1, 0.5, 1, 2.5, 5, 10, 30, 60)
TOOK = {"Loaded": 0.008, "Host": 0.4, "NewHost": 4.0}
HOST_WATTS = {"h100": 150.0, "l4": 45.0}
DYNAMIC_WATTS = {"h100": 300.0, "l4": 30.0}
BASELINE_HOSTS = {"h100": 2, "l4": 2}
CAPACITY_GIB = {"h100": 80.0, "l4": 24.0}


@dataclass(frozen=True)
class Service:
    """One service: its pool, memory, and when and how much it is asked."""

    namespace: str
    name: str
    pool: str
    gib: float
    per_minute: float
    peak_hour: float
    hours: float

    def requests(self, second: int) -> float:
        """Requests in the minute that begins at a second of the day."""
        distance = abs((second / 3600 - self.peak_hour + 12) % 24 - 12)
        if distance > self.hours / 2:
            return 0.0
        return self.per_minute * (0.3 + 0.7 * math.cos(math.pi * distance / self.hours))


SERVICES = (
    Service("search", "embed-large", "h100", 18, 520, 14, 24),
    Service("search", "rerank", "h100", 9.5, 190, 13, 15),
    Service("vision", "defects", "h100", 30, 32, 9, 8),
    Service("vision", "segment", "h100", 34, 60, 16, 5),
    Service("fraud", "cards", "h100", 12, 110, 18, 7),
    Service("fraud", "claims", "h100", 22, 20, 11, 3),
    Service("vision", "ocr", "l4", 5.5, 96, 10, 9),
    Service("speech", "whisper-de", "l4", 7.2, 41, 10, 10),
    Service("speech", "whisper-fr", "l4", 7.2, 18, 15, 4),
    Service("vision", "faces", "l4", 2.1, 6, 20, 2),
    Service("forecast", "demand", "l4", 4, 30, 3, 1),
    Service("forecast", "prices", "l4", 6, 12, 5, 1),
)

Series = dict[str, list[tuple[int, float]]]


@dataclass
class Truth:
    """What happened, to hold a report to."""

    joules: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    baseline_joules: dict[str, float] = field(default_factory=lambda: defaultdict(float))
    requests: float = 0.0
    delayed: float = 0.0
    wakes: dict[str, int] = field(default_factory=lambda: defaultdict(int))


class Day:
    """Counts a day up, and writes down every series as Prometheus would have scraped it."""

    def __init__(self, start: int) -> None:
        self.start = start
        self.truth = Truth()
        self.families: dict[str, Series] = defaultdict(lambda: defaultdict(list))
        self._totals: dict[tuple[str, str], float] = defaultdict(lambda: 1e6)  # they went on for long
        self._buckets: dict[tuple[str, float], int] = {
            (s, b): 0 for s in SOURCES for b in (*BUCKETS, math.inf)
        }
        self._awake: set[str] = set()
        for second in range(0, DAY_SECONDS + 1, SCRAPE_SECONDS):
            self._minute(second)

    def _minute(self, second: int) -> None:
        if second == TAKEOVER:
            self._buckets = dict.fromkeys(self._buckets, 0)
        if second not in GAP:
            self._scrape(second)
        for pool in HOST_WATTS:
            self._count_pool(pool, second)
        for service in SERVICES:
            self._count_service(service, second)

    def hosts(self, pool: str, second: int) -> int:
        used = sum(s.gib for s in SERVICES if s.pool == pool and s.requests(second))
        return math.ceil(used / CAPACITY_GIB[pool])

    def busy(self, pool: str, second: int) -> float:
        asked = sum(s.requests(second) for s in SERVICES if s.pool == pool)
        return min(0.8, asked / {"h100": 1_200, "l4": 240}[pool])

    def _count_pool(self, pool: str, second: int) -> None:
        hosts, dynamic = self.hosts(pool, second), DYNAMIC_WATTS[pool] * self.busy(pool, second)
        joules = (hosts * HOST_WATTS[pool] + dynamic) * SCRAPE_SECONDS
        baseline = (BASELINE_HOSTS[pool] * HOST_WATTS[pool] + dynamic) * SCRAPE_SECONDS
        self._totals["pool", pool] += joules
        self._totals["baseline", pool] += baseline
        if second < DAY_SECONDS:
            self.truth.joules[pool] += joules
            self.truth.baseline_joules[pool] += baseline

    def _count_service(self, service: Service, second: int) -> None:
        asked = service.requests(second)
        woken = bool(asked) and service.name not in self._awake and second
        (self._awake.add if asked else self._awake.discard)(service.name)
        delayed = 12.0 if woken else 0.0
        self._totals["requests", service.name] += asked
        self._totals["delayed", service.name] += delayed
        if asked:
            share = service.gib / CAPACITY_GIB[service.pool]
            self._totals["idle", service.name] += share * HOST_WATTS[service.pool] * SCRAPE_SECONDS
            busy = asked / {"h100": 1_200, "l4": 240}[service.pool]
            self._totals["dynamic", service.name] += busy * DYNAMIC_WATTS[service.pool] * SCRAPE_SECONDS
        if second < DAY_SECONDS:
            self.truth.requests += asked
            self.truth.delayed += delayed
        if woken and second < DAY_SECONDS:
            self._wake(SOURCES[len(service.name) % len(SOURCES)])

    def _wake(self, source: str) -> None:
        self.truth.wakes[source] += 1
        for bound in (*BUCKETS, math.inf):
            self._buckets[source, bound] += TOOK[source] <= bound

    def _scrape(self, second: int) -> None:
        pod = "lull-controller-a" if second < TAKEOVER else "lull-controller-b"

        def put(family: str, value: float, **labels: str) -> None:
            said = ",".join(f'{name}="{text}"' for name, text in (labels | {"pod": pod}).items())
            self.families[family][said].append((self.start + second, value))

        for pool in HOST_WATTS:
            self._put_pool(put, pool, second)
        for service in SERVICES:
            self._put_service(put, service, second)
        for (source, bound), wakes in self._buckets.items():
            le = "+Inf" if math.isinf(bound) else f"{bound:g}"
            put("lull_wake_seconds_bucket", wakes, source=source, le=le)

    def _put_pool(self, put, pool: str, second: int) -> None:
        hosts, busy = self.hosts(pool, second), self.busy(pool, second)
        used = sum(s.gib for s in SERVICES if s.pool == pool and s.requests(second))
        put("lull_pool_energy_joules_total", self._totals["pool", pool], modelpool=pool)
        put("lull_pool_baseline_energy_joules_total", self._totals["baseline", pool], modelpool=pool)
        put("lull_pool_carbon_grams_total", self._totals["pool", pool] / 3.6e6 * 380, modelpool=pool)
        watts = hosts * HOST_WATTS[pool] + DYNAMIC_WATTS[pool] * busy
        put("lull_pool_power_watts", watts, modelpool=pool)
        put("lull_hosts", hosts, modelpool=pool, state="serving")
        put("lull_hosts", 0, modelpool=pool, state="idle")
        supply = hosts * CAPACITY_GIB[pool] * 2**30
        put("lull_pool_memory_bytes", supply, modelpool=pool, kind="supply")
        put("lull_pool_memory_bytes", used * 2**30, modelpool=pool, kind="used")
        if hosts:
            put("lull_pool_utilization_ratio", busy / hosts, modelpool=pool, resource="busy")
        basis = "Measured" if pool == "h100" else "Modelled"
        put("lull_host_energy_joules_total", self._totals["pool", pool], modelpool=pool, basis=basis)

    def _put_service(self, put, service: Service, second: int) -> None:
        of = {"modelservice_namespace": service.namespace, "modelservice": service.name}
        put("lull_service_info", 1, **of, modelpool=service.pool)
        put("lull_service_state", 1, **of, state="Serving" if service.requests(second) else "Asleep")
        put("lull_service_requests_total", self._totals["requests", service.name], **of)
        put("lull_service_delayed_requests_total", self._totals["delayed", service.name], **of)
        for part in ("idle", "dynamic"):
            put("lull_service_energy_joules_total", self._totals[part, service.name], **of, part=part)

    def openmetrics(self) -> Iterator[str]:
        """Return the day as OpenMetrics text with its times."""
        for family, series in self.families.items():
            for labels, points in series.items():
                for at, value in points:
                    yield f"{family}{{{labels}}} {value:.6f} {at}\n"
        yield "# EOF\n"


@contextmanager
def prometheus_with(day: Day | None, folder: Path) -> Iterator[str]:
    """Run a real Prometheus on a day's figures (or none), and yield its URL."""
    programs = prometheus_binaries()
    data = folder / "data"
    if day:
        text = folder / "day.om"
        text.write_text("".join(day.openmetrics()))
        subprocess.run(
            [programs["promtool"], "tsdb", "create-blocks-from", "openmetrics", "-q", text, data],
            check=True,
            timeout=120,
        )
    (folder / "none.yaml").write_text("{}")
    with socket.create_server(("127.0.0.1", 0)) as probe:
        address = f"127.0.0.1:{probe.getsockname()[1]}"
    server = subprocess.Popen(
        [
            programs["prometheus"],
            f"--config.file={folder / 'none.yaml'}",
            f"--storage.tsdb.path={data}",
            "--storage.tsdb.retention.time=100y",
            f"--web.listen-address={address}",
            "--log.level=error",
        ]
    )
    try:
        _wait_ready(f"http://{address}")
        yield f"http://{address}"
    finally:
        server.terminate()
        server.wait(timeout=20)


def _wait_ready(url: str) -> None:
    deadline = time.monotonic() + 30
    while time.monotonic() < deadline:
        try:
            with urllib.request.urlopen(f"{url}/-/ready", timeout=2) as answer:
                if answer.status == 200:
                    return
        except OSError:
            time.sleep(0.05)
    raise TimeoutError(f"Prometheus at {url} was not ready after 30 s")
