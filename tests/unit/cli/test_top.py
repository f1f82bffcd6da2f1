"""What `lull top` shows of statuses: figures, tables that fit, bars, JSON, and the live view's keys."""

import asyncio
import importlib
import io
import json
import sys
from dataclasses import asdict

import pytest
from rich.console import Console
from rich.text import Text
from textual.widgets import DataTable

from lull.api.host import ModelHost
from lull.api.pool import ModelPool
from lull.api.service import ModelService
from lull.cli import words
from lull.cli.top import once, packing, tables
from lull.cli.top.app import HISTORY, Top
from lull.cli.top.figures import Fleet, HeldModel, HostRow, Next, fleet
from unit.cli import golden


def golden_fleet(**changed) -> Fleet:
    return fleet(
        **{
            "now_seconds": golden.NOW,
            "services": golden.services(),
            "hosts": golden.hosts(),
            "pools": golden.pools(),
        }
        | changed
    )


def by_name(shown: Fleet):
    return {row.name: row for row in shown.services}


def printed(shown: Fleet, width: int) -> list[str]:
    out = io.StringIO()
    once.show(Console(width=width, file=out), shown, "namespace")
    return out.getvalue().splitlines()


def test_the_golden_statuses_are_what_the_api_allows():
    for kind, items in (
        (ModelService, golden.services()),
        (ModelHost, golden.hosts()),
        (ModelPool, golden.pools()),
    ):
        for item in items:
            kind.model_validate({"spec": item["spec"], "status": item["status"]})


# What the figures mean


def test_a_sleeping_service_saves_on_while_nobody_writes_its_status():
    cards = by_name(golden_fleet())["cards"].energy
    assert cards.saved_joules == 930 * 3600 + 40 * 3600, "40 W for the hour since its ledger was written"
    later = by_name(golden_fleet(now_seconds=golden.NOW + 60))["cards"].energy
    assert later.saved_joules - cards.saved_joules == 40 * 60
    assert later.energy_joules == cards.energy_joules, "it draws nothing"


def test_a_sleeping_service_saves_what_its_pools_meters_say_where_they_can_be_read():
    services, pools = golden.services(), golden.pools()
    (cards,) = (item for item in services if item["metadata"]["name"] == "cards")
    (its_pool,) = (item for item in pools if item["metadata"]["name"] == cards["spec"]["pool"])
    cards["status"]["ledger"] |= {"pool": cards["spec"]["pool"], "mebibytes": 1000}
    ledger = its_pool["status"]["ledger"]
    ledger |= {"mebibytes": 4000, "meter": 7_000_000, "overheadMeter": 2_000_000, "baselineMilliwatts": 8000}
    saved = [
        by_name(golden_fleet(services=services, pools=pools, now_seconds=golden.NOW + s))[
            "cards"
        ].energy.saved_joules
        for s in (0, 60)
    ]
    assert saved == [930 * 3600 + 7000 - 2000, 930 * 3600 + 7000 - 2000 + 60 * 2]


def test_an_awake_service_is_shown_as_it_was_written():
    now, later = (by_name(golden_fleet(now_seconds=golden.NOW + s))["rerank"].energy for s in (0, 25))
    assert now == later, "its next figures may be lower: nothing shown may run backwards"


def test_without_energy_nothing_is_guessed():
    prices = by_name(golden_fleet())["prices"]
    assert prices.energy.power_watts is None
    assert words.watts(prices.energy.power_watts, prices.energy.basis) == words.UNKNOWN


def test_what_is_modelled_says_so_and_a_sum_with_a_modelled_part_too():
    shown = golden_fleet()
    assert words.watts(by_name(shown)["ocr"].energy.power_watts, "Modelled") == "~14 W"
    assert shown.totals.energy.basis == "Mixed"
    assert any("~453 W" in line for line in printed(shown, 120))
    measured = [item for item in golden.services() if item["spec"]["pool"] == "h100"]
    only = golden_fleet(services=measured, hosts=golden.hosts()[:2], pools=golden.pools()[:1])
    lines = printed(only, 120)
    embed = next(line for line in lines if "embed-large" in line)
    assert " 142 W" in embed
    assert " ~388 Wh" in embed, "its baseline is modelled, whatever its sensor says"
    assert "405 W · saved ~2.89 kWh · ~2.08 kg CO₂e" in "\n".join(lines)
    assert words.LEGEND in lines, "wherever a mark is"


def test_no_legend_where_no_mark_is():
    bare = [item for item in golden.services() if "energy" not in item["status"]]
    assert not any("~" in line for line in printed(golden_fleet(services=bare, hosts=[], pools=[]), 120))


