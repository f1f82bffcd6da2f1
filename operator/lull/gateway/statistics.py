"""Envoy's own statistics: which of them exist, and the one path by which they leave the Pod. Pure."""

from typing import Any

from lull.api.latency import EDGES_SECONDS
from lull.gateway.settings import Settings
from lull.gateway.traffic import CANDIDATE_ROUTES, GRPC_FAILED, OWN_ROUTES
from lull.gateway.view import GRPC

ADMIN_CLUSTER = "admin"
STATISTICS_PATH = "/stats/prometheus"
FLUSH = "1s"
"""How often the workers' histograms are put together: until then nobody sees what is new in them."""

Config = dict[str, Any]

_PREFIXES = ("server.", "http.inference.", "overload.")
_SCRAPES = 4
"""Most scrapes at once; one more gets 503."""
_TYPE = "type.googleapis.com/envoy.extensions."
_EDGES_MILLISECONDS = [round(1000 * edge, 3) for edge in EDGES_SECONDS]
_FOR_EVER_MILLISECONDS = 1e9  # the upper edge of the last bin


def kept() -> Config:
    """Keep the few statistics that something reads: thousands of clusters have hundreds each otherwise.

    `upstream_rq_active` is what the fence watches: it exists until the last request of its cluster is gone.
    Of rollouts only routes have statistics, and only those that are given a name for it.
    """
    suffixes = ["upstream_rq_active", "upstream_rq_total", "upstream_cx_active", "downstream_rq_active"]
    suffixes += [f"|{GRPC}.{GRPC_FAILED}"]
    rollouts = [{"contains": f".route.{routes}_"} for routes in (OWN_ROUTES, CANDIDATE_ROUTES)]
    patterns = [{"suffix": suffix} for suffix in suffixes] + [{"prefix": prefix} for prefix in _PREFIXES]
    return {
        "stats_matcher": {"inclusion_list": {"patterns": patterns + rollouts}},
        "histogram_bucket_settings": [
            {"match": match, "buckets": [*_EDGES_MILLISECONDS, _FOR_EVER_MILLISECONDS]} for match in rollouts
        ],
    }


def listener(settings: Settings) -> Config:
    """Return the listener that a Prometheus scrapes: GET of one path, and 404 to all else.

    The rest of the admin interface can stop Envoy; no request is ever sent there under another path.
    """
    return {
        "name": "statistics",
        "address": {"socket_address": {"address": settings.address, "port_value": settings.statistics_port}},
        # An overloaded gateway is worth looking at.
        "ignore_global_conn_limit": True,
        "bypass_overload_manager": True,
        "filter_chains": [
            {
                "filters": [
                    {
                        "name": "envoy.filters.network.http_connection_manager",
                        "typed_config": _connection_manager(),
                    }
                ]
            }
        ],
    }


def admin_cluster(settings: Settings) -> Config:
    """Return the cluster of Envoy's own admin interface, behind its Unix socket."""
    bound = {"max_connections": _SCRAPES, "max_pending_requests": _SCRAPES, "max_requests": _SCRAPES}
    endpoint = {"address": {"pipe": {"path": str(settings.admin_socket)}}}
    return {
        "name": ADMIN_CLUSTER,
        "type": "STATIC",
        "connect_timeout": "1s",
        "circuit_breakers": {"thresholds": [bound]},
        "load_assignment": {
            "cluster_name": ADMIN_CLUSTER,
            "endpoints": [{"lb_endpoints": [{"endpoint": endpoint}]}],
        },
    }


def _connection_manager() -> Config:
    return {
        "@type": _TYPE + "filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "statistics",
        "route_config": {
            "name": "statistics",
            "virtual_hosts": [{"name": "statistics", "domains": ["*"], "routes": [_route()]}],
        },
        "http_filters": [
            {
                "name": "envoy.filters.http.router",
                "typed_config": {"@type": _TYPE + "filters.http.router.v3.Router"},
            }
        ],
        "use_remote_address": True,
        "request_headers_timeout": "10s",
        "stream_idle_timeout": "30s",
        "common_http_protocol_options": {"idle_timeout": "120s"},
    }


def _route() -> Config:
    # `:path` and not `path` alone, which leaves a query out: a client's could widen ours.
    exactly = {":path": STATISTICS_PATH, ":method": "GET"}
    headers = [{"name": name, "string_match": {"exact": value}} for name, value in exactly.items()]
    # Nothing whose number grows with what is awake: that is in the agents' own figures.
    names = "|".join(prefix.replace(".", r"\.") for prefix in _PREFIXES)
    return {
        "match": {"path": STATISTICS_PATH, "headers": headers},
        "route": {
            "cluster": ADMIN_CLUSTER,
            "prefix_rewrite": f"{STATISTICS_PATH}?usedonly&filter=^({names})",
            "timeout": "10s",
        },
    }
