"""Modules of PyTorch, with random weights, and how they are exported."""

from __future__ import annotations

import io
import logging
import warnings
from collections.abc import Callable
from typing import Any

import onnx
import pytest

torch = pytest.importorskip("torch", reason="needs the extra torch")
pytest.importorskip("onnxscript", reason="torch.onnx needs it")
nn = torch.nn

KEPT = [{"dynamo": True, "optimize": False}, {"dynamo": False, "do_constant_folding": False}]
"""Options of the exporters that keep batch normalisation."""
FOLDED = [{"dynamo": True}, {"dynamo": False}]


class Residual(nn.Module):
    """Batch normalisation, a residual sum, depthwise and grouped convolutions, a concatenation."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1, self.relu1 = nn.Conv2d(3, 8, 3, padding=1, bias=False), nn.BatchNorm2d(8), nn.ReLU()
        self.conv2, self.bn2, self.relu2 = nn.Conv2d(8, 8, 3, padding=1), nn.BatchNorm2d(8), nn.ReLU()
        self.depthwise, self.bn3 = nn.Conv2d(8, 8, 3, padding=1, groups=8), nn.BatchNorm2d(8)
        self.grouped, self.relu3 = nn.Conv2d(8, 12, 1, groups=2), nn.ReLU()
        self.up, self.relu4 = nn.ConvTranspose2d(20, 6, 2, stride=2), nn.ReLU()
        self.fc = nn.Linear(6, 4)

    def forward(self, x: Any) -> Any:
        x = self.relu1(self.bn1(self.conv1(x)))
        x = self.relu2(x + self.bn2(self.conv2(x)))
        z = self.bn3(self.depthwise(x))
        both = torch.cat([self.relu3(self.grouped(z)), z], 1)
        return self.fc(self.relu4(self.up(both)).mean((2, 3)))


class Sequence(nn.Module):
    """A perceptron on sequences under a layer normalisation: its stream is a uniform axis."""

    def __init__(self) -> None:
        super().__init__()
        self.inp, self.ln, self.fc1, self.act = nn.Linear(6, 8), nn.LayerNorm(8), nn.Linear(8, 8), nn.ReLU()
        self.fc2, self.out = nn.Linear(8, 8), nn.Linear(8, 3)

    def forward(self, x: Any) -> Any:
        x = self.inp(x)
        return self.out(x + self.fc2(self.act(self.fc1(self.ln(x)))))


class Recurrent(nn.Module):
    """An LSTM classifier: stacked and bidirectional, then a GRU."""

    def __init__(self) -> None:
        super().__init__()
        self.emb, self.lstm = nn.Embedding(20, 6), nn.LSTM(6, 8, num_layers=2, batch_first=True, bidirectional=True)
        self.gru, self.fc = nn.GRU(16, 5, batch_first=True), nn.Linear(5, 5)

    def forward(self, x: Any) -> Any:
        return self.fc(self.gru(self.lstm(self.emb(x))[0])[0][:, -1])


ROWS: dict[str, tuple[Callable[[], Any], Callable[[], Any], float]] = {
    "residual": (Residual, lambda: torch.randn(4, 3, 6, 6), 1.5),
    "sequence": (Sequence, lambda: torch.randn(4, 5, 6), 2),
    "recurrent": (Recurrent, lambda: torch.randint(0, 20, (4, 7)), 1.5),
}
"""Module, inputs and the factor by which it grows."""


def filled(kind: Callable[[], Any], dtype: Any = None) -> Any:
    """A module with random vectors too: zeros and ones hide mistakes."""
    torch.manual_seed(0)
    module = kind()
    with torch.no_grad():
        for name, value in module.state_dict().items():
            if value.dtype.is_floating_point and value.ndim == 1:
                value.copy_(torch.rand_like(value) + 0.5 if name.endswith("var") else torch.randn_like(value))
    return module.to(dtype or torch.float32).eval()


def export(module: Any, x: Any, **options: Any) -> onnx.ModelProto:
    """The module as an ONNX model, by either exporter."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if options.get("dynamo"):
            return torch.onnx.export(module, (x,), verbose=False, **options).model_proto
        stream = io.BytesIO()
        torch.onnx.export(module, (x,), stream, **options)
    return onnx.load_from_string(stream.getvalue())


def outputs(module: Any, x: Any) -> Any:
    module.eval()
    with torch.no_grad():
        return module(x)


def train(module: Any, optimizer: Any, x: Any, steps: int) -> list[float]:
    """Losses of a few steps towards fixed random targets."""
    generator = torch.Generator().manual_seed(1)
    wanted = torch.randn(module(x).shape, generator=generator).to(next(module.parameters()).dtype)
    losses = []
    module.train()
    for _ in range(steps):
        optimizer.zero_grad()
        loss = ((module(x) - wanted) ** 2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    module.eval()
    return losses
