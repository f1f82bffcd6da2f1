"""`lull publish`: from a trained network, or a Triton model directory, to an artifact and its manifest."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
import yaml
from rich.console import Console

from lull.api.names import API_VERSION
from lull_runtime.artifact.errors import ModelError
from lull_runtime.publish.kinds import Change, Kind, Sample

if TYPE_CHECKING:
    from lull_runtime.artifact.card import Card
    from lull_runtime.publish.destination import Destination
    from lull_runtime.publish.export import Wishes
    from lull_runtime.publish.forms import Array

Tell = Callable[[str], None]


class Output(StrEnum):
    """How the result is printed."""

    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True)
class _Options:
    """What was said about a network and its artifact."""

    what: str | None
    sample: Sample | None
    weights: Path | None
    kind: Kind | None
    trust_pickle: bool
    example_shape: str | None
    examples: Path | None
    labelled: Path | None
    optimise: list[Change]
    training_energy: str | None
    sign: Path | None
    measure: bool
    name: str | None
    to: str | None
    uri: str | None


@dataclass(frozen=True)
class _Result:
    """What was published; `notes` are what its owner should know besides."""

    name: str
    digest: str
    path: Path
    wire_name: str | None = None
    accuracy: float | None = None
    card: Card | None = None
    notes: list[str] = field(default_factory=list)


def publish(
    network: Annotated[
        str | None,
        typer.Argument(
            help="module:factory, a function that returns a torch, Keras or scikit-learn network; or a file: "
            ".pt2, TorchScript, .keras, .h5, .onnx."
        ),
    ] = None,
    sample: Annotated[Sample | None, typer.Option(help="Train and publish a sample.")] = None,
    repository: Annotated[
        Path | None, typer.Option(help="Publish a Triton model directory (config.pbtxt, 1/) unedited.")
    ] = None,
    weights: Annotated[
        Path | None,
        typer.Option(help="For a factory: its state_dict, as torch.save wrote it, or .safetensors."),
    ] = None,
    kind: Annotated[
        Kind | None, typer.Option(help="What the file holds, where its name does not tell.")
    ] = None,
    trust_pickle: Annotated[
        bool, typer.Option("--trust-pickle", help="Open a scikit-learn pickle: it may run anything, here.")
    ] = False,
    example_shape: Annotated[
        str | None, typer.Option(help="Shape of one input, batch axis first, such as 1,1,32,32.")
    ] = None,
    examples: Annotated[
        Path | None, typer.Option(help="Real rows of inputs for the golden cases: .npy, or x of an .npz.")
    ] = None,
    labelled: Annotated[
        Path | None, typer.Option(help="An .npz of rows x and their classes y: tells the accuracy.")
    ] = None,
    optimise: Annotated[
        list[Change] | None,
        typer.Option(help="Make it smaller or faster, if that costs no more than 1 % of the answers."),
    ] = None,
    training_energy: Annotated[
        str | None, typer.Option(help="What training took: 1.2kWh, or CodeCarbon's emissions.csv.")
    ] = None,
    sign: Annotated[
        Path | None, typer.Option(help="Sign with this private key (PEM, elliptic curve).")
    ] = None,
    measure: Annotated[
        bool,
        typer.Option(help="Note how fast it loads and answers here; without, equal input is one digest."),
    ] = True,
    name: Annotated[
        str | None, typer.Option(help="Name of the model; default from what is published.")
    ] = None,
    to: Annotated[
        str | None,
        typer.Option(
            help="Where to put it: FILE.tar, a folder, oci://host/repository, s3://bucket/folder. "
            "[default: build/NAME.tar]"
        ),
    ] = None,
    uri: Annotated[
        str | None, typer.Option(help="Where hosts will find a file or folder.  [default: file:///its name]")
    ] = None,
    manifest: Annotated[Path | None, typer.Option(help="Write the ModelService manifest here too.")] = None,
    output: Annotated[Output, typer.Option("--output", "-o", help="text or json.")] = Output.TEXT,
) -> None:
    """Write a model's artifact; print its digest and a ready ModelService manifest."""
    if sum(what is not None for what in (network, sample, repository)) != 1:
        _refuse("say what to publish: module:factory, a file, --sample digits, or --repository DIR")
    options = _Options(
        what=network,
        sample=sample,
        weights=weights,
        kind=kind,
        trust_pickle=trust_pickle,
        example_shape=example_shape,
        examples=examples,
        labelled=labelled,
        optimise=optimise or [],
        training_energy=training_energy,
        sign=sign,
        measure=measure,
        name=name,
        to=to,
        uri=uri,
    )
    try:
        with _progress() as tell:
            if repository is not None:
                result, destination = _publish_repository(repository, options)
            else:
                result, destination = _publish_network(options, tell)
            tell("putting it where it belongs")
            where = destination.deliver(result.digest)
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


