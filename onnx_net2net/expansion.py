"""The library's entry points: widen, deepen, and what they return."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

from onnx import ModelProto
from onnx.inliner import inline_local_functions

from onnx_net2net._version import __version__
from onnx_net2net.axis_map import AxisMap
from onnx_net2net.calibrate import calibrate as measure
from onnx_net2net.deepen import Ask, check_layers, kernels, plan_blocks, plan_layers
from onnx_net2net.deepen import apply as insert_layers
from onnx_net2net.errors import NotEquivalentError, RequestError, UsageError
from onnx_net2net.infer import infer
from onnx_net2net.io import Model, digest, load, save
from onnx_net2net.plan import MODES, SPLITS, Mode, Plan, Split, check_teacher
from onnx_net2net.planner import complete, plan_widening
from onnx_net2net.request import Width, pinned_by, sizes
from onnx_net2net.verify import Verdict, verify
from onnx_net2net.widen import apply as widen_axes

Asked = tuple[AxisMap, dict[str, int], dict[str, str]]
"""What inference found, the sizes wanted by axis, and why other axes keep theirs."""
Globs = str | Sequence[str] | None
PREFIX = "onnx_net2net."
RANDOM = "random layers do not compute what the teacher does"


class Expansion:
    """A student in the making: the plan, and the model once it is asked for.

    Attributes:
        teacher: The teacher.
        base: What the plan changes: the teacher, its local functions inlined if an axis passes through one.
        plan: What makes the student.
        skipped: Axes that were wanted and keep their size, or places that get no layer -> why.
        pinned: What pins the other axes of weights -> how many axes.
    """

    def __init__(self, teacher: ModelProto, plan: Plan, skipped: Mapping[str, str], pinned: Mapping[str, int]) -> None:
        self.teacher = teacher
        self.base = inline_local_functions(teacher) if plan.inlined else teacher
        self.plan = plan
        self.skipped = dict(skipped)
        self.pinned = dict(pinned)
        self.provenance = True
        self._verdict: Verdict | None = None

    @cached_property
    def exact(self) -> ModelProto:
        """The student without noise, which equals the teacher unless its layers are random."""
        student = widen_axes(self.base, self.plan, noise=False) if self.plan.axes else self.base
        return insert_layers(student, self.plan) if self.plan.deepens else student

    @cached_property
    def model(self) -> ModelProto:
        """The student; with noise if the plan asks for it."""
        if self.plan.noise and self.plan.axes:
            return widen_axes(self.base, self.plan)
        return self.exact

    def verify(self, **options: Any) -> Verdict:
        """Runs teacher and student and compares them; see `onnx_net2net.verify` for the options.

        With noise in the plan the student without it is compared.

        Raises:
            MissingError: If onnxruntime or a provider is not there.
        """
        verdict = verify(self.teacher, self.exact, **options)
        if not {"rtol", "atol"} & options.keys():  # what was held to another bar does not count for saving
            self._verdict = verdict
        return verdict

    def drift(self, **options: Any) -> Verdict:
        """How far noise moves the outputs."""
        return verify(self.teacher, self.model, **options)

    def save(self, path: str | os.PathLike[str], verify: bool = True) -> Path:
        """Verifies once, then writes the student; writes nothing if that failed.

        Raises:
            NotEquivalentError: If the student differs from its teacher.
            MissingError: If onnxruntime is missing; ``verify=False`` goes without it.
            ModelError: If the file cannot be written.
            UsageError: If layers are random and ``verify`` is not off.
        """
        if verify and self.plan.random:
            raise UsageError(RANDOM, "save without verification (--no-verify)", op="init")
        if verify:
            verdict = self._verdict if self._verdict is not None else self.verify()
            if not verdict:
                raise NotEquivalentError(verdict.reason, "nothing was written", op="student")
        save(self._with_provenance() if self.provenance else self.model, path)
        return Path(path)

    def _with_provenance(self) -> ModelProto:
        """The student with our own metadata; that of the exporter stays as it is."""
        model = ModelProto()
        model.CopyFrom(self.model)
        keys = {
            "version": __version__,
            "teacher": digest(self.teacher),
            "seed": str(self.plan.seed),
            "plan": self.plan.digest(),
        }
        if self.plan.noise:
            keys["noise"] = repr(self.plan.noise)
        if self.plan.random:
            keys["init"] = "random"
        ours = {PREFIX + key: value for key, value in keys.items()}
        for entry in model.metadata_props:
            if entry.key in ours:
                entry.value = ours.pop(entry.key)
        for key, value in ours.items():
            model.metadata_props.add(key=key, value=value)
        return model


def widen(
    model: Model,
    *,
    factor: float | None = None,
    widths: Mapping[str, Width] | None = None,
    only: Globs = None,
    skip: Globs = None,
    seed: int = 0,
    split: Split = "uneven",
    noise: float = 0.0,
    round_to: int | None = None,
    plan: Plan | str | None = None,
) -> Expansion:
    """Plans a wider student that computes the same function (Net2WiderNet, arXiv 1511.05641, section 3.2).

    Args:
        model: The teacher: a path, a `ModelProto` or a `gs.Graph`.
        factor: Makes every channel axis that can grow ``round(factor * n)`` wide.
        widths: NAME or NAME:DIM -> ``512``, ``"x1.5"`` or ``"+64"``; NAME is an axis, tensor, initializer or
            node, the last three meaning their output-channel axis.
        only: Globs over axis, tensor and node names; an axis that matches none is left out of ``factor``.
        skip: Globs of what to leave out of ``factor``.
        seed: Seed of all random choices.
        split: ``uneven``, ``even``, ``scatter`` or ``first``: how copies share an outgoing weight.
        noise: Standard deviation of noise on copies, relative to that of the weights; not exact.
        round_to: Rounds sizes from factors up to a multiple of this.
        plan: A saved plan (or its JSON) to apply again; excludes all that asks for sizes.

    Returns:
        An `Expansion`. Its plan has no axes if nothing that was wanted can grow.

    Raises:
        ModelError: If the teacher cannot be read.
        RequestError: If a named axis cannot be widened as asked, with what stands in the way.
        UsageError: If the arguments contradict each other.
    """
    teacher = load(model)
    if plan is not None:
        if factor is not None or widths or only or skip or round_to:
            raise UsageError("a plan already says what to widen", "give a plan or sizes", op="plan")
        return _from_plan(teacher, plan)
    if factor is None and not widths:
        raise UsageError("nothing is asked for", "give factor, widths or a plan", op="widen")
    if not isinstance(factor, (int, float, type(None))) or not isinstance(seed, int):
        raise UsageError("factor has to be a number and seed a whole one", "give numbers", op="widen")
    if factor is not None and not (1 <= factor <= 1000):
        raise UsageError(f"{factor} is not between 1 and 1000", "ask for a factor like 1.5", op="factor")
    if split not in SPLITS:
        raise UsageError(f"{split!r} is unknown", f"choose one of {', '.join(SPLITS)}", op="split")
    if not 0 <= noise < float("inf") or (round_to is not None and round_to < 1) or seed < 0:
        raise UsageError("seed and noise cannot be negative, nor round_to below one", "give another value", op="widen")

    def ask(base: ModelProto) -> Asked:
        found = infer(base)
        return found, *sizes(found, factor, widths or {}, globs(only), globs(skip), round_to)

    found, wanted, skipped = ask(teacher) if not teacher.functions else _with_functions(teacher, ask)
    made = plan_widening(found, wanted, seed=seed, split=split, noise=noise)
    inlined = found.graph.model is not teacher
    return Expansion(teacher, dataclasses.replace(made, inlined=inlined), skipped, pinned_by(found))


def _calls(model: ModelProto) -> bool:
    """Whether a node of the main graph calls a local function."""
    names = {(function.domain, function.name) for function in model.functions}
    return any((node.domain, node.op_type) in names for node in model.graph.node)


def _with_functions(teacher: ModelProto, ask: Callable[[ModelProto], Asked]) -> Asked:
    """Leaves local functions alone, unless more axes can grow once their calls are inlined."""
    plain: Asked | RequestError
    try:
        plain = ask(teacher)
    except RequestError as error:
        plain = error
    flat = ask(inline_local_functions(teacher)) if _calls(teacher) else None
    if flat is not None and (isinstance(plain, RequestError) or len(flat[1]) > len(plain[1])):
        return flat
    if isinstance(plain, RequestError):
        raise plain
    return plain


def _from_plan(teacher: ModelProto, plan: Plan | str) -> Expansion:
    """Applies a saved plan after deriving it again from its maps, so that an edited one cannot do harm."""
    given = Plan.from_json(plan) if isinstance(plan, str) else plan
    base = inline_local_functions(teacher) if given.inlined else teacher
    check_teacher(given, base)
    found = infer(base)
    if given.deepens:
        return Expansion(teacher, check_layers(found, given), {}, {})
    again = complete(found, given.axes, seed=given.seed, split=given.split, noise=given.noise)
    if dataclasses.replace(again, inlined=given.inlined) != given:
        raise RequestError("it does not follow from its own maps", "make it again with --plan-out", op="plan")
    return Expansion(teacher, given, {}, pinned_by(found))


def globs(given: Globs) -> list[str]:
    """One glob or several, as a list."""
    return [given] if isinstance(given, str) else list(given or ())


INITS = ("exact", "random")


def _check_deepening(
    after: object, block: object, mode: object, ask: Mapping[str, object], count: object, seed: object
) -> None:
    """Refuses arguments of `deepen` that have no meaning, or none together."""
    group, init = ask["group"], ask["init"]
    if not after and not block:
        raise UsageError("nothing is asked for", "name activations, or say 'every'", op="deepen")
    for name, value, known in (("mode", mode, (None, *MODES)), ("init", init, INITS)):
        if value not in known:
            raise UsageError(f"{value!r} is unknown", f"choose one of {', '.join(filter(None, known))}", op=name)
    if not all(type(n) is int for n in (count, seed)) or count < 1 or seed < 0:  # type: ignore[operator]
        raise UsageError("count has to be positive, and seed not negative", "give whole numbers", op="deepen")
    if group != "depthwise" and (type(group) is not int or group < 1):
        raise UsageError(f"{group!r} is no number of groups", "give a positive number, or depthwise", op="group")
    if block and (after or mode or ask["kernel"] or group != 1 or ask["batch_norm"] or init == "random"):
        raise UsageError("a copied block brings its own layers", "give nothing but count and seed with it", op="block")
    if ask["batch_norm"] and mode not in (None, "identity"):
        raise UsageError(f"mode {mode} has none", "leave it out, or choose mode identity", op="batch_norm")
    if ask["calibrate"] is not None and (not ask["batch_norm"] or init == "random"):
        raise UsageError("statistics are for exact layers with batch normalization", "ask for both", op="calibrate")


def deepen(
    model: Model,
    *,
    after: str | Sequence[str] = (),
    block: str | Sequence[str] = (),
    mode: Mode | None = None,
    kernel: Any = None,
    count: int = 1,
    group: int | str = 1,
    batch_norm: bool = False,
    calibrate: Mapping[str, Any] | None = None,
    init: str = "exact",
    seed: int = 0,
    plan: Plan | str | None = None,
) -> Expansion:
    """Plans a deeper student that computes the same function (Net2DeeperNet, arXiv 1511.05641, section 3.3).

    Args:
        model: The teacher: a path, a `ModelProto` or a `gs.Graph`.
        after: ``"every"`` activation, or names of nodes or tensors.
        block: ``"every"`` residual block, or names of their sums: each gets a copy of itself behind it.
        mode: ``identity``, ``residual``, ``prelu`` or ``linear``; by default ``identity`` where that is exact and
            ``residual`` elsewhere.
        kernel: Odd kernel of convolutions: ``3``, ``(1, 7)``, or several for several layers, such as the
            paper's ``[(1, 7), (7, 1)]``. Default 3.
        count: How many layers, or copies of a block, go to each place.
        group: Groups of the convolutions, or ``"depthwise"``.
        batch_norm: Whether identity layers get BatchNormalization, with mean 0 and variance 1.
        calibrate: Arrays by input name, samples first, to measure mean and variance on instead.
        init: ``exact``, or ``random`` for layers that start anew: a baseline, whose function is not the teacher's.
        seed: Seed of random weights.
        plan: A saved plan to apply again.

    Raises:
        ModelError: If the teacher cannot be read.
        RequestError: If a layer as asked is not exact at a named place.
        UsageError: If the arguments contradict each other.
    """
    teacher = load(model)
    details = {"kernel": kernel, "group": group, "batch_norm": batch_norm, "calibrate": calibrate, "init": init}
    if plan is not None:
        untouched = {"kernel": None, "group": 1, "batch_norm": False, "calibrate": None, "init": "exact"}
        if after or block or mode or count != 1 or details != untouched:
            raise UsageError("a plan already says where to insert layers", "give a plan or places", op="plan")
        return _from_plan(teacher, plan)
    _check_deepening(after, block, mode, details, count, seed)
    found = infer(teacher)
    if block:
        made, skipped = plan_blocks(found, block, count, seed)
        return Expansion(teacher, made, skipped, {})
    data = calibrate
    ask = Ask(
        mode,
        kernels(kernel),
        count,
        group,
        batch_norm,
        None if data is None else lambda axes: measure(teacher, axes, data),
        init == "random",
    )
    made, skipped = plan_layers(found, after, ask, seed)
    return Expansion(teacher, made, skipped, {})
