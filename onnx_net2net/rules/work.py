"""Multiply-accumulates of convolutions, matrix products and recurrent layers."""

from math import prod

from onnx_net2net.rules._registry import Cost, states


def _convolution(weight: int) -> Cost:
    """Each element of the output reads the inputs of its group under the kernel."""
    return lambda x, y: prod(y[0]) * prod(x[weight][1:])


def _product(second: int) -> Cost:
    """Each element of the output sums over what both operands share: the last axis of the first."""
    return lambda x, y: prod(y[0]) * x[0][-1] if len(x[second]) else 0


states("Conv", "ConvInteger", "DeformConv", cost=_convolution(1))
states("FusedConv", domain="com.microsoft", cost=_convolution(1))
states("QLinearConv", cost=_convolution(3))
states("ConvTranspose", cost=lambda x, y: prod(x[0]) * prod(x[1][1:]))
states("MatMul", "MatMulInteger", cost=_product(1))
states("QLinearMatMul", cost=_product(3))
states("Gemm", cost=lambda x, y: prod(y[0]) * prod(x[0]) // max(1, y[0][0]))
states("GRU", "LSTM", "RNN", cost=lambda x, y: x[0][0] * x[0][1] * (prod(x[1]) + prod(x[2])))
