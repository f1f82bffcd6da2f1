"""The dashboards say what they promise, to Grafana, to Prometheus and to who reads them."""

import itertools
import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.cog.plugins import register_default_plugins
from grafana_foundation_sdk.models.dashboard import Dashboard

from lull.dashboards.__main__ import write
from lull.local.toolchain import prometheus_binaries
from mockup.queries import variables_replaced

ROOT = Path(__file__).parents[3]
MONITORING = ROOT / "manifests/components/monitoring"
FILES = sorted((MONITORING / "dashboards").glob("*.json"))
BOARDS = {path.stem: json.loads(path.read_text()) for path in FILES}
PANELS = [
    pytest.param(board, panel, id=f"{board['title']}: {panel['title']}")
    for board in BOARDS.values()
    for panel in board["panels"]
    if panel["type"] != "row"
]
A_METRIC = re.compile(r"\blull[_:][a-z0-9_:]+")


def test_the_committed_dashboards_are_what_the_code_says(tmp_path: Path) -> None:
    written = write(tmp_path)
    assert {path.name for path in written} == {path.name for path in FILES}
    for path in written:
        assert (MONITORING / "dashboards" / path.name).read_text() == path.read_text(), "run `make generate`"


def test_a_cluster_is_given_every_dashboard() -> None:
    component = yaml.safe_load((MONITORING / "kustomization.yaml").read_text())
    given = {file for generator in component["configMapGenerator"] for file in generator["files"]}
    assert {f"dashboards/{path.name}" for path in FILES} <= given


def test_addresses_never_change_for_links_lead_to_them() -> None:
    assert {board["uid"] for board in BOARDS.values()} == {"lull-fleet", "lull-service", "lull-host"}


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_grafanas_own_types_read_it_and_lose_nothing(board: dict[str, Any]) -> None:
    register_default_plugins()
    read = json.loads(JSONEncoder().encode(Dashboard.from_json(board)))
    read["links"][0]["placement"] = ""  # they always say inControlsMenu
    assert read == board


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_a_scatter_names_what_grafana_would_else_draw_nothing_without(
    board: dict[str, Any], panel: dict[str, Any]
) -> None:
    for series in panel["options"].get("series", ()):
        assert {"frame", "x", "y"} <= series.keys()
        fields = {target["legendFormat"] for target in panel["targets"]}
        assert {series[axis]["matcher"]["options"] for axis in "xy"} == fields


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_a_panel_says_what_it_shows_what_that_means_and_in_which_unit(
    board: dict[str, Any], panel: dict[str, Any]
) -> None:
    assert panel["title"]
    assert len(panel["description"]) > 40
    assert panel["description"].endswith(".")
    assert panel["fieldConfig"]["defaults"]["unit"]
    assert panel["datasource"]["uid"] == "${datasource}"
    for target in panel["targets"]:
        assert target["expr"]
        assert target["legendFormat"]


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_where_figures_may_be_modelled_the_panel_says_so(
    board: dict[str, Any], panel: dict[str, Any]
) -> None:
    asked = " ".join(target["expr"] for target in panel["targets"])
    if re.search(r"baseline|per_request", asked):
        assert "Modelled" in json.dumps(panel)


@pytest.mark.parametrize(("board", "panel"), PANELS)
def test_a_draw_that_nobody_knows_is_not_shown_as_zero(board: dict[str, Any], panel: dict[str, Any]) -> None:
    for expr in (target["expr"] for target in panel["targets"]):
        assert not (re.search(r"watts|joules|grams", expr) and "vector(0)" in expr)


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_what_the_controller_tells_counts_once_while_two_are_told_of(board: dict[str, Any]) -> None:
    gauges = (
        r"lull_(hosts|services|fences_open|pool_\w+(watts|ratio|bytes|request)|service_\w+(watts|state))\b"
    )
    for expr in _asked(board):
        assert not re.search(rf"(sum|avg)( by \([^)]*\))? \({gauges}", expr), expr


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_panels_fill_the_grid_without_lying_upon_each_other(board: dict[str, Any]) -> None:
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        at = panel["gridPos"]
        assert at["x"] + at["w"] <= 24
        cells = set(itertools.product(range(at["x"], at["x"] + at["w"]), range(at["y"], at["y"] + at["h"])))
        assert not cells & taken, panel["title"]
        taken |= cells
    ids = [panel["id"] for panel in board["panels"]]
    assert len(set(ids)) == len(ids)


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_links_lead_to_dashboards_and_variables_that_there_are(board: dict[str, Any]) -> None:
    for uid, query in re.findall(r"/d/([a-z-]+)\?([^\"\\]*)", json.dumps(board)):
        there = {variable["name"] for variable in BOARDS[uid]["templating"]["list"]}
        assert set(re.findall(r"var-([a-z]+)=", query)) <= there


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_every_query_is_promql(board: dict[str, Any], tmp_path: Path) -> None:
    rules = [
        {"record": f"query_{number}", "expr": variables_replaced(expr)}
        for number, expr in enumerate(_asked(board))
    ]
    file = tmp_path / "rules.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "queries", "rules": rules}]}))
    promtool = prometheus_binaries()["promtool"]
    checked = subprocess.run([promtool, "check", "rules", file], capture_output=True, text=True, timeout=60)
    assert checked.returncode == 0, checked.stdout + checked.stderr


@pytest.mark.parametrize("board", BOARDS.values(), ids=BOARDS)
def test_every_metric_asked_for_is_one_that_lull_tells(board: dict[str, Any]) -> None:
    told = _told()
    for variable in board["templating"]["list"]:
        assert _metrics(str(variable.get("definition", ""))) <= told
    for expr in _asked(board):
        assert _metrics(expr) <= told, expr


def _asked(board: dict[str, Any]) -> list[str]:
    return [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]


def _metrics(expr: str) -> set[str]:
    return set(A_METRIC.findall(re.sub(r'"[^"]*"', "", expr)))


def _told() -> set[str]:
    """The names of recording rules, and those in the sources, with what Prometheus adds to each kind."""
    rules = yaml.safe_load((MONITORING / "rules.yaml").read_text())
    recorded = {
        rule["record"] for group in rules["spec"]["groups"] for rule in group["rules"] if "record" in rule
    }
    in_sources = {
        name
        for folder in ("operator/lull/controller", "operator/lull/gateway", "runtime/lull_runtime")
        for source in (ROOT / folder).rglob("*.py")
        for name in re.findall(r'"(lull_[a-z0-9_]+)"', source.read_text())
    }
    kinds = ("", "_total", "_info", "_bucket", "_sum", "_count")
    return recorded | {name + kind for name in in_sources for kind in kinds}
