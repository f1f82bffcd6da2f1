"""`lull publish`: from a trained network, or a Triton model directory, to an artifact and its manifest."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import typer
import yaml
from rich.console import Console

from lull.api.names import API_VERSION
from lull_runtime.artifact.errors import ModelError
from lull_runtime.publish import options
from lull_runtime.publish.options import Options, Output

if TYPE_CHECKING:
    from lull_runtime.artifact.card import Card
    from lull_runtime.publish.destination import Destination
    from lull_runtime.publish.export import Wishes
    from lull_runtime.publish.forms import Array

Tell = Callable[[str], None]


@dataclass(frozen=True)
class _Result:
    """What was published; `key` signed it, `notes` are what its owner should know besides."""

    name: str
    digest: str
    path: Path
    wire_name: str | None = None
    accuracy: float | None = None
    card: Card | None = None
    key: Path | None = None
    notes: list[str] = field(default_factory=list)


def publish(
    network: options.Network = None,
    sample: options.Sampled = None,
    repository: options.Repository = None,
    weights: options.Weights = None,
    kind: options.Held = None,
    trust_pickle: options.TrustPickle = False,
    example_shape: options.ExampleShape = None,
    examples: options.Examples = None,
    labelled: options.Labelled = None,
    optimise: options.Optimise = None,
    training_energy: options.TrainingEnergy = None,
    no_measure: options.NoMeasure = False,
    name: options.Name = None,
    sign: options.Sign = None,
    to: options.To = None,
    uri: options.Uri = None,
    manifest: options.Manifest = None,
    output: options.Out = Output.TEXT,
) -> None:
    """Write a model's artifact; print its digest and a ready ModelService manifest."""
    said = Options(**locals())
    try:
        result, where = _published(said)
    except ModelError as error:
        _refuse(f"{error.reason}: {error.message}")
    except (ValueError, OSError, ImportError, AttributeError) as error:
        _refuse(str(error))
    service = _service(result, where)
    text = yaml.safe_dump(service, sort_keys=False)
    if manifest is not None:
        manifest.parent.mkdir(parents=True, exist_ok=True)
        manifest.write_text(text)
    _print(result, service, text, output)


def _published(said: Options) -> tuple[_Result, str]:
    """What was published, and the URI under which hosts find it."""
    if sum(what is not None for what in (said.network, said.sample, said.repository)) != 1:
        raise ValueError("say what to publish: module:factory, a file, --sample digits, or --repository DIR")
    with _progress() as tell:
        if said.repository is not None:
            result, destination = _publish_repository(said.repository, said)
        else:
            result, destination = _publish_network(said, tell)
        tell("putting it where it belongs")
        return result, destination.deliver(result.digest)


def _publish_network(said: Options, tell: Tell) -> tuple[_Result, Destination]:
    tell("importing PyTorch")
    from lull_runtime.publish.destination import destination_of
    from lull_runtime.publish.export import publish_form
    from lull_runtime.publish.forms import example_of, open_form
    from lull_runtime.publish.samples import train

    wishes = _wishes(said)
    if said.sample is not None:
        ready = train(said.sample, tell)
        form, example = ready.form, ready.example
        wishes = replace(wishes, labelled=wishes.labelled or ready.held_out)
        name = said.name or said.sample.value
    else:
        rows = _example(said, wishes)
        tell(f"opening {said.network}")
        form = open_form(
            str(said.network),
            weights=said.weights,
            kind=said.kind,
            example=rows,
            trust_pickle=said.trust_pickle,
        )
        example = rows if rows is not None else example_of(form.inputs)
        name = said.name or form.name
    destination = destination_of(said.to, name, said.uri)
    made = publish_form(form, example, name, destination.tar, wishes, tell)
    return (
        _Result(
            name,
            made.digest,
            made.path,
            accuracy=made.accuracy,
            card=made.card,
            key=said.sign,
            notes=made.notes,
        ),
        destination,
    )


def _wishes(said: Options) -> Wishes:
    from lull_runtime.publish.export import Wishes
    from lull_runtime.publish.labelled import read_labelled
    from lull_runtime.publish.training import read_training

    return Wishes(
        labelled=read_labelled(said.labelled) if said.labelled else None,
        optimise=said.optimise or (),
        training=read_training(said.training_energy) if said.training_energy else None,
        key=said.sign,
        measure=not said.no_measure,
    )


