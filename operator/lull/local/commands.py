"""`lull local`: bring a local cluster up, look at it, end it."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Annotated, Any, ParamSpec

import typer

from lull.local import prometheus as local_prometheus
from lull.local.cluster import Cluster, Nodes
from lull.local.errors import LocalClusterError
from lull.local.node.images import read_table

app = typer.Typer(
    help="A real Kubernetes control plane and process nodes on this machine: no root, no containers.",
    no_args_is_help=True,
)

Name = Annotated[str, typer.Option(help="Which cluster; several can run side by side.")]
P = ParamSpec("P")


def explained(command: Callable[P, None]) -> Callable[P, None]:
    """A command whose errors are one message to the user and exit code 1."""

    @wraps(command)
    def run(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            command(*args, **kwargs)
        except LocalClusterError as error:
            typer.echo(f"Error: {error}", err=True)
            raise typer.Exit(1) from error

    return run


@app.command(
    epilog="Examples:  lull local up  |  lull local up --gpu-nodes 1 --gpus-per-node 2 --images images.yaml"
    " --manifests manifests/overlays/local"
)
@explained
def up(
    name: Name = "lull",
    cpu_nodes: Annotated[int | None, typer.Option(min=0, help="Nodes without a GPU. [default: 1]")] = None,
    gpu_nodes: Annotated[
        int | None, typer.Option(min=0, help="Nodes with simulated GPUs. [default: 0]")
    ] = None,
    gpus_per_node: Annotated[int, typer.Option(min=1, help="nvidia.com/gpu of each GPU node.")] = 1,
    images: Annotated[
        Path | None,
        typer.Option(
            exists=True,
            dir_okay=False,
            help="Table of what each image is (YAML); ${NAME} in it is taken from the environment.",
        ),
    ] = None,
    manifests: Annotated[
        list[Path] | None,
        typer.Option(exists=True, file_okay=False, help="Kustomization to apply once it is up; repeatable."),
    ] = None,
) -> None:
    """Start whatever of the cluster does not run, and wait until it is ready.

    The first time it builds Kubernetes and etcd from source (about 5 minutes on 2 cores). Without
    options, an existing cluster keeps its nodes and images.
    """
    cluster = Cluster(name)
    nodes = None
    if cpu_nodes is not None or gpu_nodes is not None or images is not None:
        nodes = Nodes(
            1 if cpu_nodes is None else cpu_nodes,
            gpu_nodes or 0,
            gpus_per_node,
            read_table(images, os.environ) if images else {},
        )
    cluster.up(nodes)
    for folder in manifests or []:
        cluster.apply(folder)
    typer.echo(f"Ready. To use it:\n  export KUBECONFIG={cluster.kubeconfig}")
    typer.echo(f"  export PATH={cluster.binaries['kubectl'].parent}:$PATH")


@app.command(epilog="Example:  lull local down --name test")
@explained
def down(name: Name = "lull") -> None:
    """End every process of the cluster and remove its folder."""
    Cluster(name).down()


@app.command(epilog="Example:  lull local status -o json")
@explained
def status(
    name: Name = "lull",
    output: Annotated[str, typer.Option("-o", "--output", help="table or json")] = "table",
) -> None:
    """Show what runs. The exit code is 0 when all of it is ready, else 1."""
    found = Cluster(name).status()
    typer.echo(json.dumps(found, indent=2) if output == "json" else _table(found))
    if not found["ready"]:
        raise typer.Exit(1)


@app.command(epilog="Example:  export KUBECONFIG=$(lull local kubeconfig)")
@explained
def kubeconfig(name: Name = "lull") -> None:
    """Print the path of the administrator's kubeconfig."""
    cluster = Cluster(name)
    if not cluster.exists:
        raise LocalClusterError(f"There is no cluster {name!r}. Start it with `lull local up`.")
    typer.echo(cluster.kubeconfig)


@app.command(epilog="Example:  lull local prometheus manifests/components/monitoring")
@explained
def prometheus(
    manifests: Annotated[
        list[Path],
        typer.Argument(exists=True, help="Files or folders with PodMonitors and PrometheusRules (YAML)."),
    ],
    name: Name = "lull",
) -> None:
    """Watch a cluster with a Prometheus of its own, and print its URL. It ends with the cluster.

    The first time it builds Prometheus from source (about 3 minutes on 2 cores). Run again, it takes
    the manifests as they are then, and keeps what it has stored.
    """
    typer.echo(local_prometheus.start(Cluster(name), local_prometheus.read_manifests(manifests)))


@app.command(epilog="Example:  lull local logs kube-apiserver -f")
@explained
def logs(
    program: Annotated[str, typer.Argument(help="A program of the control plane, or `nodes`.")],
    name: Name = "lull",
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on until interrupted.")] = False,
) -> None:
    """Show the log of one of the cluster's own programs; those of Pods are in `kubectl logs`."""
    path = Cluster(name).log(program)
    try:
        subprocess.run(["/usr/bin/env", "tail", "-n", "1000", *(["-f"] if follow else []), path], check=False)
    except KeyboardInterrupt:
        return


def _table(found: dict[str, Any]) -> str:
    if not found["programs"]:
        return f"There is no cluster {found['name']!r}. Start it with `lull local up`."
    rows = [(name, state) for name, state in found["programs"].items()]
    for node in found["nodes"]:
        gpus = node["simulated_gpus"]
        suffix = f", {gpus} simulated GPU{'s' if gpus > 1 else ''}" if gpus else ""
        rows.append((f"node {node['name']}", ("ready" if node["ready"] else "not ready") + suffix))
    width = max(len(row[0]) for row in rows)
    lines = [f"{first.ljust(width)}  {second}" for first, second in rows]
    return "\n".join([*lines, "", f"KUBECONFIG={found['kubeconfig']}"])
