"""What Envoy starts with: its listeners, the filters of a request's way, where to ask for the rest. Pure."""

from importlib import resources
from typing import Any

from lull.api.names import REVISION_HEADER
from lull.gateway import statistics
from lull.gateway.routes import (
    AGAIN_CLUSTERS,
    AGAIN_HEADER,
    CHECK_FILTER,
    GUARD_FILTER,
    INTERNAL_HEADERS,
    OUTCOME_FILTER,
    PATH_STYLE_FILTER,
    ROUTE_TABLE,
    UPSTREAM_PROTOCOL,
)
from lull.gateway.settings import (
    HOLD_LIMIT_SECONDS,
    HOLD_LIMIT_TOTAL,
    SHADOW_BODY_BYTES,
    SHADOW_CLUSTER,
    SHADOW_COPIES,
    SHADOW_SEND_SECONDS,
    STREAM_WINDOW_BYTES,
    STREAMS_PER_CONNECTION,
    Settings,
)
from lull.gateway.view import PROTOCOLS

PILOT_CLUSTER = "pilot"

Config = dict[str, Any]

_HEAP_LIMIT_BYTES = 1536 * 1024**2  # below the container's memory limit in the manifests
_CONNECTION_LIMIT = 40_000
_CHECK_SECONDS = HOLD_LIMIT_SECONDS + 30
_STREAM_IDLE_SECONDS = HOLD_LIMIT_SECONDS + 60
# Envoy's own back-off grows to 30 s, in which a pilot that is back could wake nothing.
_RECONNECT = {"retry_back_off": {"base_interval": "0.1s", "max_interval": "1s"}}
_TYPE = "type.googleapis.com/envoy."


def bootstrap(settings: Settings) -> Config:
    """Return Envoy's bootstrap, as its YAML would be read."""
    return {
        "node": {"id": settings.pod_name, "cluster": "lull-gateway"},
        "admin": {"address": {"pipe": {"path": str(settings.admin_socket), "mode": 0o600}}},
        "dynamic_resources": {
            "ads_config": {
                "api_type": "DELTA_GRPC",
                "transport_api_version": "V3",
                "set_node_on_first_message_only": True,
                "grpc_services": [
                    {"envoy_grpc": {"cluster_name": PILOT_CLUSTER, "retry_policy": _RECONNECT}}
                ],
            },
            # 0: wait for ever. Before the pilot has spoken this gateway must not answer anything.
            "cds_config": {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"},
        },
        "static_resources": {
            "listeners": [_listener(settings), statistics.listener(settings)],
            "clusters": [
                _pilot_cluster(settings),
                _shadow_cluster(settings),
                *(_again_cluster(settings, protocol) for protocol in PROTOCOLS),
                statistics.admin_cluster(settings),
            ],
        },
        "stats_config": statistics.kept(),
        "stats_flush_interval": statistics.FLUSH,
        "overload_manager": _overload(),
    }


def _overload() -> Config:
    """Bound memory and connections: 503 and refused connections come before the kernel's out-of-memory."""
    return {
        "refresh_interval": "0.25s",
        "resource_monitors": [
            {
                "name": "envoy.resource_monitors.fixed_heap",
                "typed_config": {
                    "@type": _TYPE + "extensions.resource_monitors.fixed_heap.v3.FixedHeapConfig",
                    "max_heap_size_bytes": _HEAP_LIMIT_BYTES,
                },
            },
            {
                "name": "envoy.resource_monitors.global_downstream_max_connections",
                "typed_config": {
                    "@type": _TYPE
                    + "extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                    "max_active_downstream_connections": _CONNECTION_LIMIT,
                },
            },
        ],
        "actions": [
            {
                "name": f"envoy.overload_actions.{action}",
                "triggers": [
                    {"name": "envoy.resource_monitors.fixed_heap", "threshold": {"value": threshold}}
                ],
            }
            for action, threshold in (("shrink_heap", 0.9), ("stop_accepting_requests", 0.95))
        ],
    }


def _pilot_cluster(settings: Settings) -> Config:
    return {
        "name": PILOT_CLUSTER,
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": _TYPE + "extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        },
        "circuit_breakers": _unbroken(),
        "load_assignment": {
            "cluster_name": PILOT_CLUSTER,
            "endpoints": [
                {"lb_endpoints": [{"endpoint": {"address": {"pipe": {"path": str(settings.xds_socket)}}}}]}
            ],
        },
    }


