"""`lull` on the command line, also as `kubectl lull`."""

import typer

from lull.cli import demo
from lull.cli.evaluate.commands import evaluate
from lull.cli.explain.commands import explain
from lull.cli.report.commands import report
from lull.cli.rollout.commands import app as rollout
from lull.cli.simulate.commands import simulate
from lull.cli.top.commands import top
from lull.local.commands import app as local
from lull_runtime.publish.commands import publish

app = typer.Typer(
    help="Serve many models from few powered GPUs.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="markdown",  # a paragraph flows to the width of the terminal
    pretty_exceptions_show_locals=False,
)
app.add_typer(local, name="local")
app.add_typer(rollout, name="rollout")
app.command(
    epilog="Examples:  lull publish --sample digits --to digits.tar  |"
    "  lull publish nets:build --weights w.safetensors --example-shape 1,3,224,224 --to net.tar  |"
    "  lull publish model.h5 --labelled test.npz --sign signing.key --to oci://registry.example/team/models"
)(publish)
app.command()(demo.demo)
app.command(
    epilog="Examples:  lull explain lstm.keras --input digits.npz --index 3 --out three  |"
    "  lull explain nets:build --weights w.pt --input cat.png --example-shape 1,3,224,224  |"
    "  lull explain model.onnx --input rows.npy --method occlusion -o json | jq .prediction"
)(explain)
app.command(
    epilog="Examples:  lull evaluate digits -n demo --data held-out.npz --plot digits.png  |"
    "  lull evaluate digits -n demo --data held-out.npz --record  |"
    "  lull evaluate digits --data held-out.npz --min-accuracy 97 -o json | jq .quality.f1"
)(evaluate)
app.command(
    epilog="Examples:  lull top  |  lull top -n demo --once --sort watts  |"
    "  lull top -o json | jq '.services[] | select(.state == \"Asleep\") | .name'"
)(top)
app.command(
    epilog="Examples:  lull report --prometheus http://localhost:9090 --since 7d --out week.html  |"
    "  lull report --prometheus $URL --pool h100 -o json | jq .summary"
)(report)
app.command(
    epilog="Examples:  lull simulate --synthetic --html week.html  |"
    "  lull simulate --trace my.csv --gpu L4 --gpu-memory-gib 24 --policy lull,knative  |"
    "  lull simulate --synthetic --policy lull --delayed-percent 1,5,20 -o json | jq .policies"
)(simulate)


def main() -> None:
    """Run the command line."""
    app()
