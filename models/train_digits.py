"""Trains and exports the models of this folder, and writes the held-out digits beside them.

    python3 -m venv .torch
    .torch/bin/pip install -r models/requirements.txt
    .torch/bin/python models/train_digits.py

The digits come with scikit-learn, so nothing is downloaded. Everything is seeded and runs on one thread
of a CPU: a second run on the same machine writes the same bytes. It takes half a minute. The recipe is
fixed, and the weights are those after the last epoch; the held-out digits choose nothing.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import logging
import math
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import torch
from numpy.typing import NDArray
from onnxscript.rewriter import rewrite
from onnxscript.rewriter.rules.common import materialize_reshape_shape_rule
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor, nn

SEED = 0
HELD_OUT = 450
OPSET = 18
BATCH = 64


class ConvNormRelu(nn.Sequential):
    """A convolution with bias, a batch normalization and, if wanted, a Relu."""

    def __init__(self, entering: int, leaving: int, kernel: int, relu: bool = True) -> None:
        super().__init__()
        self.conv = nn.Conv2d(entering, leaving, kernel, padding=kernel // 2)
        self.norm = nn.BatchNorm2d(leaving)
        if relu:
            self.relu = nn.ReLU()


class Residual(nn.Module):
    """Two convolutions and what they leave out."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.first = ConvNormRelu(width, width, 3)
        self.second = ConvNormRelu(width, width, 3, relu=False)
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        """Adds what the convolutions make of the input to the input."""
        return self.relu(x + self.second(self.first(x)))


class Branches(nn.Module):
    """A narrow and a wide view of the same input, side by side."""

    def __init__(self, entering: int, narrow: int, wide: int) -> None:
        super().__init__()
        self.narrow = ConvNormRelu(entering, narrow, 1)
        self.wide = ConvNormRelu(entering, wide, 3)

    def forward(self, x: Tensor) -> Tensor:
        """Concatenates both branches."""
        return torch.cat([self.narrow(x), self.wide(x)], dim=1)


def cnn() -> nn.Sequential:
    """The network from image [batch, 1, 8, 8] to logits [batch, 10]."""
    net = nn.Sequential()
    net.stem = ConvNormRelu(1, 24, 3)
    net.residual = Residual(24)
    net.pool1 = nn.MaxPool2d(2)
    net.branches = Branches(24, 24, 40)
    net.mix = ConvNormRelu(64, 64, 3)
    net.pool2 = nn.AvgPool2d(2)
    net.flatten = nn.Flatten()
    net.hidden = nn.Linear(64 * 2 * 2, 64)
    net.norm = nn.BatchNorm1d(64)  # without it the Relu leaves some units dead
    net.relu = nn.ReLU()
    net.logits = nn.Linear(64, 10)
    return net


def mlp() -> nn.Sequential:
    """The network from pixels [batch, 64] to logits [batch, 10]."""
    net = nn.Sequential()
    net.hidden1 = nn.Linear(64, 128)
    net.relu1 = nn.ReLU()
    net.hidden2 = nn.Linear(128, 64)
    net.relu2 = nn.ReLU()
    net.logits = nn.Linear(64, 10)
    return net


def shifted(images: Tensor, generator: torch.Generator) -> Tensor:
    """Each image moved by at most one pixel each way, with blank pixels moved in."""
    padded = nn.functional.pad(images, (1, 1, 1, 1))
    down, right = torch.randint(0, 3, (2, len(images)), generator=generator)
    rows = down[:, None, None] + torch.arange(8)[None, :, None]
    columns = right[:, None, None] + torch.arange(8)[None, None, :]
    moved: Tensor = padded[torch.arange(len(images))[:, None, None], 0, rows, columns]
    return moved[:, None]


