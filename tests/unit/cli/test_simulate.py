"""`lull simulate`: its table, JSON, page and exit codes, on made-up policies and once on real ones."""

import json
import re
from array import array
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from lull.cli import app
from lull.cli.simulate import inputs, plots, runs
from lull.cli.simulate.told import COLUMNS, KEYS
from lull.policy.power import PRODUCTS
from lull.simulate.outcome import Delays, Outcome
from lull.simulate.setting import GIB, Setting
from lull.simulate.trace import Trace, TracedModel

HOUR = 3600.0
ROWS = (
    "timestamp,model,duration,memory_gib\n0,a/resnet,1,4\n30,a/resnet,1,4\n40,b/bert,2,\n7200,a/resnet,1,4\n"
)
ISSUE_KEYS = (
    "requests, delayed, delayed_fraction, delay_seconds, dropped, host_hours, node_hours, idle_wh, "
    "context_wh, dynamic_wh, load_wh, energy_wh, moves, loads, lower_bound_host_hours"
)


@pytest.fixture
def trace(tmp_path) -> Path:
    file = tmp_path / "requests.csv"
    file.write_text(ROWS)
    return file


@pytest.fixture
def seen(monkeypatch) -> list[tuple[str, Trace, Setting]]:
    """Make up every policy, and return what each was called with."""
    calls: list[tuple[str, Trace, Setting]] = []

    def made_up(policy: str, hours: float):
        def simulate(trace: Trace, setting: Setting) -> Outcome:
            calls.append((policy, trace, setting))
            return Outcome(
                policy=policy,
                requests=len(trace),
                delayed=1,
                delay_seconds=Delays(20.0, 21.0, 22.0, 23.0),
                dropped=0,
                host_hours=hours * setting.fixed_hosts,
                node_hours=hours,
                idle_wh=500.0,
                context_wh=300.0,
                dynamic_wh=200.0,
                load_wh=100.0,
                moves=2,
                loads=3,
                kept=[(0.0, 1), (HOUR, 0)],
                busy=[(0.0, 1), (1.0, 0)],
            )

        return simulate

    policies = {policy: made_up(policy, 10.0 * at) for at, policy in enumerate(runs.SIMULATORS, start=1)}
    monkeypatch.setattr(runs, "SIMULATORS", policies)
    monkeypatch.setattr(
        runs, "lower_bound_host_hours", lambda trace, setting, share, may_drop: 5 * (1 - share)
    )
    return calls


def run(*arguments: object):
    return CliRunner().invoke(app, ["simulate", *map(str, arguments)])


def figures(*arguments: object):
    done = run(*arguments, "-o", "json")
    assert done.exit_code == 0, done.output
    return json.loads(done.stdout)


# What is told


def test_the_table_fits_a_hundred_columns_with_every_policy_and_variant(trace, seen):
    done = run("--trace", trace, "--delayed-percent", "1,5,20", "--fixed-hosts", "1,2,4")
    assert done.exit_code == 0, done.output
    lines = done.stdout.splitlines()
    assert max(map(len, lines)) <= 100
    assert all(column in lines[1] for column in COLUMNS)
    names = [re.split(r"\s{2,}", line)[0] for line in lines[2:-1]]
    for name in ("lull 1%", "lull 20%", "packed-always-on", "modelmesh x4", "clairvoyant 5%"):
        assert name in names


def test_a_policys_line_says_what_was_kept_and_how_far_that_is_from_the_bound(trace, seen):
    done = run("--trace", trace, "--policy", "knative")
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("knative")]
    assert line.split() == ["knative", "40.0", "40.0", "1.10", "25.00%", "20s", "22s", "–", "10.67"]


def test_what_is_modelled_and_assumed_stands_below_the_table_and_on_the_page(trace, seen, tmp_path):
    page = tmp_path / "page.html"
    done = run("--trace", trace, "--html", page)
    said = " ".join(done.stdout.split())
    for words in (
        "Energy is modelled", "Assumed: loads take 20 s", "models of their documented defaults",
        "never slow each other down", "always enough hosts", "one batch", "within its host", "ends at once",
        "as late as the controller does", "a write takes 0.03 s", "second copies", "--fixed-hosts",
    ):  # fmt: skip
        assert words in said
        assert words in page.read_text()
    assert all(" ".join(one.split()) in said for one in figures("--trace", trace)["assumptions"])


def test_what_of_the_trace_is_made_up_or_derived_is_said(seen, tmp_path):
    tokens = tmp_path / "llm.csv"
    tokens.write_text("TIMESTAMP,ContextTokens,GeneratedTokens\n2023-11-16 18:17:03.9799600,100,10\n")
    assert "Durations are assumed" in run("--trace", tokens).stdout
    assert "The trace is made up" in run("--synthetic").stdout


