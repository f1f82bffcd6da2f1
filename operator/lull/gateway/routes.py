"""From what is awake to Envoy's resources: clusters, virtual hosts and the one route table. Pure.

Every resource is returned as serialized bytes, because a table of thousands of virtual hosts is joined from
parts that did not change: concatenating serialized messages is how protobuf merges repeated fields.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.core.v3 import base_pb2
from envoy.config.route.v3 import route_components_pb2, route_pb2
from envoy.extensions.filters.http.lua.v3 import lua_pb2
from envoy.extensions.upstreams.http.v3 import http_protocol_options_pb2
from google.protobuf import any_pb2, json_format
from xds.type.v3 import typed_struct_pb2

from lull.api.names import REVISION_HEADER, TRITON_GRPC_PORT, TRITON_HTTP_PORT
from lull.gateway import gate
from lull.gateway.proto import Message
from lull.gateway.settings import HOLD_LIMIT_TOTAL, SHADOW_CLUSTER
from lull.gateway.traffic import CANDIDATE_ROUTES, OWN_ROUTES, routes_name
from lull.gateway.view import GRPC, HTTP, Lease, Placement, Service, Targets

ROUTE_TABLE = "lull"
PATH_STYLE_FILTER = "lull.path_style"
CHECK_FILTER = "lull.check"
GUARD_FILTER = "lull.guard"
OUTCOME_FILTER = "lull.outcome"
"""Counts how gRPC calls ended; off but where two revisions are compared."""
CLUSTER_HEADER = "x-lull-cluster"
"""Set by the pilot's OK alone: Envoy drops a client's own before anything looks at it."""
MODEL_HEADER = "x-lull-model"
"""Tells the pilot's own health service which model it answers for; dropped likewise."""
INTERNAL_HEADERS = (CLUSTER_HEADER, MODEL_HEADER)
AGAIN_CLUSTERS = {HTTP: "lull.again|http", GRPC: "lull.again|grpc"}
"""This very gateway: what a candidate failed comes in anew, and goes where such a request goes by then.

A placement that the route named would be fenced and gone while the candidate still thinks about its answer.
"""
AGAIN_HEADER = "x-lull-again"
"""Set on the way there. It keeps a request from the candidate, and so does a client's own."""

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
# A candidate is not trusted yet: whatever it fails or refuses, the other revision is asked. What is a
# client's own fault is then refused twice, and counted once: of what the other is asked first, as much is.
_RETRY_ELSEWHERE = {
    **_RETRY,
    "retry_on": "connect-failure,refused-stream,reset,5xx,retriable-headers",
    "num_retries": 1,
    "retriable_headers": [
        {"name": ":status", "string_match": {"prefix": "4"}},
        {"name": "grpc-status", "string_match": {"safe_regex": {"regex": "[1-9][0-9]*"}}},
    ],
}
# RetryPolicy.refresh_cluster_on_retry, which the Python package has not got yet: field 14, true.
_REFRESH_CLUSTER_ON_RETRY = b"\x70\x01"
_PRIORITY_GROUPS = (
    "type.googleapis.com/envoy.extensions.router.cluster_specifiers.priority_group.v3"
    ".PriorityGroupClusterSpecifier"
)
SILENCE_SECONDS = 60
"""A candidate that hangs would be neither seen to fail nor fenced: silent for so long, it has failed."""
RETRIED_BODY_BYTES = 4 * 2**20
"""The largest request that is asked again of the other revision; a larger one's failure its client sees."""
_MILLIONTHS_A_PERCENT = 10_000
_UNPINNED, _FIRST_TRY = (
    {"name": name, "present_match": True, "invert_match": True} for name in (REVISION_HEADER, AGAIN_HEADER)
)
_REVISION_METADATA = "lull"
_NO_LIMIT = 4 * HOLD_LIMIT_TOTAL
UPSTREAM_PROTOCOL = {
    HTTP: {"http_protocol_options": {}},
    GRPC: {
        "http2_protocol_options": {
            "initial_stream_window_size": _UPSTREAM_STREAM_WINDOW_BYTES,
            "initial_connection_window_size": _UPSTREAM_CONNECTION_WINDOW_BYTES,
        }
    },
}


def cluster(placement: Placement, protocol: str) -> bytes:
    """Return the cluster that carries `protocol` to one placement; a new epoch is a new cluster."""
    lease = placement.lease
    options = json_format.ParseDict(
        {"explicit_http_config": UPSTREAM_PROTOCOL[protocol]},
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
                                        "socket_address": {
                                            "address": placement.address,
                                            "port_value": _PORTS[protocol],
                                        }
                                    }
                                },
                                "metadata": {
                                    "filter_metadata": {_REVISION_METADATA: {"revision": placement.revision}}
                                },
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


