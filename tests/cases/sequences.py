"""Cases of the law, sequences: tensors put into sequences and taken out again."""

from __future__ import annotations

from tests.law import Case

SEQUENCES = [
    Case(
        "SplitToSequence, SequenceAt",
        "(float[2,7,3] x) => (float[2,4,3] y, float[2,3,3] z) <int64[2] k = {4, 3}, int64 i = {0}, int64 j = {-1}>"
        "{ s = SplitToSequence<axis=1>(x, k) y = SequenceAt(s, i) z = SequenceAt(s, j) }",
        "x[a, b+c, d] -> y[a, b, d] z[a, c, d]",
    ),
    Case(
        "SplitToSequence by one number, with a rest",
        "(float[2,5] x) => (float[2,3] y, float[2,2] z) <int64 k = {3}, int64 i = {0}, int64 j = {1}>"
        "{ s = SplitToSequence<axis=-1>(x, k) y = SequenceAt(s, i) z = SequenceAt(s, j) }",
        "x[a, b+c] -> y[a, b] z[a, c]",
    ),
    Case(
        "SplitToSequence into single positions",
        "(float[2,3] x) => (float[3] y, float[3] z) <int64 i = {1}, int64 j = {0}>"
        "{ s = SplitToSequence<axis=0, keepdims=0>(x) y = SequenceAt(s, i) z = SequenceAt(s, j) }",
        "x[!, b] -> y[b] z[b]",
    ),
    Case(
        "SplitToSequence that keeps single positions",
        "(float[2,2] x) => (float[2,1] y, float[2,1] z) <int64 i = {0}, int64 j = {1}>"
        "{ s = SplitToSequence<axis=1>(x) y = SequenceAt(s, i) z = SequenceAt(s, j) }",
        "x[a, !] -> y[a, 1] z[a, 1]",
    ),
    Case(
        "SequenceConstruct, ConcatFromSequence",
        "(float[2,3] x, float[4,3] z) => (float[6,3] y) { s = SequenceConstruct(x, z) y = ConcatFromSequence<axis=0>(s) }",
        "x[a, b] z[c, b] -> y[a+c, b]",
    ),
    Case(
        "ConcatFromSequence along a new axis",
        "(float[2,3] x, float[2,3] z) => (float[2,2,3] y)"
        "{ s = SequenceConstruct(x, z) y = ConcatFromSequence<axis=1, new_axis=1>(s) }",
        "x[a, b] z[a, b] -> y[a, !, b]",
    ),
    Case(
        "SequenceLength",
        "(float[2,3] x) => (float[2,3] y, int64 n) { s = SequenceConstruct(x, x) n = SequenceLength(s) y = Neg(x) }",
        "x[a, b] -> y[a, b] n[]",
        redundant=True,
    ),
]