def test_json_has_exactly_the_keys_that_are_promised(trace, seen):
    told = figures("--trace", trace, "--policy", "lull,keda")
    assert list(told["policies"]) == ["lull", "keda"]
    for policy in told["policies"].values():
        assert list(policy) == ISSUE_KEYS.split(", ") == list(KEYS)
        assert list(policy["delay_seconds"]) == ["p50", "p95", "p99", "max"]
    lull = told["policies"]["lull"]
    assert lull["energy_wh"] == 1100.0
    assert lull["delayed_fraction"] == 0.25
    assert lull["lower_bound_host_hours"] == 3.75


def test_json_says_what_was_simulated(trace, seen):
    told = figures("--trace", trace, "--policy", "lull", "--context-watts", 2, "--gpus-per-node", 4)
    assert told["trace"] | {"length_seconds": 0} == {
        "name": "requests", "requests": 4, "models": 2, "tenants": 2, "length_seconds": 0, "about": "",
    }  # fmt: skip
    assert told["setting"]["context_watts"] == 2
    assert told["setting"]["gpus_per_node"] == 4
    assert told["setting"]["delayed_percent"] == [5]
    assert told["setting"]["fixed_hosts"] == []


def test_a_run_that_was_given_an_objective_or_hosts_bears_them_though_it_is_alone(trace, seen):
    told = figures(
        "--trace", trace, "--policy", "lull,modelmesh", "--delayed-percent", 20, "--fixed-hosts", 2
    )
    assert list(told["policies"]) == ["lull 20%", "modelmesh x2"]
    assert told["setting"]["delayed_percent"] == [20]
    assert told["setting"]["fixed_hosts"] == [2]


def test_the_page_tells_of_the_objective_that_is_nearest_to_the_shipped_one_whatever_came_of_it(
    trace, monkeypatch, tmp_path
):
    def simulate(trace: Trace, setting: Setting) -> Outcome:
        delayed = {1: 2, 7: 4, 60: 0}[setting.delayed_percent or 0]  # none is what was asked for
        hours = float(setting.delayed_percent or 0)
        return Outcome("lull", len(trace), delayed, Delays(), 0, hours, hours, 1.0, 1.0, 1.0, 1.0, 0, 1)

    monkeypatch.setattr(runs, "SIMULATORS", {"lull": simulate})
    page = tmp_path / "page.html"
    arguments = ("--trace", trace, "--policy", "lull", "--delayed-percent", "60,1,7", "--html", page)
    assert run(*arguments).exit_code == 0
    text = page.read_text()
    assert "Lull, allowed to let 7 % of the requests wait, would keep 7.00 GPU-hours" in text
    assert "<dt>Lull 7%: energy</dt>" in text


def test_the_bound_has_no_delays(trace):
    arguments = ("--trace", trace, "--policy", "clairvoyant", "--delayed-percent", 50)
    told = figures(*arguments)["policies"]["clairvoyant 50%"]
    assert told["delayed"] > 0
    assert told["delay_seconds"] is None
    (line,) = [line for line in run(*arguments).stdout.splitlines() if line.startswith("clairvoyant 50%")]
    assert line.split()[-4:-1] == ["–", "–", "–"]


def test_the_file_has_the_same_figures_as_stdout(trace, seen, tmp_path):
    file = tmp_path / "figures.json"
    assert figures("--trace", trace, "--json", file) == json.loads(file.read_text())


def test_the_page_has_its_plots_and_loads_nothing(trace, seen, tmp_path):
    page = tmp_path / "page.html"
    assert run("--trace", trace, "--delayed-percent", "1,5,20", "--html", page).exit_code == 0
    text = page.read_text()
    assert text.count("<svg") == 5
    for title in (
        "GPU-hours against waiting",
        "Energy against waiting",
        "Hosts kept",
        "How long models rest",
    ):
        assert f"<h2>{title}" in text
    assert "perfect foresight" in text
    assert "<script" not in text
    assert not re.findall(r'(?:src|href)="(?!#)', text)


def test_a_trace_in_which_no_model_is_asked_twice_has_no_gaps_to_plot(tmp_path, seen):
    trace, page = tmp_path / "once.csv", tmp_path / "page.html"
    trace.write_text("timestamp,model,duration\n0,a,1\n5,b,1\n")
    assert run("--trace", trace, "--html", page).exit_code == 0
    assert page.read_text().count("<svg") == 4


def test_curves_are_means_and_peaks_of_their_parts():
    steps = [(0.0, 1), (25.0, 3), (50.0, 0)]
    mean = plots.binned(steps, 100.0)
    assert mean.sum() / plots.BINS == pytest.approx(1.0)  # (25 * 1 + 25 * 3) / 100
    most = plots.binned([(10.0, 7), (10.001, 0)], 100.0, most=True)
    assert most.max() == 7
    assert np.count_nonzero(most) == 1


