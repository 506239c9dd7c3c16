"""Verification: runs teacher and student in onnxruntime on the same inputs and compares every output."""

from __future__ import annotations

import contextlib
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from onnx import ModelProto, TensorProto

from onnx_net2net.checking.inputs import Array, Feeds, graph_inputs, samples_for
from onnx_net2net.checking.upcast import upcast
from onnx_net2net.errors import MissingError, ModelError
from onnx_net2net.io import Model, is_large, load, save

FLOOR: dict[int, float] = {TensorProto.FLOAT16: 2e-3, TensorProto.BFLOAT16: 2e-2}
"""Relative error that always passes, by element type; 1e-5 for all others."""
CEILING = 1e-2
NOISE_FACTOR = 20
PROVIDERS = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


@dataclass(frozen=True, slots=True)
class OutputVerdict:
    """How one output compares.

    Attributes:
        name: The output.
        max_abs: Largest absolute difference.
        max_rel: max|a - b| / max|a| over the whole output, the worst of all samples.
        tolerance: What ``max_rel`` may be; with rtol or atol given, what the largest excess is held to.
        where: Position of the largest difference, sample first.
        failure: Why the output fails; empty if it passes.
    """

    name: str
    max_abs: float
    max_rel: float
    tolerance: float
    where: tuple[int, ...] = ()
    failure: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a verification; true when teacher and student are equivalent."""

    outputs: tuple[OutputVerdict, ...] = ()
    failure: str = ""
    samples: int = 0
    providers: tuple[str, ...] = ()
    upcast: bool = field(default=False)

    def __bool__(self) -> bool:
        return not self.failure and bool(self.outputs) and not any(o.failure for o in self.outputs)

    @property
    def reason(self) -> str:
        """Why the verification failed, or an empty string."""
        return self.failure or next((f"output '{o.name}': {o.failure}" for o in self.outputs if o.failure), "")

    def to_dict(self) -> dict[str, Any]:
        """The verdict for JSON."""
        outputs = [
            {"name": o.name, "max_abs": o.max_abs, "max_rel": o.max_rel, "tolerance": o.tolerance}
            | {"where": list(o.where)}
            | ({"failure": o.failure} if o.failure else {})
            for o in self.outputs
        ]
        return {
            "equivalent": bool(self),
            "outputs": outputs,
            "samples": self.samples,
            "providers": list(self.providers),
            "upcast": self.upcast,
            "reason": self.reason,
        }


def verify(
    teacher: Model,
    student: Model,
    *,
    inputs: Mapping[str, Array] | Sequence[Mapping[str, Array]] | None = None,
    samples: int = 3,
    seed: int = 0,
    providers: Sequence[str] = ("cpu",),
    rtol: float | None = None,
    atol: float | None = None,
    dims: Mapping[str, int] | None = None,
) -> Verdict:
    """Compares two models on the same inputs.

    Args:
        teacher: The reference: a path, a `ModelProto` or a `gs.Graph`.
        student: The model under test.
        inputs: Inputs by name, or a list of such samples; by default seeded normal values.
        samples: How many samples to draw.
        seed: Seed of the draws.
        providers: ``cpu``, ``cuda`` or onnxruntime's own names.
        rtol: Relative tolerance in place of the measured one: |a - b| <= atol + rtol * max|a|.
        atol: Absolute tolerance in place of the measured one.
        dims: Sizes of dynamic dimensions, by symbol or by ``input:dim``.

    Returns:
        A verdict for each output. An output passes if max|a-b| / max|a| is at most 1e-5 (float16 2e-3,
        bfloat16 2e-2), or 20 times what graph optimisations alone change, whichever is larger and never
        more than 1e-2. NaN, Inf, no outputs, or outputs that change less between inputs than the
        tolerance allows fail: they would prove nothing.

    Raises:
        MissingError: If onnxruntime or a provider is not there.
        ModelError: If a model cannot be run.
    """
    runtime = import_runtime()
    names = _providers(runtime, providers)
    first, second = load(teacher), load(student)
    mismatch = _interface(first, second)
    if mismatch:
        return Verdict(failure=mismatch, providers=tuple(names))
    feeds = samples_for(first, inputs, samples, seed, dims or {})
    if inputs is None and not _fits(runtime, first, feeds, names):
        feeds = samples_for(first, inputs, samples, seed, dims or {}, vary=False)
    raised = False
    try:
        mine, plain, theirs = _run_all(runtime, first, second, feeds, names)
    except _NoKernel:
        raised = True
        feeds = [{name: _widened(value) for name, value in feed.items()} for feed in feeds]
        try:
            mine, plain, theirs = _run_all(runtime, upcast(first), upcast(second), feeds, names)
        except _NoKernel as error:
            wrong = f"onnxruntime has no kernel for an operator and its type ({error})"
            raise ModelError(wrong, "verify it with another provider, or go without", op="model") from error
    fixed = _constants(first) & _constants(second)
    if fixed >= {value.name for value in first.graph.output}:
        return Verdict(failure="all outputs are constants, which proves nothing", providers=tuple(names))
    kinds = {value.name: value.type.tensor_type.elem_type for value in first.graph.output}
    outputs = tuple(
        _equal(name, a, b) if name in fixed else _compare(name, kinds[name], a, b, c, rtol, atol)
        for name, a, b, c in zip(kinds, mine, theirs, plain, strict=True)
    )
    return Verdict(outputs, "", len(feeds), tuple(names), raised)


def import_runtime() -> Any:
    """onnxruntime, imported only where it is needed.

    Raises:
        MissingError: If it is not installed, or two of its packages overwrote each other.
    """
    try:
        import onnxruntime

        onnxruntime.InferenceSession  # noqa: B018  # a damaged install lacks it
    except (ImportError, AttributeError) as error:
        found = installed()
        if found:
            wrong = f"{' and '.join(found)} cannot be imported ({error})"
            raise MissingError(wrong, REINSTALL, op="onnxruntime") from error
        raise MissingError(
            "it is not installed",
            "pip install 'onnx-net2net[cpu]' (or [gpu]), or go without verification",
            op="onnxruntime",
        ) from error
    return onnxruntime


REINSTALL = "pip uninstall onnxruntime and onnxruntime-gpu, then install only one of them"


def installed() -> list[str]:
    """Which of onnxruntime's packages are installed; two of them overwrite each other's files."""
    from importlib.metadata import distributions

    names = {d.metadata["Name"] for d in distributions()}
    return sorted(names & {"onnxruntime", "onnxruntime-gpu"})


def _providers(runtime: Any, wanted: Sequence[str]) -> list[str]:
    names = [PROVIDERS.get(name.lower(), name) for name in wanted]
    present = runtime.get_available_providers()
    for name in names:
        if name not in present and len(installed()) > 1:
            raise MissingError(
                "two packages of onnxruntime overwrote each other", REINSTALL, op="provider", tensor=name
            )
        if name not in present:
            raise MissingError(
                f"it is not available here (there is {', '.join(present)})",
                "pip uninstall onnxruntime, then pip install 'onnx-net2net[gpu]' on a machine with a GPU",
                op="provider",
                tensor=name,
            )
    return names


def _interface(first: ModelProto, second: ModelProto) -> str:
    """How the inputs and outputs of two models differ, or an empty string."""
    if not first.graph.output:
        return "no outputs were compared"
    for model in (first, second):
        if len({value.name for value in model.graph.output}) < len(model.graph.output):
            raise ModelError("two outputs have one name", "give every tensor a name of its own", op="graph output")
    for kind in ("input", "output"):
        a, b = ({v.name: v for v in getattr(m.graph, kind)} for m in (first, second))
        if kind == "input":
            a, b = ({v.name: v for v in graph_inputs(m)} for m in (first, second))
        if a.keys() != b.keys():
            return f"the {kind}s differ: {sorted(a.keys() ^ b.keys())}"
        for name in a:
            if a[name].type.tensor_type.elem_type != b[name].type.tensor_type.elem_type:
                return f"{kind} '{name}' differs in type"
    return ""


def _fits(runtime: Any, model: ModelProto, feeds: Sequence[Feeds], providers: Sequence[str]) -> bool:
    """Whether the teacher runs at all sizes that were drawn for its dynamic dimensions."""
    shapes = [{name: value.shape for name, value in feed.items()} for feed in feeds]
    if all(shape == shapes[0] for shape in shapes):
        return True
    try:
        _run(runtime, model, feeds, providers, optimise=False)
    except ModelError:
        return False
    except _NoKernel:
        return True
    return True


def _run_all(
    runtime: Any, teacher: ModelProto, student: ModelProto, feeds: Sequence[Feeds], providers: Sequence[str]
) -> tuple[list[list[Array]], list[list[Array]], list[list[Array]]]:
    """What the teacher gives, what it gives without graph optimisations, and what the student gives."""
    return (
        _run(runtime, teacher, feeds, providers),
        _run(runtime, teacher, feeds, providers, optimise=False),
        _run(runtime, student, feeds, providers, who="student"),
    )


def _constants(model: ModelProto) -> set[str]:
    """Outputs that are constants of the model, which cannot react to an input."""
    made = {name for node in model.graph.node for name in node.output if any(node.input)}
    return {value.name for value in model.graph.output} - made - {value.name for value in graph_inputs(model)}


def _equal(name: str, mine: list[Array], theirs: list[Array]) -> OutputVerdict:
    """Compares a constant output, which has to be the same to the bit."""
    same = all(np.array_equal(a, b) for a, b in zip(mine, theirs, strict=True))
    return OutputVerdict(name, 0.0, 0.0, 0.0, (), "" if same else "it is a constant and differs")


class _NoKernel(Exception):  # tells the caller to try another way
    """onnxruntime has no kernel for a type that the model uses."""


def _run(
    runtime: Any,
    model: ModelProto,
    feeds: Sequence[Feeds],
    providers: Sequence[str],
    *,
    optimise: bool = True,
    who: str = "teacher",
) -> list[list[Array]]:
    """Outputs by output, then by sample."""
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    level = runtime.GraphOptimizationLevel
    options.graph_optimization_level = level.ORT_ENABLE_ALL if optimise else level.ORT_DISABLE_ALL
    names = [value.name for value in model.graph.output]
    try:
        with as_source(model) as source:
            session = runtime.InferenceSession(source, options, providers=list(providers))
        _check_providers(session.get_providers(), providers)
        results = [session.run(names, feed) for feed in feeds]
    except UnicodeDecodeError as error:  # onnxruntime quotes the model's own bytes
        raise ModelError("onnxruntime cannot run it, and cannot say why", "check the model", op=who) from error
    except Exception as error:
        if type(error).__module__.startswith("onnxruntime"):
            if type(error).__name__ == "NotImplemented":
                raise _NoKernel(str(error).strip().splitlines()[0]) from error
            text = str(error).strip().splitlines()[0]
            raise ModelError(
                f"onnxruntime cannot run it ({text})",
                "check the model with onnx.checker, and the sizes of dynamic dimensions (--dim)",
                op=who,
            ) from error
        raise
    return [list(column) for column in zip(*results, strict=True)] if names else []


def _check_providers(used: Sequence[str], wanted: Sequence[str]) -> None:
    """Onnxruntime falls back to the CPU without an error where a provider's libraries do not load."""
    for name in wanted:
        if name not in used:
            raise MissingError(
                "onnxruntime fell back to another provider, as its libraries do not load here",
                "install 'onnx-net2net[gpu]' with CUDA and cuDNN on a machine with a GPU",
                op="provider",
                tensor=name,
            )


