"""Rules: what each operator does to the axes of its operands. One file for each family of operators."""

from onnx_net2net.rules import (  # noqa: F401  # importing a family registers its rules
    attention,
    convolution,
    einsum,
    elementwise,
    joining,
    layout,
    linear,
    loss,
    microsoft,
    normalization,
    pooling,
    quantized,
    recurrent,
    reduction,
    sampling,
    selection,
    sequences,
    shapes,
    spectral,
)
from onnx_net2net.rules._registry import Rule, all_rules, facts_of, find

__all__ = ["Rule", "all_rules", "facts_of", "find"]
