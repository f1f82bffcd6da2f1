"""From what is awake to Envoy's resources: clusters, virtual hosts and the one route table. Pure.

Every resource is returned as serialized bytes, because a table of thousands of virtual hosts is joined from
parts that did not change: concatenating serialized messages is how protobuf merges repeated fields.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.filters.http.lua.v3 import lua_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from google.protobuf import any_pb2, json_format

from lull.api.names import TRITON_GRPC_PORT, TRITON_HTTP_PORT
from lull.gateway import gate
from lull.gateway.proto import Message
from lull.gateway.settings import HOLD_LIMIT_TOTAL
from lull.gateway.view import GRPC, HTTP, Lease, Service

ROUTE_TABLE = "lull"
PATH_STYLE_FILTER = "lull.path_style"
CHECK_FILTER = "lull.check"
GUARD_FILTER = "lull.guard"
CLUSTER_HEADER = "x-lull-cluster"
"""Set by the pilot's OK alone: Envoy drops a client's own before anything looks at it."""
MODEL_HEADER = "x-lull-model"
"""Tells the pilot's own health service which model it answers for; dropped likewise."""
INTERNAL_HEADERS = (CLUSTER_HEADER, MODEL_HEADER)

_PORTS = {HTTP: TRITON_HTTP_PORT, GRPC: TRITON_GRPC_PORT}
_CONNECT_SECONDS = "2s"
# A connection's window holds every stream's: one stalled upload never stalls its neighbours.
_UPSTREAM_STREAM_WINDOW_BYTES = 1024 * 1024
_UPSTREAM_CONNECTION_WINDOW_BYTES = 64 * 1024 * 1024
# Only what certainly did not reach the model is tried again: inference is not known to be idempotent.
_RETRY = {
    "retry_on": "connect-failure,refused-stream,reset-before-request",
    "num_retries": 2,
    "retry_back_off": {"base_interval": "0.025s", "max_interval": "0.1s"},
}
_NO_LIMIT = 4 * HOLD_LIMIT_TOTAL
_UPSTREAM_PROTOCOL = {
    HTTP: {"http_protocol_options": {}},
    GRPC: {
        "http2_protocol_options": {
            "initial_stream_window_size": _UPSTREAM_STREAM_WINDOW_BYTES,
            "initial_connection_window_size": _UPSTREAM_CONNECTION_WINDOW_BYTES,
        }
    },
}


def cluster(lease: Lease, address: str, protocol: str) -> bytes:
    """Return the cluster that carries `protocol` to one placement; a new epoch is a new cluster."""
    options = json_format.ParseDict(
        {"explicit_http_config": _UPSTREAM_PROTOCOL[protocol]},
        http_protocol_options_pb2.HttpProtocolOptions(),
    )
    message = json_format.ParseDict(
        {
            "name": lease.cluster(protocol),
            "type": "STATIC",
            "connect_timeout": _CONNECT_SECONDS,
            "circuit_breakers": {
                "thresholds": [
                    {
                        "max_connections": _NO_LIMIT,
                        "max_pending_requests": _NO_LIMIT,
                        "max_requests": _NO_LIMIT,
                        "max_retries": _NO_LIMIT,
                    }
                ]
            },
            "load_assignment": {
                "cluster_name": lease.cluster(protocol),
                "endpoints": [
                    {
                        "lb_endpoints": [
                            {
                                "endpoint": {
                                    "address": {
                                        "socket_address": {"address": address, "port_value": _PORTS[protocol]}
                                    }
                                }
                            }
                        ]
                    }
                ],
            },
        },
        cluster_pb2.Cluster(),
    )
    message.typed_extension_protocol_options["envoy.extensions.upstreams.http.v3.HttpProtocolOptions"].Pack(
        options, deterministic=True
    )
    return serialize(message)


