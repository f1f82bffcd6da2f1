"""The controller's accounts: what each service and pool used, drew and saved, over all restarts.

An account is loaded from its object's status when the object is first seen, and lives here from then on.
"""

from collections import Counter as Tally
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from lull.api.quantities import parse_duration_seconds
from lull.controller.books import (
    account_from,
    host_reading_from,
    pool_account_from,
    reading_from,
)
from lull.controller.carbon import Carbon
from lull.controller.clock import Clock, seconds_of
from lull.controller.delays import Delays
from lull.controller.figures import PoolFigures, Pools, ServiceFigures
from lull.controller.reports import Reports, stays, told
from lull.controller.use import PoolUse, draw, pool_use
from lull.controller.view import View
from lull.controller.wire import Object, power_profile
from lull.kube import MODELGATEWAYS, MODELHOSTS, MODELPOOLS, MODELSERVICES, Resource
from lull.policy import Explanation, Fleet, Plan, PoolExplanation, Service
from lull.policy.energy import (
    MEBIBYTE,
    MICRO,
    Account,
    Meters,
    PoolAccount,
    Reading,
    charge,
    charge_host,
    close,
    close_hosts,
    disown,
    fewest_hosts,
    grams_per_request,
    kept_milliwatts,
    microseconds_of,
    move,
    resize,
    set_rate,
)
from lull.policy.fleet import CANDIDATE_MARK, Count, changed
from lull.policy.packing import capacity_bytes
from lull.policy.power import PowerProfile


@dataclass(frozen=True, slots=True)
class ServiceBook:
    """What is kept of one service; `basis` is of the hosts that it was last charged for.

    `spec` is the last that could be read; `settled`: its pool went, and what it owed by it is unwritten.
    """

    uid: str
    spec: Object
    pool: str
    account: Account
    since: float
    basis: str
    told: Explanation
    settled: bool = False


@dataclass(frozen=True, slots=True)
class PoolBook:
    """What is kept of one pool; `unallocated_milliwatts`: drawn for no model, at the last plan."""

    uid: str
    account: PoolAccount
    unallocated_milliwatts: int
    since: float
    basis: str
    profile: PowerProfile | None
    told: PoolExplanation
    capacity_bytes: int