@contextlib.contextmanager
def as_source(model: ModelProto) -> Iterator[bytes | str]:
    """What onnxruntime can load: bytes, or over 2 GiB the path of a temporary file."""
    if not is_large(model):
        yield model.SerializeToString()
        return
    with tempfile.TemporaryDirectory(prefix="onnx_net2net.") as folder:
        path = Path(folder) / "model.onnx"
        save(model, path)
        yield str(path)


def _widened(value: Array) -> Array:
    return value.astype(np.float32) if value.dtype.name in ("bfloat16", "float16") else value


def _compare(
    name: str,
    kind: int,
    mine: list[Array],
    theirs: list[Array],
    plain: list[Array],
    rtol: float | None,
    atol: float | None,
) -> OutputVerdict:
    """Compares one output over all samples."""
    if not all(isinstance(a, np.ndarray) for a in (*mine, *theirs)):
        return OutputVerdict(name, float("inf"), float("inf"), 0.0, (), "it is not a tensor, and cannot be compared")
    if any(a.shape != b.shape for a, b in zip(mine, theirs, strict=True)):
        return OutputVerdict(name, float("inf"), float("inf"), 0.0, (), "its shapes differ")
    if not any(a.size for a in mine):
        return OutputVerdict(name, 0.0, 0.0, 0.0, (), "it is empty")
    if not (np.issubdtype(mine[0].dtype, np.number) or mine[0].dtype == bool or mine[0].dtype.name == "bfloat16"):
        return OutputVerdict(name, float("inf"), float("inf"), 0.0, (), f"it is of type {mine[0].dtype}")
    exact = [[np.asarray(a, np.float64) for a in side] for side in (mine, theirs, plain)]
    for side, who in ((exact[0], "the teacher"), (exact[1], "the student")):
        if not all(np.isfinite(a).all() for a in side):
            return OutputVerdict(name, float("nan"), float("nan"), 0.0, (), f"{who} gives NaN or Inf")
    errors = [_error(a, b) for a, b in zip(exact[0], exact[1], strict=True)]
    worst = max(range(len(errors)), key=lambda i: errors[i][1])
    max_abs, max_rel = max(e[0] for e in errors), errors[worst][1]
    noise = max(_error(a, b)[1] for a, b in zip(exact[0], exact[2], strict=True))
    tolerance = max(min(max(FLOOR.get(kind, 1e-5), NOISE_FACTOR * noise), CEILING), FLOOR.get(kind, 0.0))
    reaction = _reaction(exact[0])
    if reaction <= tolerance:
        failure = (
            "it is the same for every input" if not reaction else f"it hardly reacts to the input ({reaction:.2g})"
        )
        return OutputVerdict(name, max_abs, max_rel, tolerance, (), f"{failure}, so it proves nothing")
    at = np.unravel_index(int(np.argmax(np.abs(exact[0][worst] - exact[1][worst]))), exact[0][worst].shape)
    where = (worst, *(int(i) for i in at))
    if rtol is not None or atol is not None:
        tolerance = rtol or 0.0
        excess = [e[0] - (atol or 0.0) - tolerance * _scale(a) for e, a in zip(errors, exact[0], strict=True)]
        failure = "" if max(excess) <= 0 else f"it differs by {max_abs:.3g}"
        return OutputVerdict(name, max_abs, max_rel, tolerance, where, failure)
    failure = (
        "" if max_rel <= tolerance else f"it differs by {max_rel:.3g} of its largest value (allowed {tolerance:.3g})"
    )
    return OutputVerdict(name, max_abs, max_rel, tolerance, where, failure)


def _reaction(samples: list[Array]) -> float:
    """How much an output changes between samples, relative to its size; with one sample, within it."""
    alike = [a for a in samples[1:] if a.shape == samples[0].shape]
    if alike:
        return max(float(np.abs(a - samples[0]).max(initial=0.0)) for a in alike) / (max(map(_scale, samples)) or 1.0)
    return max(1.0 if a.size == 1 else float(np.ptp(a)) / (_scale(a) or 1.0) for a in samples if a.size)


def _scale(value: Array) -> float:
    return float(np.abs(value).max(initial=0.0))


def _error(a: Array, b: Array) -> tuple[float, float]:
    """(max|a - b|, max|a - b| / max|a|)."""
    worst = float(np.abs(a - b).max(initial=0.0))
    return worst, worst / _scale(a) if _scale(a) else (float("inf") if worst else 0.0)
