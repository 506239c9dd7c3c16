"""From a trained teacher to its students: export, expansion, and the way back to PyTorch."""

from __future__ import annotations

import contextlib
import copy
import io
import logging
import time
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnxruntime
import torch
from onnx import ModelProto, numpy_helper
from torch import Tensor, nn

from benchmarks.experiment.data import Data, disturbed
from benchmarks.experiment.networks import DEEPER, NETWORKS, start
from onnx_net2net import Expansion, deepen, widen
from onnx_net2net.torch import grow_training, to_tensors

NOISE = 0.1
"""The noise that goes with even fractions."""
SCOPES = "pkg.torch.onnx.name_scopes"
COUNTER = "num_batches_tracked"


@dataclass(frozen=True, slots=True)
class Method:
    """One way to get a network to train.

    Attributes:
        change: ``wide`` or ``deep``: which students it is compared with; ``none`` for the teacher itself.
        name: How it starts.
        fresh: Whether the optimizer starts anew, where its state could grow.
    """

    change: str
    name: str
    fresh: bool = False

    @property
    def title(self) -> str:
        """What tables call it."""
        return f"{self.name}, state reset" if self.fresh else self.name


UNEVEN, IDENTITY, SCRATCH, PAD, RANDOM = "uneven", "identity", "scratch", "random-pad", "random"
METHODS = (
    Method("none", "teacher trained on"),
    Method("wide", UNEVEN),
    Method("wide", "even + noise"),
    Method("wide", "scatter"),
    Method("wide", "first"),
    Method("wide", UNEVEN, fresh=True),
    Method("wide", PAD),
    Method("wide", SCRATCH),
    Method("deep", IDENTITY),
    Method("deep", IDENTITY, fresh=True),
    Method("deep", RANDOM),
    Method("deep", SCRATCH),
)


@dataclass(frozen=True, slots=True)
class Teacher:
    """A trained network, its optimizer, and what it was exported to."""

    network: str
    module: nn.Module
    optimizer: torch.optim.Optimizer
    model: ModelProto
    example: Tensor
    seed: int


@dataclass(frozen=True, slots=True)
class Student:
    """A network to train on, the optimizer that it takes over (None for a new one), and what it cost to make."""

    module: nn.Module
    optimizer: torch.optim.Optimizer | None
    seconds: float


def export(module: nn.Module, example: Tensor) -> ModelProto:
    """The ONNX model, with batch normalisation kept."""
    module.eval()
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with contextlib.redirect_stdout(io.StringIO()), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        program = torch.onnx.export(
            module,
            (example,),
            dynamo=True,
            optimize=False,
            input_names=["image"],
            output_names=["logits"],
            dynamic_shapes=({0: "batch"},),
        )
    assert program is not None
    model: ModelProto = program.model_proto
    return model


