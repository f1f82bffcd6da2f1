"""What a host draws by configuration: known products, overrides, and never a guess."""

import pytest

from lull.policy.power import PowerProfile, PowerSetting, profile

NOTHING = PowerSetting()


@pytest.mark.parametrize(
    ("product", "idle", "context", "most"),
    [
        ("Tesla-T4", 9, 27, 70),
        ("NVIDIA-L4", 16, 21, 72),
        ("NVIDIA-A10", 20, 34, 150),
        ("Tesla-V100-SXM2-16GB", 27, 13, 300),
        ("NVIDIA-A40", 30, 80, 300),
        ("NVIDIA-L40S", 36, 66, 350),
        ("NVIDIA-A100-PCIE-40GB", 54, 26, 300),
        ("NVIDIA-A100-80GB-PCIe", 54, 26, 300),
        ("NVIDIA H100 80GB HBM3", 72, 50, 700),
        ("NVIDIA-H100-80GB-HBM3", 72, 50, 700),
        ("NVIDIA-H200", 75, 45, 700),
    ],
)
def test_a_known_product_needs_no_configuration(product, idle, context, most):
    assert profile(product, 1, NOTHING) == PowerProfile(idle, context, most, 0)


@pytest.mark.parametrize(
    "product",
    [
        None,
        "NVIDIA-H100-PCIe",
        "NVIDIA-H100-NVL",
        "NVIDIA-GH200-480GB",
        "NVIDIA-A100-SXM4-80GB",
        "Tesla-V100-PCIE-16GB",
        "NVIDIA-L40",
        "NVIDIA-A10G",
        "Tesla-T4-SHARED",
        "NVIDIA-H100-80GB-HBM3-MIG-1g.10gb",
    ],
)
def test_another_board_or_a_slice_of_one_is_not_guessed(product):
    assert profile(product, 1, NOTHING) is None


def test_the_pool_goes_before_the_product():
    setting = PowerSetting(idle_watts=10, node_watts=400, hosts_per_node=8)
    assert profile("NVIDIA-L4", 1, setting) == PowerProfile(10, 21, 72, 50)


def test_zero_is_a_setting():
    assert profile("NVIDIA-L4", 1, PowerSetting(context_watts=0)).context_watts == 0


def test_without_a_product_the_pool_must_say_all_three():
    assert profile(None, 1, PowerSetting(idle_watts=1, max_watts=9)) is None
    assert profile(None, 1, PowerSetting(1, 2, 9)) == PowerProfile(1, 2, 9, 0)


def test_a_host_of_several_accelerators_draws_as_much_but_has_one_node():
    assert profile("NVIDIA-L4", 4, PowerSetting(node_watts=100)).kept_watts == 4 * 37 + 100


def test_full_load_is_never_less_than_no_load():
    assert profile(None, 1, PowerSetting(20, 30, 40)).max_watts == 50
