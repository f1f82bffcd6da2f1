"""Each alert has a page that says what to do, and each page its alert."""

import re
from pathlib import Path

import pytest
import yaml

from lull.api.reasons import SERVED_ALL_THE_SAME, Reason

MONITORING = Path(__file__).parents[3] / "manifests" / "components" / "monitoring"
PAGES = {page.stem: page for page in (MONITORING / "runbooks").glob("*.md")}
SECTIONS = ["## Meaning", "## Impact", "## Diagnosis", "## Mitigation"]


def _alerts():
    groups = yaml.safe_load((MONITORING / "rules.yaml").read_text())["spec"]["groups"]
    return [rule for group in groups for rule in group["rules"] if "alert" in rule]


ALERTS = _alerts()


def test_there_is_a_page_for_each_alert_and_no_other():
    assert {rule["alert"] for rule in ALERTS} == PAGES.keys()


@pytest.mark.parametrize("rule", ALERTS, ids=lambda rule: rule["alert"])
def test_an_alert_says_how_urgent_it_is_what_happens_and_where_to_read_on(rule):
    assert rule["labels"]["severity"] in {"critical", "warning"}
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["description"].endswith(".")
    assert rule["annotations"]["runbook_url"] == f"https://lull.example/runbooks/{PAGES[rule['alert']].name}"


@pytest.mark.parametrize("name", PAGES)
def test_a_page_says_what_it_means_whom_it_hurts_how_to_look_and_what_to_do(name):
    lines = PAGES[name].read_text().splitlines()
    assert lines[0] == f"# {name}"
    assert [line for line in lines if line.startswith("## ")] == SECTIONS
    assert "```" in lines, "no command to look with"


def test_what_rules_and_pages_name_is_a_metric_or_a_recording_rule():
    rules = (MONITORING / "rules.yaml").read_text()
    pages = "".join(page.read_text() for page in PAGES.values())
    listed = set(re.findall(r"^\| `(lull_\w+)`", (MONITORING / "METRICS.md").read_text(), re.MULTILINE))
    series = {name + suffix for name in listed for suffix in ("", "_bucket", "_sum", "_count")}
    recorded = set(re.findall(r"record: (\S+)", rules))
    assert set(re.findall(r"\blull_\w+", rules + pages)) <= series
    assert set(re.findall(r"\blull:[\w:]+", pages)) <= recorded


def test_the_page_on_models_that_cannot_wake_explains_every_reason_and_no_other():
    rows = [line for line in PAGES["LullModelCannotWake"].read_text().splitlines() if line.startswith("| `")]
    explained = set(re.findall(r"`(\w+)`", "".join(row.split("|")[1] for row in rows)))
    assert explained == {reason.value for reason in Reason} - SERVED_ALL_THE_SAME - {Reason.SUSPENDED}
