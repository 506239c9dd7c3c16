"""Operators of com.microsoft that onnxruntime's optimisers and quantisers write."""

from onnx_net2net.algebra.facts import Contract, Equal, Fact, Node, Operand, Pin, Uniform
from onnx_net2net.algebra.spec import parse
from onnx_net2net.algebra.unify import fresh, product
from onnx_net2net.errors import Declined
from onnx_net2net.rules._registry import register, rule, stands_for, states
from onnx_net2net.rules.attention import equal
from onnx_net2net.rules.elementwise import broadcast, pointwise
from onnx_net2net.rules.linear import gemm, matmul
from onnx_net2net.rules.normalization import normalized

DOMAIN = "com.microsoft"
_POINTWISE = "X_i[bcast ...] -> Y[...]"
_CONV = "X[N, G*I, !...] W[G*O, I, !...] B[G*O] -> Y[N, G*O, !...]  contract I @ W  size G @ group"
_conv = parse(_CONV)
_GEMM = "A[M, K] B[K, N] C[bcast M, N] -> Y[M, N]  contract K @ A|B  (transA, transB)"
_ACTIVATIONS = frozenset(b"Elu HardSigmoid LeakyRelu Relu Selu Sigmoid Softplus Softsign Tanh ThresholdedRelu".split())

for _op in ("BiasGelu", "FastGelu", "Gelu", "QuickGelu"):
    register(_op, pointwise, _POINTWISE, domain=DOMAIN)
    stands_for(_op, DOMAIN, "Identity", (0,))


@rule("FusedConv", domain=DOMAIN, notation=_CONV + "  (and an addend as Y)")
def fused_conv(node: Node) -> list[Fact]:
    plain = Node(node.op, node.opset, node.attributes, list(node.inputs[:3]), node.outputs, node.domain)
    return _conv.facts(plain) + (broadcast(node.x(3), node.y()) if node.has(3) else [])


@rule(
    "FusedMatMul",
    "TransposeMatMul",
    domain=DOMAIN,
    notation="A[..., M, K] B[..., K, N] -> Y[..., M, N]  contract K @ A|B  (transA, transB)",
)
def fused_matmul(node: Node) -> list[Fact]:
    if node.attr("transBatchA", 0) or node.attr("transBatchB", 0):
        raise Declined("it transposes its batch")
    turned = [list(node.x(slot)) for slot in (0, 1)]
    flags = [bool(node.attr(name, 0)) and len(turned[k]) > 1 for k, name in enumerate(("transA", "transB"))]
    for terms, flag in zip(turned, flags, strict=True):
        terms[-2:] = terms[: -3 if len(terms) > 2 else None : -1] if flag else terms[-2:]
    inputs = [tuple(terms) for terms in turned]
    facts = matmul(Node(node.op, node.opset, {}, inputs, node.outputs))
    ranks = [len(terms) for terms in inputs]
    return [_turned(fact, flags, ranks) if isinstance(fact, Contract) else fact for fact in facts]


def _turned(fact: Contract, flags: list[bool], ranks: list[int]) -> Contract:
    """The contracted dimensions as they stand in the stored operands."""
    places = [
        Operand(o.slot, 2 * ranks[o.slot] - 3 - o.axis if flags[o.slot] else o.axis, o.over) for o in fact.operands
    ]
    return Contract(fact.over, tuple(places))


_SKIP = "X[..., d] skip[bcast ..., d] gamma[d] beta[d] bias[d] -> Y[...] mean inv_std sum[...]  uniform d"


@rule("SkipLayerNormalization", domain=DOMAIN, notation=_SKIP)
def skip_layer_normalization(node: Node) -> list[Fact]:
    return _skip(node, vectors=(2, 3, 4))


@rule("SkipSimplifiedLayerNormalization", domain=DOMAIN, notation=_SKIP.replace(" beta[d]", ""))
def skip_simplified_layer_normalization(node: Node) -> list[Fact]:
    return _skip(node, vectors=(2, 3))


def _skip(node: Node, vectors: tuple[int, ...]) -> list[Fact]:
    x = node.x(0)
    facts = [*broadcast(x, node.y()), Uniform(x[-1], "takes mean and variance over it")]
    facts += broadcast(node.x(1), x)
    facts += [fact for slot in vectors if node.has(slot) for fact in broadcast(node.x(slot), x)]
    return facts + [fact for slot in (1, 2, 3) if node.gives(slot) for fact in broadcast(node.y(slot), x)]


@rule("SimplifiedLayerNormalization", notation="X[..., d_axis, ...] scale[d] -> Y[...]  uniform d")
def simplified_layer_normalization(node: Node) -> list[Fact]:
    return normalized(node, "zero")


