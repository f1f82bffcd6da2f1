"""Envoy's own statistics can be scraped, and nothing else of its admin interface can be reached."""

import asyncio

import aiohttp
import pytest
from yarl import URL

from integration.gateway.harness import DEADLINE_SECONDS
from lull.gateway.statistics import STATISTICS_PATH
from lull.gateway.view import Lease
from unit.gateway.objects import placement


def url(gateway, path):
    return f"http://{gateway.settings.address}:{gateway.settings.statistics_port}{path}"


async def scrape(gateway):
    async with gateway.session.get(url(gateway, STATISTICS_PATH)) as response:
        assert response.status == 200, await response.text()
        assert response.headers["Content-Type"].startswith("text/plain")
        return await response.text()


async def test_a_scrape_shows_how_requests_fared_and_grows_with_nothing_that_is_awake(gateway, upstream):
    gateway.service("digits")
    gateway.host(upstream.address, placement("d", "demo/digits"))
    await gateway.routed("demo/digits")
    assert (await gateway.infer())[0] == 200
    text = ""
    async with asyncio.timeout(DEADLINE_SECONDS):
        while "envoy_http_downstream_rq_time_bucket" not in text:  # Envoy merges histograms every 5 s
            text = await scrape(gateway)
            await asyncio.sleep(0.1)
    labels = '{envoy_response_code_class="2",envoy_http_conn_manager_prefix="inference"}'
    assert f"envoy_http_downstream_rq_xx{labels} 1\n" in text
    assert "envoy_server_memory_allocated" in text
    assert "envoy_cluster_" not in text


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("GET", "/stats"),
        ("GET", "/config_dump"),
        ("GET", f"{STATISTICS_PATH}/"),
        ("GET", f"{STATISTICS_PATH}?filter=cluster"),
        ("GET", f"{STATISTICS_PATH}/../../config_dump"),
        ("GET", f"/%2e{STATISTICS_PATH}"),
        ("POST", STATISTICS_PATH),
        ("HEAD", STATISTICS_PATH),
        ("POST", "/quitquitquit"),
        ("POST", "/drain_listeners"),
    ],
)
async def test_the_rest_of_the_admin_interface_is_out_of_reach(gateway, method, path):
    async with aiohttp.ClientSession() as session:
        as_it_is = URL(url(gateway, path), encoded=True)  # dots and escapes included
        response = await session.request(method, as_it_is)
    assert response.status == 404
    assert gateway.envoy.returncode is None


async def test_scrapes_count_for_no_drain_and_leave_the_fence_what_it_watches(gateway, upstream):
    gateway.service("digits")
    gateway.host(upstream.address, placement("d", "demo/digits"))
    await gateway.routed("demo/digits")
    await gateway.infer()
    await scrape(gateway)
    (lease,) = gateway.pilot.open_leases("demo/digits")
    assert await gateway.admin.alive({lease, Lease("nobody", 1)}) == {lease}
    assert await gateway.admin.active_requests() == 0
