"""What wakes take, as learned: the seconds of a load by service, and of a new host by pool."""

from lull.policy.changes import Draft
from lull.policy.fleet import Service

DEFAULT_LOAD_SECONDS = 10.0
"""Of a model that was never loaded; assumed."""
DEFAULT_HOST_START_SECONDS = 60.0
"""Of a pool that never had a host: a node with an accelerator that has the image; assumed."""


def load_seconds(draft: Draft, service: Service) -> float:
    """Return how long a load of a service takes on a host that is there."""
    return DEFAULT_LOAD_SECONDS


def host_start_seconds(draft: Draft, pool: str) -> float:
    """Return how long a new host of a pool takes until it can load."""
    return DEFAULT_HOST_START_SECONDS


def coldest_wake_seconds(draft: Draft, service: Service) -> float:
    """Return how long a wake takes where not even a host is there."""
    return host_start_seconds(draft, service.pool) + load_seconds(draft, service)
