"""Which calls the gateway lets through: inference, metadata and health of the one model a host serves.

The virtual host of an awake service (`lull.gateway.routes`) knows the allowed paths as matchers; whatever
they do not match comes here too, so the words of a refusal stand in one place.
"""

import re
from dataclasses import dataclass
from enum import Enum, auto

from lull.api.names import REVISION_HEADER

GRPC_SERVICE = "inference.GRPCInferenceService"
GRPC_SERVER_METHODS = ("ServerLive", "ServerReady", "ServerMetadata")
GRPC_MODEL_METHODS = ("ModelInfer", "ModelStreamInfer", "ModelReady", "ModelMetadata")

HTTP_SERVER_PATHS = r"/v2/?|/v2/health/(live|ready)"
HTTP_MODEL_SUFFIX = r"(/versions/[0-9]+)?(/(infer|generate|generate_stream|ready))?"

_SERVER = re.compile(HTTP_SERVER_PATHS)
_MODEL = re.compile(rf"/v2/models/([^/]+){HTTP_MODEL_SUFFIX}")
_MODEL_NAME = re.compile(r"/v2/models/([^/]+)(/.*)?")
_CONTROL_PATH = re.compile(
    r"/v2/(repository|systemsharedmemory|cudasharedmemory|trace|logging|models/stats)(/.*)?"
    r"|/v2/models/[^/]+(/versions/[^/]+)?/(config|stats|trace)(/.*)?"
)
_CONTROL_METHOD = re.compile(
    r"(Repository|SystemSharedMemory|CudaSharedMemory|Trace|Log)\w*|ModelConfig|ModelStatistics"
)
_CONTROL_MESSAGE = (
    "refused: through the gateway a model answers inference, metadata and health only; "
    "repository, configuration, statistics, shared memory, trace and logging are Lull's own"
)


class Call(Enum):
    """What an allowed call asks for; only `MODEL` is worth waking a model."""

    MODEL = auto()
    LIVE = auto()
    READY = auto()


@dataclass(frozen=True, slots=True)
class Refused:
    """An answer other than the model's, as HTTP status and as gRPC status."""

    http_status: int
    grpc_status: int
    message: str
    reason: str
    retry_after_seconds: int | None = None


GRPC_NOT_FOUND = 5
GRPC_PERMISSION_DENIED = 7
GRPC_UNIMPLEMENTED = 12
GRPC_UNAVAILABLE = 14


def is_grpc(content_type: str) -> bool:
    """Tell a gRPC request as Envoy does: `application/grpc`, alone or with `+proto` or parameters."""
    return content_type.startswith("application/grpc") and content_type[16:17] in ("", "+", ";")


def judge_http(path: str, model: str) -> Call | Refused:
    """Judge an HTTP call by its path, query included, against the wire name of the host's model."""
    path = path.partition("?")[0]
    if _CONTROL_PATH.fullmatch(path):
        return Refused(403, GRPC_PERMISSION_DENIED, _CONTROL_MESSAGE, "Forbidden")
    if _SERVER.fullmatch(path):
        return {"/v2/health/live": Call.LIVE, "/v2/health/ready": Call.READY}.get(path, Call.MODEL)
    named = _MODEL_NAME.fullmatch(path)
    if named and named[1] != model:
        return other_model(model)
    if _MODEL.fullmatch(path):
        return Call.READY if path.endswith("/ready") else Call.MODEL
    return _not_found(f"no such path; try /v2/models/{model} or /v2/models/{model}/infer")


def judge_grpc(path: str) -> Call | Refused:
    """Judge a gRPC call by its method; the name inside its message is the guard's to check."""
    service, _, method = path.removeprefix("/").partition("/")
    if service == GRPC_SERVICE:
        if _CONTROL_METHOD.fullmatch(method):
            return Refused(403, GRPC_PERMISSION_DENIED, _CONTROL_MESSAGE, "Forbidden")
        if method in GRPC_MODEL_METHODS or method in GRPC_SERVER_METHODS:
            return {"ServerLive": Call.LIVE, "ServerReady": Call.READY, "ModelReady": Call.READY}.get(
                method, Call.MODEL
            )
    return Refused(404, GRPC_UNIMPLEMENTED, f"no such method; this is {GRPC_SERVICE}", "NotFound")


def unknown_service(host: str, domain: str) -> Refused:
    """Return the answer to a host name that is no service's."""
    return _not_found(
        f"no service answers at {host[:253]!r}; a service's host is <name>.<namespace>.{domain}, "
        "its path /<namespace>/<name>/v2/..."
    )


def other_model(model: str) -> Refused:
    """Return the answer to a request for any other model than the host's."""
    return _not_found(f"this host serves the model {model!r} and no other")


def unknown_revision(service: str, revision: str) -> Refused:
    """Return the answer to a request that names a revision which answers nothing now."""
    return _not_found(
        f"no revision {revision[:63]!r} of {service} answers; leave out {REVISION_HEADER}, or see the "
        "service's status.revisions for the one that serves"
    )


def _not_found(message: str) -> Refused:
    return Refused(404, GRPC_NOT_FOUND, message, "NotFound")
