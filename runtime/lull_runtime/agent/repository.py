"""Lays models out as Triton wants them: one directory each, named as on the wire, with a config.pbtxt."""

import os
import shutil
from collections.abc import Collection
from importlib import resources
from pathlib import Path

from lull_runtime.agent.store import Model
from lull_runtime.artifact.card import Card, TensorSpec
from lull_runtime.artifact.format import CONFIG, Artifact

MAX_BATCH = 64
_SCRATCH = ".scratch-"
_PROGRAMS = {"onnx": "onnx_model", "pt2": "torch_model"}
"""What runs a network of each format where Triton has no backend for it: models of its Python backend."""


class Repository:
    """Triton's model repository, on the store's volume: a model is linked into it, never copied."""

    def __init__(self, folder: Path, backends: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._has_onnxruntime = (backends / "onnxruntime").is_dir()
        self._laid: dict[str, str] = {}

    def has(self, name: str, model: Model) -> bool:
        """Whether the directory `name` holds this model."""
        return self._laid.get(name) == model.digest and (self._folder / name).is_dir()

    def keep_only(self, names: Collection[str]) -> None:
        """Remove all directories but these: what an agent that was killed left behind."""
        for folder in self._folder.iterdir():
            if folder.name not in names:
                shutil.rmtree(folder)

    def drop(self, name: str) -> None:
        """Remove a directory, so that the store's eviction frees the space."""
        self._laid.pop(name, None)
        shutil.rmtree(self._folder / name, ignore_errors=True)

    def lay(self, name: str, model: Model) -> None:
        """Have the directory `name` hold this model."""
        target = self._folder / name
        scratch = self._folder / f"{_SCRATCH}{name}"
        shutil.rmtree(scratch, ignore_errors=True)
        if model.artifact is None:
            shutil.copytree(model.root, scratch, copy_function=os.link)
        else:
            self._lay_artifact(scratch, model.artifact)
        self._laid.pop(name, None)
        shutil.rmtree(target, ignore_errors=True)
        scratch.rename(target)
        self._laid[name] = model.digest

    def directory(self, name: str) -> Path:
        """Where a model lies."""
        return self._folder / name

    def _lay_artifact(self, target: Path, artifact: Artifact) -> None:
        version = target / "1"
        version.mkdir(parents=True)
        for file in filter(None, (artifact.network, artifact.data)):
            os.link(file, version / file.name)
        backend = "onnxruntime"
        if artifact.card.format != "onnx" or not self._has_onnxruntime:
            backend = "python"
            source = resources.files("lull_runtime.backend") / _PROGRAMS[artifact.card.format] / "model.py"
            (version / "model.py").write_text(source.read_text())
        (target / CONFIG).write_text(configuration(artifact.card, backend))


def configuration(card: Card, backend: str) -> str:
    """Return the config.pbtxt of an artifact: complete, as Triton is told to complete nothing.

    The instance's kind is left to Triton: a GPU where it sees one and the backend can use it, else the CPU.
    """
    lines = [f'backend: "{backend}"', f"max_batch_size: {MAX_BATCH}"]
    lines += [f"input [ {{ {_tensor(spec)} }} ]" for spec in card.inputs]
    lines += [f"output [ {{ {_tensor(spec)} }} ]" for spec in card.outputs]
    lines += ["dynamic_batching { }", "instance_group [ { count: 1 } ]"]
    return "\n".join(lines) + "\n"


def _tensor(spec: TensorSpec) -> str:
    """A tensor in Triton's words, which leave the batch axis out."""
    dims = ", ".join(map(str, spec.dims[1:]))
    return f'name: "{spec.name}" data_type: TYPE_{spec.datatype} dims: [ {dims} ]'
