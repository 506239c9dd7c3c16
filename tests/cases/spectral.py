"""Cases of the law, spectral: Fourier transforms."""

from __future__ import annotations

from tests.law import Case

SPECTRAL = [
    Case(
        "DFT opset 17",
        "(float[2,5,3,2] x) => (float[2,5,3,2] y) { y = DFT(x) }",
        "x[a, !, c, !] -> y[a, !, c, !]",
    ),
    Case(
        "DFT of real numbers, one side",
        "(float[2,3,6,1] x) => (float[2,3,4,2] y) { y = DFT<onesided=1, axis=2>(x) }",
        "x[a, b, !, 1] -> y[a, b, !, !]",
        19,
    ),
    Case(
        "DFT opset 20",
        "(float[2,3,5,2] x) => (float[2,3,5,2] y) { y = DFT<inverse=1>(x) }",
        "x[a, b, !, !] -> y[a, b, !, !]",
        20,
    ),
    Case(
        "DFT opset 20 along an axis",
        "(float[2,5,3,2] x) => (float[2,5,3,2] y) <int64 a = {1}> { y = DFT(x, , a) }",
        "x[a, !, c, !] -> y[a, !, c, !]",
        20,
    ),
    Case(
        "STFT",
        "(float[3,16,1] x) => (float[3,3,5,2] y) <int64 step = {4}, float[8] w, int64 n = {8}> { y = STFT(x, step, w, n) }",
        "x[a, !, 1] w[!] -> y[a, !, !, !]",
    ),
]