def virtual_host(service: Service, targets: Targets, domain: str) -> bytes:
    """Return an awake service's part of the route table: allowed calls spread over its placements.

    What is not allowed, or spelled differently, goes the way of the catch-all: the pilot words the refusal.
    So does what names a revision, as the pilot finds its placement.
    """
    namespace, _, name = service.key.partition("/")
    host = f"{name}.{namespace}.{domain}"
    message = route_components_pb2.VirtualHost(
        name=service.key,
        domains=[host],
        routes=[
            *(_routes(service.model, partial(_candidate_route, targets)) if targets.percent else ()),
            *(_routes(service.model, partial(_compared_route, targets)) if targets.percent else ()),
            *_routes(service.model, partial(_own_route, targets)),
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
        request_headers_to_remove=[CLUSTER_HEADER, AGAIN_HEADER],
        response_headers_to_add=[
            base_pb2.HeaderValueOption(
                header=base_pb2.HeaderValue(
                    key=REVISION_HEADER, value=f"%UPSTREAM_METADATA({_REVISION_METADATA}:revision)%"
                ),
                append_action=base_pb2.HeaderValueOption.OVERWRITE_IF_EXISTS_OR_ADD,
            )
        ],
        virtual_hosts=[catch_all],
    )
    return b"".join([serialize(head), *virtual_hosts])


def serialize(message: Message) -> bytes:
    """Serialize so that equal messages are equal bytes: versions are hashes of them."""
    data: bytes = message.SerializeToString(deterministic=True)
    return data


def _regex(expression: str) -> dict[str, Any]:
    return {"safe_regex": {"regex": expression}}


def _route(match: dict[str, Any], action: dict[str, Any], **more: object) -> route_components_pb2.Route:
    route = {"match": match, "route": {"timeout": "0s", "retry_policy": _RETRY, **action}, **more}
    return json_format.ParseDict(route, route_components_pb2.Route())


def _asking_route() -> route_components_pb2.Route:
    """Return the route that the pilot's OK decides, by a header which nothing else can set."""
    return _route({"prefix": "/"}, {"cluster_header": CLUSTER_HEADER})


def _routes(
    model: str, to: Callable[[dict[str, Any], str], route_components_pb2.Route]
) -> list[route_components_pb2.Route]:
    """Return the routes of the allowed calls; `to` makes one, of what it matches and its protocol."""
    path = f"/v2/models/{model}"
    grpc = f"/{gate.GRPC_SERVICE}/"
    methods = "|".join(gate.GRPC_MODEL_METHODS + gate.GRPC_SERVER_METHODS)
    return [
        # The two hot paths first and as exact matches; the rest shares one expression per protocol.
        _http_route(to({"path": f"{path}/infer"}, HTTP)),
        _grpc_route(to({"path": f"{grpc}ModelInfer", "grpc": {}}, GRPC), model),
        _grpc_route(to({**_regex(f"{grpc}({methods})".replace(".", r"\.")), "grpc": {}}, GRPC), model),
        _http_route(to(_regex(f"{gate.HTTP_SERVER_PATHS}|{path}{gate.HTTP_MODEL_SUFFIX}"), HTTP)),
    ]


def _http_route(route: route_components_pb2.Route) -> route_components_pb2.Route:
    _pass_check(route)
    _set(route, GUARD_FILTER, route_components_pb2.FilterConfig(disabled=True))
    return route


def _grpc_route(route: route_components_pb2.Route, model: str) -> route_components_pb2.Route:
    _pass_check(route)
    context = lua_pb2.LuaPerRoute()
    context.filter_context.update({"model": model})
    _set(route, GUARD_FILTER, context)
    return route


def _own_route(targets: Targets, match: dict[str, Any], protocol: str) -> route_components_pb2.Route:
    action = _spread(targets.own, protocol)
    if targets.shadow_percent and "path" in match:  # inference
        share = {"default_value": _millionths(targets.shadow_percent)}
        action["request_mirror_policies"] = [{"cluster": SHADOW_CLUSTER, "runtime_fraction": share}]
    return _route({**match, "headers": [_UNPINNED]}, action)


def _compared_route(targets: Targets, match: dict[str, Any], protocol: str) -> route_components_pb2.Route:
    """Return the route of the rest, with which the candidate's share is compared.

    What comes in again is not of it: there, clients' own faults are many, and would excuse the candidate's.
    """
    route = _route({**match, "headers": [_UNPINNED, _FIRST_TRY]}, _spread(targets.own, protocol))
    route.stat_prefix = routes_name(OWN_ROUTES, targets.revision)
    if protocol == GRPC:
        _set(route, OUTCOME_FILTER, route_components_pb2.FilterConfig(config=any_pb2.Any()))
    return route


def _candidate_route(targets: Targets, match: dict[str, Any], protocol: str) -> route_components_pb2.Route:
    """Return the route of the candidate's share: by a number that Envoy draws for each request.

    A retry looks its cluster up anew, in the next group.
    """
    share = {"default_value": _millionths(targets.percent), "runtime_key": "lull.candidate"}
    route = _route(
        {**match, "headers": [_UNPINNED, _FIRST_TRY], "runtime_fraction": share},
        {"retry_policy": {**_RETRY_ELSEWHERE, "per_try_idle_timeout": f"{SILENCE_SECONDS}s"}},
        request_body_buffer_limit=RETRIED_BODY_BYTES,
    )
    route.stat_prefix = routes_name(CANDIDATE_ROUTES, targets.revision)
    route.route.retry_policy.MergeFromString(_REFRESH_CLUSTER_ON_RETRY)
    groups = {
        "candidate": [lease.cluster(protocol) for lease in targets.candidate],
        "again": [AGAIN_CLUSTERS[protocol]],
    }
    specifier = typed_struct_pb2.TypedStruct(type_url=_PRIORITY_GROUPS)
    specifier.value.update(
        {
            "priority_groups": [
                {"name": name, "clusters": [{"cluster_name": cluster, "weight": 1} for cluster in clusters]}
                for name, clusters in groups.items()
            ]
        }
    )
    extension = route.route.inline_cluster_specifier_plugin.extension
    extension.name = "lull.rollout"
    extension.typed_config.Pack(specifier, deterministic=True)
    return route


def _millionths(percent: int) -> dict[str, Any]:
    # Of a hundred it would correlate with the choice of a replica: both are remainders of one random number.
    return {"numerator": percent * _MILLIONTHS_A_PERCENT, "denominator": "MILLION"}


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
