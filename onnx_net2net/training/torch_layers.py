"""Inserted layers as modules of PyTorch."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from torch import nn

from onnx_net2net.deepening.layers import EPSILON, roles
from onnx_net2net.errors import RequestError
from onnx_net2net.planning.plan import Layer
from onnx_net2net.training.checkpoint import to_torch
from onnx_net2net.training.weights import Growth

CONVOLUTIONS: dict[int, Any] = {1: nn.Conv1d, 2: nn.Conv2d, 3: nn.Conv3d}
NORMS: dict[int, Any] = {0: nn.BatchNorm1d, 1: nn.BatchNorm1d, 2: nn.BatchNorm2d, 3: nn.BatchNorm3d}


class Residual(nn.Module):  # type: ignore[misc]
    """The sum of its input and of what a branch makes of it."""

    def __init__(self, branch: Any) -> None:
        super().__init__()
        self.branch = branch

    def forward(self, x: Any) -> Any:
        """The sum."""
        return x + self.branch(x)


@dataclass(slots=True)
class Made:
    """A module, and the names of its tensors by those of the student's initializers."""

    module: Any
    names: dict[str, str] = field(default_factory=dict)


def inserted(layer: Layer, growth: Growth, activation: Any) -> Made:
    """The module of a layer. Its weights in ``growth.state`` take the layout that PyTorch has for them.

    Raises:
        RequestError: If PyTorch has no module that works on that axis.
    """
    wide = layer.kind == "MatMul" and layer.rank > 2
    if wide and (layer.batch_norm or layer.mode == "prelu"):
        wrong = "PyTorch normalises and scales axis 1 only, and its channels are last"
        raise RequestError(wrong, "choose another mode, or insert it by hand", op="module", tensor=layer.tensor)
    names = dict(zip(roles(layer), layer.names, strict=True))
    made = Made(None)
    steps: list[Any] = []

    def add(step: Any, tensors: dict[str, str]) -> None:
        for role, inner in tensors.items():
            if names.get(role) in growth.layers:
                made.names[names[role]] = f"{len(steps)}.{inner}"
                value = growth.layers[names[role]]
                growth.state[names[role]] = value.T if value.ndim == 2 else value
        steps.append(step.to(dtype=to_torch(growth.layers[names["weight"]]).dtype))

    add(_linear(layer, layer.kernel, layer.group, bias=False), {"weight": "weight"})
    if layer.batch_norm:
        norm = NORMS[len(layer.kernel)](layer.channels, eps=EPSILON)
        held = ("weight", "bias", "running_mean", "running_var")
        add(norm, dict(zip(("scale", "shift", "mean", "variance"), held, strict=True)))
    if layer.mode in ("identity", "residual"):
        steps.append(activation)
    elif layer.mode == "prelu":
        add(nn.PReLU(layer.channels), {"slope": "weight"})
        growth.state[names["slope"]] = growth.layers[names["slope"]].reshape(-1)
    if layer.mode == "residual":
        biased = layer.kind != "MatMul"
        one = (1,) * len(layer.kernel)
        add(_linear(layer, one, layer.group, bias=biased), {"projection": "weight", "bias": "bias"})
        made.module = Residual(nn.Sequential(*steps))
        made.names = {name: f"branch.{inner}" for name, inner in made.names.items()}
    else:
        made.module = nn.Sequential(*steps)
    return made


def _linear(layer: Layer, kernel: tuple[int, ...], group: int, *, bias: bool) -> Any:
    n = layer.channels
    if layer.kind != "Conv":
        return nn.Linear(n, n, bias=bias)
    padding = tuple(side // 2 for side in kernel)
    return CONVOLUTIONS[len(kernel)](n, n, kernel, padding=padding, groups=group, bias=bias)
