"""`lull demo`: the whole way of one model, on this machine, with a newcomer looking on."""

import json
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from string import Template
from sysconfig import get_path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.table import Table

from lull.api.names import HOSTS_NAMESPACE
from lull.cli import stack
from lull.local.cluster import Cluster
from lull.local.commands import explained
from lull.local.errors import LocalClusterError

NAMESPACE, SERVICE = "demo", "digits"
NAMESPACE_MANIFEST = json.dumps({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}})
HOLD_SECONDS = 90.0
SLEEP_TIMEOUT_SECONDS = 120.0
PUBLISH_TIMEOUT_SECONDS = 300.0
SAMPLE = stack.ROOT / "manifests" / "samples" / "digits.yaml"

console = Console(highlight=False, stderr=False)


@dataclass(frozen=True)
class Answer:
    """One answered digit: what it was, what the network said, and how long it took."""

    digit: int
    prediction: int
    seconds: float


@explained
def demo(
    name: Annotated[str, typer.Option(help="Name of the local cluster.")] = "lull",
) -> None:
    """Bring a local cluster up, publish a network, wake it with a request, and watch it fall asleep again.

    Example: lull demo
    """
    cluster = Cluster(name, progress=lambda line: console.print(f"   [dim]{line}[/dim]"))
    _step(1, "A real Kubernetes control plane on this machine, with Lull in it")
    stack.up(cluster)
    gateway = stack.gateways(cluster)[0]

    _step(2, "Train a small network on handwritten digits, and publish it")
    digest = publish_digits(cluster)

    _step(3, "Apply a ModelService")
    manifest = Template(SAMPLE.read_text()).substitute(DIGEST=digest)
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=NAMESPACE_MANIFEST)
    cluster.kubectl("apply", "--server-side", "-f", "-", stdin=manifest)
    cluster.kubectl(
        "wait", "--for=condition=Ready", f"modelservice/{SERVICE}", "-n", NAMESPACE, "--timeout=30s"
    )
    _show(cluster)

    _step(4, "It sleeps. Send it a digit that it has never seen")
    image, digit = held_out_digit()
    first = ask(gateway, image, digit)
    _told(first)
    second = ask(gateway, image, digit)
    _told(second)
    _where_the_time_went(cluster, first, second)
    _show(cluster)

    _step(5, "Leave it alone: it falls asleep, and its host is let go")
    stack.wait_for(
        lambda: not cluster.get("modelhosts", "-n", HOSTS_NAMESPACE)["items"],
        "the host is still there: kubectl describe modelservice digits -n demo says why",
        SLEEP_TIMEOUT_SECONDS,
    )
    _show(cluster)
    _try_next(cluster, gateway)


def publish_digits(cluster: Cluster) -> str:
    """Train and publish the sample where `file:` URIs point, by `lull publish` itself; returns its digest.

    Raises:
        LocalClusterError: it failed, having said why on standard error, or took longer than 300 s.
    """
    out = stack.files(cluster) / "digits.tar"
    lull = f"{get_path('scripts')}/lull"
    command = [lull, "publish", "--sample", "digits", "--to", str(out), "-o", "json"]
    console.print("   [dim]$ lull publish --sample digits --to digits.tar[/dim]")
    try:
        done = subprocess.run(  # noqa: S603  (our own command)
            command, stdout=subprocess.PIPE, text=True, timeout=PUBLISH_TIMEOUT_SECONDS, check=True
        )
    except subprocess.SubprocessError as error:
        raise LocalClusterError(f"{error} Run `lull demo` again; the cluster stays up.") from error
    result = json.loads(done.stdout)
    console.print(f"   {result['accuracy']:.1%} of the held-out digits are told right", soft_wrap=True)
    console.print(f"   {result['digest']}", soft_wrap=True)
    return str(result["digest"])


def held_out_digit() -> tuple[np.ndarray[Any, Any], int]:
    """Return one digit that the network was not trained on: 1 × 1 × 32 × 32, and what it shows."""
    from lull_runtime.publish.digits import load_digits

    _, held_out = load_digits()
    return held_out.images[:1], int(held_out.labels[0])


def ask(gateway: str, image: np.ndarray[Any, Any], digit: int) -> Answer:
    """Send one image through the gateway as any Triton client does, over gRPC, by host name.

    Raises:
        NotInTimeError: there was no answer within 90 s, or it was an error.
    """
    import tritonclient.grpc as triton

    authority = f"{SERVICE}.{NAMESPACE}.lull.localhost"
    client = triton.InferenceServerClient(gateway, channel_args=[("grpc.default_authority", authority)])
    tensor = triton.InferInput("input", list(image.shape), "FP32")
    tensor.set_data_from_numpy(image)
    started = time.monotonic()
    try:
        result = client.infer(SERVICE, [tensor], client_timeout=HOLD_SECONDS)
    except triton.InferenceServerException as error:
        raise stack.NotInTimeError(
            f"the digit was not answered: {error}; "
            f"kubectl describe modelservice {SERVICE} -n {NAMESPACE} says why"
        ) from error
    seconds = time.monotonic() - started
    output = result.get_response().outputs[0].name
    return Answer(digit, int(np.argmax(result.as_numpy(output))), seconds)


def _where_the_time_went(cluster: Cluster, first: Answer, second: Answer) -> None:
    (host,) = cluster.get("modelhosts", "-n", HOSTS_NAMESPACE)["items"]
    (model,) = host["status"]["models"]
    load_seconds = float(model["loadSeconds"])
    parts = {
        "held: there was no host (pod, agent and Triton start)": first.seconds
        - load_seconds
        - second.seconds,
        "held: Triton loads the model": load_seconds,
        "infer, through the gateway": second.seconds,
    }
    table = Table("where the time went", "ms", box=None, padding=(0, 3))
    table.columns[1].justify = "right"
    for part, seconds in parts.items():
        table.add_row(part, f"{seconds * 1000:,.1f}")
    console.print(table)


def _told(answer: Answer) -> None:
    right = "right" if answer.prediction == answer.digit else "wrong"
    console.print(
        f"   a {answer.digit}; the network says [bold]{answer.prediction}[/bold] ({right}), "
        f"answered after [bold]{answer.seconds * 1000:,.1f} ms[/bold]"
    )


def _show(cluster: Cluster) -> None:
    console.print("   [dim]$ kubectl get modelservices,modelhosts -A[/dim]")
    console.print(_indented(cluster.kubectl("get", "modelservices,modelhosts", "-A")), soft_wrap=True)


def _try_next(cluster: Cluster, gateway: str) -> None:
    config = f"--kubeconfig {_short(cluster.kubeconfig)}"
    kubectl = _short(cluster.binaries["kubectl"])
    console.print("\n[bold]The cluster stays up. Three things to try:[/bold]")
    for command in (
        f"curl -s http://{gateway}/{NAMESPACE}/{SERVICE}/v2/models/{SERVICE}",
        f"{kubectl} {config} get modelservices,modelhosts -A -w",
        f"{kubectl} {config} explain modelservice.spec",
    ):
        console.print(f"  {command}", soft_wrap=True)
    console.print("`make demo-down` ends it.")


def _step(number: int, text: str) -> None:
    console.print(f"\n[bold]{number}. {text}[/bold]")


def _indented(text: str) -> str:
    return "\n".join(f"   {line}" for line in text.splitlines())


def _short(path: Path) -> str:
    home = str(Path.home())
    return str(path).replace(home, "~", 1) if str(path).startswith(home) else str(path)
