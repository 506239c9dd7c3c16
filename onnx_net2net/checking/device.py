"""What a verification away from the CPU rests on: where each node ran, and how far the device's own rounding goes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from onnx import ModelProto

from onnx_net2net.checking.crossing import Crossing
from onnx_net2net.checking.inputs import Array, Feeds
from onnx_net2net.checking.runtime import PROVIDERS, NoKernel, Runner, as_source, ask, by_name, run_on
from onnx_net2net.errors import ModelError, UsageError, message
from onnx_net2net.inference.graph import Graph

CPU, CUDA = PROVIDERS["cpu"], PROVIDERS["cuda"]
SHOWN = 5
"""Nodes that a message lists."""


@dataclass(frozen=True, slots=True)
class Elsewhere:
    """A node that did not run on the device.

    Attributes:
        model: ``teacher`` or ``student``.
        op: Its operator.
        node: Its name.
        provider: Where it ran.
        compute: Whether it computes something, rather than a size that shapes and constants determine.
    """

    model: str
    op: str
    node: str
    provider: str
    compute: bool

    def __str__(self) -> str:
        return message(f"{self.model}'s {self.op}", self.node, "", f"on {self.provider}", "")


@dataclass(frozen=True, slots=True)
class Device:
    """What is known of the device that a verification ran on.

    Attributes:
        provider: Onnxruntime's name of it.
        nodes: How many nodes of each model ran on it.
        elsewhere: Nodes that ran on another.
        cpu_gap: By output, how far the teacher on the CPU is from the teacher on the device; empty if the CPU cannot.
        tf32_teacher: By output, what TF32 changes in the teacher; empty where there is no such thing.
        tf32_student: By output, how far the student is from the teacher when both use TF32.
    """

    provider: str
    nodes: Mapping[str, int]
    elsewhere: tuple[Elsewhere, ...] = ()
    cpu_gap: Mapping[str, float] = field(default_factory=dict)
    tf32_teacher: Mapping[str, float] = field(default_factory=dict)
    tf32_student: Mapping[str, float] = field(default_factory=dict)

    def failure(self, strict: bool) -> str:
        """Which nodes ran elsewhere though they compute something, if that matters; that none ran here always does."""
        if not all(self.nodes.values()):
            return f"no node ran on {self.provider}"
        found = [str(node) for node in self.elsewhere if node.compute]
        more = [f"and {len(found) - SHOWN} more"] if len(found) > SHOWN else []
        listed = "; ".join([*found[:SHOWN], *more])
        return f"{len(found)} nodes did not run on {self.provider}: {listed}" if found and strict else ""

    def to_dict(self) -> dict[str, Any]:
        """The device for JSON."""
        keys = Elsewhere.__slots__
        return {
            "provider": self.provider,
            "nodes": dict(self.nodes),
            "elsewhere": [{key: getattr(node, key) for key in keys} for node in self.elsewhere],
            "cpu_gap": dict(self.cpu_gap),
            "tf32_teacher": dict(self.tf32_teacher),
            "tf32_student": dict(self.tf32_student),
        }


def device_of(providers: Sequence[str], strict: bool) -> str:
    """The device that was asked for first, if it is not the CPU; otherwise an empty string.

    Raises:
        UsageError: If it is strictly the CPU.
    """
    if providers[0] != CPU:
        return providers[0]
    if strict:
        raise UsageError("all nodes run on the CPU anyway", "ask for another provider first", op="strict")
    return ""


def examine(
    runner: Runner,
    models: Mapping[str, ModelProto],
    mine: list[list[Array]],
    feeds: Mapping[str, Sequence[Feeds]],
    providers: Sequence[str],
    strict: bool,
    crossing: Crossing,
) -> Device:
    """Runs teacher and student again, to see where their nodes run and what the device's rounding does.

    Args:
        runner: Where onnxruntime runs.
        models: ``teacher`` and ``student``.
        mine: What the teacher gave on the device.
        feeds: The samples, as each of them gets them.
        providers: Onnxruntime's names, the device first.
        strict: Whether to try first to have no node on the CPU.
        crossing: What the student's outputs hold.
    """
    names = [value.name for value in models["teacher"].graph.output]
    device = providers[0]
    alone = strict and CPU not in providers  # onnxruntime takes the two for a contradiction
    placed = {who: _placed(runner, who, model, feeds[who], providers, alone) for who, model in models.items()}
    nodes = {who: sum(where == device for where, _, _ in places) for who, places in placed.items()}
    elsewhere = tuple(node for who, model in models.items() for node in _elsewhere(who, model, placed[who], device))
    try:
        gap = _gaps(names, mine, run_on(runner, models["teacher"], feeds["teacher"], [CPU]))
    except (ModelError, NoKernel):
        gap = {}
    if device != CUDA:
        return Device(device, nodes, elsewhere, gap)
    fast = {}
    for who, model in models.items():
        with as_source(model) as source:
            fast[who] = by_name(ask(runner, source, names, feeds[who], providers, who, tf32=True))
    teacher, student = fast["teacher"], fast["student"]
    wanted = crossing.outputs(models["teacher"], teacher)
    return Device(device, nodes, elsewhere, gap, _gaps(names, mine, teacher), _gaps(names, wanted, student))


Place = tuple[str, str, str]
"""(provider, operator, name) of a node."""


def _placed(
    runner: Runner, who: str, model: ModelProto, feeds: Sequence[Feeds], providers: Sequence[str], alone: bool
) -> list[Place]:
    """Where the nodes of a model run; ``alone`` tries first to have none on the CPU."""
    names = [value.name for value in model.graph.output]
    with as_source(model) as source:
        reply = ask(runner, source, names, feeds[:1], providers, who, trace=True, alone=alone)
    placed: list[Place] = reply["placed"]
    hidden = alone and not reply["alone"] and all(where == providers[0] for where, _, _ in placed)
    return [*placed, (CPU, "node that onnxruntime does not name", "")] if hidden else placed


def _elsewhere(who: str, model: ModelProto, placed: Sequence[Place], device: str) -> list[Elsewhere]:
    """The nodes of a model that do not run on the device."""
    away = [place for place in placed if place[0] != device]
    sizes = _sizes(model) if away else set()
    return [Elsewhere(who, op, node, where, (op, node) not in sizes) for where, op, node in away]


def _sizes(model: ModelProto) -> set[tuple[str, str]]:
    """(operator, name) of nodes all of whose outputs follow from shapes and constants, and of no others."""
    try:
        graph = Graph(model)
    except ModelError:
        return set()
    known: dict[tuple[str, str], bool] = {}
    for node in graph.nodes:
        here = all(graph.small_value(name) is not None for name in node.output if name)
        known[node.op_type, node.name] = known.get((node.op_type, node.name), True) and here
    return {key for key, follows in known.items() if follows}


def _gaps(names: Sequence[str], mine: list[list[Array]], others: list[list[Array]]) -> dict[str, float]:
    """max|a - b| / max|a| by output, the worst of all samples; infinite where shapes differ."""
    return {
        name: max((_gap(x, y) for x, y in zip(a, b, strict=True)), default=0.0)
        for name, a, b in zip(names, mine, others, strict=True)
    }


def _gap(a: Array, b: Array) -> float:
    if not isinstance(a, np.ndarray) or not isinstance(b, np.ndarray) or a.shape != b.shape:
        return float("inf")
    x, y = np.asarray(a, np.float64), np.asarray(b, np.float64)
    worst, scale = float(np.abs(x - y).max(initial=0.0)), float(np.abs(x).max(initial=0.0))
    return worst / scale if scale else (float("inf") if worst else 0.0)