class Ledger:
    """Owns the accounts, and charges them with what hosts report.

    Attributes:
        reports: which host says something of which service.
        delays: what share of requests waited for a wake.
        changed: services with news since the status writer looked, and pools.
    """

    def __init__(self, view: View, clock: Clock, carbon: Carbon) -> None:
        self._view = view
        self._clock = clock
        self._carbon = carbon
        self.reports = Reports(view)
        self.delays = Delays(clock)
        self.changed: dict[Resource, set[str]] = {MODELSERVICES: set(), MODELPOOLS: set()}
        self._services: dict[str, ServiceBook] = {}
        self._pools: dict[str, PoolBook] = {}
        self._wakes: dict[str, float] = {}
        self._fleet: Fleet | None = None  # as of the last plan
        self._mebibytes: Tally[str] = Tally()  # of its services, by pool
        self._for_nobody: dict[str, tuple[str, int]] = {}  # its pool and milliwatts, by host
        self._unallocated: Tally[str] = Tally()  # their sum, by pool
        self._started = False

    # What others tell it.

    def see(self, kind: Resource, key: str) -> None:
        """Charge what an object of the view says now; nothing to books that no plan has opened yet."""
        if kind is MODELHOSTS:
            self._sum_up_host(key)
            self._see_host(key)
        elif kind is MODELGATEWAYS and self._started:
            self._see_gateway(key)

    def follow(self, fleet: Fleet, plan: Plan) -> None:
        """Open the accounts of what is new, drop those of what went, and set the rates by the plan."""
        now = self._clock()
        self._open_pools(fleet, plan, now)
        if self._fleet is None:  # before any rate changes: what was drawn meanwhile is shared by the old ones
            for host in self._view.raw[MODELHOSTS].values():
                self._charge_pool(host)
        self._set_rates(fleet, now)
        new = self._open_services(fleet, plan, now)
        if self._started:
            for key in new:
                self._disown(key)
        elif not plan.seen.left:
            self._start()

    def woken(self, service: str, seconds: float) -> None:
        """Remember how long a service's last wake took."""
        self._wakes[service] = seconds

    # What it tells others.

    def service(self, key: str) -> ServiceBook | None:
        """Return the book of a service."""
        return self._services.get(key)

    def pool(self, name: str) -> PoolBook | None:
        """Return the book of a pool."""
        return self._pools.get(name)

    def meters(self, service: ServiceBook) -> Meters:
        """Return what the meters of a service's pool read now."""
        pool = self._pools.get(service.pool)
        if pool is None:
            return Meters(service.account.baseline.meter, service.account.overhead.meter)
        return pool.account.until(self._clock()).meters

    def services(self) -> Iterator[tuple[str, ServiceFigures]]:
        """Yield the figures of every service, none until the first plan; others may act in between."""
        services = self._view.raw[MODELSERVICES]
        for key in list(self._services):
            book = self._services.get(key)
            if book and key in services:  # else it is gone, and the next plan drops it
                yield key, self._service_figures(key, book)

    def pools(self) -> Pools:
        """Return the figures of every pool; empty until the first plan."""
        return {name: self._pool_figures(name, book) for name, book in self._pools.items()}

    def close_service(self, key: str) -> ServiceBook:
        """Bring a service's book to now, to be written: what left is forgotten, its shares counted."""
        book = self._services[key]
        account = close(book.account, self.reports.present(key)).until(self.meters(book))
        self._services[key] = replace(book, account=account, settled=False)
        return self._services[key]

    def close_pool(self, name: str) -> PoolBook:
        """Bring a pool's book to now, to be written."""
        book = self._pools[name]
        account = close_hosts(book.account.until(self._clock()), self._view.raw[MODELHOSTS])
        self._pools[name] = replace(book, account=account)
        return self._pools[name]

    # Within.

    def _start(self) -> None:
        """Count from now on, as all books are open; what waited while no controller was here is no news."""
        self._started = True
        for gateway in self._view.raw[MODELGATEWAYS].values():
            self.delays.meet(gateway)
        self.delays.restart()
        # Some of what they count may have gone meanwhile.
        self.changed[MODELSERVICES] |= {key for key, book in self._services.items() if book.account.counted}
        self.changed[MODELPOOLS] |= set(self._pools)

    def _see_host(self, name: str) -> None:
        host = self._view.raw[MODELHOSTS].get(name)
        self.changed[MODELSERVICES] |= self.reports.take(name)
        if host and self._fleet is not None:
            self._charge(host)
        for pool, book in self._pools.items():
            if name in book.account.counted or (host and host["spec"]["pool"] == pool):
                self.changed[MODELPOOLS].add(pool)

    def _see_gateway(self, name: str) -> None:
        gateways = self._view.raw[MODELGATEWAYS]
        if name in gateways:
            for service, delayed in self.delays.see(gateways[name]).items():
                self._delay(service, delayed)
        else:
            self.delays.forget_gateways({item["metadata"]["uid"] for item in gateways.values()})

    def _delay(self, service: str, requests: int) -> None:
        book = self._services.get(service)
        if book:
            account = replace(book.account, delayed=book.account.delayed + requests)
            self._services[service] = replace(book, account=account)
            self._count(service)
            self.changed[MODELSERVICES].add(service)

    def _charge(self, host: Object) -> None:
        """Charge a host's pool and its services with what its counters grew."""
        self._charge_pool(host)
        energy = (host.get("status") or {}).get("energy")
        carbon = self._milligrams_per_joule(host["spec"]["pool"])
        for entry in told(host):
            self._charge_service(entry, energy, carbon or 0.0)

    def _charge_pool(self, host: Object) -> None:
        name, pool = host["metadata"]["name"], host["spec"]["pool"]
        energy = (host.get("status") or {}).get("energy")
        book = self._pools.get(pool)
        if book and energy:
            carbon = self._milligrams_per_joule(pool) or 0.0
            account = charge_host(book.account, name, host_reading_from(energy), carbon)
            self._pools[pool] = replace(book, account=account, basis=energy["basis"])

    def _catch_up(self, key: str) -> None:
        """Charge a service with what grew while no controller was here."""
        for host, entry in self.reports.of(key):
            carbon = self._milligrams_per_joule(host["spec"]["pool"])
            self._charge_service(entry, (host.get("status") or {}).get("energy"), carbon or 0.0)

    def _charge_service(self, entry: Object, host_energy: Object | None, carbon: float) -> None:
        book = self._services.get(entry["service"])
        if book is None:
            return
        account = charge(book.account, entry["id"], _reading(entry), self._clock(), carbon)
        self.delays.answered(entry["service"], account.requests - book.account.requests)
        basis = host_energy["basis"] if host_energy else book.basis
        self._services[entry["service"]] = replace(book, account=account, basis=basis)
        self._count(entry["service"])

    def _count(self, service: str) -> None:
        """Tell the view how many requests a service had; the first time with what grew before we looked."""
        account = self._services[service].account
        self._view.count(service, Count(account.requests, account.delayed))

    def _disown(self, key: str) -> None:
        """Leave what placements of an earlier service of the same name drew out of a new one's account."""
        book = self._services[key]
        account = book.account
        for _, entry in self.reports.of(key):
            account = disown(account, entry["id"], _reading(entry))
        self._services[key] = replace(book, account=account)

    def _open_pools(self, fleet: Fleet, plan: Plan, now: float) -> None:
        """Open the books of pools that are new, and keep those of what stands but cannot be read now."""
        books = {
            name: book
            for name, book in self._pools.items()
            if name not in plan.pools and self._stands(MODELPOOLS, name, book.uid)
        }
        for name, explained in plan.pools.items():
            item = self._view.raw[MODELPOOLS][name]
            book = self._pools.get(name)
            if book is None or book.uid != item["metadata"]["uid"]:
                book = self._pool_book(item, explained, now)
            books[name] = replace(
                book,
                profile=power_profile(item),
                told=explained,
                capacity_bytes=capacity_bytes(fleet, fleet.pools[name]),
            )
        ended = {
            name: book.account.until(now).meters
            for name, book in self._pools.items()
            if name not in books or books[name].uid != book.uid
        }
        if ended:
            self._settle(ended)
        self._pools = books

    def _settle(self, ended: Mapping[str, Meters]) -> None:
        """Count what services owe by the meters of pools that are gone: other ones begin at zero."""
        for key, book in self._services.items():
            if book.pool in ended:
                account = move(book.account, ended[book.pool], Meters())
                self._services[key] = replace(book, account=account, settled=True)

    def _pool_book(self, item: Object, explained: PoolExplanation, now: float) -> PoolBook:
        """Open a pool's book; what hosts of an earlier pool of the same name drew is not charged to it.

        A pool that never had a ledger has no hosts of its own yet: its status is written before they come.
        """
        book = _pool_book(item, explained, now)
        if (item.get("status") or {}).get("ledger"):
            return book
        readings = {
            host["metadata"]["name"]: host_reading_from(host["status"]["energy"])
            for host in self._view.raw[MODELHOSTS].values()
            if host["spec"]["pool"] == item["metadata"]["name"] and (host.get("status") or {}).get("energy")
        }
        return replace(book, account=replace(book.account, counted=readings))

    def _set_rates(self, fleet: Fleet, now: float) -> None:
        """Let the baselines of all pools run by what is in them now."""
        self._sum_up(fleet)
        for name, book in self._pools.items():
            hosts = fewest_hosts([self._mebibytes[name] * MEBIBYTE], book.capacity_bytes)
            milliwatts = kept_milliwatts(book.profile, hosts) if book.profile else 0
            self._pools[name] = replace(
                book,
                account=set_rate(book.account, milliwatts, self._mebibytes[name], now),
                unallocated_milliwatts=self._unallocated[name],
                basis=book.basis or ("Modelled" if book.profile else ""),
            )

    def _sum_up(self, fleet: Fleet) -> None:
        """Sum up the sizes of each pool's services, by what has changed since the last time."""
        before = {} if self._fleet is None else self._fleet.services
        for key in changed(before, fleet.services):
            if CANDIDATE_MARK in key:
                continue  # the baseline keeps one revision on
            if old := before.get(key):
                self._mebibytes[old.pool] -= _mebibytes(old)
            if new := fleet.services.get(key):
                self._mebibytes[new.pool] += _mebibytes(new)
        self._fleet = fleet

    def _sum_up_host(self, name: str) -> None:
        """Sum up what hosts draw for no model, as one of them says another figure."""
        if name in self._for_nobody:
            pool, milliwatts = self._for_nobody.pop(name)
            self._unallocated[pool] -= milliwatts
        host = self._view.raw[MODELHOSTS].get(name)
        if host and stays(host):
            energy = (host.get("status") or {}).get("energy") or {}
            pool, milliwatts = host["spec"]["pool"], energy.get("unallocatedMilliwatts", 0)
            self._for_nobody[name] = pool, milliwatts
            self._unallocated[pool] += milliwatts

    def _open_services(self, fleet: Fleet, plan: Plan, now: float) -> list[str]:
        """Return the keys of those whose account was opened now and never written."""
        gone, new = set(), []
        for key in plan.looked_at:
            if CANDIDATE_MARK in key:
                continue  # its requests and its energy are its service's
            found = self._services.get(key)
            if key in plan.services:
                opened = self._opened(key, fleet.services[key], plan.services[key], now)
                self._services[key] = opened
                if found is None or found.uid != opened.uid:
                    if not self._started:
                        self._catch_up(key)
                    self._count(key)
                    if not (self._view.raw[MODELSERVICES][key].get("status") or {}).get("ledger"):
                        new.append(key)
            elif found and self._stands(MODELSERVICES, key, found.uid):
                self._services[key] = self._unreadable(found)
            elif found:
                gone.add(key)
        self._drop(gone)
        return new

    def _opened(self, key: str, service: Service, explained: Explanation, now: float) -> ServiceBook:
        item, book = self._view.raw[MODELSERVICES][key], self._services.get(key)
        if book is None or book.uid != item["metadata"]["uid"]:
            book = _service_book(item, explained, service.pool, now)
        pool = self._pools.get(service.pool)
        basis = book.basis or ("Modelled" if pool and pool.profile else "")
        return self._sized(replace(book, spec=item["spec"], told=explained, basis=basis), service)

    def _drop(self, gone: set[str]) -> None:
        for key in gone:
            del self._services[key]
            self._wakes.pop(key, None)
        if gone:
            self.delays.keep(self._services)

    def _stands(self, kind: Resource, key: str, uid: str) -> bool:
        """Tell whether the object of a book is still there: it may only not be readable for a while."""
        item = self._view.raw[kind].get(key)
        return item is not None and item["metadata"]["uid"] == uid

    def _unreadable(self, book: ServiceBook) -> ServiceBook:
        """Return the book of a service whose spec cannot be read: no baseline would keep it on meanwhile."""
        told = replace(book.told, stalled=("Invalid", ""))
        return replace(book, told=told, account=resize(book.account, 0, self.meters(book)))

    def _sized(self, book: ServiceBook, service: Service) -> ServiceBook:
        """Return a service's book with its part of the baseline as it is from now on."""
        account = book.account
        if book.pool != service.pool:
            old, book = self.meters(book), replace(book, pool=service.pool)
            account = move(account, old, self.meters(book))
        account = resize(account, _mebibytes(service), self.meters(book))
        return book if account is book.account else replace(book, account=account)

    def _milligrams_per_joule(self, pool: str) -> float | None:
        item = self._view.raw[MODELPOOLS].get(pool)
        return self._carbon.of(item).milligrams_per_joule if item else None

    def _service_figures(self, key: str, book: ServiceBook) -> ServiceFigures:
        pool = self._pools.get(book.pool)
        account, known = book.account.until(self.meters(book)), bool(book.basis)
        hold = (book.spec.get("hold") or {}).get("timeout", "60s")
        objective = book.spec.get("objective")
        status = self._view.raw[MODELSERVICES][key].get("status") or {}
        written = status.get("ledger") or {}
        grams = account.milligrams_co2e / 1000
        profiled = pool is not None and pool.profile is not None
        return ServiceFigures(
            pool=book.pool,
            state=book.told.state,
            stalled=book.told.stalled[0] if book.told.stalled else "",
            rollout=(status.get("rollout") or {}).get("phase", ""),
            hold_timeout_seconds=parse_duration_seconds(hold),
            wake_seconds=self._wakes.get(key),
            requests=account.requests,
            delayed=written.get("delayed", 0),
            objective_delayed_ratio=objective.get("delayedPercent", 5) / 100 if objective else None,
            watts=draw(self.entries(key)).total / 1000 if known else None,
            idle_joules=account.idle_joules if known else None,
            dynamic_joules=account.dynamic_joules if known else None,
            baseline_joules=account.baseline.microjoules / MICRO if profiled else None,
            overhead_joules=account.overhead.microjoules / MICRO if known else None,
            carbon_grams=grams if self.carbon_known(book.pool, account.milligrams_co2e) else None,
        )

    def entries(self, key: str) -> list[Object]:
        """Return what is said of a service's placements that are to stay for now."""
        return [entry for _, entry in self.reports.kept(key)]

    def use(self, name: str) -> PoolUse:
        """Return what a pool's hosts do now; one that is being let go draws nothing any more."""
        raw = self._view.raw[MODELHOSTS]
        hosts = [raw[host.name] for host in self._view.hosts.values() if host.name in raw]
        return pool_use(host for host in hosts if host["spec"]["pool"] == name)

    def carbon_known(self, pool: str, milligrams: int) -> bool:
        """Tell whether carbon is counted in a pool, or has been."""
        return bool(milligrams) or self._milligrams_per_joule(pool) is not None

    def energy_trouble(self, name: str) -> tuple[str, str] | None:
        """Return why nobody knows what a pool draws."""
        book = self._pools.get(name)
        if book is None or book.basis:
            return None
        return "NoPowerProfile", (
            "no host has a sensor, and the power of the pool's accelerator is not known: set idleWatts, "
            "contextWatts and maxWatts in spec.power, or spec.accelerator.product to one that Lull knows"
        )

    def carbon_trouble(self, pool: Object) -> tuple[str, str] | None:
        """Return why a pool's carbon intensity is not what its ConfigMap says."""
        return self._carbon.of(pool).trouble

    def grams_per_request(self, name: str) -> tuple[float | None, float | None]:
        """Return the carbon of a request in a pool at its present utilization, and packed perfectly."""
        use, book = self.use(name), self._pools[name]
        carbon = self._milligrams_per_joule(name)
        if carbon is None or use.milliwatts is None:
            return None, None
        per_second = use.requests_per_minute / 60
        present = grams_per_request(use.milliwatts / 1000, per_second, carbon)
        if book.profile is None:
            return present, None
        fewest = fewest_hosts([book.told.used_bytes], book.capacity_bytes)
        packed = min(use.milliwatts, kept_milliwatts(book.profile, fewest) + use.dynamic_milliwatts)
        return present, grams_per_request(packed / 1000, per_second, carbon)

    def _pool_figures(self, name: str, book: PoolBook) -> PoolFigures:
        use, account, explained = self.use(name), book.account.until(self._clock()), book.told
        present, packed = self.grams_per_request(name)
        known = bool(book.basis)
        supply, used = explained.supply_bytes, explained.used_bytes
        carbon_known = self.carbon_known(name, account.milligrams_co2e)
        return PoolFigures(
            supply_bytes=supply,
            used_bytes=used,
            memory_ratio=min(1.0, used / supply) if supply else None,
            busy_ratio=min(1.0, use.busy_percent / 100 / use.busy_hosts) if use.busy_hosts else None,
            watts=(use.milliwatts or 0) / 1000 if known else None,
            joules=account.joules if known else None,
            baseline_joules=account.baseline_joules if book.profile else None,
            carbon_grams=account.milligrams_co2e / 1000 if carbon_known else None,
            grams_per_request=present,
            grams_per_request_packed=packed,
        )


