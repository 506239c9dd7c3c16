"""No case of the ONNX standard may come out wrong, and no fewer may be widened than were."""

from __future__ import annotations

import re
import string
from collections import Counter
from dataclasses import replace
from typing import Any

import onnx
import onnxruntime
import pytest

from onnx_net2net import rules
from onnx_net2net.rules import elementwise
from tests.standard import StandardCase, cases, judge, settings

MEASURED = ((1, 23), (1, 31))
"""Versions of onnx and onnxruntime that the lower bounds were measured with."""
WIDENED = """
Abs 1, Acos 1, Acosh 1, Add 8, And 8, ArgMax 16, ArgMin 16, Asin 1, Asinh 1, Atan 1, Atanh 1, Attention 0 33,
Attention 1 13, Attention 2 17, Attention 3 25, AveragePool 8, BatchNormalization 2, BitwiseAnd 2, BitwiseNot
2, BitwiseOr 2, BitwiseXor 2, Cast 56, CastLike 104, CausalConvWithState 12, Ceil 1, Celu 2, Clip 11, Concat
11, Conv 26, ConvTranspose 13, Cos 1, Cosh 1, CumSum 4, DepthToSpace 2, DequantizeLinear 1, Div 8, Dropout 5,
DynamicQuantizeLinear 2, Elu 5, Equal 8, Erf 1, Exp 2, Expand 6, Flatten 10, FlexAttention 11, Floor 1, Gather
5, Gelu 4, Gemm 11, GlobalAveragePool 2, GlobalMaxPool 2, Greater 8, GreaterOrEqual 16, GroupNormalization 4,
HardSigmoid 4, HardSwish 2, Hardmax 6, Identity 1, InstanceNormalization 3, LRN 2, LayerNormalization 57,
LeakyRelu 6, Less 8, LessOrEqual 16, Log 1, LogSoftmax 21, LpNormalization 5, LpPool 6, MatMul 6,
MatMulInteger 1, MaxPool 13, MeanVarianceNormalization 3, Mod 1, Mul 8, Neg 2, Or 8, PRelu 4, Pad 10, Pow 2,
QLinearMatMul 8, QuantizeLinear 5, RMSNormalization 38, Reciprocal 1, ReduceL1 12, ReduceL2 12, ReduceLogSum
6, ReduceLogSumExp 12, ReduceMax 9, ReduceMean 10, ReduceMin 9, ReduceProd 6, ReduceSum 10, ReduceSumSquare
12, Relu 4, Reshape 11, RotaryEmbedding 8, Selu 6, Shape 7, Sigmoid 2, Sin 1, Sinh 1, Slice 7, Softmax 21,
Softplus 3, Softsign 2, SpaceToDepth 3, Split 5, Sqrt 2, Squeeze 2, Sub 8, Tan 1, Tanh 2, ThresholdedRelu 4,
Tile 3, TopK 4, Transpose 8, Trilu 6, Unsqueeze 7, Where 2, Xor 8
"""
"""Cases that have to be widened at least, by operator."""
APART = "Attention CastLike Cast Conv LayerNormalization RMSNormalization SoftmaxCrossEntropyLoss".split()
PARTS = 4
FAMILIES = [*string.ascii_uppercase, *APART[1:], *(f"Attention {part}" for part in range(PARTS))]


def family(case: StandardCase) -> str:
    """Operators with many cases are families of their own, the others go by their first letter."""
    if case.op == "Attention":
        return f"Attention {sum(case.name.encode()) % PARTS}"
    return case.op if case.op in APART else case.op[0]


def bounds() -> dict[str, int]:
    words = [row.rsplit(" ", 1) for row in " ".join(WIDENED.split()).split(", ")]
    return {key: int(least) for key, least in words}


def key(case: StandardCase) -> str:
    """What the lower bounds go by."""
    return family(case) if case.op == "Attention" else case.op


def is_measured() -> bool:
    found = (tuple(int(n) for n in re.findall(r"\d+", m.__version__)[:2]) for m in (onnx, onnxruntime))
    return all(have >= least for have, least in zip(found, MEASURED, strict=True))


@pytest.mark.parametrize("wanted", FAMILIES)
def test_no_case_comes_out_wrong(wanted: str) -> None:
    members = [case for case in cases().values() if family(case) == wanted]
    outcomes = [(key(case), judge(case)) for case in members]
    bad = [(o.state, *o.notes) for _, o in outcomes if o.state in ("wrong", "crash", "error")]
    assert not bad, bad
    widened = Counter(op for op, o in outcomes if o.state == "widened")
    print(f"\n{wanted}: {len(outcomes)} cases, {sum(widened.values())} widened")
    if is_measured():
        least = {op: n for op, n in bounds().items() if op in {op for op, _ in outcomes}}
        assert all(widened[op] >= n for op, n in least.items()), (widened, least)


def test_every_case_is_in_a_family() -> None:
    assert {family(case) for case in cases().values()} <= set(FAMILIES)
    assert all(any(True for _ in settings(case)) for case in cases().values())
    if is_measured():
        assert len(cases()) >= 1600
        assert set(bounds()) <= {key(case) for case in cases().values()}


WRONG_RULES = {
    "CumSum": "test_cumsum_2d_axis_1",
    "Softmax": "test_softmax_example",
    "LpNormalization": "test_l2normalization_axis_1",
    "LRN": "test_lrn",
}
"""Operators that mix units along an axis, and a case of each that must show it."""


@pytest.mark.parametrize("op", WRONG_RULES)
def test_a_wrong_rule_is_found(op: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Each of these operators is taken for one that works on elements."""
    case = cases()[WRONG_RULES[op]]
    assert judge(case).state in ("widened", "pinned")
    find = rules.find

    def mistaken(*asked: Any) -> rules.Rule | None:
        found = find(*asked)
        return replace(found, apply=elementwise.pointwise) if found and asked[0] == op else found

    monkeypatch.setattr(rules, "find", mistaken)
    assert judge(case).state == "wrong"
