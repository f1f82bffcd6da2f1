"""The rules as Prometheus' own tool runs them: each alert fires at its fault, and ends with it."""

import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
import yaml

from lull.local.prometheus import read_manifests, rule_file
from lull.local.toolchain import prometheus_binaries

MONITORING = Path(__file__).parents[3] / "manifests" / "components" / "monitoring"
RULES = read_manifests([MONITORING / "rules.yaml"])
ALERTS = {
    rule["alert"]
    for manifest in RULES
    for group in manifest["spec"]["groups"]
    for rule in group["rules"]
    if "alert" in rule
}

S = 'modelservice_namespace="demo",modelservice="digits"'
H = 'modelhost="h",modelpool="gpu"'
CONTROLLER = 'pod="controller-1"'


@dataclass(frozen=True)
class Fault:
    """Series in steps of 30 s, and minutes at which the alert is quiet, fires, and is over."""

    alert: str
    what: str
    series: dict[str, str]
    quiet: int
    fires: int
    over: int
    severity: str = "warning|critical"


FAULTS = [
    Fault(
        "LullModelCannotWake",
        "an artifact is out of reach",
        {f'lull_service_stalled{{{S},reason="Unreachable"}}': "_x10 1x20 stale _x20"},
        *(6, 9, 17),
        "warning",
    ),
    Fault(
        "LullModelCannotWake",
        "no host has room",
        {f'lull_service_stalled{{{S},reason="NoCapacity"}}': "_x10 1x20 stale _x20"},
        *(6, 9, 17),
        "critical",
    ),
    Fault(
        "LullRolloutRejected",
        "a new revision does worse",
        {
            f'lull_service_rollout{{{S},phase="Stepping"}}': "1x10 stale _x40",
            f'lull_service_rollout{{{S},phase="Rejected"}}': "_x10 1x20 stale _x20",
        },
        *(4, 8, 17),
        "warning",
    ),
    Fault(
        "LullWakeSlowerThanObjective",
        "for half an hour every request waits",
        {
            f"lull_service_requests_total{{{S}}}": "0+1x300",
            f"lull_service_delayed_requests_total{{{S}}}": "0x20 1+1x60 61x240",
            f"lull_service_objective_delayed_ratio{{{S}}}": "0.05x300",
        },
        *(10, 35, 115),
    ),
    Fault(
        "LullWakeNearHoldTimeout",
        "a wake takes 55 of the 60 s",
        {
            f"lull_service_delayed_requests_total{{{S}}}": "0x10 1x300",
            f"lull_service_wake_seconds{{{S}}}": "55x310",
            f"lull_service_hold_timeout_seconds{{{S}}}": "60x310",
        },
        *(5, 8, 70),
    ),
    Fault(
        "LullHeldRequestsRefused",
        "requests are held for too long",
        {'lull_gateway_refusals_total{reason="HoldTimeout"}': "0x10 1+1x30 31x60"},
        *(9, 13, 28),
    ),
    Fault(
        "LullHostIdleButPowered",
        "a host is kept that nobody uses, until somebody does",
        {
            f"lull_host_triton_up{{{H}}}": "1x400",
            f"lull_host_busy_seconds_total{{{H}}}": "0+5x20 100x200 100+5x60",
        },
        *(80, 95, 114),
    ),
    Fault(
        "LullGpuMemoryResidual",
        "a quarter of the memory is nobody's",
        {
            f"lull_host_memory_bytes{{{H}}}": "8e9x100",
            f"lull_host_memory_residual_bytes{{{H}}}": "1e8x10 2e9x60 1e8x30",
        },
        *(15, 22, 38),
    ),
    Fault("LullTritonDown", "Triton hangs", {f"lull_host_triton_up{{{H}}}": "1x10 0x20 1x20"}, *(6, 9, 17)),
    Fault(
        "LullTritonNeverUp",
        "Triton's image is not pulled for half an hour",
        {f"lull_host_triton_up{{{H}}}": "0x60 1x20"},
        *(14, 17, 32),
    ),
    Fault(
        "LullHostNotReady",
        "two hosts no longer answer",
        {'lull_hosts{modelpool="gpu",state="unready"}': "0x10 2x40 0x20"},
        *(12, 17, 28),
    ),
    Fault(
        "LullControllerNotPlanning",
        "the controller hangs in a plan",
        {f"lull_plan_timestamp_seconds{{{CONTROLLER}}}": "0+30x20 600x20 1260+30x20"},
        *(12, 14, 22),
    ),
    Fault(
        "LullControllerNotPlanning",
        "the controller is gone",
        {f"lull_plan_timestamp_seconds{{{CONTROLLER}}}": "0+30x20 stale _x20 1290+30x20"},
        *(11, 13, 23),
    ),
    Fault(
        "LullNoFenceProgress",
        "drains are given up, none passes",
        {
            'lull_fences_total{outcome="given_up"}': "0x10 1x10 2x10 3x80",
            'lull_fences_total{outcome="passed"}': "7x120",
        },
        *(12, 22, 40),
    ),
    Fault(
        "LullNoFenceProgress",
        "a drain stays open until one passes",
        {
            f"lull_fence_oldest_seconds{{{CONTROLLER}}}": "0x20 30+30x60",
            'lull_fences_total{outcome="passed"}': "7x60 8x20",
        },
        *(19, 22, 32),
    ),
    Fault(
        "LullWritesFail",
        "the CRDs are too old",
        {'lull_api_requests_total{verb="patch",kind="ModelHost",code="422"}': "0x10 1+1x40 41x30"},
        *(14, 18, 33),
    ),
    Fault(
        "LullWritesFail",
        "the API server does not answer",
        {'lull_api_requests_total{verb="patch",kind="ModelHost",code="0"}': "0x10 1+1x40 41x30"},
        *(14, 18, 33),
    ),
    Fault(
        "LullGatewayDown",
        "the only gateway goes",
        {'lull_gateway_held_requests{pod="g"}': "0x10 stale _x10 0x10"},
        *(6, 8, 13),
    ),
    Fault(
        "LullEnvoyRefusesRoutes",
        "Envoy refuses an update",
        {'lull_gateway_xds_rejections_total{pod="g"}': "0x10 1x60"},
        *(5, 7, 22),
    ),
    Fault(
        "LullTargetDown",
        "an agent does not answer",
        {'up{namespace="lull-hosts",pod="h",container="agent"}': "1x10 0x20 1x10"},
        *(9, 12, 17),
    ),
]

