"""The sample: a small convolutional network, trained on real handwritten digits in a few seconds.

The digits are scikit-learn's 1,797 (8 × 8 pixels, from the UCI repository, inside the package: no download),
scaled to the 32 × 32 that the network takes.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

SEED = 20
EPOCHS = 12
BATCH = 64
HELD_OUT = 360
"""How many of the digits, drawn by `SEED`, the network never sees in training."""


class SimpleCNN(nn.Module):
    """Two convolutions with max-pooling, three dense layers, ReLU between: (batch, 1, 32, 32) → (batch, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(1, 6, kernel_size=5)
        self.conv2 = nn.Conv2d(6, 16, kernel_size=5)
        self.pool = nn.MaxPool2d(2)
        self.dense1 = nn.Linear(400, 120)
        self.dense2 = nn.Linear(120, 84)
        self.dense3 = nn.Linear(84, 10)

    def forward(self, image: Tensor) -> Tensor:
        """Return one logit for each of the ten digits."""
        x = self.pool(torch.relu(self.conv1(image)))
        x = self.pool(torch.relu(self.conv2(x)))
        x = torch.flatten(x, start_dim=1)
        x = torch.relu(self.dense1(x))
        x = torch.relu(self.dense2(x))
        return self.dense3(x)


@dataclass(frozen=True)
class Digits:
    """Images as float32 (count, 1, 32, 32) between 0 and 1, and what they show as int64 (count,)."""

    images: NDArray[np.float32]
    labels: NDArray[np.int64]


def load_digits() -> tuple[Digits, Digits]:
    """Return the digits for training and those held out: always the same split."""
    from sklearn import datasets

    bunch = datasets.load_digits()
    small = torch.tensor(bunch.images, dtype=torch.float32).unsqueeze(1) / 16.0
    images = functional.interpolate(small, size=(32, 32), mode="bilinear", align_corners=False).numpy()
    labels = bunch.target.astype(np.int64)
    order = np.random.default_rng(SEED).permutation(len(labels))
    held_out, training = order[:HELD_OUT], order[HELD_OUT:]
    return Digits(images[training], labels[training]), Digits(images[held_out], labels[held_out])


def train(training: Digits, on_epoch: Callable[[int, int], None] = lambda done, total: None) -> SimpleCNN:
    """Return a trained network; `on_epoch` is told (epochs done, epochs in all)."""
    torch.manual_seed(SEED)
    network = SimpleCNN()
    images, labels = torch.from_numpy(training.images), torch.from_numpy(training.labels)
    steps = EPOCHS * -(-len(labels) // BATCH)
    optimizer = torch.optim.Adam(network.parameters(), lr=2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, total_steps=steps)
    for epoch in range(EPOCHS):
        for batch in torch.randperm(len(labels)).split(BATCH):
            optimizer.zero_grad()
            functional.cross_entropy(network(images[batch]), labels[batch]).backward()
            optimizer.step()
            schedule.step()
        on_epoch(epoch + 1, EPOCHS)
    return network.eval()


def accuracy(network: SimpleCNN, digits: Digits) -> float:
    """Return the share, between 0 and 1, of the digits that the network tells right."""
    with torch.no_grad():
        told = network(torch.from_numpy(digits.images)).argmax(dim=1).numpy()
    return float((told == digits.labels).mean())
