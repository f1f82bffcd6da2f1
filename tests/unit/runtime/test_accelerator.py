"""What is read from Triton's own metrics."""

from pathlib import Path

import pytest

from lull_runtime.measure.accelerator import parse

METRICS = (Path(__file__).parent / "data" / "triton_metrics_two_gpus.txt").read_text()


def test_devices_of_one_host_are_taken_together():
    found = parse(METRICS).accelerator
    assert found.uuid == "GPU-71ce41fd-3ac0-afe7-c995-21119f1e984a"
    assert found.count == 2
    assert found.memory_total_bytes == 2 * 16944988160
    assert found.memory_used_bytes == 7451181056 + 7111442432
    assert found.utilization == pytest.approx(0.37)
    assert found.watts == pytest.approx(58.954 + 59.436)
    assert found.joules == pytest.approx(9380.053 + 1474.042)


def test_latencies_are_seconds_by_model_and_of_its_slowest_version():
    latencies = parse(METRICS).latencies
    assert latencies == {
        "identity": {0.5: 0.000145, 0.95: 0.00034, 0.99: 0.0009}
    }  # "quiet" was asked nothing


def test_a_host_without_devices_has_no_accelerator():
    lines = [line for line in METRICS.splitlines() if "gpu" not in line]
    assert parse("\n".join(lines)).accelerator is None
    assert parse("").accelerator is None


def test_a_device_that_cannot_tell_its_draw_draws_not_nothing_but_unknown():
    found = parse(METRICS.replace(" 58.954000", " 0.000000").replace(" 59.436000", " 0.000000")).accelerator
    assert found.watts is None


def test_half_a_sum_is_no_sum():
    lines = [line for line in METRICS.splitlines() if not line.endswith(" 59.436000")]
    assert parse("\n".join(lines)).accelerator.watts is None


@pytest.mark.parametrize(
    "line",
    [
        'nv_gpu_power_usage{gpu_uuid="GPU-x"} +Inf',
        'nv_gpu_power_usage{gpu_uuid="GPU-x"} -1',
        'nv_gpu_power_usage{gpu_uuid="GPU-x"} watts',
        'nv_gpu_power_usage{gpu_uuid="GPU-x',
        'nv_gpu_power_usage{other="1"} 5',
        'nv_gpu_power_usage_of_mine{gpu_uuid="GPU-x"} 5',
        'nv_gpu_memory_total_bytes{gpu_uuid="GPU-x"} 1e400',
        'nv_inference_request_summary_us{model="mine"} 5',
        'nv_inference_request_summary_us{model="mine",quantile="most"} 5',
    ],
)
def test_what_is_not_understood_is_left_out(line: str):
    assert parse(line) == parse("")
    assert parse(METRICS + line + "\n") == parse(METRICS)


def test_the_order_of_devices_does_not_matter():
    backwards = "\n".join(reversed(METRICS.splitlines()))
    assert parse(backwards).accelerator.uuid == parse(METRICS).accelerator.uuid