# What two minutes or an hour of steady series come to, in what people look at.
FIGURES = {
    "lull:service:requests:rate5m": (f"{{{S}}}", 4.0, "both replicas, 2/s each"),
    "lull:service:busy:rate5m": (f"{{{S}}}", 0.2, "both replicas, 0.1 each"),
    "lull:service:latency_seconds:mean5m": (f"{{{S}}}", 0.05, ""),
    "lull:service:latency_seconds:p99": (f"{{{S}}}", 0.3, "the slowest replica's"),
    "lull:service:batch_size:mean5m": (f"{{{S}}}", 4.0, ""),
    "lull:service:queue_seconds:mean5m": (f"{{{S}}}", 0.001, ""),
    "lull:service:joules_per_request:rate1h": (f"{{{S}}}", 10.0, "idle and dynamic"),
    "lull:service:delayed_ratio:rate1h": (f"{{{S}}}", 0.025, ""),
    "lull:service:saved_joules": (f"{{{S}}}", 120 * (360.0 - 1200.0 - 60.0), "below zero, and said so"),
    "lull:pool:utilization_ratio": (
        '{modelpool="gpu",resource="memory"}',
        0.25,
        "told once, by two controllers",
    ),
    "lull:fleet:utilization_ratio": ('{resource="memory"}', 0.25, ""),
    "lull:pool:power_watts": ('{modelpool="gpu"}', 160.0, "the agents', not the controller's"),
    "lull:fleet:hosts": ('{state="serving"}', 3.0, "once each, told by two controllers"),
    "lull:fleet:power_watts": ("{}", 170.0, "with a pool that has no host"),
}
STEADY = {
    **{
        f'lull_model_requests_total{{{S},placement="{p}",modelhost="{h}",modelpool="gpu"}}': "0+60x120"
        for p, h in (("a", "h"), ("b", "i"))
    },
    **{f'lull_model_busy_seconds_total{{{S},placement="{p}"}}': "0+3x120" for p in "ab"},
    **{f'lull_model_batches_total{{{S},placement="{p}"}}': "0+15x120" for p in "ab"},
    **{f'lull_model_queue_seconds_total{{{S},placement="{p}"}}': "0+0.06x120" for p in "ab"},
    **{f'lull_model_latency_seconds_sum{{{S},placement="{p}"}}': "0+3x120" for p in "ab"},
    **{f'lull_model_latency_seconds_count{{{S},placement="{p}"}}': "0+60x120" for p in "ab"},
    f'lull_model_latency_seconds{{{S},placement="a",quantile="0.99"}}': "0.1x120",
    f'lull_model_latency_seconds{{{S},placement="b",quantile="0.99"}}': "0.3x120",
    f"lull_service_requests_total{{{S}}}": "0+120x120",
    f"lull_service_delayed_requests_total{{{S}}}": "0+3x120",
    f'lull_service_energy_joules_total{{{S},part="idle"}}': "0+900x120",
    f'lull_service_energy_joules_total{{{S},part="dynamic"}}': "0+300x120",
    f"lull_service_baseline_energy_joules_total{{{S}}}": "0+360x120",
    f"lull_service_overhead_energy_joules_total{{{S}}}": "0+60x120",
    **{f'lull_pool_memory_bytes{{modelpool="gpu",kind="supply",pod="{pod}"}}': "16e9x120" for pod in "ab"},
    **{f'lull_pool_memory_bytes{{modelpool="gpu",kind="used",pod="{pod}"}}': "4e9x120" for pod in "ab"},
    'lull_host_power_watts{modelhost="h",modelpool="gpu",basis="Measured"}': "100x120",
    'lull_host_power_watts{modelhost="i",modelpool="gpu",basis="Measured"}': "60x120",
    'lull_pool_power_watts{modelpool="gpu"}': "150x120",
    **{f'lull_hosts{{modelpool="gpu",state="serving",pod="{pod}"}}': "2x120" for pod in "ab"},
    'lull_hosts{modelpool="empty",state="serving",pod="b"}': "1x120",
    'lull_pool_power_watts{modelpool="empty"}': "10x120",
}