def _publish_network(options: _Options, tell: Tell) -> tuple[_Result, Destination]:
    tell("importing PyTorch")
    from lull_runtime.publish.destination import destination_of
    from lull_runtime.publish.export import publish_form
    from lull_runtime.publish.forms import example_of, open_form
    from lull_runtime.publish.samples import train

    wishes = _wishes(options)
    if options.sample is not None:
        ready = train(options.sample, tell)
        form, example = ready.form, ready.example
        wishes = replace(wishes, labelled=wishes.labelled or ready.held_out)
        name = options.name or options.sample.value
    else:
        rows = _example(options, wishes)
        tell(f"opening {options.what}")
        form = open_form(
            str(options.what),
            weights=options.weights,
            kind=options.kind,
            example=rows,
            trust_pickle=options.trust_pickle,
        )
        example = rows if rows is not None else example_of(form.inputs)
        name = options.name or form.name
    destination = destination_of(options.to, name, options.uri)
    made = publish_form(form, example, name, destination.tar, wishes, tell)
    return (
        _Result(name, made.digest, made.path, accuracy=made.accuracy, card=made.card, notes=made.notes),
        destination,
    )


def _wishes(options: _Options) -> Wishes:
    from lull_runtime.publish.export import Wishes
    from lull_runtime.publish.labelled import read_labelled
    from lull_runtime.publish.training import read_training

    return Wishes(
        labelled=read_labelled(options.labelled) if options.labelled else None,
        optimise=options.optimise,
        training=read_training(options.training_energy) if options.training_energy else None,
        key=options.sign,
        measure=options.measure,
    )


def _example(options: _Options, wishes: Wishes) -> Array | None:
    """Rows to ask the network with: real ones if there are any, else noise of the shape that was given."""
    from lull_runtime.publish.forms import ROWS, made_up
    from lull_runtime.publish.labelled import read_rows

    if options.examples is not None:
        return read_rows(options.examples)[:ROWS]
    if options.example_shape is not None:
        return made_up([ROWS, *_shape(options.example_shape)[1:]])
    if wishes.labelled is not None:
        return wishes.labelled.rows[:ROWS]
    return None


def _publish_repository(folder: Path, options: _Options) -> tuple[_Result, Destination]:
    from lull_runtime.artifact.format import detect, inspect_repository, is_partial, name_in
    from lull_runtime.artifact.pack import pack_repository
    from lull_runtime.publish.destination import destination_of

    if not folder.is_dir():
        raise ValueError(f"{folder} is no directory")
    if options.optimise or options.labelled or options.weights or options.training_energy:
        raise ValueError(
            "a directory is published unedited, without a card: --optimise, --labelled, --weights and "
            "--training-energy go with a network"
        )
    detect(folder, "TritonRepository")
    wire_name = name_in(folder) or options.name or folder.resolve().name
    code = inspect_repository(folder, wire_name, allow_code=True)
    notes = ["it is code: its pool needs allow.code"] if code else []
    if is_partial(folder):
        notes.append(
            "its config.pbtxt leaves inputs or outputs out: its pool needs LULL_TRITON_COMPLETE=true"
        )
    name = options.name or wire_name
    destination = destination_of(options.to, name, options.uri)
    digest = pack_repository(destination.tar, folder, options.sign)
    return _Result(name, digest, destination.tar, wire_name, notes=notes), destination


def _shape(text: str) -> list[int]:
    try:
        shape = [int(part) for part in text.split(",")]
    except ValueError:
        shape = []
    if len(shape) < 2 or min(shape) < 1:
        raise ValueError(f"{text!r} is no shape with a batch axis; write for example 1,1,32,32")
    return shape


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
