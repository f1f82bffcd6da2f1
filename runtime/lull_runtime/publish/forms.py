"""A trained network in any of the forms that people have it in: asked in one way, exported in one way.

The forms come with frameworks that take seconds to import: each is imported when a network of it is opened.
"""

from __future__ import annotations

import importlib
import os
import re
import sys
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from lull_runtime.artifact.card import Source, TensorSpec, datatype_of, numpy_type
from lull_runtime.publish.errors import NotPublishableError
from lull_runtime.publish.kinds import Kind

if TYPE_CHECKING:
    from torch import nn

Array = NDArray[np.generic]
NetworkFormat = Literal["onnx", "pt2"]
Case = tuple[dict[str, Array], dict[str, Array]]
"""Inputs by name, and what was answered to them."""

INPUT = "input"
"""What the one input of a network is called on the wire, unless its file names it."""
ROWS = 25
"""How many made-up examples a network is fed at once, to see whether as many answers come out."""
_IMPORT_PATH = re.compile(r"[A-Za-z_][\w.]*:[A-Za-z_][\w.]*")


_SUFFIXES = {
    ".pt2": Kind.PT2,
    ".keras": Kind.KERAS,
    ".h5": Kind.KERAS,
    ".hdf5": Kind.KERAS,
    ".onnx": Kind.ONNX,
    ".pkl": Kind.SKLEARN,
    ".pickle": Kind.SKLEARN,
    ".joblib": Kind.SKLEARN,
}


@dataclass(frozen=True)
class Exported:
    """A network as hosts load it.

    Attributes:
        network: the bytes of `model.onnx` or `model.pt2`.
        notes: what its owner should know.
    """

    network: bytes
    format: NetworkFormat
    outputs: list[TensorSpec]
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Form:
    """A trained network of one input tensor.

    Attributes:
        name: what it is called unless its publisher calls it otherwise.
        network: as a torch module, for explaining; None where it has no torch form.
        predict: rows in, tensors by name out, as the original computes them.
        inputs: the one input.
        to_served: turns it into what hosts load, given some example rows and the names of its outputs.
        labels: what the classes are called, where the network knows.
    """

    name: str
    network: nn.Module | None
    predict: Callable[[Array], dict[str, Array]]
    inputs: list[TensorSpec]
    source: Source
    to_served: Callable[[Array, Sequence[str]], tuple[bytes, NetworkFormat, list[str]]]
    labels: list[str] = field(default_factory=list)


def open_form(
    what: str,
    *,
    weights: Path | None = None,
    kind: Kind | None = None,
    example: Array | None = None,
    trust_pickle: bool = False,
) -> Form:
    """Return a trained network, whatever it was made with.

    Args:
        what: `module:factory`, a function that returns a torch, Keras or scikit-learn network; or a file.
        weights: for a torch factory, its state_dict (`.pt` without code, or `.safetensors`).
        kind: what a file holds, where its name does not tell.
        example: rows of real inputs; needed where the network does not say what it takes.
        trust_pickle: unpickle a scikit-learn file, which runs whatever its maker put in.

    Raises:
        NotPublishableError: it cannot be opened, or takes more than one tensor.
        ImportError, AttributeError: there is no such module or factory.
    """
    if kind is None and _IMPORT_PATH.fullmatch(what) and not Path(what).exists():
        return _from_factory(what, weights, example)
    path = Path(what)
    if not path.is_file():
        raise NotPublishableError(
            f"there is no file {what}; a network in Python is named module:factory, such as mynets:build"
        )
    kind = kind or _kind_of(path)
    if weights is not None:
        raise NotPublishableError(f"{path.name} has its weights in it: --weights goes with module:factory")
    name = name_of(path.stem)
    if kind is Kind.SKLEARN and not trust_pickle:
        raise NotPublishableError(
            f"{path.name} is a pickle, and opening a pickle runs what its maker put in: name a function that "
            "returns the estimator (module:factory), or say --trust-pickle if you made the file yourself"
        )
    return _opener(kind)(path, name, example)


def export(form: Form, example: Array, cases: Sequence[Case]) -> Exported:
    """Return a network as hosts load it, checked to answer as the original does.

    Args:
        form: the network.
        example: a few rows of inputs.
        cases: what the original answered.

    Raises:
        NotPublishableError: there is no served form that answers alike.
    """
    from lull_runtime.publish.check import require_agreement

    outputs = [spec(name, array) for name, array in cases[0][1].items()]
    network, served, notes = form.to_served(example, [output.name for output in outputs])
    require_agreement(network, served, cases)
    return Exported(network, served, outputs, notes)


