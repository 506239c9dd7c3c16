"""The two networks, at the teacher's size and at the student's."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

SHRUNK = math.sqrt(0.3)
"""What the paper multiplies the channels of each Inception module by (arXiv 1511.05641, section 4)."""


class Plain(nn.Module):
    """Three convolutions and a hidden layer, without batch normalisation.

    Args:
        scale: Multiplies all hidden sizes.
    """

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        first, second, third, hidden = (round(n * scale) for n in (8, 16, 16, 32))
        self.conv1, self.relu1 = nn.Conv2d(1, first, 3, padding=1), nn.ReLU()
        self.conv2, self.relu2 = nn.Conv2d(first, second, 3, padding=1), nn.ReLU()
        self.conv3, self.relu3 = nn.Conv2d(second, third, 3, padding=1), nn.ReLU()
        self.pool1, self.pool2 = nn.MaxPool2d(2), nn.MaxPool2d(2)
        self.hidden, self.relu4 = nn.Linear(4 * third, hidden), nn.ReLU()
        self.logits = nn.Linear(hidden, 10)

    def forward(self, x: Tensor) -> Tensor:
        """From [batch, 1, 8, 8] to [batch, 10]."""
        x = self.pool1(self.relu1(self.conv1(x)))
        x = self.pool2(self.relu3(self.conv3(self.relu2(self.conv2(x)))))
        return self.logits(self.relu4(self.hidden(x.flatten(1))))


class ConvNormRelu(nn.Sequential):
    """A convolution, batch normalisation and Relu."""

    def __init__(self, entering: int, leaving: int, kernel: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(entering, leaving, kernel, padding=kernel // 2, bias=False)
        self.norm = nn.BatchNorm2d(leaving)
        self.relu = nn.ReLU()


class Module(nn.Module):
    """An Inception module: branches of 1x1, 3x3, two 3x3 and a pool, joined by their channels.

    Args:
        entering: Channels of the input.
        sizes: Channels: 1x1; 3x3 before and after; double 3x3 before, between and after; pool.
    """

    def __init__(self, entering: int, sizes: Sequence[int]) -> None:
        super().__init__()
        one, less, three, fewer, between, double, pooled = sizes
        self.one = ConvNormRelu(entering, one, 1)
        self.three = nn.Sequential(ConvNormRelu(entering, less, 1), ConvNormRelu(less, three, 3))
        self.twice = nn.Sequential(
            ConvNormRelu(entering, fewer, 1), ConvNormRelu(fewer, between, 3), ConvNormRelu(between, double, 3)
        )
        self.pooled = nn.Sequential(nn.AvgPool2d(3, 1, padding=1), ConvNormRelu(entering, pooled, 1))
        self.leaving = one + three + double + pooled

    def forward(self, x: Tensor) -> Tensor:
        """The branches side by side."""
        return torch.cat([self.one(x), self.three(x), self.twice(x), self.pooled(x)], 1)


class Inception(nn.Module):
    """A stem and two Inception modules, with batch normalisation behind every convolution.

    Args:
        scale: Multiplies all channels inside the modules; the stem keeps its size, as in the paper.
    """

    def __init__(self, scale: float = 1.0) -> None:
        super().__init__()
        first, second = (
            [round(n * scale) for n in sizes] for sizes in ((8, 8, 12, 6, 8, 8, 6), (12, 10, 18, 8, 12, 12, 8))
        )
        self.stem, self.pool = ConvNormRelu(1, 12, 3), nn.MaxPool2d(2)
        self.module1 = Module(12, first)
        self.module2 = Module(self.module1.leaving, second)
        self.logits = nn.Linear(self.module2.leaving, 10)

    def forward(self, x: Tensor) -> Tensor:
        """From [batch, 1, 8, 8] to [batch, 10]."""
        x = self.module2(self.module1(self.pool(self.stem(x))))
        return self.logits(x.mean((2, 3)))


def start(module: nn.Module, seed: int) -> nn.Module:
    """Gives a module weights as He et al. start them before a Relu (arXiv 1502.01852), in place."""
    torch.manual_seed(seed)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.reset_parameters()
        elif isinstance(part, (nn.Conv2d, nn.Linear)):
            nn.init.kaiming_normal_(part.weight, nonlinearity="relu")
            if part.bias is not None:
                nn.init.zeros_(part.bias)
    return module


NETWORKS: dict[str, tuple[Callable[[float], nn.Module], float]] = {
    "cnn": (Plain, 0.5),
    "inception": (Inception, SHRUNK),
}
"""Name -> class, and the teacher's scale; the student's is one."""
DEEPER = {
    "cnn": ("relu1", "relu2", "relu3", "relu4"),
    "inception": ("module1.three.1.relu", "module1.twice.2.relu", "module2.three.1.relu", "module2.twice.2.relu"),
}
"""Behind which activations another layer goes."""
