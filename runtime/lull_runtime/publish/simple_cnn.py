"""The sample's network: small, convolutional, trained on the digits in a few seconds."""

from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional

from lull_runtime.publish.digits import Digits

SEED = 20
EPOCHS = 30
BATCH = 64


class SimpleCNN(nn.Module):
    """Two convolutions with max-pooling, three dense layers: (batch, 1, 32, 32) → (batch, 10) logits."""

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
        logits: Tensor = self.dense3(x)
        return logits


def train(training: Digits, on_epoch: Callable[[int, int], None] = lambda done, total: None) -> SimpleCNN:
    """Return a trained network; `on_epoch` is told (epochs done, epochs in all)."""
    torch.manual_seed(SEED)
    network = SimpleCNN()
    images, labels = torch.from_numpy(training.images), torch.from_numpy(training.labels)
    steps = EPOCHS * -(-len(labels) // BATCH)
    optimizer = torch.optim.Adam(network.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=5e-3, total_steps=steps)
    for epoch in range(EPOCHS):
        for batch in torch.split(torch.randperm(len(labels)), BATCH):
            optimizer.zero_grad()
            loss = functional.cross_entropy(network(_shifted(images[batch])), labels[batch])
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
        on_epoch(epoch + 1, EPOCHS)
    return network.eval()


def accuracy(network: nn.Module, digits: Digits) -> float:
    """Return the share, between 0 and 1, of the digits that the network tells right."""
    with torch.no_grad():
        told = network(torch.from_numpy(digits.images)).argmax(dim=1).numpy()
    return float((told == digits.labels).mean())


def _shifted(images: Tensor) -> Tensor:
    """Move a batch by up to three pixels: the network shall not learn where digits stand."""
    down, right = torch.randint(-3, 4, (2,)).tolist()
    return torch.roll(images, shifts=(down, right), dims=(2, 3))