def _example(said: Options, wishes: Wishes) -> Array | None:
    """Rows to ask the network with: real ones if there are any, else noise of the shape that was given."""
    from lull_runtime.publish.forms import ROWS, made_up
    from lull_runtime.publish.labelled import read_rows

    if said.examples is not None:
        return read_rows(said.examples)[:ROWS]
    if said.example_shape is not None:
        return made_up([ROWS, *options.shape_of(said.example_shape)[1:]])
    if wishes.labelled is not None:
        return wishes.labelled.rows[:ROWS]
    return None


def _publish_repository(folder: Path, said: Options) -> tuple[_Result, Destination]:
    from lull_runtime.artifact.format import detect, inspect_repository, is_partial, name_in
    from lull_runtime.artifact.pack import pack_repository
    from lull_runtime.publish.destination import destination_of

    if not folder.is_dir():
        raise ValueError(f"{folder} is no directory")
    if said.optimise or said.labelled or said.weights or said.training_energy:
        raise ValueError(
            "a directory is published unedited, without a card: --optimise, --labelled, --weights and "
            "--training-energy go with a network"
        )
    detect(folder, "TritonRepository")
    wire_name = name_in(folder) or said.name or folder.resolve().name
    code = inspect_repository(folder, wire_name, allow_code=True)
    notes = ["it is code: its pool needs allow.code"] if code else []
    if is_partial(folder):
        notes.append(
            "its config.pbtxt leaves inputs or outputs out: its pool needs LULL_TRITON_COMPLETE=true"
        )
    name = said.name or wire_name
    destination = destination_of(said.to, name, said.uri)
    digest = pack_repository(destination.tar, folder, said.sign)
    return _Result(name, digest, destination.tar, wire_name, key=said.sign, notes=notes), destination


def _service(result: _Result, uri: str) -> dict[str, Any]:
    model: dict[str, Any] = {"uri": uri, "digest": result.digest}
    if result.wire_name is not None:
        model["format"] = "TritonRepository"
        if result.wire_name != result.name:
            model["name"] = result.wire_name
    return {
        "apiVersion": API_VERSION,
        "kind": "ModelService",
        "metadata": {"name": result.name},
        "spec": {"model": model},
    }


@contextmanager
def _progress() -> Iterator[Tell]:
    """A line that says what is done now on a terminal; where nobody watches, a line for each step."""
    console = Console(stderr=True)
    if console.is_terminal:
        with console.status("") as status:
            yield status.update
        return
    last = ""

    def tell(doing: str) -> None:
        nonlocal last
        step = doing.partition(":")[0]  # of the epochs of a training the first
        if step != last:
            console.print(f"{doing} …", markup=False, highlight=False, soft_wrap=True)
        last = step

    yield tell


def _print(result: _Result, service: dict[str, Any], text: str, output: Output) -> None:
    if output is Output.JSON:
        fields = {
            "name": result.name,
            "digest": result.digest,
            "path": str(result.path),
            "accuracy": result.accuracy,
            "signed": result.key is not None,
            "notes": result.notes,
            "card": result.card and result.card.model_dump(exclude={"golden"}, exclude_none=True),
            "manifest": service,
        }
        print(json.dumps(fields, indent=2))
        return
    print(f"# {result.path}: {result.path.stat().st_size} bytes, {result.digest}")
    if result.accuracy is not None:
        print(f"# {result.accuracy:.1%} of the labelled rows are told right")
    for line in _told(result.card):
        print(f"# {line}")
    if result.key is not None:
        print(f"# signed with {result.key}")
    for note in result.notes:
        print(f"# note: {note}")
    print("# kubectl apply -f - with what follows, once the model lies where the uri says")
    print(text, end="")


def _told(card: Card | None) -> Iterator[str]:
    """What the card says of the network, in words."""
    if card is None:
        return
    from lull_runtime.publish.model_card import facts

    yield from facts(card)


def _refuse(message: str) -> NoReturn:
    print(f"lull publish: {message}", file=sys.stderr)
    raise typer.Exit(1)
