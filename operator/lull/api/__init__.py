"""The four kinds of `lull.dev/v1alpha1`: the contract in which every part of Lull meets.

`crds/` is generated from these models (`python -m lull.api.crd`); nothing here does I/O.
"""

from lull.api.gateway import ModelGateway, ModelGatewayStatus
from lull.api.host import HostModel, HostModelStatus, ModelHost, ModelHostSpec, ModelHostStatus
from lull.api.meta import Condition
from lull.api.pool import ModelPool, ModelPoolSpec, ModelPoolStatus
from lull.api.service import ModelService, ModelServiceSpec, ModelServiceStatus

__all__ = [
    "Condition",
    "HostModel",
    "HostModelStatus",
    "ModelGateway",
    "ModelGatewayStatus",
    "ModelHost",
    "ModelHostSpec",
    "ModelHostStatus",
    "ModelPool",
    "ModelPoolSpec",
    "ModelPoolStatus",
    "ModelService",
    "ModelServiceSpec",
    "ModelServiceStatus",
]
