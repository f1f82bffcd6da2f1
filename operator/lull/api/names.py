"""Names that more than one program has to spell alike."""

GROUP = "lull.dev"
VERSION = "v1alpha1"
API_VERSION = f"{GROUP}/{VERSION}"

SYSTEM_NAMESPACE = "lull-system"
"""Where the controller and the gateways run."""
HOSTS_NAMESPACE = "lull-hosts"
"""Where every host pod runs; users have no rights in it."""

CONTROLLER_FIELD_MANAGER = "lull-controller"

LABEL_POOL = f"{GROUP}/pool"
LABEL_HOST = f"{GROUP}/host"
ANNOTATION_DRAIN = f"{GROUP}/drain"
"""`true` on a ModelHost: an admin wants it emptied. Its models move, and it takes no new ones meanwhile."""
ANNOTATION_USED = f"{GROUP}/used"
"""`true` on a Node that has hosts of ours, or has had some."""
ANNOTATION_EMPTY_SINCE = f"{GROUP}/empty-since"
"""On a Node that has had hosts and has none: since when. For people and tools that take nodes away by it."""

ANNOTATION_ROLLOUT = f"{GROUP}/rollout"
"""On a ModelService, its user's word on a rollout: `promote REVISION` or `abort REVISION`."""
AGAIN = "again"
"""Behind that word where the very same one stands there from an earlier rollout, of which it was said."""
ANNOTATION_EVALUATED = f"{GROUP}/evaluated"
"""On a ModelService, what `lull evaluate` found of a revision: `REVISION ACCURACY`, in percent."""
REVISION_HEADER = "x-lull-revision"
"""On an answer: the revision that gave it. On a request: the one of a rollout that is to give it."""

TRITON_HTTP_PORT = 8000
TRITON_GRPC_PORT = 8001
TRITON_METRICS_PORT = 8002
AGENT_PORT = 8080
GATEWAY_PORT = 8080
PILOT_PORT = 8081
ENVOY_STATS_PORT = 8082
"""Envoy's own statistics, for Prometheus."""

GATEWAY_HEARTBEAT_SECONDS = 5.0
GATEWAY_STALE_SECONDS = 20.0
"""A gateway whose heartbeat is older than this no longer demands anything (it still postpones fences)."""
DELAYED_SECONDS = 0.1
"""A request is delayed if it waits longer than this for its model: a load or a host, not a mere hop.

A free rider is routed again in less. Were that counted too, hosts would be kept for what they do not spare.
"""


def drained_claim(placement_id: str, epoch: int) -> str:
    """Return the entry by which a gateway says that it let go of a placement, as of the drain `epoch`."""
    return f"{placement_id}.{epoch}"
