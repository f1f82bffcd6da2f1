"""ModelServices and ModelHosts as the API server gives them."""


def service_object(name, namespace="demo", **spec):
    """Return a ModelService as the API server would."""
    spec = {"model": {"uri": "file:///m.tar", "name": spec.pop("model", name)}, **spec}
    return {"metadata": {"name": name, "namespace": namespace, "generation": 1}, "spec": spec}


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


def placement(id_, service, name=None, *, epoch=1, state="Loaded", status="Ready"):
    """Return one model of a host."""
    name = name or service.partition("/")[2]
    return {"id": id_, "service": service, "name": name, "epoch": epoch, "state": state, "status": status}
