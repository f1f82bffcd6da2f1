"""The Pod of a host: Triton and its agent as restricted Pod Security wants them, and what the pool adds."""

import json
from typing import TypeGuard
from urllib.parse import urlsplit

from lull.api.names import (
    AGENT_PORT,
    API_VERSION,
    HOSTS_NAMESPACE,
    LABEL_HOST,
    LABEL_POOL,
    TRITON_GRPC_PORT,
    TRITON_HTTP_PORT,
    TRITON_METRICS_PORT,
)
from lull.api.quantities import parse_bytes
from lull.controller.wire import Object, host_memory_bytes, power_profile

TERMINATION_SECONDS = 330
"""Longer than the default drain deadline, so that a drain ends before the kubelet does."""
USER_ID = 65532

_RESTRICTED: Object = {
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
}
_TOKEN_PATH = "/var/run/secrets/kubernetes.io/serviceaccount"  # noqa: S105
_CREDENTIALS_PATH = "/var/lib/lull/credentials"
_CLAIMS_PATH = "/var/lib/lull/claims"
_STORE_PATH = "/var/lib/lull/store"
_STORE_BYTES = 64 << 30
"""What a host keeps of models, those on their way included."""
_STORE_SPARE_BYTES = 1 << 30
"""What the agent does not count: blocks, folders, its journal and Triton's configurations."""
_HOST_NAME = "lull-host"
_NOT_TO_BE_MOVED = {
    # Lull empties nodes itself, without losing a request; the cluster's autoscaler finds them empty.
    "cluster-autoscaler.kubernetes.io/safe-to-evict": "false",
    "karpenter.sh/do-not-disrupt": "true",
}
_PATHS = {
    "LULL_ARTIFACTS": _STORE_PATH,
    "LULL_CONTROL": "/run/lull",
    "LULL_FILES": "/var/lib/lull/files",
}


def host_pod(host: Object, pool: Object, image: str) -> Object:
    """Return the Pod of a ModelHost, built from its ModelPool; both as the API server gives them."""
    metadata = host["metadata"]
    pod: Object = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {
            "name": metadata["name"],
            "namespace": HOSTS_NAMESPACE,
            "labels": {
                "app.kubernetes.io/name": _HOST_NAME,
                LABEL_HOST: metadata["name"],
                LABEL_POOL: pool["metadata"]["name"],
            },
            "annotations": _NOT_TO_BE_MOVED,
            "ownerReferences": [
                {
                    "apiVersion": API_VERSION,
                    "kind": "ModelHost",
                    "name": metadata["name"],
                    "uid": metadata["uid"],
                    "controller": True,
                    "blockOwnerDeletion": True,  # see Executor._delete_host
                }
            ],
        },
        "spec": _pod_spec(metadata["name"], pool, image),
    }
    return _with_template(pod, pool["spec"].get("template") or {})


def _pod_spec(name: str, pool: Object, image: str) -> Object:
    return {
        "serviceAccountName": "lull-agent",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": TERMINATION_SECONDS,
        "affinity": {"podAffinity": _near_other_hosts(pool["metadata"]["name"])},
        "securityContext": {
            "runAsNonRoot": True,
            "runAsUser": USER_ID,
            "runAsGroup": USER_ID,
            "fsGroup": USER_ID,
            "fsGroupChangePolicy": "OnRootMismatch",  # a large `files` volume is not walked at every wake
            "seccompProfile": {"type": "RuntimeDefault"},
        },
        "initContainers": [_agent(pool, image)],
        "containers": [_triton(name, pool["spec"], image)],
        "volumes": _volumes(pool["spec"]),
    }


def _near_other_hosts(pool: str) -> Object:
    """Prefer nodes that have hosts already, those of the same pool most: so that other nodes become empty.

    The scheduler gives this twice the weight of its own wish to spread.
    """
    weights = {100: {LABEL_POOL: pool}, 50: {"app.kubernetes.io/name": _HOST_NAME}}
    return {
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {
                "weight": weight,
                "podAffinityTerm": {
                    "labelSelector": {"matchLabels": labels},
                    "topologyKey": "kubernetes.io/hostname",
                },
            }
            for weight, labels in weights.items()
        ]
    }


