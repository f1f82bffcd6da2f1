"""`lull report` on a real Prometheus: its figures are those of the day that was written into it."""

import contextlib
import json
import math
import re
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from xml.etree import ElementTree

import pytest
from typer.testing import CliRunner

from integration.cli.day import BASELINE_HOSTS, DAY_SECONDS, SERVICES, Day, prometheus_with
from lull.cli import app

START = 1_795_219_200  # 2026-11-21T00:00:00Z
UNTIL = "2026-11-22T00:00:00Z"


@pytest.fixture(scope="module")
def day() -> Day:
    return Day(START)


@pytest.fixture(scope="module")
def url(day, tmp_path_factory):
    with prometheus_with(day, tmp_path_factory.mktemp("day")) as address:
        yield address


def run(url: str, *arguments: str):
    return CliRunner().invoke(app, ["report", "--prometheus", url, *arguments])


@pytest.fixture(scope="module")
def told(url):
    done = run(url, "--until", UNTIL, "-o", "json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


def test_totals_are_the_days_though_another_controller_took_over_at_noon(told, day):
    summary = told["summary"]
    assert summary["energy_joules"] == pytest.approx(sum(day.truth.joules.values()), rel=0.001)
    assert summary["baseline_joules"] == pytest.approx(sum(day.truth.baseline_joules.values()), rel=0.005)
    assert summary["saved_joules"] == summary["baseline_joules"] - summary["energy_joules"]
    assert summary["requests"] == pytest.approx(day.truth.requests, rel=0.005)
    assert summary["delayed_requests"] == pytest.approx(day.truth.delayed, rel=0.05)
    assert summary["wakes"] == pytest.approx(sum(day.truth.wakes.values()), abs=1)


def test_a_short_period_is_not_extrapolated(url):
    done = run(url, "--until", "2026-11-21T10:00:00Z", "--since", "4m", "-o", "json")
    minutes = range(36_000 - 240, 36_000, 60)
    asked = sum(service.requests(second) for service in SERVICES for second in minutes)
    assert json.loads(done.stdout)["summary"]["requests"] == pytest.approx(asked, rel=0.001)


def test_wakes_of_a_short_period_are_whole(url):
    done = run(url, "--until", "2026-11-21T10:00:00Z", "--since", "4h", "-o", "json")
    told = json.loads(done.stdout)
    assert told["summary"]["wakes"] >= 1
    assert all(bucket["wakes"] == int(bucket["wakes"]) for bucket in told["wakes"])


def test_a_pool_that_nobody_knows_is_an_error(url):
    done = run(url, "--until", UNTIL, "--pool", "nosuch", "-o", "json")
    assert done.exit_code == 1
    assert "no figures of a ModelPool nosuch" in done.stderr


def test_what_is_measured_and_what_modelled_is_told_by_energy(told, day):
    share = day.truth.joules["h100"] / sum(day.truth.joules.values())
    assert told["summary"]["measured_ratio"] == pytest.approx(share, abs=0.01)


def test_curves_are_bounded_and_leave_a_gap_where_nothing_was_scraped(told):
    assert len(told["times"]) <= 1000
    (power,) = (c["values"] for c in told["curves"]["power_watts"] if c["labels"]["modelpool"] == "h100")
    assert len(power) == len(told["times"])
    assert None in power
    assert told["summary"]["covered_ratio"] == pytest.approx(1 - 1500 / DAY_SECONDS, abs=0.01)


def test_no_curve_loses_what_happens_between_two_of_its_points(told, day):
    (delayed,) = (curve["values"] for curve in told["curves"]["delayed_per_minute"])
    assert sum(value > 0 for value in delayed if value) > sum(day.truth.wakes.values()) / 2, "some coincide"


def test_every_services_energy_is_listed_idle_and_dynamic_apart(told, day):
    assert len(told["services"]) == len(SERVICES)
    first = told["services"][0]
    assert first["name"] == "embed-large"
    idle = 18 / 80 * 150 * DAY_SECONDS
    assert first["idle_joules"] == pytest.approx(idle, rel=0.005)


def test_wakes_stand_in_the_bucket_of_the_time_they_took(told, day):
    by_source = {b["source"]: b["upper_seconds"] for b in told["wakes"] if b["wakes"] > 0.5}
    took = {"Loaded": 0.01, "Host": 0.5, "NewHost": 5}
    assert by_source == {source: took[source] for source in day.truth.wakes}


def test_one_pool_is_told_alone(url, day):
    done = run(url, "--until", UNTIL, "--pool", "l4", "-o", "json")
    told = json.loads(done.stdout)
    assert told["summary"]["energy_joules"] == pytest.approx(day.truth.joules["l4"], rel=0.005)
    assert told["summary"]["measured_ratio"] == 0
    assert told["summary"]["wakes"] is None, "wakes are not told by pool"
    assert told["wakes"] == []
    assert {one["name"] for one in told["services"]} == {s.name for s in SERVICES if s.pool == "l4"}
    requests = sum(s.requests(t) for s in SERVICES if s.pool == "l4" for t in range(0, DAY_SECONDS, 60))
    assert told["summary"]["requests"] == pytest.approx(requests, rel=0.01)


def test_the_page_is_one_file_that_loads_nothing(url, tmp_path):
    page = tmp_path / "report.html"
    done = run(url, "--until", UNTIL, "--out", str(page))
    assert done.exit_code == 0, done.output
    text = page.read_text()
    assert "<script" not in text
    assert not re.search(r'(src|href)="(?!#)', re.sub(r'xmlns\S*|xlink:href="#[^"]*"', "", text))
    assert not re.search(r"url\((?!#)", text)
    plots = re.findall(r"<svg.*?</svg>", text, re.DOTALL)
    assert len(plots) == 6
    for plot in plots:
        ElementTree.fromstring(plot)
    ids = re.findall(r'\bid="([^"]*)"', text)
    assert len(ids) == len(set(ids))
    assert len(text) < 1_000_000
    assert "less than the same services would have always on" in text
    assert "#010203" not in text


def test_a_period_without_figures_says_so_and_where_to_look(url, tmp_path):
    page = tmp_path / "report.html"
    done = run(url, "--until", "2020-01-01T00:00:00Z", "--out", str(page))
    assert done.exit_code == 0, done.output
    assert "has no figures of Lull for this period" in done.stdout
    assert page.read_text().count("There are no figures of this in the period.") == 6


def test_a_prometheus_that_does_not_answer_is_told_with_what_to_do(tmp_path):
    done = run("http://127.0.0.1:1", "--out", str(tmp_path / "r.html"))
    assert done.exit_code == 1
    assert "Connection refused" in done.stderr
    assert "Is the URL right" in done.stderr
    assert "Traceback" not in done.output


class _Answer(BaseHTTPRequestHandler):
    """Answers every query the same, and keeps what came along."""

    status, body, sent = 200, "", ()

    def do_POST(self) -> None:
        type(self).sent = tuple(self.headers.items())
        self.rfile.read(int(self.headers["Content-Length"]))
        self.send_response(self.status)
        self.send_header("Content-Length", str(len(self.body)))
        self.end_headers()
        with contextlib.suppress(OSError):  # one answer was enough
            self.wfile.write(self.body.encode())

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def stub():
    with ThreadingHTTPServer(("127.0.0.1", 0), _Answer) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.mark.parametrize(
    ("status", "body", "said"),
    [
        (401, "who are you", "--header"),
        (302, "", "perhaps to a login"),
        (404, "<html>", "has no Prometheus API"),
        (503, "", "not ready or overloaded"),
        (200, "<html>", "does not answer as a Prometheus does"),
        (200, '{"status": "success"}', "answers without data"),
        (400, '{"status": "error", "errorType": "bad_data", "error": "no such"}', "no such."),
        (503, '{"status": "error", "errorType": "timeout", "error": "slow"}', "A shorter --since"),
    ],
)
def test_whatever_else_answers_is_told_in_words(stub, monkeypatch, status, body, said):
    monkeypatch.setattr(_Answer, "status", status)
    monkeypatch.setattr(_Answer, "body", body)
    done = run(stub, "-o", "json")
    assert done.exit_code == 1
    assert said in done.stderr
    assert ("--since" in done.stderr) == ("--since" in said), "advice that would not help"
    assert not isinstance(done.exception, (KeyError, ValueError))


def test_headers_are_sent_along_and_warnings_are_told(stub, monkeypatch):
    body = json.dumps({"status": "success", "data": {"result": []}, "warnings": ["results truncated"]})
    monkeypatch.setattr(_Answer, "body", body)
    done = run(stub, "-o", "json", "--header", "X-Scope-OrgID: team")
    assert ("X-Scope-OrgID", "team") in _Answer.sent
    assert json.loads(done.stdout)["warnings"] == ["results truncated"]
    assert done.stderr.count("Prometheus warns: results truncated") == 1


@pytest.mark.parametrize(
    "arguments",
    [["--since", "1 day"], ["--since", "5s"], ["--until", "noon"], ["--header", "Bearer"]],
)
def test_wrong_usage_is_exit_code_2(url, arguments):
    assert run(url, *arguments).exit_code == 2


def test_the_days_baseline_is_what_it_should_be(day):
    always_on = sum(BASELINE_HOSTS[p] * {"h100": 150, "l4": 45}[p] for p in BASELINE_HOSTS) * DAY_SECONDS
    assert sum(day.truth.baseline_joules.values()) > always_on
    assert not math.isnan(day.truth.requests)
