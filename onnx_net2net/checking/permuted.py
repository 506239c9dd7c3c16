"""The permuted teacher: the same function with its units in another order, and so with other roundings.

How far its outputs are from the teacher's is what rounding alone may do, whatever onnxruntime's optimisations show.
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto

from onnx_net2net.errors import ModelError, RequestError
from onnx_net2net.inference.infer import infer
from onnx_net2net.planning.plan import AxisPlan
from onnx_net2net.planning.planner import complete
from onnx_net2net.widening.apply import apply


def permuted(model: ModelProto, seed: int) -> ModelProto | None:
    """The model with the units of every axis that can grow shuffled; None if no axis can, or it cannot be analysed."""
    rng = np.random.default_rng(seed)
    try:
        found = infer(model)
        axes = []
        for name, info in found.axes.items():
            n = info.axis.size
            if not info.pins and info.initializers and n > 1:
                axes.append(AxisPlan(name, n, n, tuple(rng.permutation(n).tolist()), (1.0,) * n))
        return apply(model, complete(found, tuple(axes))) if axes else None
    except (ModelError, RequestError):
        return None
