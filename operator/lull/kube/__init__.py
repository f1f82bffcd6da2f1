"""The Kubernetes API in plain dicts: a thin client and the reflector that keeps a kind in memory.

`kubernetes.aio` finds the cluster and the credentials; its models are left out, because they drop fields they
do not know and parse 20 times slower than `json.loads`.
"""

from lull.kube.client import ApiError, Kube, load_configuration
from lull.kube.reflector import Reflector
from lull.kube.resources import (
    CONFIGMAPS,
    EVENTS,
    LEASES,
    MODELGATEWAYS,
    MODELHOSTS,
    MODELPOOLS,
    MODELSERVICES,
    NODES,
    PODS,
    PRIORITYCLASSES,
    Resource,
)

__all__ = [
    "CONFIGMAPS",
    "EVENTS",
    "LEASES",
    "MODELGATEWAYS",
    "MODELHOSTS",
    "MODELPOOLS",
    "MODELSERVICES",
    "NODES",
    "PODS",
    "PRIORITYCLASSES",
    "ApiError",
    "Kube",
    "Reflector",
    "Resource",
    "load_configuration",
]
