"""Matrix products."""

from onnx_net2net.algebra.facts import Contract, Equal, Fact, Node, Operand
from onnx_net2net.rules._registry import line, rule
from onnx_net2net.rules.elementwise import broadcast

line("Det", "X[..., !m, !n] -> Y[...]", since=11)


@rule("Gemm", since=7, notation="A[M, K] B[K, N] C[bcast M, N] -> Y[M, N]  contract K @ A|B  (transA, transB)")
def gemm(node: Node) -> list[Fact]:
    a, b, y = node.x(0), node.x(1), node.y()
    ka, kb = (0 if node.attr("transA", 0) else 1), (1 if node.attr("transB", 0) else 0)
    k = a[ka]
    facts: list[Fact] = [
        Equal(k, b[kb]),
        Equal(a[1 - ka], y[0]),
        Equal(b[1 - kb], y[1]),
        Contract(k, (Operand(1, kb, k), Operand(0, ka, k))),
    ]
    return facts + (broadcast(node.x(2), y) if node.has(2) else [])


@rule("MatMul", notation="A[..., M, K] B[..., K, N] -> Y[..., M, N]  contract K @ A|B  (... broadcasts)")
def matmul(node: Node) -> list[Fact]:
    a, b, y = node.x(0), node.x(1), list(node.y())
    ka, kb = len(a) - 1, max(len(b) - 2, 0)
    k = a[ka]
    facts: list[Fact] = [Equal(k, b[kb]), Contract(k, (Operand(1, kb, k), Operand(0, ka, k)))]
    if len(b) > 1:
        facts.append(Equal(b[-1], y.pop()))
    if len(a) > 1:
        facts.append(Equal(a[-2], y.pop()))
    return facts + broadcast(a[:-2], y) + broadcast(b[:-2], y)