def _unbroken() -> Config:
    # The default of 1,024 fails held requests above it.
    bounds = ("max_connections", "max_pending_requests", "max_requests", "max_retries")
    return {"thresholds": [dict.fromkeys(bounds, 4 * HOLD_LIMIT_TOTAL)]}


def _again_cluster(settings: Settings, protocol: str) -> Config:
    """Return the cluster by which a request comes in again that a candidate failed."""
    endpoint = {
        "address": {"socket_address": {"address": settings.address, "port_value": settings.inference_port}}
    }
    mark = {"header": {"key": AGAIN_HEADER, "value": "1"}, "append_action": "OVERWRITE_IF_EXISTS_OR_ADD"}
    return {
        "name": AGAIN_CLUSTERS[protocol],
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": _TYPE + "extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": UPSTREAM_PROTOCOL[protocol],
                "http_filters": [
                    {
                        "name": "lull.again",
                        "typed_config": {
                            "@type": _TYPE + "extensions.filters.http.header_mutation.v3.HeaderMutation",
                            "mutations": {"request_mutations": [{"append": mark}]},
                        },
                    },
                    {
                        "name": "envoy.filters.http.upstream_codec",
                        "typed_config": {
                            "@type": _TYPE + "extensions.filters.http.upstream_codec.v3.UpstreamCodec"
                        },
                    },
                ],
            }
        },
        "circuit_breakers": _unbroken(),
        "load_assignment": {
            "cluster_name": AGAIN_CLUSTERS[protocol],
            "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}],
        },
    }


def _shadow_cluster(settings: Settings) -> Config:
    """Return where copies of requests go, over HTTP/1 whatever they came by: nobody reads the answers.

    Envoy slows a request down to the pace of its copy once the copy fills its buffer. So the buffer holds
    every copy that the pilot would take, and a pilot that reads no more costs an upload a bounded time.
    """
    bound = {
        "max_connections": SHADOW_COPIES,
        "max_pending_requests": SHADOW_COPIES,
        "max_requests": SHADOW_COPIES,
    }
    endpoint = {"address": {"pipe": {"path": str(settings.shadow_socket)}}}
    return {
        "name": SHADOW_CLUSTER,
        "type": "STATIC",
        "connect_timeout": "1s",
        "per_connection_buffer_limit_bytes": 2 * SHADOW_BODY_BYTES,
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": _TYPE + "extensions.upstreams.http.v3.HttpProtocolOptions",
                "common_http_protocol_options": {"max_stream_duration": f"{SHADOW_SEND_SECONDS}s"},
                "explicit_http_config": {"http_protocol_options": {}},
            }
        },
        "circuit_breakers": {"thresholds": [bound]},
        "load_assignment": {
            "cluster_name": SHADOW_CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}],
        },
    }


def _listener(settings: Settings) -> Config:
    return {
        "name": "inference",
        "address": {"socket_address": {"address": settings.address, "port_value": settings.inference_port}},
        "per_connection_buffer_limit_bytes": STREAM_WINDOW_BYTES,
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": _connection_manager(settings),
                    }
                ]
            }
        ],
    }


