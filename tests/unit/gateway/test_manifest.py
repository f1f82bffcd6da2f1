"""The gateway's Deployment gives its programs the time and memory that they count on."""

from pathlib import Path

import pytest
import yaml

from lull.api.quantities import parse_bytes
from lull.gateway import main
from lull.gateway.bootstrap import bootstrap
from lull.gateway.settings import HOLD_LIMIT_SECONDS, Settings

MANIFEST = Path(__file__).parents[3] / "manifests/base/gateway.yaml"


@pytest.fixture(scope="module")
def pod():
    items = yaml.safe_load_all(MANIFEST.read_text())
    return next(item for item in items if item["kind"] == "Deployment")["spec"]["template"]["spec"]


def test_a_gateway_that_leaves_has_the_time_of_the_longest_hold(pod):
    assert HOLD_LIMIT_SECONDS + main._LEAVE_SECONDS < main._DRAIN_SECONDS
    assert pod["terminationGracePeriodSeconds"] > main._DRAIN_SECONDS


def test_envoy_refuses_requests_before_the_kernel_kills_it(pod):
    overload = bootstrap(
        Settings("gateway-1", "lull-system", "127.0.0.1", "lull.localhost", Path("/run/lull"))
    )
    heap = overload["overload_manager"]["resource_monitors"][0]["typed_config"]["max_heap_size_bytes"]
    envoy = next(container for container in pod["containers"] if container["name"] == "envoy")
    # A quarter is for what the heap does not count: stacks, fragments, the binary's own pages.
    assert heap <= 0.75 * parse_bytes(envoy["resources"]["limits"]["memory"])
