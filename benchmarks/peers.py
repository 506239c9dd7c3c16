"""Sets the check beside those of Polygraphy and onnxsim, on the same mutants and correct students, in one run.

Usage: python benchmarks/peers.py [--quick] [--print]     from the repository's root

Needs `pip install -r benchmarks/requirements.txt` beside onnx-net2net. Each tool judges at its own defaults,
with its own inputs; sizes of dynamic dimensions are given to all. Writes a section of docs/mutations.md.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import sys
import time
from collections import Counter, defaultdict
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
import onnxsim.model_checking
from onnx import ModelProto, helper
from polygraphy.backend.onnxrt import OnnxrtRunner, SessionFromOnnx
from polygraphy.common import TensorMetadata
from polygraphy.comparator import Comparator, DataLoader
from polygraphy.logger import G_LOGGER

from benchmarks import mutation_page as pages
from benchmarks import subjects
from benchmarks.mutations import Health
from onnx_net2net import verify
from onnx_net2net.checking.inputs import graph_inputs

MODELS = (
    "digits_cnn digits_mlp quantised bert.dynamo convnext.dynamo gpt2.dynamo lstm.torchscript mobilenet_v3.dynamo_raw "
    "resnet.torchscript_raw segformer.dynamo unet.torchscript vit.dynamo"
).split()
Shapes = dict[str, list[int]]
Tool = Callable[[ModelProto, ModelProto, Shapes, dict[str, int]], bool]


def shapes(model: ModelProto, dims: dict[str, int]) -> Shapes:
    return {
        value.name: [d.dim_value or dims.get(d.dim_param, 2) for d in value.type.tensor_type.shape.dim]
        for value in graph_inputs(model)
    }


def ours(teacher: ModelProto, student: ModelProto, _given: Shapes, dims: dict[str, int]) -> bool:
    return bool(verify(teacher, student, dims=dims))


def polygraphy(teacher: ModelProto, student: ModelProto, given: Shapes, _dims: dict[str, int]) -> bool:
    runners = [
        OnnxrtRunner(SessionFromOnnx(model.SerializeToString()), name=name)
        for name, model in (("teacher", teacher), ("student", student))
    ]
    kinds = {value.name: value.type.tensor_type.elem_type for value in graph_inputs(teacher)}
    metadata = TensorMetadata()
    for name, shape in given.items():
        metadata.add(name, helper.tensor_dtype_to_np_dtype(kinds[name]), shape)
    results = Comparator.run(runners, data_loader=DataLoader(input_metadata=metadata))
    return bool(Comparator.compare_accuracy(results))


def simplifier(teacher: ModelProto, student: ModelProto, given: Shapes, _dims: dict[str, int]) -> bool:
    return bool(onnxsim.model_checking.compare(student, teacher, input_shapes=given, verbose=False))


TOOLS: dict[str, Tool] = {"onnx-net2net": ours, "Polygraphy": polygraphy, "onnxsim": simplifier}


def judge(tool: Tool, *models: object) -> tuple[str, float]:
    """What a tool says, and the seconds it takes."""
    start = time.perf_counter()
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            said = "equal" if tool(*models) else "differs"  # type: ignore[arg-type]
    except Exception as error:  # whatever another tool raises, it has not compared
        said = f"error: {type(error).__name__}"
    return said, time.perf_counter() - start


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--print", action="store_true")
    given = parser.parse_args()
    G_LOGGER.module_severity = G_LOGGER.CRITICAL
    np.random.seed(0)  # onnxsim draws from it
    counts: dict[str, dict[str, Counter[str]]] = defaultdict(lambda: defaultdict(Counter))
    seconds: dict[str, list[float]] = defaultdict(list)
    alone: Counter[str] = Counter()
    names = MODELS[:3] if given.quick else MODELS
    for name in names:
        made, dims = subjects.wider(name), subjects.dims(name)
        sizes = shapes(made.teacher, dims)
        healthy = Health(made.teacher, made.exact, dims)
        mutants = [(kind, model) for kind, _seed, model in subjects.mutants(made, 1)]
        for kind, model in [("correct", made.exact), ("correct", subjects.student(name).exact), *mutants]:
            said = {tool: judge(run, made.teacher, model, sizes, dims) for tool, run in TOOLS.items()}
            if kind != "correct" and (said["onnx-net2net"][0].startswith("error") or harmless(healthy, said, model)):
                continue
            for tool, (answer, took) in said.items():
                counts[kind][tool][answer] += 1
                seconds[tool].append(took)
            if kind != "correct":
                alone[", ".join(tool for tool, (answer, _) in said.items() if answer == "differs") or "none"] += 1
    text = section(counts, seconds, alone, names)
    if given.quick or given.print:
        print(text)
    else:
        pages.write_peers(text)


def harmless(healthy: Health, said: dict[str, tuple[str, float]], model: ModelProto) -> bool:
    """Whether a mutant that our check lets pass is none."""
    return said["onnx-net2net"][0] == "equal" and healthy.fate(model)[0] in ("equal", "noise")


def section(
    counts: dict[str, dict[str, Counter[str]]],
    seconds: dict[str, list[float]],
    alone: Counter[str],
    names: list[str],
) -> str:
    total = {tool: sum((c[tool] for kind, c in counts.items() if kind != "correct"), Counter()) for tool in TOOLS}
    mutants = sum(total["onnx-net2net"].values())
    base = np.array(seconds["onnx-net2net"])
    summary = []
    for tool in TOOLS:
        wrong, right = counts["correct"][tool], total[tool]
        errors = sum(n for said, n in (wrong + right).items() if said.startswith("error"))
        ratio = np.array(seconds[tool]) / base
        rate = f"{right['differs'] / mutants:.1%}"
        alarms = f"{wrong['differs']} of {sum(wrong.values())}"
        summary.append((tool, right["differs"], rate, right["equal"], errors, alarms, f"{np.median(ratio):.2f}"))
    kinds = [
        (kind, sum(count["onnx-net2net"].values()), *(count[tool]["differs"] for tool in TOOLS))
        for kind, count in sorted(counts.items())
        if kind != "correct" and any(count[tool]["differs"] < sum(count[tool].values()) for tool in TOOLS)
    ]
    tools = ", ".join(f"{name} {version(name)}" for name in ("polygraphy", "onnxsim", "onnxruntime"))
    found, networks = pages.versions(), len(names)
    introduction = (
        f"{mutants} mutants of {networks} networks, one of each kind, without those that change nothing,\n"
        "and correct students; each tool at its own defaults (Polygraphy: `Comparator.compare_accuracy`, one sample,\n"
        "1e-5 absolute and relative; onnxsim: `model_checking.compare`, five samples, 1e-4 relative and 1e-5\n"
        "absolute). Time is the median ratio to ours, model by model in one run. Made by\n"
        f"`python benchmarks/peers.py` on {found['today']}: {found['machine']}, Python {found['python']}, {tools}.\n"
    )
    head = "tool|caught|rate|missed|could not compare|false alarms|time"
    parts = [introduction, pages.table(head, summary)]
    parts += ["Kinds that some tool missed:\n", pages.table("kind|mutants|" + "|".join(TOOLS), kinds)]
    parts += ["Caught by:\n", pages.table("tools|mutants", alone.most_common())]
    return "\n".join(parts)


if __name__ == "__main__":
    main()