def sleeps(book: ServiceBook) -> bool:
    """Tell whether a service sleeps: it does nothing then, whatever its hosts' last window says."""
    return book.told.state in ("Asleep", "Suspended")


def _service_book(item: Object, explained: Explanation, pool: str, now: float) -> ServiceBook:
    """Open the book of a service where its status left it."""
    status = item.get("status") or {}
    energy, ledger = status.get("energy") or {}, status.get("ledger") or {}
    return ServiceBook(
        uid=item["metadata"]["uid"],
        spec=item["spec"],
        pool=ledger.get("pool", pool),
        account=account_from(ledger),
        since=seconds_of(energy["since"]) if "since" in energy else now,
        basis=energy.get("basis", ""),
        told=explained,
    )


def _pool_book(item: Object, explained: PoolExplanation, now: float) -> PoolBook:
    """Open the book of a pool where its status left it."""
    status = item.get("status") or {}
    energy, ledger = status.get("energy") or {}, status.get("ledger")
    return PoolBook(
        uid=item["metadata"]["uid"],
        account=pool_account_from(ledger) if ledger else PoolAccount(microseconds_of(now)),
        unallocated_milliwatts=0,
        since=seconds_of(energy["since"]) if "since" in energy else now,
        basis=energy.get("basis", ""),
        profile=None,
        told=explained,
        capacity_bytes=0,
    )


def _reading(entry: Object) -> Reading:
    return reading_from(entry.get("energy") or {}, entry.get("counters") or {})


def _mebibytes(service: Service) -> int:
    """Return what the baseline keeps on for a service; nothing while nobody knows its size."""
    size_bytes = max(service.memory_bytes or 0, service.measured_bytes or 0)
    return -(-size_bytes // MEBIBYTE) * max(1, service.min_replicas)