def _agent(pool: Object, image: str) -> Object:
    spec = pool["spec"]
    memory_bytes = host_memory_bytes("accelerator" in spec, spec)
    env = {
        "LULL_POOL": pool["metadata"]["name"],
        "LULL_MEMORY_BYTES": str(memory_bytes),
        "LULL_ARTIFACTS_BYTES": str(_store_bytes(spec)),
        **_PATHS,
        **_power(pool),
        **_places(spec),
    }
    return {
        "name": "agent",
        "image": image,
        "command": ["lull-agent"],
        "restartPolicy": "Always",
        "env": _env(env),
        "ports": [{"name": "agent", "containerPort": AGENT_PORT}],
        "startupProbe": _probe("/healthz", AGENT_PORT, period_seconds=1, failures=60),
        "readinessProbe": _probe("/readyz", AGENT_PORT, period_seconds=2, failures=3),
        "livenessProbe": _probe("/healthz", AGENT_PORT, period_seconds=10, failures=6),
        "resources": {"requests": {"cpu": "100m", "memory": "256Mi"}, "limits": {"memory": "1Gi"}},
        "securityContext": _RESTRICTED,
        "volumeMounts": [
            # One volume, so that models are linked into the repository and not copied. Where the pool stages
            # it is the node's: only agents see all of it.
            _mount("store", _STORE_PATH),
            _mount("control", _PATHS["LULL_CONTROL"]),
            _mount("files", _PATHS["LULL_FILES"], read_only=True),
            _mount("token", _TOKEN_PATH, read_only=True),
            _mount("agent-tmp", "/tmp"),  # noqa: S108  its own: what it verifies with is not for models
            *(_mount(volume["name"], path, read_only=True) for path, volume in _stores(spec).items()),
        ],
    }


def _places(spec: Object) -> dict[str, str]:
    """Return where the agent finds what the pool's stores ask for, and its claims."""
    told: dict[str, str] = {}
    if spec.get("credentials"):
        told["LULL_CREDENTIALS"] = _CREDENTIALS_PATH
    if _claims(spec):
        told["LULL_CLAIMS"] = json.dumps({claim: f"{_CLAIMS_PATH}/{claim}" for claim in _claims(spec)})
    return told


def _stores(spec: Object) -> dict[str, Object]:
    """Return the volumes that only the agent sees, by where it sees them: secrets, and claims of models.

    Without its Secret a host starts all the same: models of open stores need none.
    """
    found = {
        f"{_CLAIMS_PATH}/{claim}": {
            "name": f"claim-{number}",
            "persistentVolumeClaim": {"claimName": claim, "readOnly": True},
        }
        for number, claim in enumerate(_claims(spec))
    }
    if spec.get("credentials"):
        secret = {"secretName": spec["credentials"]["secretName"], "optional": True, "defaultMode": 0o440}
        found[_CREDENTIALS_PATH] = {"name": "credentials", "secret": secret}
    return found


def _claims(spec: Object) -> list[str]:
    """Return the volume claims that the pool lets its hosts load from."""
    uris = (spec.get("allow") or {}).get("uris", [])
    return sorted({urlsplit(uri).netloc for uri in uris if uri.startswith("pvc://")} - {""})


def _power(pool: Object) -> dict[str, str]:
    """Return what the agent is told of the host's draw; nothing where that is not known."""
    power = power_profile(pool)
    if power is None:
        return {}
    watts = {
        "idle": power.idle_watts,
        "context": power.context_watts,
        "max": power.max_watts,
        "node": power.node_watts,
    }
    return {"LULL_POWER": json.dumps({part: float(value) for part, value in watts.items()})}


def _store_bytes(spec: Object) -> int:
    """Return how much the models in the store may take, those on their way included."""
    staging = spec.get("staging")
    return parse_bytes(staging["size"]) if staging else _STORE_BYTES


def _triton(name: str, spec: Object, image: str) -> Object:
    repository = f"hosts/{name}/repository"
    env = {"LULL_REPOSITORY": f"{_STORE_PATH}/{repository}", "LULL_CONTROL": _PATHS["LULL_CONTROL"]}
    if spec.get("idleClocks") == "Low":
        env["CUDA_DISABLE_PERF_BOOST"] = "1"
    live = "/v2/health/live"
    ports = {"http": TRITON_HTTP_PORT, "grpc": TRITON_GRPC_PORT, "metrics": TRITON_METRICS_PORT}
    return {
        "name": "triton",
        "image": image,
        "command": ["lull-triton"],
        # A Pod that is deleted (evicted, say) goes on serving until the gateways have let go of it.
        "lifecycle": {"preStop": {"exec": {"command": ["lull-triton", "drain"]}}},
        "env": _env(env),
        "ports": [{"name": name, "containerPort": port} for name, port in ports.items()],
        "startupProbe": _probe(live, TRITON_HTTP_PORT, period_seconds=1, failures=300),
        "readinessProbe": _probe(live, TRITON_HTTP_PORT, period_seconds=2, failures=3),
        "livenessProbe": _probe(live, TRITON_HTTP_PORT, period_seconds=10, failures=6),
        "resources": _resources(spec),
        "securityContext": _RESTRICTED,
        "volumeMounts": [
            _mount("store", env["LULL_REPOSITORY"], read_only=True) | {"subPath": repository},
            _mount("control", _PATHS["LULL_CONTROL"], read_only=True),
            _mount("shm", "/dev/shm"),  # noqa: S108
            _mount("tmp", "/tmp"),  # noqa: S108
        ],
    }