def test_gaps_are_within_a_model():
    models = [TracedModel("t/a", GIB), TracedModel("t/b", GIB)]
    trace = Trace("x", models, array("d", [0, 1, 5, 9]), array("l", [0, 1, 0, 1]), array("d", [1] * 4), 10.0)
    assert sorted(plots.gap_seconds(trace)) == [5.0, 8.0]


def test_points_that_look_the_same_share_one_label():
    told = plots.labels([[(1.0, 10.0, "x1"), (1.001, 10.01, "x2")], [(1.0, 10.0, "x1")], [(5.0, 3.0, "")]])
    assert told == {(1.0, 10.0): "x1, x2"}


# What is simulated


def test_lull_runs_once_an_objective_and_others_once(trace, seen):
    figures(
        "--trace", trace, "--policy", "lull,knative", "--delayed-percent", "1,5", "--delayed-percent", "20"
    )
    assert [(policy, setting.delayed_percent) for policy, _, setting in seen] == [
        ("lull", 1), ("lull", 5), ("lull", 20), ("knative", None),
    ]  # fmt: skip


def test_policies_of_fixed_hosts_run_once_a_number_of_them(trace, seen):
    told = figures("--trace", trace, "--policy", "seldon", "--policy", "lull", "--fixed-hosts", "1,2")
    assert list(told["policies"]) == ["seldon x1", "seldon x2", "lull"]
    assert [setting.fixed_hosts for _, _, setting in seen] == [1, 2, 1]


def test_the_machine_is_as_said(trace, seen):
    figures(
        "--trace", trace, "--policy", "lull", "--gpu", "L4", "--gpu-memory-gib", 24, "--load-seconds", 3,
        "--host-start-seconds", 7, "--nodes", "fixed", "--node-watts", 300,
    )  # fmt: skip
    ((_, _, setting),) = seen
    power = setting.power
    assert (power.idle_watts, power.context_watts, power.max_watts, power.node_watts) == (16, 21, 72, 300)
    assert setting == replace(
        Setting(), gpu_memory_bytes=24 * GIB, load_seconds=3, host_start_seconds=7, nodes="fixed",
        power=power,
    )  # fmt: skip


def test_without_options_the_machine_is_the_simulators_own(trace, seen):
    figures("--trace", trace, "--policy", "lull")
    ((_, _, setting),) = seen
    assert setting == Setting()


def test_sizes_come_from_the_trace_then_the_file_then_the_option(trace, seen, tmp_path):
    sizes = tmp_path / "sizes.yaml"
    sizes.write_text("bert: 2Gi\n")
    figures("--trace", trace, "--memory-gib", 3, "--policy", "lull")
    figures("--trace", trace, "--memory-gib", 3, "--models", sizes, "--policy", "lull")
    assert [[model.memory_bytes / GIB for model in trace.models] for _, trace, _ in seen] == [[4, 3], [4, 2]]


def test_models_are_dealt_to_as_many_tenants_as_asked(trace, seen):
    figures("--trace", trace, "--tenants", 2, "--policy", "lull")
    figures("--synthetic", "--tenants", 20, "--policy", "lull")
    assert [len({model.tenant for model in trace.models}) for _, trace, _ in seen] == [2, 20]


def test_models_of_a_file_of_sizes_keep_their_names_though_they_are_dealt(trace, seen, tmp_path):
    sizes = tmp_path / "sizes.yaml"
    sizes.write_text("a/resnet: 4Gi\nbert: 2Gi\n")
    figures("--trace", trace, "--models", sizes, "--tenants", 2, "--policy", "lull")
    ((_, dealt, _),) = seen
    assert {model.key: model.memory_bytes for model in dealt.models} == {
        "tenant-0/a.resnet": 4 * GIB, "tenant-1/b.bert": 2 * GIB,
    }  # fmt: skip


def test_the_default_gpu_is_known_however_it_is_spelled(trace, seen):
    figures("--trace", trace, "--gpu", "NVIDIA-H100-80GB-HBM3", "--policy", "lull")
    assert [setting for _, _, setting in seen] == [Setting()]


def test_several_traces_are_one_fleets(trace, seen, tmp_path):
    other = tmp_path / "other.csv"
    other.write_text("timestamp,model,duration\n10,c/third,1\n")
    assert figures("--trace", trace, "--trace", other, "--policy", "lull")["trace"]["models"] == 3


# What is wrong