def train(net: nn.Sequential, images: Tensor, labels: Tensor, epochs: int, flat: bool) -> None:
    """AdamW with a warm-up and a cosine schedule; half of the batches are shifted by up to a pixel."""
    generator = torch.Generator().manual_seed(SEED)
    optimizer = torch.optim.AdamW(net.parameters(), weight_decay=1e-2)
    steps = len(images) // BATCH
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, epochs * steps)
    net.train()
    for _ in range(epochs):
        order = torch.randperm(len(images), generator=generator)
        for step in range(steps):
            chosen = order[step * BATCH : (step + 1) * BATCH]
            batch = images[chosen]
            if torch.rand((), generator=generator) < 0.5:
                batch = shifted(batch, generator)
            loss = nn.functional.cross_entropy(net(batch.flatten(1) if flat else batch), labels[chosen])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    net.eval()


def export(net: nn.Sequential, example: Tensor, name: str, path: Path) -> None:
    """Writes the ONNX file.

    The exporter's optimizer would fold batch normalization into the convolutions, so it stays off. Of its
    rules only one is applied: the shape of the flattened tensor becomes a constant, -1 for the batch. The
    exporter's notes on where code lies are removed.
    """
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        program = torch.onnx.export(
            net,
            (example,),
            dynamo=True,
            optimize=False,
            opset_version=OPSET,
            input_names=[name],
            output_names=["logits"],
            dynamic_shapes=({0: "batch"},),
        )
    assert program is not None
    model: onnx.ModelProto = rewrite(program.model_proto, [materialize_reshape_shape_rule])
    strip(model)
    onnx.checker.check_model(model, full_check=True)
    path.write_bytes(model.SerializeToString(deterministic=True))


def strip(model: onnx.ModelProto) -> None:
    """Removes metadata and documentation strings."""
    del model.metadata_props[:]
    model.doc_string = ""
    graph = model.graph
    for part in (graph, *graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output):
        del part.metadata_props[:]
        part.doc_string = ""


def accuracy(path: Path, images: NDArray[Any], labels: NDArray[Any]) -> float:
    """Share of right answers of an exported model, in onnxruntime."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (logits,) = session.run(["logits"], {session.get_inputs()[0].name: images})
    return float((logits.argmax(1) == labels).mean())


def parameters(path: Path) -> int:
    """Numbers in the weights of an exported model, statistics of batch normalization included."""
    return sum(math.prod(tensor.dims) for tensor in onnx.load(path).graph.initializer)


def main() -> None:
    """Trains, exports, and prints the rows of the table in README.md."""
    parser = argparse.ArgumentParser(description="Train and export the models of this folder.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent, help="where to write (this folder)")
    out: Path = parser.parse_args().out
    out.mkdir(parents=True, exist_ok=True)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    torch.set_num_threads(1)
    torch.use_deterministic_algorithms(True)

    digits = load_digits()
    images = digits.images.astype(np.uint8)
    labels = digits.target.astype(np.uint8)
    images, held_images, labels, held_labels = train_test_split(
        images, labels, test_size=HELD_OUT, stratify=labels, random_state=SEED
    )
    np.savez_compressed(out / "digits_test.npz", images=held_images, labels=held_labels)
    inputs = torch.from_numpy(images.astype(np.float32) / 16)[:, None]
    targets = torch.from_numpy(labels.astype(np.int64))
    held = held_images.astype(np.float32) / 16

    for made, name, epochs, shape in (
        (cnn, "digits_cnn", 80, (-1, 1, 8, 8)),
        (mlp, "digits_mlp", 80, (-1, 64)),
    ):
        torch.manual_seed(SEED)
        net = made()
        train(net, inputs, targets, epochs, flat=len(shape) == 2)
        path = out / f"{name}.onnx"
        export(net, inputs[:2].reshape(shape), "pixels" if len(shape) == 2 else "image", path)
        share = accuracy(path, held.reshape(shape), held_labels)
        print(f"| `{name}.onnx` | {parameters(path):,} | {path.stat().st_size:,} bytes | {share:.2%} |")


if __name__ == "__main__":
    main()
