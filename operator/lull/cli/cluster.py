"""The user's cluster: where it is, which namespace is meant, and what to do where it refuses."""

import os
from pathlib import Path

from kubernetes.aio import config as kube_config
from kubernetes.aio.config import ConfigException

from lull.kube import ApiError, Kube


class UnreadableError(Exception):
    """The cluster does not give or take what was asked; the message says what to do."""


async def connect() -> Kube:
    """Return a client of the cluster that $KUBECONFIG names, else ~/.kube/config, else of the Pod's own.

    Raises:
        UnreadableError: there is no such cluster.
    """
    if "KUBECONFIG" not in os.environ and (usual := _usual()).exists():
        os.environ["KUBECONFIG"] = str(usual)
    try:
        return await Kube.connect()
    except (ConfigException, OSError) as error:
        raise UnreadableError(
            f"no cluster to ask: {error}. Set KUBECONFIG to your cluster's file."
        ) from error


def present_namespace() -> str:
    """Return the namespace of kubectl's present context, else `default`."""
    try:
        _, active = kube_config.list_kube_config_contexts(os.environ.get("KUBECONFIG", str(_usual())))
    except (ConfigException, OSError):
        return "default"
    return str((active.get("context") or {}).get("namespace") or "default")


def advice(error: ApiError, right: str, instead: str) -> str:
    """Say what an error means to the user.

    Args:
        error: what the API server said.
        right: what the user may not do, if it is that.
        instead: what to do then.
    """
    if error.status == 0:
        return f"the cluster is not reachable: {error.message}. Is it up, and is KUBECONFIG the right one?"
    if error.status == 401:
        return "the cluster does not know you: log in again, or set KUBECONFIG to credentials that are valid."
    if error.status == 403:
        return f"you may not {right}: {instead}."
    if error.status == 404:
        return "this cluster knows no ModelService: install Lull there, or set KUBECONFIG to another cluster."
    return f"the API server refused: {error}. Try again; if it stays so, look at the API server."


def _usual() -> Path:
    return Path.home() / ".kube" / "config"
