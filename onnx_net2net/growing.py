"""The library's entry points that make students: widen and deepen."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from onnx import ModelProto
from onnx.inliner import inline_local_functions

from onnx_net2net.deepening.calibrate import calibrate as statistics
from onnx_net2net.deepening.deepen import Ask, kernels, plan_blocks, plan_layers
from onnx_net2net.errors import RequestError, UsageError
from onnx_net2net.expansion import Expansion, from_plan
from onnx_net2net.inference.axis_map import AxisMap
from onnx_net2net.inference.borders import Allowed
from onnx_net2net.inference.filler import allow_nodes as use_nodes
from onnx_net2net.inference.infer import infer
from onnx_net2net.inference.tied import keep_tied
from onnx_net2net.io import Model, opened
from onnx_net2net.planning.budget import find_factor, measure, target
from onnx_net2net.planning.plan import INITS, MODES, SPLITS, TYINGS, Init, Mode, Plan, Split, Tying
from onnx_net2net.planning.planner import plan_widening
from onnx_net2net.planning.request import Width, pinned_by, sizes
from onnx_net2net.storage.model import AnyModel, LazyModel, proto_of, with_proto

Wanted = tuple[dict[str, int], dict[str, str]]
"""The sizes wanted by axis, and why other axes keep theirs."""
Asked = tuple[AxisMap, dict[str, int], dict[str, str]]
"""What inference found, and what is wanted."""
Globs = str | Sequence[str] | None


def widen(
    model: Model | LazyModel,
    *,
    factor: float | None = None,
    widths: Mapping[str, Width] | None = None,
    only: Globs = None,
    skip: Globs = None,
    seed: int = 0,
    split: Split = "uneven",
    noise: float = 0.0,
    round_to: int | None = None,
    target_params: float | str | None = None,
    target_macs: float | str | None = None,
    init: Init = "exact",
    allow_io_change: Allowed = False,
    allow_nodes: bool = False,
    tied: Tying = "clone",
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
        target_params: ``"2x"``, ``"30M"`` or a number of parameters: finds the factor that comes nearest to it.
        target_macs: The same for multiply-accumulates of convolutions, matrix products and recurrent layers.
        init: ``exact``, or ``random-pad`` for new units with random weights beside the old ones: a baseline, whose
            function is not the teacher's.
        allow_io_change: Whether shapes of graph inputs and outputs may change where that is exact: True for states that
            a caller hands back (caches of keys and values, hidden states), or globs over names of inputs and outputs.
        allow_nodes: Whether nodes may be inserted that write the mean over a stream into its filler, where no constant
            can: behind the norms of post-norm networks, for one.
        tied: What becomes of a weight that some nodes carry and others contract, as embedding and head do: ``clone``
            gives the student two, ``keep`` one, and a node that scales what the head reads.
        plan: A saved plan (or its JSON) to apply again; excludes all that asks for sizes.

    Returns:
        An `Expansion`. Its plan has no axes if nothing that was wanted can grow.

    Raises:
        ModelError: If the teacher cannot be read.
        RequestError: If a named axis cannot be widened as asked, with what stands in the way.
        UsageError: If the arguments contradict each other.
    """
    teacher = opened(model)
    targets = {"target_params": target_params, "target_macs": target_macs}
    if plan is not None:
        if factor is not None or widths or only or skip or round_to or allow_io_change or any(targets.values()):
            raise UsageError("a plan already says what to widen", "give a plan or sizes", op="plan")
        if allow_nodes or tied != "clone":
            raise UsageError("a plan already says what to insert", "leave out allow_nodes and tied", op="plan")
        return from_plan(teacher, plan)
    _check_widening(factor, widths, seed, split, noise, round_to, init, tied, targets)

    def ask(base: AnyModel) -> Asked:
        found = infer(base, allow=allow_io_change)
        if tied == "keep":
            keep_tied(found)
        if allow_nodes:
            use_nodes(found)

        def wanted(scale: float | None) -> Wanted:
            return sizes(found, scale, widths or {}, globs(only), globs(skip), round_to)

        goal = next((name for name, value in targets.items() if value is not None), "")
        return found, *wanted(_factor(found, goal, str(targets[goal]), wanted) if goal else factor)

    found, grown, skipped = ask(teacher) if not proto_of(teacher).functions else _with_functions(teacher, ask)
    if init == "random-pad":
        split = "first"
    made = plan_widening(found, grown, seed=seed, split=split, noise=noise, init=init)
    inlined = found.graph.model is not proto_of(teacher)
    return Expansion(teacher, dataclasses.replace(made, inlined=inlined), skipped, pinned_by(found))


