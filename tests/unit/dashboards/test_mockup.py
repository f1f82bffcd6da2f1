"""The mock-up draws every panel, from what Prometheus answers."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import pytest

from mockup.draw import draw, told
from mockup.queries import Period, Series, variables_replaced, with_gaps

BOARDS = sorted((Path(__file__).parents[3] / "manifests/components/monitoring/dashboards").glob("*.json"))


class _Prometheus(BaseHTTPRequestHandler):
    """Answers every query with a series of ones, or as of a time with one."""

    found = True

    def do_GET(self) -> None:
        asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        series = {"metric": {"modelservice": "whisper"}}
        if "start" in asked:
            start, step = float(asked["start"]), float(asked["step"])
            series["values"] = [[start + number * step, "1"] for number in range(10)]
        else:
            series["value"] = [float(asked["time"]), "1"]
        body = json.dumps({"data": {"result": [series] if self.found else []}}).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def prometheus() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Prometheus) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize("path", BOARDS, ids=lambda path: path.stem)
@pytest.mark.parametrize("found", [True, False], ids=["busy", "nothing there"])
def test_every_panel_is_drawn(
    path: Path, found: bool, prometheus: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(_Prometheus, "found", found)
    board = json.loads(path.read_text())
    figure = draw(board, prometheus, Period(1e9, 1e9 + 3600, {}))
    figure.draw_without_rendering()
    words = {text.get_text() for axes in figure.axes for text in axes.texts}
    assert {panel["title"] for panel in board["panels"] if panel["type"] != "row"} <= words
    if found:
        assert "whisper" in words or path.stem == "lull-service"


def test_variables_are_replaced_by_what_was_chosen() -> None:
    expr = 'rate(x{service="$service", pool="$pool"}[$__rate_interval])'
    assert variables_replaced(expr, {"service": "a"}) == 'rate(x{service="a", pool="any"}[120s])'


def test_nothing_is_drawn_where_there_is_no_value() -> None:
    period = Period(0, 240)
    line = with_gaps(Series({}, "", [0.0, 2.0], [1.0, 3.0], "A"), period)
    assert [str(value) for value in line.values[:4]] == ["1.0", "nan", "3.0", "nan"]


@pytest.mark.parametrize(
    ("value", "unit", "words"),
    [
        (0, "watt", "0 W"),
        (1234, "watth", "1.23 kWh"),
        (-0.5, "watt", "-500 mW"),
        (0.0004, "massg", "400 µg"),
        (2**31, "bytes", "2 GiB"),
        (0.123, "percentunit", "12.3%"),
        (6410, "short", "6.41 K"),
        (0.3, "short", "0.3"),
        (2, "suffix: /min", "2 /min"),
        (180, "s", "3 min"),
    ],
)
def test_figures_are_worded_as_grafana_does(value: float, unit: str, words: str) -> None:
    assert told(value, unit) == words
