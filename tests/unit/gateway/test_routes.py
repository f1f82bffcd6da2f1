"""What Envoy is told of a service: how its requests are shared between revisions and their replicas."""

import pytest
from envoy.config.route.v3 import route_pb2

# Their Any messages are read back by type.
from envoy.extensions.filters.http.lua.v3 import lua_pb2  # noqa: F401
from google.protobuf import json_format
from xds.type.v3 import typed_struct_pb2  # noqa: F401

from lull.gateway import routes
from lull.gateway.settings import SHADOW_CLUSTER
from lull.gateway.traffic import OWN_ROUTES, routes_name
from lull.gateway.view import Lease, Service, Targets

SERVICE = Service("demo/digits", "digits", 60.0, 1000, None)
OWN = tuple(Lease(f"own-{n}", 1) for n in range(3))
NEW = tuple(Lease(f"new-{n}", 1) for n in range(2))


def made(targets):
    """Return the routes of a service with these targets, as Envoy would read them."""
    table = route_pb2.RouteConfiguration.FromString(routes.virtual_host(SERVICE, targets, "lull.localhost"))
    return json_format.MessageToDict(table, preserving_proto_field_name=True)["virtual_hosts"][0]["routes"]


@pytest.mark.parametrize("percent", [1, 30, 99])
def test_the_candidates_routes_take_its_share_before_the_own_ones_take_the_rest(percent):
    routes_ = made(Targets(OWN, NEW, "r2", percent))
    share, compared, rest = routes_[:4], routes_[4:8], routes_[8:]
    for route in share:
        draw = route["match"]["runtime_fraction"]["default_value"]
        assert draw == {"numerator": percent * 10_000, "denominator": "MILLION"}
    assert compared == with_counting(made(Targets(OWN))[:4])
    assert rest == made(Targets(OWN)), "uncounted: what the candidate failed"


def with_counting(own):
    """Return routes as they are for what is compared with the candidate's share."""
    again = {"name": routes.AGAIN_HEADER, "present_match": True, "invert_match": True}
    for route in own:
        route["match"]["headers"].append(again)
        route["stat_prefix"] = routes_name(OWN_ROUTES, "r2")
        if "grpc" in route["match"]:
            enabled = {
                "@type": "type.googleapis.com/envoy.config.route.v3.FilterConfig",
                "config": {},
            }
            route["typed_per_filter_config"]["lull.outcome"] = enabled
    return own


def test_its_replicas_get_it_evenly_and_what_they_fail_comes_in_again():
    for route in made(Targets(OWN, NEW, "r2", 10))[:4]:
        protocol = "grpc" if "grpc" in route["match"] else "http"
        specifier = route["route"]["inline_cluster_specifier_plugin"]["extension"]["typed_config"]["value"]
        clusters = [
            {(cluster["cluster_name"], cluster["weight"]) for cluster in group["clusters"]}
            for group in specifier["priority_groups"]
        ]
        assert clusters == [
            {(lease.cluster(protocol), 1.0) for lease in NEW},
            {(routes.AGAIN_CLUSTERS[protocol], 1.0)},
        ]


def test_without_a_share_nothing_leads_to_it():
    assert made(Targets(OWN, NEW, "r2")) == made(Targets(OWN))


def test_only_inference_is_copied_for_the_shadow():
    copied = [
        route["match"]["path"]
        for route in made(Targets(OWN, NEW, "r2", 0, 20))
        for mirror in route["route"].get("request_mirror_policies", [])
        if mirror["cluster"] == SHADOW_CLUSTER
    ]
    assert copied == ["/v2/models/digits/infer", "/inference.GRPCInferenceService/ModelInfer"]
