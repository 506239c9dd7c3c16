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
    microsoft_attention,
    microsoft_quantized,
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
    subscripts,
    sums,
    values,
    work,
)
from onnx_net2net.rules._registry import Index, Passes, Rule, StandIn, all_rules, facts_of, find, no_index, unshaped

__all__ = ["Index", "Passes", "Rule", "StandIn", "all_rules", "facts_of", "find", "no_index", "unshaped"]
