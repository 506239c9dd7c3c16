"""Net2Net for ONNX: wider and deeper students that compute the same function as their teacher."""

from onnx_net2net._version import __version__
from onnx_net2net.checking.verdict import Verdict
from onnx_net2net.checking.verify import verify
from onnx_net2net.errors import (
    MissingError,
    ModelError,
    Net2NetError,
    NotEquivalentError,
    RequestError,
    UsageError,
)
from onnx_net2net.expansion import Expansion
from onnx_net2net.growing import deepen, widen
from onnx_net2net.inspection import Inspection, inspect
from onnx_net2net.planning.plan import Plan
from onnx_net2net.recipe import Recipe, expand, explore

__all__ = [
    "Expansion",
    "Inspection",
    "MissingError",
    "ModelError",
    "Net2NetError",
    "NotEquivalentError",
    "Plan",
    "Recipe",
    "RequestError",
    "UsageError",
    "Verdict",
    "__version__",
    "deepen",
    "expand",
    "explore",
    "inspect",
    "verify",
    "widen",
]
