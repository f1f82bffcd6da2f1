"""Real Envoys for the hot path: a trivial upstream, a bare proxy, and the gateway's own configuration."""

import json
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import envoy
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.route.v3 import route_pb2

# Their Any messages are read back by type.
from envoy.extensions.filters.http.ext_authz.v3 import ext_authz_pb2  # noqa: F401
from envoy.extensions.filters.http.lua.v3 import lua_pb2  # noqa: F401
from google.protobuf import json_format

from lull.gateway import bootstrap, routes
from lull.gateway.settings import Settings
from lull.gateway.view import Lease, Placement, Service, Targets

BINARY = Path(next(iter(envoy.__path__))) / "_bin" / "envoy"
DOMAIN = "lull.localhost"
NEIGHBOURS = 100
"""Other awake services in the gateway's route table, as there would be."""
START_SECONDS = 20.0
_HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
_ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"

Config = dict[str, Any]


class Running:
    """An Envoy that runs, and what it has used of the CPU."""

    def __init__(self, pid: int, address: tuple[str, int]) -> None:
        self.pid = pid
        self.address = address

    def cpu_seconds(self) -> float:
        """Return the CPU time of all its threads so far, to the nanosecond."""
        tasks = Path(f"/proc/{self.pid}/task").glob("*/schedstat")
        return sum(int(task.read_text().split()[0]) for task in tasks) / 1e9


@contextmanager
def running(
    config: Config, folder: Path, name: str, address: tuple[str, int], workers: int
) -> Iterator[Running]:
    """Start an Envoy, wait until it accepts, and end it afterwards."""
    file = folder / f"{name}.json"
    file.write_text(json.dumps(config))
    command = [
        BINARY,
        "-c",
        file,
        "--disable-hot-restart",
        "--concurrency",
        str(workers),
        "--log-level",
        "error",
    ]
    with (folder / f"{name}.log").open("wb") as log:
        process = subprocess.Popen(command, stdout=log, stderr=subprocess.STDOUT)
    try:
        _wait_until_it_accepts(process, address, folder / f"{name}.log")
        yield Running(process.pid, address)
    finally:
        process.terminate()
        process.wait(timeout=10)


def upstream(address: tuple[str, int], answer: str) -> Config:
    """Return an Envoy that answers everything itself."""
    direct = {"direct_response": {"status": 200, "body": {"inline_string": answer}}}
    return {"static_resources": {"listeners": [_listener(address, {"match": {"prefix": "/"}, **direct})]}}


def bare(address: tuple[str, int], to: tuple[str, int]) -> Config:
    """Return an Envoy that does nothing but pass everything on."""
    route = {"match": {"prefix": "/"}, "route": {"cluster": "upstream", "timeout": "0s"}}
    cluster = {
        "name": "upstream",
        "type": "STATIC",
        "load_assignment": {"cluster_name": "upstream", "endpoints": [{"lb_endpoints": [_endpoint(to)]}]},
    }
    return {"static_resources": {"listeners": [_listener(address, route)], "clusters": [cluster]}}


def gateway(folder: Path, address: tuple[str, int], upstream_address: str, service: Service) -> Config:
    """Return the gateway's own bootstrap and resources, as the pilot makes them, given at the start.

    Only the transport differs from production: no pilot is asked, as none is on the path of a request.
    """
    host, port = address
    config = bootstrap.bootstrap(Settings("bench", "bench", host, DOMAIN, folder, inference_port=port))
    placement = Placement(
        Lease("bench-0", 1), service.key, service.model, upstream_address, True, False, "r1"
    )
    neighbours = [
        Service(f"bench/neighbour-{n}", f"neighbour-{n}", 60.0, 1000, None) for n in range(NEIGHBOURS)
    ]
    hosts = [routes.virtual_host(s, Targets((placement.lease,)), DOMAIN) for s in (*neighbours, service)]
    clusters = [routes.cluster(placement, protocol) for protocol in ("http", "grpc")]
    del config["dynamic_resources"]
    static = config["static_resources"]
    static["clusters"] += [_read(cluster_pb2.Cluster(), data) for data in clusters]
    (chain,) = static["listeners"][0]["filter_chains"]
    manager = chain["filters"][0]["typed_config"]
    del manager["rds"]
    manager["route_config"] = _read(route_pb2.RouteConfiguration(), routes.route_table(hosts))
    return config


def _read(message: Any, data: bytes) -> Config:
    message.ParseFromString(data)
    found: Config = json_format.MessageToDict(message, preserving_proto_field_name=True)
    return found


def _listener(address: tuple[str, int], route: Config) -> Config:
    manager = {
        "@type": _HCM,
        "stat_prefix": "bench",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}]},
        "http_filters": [{"name": "router", "typed_config": {"@type": _ROUTER}}],
    }
    filters = [{"name": "http", "typed_config": manager}]
    socket_address = {"address": address[0], "port_value": address[1]}
    return {
        "name": "bench",
        "address": {"socket_address": socket_address},
        "filter_chains": [{"filters": filters}],
    }


def _endpoint(to: tuple[str, int]) -> Config:
    return {"endpoint": {"address": {"socket_address": {"address": to[0], "port_value": to[1]}}}}


def _wait_until_it_accepts(process: subprocess.Popen[bytes], address: tuple[str, int], log: Path) -> None:
    deadline = time.monotonic() + START_SECONDS
    while True:
        if process.poll() is not None or time.monotonic() > deadline:
            raise AssertionError(f"Envoy did not start:\n{log.read_text()[-3000:]}")
        try:
            socket.create_connection(address, timeout=1).close()
        except OSError:
            time.sleep(0.05)
        else:
            return
