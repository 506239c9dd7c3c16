"""What operators do to values: activations, sums, and what is zero at zero."""

from onnx_net2net.algebra.facts import Node
from onnx_net2net.rules._registry import nowhere, states
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


def every_input(node: Node) -> list[tuple[int, ...]]:
    """Zero if all inputs are."""
    return [tuple(range(len(node.inputs)))]


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
states("SequenceAt", "SplitToSequence", linear=lambda node: [(0,)])
states("CumSum", "ReverseSequence", linear=nowhere)  # along an axis that they call the same, elements move