def _resources(spec: Object) -> Object:
    requests: Object = {name: spec[name] for name in ("cpu", "memory") if spec.get(name)}
    limits: Object = {"memory": spec["memory"]} if spec.get("memory") else {}
    accelerator = spec.get("accelerator")
    if accelerator:
        limits[accelerator.get("resource", "nvidia.com/gpu")] = str(accelerator.get("count", 1))
    return {"requests": requests, "limits": limits}


def _volumes(spec: Object) -> list[Object]:
    token: Object = {
        "sources": [
            {"serviceAccountToken": {"path": "token", "expirationSeconds": 3607}},
            {"configMap": {"name": "kube-root-ca.crt", "items": [{"key": "ca.crt", "path": "ca.crt"}]}},
            {
                "downwardAPI": {
                    "items": [{"path": "namespace", "fieldRef": {"fieldPath": "metadata.namespace"}}]
                }
            },
        ]
    }
    store: Object = {"name": "store", "emptyDir": {"sizeLimit": str(_STORE_BYTES + _STORE_SPARE_BYTES)}}
    if spec.get("staging"):
        store = {"name": "store", "persistentVolumeClaim": {"claimName": spec["staging"]["claimName"]}}
    scratch: list[Object] = [
        {"name": name, "emptyDir": {}} for name in ("control", "files", "agent-tmp", "tmp")
    ]
    shm: Object = {"name": "shm", "emptyDir": {"medium": "Memory", "sizeLimit": "1Gi"}}
    return [store, *scratch, shm, {"name": "token", "projected": token}, *_stores(spec).values()]


def _env(values: dict[str, str]) -> list[Object]:
    fields = {
        "POD_NAME": "metadata.name",
        "POD_NAMESPACE": "metadata.namespace",
        "POD_IP": "status.podIP",
        "NODE_NAME": "spec.nodeName",
    }
    downward = [
        {"name": name, "valueFrom": {"fieldRef": {"fieldPath": path}}} for name, path in fields.items()
    ]
    return downward + [{"name": name, "value": value} for name, value in values.items()]


def _mount(name: str, path: str, *, read_only: bool = False) -> Object:
    return {"name": name, "mountPath": path, "readOnly": read_only}


def _probe(path: str, port: int, *, period_seconds: int, failures: int) -> Object:
    return {
        "httpGet": {"path": path, "port": port},
        "periodSeconds": period_seconds,
        "timeoutSeconds": 2,
        "failureThreshold": failures,
    }


def _with_template(pod: Object, template: Object) -> Object:
    """Merge the pool's partial template over the Pod; names, owner and Lull's own labels stay."""
    own = pod["metadata"]
    merged = _merged(pod, {name: template[name] for name in ("metadata", "spec") if template.get(name)})
    metadata = merged["metadata"]
    metadata["labels"] = metadata["labels"] | own["labels"]
    metadata |= {name: own[name] for name in ("name", "namespace", "ownerReferences")}
    return merged


def _merged(base: Object, over: Object) -> Object:
    """Merge as `kubectl apply` would: objects by field, lists of named things by name, the rest replaced."""
    result = dict(base)
    for name, value in over.items():
        old = base.get(name)
        if isinstance(old, dict) and isinstance(value, dict):
            result[name] = _merged(old, value)
        elif _named(old) and _named(value):
            result[name] = _merged_by_name(old, value, whole=name == "volumes")
        else:
            result[name] = value
    return result


def _merged_by_name(base: list[Object], over: list[Object], *, whole: bool) -> list[Object]:
    """Merge lists by name; a volume is replaced whole, as two sources in one are refused."""
    by_name = {item["name"]: item for item in base}
    for item in over:
        old = by_name.get(item["name"], {})
        by_name[item["name"]] = item if whole else _merged(old, item)
    return list(by_name.values())


def _named(value: object) -> TypeGuard[list[Object]]:
    return isinstance(value, list) and all(isinstance(item, dict) and "name" in item for item in value)