class Nursery:
    """Makes the students of one teacher; what several need is made once.

    Args:
        teacher: The teacher.
        data: What statistics of batch normalisation in new layers are measured on.
    """

    def __init__(self, teacher: Teacher, data: Data) -> None:
        self.teacher = teacher
        self.data = data
        self.wanted = widths(teacher)
        self.places = places(teacher)
        self.norm = any(isinstance(part, nn.BatchNorm2d) for part in teacher.module.modules())
        self.exact: dict[str, tuple[nn.Module, torch.optim.Optimizer, float]] = {}

    def make(self, method: Method) -> Student:
        """The student that a method starts with, by itself: nothing is shared with another."""
        makers: dict[str, Callable[[], Expansion]] = {PAD: self.padded, RANDOM: self.random_layers}
        if method.name == SCRATCH:
            module, _, _ = self.grown(UNEVEN if method.change == "wide" else IDENTITY)
            return Student(start(module, self.teacher.seed), None, 0.0)
        if method.change == "none":
            module, optimizer = copy.deepcopy((self.teacher.module, self.teacher.optimizer))
            return Student(module, optimizer, 0.0)
        if method.name in makers:
            module, _, _ = self.grown("first" if method.change == "wide" else IDENTITY)
            began = time.process_time()
            fill(module, self.teacher, made := makers[method.name]())
            check(module, made.model, self.data)
            return Student(module, None, time.process_time() - began)
        module, optimizer, spent = self.grown(method.name)
        return Student(module, None if method.fresh else optimizer, spent)

    def grown(self, name: str) -> tuple[nn.Module, torch.optim.Optimizer, float]:
        """A student that equals its teacher, but for the noise, with the optimizer's state, and the seconds it took."""
        if name not in self.exact:
            began = time.process_time()
            made = self.layers() if name == IDENTITY else self.widened(name)
            if not (verdict := made.verify()):
                raise AssertionError(verdict.reason)
            teacher = self.teacher
            back = grow_training(teacher.module, teacher.optimizer, teacher.model, made.plan, (teacher.example,))
            if name.endswith("noise"):
                fill(back.module, teacher, noisy := self.widened(name, NOISE))
                check(back.module, noisy.model, self.data)
            self.exact[name] = back.module, back.optimizer, time.process_time() - began
        module, optimizer, spent = self.exact[name]
        return *copy.deepcopy((module, optimizer)), spent

    def widened(self, name: str, noise: float = 0.0) -> Expansion:
        """All layers at the full network's sizes."""
        split: Any = name.partition(" ")[0]
        return widen(self.teacher.model, widths=self.wanted, split=split, noise=noise, seed=self.teacher.seed)

    def padded(self) -> Expansion:
        """The same sizes, with random units beside the old ones."""
        return widen(self.teacher.model, widths=self.wanted, init="random-pad", seed=self.teacher.seed)

    def layers(self) -> Expansion:
        """A layer more behind activations, with statistics measured on images like those of training."""
        images = disturbed(self.data.images, torch.Generator().manual_seed(self.teacher.seed)).numpy()
        calibrate = {"image": images} if self.norm else None
        return deepen(self.teacher.model, after=self.places, batch_norm=self.norm, calibrate=calibrate)

    def random_layers(self) -> Expansion:
        """The same layers, with random weights."""
        return deepen(
            self.teacher.model, after=self.places, batch_norm=self.norm, init="random", seed=self.teacher.seed
        )


def widths(teacher: Teacher) -> dict[str, int]:
    """Output channels by weight, where the full network has more than the teacher."""
    full = NETWORKS[teacher.network][0](1.0).state_dict()
    small = teacher.module.state_dict()
    return {
        name: len(value)
        for name, value in full.items()
        if name.endswith("weight") and value.ndim > 1 and len(value) != len(small[name])
    }


def places(teacher: Teacher) -> list[str]:
    """The nodes of the activations that get another layer."""
    found = []
    for node in teacher.model.graph.node:
        scopes = next((entry.value for entry in node.metadata_props if entry.key == SCOPES), "")
        if node.op_type == "Relu" and any(f"'{name}'" in scopes for name in DEEPER[teacher.network]):
            found.append(node.name)
    return found


def fill(module: nn.Module, teacher: Teacher, made: Expansion) -> None:
    """Loads an ONNX student's weights, which `grow` refuses where they do not compute what the teacher does.

    Old layers have the exporter's names, which are PyTorch's, unless the plan makes another version for a use of its
    own; new layers go in order, and their matrices have inputs first.
    """
    weights = {t.name: np.array(numpy_helper.to_array(t)) for t in made.model.graph.initializer}
    versions = {constant.source: constant.name for constant in made.plan.constants}
    state = module.state_dict()
    new = [name for name in state if name not in teacher.module.state_dict() and not name.endswith(COUNTER)]
    added = [name for layer in made.plan.layers for name in layer.names if name in weights]
    values = {name: weights[versions.get(name, name)] for name in state if versions.get(name, name) in weights}
    for name, source in zip(new, added, strict=True):
        values[name] = weights[source].T if weights[source].ndim == 2 else weights[source]
    missing, strange = module.load_state_dict(to_tensors(values), strict=False)
    if lost := [*strange, *(name for name in missing if not name.endswith(COUNTER))]:
        raise AssertionError(f"not loaded: {lost}")


def check(module: nn.Module, model: ModelProto, data: Data) -> None:
    """Makes sure that a module computes what an ONNX model does, in onnxruntime."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    images = data.seen[:64]
    (wanted,) = session.run(None, {"image": images.numpy()})
    module.eval()
    with torch.no_grad():
        np.testing.assert_allclose(module(images).numpy(), wanted, atol=1e-4 * float(np.abs(wanted).max()))
