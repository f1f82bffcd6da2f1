"""What was learned of services and pools, as their statuses keep it: a restarted controller goes on with it.

Statuses are never written for it alone: it goes along whenever they are written for another reason, as when a
service wakes or falls asleep.
"""

from collections.abc import Iterable
from dataclasses import replace

from lull.api.quantities import format_duration, parse_duration_seconds
from lull.controller.view import View
from lull.controller.wire import Object, two_digits
from lull.kube import MODELPOOLS, MODELSERVICES
from lull.policy.habits import Habit, counts_of, habit_from
from lull.policy.learning import Learned, remembered, with_habits
from lull.policy.prices import DEFAULT_DELAYED_PERCENT, Market

LEARNED = ("habit", "delayWorth", "hostStart")
"""The fields of statuses that are learned."""


def service_memory(learned: Learned, key: str) -> Object:
    """Return what a service's status keeps of what was learned of it; nothing while nothing was."""
    habit = learned.habits.get(key)
    if habit is None:
        return {}
    kept: Object = {"gaps": counts_of(habit)} if any(habit.gaps) else {}
    if habit.load_seconds is not None:
        kept["load"] = format_duration(two_digits(habit.load_seconds))
    return {"habit": kept} if kept else {}


def pool_memory(learned: Learned, name: str) -> Object:
    """Return what a pool's status keeps: the price of a delay by the default objective, and start times."""
    kept: Object = {}
    price = learned.prices.get((name, DEFAULT_DELAYED_PERCENT))
    if price is not None:
        kept["delayWorth"] = format_duration(two_digits(price.worth_seconds))
    crowd = learned.crowds.get(name)
    if crowd is not None and crowd.start_seconds is not None:
        kept["hostStart"] = format_duration(two_digits(crowd.start_seconds))
    return kept


def recalled(view: View) -> Learned:
    """Return what the statuses remember."""
    starts: dict[str, float] = {}
    prices: dict[Market, float] = {}
    for name in view.pools:
        status = view.raw[MODELPOOLS][name].get("status") or {}
        if status.get("hostStart"):
            starts[name] = parse_duration_seconds(status["hostStart"])
        if status.get("delayWorth"):
            prices[name, DEFAULT_DELAYED_PERCENT] = parse_duration_seconds(status["delayWorth"])
    return remembered(_habits(view, view.services), starts, prices)


def completed(learned: Learned, view: View) -> Learned:
    """Return what is known, with what the statuses remember of services that could not be read before."""
    unknown = view.services.keys() - learned.habits.keys()
    return with_habits(learned, _habits(view, unknown)) if unknown else learned


def _habits(view: View, keys: Iterable[str]) -> dict[str, tuple[str, Habit]]:
    """Return the pools and habits of services; a candidate has none of its own."""
    raw = view.raw[MODELSERVICES]
    return {key: (view.services[key].pool, _habit(raw[key])) for key in keys if key in raw}


def _habit(item: Object) -> Habit:
    """Return a service's habit; what it was asked before anybody looked is no news."""
    kept = (item.get("status") or {}).get("habit") or {}
    load = kept.get("load")
    habit = habit_from(kept.get("gaps", ()), parse_duration_seconds(load) if load else None)
    return replace(habit, count=None)
