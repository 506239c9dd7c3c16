"""Losses. Classes are pinned; samples are kept, or reduced to one number and pinned too."""

from onnx_net2net.algebra.facts import Equal, Fact, Node, Pin
from onnx_net2net.rules._registry import rule
from onnx_net2net.rules.joining import others

_NOTATION = "X[N, !C, d...] labels[N, d...] weight[C] -> loss[N, d...]{}  (mean, sum: !N, !d)"


@rule("NegativeLogLikelihoodLoss", since=12, notation=_NOTATION.format(""))
@rule("SoftmaxCrossEntropyLoss", since=12, notation=_NOTATION.format(" log_prob[N, C, d...]"))
def class_loss(node: Node) -> list[Fact]:
    scores, labels = node.x(0), node.x(1)
    facts: list[Fact] = [Equal(a, b) for a, b in zip((scores[0], *scores[2:]), labels, strict=True)]
    facts.append(Pin(scores[1], "its units are classes"))
    facts += [Equal(node.x(2)[0], scores[1])] if node.has(2) else []
    facts += others(scores, node.y(1), set()) if node.gives(1) else []
    if node.attr("reduction", b"mean") == b"none":
        return facts + others(labels, node.y(), set())
    return facts + [Pin(dim, "its losses become one number") for dim in labels]
