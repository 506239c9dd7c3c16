"""Convolutions. Spatial positions are combined with their neighbours, so they stay pinned."""

from onnx_net2net.rules._registry import line

line(
    "Conv",
    "X[N, G*I, !...] W[G*O, I, !...] B[G*O] -> Y[N, G*O, !...]  contract I @ W  size G @ group",
)
line(
    "ConvTranspose",
    "X[N, G*I, !...] W[G*I, O, !...] B[G*O] -> Y[N, G*O, !...]  contract I @ W  size G @ group",
)