def _check_widening(
    factor: object,
    widths: object,
    seed: object,
    split: str,
    noise: float,
    round_to: int | None,
    init: str,
    tied: str,
    targets: Mapping[str, object],
) -> None:
    """Refuses arguments of `widen` that have no meaning, or none together."""
    given = [name for name, value in {"factor": factor, **targets}.items() if value is not None]
    if not given and not widths:
        raise UsageError("nothing is asked for", "give factor, widths, a target or a plan", op="widen")
    if len(given) > 1:
        raise UsageError(f"{' and '.join(given)} exclude each other", "give one of them", op="widen")
    if not isinstance(factor, (int, float, type(None))) or not isinstance(seed, int):
        raise UsageError("factor has to be a number and seed a whole one", "give numbers", op="widen")
    if factor is not None and not (1 <= factor <= 1000):
        raise UsageError(f"{factor} is not between 1 and 1000", "ask for a factor like 1.5", op="factor")
    for name, value, known in (("split", split, SPLITS), ("init", init, INITS), ("tied", tied, TYINGS)):
        if value not in known:
            raise UsageError(f"{value!r} is unknown", f"choose one of {', '.join(known)}", op=name)
    if not 0 <= noise < float("inf") or (round_to is not None and round_to < 1) or seed < 0:
        raise UsageError("seed and noise cannot be negative, nor round_to below one", "give another value", op="widen")
    if init != "exact" and (noise or split != "uneven"):
        raise UsageError("random units share nothing", "leave out noise and split", op="init")


def _factor(found: AxisMap, goal: str, text: str, wanted: Callable[[float], Wanted]) -> float:
    """The factor that comes nearest to a target."""

    def size_at(factor: float) -> int:
        size = measure(found, plan_widening(found, wanted(factor)[0]))
        return size.parameters if goal == "target_params" else size.macs

    return find_factor(size_at, target(text, size_at(1.0), goal))


def _calls(model: ModelProto) -> bool:
    """Whether a node of the main graph calls a local function."""
    names = {(function.domain, function.name) for function in model.functions}
    return any((node.domain, node.op_type) in names for node in model.graph.node)


def _with_functions(teacher: AnyModel, ask: Callable[[AnyModel], Asked]) -> Asked:
    """Leaves local functions alone, unless more axes can grow once their calls are inlined."""
    plain: Asked | RequestError
    try:
        plain = ask(teacher)
    except RequestError as error:
        plain = error
    proto = proto_of(teacher)
    flat = ask(with_proto(teacher, inline_local_functions(proto))) if _calls(proto) else None
    if flat is not None and (isinstance(plain, RequestError) or len(flat[1]) > len(plain[1])):
        return flat
    if isinstance(plain, RequestError):
        raise plain
    return plain


def globs(given: Globs) -> list[str]:
    """One glob or several, as a list."""
    return [given] if isinstance(given, str) else list(given or ())


STARTS = ("exact", "random")


def _check_deepening(
    after: object, block: object, mode: object, ask: Mapping[str, object], count: object, seed: object, span: object
) -> None:
    """Refuses arguments of `deepen` that have no meaning, or none together."""
    group, init = ask["group"], ask["init"]
    if not after and not block:
        raise UsageError("nothing is asked for", "name activations, or say 'every'", op="deepen")
    for name, value, known in (("mode", mode, (None, *MODES)), ("init", init, STARTS)):
        if value not in known:
            raise UsageError(f"{value!r} is unknown", f"choose one of {', '.join(filter(None, known))}", op=name)
    numbers = {"count": (count, 1), "span": (span, 1), "seed": (seed, 0)}
    for name, (value, least) in numbers.items():
        if type(value) is not int or value < least:
            raise UsageError(f"{value!r} is no whole number from {least} on", "give one", op=name)
    if span != 1 and not block:
        raise UsageError("only blocks are copied several together", "name blocks", op="span")
    if group != "depthwise" and (type(group) is not int or group < 1):
        raise UsageError(f"{group!r} is no number of groups", "give a positive number, or depthwise", op="group")
    if block and (after or mode or ask["kernel"] or group != 1 or ask["batch_norm"] or init == "random"):
        raise UsageError(
            "a copied block brings its own layers", "give nothing but count, span and seed with it", op="block"
        )
    if ask["batch_norm"] and mode not in (None, "identity"):
        raise UsageError(f"mode {mode} has none", "leave it out, or choose mode identity", op="batch_norm")
    if ask["calibrate"] is not None and (not ask["batch_norm"] or init == "random"):
        raise UsageError("statistics are for exact layers with batch normalization", "ask for both", op="calibrate")


def deepen(
    model: Model | LazyModel,
    *,
    after: str | Sequence[str] = (),
    block: str | Sequence[str] = (),
    mode: Mode | None = None,
    kernel: Any = None,
    count: int = 1,
    span: int = 1,
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
        span: How many blocks that follow each other are copied together, behind the last; a transformer's layer often
            is two, attention and feed-forward.
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
    teacher = opened(model)
    details = {"kernel": kernel, "group": group, "batch_norm": batch_norm, "calibrate": calibrate, "init": init}
    if plan is not None:
        untouched = {"kernel": None, "group": 1, "batch_norm": False, "calibrate": None, "init": "exact"}
        if after or block or mode or (count, span) != (1, 1) or details != untouched:
            raise UsageError("a plan already says where to insert layers", "give a plan or places", op="plan")
        return from_plan(teacher, plan)
    _check_deepening(after, block, mode, details, count, seed, span)
    found = infer(teacher)
    if block:
        made, skipped = plan_blocks(found, block, count, span, seed)
        return Expansion(teacher, made, skipped, {})
    data = calibrate
    ask = Ask(
        mode,
        kernels(kernel),
        count,
        group,
        batch_norm,
        None if data is None else lambda axes: statistics(teacher, axes, data),
        init == "random",
    )
    made, skipped = plan_layers(found, after, ask, seed)
    return Expansion(teacher, made, skipped, {})