def test_a_bad_line_of_a_trace_is_named(tmp_path, seen):
    file = tmp_path / "bad.csv"
    file.write_text("timestamp,model,duration\n0,a,1\n1,a,soon\n")
    done = run("--trace", file)
    assert done.exit_code == 1
    assert f"{file}:3: duration 'soon'" in done.stderr


def test_a_model_that_fits_no_gpu_is_named_with_what_to_do(trace, seen):
    done = run("--trace", trace, "--gpu", "T4", "--gpu-memory-gib", 4.25)
    assert done.exit_code == 1
    assert "a/resnet takes 4Gi, and a GPU has 4.2Gi, of which 512Mi are for Triton itself: say" in done.stderr


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("nosuch: 2Gi", "no model 'nosuch'"),
        ("bert: 0", "bert: a model takes some memory"),
        ("bert: much", "bert: 'much' is no quantity"),
        ("- a", "map models"),
        ("a: [", "sizes.yaml"),
    ],
)
def test_a_file_of_sizes_that_is_not_right_says_so(trace, seen, tmp_path, content, words):
    sizes = tmp_path / "sizes.yaml"
    sizes.write_text(content)
    done = run("--trace", trace, "--models", sizes)
    assert done.exit_code == 1
    assert words in done.stderr


def test_a_page_that_cannot_be_written_is_an_error_in_words(trace, seen, tmp_path):
    done = run("--trace", trace, "--policy", "lull", "--json", tmp_path / "nosuch" / "x.json")
    assert done.exit_code == 1
    assert "nosuch is no folder" in done.stderr.replace("\n", "")
    assert not seen  # minutes may have been spent by then


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "either --trace"),
        (["--synthetic", "--trace", "{trace}"], "either --trace"),
        (["--trace", "nosuch.csv"], "does not exist"),
        (["--trace", "{trace}", "--policy", "magic"], "'magic'"),
        (["--trace", "{trace}", "--gpu", "Z9"], "no watts are known"),
        (["--trace", "{trace}", "--gpu", "L4"], "--gpu-memory-gib"),
        (["--trace", "{trace}", "--delayed-percent", "five"], "--delayed-percent"),
        (["--trace", "{trace}", "--delayed-percent", "101"], "--delayed-percent"),
        (["--trace", "{trace}", "--fixed-hosts", "0"], "--fixed-hosts"),
        (["--trace", "{trace}", "--nodes", "rubber"], "rubber"),
        (["--trace", "{trace}", "--trace", "{trace}"], "the same file twice"),
        (["--trace", "{trace}", "--seed", "1"], "--synthetic"),
        (["--trace", "{trace}", "--policy", "keda,seldon", "--delayed-percent", "5"], "lull and clairvoyant"),
        (["--trace", "{trace}", "--policy", "keda,lull", "--fixed-hosts", "2"], "modelmesh and seldon"),
        (["--trace", "{trace}", "--context-watts", "628"], "under 628"),
        (["--trace", "{trace}", "--node-watts", "inf"], "--node-watts"),
        (["--trace", "{trace}", "--load-seconds", "nan"], "--load-seconds"),
        (["--trace", "{trace}", "--memory-gib", "1e300"], "--memory-gib"),
    ],
)
def test_wrong_usage_is_told_apart(trace, seen, arguments, words):
    done = run(*(argument.format(trace=trace) for argument in arguments))
    assert done.exit_code == 2
    assert words in " ".join(re.sub(r"[│\n]", " ", done.stderr).split())
    assert not seen


def test_help_shows_examples():
    assert "lull simulate --synthetic" in run("--help").stdout


def test_gpus_that_help_names_have_watts():
    assert all(inputs.draw(gpu, None, 0.0) for gpu in PRODUCTS)


# The real ones


def test_a_tiny_trace_is_simulated_by_every_policy(trace, tmp_path):
    page = tmp_path / "page.html"
    told = figures("--trace", trace, "--html", page)
    assert list(told["policies"]) == list(runs.SIMULATORS)
    for name, policy in told["policies"].items():
        assert policy["requests"] == 4
        assert policy["host_hours"] >= policy["lower_bound_host_hours"] - 1e-9, name
    assert told["policies"]["always-on"]["delayed"] == 0
    assert told["policies"]["lull"]["host_hours"] < told["policies"]["always-on"]["host_hours"]
    assert page.read_text().count("<svg") == 5


def test_the_bounds_own_figures_are_below_every_policys(trace):
    told = figures("--trace", trace, "--node-watts", 500)["policies"]
    for name, policy in told.items():
        if policy["delayed_fraction"] <= told["clairvoyant"]["delayed_fraction"]:
            for figure in ("host_hours", "node_hours", "idle_wh", "context_wh", "load_wh", "loads"):
                assert policy[figure] >= told["clairvoyant"][figure] - 1e-9, (name, figure)