def test_totals_hold_what_no_service_is_charged_with():
    totals = golden_fleet().totals
    assert totals.energy.power_watts == 276 + 129 + 48, "the hosts' watts, not the services' alone"
    assert totals.energy.saved_joules == (2890 + 1310) * 3600
    assert totals.memory_used_ratio == pytest.approx((45.5 + 22) / (160 + 24))
    assert totals.busy_used_ratio == pytest.approx((0.51 + 0.31) / 3)


def test_without_a_host_nothing_is_drawn():
    assert golden_fleet(hosts=[]).totals.energy.power_watts == 0


def test_services_alone_are_summed_where_hosts_and_pools_may_not_be_read():
    totals = golden_fleet(hosts=None, pools=None).totals
    assert totals.hosts is None
    assert totals.energy.power_watts == pytest.approx(142 + 74 + 38 + 14 + 19 + 3)


def test_a_loss_is_shown_as_a_loss():
    assert words.energy(-7200, "Measured") == "−2.0 Wh"


@pytest.mark.parametrize(
    ("value", "said"),
    [(0, "0 W"), (3.04, "3.0 W"), (48.4, "48 W"), (999.4, "999 W"), (1200, "1.2 kW"), (1.5e6, "1.5 MW")],
)
def test_watts_are_short(value, said):
    assert words.watts(value, "Measured") == said


def test_the_next_step_says_when_or_why():
    assert words.next_step(Next("Sleep", "after 5m", "2026-11-22T08:04:10Z"), golden.AT) == "sleep in 4m10s"
    assert words.next_step(Next("Sleep", "after 5m", "2026-11-22T07:59:00Z"), golden.AT) == "sleep in 0ms"
    assert words.next_step(Next("Wake", "the next request wakes it", None), golden.AT).startswith("wake: the")


def test_an_object_without_status_is_shown_as_unknown():
    bare = {"metadata": {"namespace": "new", "name": "fresh"}, "spec": {"model": {}}}
    shown = golden_fleet(services=[bare], hosts=[{"metadata": {"name": "h"}, "spec": {"pool": "l4"}}])
    assert shown.services[0].state == "Unknown"
    assert shown.hosts[0].state == "Starting"
    assert printed(shown, 80)


@pytest.mark.parametrize(
    ("status", "reason", "shown"),
    [
        ("False", "Starting", "Starting"),
        ("Unknown", "Silent", "Starting"),
        ("False", "TritonDown", "Unready"),
        ("True", "TritonServing", "Serving"),
    ],
)
def test_a_host_whose_triton_has_not_come_up_yet_is_starting_and_not_broken(status, reason, shown):
    items = golden.hosts()[:1]
    items[0]["status"]["conditions"] = [golden.condition("Ready", status, reason)]
    assert golden_fleet(hosts=items).hosts[0].state == shown


# Tables that fit


def many(count: int):
    long = "a-service-with-a-name-that-is-as-long-as-names-of-services-may-be"[:63]
    items = [
        golden.asleep(f"team-{n % 7}/{long[: 8 + n % 50]}-{n}", "l4", "Modelled", 9, 12, n * 977)
        for n in range(count)
    ]
    return [*items, *golden.services()]


@pytest.mark.parametrize("width", [60, 80, 81, 100, 120, 200])
@pytest.mark.parametrize("services", [golden.services(), many(500), []], ids=["golden", "500", "none"])
def test_tables_never_wrap_nor_overflow(width, services):
    shown = golden_fleet(services=services)
    lines = printed(shown, width)
    assert max(Text(line).cell_len for line in lines) <= width
    assert len(lines) <= 2 + 4 + len(services) + 1 + 1 + 3 + 1 + 4, "one line a row"


def test_what_matters_most_stays_as_the_terminal_narrows():
    header = next(line for line in printed(golden_fleet(), 60) if line.startswith("N"))
    for word in ("NAME", "STATE", "REQ/MIN", "WATTS", "SAVED"):
        assert word in header
    assert "NEXT" in next(line for line in printed(golden_fleet(), 120) if line.startswith("NAMESPACE"))


def test_figures_sort_from_the_greatest_and_words_from_a():
    rows = golden_fleet().services
    in_order = tables.in_order(tables.SERVICE_COLUMNS, rows, "watts", turned=False)
    assert [row.name for row in in_order][:3] == ["embed-large", "rerank", "defects"]
    assert tables.in_order(tables.SERVICE_COLUMNS, rows, "watts", turned=True)[-1].name == "embed-large"
    assert tables.in_order(tables.SERVICE_COLUMNS, rows, "next", turned=False)[0].name == "ocr", "soonest"


@pytest.mark.parametrize("column", [column.key for column in tables.SERVICE_COLUMNS])
def test_every_column_sorts_whatever_is_unknown(column):
    assert len(tables.in_order(tables.SERVICE_COLUMNS, golden_fleet().services, column, turned=False)) == 12


# The packing of a host


def bar(models, capacity=100, width=50):
    held = tuple(HeldModel(f"n/{name}", state, size) for name, state, size in models)
    return packing.bar(HostRow("h", "p", "Serving", capacity, None, None, None, None, held), width)