_CAUSAL = "X[N, C, !...] W[C, !one, !...] bias[C] past[N, C, !...] -> Y[N, C, !...] present[N, C, !...]"
_causal = parse(_CAUSAL)


@rule("CausalConvWithState", domain=DOMAIN, notation=_CAUSAL)
def causal_conv(node: Node) -> list[Fact]:
    if node.attr("channels_last", 0) or node.attr("state_window", 0):
        raise Declined("its channels come last, or it keeps several states")
    return _causal.facts(node)


_EMBED = (
    "ids[B, S] segments[B, S] words[!V, d] positions[!P, d] kinds[!T, d] gamma[d] beta[d] mask[B, S] places[B, S]"
    " -> Y[B, S, d] mask_index[B] sum[B, S, d]  uniform d"
)
_embed = parse(_EMBED)


@rule("EmbedLayerNormalization", domain=DOMAIN, notation=_EMBED + "  (without places, or with a mask: !S)")
def embed_layer_normalization(node: Node) -> list[Fact]:
    if node.has(8) and node.x(8)[0].size != node.x(0)[0].size:
        raise Declined("all samples share their places")
    counted = node.has(7) or not node.has(8)
    return _embed.facts(node) + [Pin(node.x(0)[1], "it counts along it")] * counted


def _embed_shapes(node: Node) -> list[tuple[int, tuple[int, ...]]]:
    """Of the output, and of the number of words in each sample, which has the type of the words."""
    batch, length, hidden = node.x(0)[0].size, node.x(0)[1].size, node.x(2)[1].size
    return [(2, (batch, length, hidden)), (0, (batch,))]


@rule("FusedGemm", domain=DOMAIN, notation=_GEMM)
def fused_gemm(node: Node) -> list[Fact]:
    if node.attr("activation", b"Relu") not in _ACTIVATIONS:
        raise Declined("its activation is not known")
    return gemm(node)


@rule(
    "MoE",
    domain=DOMAIN,
    notation="X[.., I] router[N, !E] W1[!E, F, I] b1[!E, F] W2[!E, I, F] b2[!E, I] -> Y[.., I]"
    "  contract I @ W1  contract F @ W2  (swiglu: W1[!E, F*!2, I] b1[!E, F*!2])",
)
def mixture_of_experts(node: Node) -> list[Fact]:
    x, router, first, second = (node.x(slot) for slot in (0, 1, 2, 4))
    if any(node.has(slot) for slot in range(6, len(node.inputs))):
        raise Declined("its experts have a third weight")
    if len(first) != 3 or len(second) != 3 or first[2].size != x[-1].size or not second[2].size:
        raise Declined("its weights are packed, or transposed")
    experts, taken, inner = fresh(second[0].size), fresh(x[-1].size), fresh(second[2].size)
    gates = first[1].size // inner.size
    if gates > 2 or (gates == 2 and node.attr("swiglu_fusion", 0) != 1):
        raise Declined("its gates do not alternate")
    gate = fresh(gates)
    rows = product(inner, gate)
    biases = [(slot, dim) for slot, dim in ((3, rows), (5, taken)) if node.has(slot)]
    return [
        Equal(taken, x[-1]),
        *equal(node.y(), *x[:-1], taken),
        *equal(router, product(*x[:-1]), experts),
        *equal(first, experts, rows, taken),
        *equal(second, experts, taken, inner),
        *(fact for slot, dim in biases for fact in equal(node.x(slot), experts, dim)),
        Contract(taken, (Operand(2, 2, taken),)),
        Contract(inner, (Operand(4, 2, inner),)),
        Pin(experts, "the router picks the best of them"),
        *([Pin(gate, "gates alternate with what they multiply")] if gates > 1 else []),
    ]


stands_for("MoE", DOMAIN, "Identity", (0,))
stands_for("CausalConvWithState", DOMAIN, "Identity", (0,))
stands_for("EmbedLayerNormalization", DOMAIN, "Gather", (2, 0), alike=(2,))
states("EmbedLayerNormalization", domain=DOMAIN, shapes=_embed_shapes)
stands_for("FusedGemm", DOMAIN, "Gemm", (0, 1, 2))
stands_for("FusedConv", DOMAIN, "Conv", (0, 1, 2))
for _op in ("SkipLayerNormalization", "SkipSimplifiedLayerNormalization"):
    stands_for(_op, DOMAIN, "Identity", (0,), alike=(3,))
    states(_op, domain=DOMAIN, adds=(0, 1))
stands_for("SimplifiedLayerNormalization", "", "Identity", (0,))