def example_of(inputs: Sequence[TensorSpec]) -> Array:
    """Return made-up rows for a network that says what it takes.

    Raises:
        NotPublishableError: it leaves more than the batch axis free.
    """
    (only,) = inputs
    if -1 in only.dims[1:]:
        raise NotPublishableError(
            f"{only.name} has free axes besides the batch's ({only.dims}): give real rows with --examples, "
            "or a shape with --example-shape"
        )
    return made_up([ROWS, *only.dims[1:]], numpy_type(only.datatype))


def made_up(shape: Sequence[int], kind: np.dtype[np.generic] | type = np.float32) -> Array:
    """Return the same noise each time: standard normal, or zeros and ones where the type has no fractions."""
    random = np.random.default_rng(0)
    if np.issubdtype(kind, np.floating):
        return np.asarray(random.standard_normal(shape).astype(kind))
    return np.asarray(random.integers(0, 2, shape).astype(kind))


def spec(name: str, array: Array) -> TensorSpec:
    """Return what a tensor is, its first axis free.

    Raises:
        NotPublishableError: its type cannot be sent.
    """
    try:
        return TensorSpec(name=name, datatype=datatype_of(array), dims=[-1, *array.shape[1:]])
    except KeyError:
        raise NotPublishableError(f"{name} is of type {array.dtype}, which cannot be sent") from None


def name_of(text: str) -> str:
    """Return a name that Kubernetes takes, made of some text."""
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")[:63].strip("-") or "model"


def require_example(example: Array | None, what: str) -> Array:
    """Return the example.

    Raises:
        NotPublishableError: there is none, and this form does not say what it takes.
    """
    if example is None:
        raise NotPublishableError(
            f"{what} does not say what it takes: give the shape of one input, batch axis first "
            "(--example-shape 1,1,32,32), or a file of real rows (--examples rows.npy)"
        )
    return example


def _opener(kind: Kind) -> Callable[[Path, str, Array | None], Form]:
    modules = {
        Kind.PT2: "from_program",
        Kind.TORCHSCRIPT: "from_torchscript",
        Kind.KERAS: "from_keras",
        Kind.ONNX: "from_onnx",
        Kind.SKLEARN: "from_sklearn",
    }
    opener: Callable[[Path, str, Array | None], Form] = importlib.import_module(
        f"lull_runtime.publish.{modules[kind]}"
    ).open_file
    return opener


def _kind_of(path: Path) -> Kind:
    if found := _SUFFIXES.get(path.suffix.lower()):
        return found
    members = []
    if zipfile.is_zipfile(path):
        with zipfile.ZipFile(path) as archive:
            members = archive.namelist()
    if any("/code/" in member for member in members):
        return Kind.TORCHSCRIPT
    if path.suffix.lower() == ".safetensors" or any(member.endswith("data.pkl") for member in members):
        raise NotPublishableError(
            f"{path.name} holds weights without a network: say of which with "
            f"module:factory --weights {path.name}"
        )
    raise NotPublishableError(
        f"{path.name}: what it holds cannot be told from its name; say --kind, one of {', '.join(Kind)}"
    )


def _from_factory(what: str, weights: Path | None, example: Array | None) -> Form:
    os.environ.setdefault("KERAS_BACKEND", "torch")  # before anybody imports Keras
    module, _, factory = what.partition(":")
    if os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())
    made: Any = importlib.import_module(module)
    for part in factory.split("."):
        made = getattr(made, part)
    network = made()
    name = name_of(factory)
    if "keras" in sys.modules and isinstance(network, sys.modules["keras"].Model):
        from lull_runtime.publish import from_keras

        return from_keras.from_model(network, name, weights, example)
    if hasattr(network, "get_params") and hasattr(network, "predict"):
        from lull_runtime.publish import from_sklearn

        return from_sklearn.from_estimator(network, name)
    from torch import nn

    from lull_runtime.publish import from_torch

    if not isinstance(network, nn.Module):
        raise NotPublishableError(
            f"{what} returned {type(network).__name__}; it should return a torch, Keras or scikit-learn "
            "network"
        )
    return from_torch.from_module(network, name, weights, require_example(example, what))
