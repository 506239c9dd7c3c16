"""What operators do to values: activations, sums, what is zero at zero, and what is linear."""

from onnx_net2net.algebra.facts import Node
from onnx_net2net.rules._registry import states
from onnx_net2net.rules.elementwise import IDEMPOTENT, UNARY, VARIADIC

ACTIVATIONS = """
    Celu Clip Elu Gelu HardSigmoid HardSwish LeakyRelu Mish PRelu Relu Selu Shrink Sigmoid Softplus Softsign Swish
    Tanh ThresholdedRelu
""".split()
MICROSOFT = """
    BiasGelu FastGelu Gelu QuickGelu
""".split()
ZERO_AT_ZERO = """
    Abs Asin Asinh Atan AveragePool Cast CastLike Ceil Celu DepthToSpace Div Dropout Elu Erf Expand Flatten Floor
    Gather GatherND Gelu GlobalAveragePool GlobalMaxPool HardSwish Identity LeakyRelu MaxPool Mish Neg PRelu
    ReduceMax ReduceMean ReduceMin ReduceSum Relu Reshape Round Selu Sign Sin Sinh Slice Softsign SpaceToDepth Split
    Sqrt Squeeze Swish Tan Tanh Tile Transpose Unsqueeze
""".split()
ZERO_WITH_SCALE_AND_SHIFT = """
    BatchNormalization Conv ConvTranspose GroupNormalization InstanceNormalization LayerNormalization
""".split()
ZERO_OF_ZEROS = """
    Add Concat Max Mean Min Sub Sum
""".split()

LINEAR = """
    Div Dropout Expand Flatten Gather GatherND Identity Neg Reshape SequenceAt Slice Split SplitToSequence Squeeze
    Transpose Unsqueeze
""".split()
LINEAR_IN_ALL = """
    Add Concat Sub Sum
""".split()
"""What is linear in all inputs together."""


def every_input(node: Node) -> list[tuple[int, ...]]:
    """Zero if all inputs are; linear in all of them together."""
    return [tuple(range(len(node.inputs)))]


def any_operand(node: Node) -> list[tuple[int, ...]]:
    """Linear in each input by itself."""
    return [(slot,) for slot in range(len(node.inputs))]


def weight_and_bias(node: Node) -> list[tuple[int, ...]]:
    """Linear in the weight with its bias, and in the input with the bias."""
    return [(1, 2), (0, 2)] if node.has(2) else [(1,), (0,)]


def either_factor(node: Node) -> list[tuple[int, ...]]:
    """Zero if a factor is; a computed one first, since behind it there may be a weight."""
    return sorted([(0,), (1,)], key=lambda slots: slots[0] in node.constants)


def within_bounds(node: Node) -> list[tuple[int, ...]]:
    """Zero at zero if the bounds, which must be constants, leave zero as it is."""
    given = [node.attr("min", 0.0), node.attr("max", 0.0)]
    for slot in (1, 2):
        value = node.value(slot) if node.has(slot) else None
        if node.has(slot) and value is None:
            return []
        given[slot - 1] = given[slot - 1] if value is None else float(value)
    return [(0,)] if given[0] <= 0 <= given[1] else []


states(*UNARY, *IDEMPOTENT, *VARIADIC, "Clip", "Dropout", "ThresholdedRelu", elementwise=True)
states(*MICROSOFT, domain="com.microsoft", elementwise=True, activation="whole")
states(*ACTIVATIONS, activation="whole")
states("Erf", "Exp", activation="part")
states("Add", "Sum", sums=True)
states("Cast", "CastLike", "Dropout", "Identity", keeps=True)
states(*ZERO_AT_ZERO, vanishes=lambda node: [(0,)])
states(*ZERO_WITH_SCALE_AND_SHIFT, vanishes=lambda node: [(1, 2)])
states(*ZERO_OF_ZEROS, vanishes=every_input)
states("Clip", vanishes=within_bounds)
states("Gemm", vanishes=lambda node: [(1, 2), (0, 2)])
states("MatMul", vanishes=lambda node: [(1,), (0,)])
states("Mul", vanishes=either_factor)
states("RMSNormalization", "SimplifiedLayerNormalization", vanishes=lambda node: [(1,)])
states("ThresholdedRelu", vanishes=lambda node: [(0,)])
states("Where", vanishes=lambda node: [(1, 2)])
states(*LINEAR, linear=lambda node: [(0,)])
states("Cast", "CastLike", linear=lambda node: [(0,)])  # between floating point types; nothing else has a factor
states(*LINEAR_IN_ALL, linear=every_input)
states("Conv", "Gemm", linear=weight_and_bias)
states("RMSNormalization", "SimplifiedLayerNormalization", linear=lambda node: [(1,)])
states("LayerNormalization", linear=lambda node: [(1, 2) if node.has(2) else (1,)])
states("FusedMatMul", "TransposeMatMul", domain="com.microsoft", linear=lambda node: [(0,), (1,)])
states("Einsum", "MatMul", "Mul", linear=any_operand)
states("Where", linear=lambda node: [(1, 2)])
