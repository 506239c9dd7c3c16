"""The permuted teacher: the same function with its units in another order, and so with other roundings.

How far its outputs are from the teacher's is what rounding alone may do, whatever onnxruntime's optimisations show.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator

import numpy as np
from onnx import ModelProto

from onnx_net2net.checking.crossing import Crossing
from onnx_net2net.errors import ModelError, RequestError
from onnx_net2net.inference.infer import infer
from onnx_net2net.planning.plan import AxisPlan
from onnx_net2net.planning.planner import complete
from onnx_net2net.storage.model import AnyModel, LazyModel
from onnx_net2net.storage.ranges import is_external
from onnx_net2net.widening.apply import apply


def permutations(model: ModelProto, borders: Collection[str] = ()) -> Iterator[tuple[AnyModel, Crossing]]:
    """The model with the units of every axis that can grow shuffled, again and again; never, if there is no such axis.

    Where ``borders`` names inputs and outputs, their units are shuffled too, as what comes along says. A model that
    cannot be analysed has none.
    """
    try:
        lazy = any(map(is_external, model.graph.initializer))
        teacher = LazyModel(model) if lazy else model
        found = infer(teacher, allow=sorted(borders))
        free = [
            (name, info.axis.size)
            for name, info in found.axes.items()
            if not info.pins and info.initializers and info.axis.size > 1
        ]
        rng = np.random.default_rng(0)
        while free:
            axes = [AxisPlan(name, n, n, tuple(rng.permutation(n).tolist()), (1.0,) * n) for name, n in free]
            plan = complete(found, tuple(axes))
            yield apply(teacher, plan), Crossing(plan.crossings)
    except (ModelError, RequestError):
        return
