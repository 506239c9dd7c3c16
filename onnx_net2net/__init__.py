"""Net2Net for ONNX: wider and deeper students that compute the same function as their teacher."""

from importlib import import_module
from typing import TYPE_CHECKING

from onnx_net2net._version import __version__
from onnx_net2net.errors import (
    MissingError,
    ModelError,
    Net2NetError,
    NotEquivalentError,
    RequestError,
    UsageError,
)

if TYPE_CHECKING:
    from onnx_net2net.checking.verdict import Verdict
    from onnx_net2net.checking.verify import verify
    from onnx_net2net.expansion import Expansion
    from onnx_net2net.family import Member, expand_all, explore
    from onnx_net2net.growing import deepen, widen
    from onnx_net2net.inspection import Inspection, inspect
    from onnx_net2net.planning.plan import Plan
    from onnx_net2net.recipe import Recipe, expand
else:
    _HOMES = {
        "Expansion": "expansion",
        "Inspection": "inspection",
        "Member": "family",
        "Plan": "planning.plan",
        "Recipe": "recipe",
        "Verdict": "checking.verdict",
        "deepen": "growing",
        "expand": "recipe",
        "expand_all": "family",
        "explore": "family",
        "inspect": "inspection",
        "verify": "checking.verify",
        "widen": "growing",
    }

    def __getattr__(name):
        """Imports what is asked for, and numpy and onnx with it; the command line's help needs neither (PEP 562)."""
        if name not in _HOMES:
            raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
        globals()[name] = getattr(import_module(f"{__name__}.{_HOMES[name]}"), name)
        return globals()[name]

    def __dir__():
        return sorted({*globals(), *__all__})


__all__ = [
    "Expansion",
    "Inspection",
    "Member",
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
    "expand_all",
    "explore",
    "inspect",
    "verify",
    "widen",
]