def _connection_manager(settings: Settings) -> Config:
    return {
        "@type": _TYPE + "extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "inference",
        "codec_type": "AUTO",
        "rds": {
            "route_config_name": ROUTE_TABLE,
            "config_source": {"ads": {}, "resource_api_version": "V3", "initial_fetch_timeout": "0s"},
        },
        "http_filters": [
            _lua(PATH_STYLE_FILTER, _script("path_style.lua").replace("@DOMAIN@", settings.domain)),
            _check(),
            _lua(GUARD_FILTER, _script("guard.lua")),
            {
                "name": OUTCOME_FILTER,
                "disabled": True,
                "typed_config": {"@type": _TYPE + "extensions.filters.http.grpc_stats.v3.FilterConfig"},
            },
            {
                "name": "envoy.filters.http.router",
                "typed_config": {
                    "@type": _TYPE + "extensions.filters.http.router.v3.Router",
                    "suppress_envoy_headers": True,
                },
            },
        ],
        "early_header_mutation_extensions": [_drop_internal_headers()],
        # Two spellings of one host are one host: ports and dots go here, case in Envoy's matching. Paths are
        # not normalized: the allowed ones are listed, and whatever is spelled differently is not among them.
        "strip_any_host_port": True,
        "strip_trailing_host_dot": True,
        "stream_idle_timeout": f"{_STREAM_IDLE_SECONDS}s",
        "request_headers_timeout": "10s",
        "max_request_headers_kb": 32,
        "common_http_protocol_options": {"max_headers_count": 100, "idle_timeout": "3600s"},
        "http2_protocol_options": {
            "max_concurrent_streams": STREAMS_PER_CONNECTION,
            "initial_stream_window_size": STREAM_WINDOW_BYTES,
            # All streams of a connection may be held with full windows, and one more still moves.
            "initial_connection_window_size": STREAM_WINDOW_BYTES * STREAMS_PER_CONNECTION,
        },
        "local_reply_config": _local_replies(),
        "use_remote_address": True,
        "skip_xff_append": True,
        "generate_request_id": False,
        "server_header_transformation": "PASS_THROUGH",
    }


def _check() -> Config:
    return {
        "name": CHECK_FILTER,
        "typed_config": {
            "@type": _TYPE + "extensions.filters.http.ext_authz.v3.ExtAuthz",
            "transport_api_version": "V3",
            "clear_route_cache": True,
            # A path-style request to an awake service (path_style.lua) asks nobody.
            "filter_enabled_metadata": {
                "filter": "lull",
                "path": [{"key": "awake"}],
                "value": {"bool_match": True},
                "invert": True,
            },
            # 403 is the default, and would tell clients of a restarting pilot that they are forbidden.
            "status_on_error": {"code": "ServiceUnavailable"},
            "allowed_headers": {"patterns": [{"exact": "content-type"}, {"exact": REVISION_HEADER}]},
            "grpc_service": {
                "envoy_grpc": {"cluster_name": PILOT_CLUSTER},
                "timeout": f"{_CHECK_SECONDS}s",
                # A held request outlives its pilot: asked again until the next one answers.
                "retry_policy": {
                    "retry_on": "connect-failure,reset,refused-stream,unavailable",
                    "num_retries": 20,
                    # Envoy takes max_interval as each try's timeout too, so it is above the longest hold.
                    "retry_back_off": {"base_interval": "0.05s", "max_interval": f"{_CHECK_SECONDS}s"},
                },
            },
        },
    }


def _lua(name: str, script: str) -> Config:
    return {
        "name": name,
        "typed_config": {
            "@type": _TYPE + "extensions.filters.http.lua.v3.Lua",
            "default_source_code": {"inline_string": script},
        },
    }


def _script(name: str) -> str:
    return resources.files("lull.gateway").joinpath(name).read_text(encoding="utf-8")


def _drop_internal_headers() -> Config:
    return {
        "name": "envoy.http.early_header_mutation.header_mutation",
        "typed_config": {
            "@type": _TYPE + "extensions.http.early_header_mutation.header_mutation.v3.HeaderMutation",
            "mutations": [{"remove": header} for header in INTERNAL_HEADERS],
        },
    }


def _local_replies() -> Config:
    """Word Envoy's and the pilot's own HTTP errors as Triton and KServe do: `{"error": "..."}`."""
    is_error = {
        "status_code_filter": {
            "comparison": {"op": "GE", "value": {"default_value": 400, "runtime_key": "lull.errors"}}
        }
    }
    is_http = {
        "header_filter": {
            "header": {
                "name": "content-type",
                "string_match": {"prefix": "application/grpc"},
                "invert_match": True,
                "treat_missing_header_as_empty": True,
            }
        }
    }
    return {
        "mappers": [
            {
                "filter": {"and_filter": {"filters": [is_error, is_http]}},
                "body_format_override": {"json_format": {"error": "%LOCAL_REPLY_BODY%"}},
            }
        ]
    }
