"""ModelServices and ModelHosts as the API server gives them."""


def service_object(name, namespace="demo", *, rollout=None, **spec):
    """Return a ModelService as the API server would; `rollout` is what its status says of one."""
    spec = {"model": {"uri": "file:///m.tar", "name": spec.pop("model", name)}, **spec}
    item = {"metadata": {"name": name, "namespace": namespace, "generation": 1}, "spec": spec}
    return item | ({"status": {"rollout": rollout}} if rollout else {})


def rollout(phase="Stepping", *, percent=0, shadow_percent=0):
    """Return a `status.rollout` of the stable revision `r1` and the candidate `r2`."""
    return {
        "stable": "r1",
        "candidate": "r2",
        "phase": phase,
        "percent": percent,
        "shadowPercent": shadow_percent,
    }


def host_object(address, *models):
    """Return a ModelHost; models are dicts with id, service, name, epoch, state and `status` (or None)."""
    return {
        "metadata": {"name": f"host-{address}"},
        "spec": {"models": [{k: v for k, v in model.items() if k != "status"} for model in models]},
        "status": {
            "address": address,
            "models": [
                {"id": model["id"], "service": model["service"], "state": model["status"]}
                for model in models
                if model.get("status")
            ],
        },
    }


def placement(id_, service, name=None, *, epoch=1, state="Loaded", status="Ready", revision="r1"):
    """Return one model of a host."""
    return {
        "id": id_,
        "service": service,
        "name": name or service.partition("/")[2],
        "revision": revision,
        "epoch": epoch,
        "state": state,
        "status": status,
    }