def test_the_rules_are_sound(tmp_path):
    (tmp_path / "rules.yaml").write_text(rule_file(RULES))
    _promtool(tmp_path, "check", "rules", "--lint=all", "--lint-fatal", "rules.yaml")


def test_every_alert_is_put_to_the_test():
    assert {fault.alert for fault in FAULTS} == ALERTS


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: f"{fault.alert}: {fault.what}")
def test_an_alert_fires_at_its_fault_and_ends_with_it(fault, tmp_path):
    alert = f'alertname="{fault.alert}",severity=~"{fault.severity}"'
    firing = f'count(ALERTS{{{alert},alertstate="firing"}})'
    expected = [(fault.quiet, []), (fault.fires, [{"labels": "{}", "value": 1}]), (fault.over, [])]
    _run(
        tmp_path,
        fault.series,
        [{"expr": firing, "eval_time": f"{minute}m", "exp_samples": samples} for minute, samples in expected],
    )


def test_fences_that_pass_keep_one_that_was_given_up_from_alarming(tmp_path):
    series = {
        'lull_fences_total{outcome="given_up"}': "0x20 1x60",
        'lull_fences_total{outcome="passed"}': "0+1x80",
    }
    _run(tmp_path, series, [_quiet("LullNoFenceProgress", 30)])


def test_a_host_whose_triton_is_being_pulled_calls_nobody(tmp_path):
    series = {f"lull_host_triton_up{{{H}}}": "0x24 1x40"}
    _run(
        tmp_path,
        series,
        [
            {
                "expr": 'ALERTS{alertname=~"LullTriton.*",alertstate="firing"}',
                "eval_time": f"{m}m",
                "exp_samples": [],
            }
            for m in (5, 11, 14, 20)
        ],
    )


