"""Trained networks of every form, made once in a run of the tests."""

import atexit
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

import torch
from torch import nn

from lull_runtime.publish.digits import load_digits
from lull_runtime.publish.labelled import Labelled
from lull_runtime.publish.simple_cnn import SimpleCNN, train

FEATURES = 13
"""Of a wine."""


@cache
def folder() -> Path:
    """Where their files lie."""
    path = Path(tempfile.mkdtemp(prefix="lull-networks-"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


@contextmanager
def one_thread() -> Iterator[None]:
    """Two that wait for each other on a busy machine take ten times as long."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


@cache
def simple_cnn() -> SimpleCNN:
    """The sample."""
    with one_thread():
        return train(load_digits()[0])


@cache
def simple_cnn_weights() -> tuple[Path, Labelled]:
    """A state_dict for `lull_runtime.publish.simple_cnn:SimpleCNN`."""
    path = folder() / "digits.pt"
    torch.save(simple_cnn().state_dict(), path)
    held_out = load_digits()[1]
    return path, Labelled(held_out.images, held_out.labels)


@cache
def digit_rows() -> tuple[Path, Labelled]:
    """The LSTM as a `.keras` file, trained for a moment only: whether answers agree is what counts."""
    from lull_runtime.publish.keras_samples import lstm

    with one_thread():
        trained = lstm(epochs=3)
    path = folder() / "lstm.keras"
    trained.model.save(path)
    return path, trained.held_out


@cache
def tumours() -> tuple[Path, Labelled]:
    """The dense classifier as `model.h5`, trained for a moment only."""
    from lull_runtime.publish.keras_samples import dense

    with one_thread():
        trained = dense(epochs=8)
    path = folder() / "model.h5"
    trained.model.save(path)
    return path, trained.held_out


def tiny() -> nn.Module:
    """Two layers that begin alike each time."""
    torch.manual_seed(7)
    return nn.Sequential(nn.Linear(4, 8), nn.ReLU(), nn.Linear(8, 3))


def linear() -> nn.Linear:
    """One layer that begins alike each time: why it answers can be said by hand."""
    torch.manual_seed(7)
    return nn.Linear(4, 3)


class Eigenvalues(nn.Module):
    """ONNX has no operator for what this does."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.dense = nn.Linear(4, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        mixed = self.dense(x)
        return torch.linalg.eigvalsh(mixed @ mixed.transpose(1, 2))


def tree():
    """A decision tree for wines."""
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier(max_depth=6, random_state=0).fit(*_wines())


def support_vectors():
    """A support vector machine for wines, behind the scaling that it needs."""
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.svm import SVC

    return make_pipeline(StandardScaler(), SVC(random_state=0)).fit(*_wines())


def named_wines():
    """A decision tree whose classes have names."""
    from sklearn.tree import DecisionTreeClassifier

    rows, classes = _wines()
    return DecisionTreeClassifier(max_depth=3, random_state=0).fit(rows, [f"wine {one}" for one in classes])


def regression():
    from sklearn.tree import DecisionTreeRegressor

    rows, classes = _wines()
    return DecisionTreeRegressor(max_depth=3, random_state=0).fit(rows, classes * 1.5)


def unfitted():
    from sklearn.tree import DecisionTreeClassifier

    return DecisionTreeClassifier()


def _wines():
    from sklearn.datasets import load_wine

    return load_wine(return_X_y=True)
