"""Losses. Classes are pinned; samples are kept, or their mean is taken."""

from onnx_net2net.facts import Equal, Fact, Node, Pin, Uniform
from onnx_net2net.rules._registry import rule
from onnx_net2net.rules.joining import others

_NOTATION = "X[N, !C, d...] labels[N, d...] weight[C] -> loss[N, d...]{}  mean: uniform N d"


@rule("NegativeLogLikelihoodLoss", since=12, notation=_NOTATION.format(""))
@rule("SoftmaxCrossEntropyLoss", since=12, notation=_NOTATION.format(" log_prob[N, C, d...]"))
def class_loss(node: Node) -> list[Fact]:
    scores, labels = node.x(0), node.x(1)
    facts: list[Fact] = [Equal(a, b) for a, b in zip((scores[0], *scores[2:]), labels, strict=True)]
    facts.append(Pin(scores[1], "its units are classes"))
    facts += [Equal(node.x(2)[0], scores[1])] if node.has(2) else []
    facts += others(scores, node.y(1), set()) if node.gives(1) else []
    reduction = node.attr("reduction", b"mean")
    if reduction == b"none":
        return facts + others(labels, node.y(), set())
    if reduction == b"mean":  # weighted or not, equal copies change sum and divisor alike
        return facts + [Uniform(dim, "takes the mean over it") for dim in labels]
    return facts + [Pin(dim, "it sums over it and no weight can absorb that") for dim in labels]