def virtual_host(service: Service, leases: Sequence[Lease], domain: str) -> bytes:
    """Return an awake service's part of the route table: allowed calls spread evenly over its placements.

    What is not allowed, or spelled differently, goes the way of the catch-all: the pilot words the refusal.
    """
    namespace, _, name = service.key.partition("/")
    host = f"{name}.{namespace}.{domain}"
    model = f"/v2/models/{service.model}"
    grpc = f"/{gate.GRPC_SERVICE}/"
    methods = "|".join(gate.GRPC_MODEL_METHODS + gate.GRPC_SERVER_METHODS)
    message = route_components_pb2.VirtualHost(
        name=service.key,
        domains=[host],
        routes=[
            # The two hot paths first and as exact matches; the rest shares one expression per protocol.
            _http_route({"path": f"{model}/infer"}, leases),
            _grpc_route({"path": f"{grpc}ModelInfer"}, leases, service.model),
            _grpc_route(_regex(f"{grpc}({methods})".replace(".", r"\.")), leases, service.model),
            _http_route(_regex(f"{gate.HTTP_SERVER_PATHS}|{model}{gate.HTTP_MODEL_SUFFIX}"), leases),
            _asking_route(),
        ],
    )
    # No path of this host needs rewriting, and a filter that is off here is not even created.
    _set(message, PATH_STYLE_FILTER, route_components_pb2.FilterConfig(disabled=True))
    return serialize(route_pb2.RouteConfiguration(virtual_hosts=[message]))


def route_table(virtual_hosts: Iterable[bytes]) -> bytes:
    """Return the route table: the virtual hosts of what is awake, and the catch-all that asks the pilot."""
    catch_all = route_components_pb2.VirtualHost(name="asleep", domains=["*"], routes=[_asking_route()])
    head = route_pb2.RouteConfiguration(
        name=ROUTE_TABLE,
        request_headers_to_remove=[CLUSTER_HEADER],
        virtual_hosts=[catch_all],
    )
    return b"".join([serialize(head), *virtual_hosts])


def serialize(message: Message) -> bytes:
    """Serialize so that equal messages are equal bytes: versions are hashes of them."""
    data: bytes = message.SerializeToString(deterministic=True)
    return data


def _regex(expression: str) -> dict[str, Any]:
    return {"safe_regex": {"regex": expression}}


def _route(match: dict[str, Any], action: dict[str, Any]) -> route_components_pb2.Route:
    route = {"match": match, "route": {**action, "timeout": "0s", "retry_policy": _RETRY}}
    return json_format.ParseDict(route, route_components_pb2.Route())


def _asking_route() -> route_components_pb2.Route:
    """Return the route that the pilot's OK decides, by a header which nothing else can set."""
    return _route({"prefix": "/"}, {"cluster_header": CLUSTER_HEADER})


def _http_route(match: dict[str, Any], leases: Sequence[Lease]) -> route_components_pb2.Route:
    route = _route(match, _spread(leases, HTTP))
    _pass_check(route)
    _set(route, GUARD_FILTER, route_components_pb2.FilterConfig(disabled=True))
    return route


def _grpc_route(match: dict[str, Any], leases: Sequence[Lease], model: str) -> route_components_pb2.Route:
    route = _route({**match, "grpc": {}}, _spread(leases, GRPC))
    _pass_check(route)
    context = lua_pb2.LuaPerRoute()
    context.filter_context.update({"model": model})
    _set(route, GUARD_FILTER, context)
    return route


def _spread(leases: Sequence[Lease], protocol: str) -> dict[str, Any]:
    if len(leases) == 1:
        return {"cluster": leases[0].cluster(protocol)}
    return {
        "weighted_clusters": {
            "clusters": [{"name": lease.cluster(protocol), "weight": 1} for lease in leases]
        }
    }


def _pass_check(route: route_components_pb2.Route) -> None:
    # Disabled by FilterConfig a filter is not even created, which is worth a tenth of Envoy's work a request.
    # That is decided on the route that a request comes in by; path_style.lua reads the metadata of its next.
    _set(route, CHECK_FILTER, route_components_pb2.FilterConfig(disabled=True))
    route.metadata.filter_metadata[PATH_STYLE_FILTER].update({"awake": True})


def _set(holder: Message, filter_name: str, config: Message) -> None:
    packed = any_pb2.Any()
    packed.Pack(config, deterministic=True)
    holder.typed_per_filter_config[filter_name].CopyFrom(packed)
