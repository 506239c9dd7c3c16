"""Sizes that a graph computes while it runs: followed, tried out at the student's sizes, or pinned."""

from __future__ import annotations

import numpy as np
import pytest

from onnx_net2net import RequestError, widen
from onnx_net2net.expansion import Expansion
from onnx_net2net.inference.infer import infer
from tests.law import fill, parse, run

CHUNK = """(float[batch,3,4,4] x) => (float[batch,2,4,4] y)
    <float[8,3,1,1] w1, float[2,8,1,1] w2, int64 i={1}, int64[1] one={1}, int64[1] two={2}, int64[1] axis={1}, int64[1] zero={0}>
    { h=Conv(x,w1) r=Relu(h) s=Shape(r) n=Gather(s,one) m=Add(n,one) k=Div(m,two) e=Mul(k,two)
      a=Slice(r,zero,k,axis) b=Slice(r,k,e,axis) c=Concat<axis=1>(b,a) y=Conv(c,w2) }"""
"""What torch's chunk becomes: halves of (n + 1) / 2 channels."""
HEADS = """(float[T,batch,6] x) => (float[T,batch,5] y)
    <float[6,12] w, float[12,5] v, int64 i={0}, int64 j={1}, int64 four={4}, int64[1] z={0}, int64[1] three={3}, int64[1] twelve={12}>
    { h=MatMul(x,w) s=Shape(x) t=Gather(s,i) b=Gather(s,j) n=Mul(four,b) t1=Unsqueeze(t,z) b1=Unsqueeze(b,z) n1=Unsqueeze(n,z)
      p=Concat<axis=0>(t1,n1,three) a=Reshape(h,p) r=Tanh(a) q=Concat<axis=0>(t1,b1,twelve) c=Reshape(r,q) y=MatMul(c,v) }"""
"""Heads merged with a dynamic batch, the factors of the size in the other order."""
FOLDED = HEADS.replace(
    "n=Mul(four,b)",
    "g=Shape<start=1,end=2>(x) o=Constant<value_ints=[4]>() f=Concat<axis=0>(g,o) n=ReduceProd<keepdims=0>(f)",
)
REPEATED = """(float[batch,3,4] x) => (float[batch,3,5] y)
    <float[4,8] u, float[16,5] v, int64[1] two={2}, int64[1] rep={2}, int64[4] s1={0,3,2,4}, int64[1] none={-1}, int64[3] s2={0,3,-1}>
    { h=MatMul(x,u) a=Reshape(h,s1) e=Unsqueeze(a,two) l=Shape(e) n=Shape(l) ones=ConstantOfShape<value=int64[1]{1}>(n)
      b=Shape<start=0,end=2>(e) c=Shape<start=3,end=5>(e) w=Concat<axis=0>(b,rep,c) minus=Mul(ones,none)
      is=Equal(w,minus) sh=Where(is,ones,w) g=Expand(e,sh) r=Relu(g) f=Reshape(r,s2) y=MatMul(f,v) }"""
"""What torch's expand becomes: each size is compared with -1."""

FOLLOWED = {
    "the halves of chunk": (CHUNK, {"w1:0[0]": 4, "w1:0[1]": 4}),
    "heads times a dynamic batch": (HEADS, {"w:1[0]": 4, "w:1[1]": 3}),
    "a folded product of heads and batch": (FOLDED, {"w:1[0]": 4, "w:1[1]": 3}),
    "sizes compared with a number": (REPEATED, {"u:1[0]": 2, "u:1[1]": 4}),
}


def widened(graph: str, **asked: object) -> Expansion:
    return widen(fill(parse(graph, 17)), **asked)  # type: ignore[arg-type]


@pytest.mark.parametrize("factor", [1.5, 2])
@pytest.mark.parametrize(("graph", "axes"), FOLLOWED.values(), ids=FOLLOWED.keys())
def test_followed(graph: str, axes: dict[str, int], factor: float) -> None:
    free = {a.axis.name: a.axis.size for a in infer(fill(parse(graph, 17))).axes.values() if a.status == "free"}
    assert free.items() >= axes.items()
    made = widened(graph, factor=factor)
    assert {axis.name for axis in made.plan.axes} & set(axes)
    verdict = made.verify()
    assert verdict, verdict.reason
    for n in (1, 3, 5):
        shape = [dim.dim_value or n for dim in made.teacher.graph.input[0].type.tensor_type.shape.dim]
        x = {"x": np.random.default_rng(n).standard_normal(shape).astype(np.float32)}
        np.testing.assert_allclose(run(made.model, x)["y"], run(made.teacher, x)["y"], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("width", [{"w1:0[0]": 6}, {"w1:0[0]": 5, "w1:0[1]": 6}, {"w1:0[1]": "x2"}])
def test_halves_grow_alike_or_not_at_all(width: dict[str, int]) -> None:
    with pytest.raises(RequestError, match="a size that the model computes from it does not follow"):
        widened(CHUNK, widths=width)


def test_what_would_come_out_wrong_is_seen_in_the_certificate(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("onnx_net2net.planning.request.broken", lambda *_: [])
    with pytest.raises(RequestError, match=r"certificate .*does not follow"):
        widened(CHUNK, widths={"w1:0[0]": 6})


def test_the_certificate_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("request", "planner"):
        monkeypatch.setattr(f"onnx_net2net.planning.{module}.broken", lambda *_: [])
    assert not widened(CHUNK, widths={"w1:0[0]": 5, "w1:0[1]": 6}).verify()


PINNED = {
    "a size less two": ("w:1[1]", "h=Sub(n,two)"),
    "a dynamic size takes part": ("w:1", "b=Shape<start=0,end=1>(x) m=Add(n,b) h=Sub(m,b)"),
}


@pytest.mark.parametrize(("axis", "how"), PINNED.values(), ids=PINNED.keys())
def test_pinned(axis: str, how: str) -> None:
    graph = f"""(float[batch,4] x) => (float[batch,3] y) <float[4,8] w, float[8,3] v, int64[1] two={{2}}, int64[1] zero={{0}}, int64[1] axis={{1}}, float[8,3] u>
        {{ a=MatMul(x,w) r=Relu(a) n=Shape<start=1,end=2>(r) {how} c=Slice(r,zero,h,axis) d=ReduceMax<axes=[1],keepdims=1>(c)
          e=MatMul(r,v) y=Add(e,d) }}"""
    found = infer(fill(parse(graph, 17))).axes
    assert "computed while the model runs" in found[axis].reason
    made = widened(graph, factor=2)
    assert made.verify() or not made.plan.axes
