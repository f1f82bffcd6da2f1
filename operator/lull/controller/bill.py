"""What statuses say in figures: of a service and a pool, rounded for people, with the account behind them."""

from lull.controller.books import account_to, pool_account_to
from lull.controller.clock import Clock, rfc3339
from lull.controller.ledger import Ledger, PoolBook, ServiceBook, sleeps
from lull.controller.use import asleep, draw, utilization
from lull.controller.wire import Object
from lull.policy.energy import Account, PoolAccount, energy_text, grams_text, watt_hours_text, watts_text

_MILLI = 1000


def service_figures(ledger: Ledger, key: str, measured_bytes: int | None, clock: Clock) -> Object:
    """Return `utilization`, `energy` and `ledger` of a service, its account brought to now."""
    ratio = ledger.delays.ratio(key)
    book, now = ledger.close_service(key), clock()
    use = asleep(ratio) if sleeps(book) else utilization(ledger.entries(key), measured_bytes, ratio)
    figures = {"utilization": use, "ledger": account_to(book.account, book.pool, now)}
    return figures | ({"energy": _service_energy(ledger, key, book, now)} if book.basis else {})


def pool_figures(ledger: Ledger, name: str) -> Object:
    """Return the busy share, `energy` and `ledger` of a pool, its account brought to now."""
    use, book = ledger.use(name), ledger.close_pool(name)
    figures: Object = {
        "busy": {"supplyPercent": 100 * use.busy_hosts, "usedPercent": use.busy_percent},
        "ledger": pool_account_to(book.account),
    }
    if use.busy_hosts:
        figures["busyPercent"] = min(100, round(use.busy_percent / use.busy_hosts))
    return figures | ({"energy": _pool_energy(ledger, name, book)} if book.basis else {})


def _service_energy(ledger: Ledger, key: str, book: ServiceBook, now: float) -> Object:
    account = book.account
    drawn = draw(ledger.entries(key))
    energy: Object = {
        "basis": book.basis,
        "milliwatts": drawn.total,
        "idleMilliwatts": drawn.idle,
        "watts": watts_text(drawn.total),
        "wattHours": watt_hours_text(account.joules),
        "idleWattHours": watt_hours_text(account.idle_joules),
        "dynamicWattHours": watt_hours_text(account.dynamic_joules),
        "lastDayWattHours": watt_hours_text(account.last_day_joules(now)),
        "since": rfc3339(book.since),
    }
    pool = ledger.pool(book.pool)
    if pool and pool.profile:
        baseline = _part(pool.account.baseline_milliwatts, account, pool.account) + drawn.dynamic
        overhead = -_part(-pool.unallocated_milliwatts, account, pool.account)
        energy["baselineMilliwatts"] = baseline
        energy |= _saved(account.saved_joules, baseline - drawn.total - overhead)
    if ledger.carbon_known(book.pool, account.milligrams_co2e):
        energy["gramsCO2e"] = grams_text(account.milligrams_co2e)
    return energy


def _pool_energy(ledger: Ledger, name: str, book: PoolBook) -> Object:
    account, use = book.account, ledger.use(name)
    milliwatts = use.milliwatts or 0
    energy: Object = {
        "basis": book.basis,
        "milliwatts": milliwatts,
        "watts": watts_text(milliwatts),
        "wattHours": watt_hours_text(account.joules),
        "since": rfc3339(book.since),
    }
    if book.profile:
        baseline = account.baseline_milliwatts + use.dynamic_milliwatts
        energy["baselineMilliwatts"] = baseline
        energy |= _saved(account.saved_joules, baseline - milliwatts)
    if ledger.carbon_known(name, account.milligrams_co2e):
        energy["gramsCO2e"] = grams_text(account.milligrams_co2e)
    names = ("gramsCO2ePerRequest", "gramsCO2ePerRequestPacked")
    for field, grams in zip(names, ledger.grams_per_request(name), strict=True):
        if grams is not None:
            energy[field] = grams_text(grams * _MILLI)
    return energy


def _part(milliwatts: int, account: Account, pool: PoolAccount) -> int:
    """Return a service's part by memory of what its pool shares out, rounded down."""
    return milliwatts * account.mebibytes // pool.mebibytes if pool.mebibytes else 0


def _saved(joules: float, milliwatts: int) -> Object:
    return {
        "savedWattHours": watt_hours_text(joules),
        "saved": energy_text(joules),
        "savingMilliwatts": milliwatts,
    }