@pytest.mark.parametrize(("watts", "said"), [("50x200", ", and it draws 50 W"), (None, "")])
def test_an_idle_hosts_watts_are_told_where_they_are_known(tmp_path, watts, said):
    series = {f"lull_host_triton_up{{{H}}}": "1x200", f"lull_host_busy_seconds_total{{{H}}}": "100x200"}
    if watts:
        series[f'lull_host_power_watts{{{H},basis="Modelled"}}'] = watts
    told = (
        f"No model on h has computed for over an hour{said}. Either somebody asked for that (hosts.min, "
        "replicas.min, a long idleAfter), or it should have been let go."
    )
    fired = {
        "exp_labels": {"severity": "warning", "modelhost": "h", "modelpool": "gpu"},
        "exp_annotations": _annotations("LullHostIdleButPowered")
        | {"summary": "Host h of pool gpu computes nothing and is kept", "description": told},
    }
    alert = {"eval_time": "90m", "alertname": "LullHostIdleButPowered", "exp_alerts": [fired]}
    _run(tmp_path, series, alerts=[alert])


def test_races_that_were_lost_are_no_writes_that_fail(tmp_path):
    of = 'verb="patch",kind="ModelHost"'
    series = {
        f'lull_api_requests_total{{{of},code="422"}}': "0+1x80",
        f'lull_api_requests_total{{{of},code="409"}}': "0+9x80",
        f'lull_api_requests_total{{{of},code="200"}}': "0+3x80",
        'lull_api_requests_total{verb="list",kind="ModelHost",code="403"}': "0+1x80",
    }
    _run(tmp_path, series, [_quiet("LullWritesFail", 30)])


def test_one_drain_that_was_given_up_calls_nobody(tmp_path):
    series = {'lull_fences_total{outcome="given_up"}': "0x20 1x80"}
    _run(tmp_path, series, [_quiet("LullNoFenceProgress", minute) for minute in (11, 15, 20, 25)])


def test_a_context_on_a_small_slice_of_a_gpu_is_no_residual(tmp_path):
    series = {f"lull_host_memory_bytes{{{H}}}": "5e9x80", f"lull_host_memory_residual_bytes{{{H}}}": "1e9x80"}
    _run(tmp_path, series, [_quiet("LullGpuMemoryResidual", 30)])


def test_recording_rules_say_what_their_names_promise(tmp_path):
    expected = [
        {
            "expr": f"round({name}{labels if labels != '{}' else ''}, 0.0001)",
            "eval_time": "60m",
            "exp_samples": [{"labels": labels, "value": value}],
        }
        for name, (labels, value, _) in FIGURES.items()
    ]
    _run(tmp_path, STEADY, expected)


def _quiet(alerts, minute):
    """Return what promtool is to find: none of these alerts (a pattern), not even pending."""
    return {"expr": f'ALERTS{{alertname=~"{alerts}"}}', "eval_time": f"{minute}m", "exp_samples": []}


def _annotations(alert):
    return next(
        rule["annotations"]
        for manifest in RULES
        for group in manifest["spec"]["groups"]
        for rule in group["rules"]
        if rule.get("alert") == alert
    )


def _run(folder, series, expected=(), alerts=()):
    """Have promtool evaluate the rules over these series, in steps of 30 s, and compare."""
    (folder / "rules.yaml").write_text(rule_file(RULES))
    test = {
        "interval": "30s",
        "input_series": [{"series": name, "values": values} for name, values in series.items()],
        "promql_expr_test": list(expected),
        "alert_rule_test": list(alerts),
    }
    whole = {"rule_files": ["rules.yaml"], "evaluation_interval": "30s", "tests": [test]}
    (folder / "test.yaml").write_text(yaml.safe_dump(whole))
    _promtool(folder, "test", "rules", "test.yaml")


def _promtool(folder, *arguments):
    promtool = prometheus_binaries()["promtool"]
    done = subprocess.run(
        [promtool, *arguments], cwd=folder, capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