def test_a_bar_shares_the_width_out_by_memory():
    text = bar([("alpha", "Serving", 50), ("beta", "Resident", 20)]).plain
    assert text == "alpha".ljust(24) + "│" + "beta░░░░░│" + "·" * 15


@pytest.mark.parametrize("width", [1, 7, 20, 50, 133])
def test_a_bar_is_exactly_as_wide_as_it_may_be(width):
    for sizes in ([1] * 40, [100], [], [33, 33, 33], [400, 500], [None, 5]):
        assert bar([(f"m{n}", "Serving", s) for n, s in enumerate(sizes)], width=width).cell_len == width


def test_what_is_resident_is_dim_and_what_serves_has_a_colour_of_its_own():
    text = bar([("alpha", "Serving", 40), ("beta", "Resident", 40)])
    serving, resident = text.spans[0].style, text.spans[1].style
    assert serving.bgcolor is not None
    assert resident.dim
    assert resident.bgcolor is None


# JSON


def test_json_has_the_documented_keys_and_only_base_units():
    told = json.loads(json.dumps(asdict(golden_fleet())))
    assert set(told) == {"at", "namespace", "notes", "totals", "services", "hosts", "pools"}
    assert set(told["services"][0]) == {
        *("namespace", "name", "pool", "state", "stalled", "ready_replicas", "desired_replicas"),
        *("requests_per_minute", "busy_ratio", "latency_p99_seconds", "memory_bytes", "energy", "next"),
    }
    assert set(told["totals"]["energy"]) == {
        "basis", "power_watts", "energy_joules", "saved_joules", "carbon_grams",
    }  # fmt: skip
    assert set(told["hosts"][0]) == {
        *("name", "pool", "state", "memory_bytes", "busy_ratio", "basis", "power_watts", "unallocated_watts"),
        "models",
    }
    embed = next(row for row in told["services"] if row["name"] == "embed-large")
    assert embed["latency_p99_seconds"] == 0.042
    assert embed["memory_bytes"] == 18 * golden.GIB
    assert embed["busy_ratio"] == 0.31


# The live view


class Still:
    """A source that stands still."""

    def __init__(self, shown: Fleet) -> None:
        self.shown = shown

    def fleet(self) -> Fleet:
        return self.shown

    async def follow(self) -> None:
        await asyncio.Event().wait()


def names(app: Top) -> list[str]:
    return [str(row.value) for row in app.query_one("#services", DataTable).rows]


async def test_keys_sort_filter_hide_and_quit():
    app = Top(Still(golden_fleet()), "namespace", 60)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        assert names(app)[0] == "demo/digits"
        for _ in range(8):
            await pilot.press(">")
        await pilot.pause()
        assert names(app)[0] == "search/embed-large", "by watts"
        await pilot.press("r")
        await pilot.pause()
        assert names(app)[-1] == "search/embed-large"
        await pilot.press("slash", *"vision")
        await pilot.pause()
        assert {name.split("/")[0] for name in names(app)} == {"vision"}
        await pilot.press("escape", "s")
        await pilot.pause()
        assert "fraud/cards" not in names(app)
        assert len(names(app)) == 6
        await pilot.press("question_mark")
        assert app.query_one("#help").display
        await pilot.press("q")
    assert not app.is_running


async def test_the_history_of_the_sparklines_is_bounded():
    app = Top(Still(golden_fleet()), "namespace", 60)
    async with app.run_test(size=(100, 30)) as pilot:
        for _ in range(HISTORY + 10):
            app._sample()
        app._source.shown = golden_fleet(services=golden.services()[:2])
        app._sample()
        await pilot.pause()
        assert len(app._totals["watts"]) == HISTORY
        assert len(app._requests) == 2, "nothing is kept of services that went"


async def test_five_hundred_services_are_redrawn_in_one_go():
    app = Top(Still(golden_fleet(services=many(500))), "namespace", 60)
    async with app.run_test(size=(120, 40)) as pilot:
        await pilot.pause()
        app._sample()
        assert len(names(app)) == 512


async def test_without_rights_on_hosts_the_view_says_so():
    told = golden_fleet(hosts=None, pools=None, notes=("hosts are not shown: no rights",))
    app = Top(Still(told), "namespace", 60)
    async with app.run_test(size=(80, 24)) as pilot:
        await pilot.pause()
        assert not app.query_one("#hosts").display
        assert "no rights" in str(app.query_one("#legend").render())


def test_tables_and_json_need_no_extra(monkeypatch):
    loaded = {name for name in sys.modules if name.startswith(("textual", "matplotlib"))}
    for name in loaded:
        monkeypatch.delitem(sys.modules, name)
    for name in [n for n in sys.modules if n.startswith("lull.cli")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "textual", None)
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    importlib.import_module("lull.cli")
