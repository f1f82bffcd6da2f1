"""What statuses say of energy: a service's and a pool's, rounded for people, with the account behind it."""

from lull.controller.books import account_to, pool_account_to
from lull.controller.clock import Clock, rfc3339
from lull.controller.ledger import Ledger, PoolBook, ServiceBook
from lull.controller.use import Draw, draw
from lull.controller.wire import Object
from lull.policy.energy import energy_text, grams_text, watt_hours_text, watts_text

_MILLI = 1000


def service_energy(ledger: Ledger, key: str, clock: Clock) -> Object | None:
    """Return `status.energy` of a service, its account brought to now; None where nothing is known."""
    book = ledger.close_service(key)
    if not book.basis:
        return None
    account, now = book.account, clock()
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
        "ledger": account_to(account, book.pool, now),
    }
    pool = ledger.pool(book.pool)
    if pool and pool.profile:
        energy["baselineMilliwatts"] = _baseline_milliwatts(book, pool, drawn)
        energy |= _saved(account.baseline_at(ledger.meter(book)) - account.joules)
    if ledger.carbon_known(book.pool, account.milligrams_co2e):
        energy["gramsCO2e"] = grams_text(account.milligrams_co2e)
    return energy


def pool_energy(ledger: Ledger, name: str, clock: Clock) -> Object | None:
    """Return `status.energy` of a pool, its account brought to now; None where nothing is known."""
    book = ledger.close_pool(name)
    if not book.basis:
        return None
    account, use = book.account, ledger.use(name)
    milliwatts = use.milliwatts or 0
    energy: Object = {
        "basis": book.basis,
        "milliwatts": milliwatts,
        "watts": watts_text(milliwatts),
        "wattHours": watt_hours_text(account.joules),
        "since": rfc3339(book.since),
        "ledger": pool_account_to(account),
    }
    if book.profile:
        energy["baselineMilliwatts"] = account.baseline_milliwatts + use.dynamic_milliwatts
        energy |= _saved(account.baseline_at(clock()) - account.joules)
    if ledger.carbon_known(name, account.milligrams_co2e):
        energy["gramsCO2e"] = grams_text(account.milligrams_co2e)
    names = ("gramsCO2ePerRequest", "gramsCO2ePerRequestPacked")
    for field, grams in zip(names, ledger.grams_per_request(name), strict=True):
        if grams is not None:
            energy[field] = grams_text(grams * _MILLI)
    return energy


def _baseline_milliwatts(book: ServiceBook, pool: PoolBook, drawn: Draw) -> int:
    return book.account.mebibytes * pool.account.meter_microwatts // _MILLI + drawn.dynamic


def _saved(joules: float) -> Object:
    return {"savedWattHours": watt_hours_text(joules), "saved": energy_text(joules)}
