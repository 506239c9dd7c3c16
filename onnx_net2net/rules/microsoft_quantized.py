"""Quantised operators of com.microsoft, as onnxruntime's quantiser writes them."""

from dataclasses import replace

from onnx_net2net.algebra.facts import Contract, Equal, Fact, Node
from onnx_net2net.algebra.spec import parse
from onnx_net2net.errors import Declined
from onnx_net2net.rules._registry import rule, stands_for
from onnx_net2net.rules.elementwise import broadcast
from onnx_net2net.rules.joining import concat
from onnx_net2net.rules.linear import gemm, matmul
from onnx_net2net.rules.microsoft import DOMAIN
from onnx_net2net.rules.normalization import softmax, softmax_flattened
from onnx_net2net.rules.quantized import moved, only, scalar, steps, with_zero
from onnx_net2net.rules.recurrent import layer


@rule(
    "DynamicQuantizeLSTM",
    domain=DOMAIN,
    notation="X[!T, B, I] W[!D, I, 4H] R[D, H, 4H] and the rest as LSTM, scales[D, 4H] zeros[D, 4H] -> Y[T, D, B, H]"
    " Y_h[D, B, H] Y_c[D, B, H]  contract I @ W  contract H @ R  size H @ hidden_size",
)
def dynamic_lstm(node: Node) -> list[Fact]:
    facts: list[Fact] = []
    for slot in range(8, 12):  # scale and zero point of W, then of R
        terms, weight = node.x(slot), node.x(1 if slot < 10 else 2)
        if len(terms) > 1 and terms[0].size > 1:
            raise Declined("each direction has scales of its own for each column")
        facts += [Equal(a, b) for a, b in zip(terms, (weight[0], weight[2]), strict=False) if a.size > 1]
    return facts + [_with_zeros(node, fact) for fact in layer(node, 4, turned=True)]


def _with_zeros(node: Node, fact: Fact) -> Fact:
    """Says of both weights where their zero points are, which may vary by column."""
    if not isinstance(fact, Contract):
        return fact
    (weight,) = fact.operands
    zero = {1: 9, 2: 11}[weight.slot]
    channel = 2 if len(node.x(zero)) > 1 else 0
    return Contract(fact.over, (replace(weight, zero=zero, channel=channel),))


@rule(
    "DynamicQuantizeMatMul",
    domain=DOMAIN,
    notation="A[..., M, K] B[..., K, N] b_scale[N] b_zero[N] bias[N] -> Y[..., M, N]  contract K @ B",
)
def dynamic_matmul(node: Node) -> list[Fact]:
    facts = with_zero(matmul(only(node, 0, 1)), 3, -1)
    bias = [Equal(node.x(4)[0], node.y()[-1])] if node.has(4) else []
    return [*facts, *steps(node, (2, 3), node.y()[-1]), *bias]


@rule("QGemm", domain=DOMAIN, notation="A[M, K] B[K, N] C[bcast M, N] -> Y[M, N]  contract K @ B  (scales: B's [N])")
def qgemm(node: Node) -> list[Fact]:
    channel = 0 if node.attr("transB", 0) else 1
    facts = [moved(fact, {1: 3}) for fact in with_zero(gemm(only(node, 0, 3)), 5, channel)]
    addend = broadcast(node.x(6), node.y()) if node.has(6) else []
    return [*facts, *steps(node, (4, 5), node.y()[1]), *addend, *scalar(node, 1, 2, 7, 8)]


@rule(
    "QLinearAdd",
    "QLinearMul",
    domain=DOMAIN,
    notation="A[bcast ...] B[bcast ...], scale and zero point of each -> Y[...]",
)
def qlinear_binary(node: Node) -> list[Fact]:
    return broadcast(node.x(0), node.y()) + broadcast(node.x(3), node.y())


_POOL = parse("X[N, C, !...] -> Y[N, C, !...]")
_POOL_LAST = parse("X[N, !..., C] -> Y[N, !..., C]")


@rule(
    "QLinearAveragePool",
    "QLinearGlobalAveragePool",
    domain=DOMAIN,
    notation="X[N, C, !...], scales and zero points -> Y[N, C, !...]  (channels_last: X[N, !..., C])",
)
def qlinear_pool(node: Node) -> list[Fact]:
    return (_POOL_LAST if node.attr("channels_last", 0) else _POOL).facts(only(node, 0))


@rule(
    "QLinearConcat",
    domain=DOMAIN,
    notation="scale, zero point, X_i[..., c_i, ...] with its own -> Y[..., c_1 + .. + c_k, ...]",
)
def qlinear_concat(node: Node) -> list[Fact]:
    return concat(only(node, *range(2, len(node.inputs), 3)))


@rule("QLinearLeakyRelu", "QLinearSigmoid", domain=DOMAIN, notation="X[...], scales and zero points -> Y[...]")
def qlinear_unary(node: Node) -> list[Fact]:
    return [Equal(a, b) for a, b in zip(node.x(0), node.y(), strict=True)]


@rule(
    "QLinearSoftmax",
    domain=DOMAIN,
    notation="X[..., !d_axis, ...], scales and zero points -> Y[...]",
)
def qlinear_softmax(node: Node) -> list[Fact]:
    return (softmax if int(node.attr("opset", 0)) >= 13 else softmax_flattened)(only(node, 0))


@rule(
    "QLinearWhere",
    domain=DOMAIN,
    notation="which[bcast ...] A[bcast ...] B[bcast ...], scale and zero point of each -> Y[...]",
)
def qlinear_where(node: Node) -> list[Fact]:
    return [fact for slot in (0, 1, 4) for fact in broadcast(node.x(slot), node.y())]


stands_for("DynamicQuantizeLSTM", DOMAIN, "LSTM", (0, 1, 2), outputs=3)
stands_for("DynamicQuantizeMatMul", DOMAIN, "MatMul", (0, 1))
stands_for("QGemm", DOMAIN, "Gemm", (0, 3))
for _op in ("QLinearAdd", "QLinearMul"):
    stands_for(_op, DOMAIN, "Add", (0, 3))
stands_for("QLinearAveragePool", DOMAIN, "AveragePool", (0,), unless="channels_last")
stands_for("QLinearConcat", DOMAIN, "Concat", tuple(range(2, 3 * 1000, 3)))
stands_for("QLinearGlobalAveragePool", DOMAIN, "GlobalAveragePool", (0,), unless="channels_last")
for _op in ("QLinearLeakyRelu", "QLinearSigmoid", "QLinearSoftmax"):
    stands_for(_op, DOMAIN, "Identity", (0,))
stands_for("QLinearWhere", DOMAIN, "Where", (0, 1, 4))
