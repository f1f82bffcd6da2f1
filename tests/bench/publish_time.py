"""How long publishing takes by form, once its framework is imported.

Networks begin with random weights: the time of an export does not depend on them.
"""

import time
import warnings
from collections.abc import Callable
from pathlib import Path

import torch

from bench.figures import Figure
from lull_runtime.publish.export import publish_form
from lull_runtime.publish.forms import Array, Form, example_of, made_up, open_form
from lull_runtime.publish.from_torch import exported_program
from lull_runtime.publish.keras_samples import dense, lstm
from lull_runtime.publish.simple_cnn import SimpleCNN

SHAPE = (25, 1, 32, 32)


def measure(folder: Path) -> list[Figure]:
    """Return the time of each form."""
    image = made_up(SHAPE)
    network = SimpleCNN().eval()
    weights, script, program = folder / "w.pt", folder / "script.pt", folder / "program.pt2"
    torch.save(network.state_dict(), weights)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.jit.script(network).save(script)
    torch.export.save(exported_program(network, image[:3]), program)
    rows, h5 = folder / "lstm.keras", folder / "model.h5"
    lstm(epochs=0).model.save(rows)
    dense(epochs=0).model.save(h5)
    build = "lull_runtime.publish.simple_cnn:SimpleCNN"
    forms: dict[str, tuple[Callable[[], Form], Array | None]] = {
        "a state_dict (SimpleCNN)": (lambda: open_form(build, weights=weights, example=image), image),
        "a .pt2 (SimpleCNN)": (lambda: open_form(str(program)), None),
        "TorchScript (SimpleCNN)": (lambda: open_form(str(script), example=image), image),
        "a .keras (LSTM)": (lambda: open_form(str(rows)), None),
        "an .h5 (dense)": (lambda: open_form(str(h5)), None),
        "scikit-learn (a decision tree)": (lambda: open_form("networks:tree"), None),
    }
    # What PyTorch's exporter and Keras import and set up on first use is nobody's in particular.
    _publish(lambda: open_form(str(h5)), None, folder)
    return [
        Figure(f"publish {name}", _publish(opened, example, folder), "s")
        for name, (opened, example) in forms.items()
    ]


def _publish(opened: Callable[[], Form], example: Array | None, folder: Path) -> float:
    began = time.perf_counter()
    form = opened()
    rows = example if example is not None else example_of(form.inputs)
    publish_form(form, rows, "bench", folder / "bench.tar")
    return time.perf_counter() - began
