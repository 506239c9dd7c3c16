"""Operators that compute sums of products of powers of their inputs: how filler and factors go through them."""

from onnx_net2net.algebra.facts import Node
from onnx_net2net.algebra.filler import Form, Monomial, form
from onnx_net2net.rules._registry import states

LINEAR = """
    AveragePool Cast CastLike CumSum DepthToSpace Dropout Expand Flatten Gather GatherElements GatherND
    GlobalAveragePool Identity Neg ReduceMean ReduceSum Reshape ReverseSequence Slice SpaceToDepth Split Squeeze Tile
    Transpose Trilu Unsqueeze
""".split()
FORMS = {
    "0 + 1": ["Add"],
    "0 - 1": ["Sub"],
    "1 + 2": ["Where"],
    "0*1": ["MatMul", "Mul"],
    "0/1": ["Div"],
    "0^0.5": ["Sqrt"],
    "/0": ["Reciprocal"],
    "1": ["RMSNormalization", "SimplifiedLayerNormalization"],
}
AFFINE = """
    Conv ConvTranspose Gemm
""".split()


def affine(node: Node) -> Form:
    """A product, and a bias if there is one."""
    return form("0*1 + 2" if node.has(2) else "0*1")


def normalised(node: Node) -> Form | None:
    """A norm is not linear in what it normalises, but in scale and bias; other outputs do not scale with it."""
    if any(node.gives(slot) for slot in (1, 2)):
        return None
    return form("1 + 2" if node.has(2) else "1")


def each(node: Node) -> Form:
    """The sum of all inputs."""
    return tuple(Monomial(((slot, 1.0),)) for slot, terms in enumerate(node.inputs) if terms is not None)


def all_together(node: Node) -> Form:
    """The product of all inputs."""
    return (Monomial(tuple((slot, 1.0) for slot in range(len(node.inputs)))),)


def scattered(node: Node) -> Form | None:
    """Updates take the place of elements, or are added to them."""
    return form("0 + 2") if node.attr("reduction", b"none") in (b"none", b"add") else None


def power(node: Node) -> Form | None:
    """A constant power; of more than one exponent no tensor scales as one."""
    value = node.value(1)
    return None if value is None or value.size != 1 else (Monomial(((0, float(value.reshape(()))),)),)


def padded(node: Node) -> Form | None:
    """What is padded with; zeros add nothing."""
    if node.attr("mode", b"constant") != b"constant":
        return form("0")
    return None if node.attr("value", 0.0) else form("0 + 2" if node.has(2) else "0")


states(*LINEAR, form=lambda node: form("0"))
for _form, _ops in FORMS.items():
    states(*_ops, form=lambda node, _form=_form: form(_form))
states(*AFFINE, form=affine)
states("FusedMatMul", "TransposeMatMul", domain="com.microsoft", form=lambda node: form("0*1"))
states("Concat", "Mean", "Sum", form=each)
states("Einsum", form=all_together)
states("LayerNormalization", form=normalised)
states("Pad", form=padded)
states("Pow", form=power)
states("ScatterElements", "ScatterND", form=scattered)
