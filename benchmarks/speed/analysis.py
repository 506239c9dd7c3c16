"""Inference and planning: time per 1,000 nodes, growth with the graph, and beside Torch-Pruning's dependency graph."""

from __future__ import annotations

import gc
import importlib.util
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

from onnx import ModelProto

from benchmarks.speed.measure import Row, by_turns, exponent, least
from benchmarks.speed.models import chain
from onnx_net2net.growing import widen
from onnx_net2net.inference.infer import infer
from onnx_net2net.io import load

NODES = (3_000, 6_000, 12_000, 24_000)
PEER = {"ResNet-50": 1.0, "DenseNet-121": 0.1, "BERT-base": 1.0}
"""Networks, and what our time may be of Torch-Pruning's; the plan, which it has no counterpart of, may take as long."""


def growth(_folder: Path, runs: int) -> Iterator[Row]:
    """Time over nodes."""
    steps: dict[str, Callable[[ModelProto], Any]] = {
        "inference": infer,
        "inference, planning and widening": lambda model: widen(model, factor=1.5).exact,
    }
    models = [chain(nodes) for nodes in NODES]
    for what, step in steps.items():
        seconds = []
        for nodes, model in zip(NODES, models, strict=True):
            seconds.append(least(runs, partial(step, model)))
            yield Row("growth with nodes", f"{what}, {nodes:,} nodes", seconds[-1] / nodes * 1e6, "ms per 1,000 nodes")
        yield Row("growth with nodes", f"exponent of {what}", exponent(NODES, seconds), "", 1.1)


def beside_torch_pruning(folder: Path, runs: int) -> Iterator[Row]:
    """The same networks, from torchvision and transformers, exported for us and built as they are for Torch-Pruning."""
    if not all(importlib.util.find_spec(name) for name in ("torch", "torchvision", "transformers", "torch_pruning")):
        return
    import torch  # noqa: PLC0415  # it is large, and not everybody wants this part

    torch.set_num_threads(1)
    for name, (network, example) in _networks().items():
        path = folder / f"{name}.onnx"
        torch.onnx.export(network, example, str(path), dynamo=False, opset_version=17)
        model = load(path)
        calls = partial(infer, model), partial(widen, model, factor=1.5), partial(_groups, network, example)
        gc.collect()
        gc.freeze()  # or each collection walks through all of torch
        ours, whole, theirs = by_turns(2 * runs, *(partial(least, 1, call) for call in calls))
        told = f"Torch-Pruning's dependency graph and all groups ({theirs * 1e3:.0f} ms)"
        yield Row("analysis", f"inference of {name}", ours * 1e3, "ms", PEER[name], ours / theirs, told)
        yield Row("analysis", f"inference and plan of {name}", whole * 1e3, "ms", 1, whole / theirs, told)
        path.unlink()


def _networks() -> dict[str, tuple[Any, Any]]:
    import torch  # noqa: PLC0415
    import torchvision  # noqa: PLC0415
    import transformers  # noqa: PLC0415

    image, words = torch.zeros(1, 3, 224, 224), torch.ones(1, 16, dtype=torch.long)
    bert = transformers.BertModel(transformers.BertConfig(attn_implementation="eager"))

    class Words(torch.nn.Module):
        """BERT with one input and one output."""

        def __init__(self) -> None:
            super().__init__()
            self.bert = bert

        def forward(self, words: Any) -> Any:
            return self.bert(input_ids=words).last_hidden_state

    return {
        "ResNet-50": (torchvision.models.resnet50().eval(), image),
        "DenseNet-121": (torchvision.models.densenet121().eval(), image),
        "BERT-base": (Words().eval(), words),
    }


def _groups(network: Any, example: Any) -> int:
    """Torch-Pruning's analysis: the dependency graph, and every group of layers that change together."""
    import torch_pruning  # noqa: PLC0415

    graph = torch_pruning.DependencyGraph().build_dependency(network, example_inputs=example)
    return sum(1 for _ in graph.get_all_groups())
