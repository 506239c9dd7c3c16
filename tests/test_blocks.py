"""Copies of residual blocks: text models, light models, graphs of real exporters, and mutations."""

from __future__ import annotations

import dataclasses
import json
from collections import Counter
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, numpy_helper

from onnx_net2net import Expansion, Plan, RequestError, deepen, inspect, verify
from onnx_net2net.inference.graph import Graph
from onnx_net2net.inference.nodes import view
from onnx_net2net.rules import all_rules
from onnx_net2net.rules._registry import nowhere
from tests.cases import CASES
from tests.exports import DIMS, EXPORTS, FOLDER, export
from tests.law import fill, parse, run
from tests.untouched import assert_untouched
from tests.zoo import light, parameters

TRANSFORMER = """(float[b,5,8] x, float[b,1,5,5] mask) => (float[b,5,3] y)
  <float[8] g1, float[8] b1, float[8,8] wq, float[8,8] wk, float[8,8] wv, float[8,8] wo, float[8] bo, int64[4] heads = {0, 5, 2, 4},
   int64[3] merged = {0, 5, 8}, float[8] g2, float[8] b2, float[8,16] w1, float[16] c1, float[16,8] w2, float[8] c2, float[8,3] head,
   float half = {0.5}, float one = {1}, float root = {1.414}>
  { n = LayerNormalization(x, g1, b1)
    q0 = MatMul(n, wq) q1 = Reshape(q0, heads) q = Transpose<perm=[0,2,1,3]>(q1)
    k0 = MatMul(n, wk) k1 = Reshape(k0, heads) k = Transpose<perm=[0,2,3,1]>(k1)
    v0 = MatMul(n, wv) v1 = Reshape(v0, heads) v = Transpose<perm=[0,2,1,3]>(v1)
    s0 = MatMul(q, k) s1 = Add(s0, mask) s = Softmax<axis=-1>(s1)
    z0 = MatMul(s, v) z1 = Transpose<perm=[0,2,1,3]>(z0) z2 = Reshape(z1, merged)
    o0 = MatMul(z2, wo) o = Add(o0, bo) attended = Add(x, o)
    m = LayerNormalization(attended, g2, b2) f0 = MatMul(m, w1) f1 = Add(f0, c1)
    d = Div(f1, root) e = Erf(d) p = Add(e, one) h = Mul(f1, p) gelu = Mul(h, half)
    f2 = MatMul(gelu, w2) f = Add(f2, c2) fed = Add(f, attended)
    y = MatMul(fed, head) }"""
RESNET = """(float[b,3,8,8] x) => (float[b,2] y)
  <float[4,3,3,3] w0, float[4,4,3,3] w1, float[4] s1, float[4] b1, float[4] m1, float[4] v1, float[4,4,3,3] w2, float[4] s2, float[4] b2,
   float[4] m2, float[4] v2, float[6,4,1,1] w3, float[6,4,3,3] w4, float[6,2] head>
  { c = Conv<pads=[1,1,1,1]>(x, w0) r = Relu(c)
    c1 = Conv<pads=[1,1,1,1]>(r, w1) n1 = BatchNormalization(c1, s1, b1, m1, q1) r1 = Relu(n1)
    c2 = Conv<pads=[1,1,1,1]>(r1, w2) n2 = BatchNormalization(c2, s2, b2, m2, q2) total = Add(n2, r) out = Relu(total)
    c3 = Conv(out, w3) c4 = Conv<pads=[1,1,1,1]>(out, w4) down = Add(c3, c4) last = Relu(down)
    g = GlobalAveragePool(last) f = Flatten(g) y = MatMul(f, head) }""".replace(
    "float[4] v1", "float[4] v1, float[4] q1, float[4] q2"
)


def transformer() -> ModelProto:
    return fill(parse(TRANSFORMER, 17), low=-0.7, high=0.7)


def resnet() -> ModelProto:
    model = fill(parse(RESNET))
    for tensor in model.graph.initializer:
        if tensor.name in ("q1", "q2"):
            tensor.CopyFrom(numpy_helper.from_array(np.abs(numpy_helper.to_array(tensor)) + 0.5, tensor.name))
    return model


def held_to(made: Expansion, dims: dict[str, int] | None = None) -> Expansion:
    onnx.checker.check_model(made.model, full_check=True)
    verdict = made.verify(dims=dims or {})
    assert verdict, verdict.reason
    again = deepen(made.teacher, plan=made.plan.to_json())
    assert Plan.from_json(made.plan.to_json()) == made.plan == again.plan
    assert again.model.SerializeToString() == made.model.SerializeToString()
    assert_untouched(made.teacher, made.model, made.plan)
    return made


def zeroed(made: Expansion) -> dict[str, Any]:
    return {t.name: numpy_helper.to_array(t) for t in made.model.graph.initializer if t.name.endswith("_deeper_zero")}


def test_a_transformer() -> None:
    model = transformer()
    found = inspect(model)
    assert [(b.source, b.tensor, b.refusal) for b in found.blocks] == [("x", "attended", ""), ("attended", "fed", "")]
    made = held_to(deepen(model, block="every"))
    assert set(zeroed(made)) == {f"{name}_deeper_zero" for name in ("wo", "bo", "w2", "c2")}
    assert not any(value.any() for value in zeroed(made).values())
    names = {t.name for t in made.model.graph.initializer}
    assert {"wq_deeper", "g1_deeper", "c1_deeper"} <= names  # weights of its own
    assert not {"half_deeper", "heads_deeper", "head_deeper"} & names
    body = [node.op_type for node in model.graph.node]
    assert [node.op_type for node in made.model.graph.node] == body[:19] * 2 + body[19:30] * 2 + body[30:]
    assert parameters(made.model) > 1.8 * parameters(model)


def test_blocks_that_are_copied_together() -> None:
    """A copy of attention and feed-forward follows both; one block alone would part them."""
    model = transformer()
    made = held_to(deepen(model, block="attended", span=2, count=2))
    assert [(copy.span, copy.source, copy.tensor) for copy in made.plan.blocks] == [(2, "x", "fed")] * 2
    assert set(zeroed(deepen(model, block="every", span=2))) == {f"{n}_deeper_zero" for n in ("wo", "bo", "w2", "c2")}
    body = [node.op_type for node in model.graph.node]
    assert [node.op_type for node in made.model.graph.node] == body[:30] * 3 + body[30:]


def test_too_few_blocks_to_copy_together() -> None:
    model = transformer()
    with pytest.raises(RequestError, match=r"'?Add.*1 of 2 blocks follow each other: none starts from fed"):
        deepen(model, block="fed", span=2)
    made = deepen(model, block="every", span=3)
    assert not made.plan.blocks
    assert made.skipped["attended"] == "2 of 3 blocks follow each other: none starts from fed"


def test_blocks_with_a_mere_copy_between_them() -> None:
    model = small("h = MatMul(x, w) s = Add(x, h) i = Identity(s) g = MatMul(i, u) y = Add(i, g)")
    made = held_to(deepen(model, block="s", span=2))
    assert [node.op_type for node in made.model.graph.node] == ["MatMul", "Add", "Identity", "MatMul", "Add"] * 2


def test_a_copied_block_can_learn() -> None:
    """Its branch depends on its input, and on the projection alone whether it adds something."""
    made = deepen(transformer(), block="fed")
    student = ModelProto()
    student.CopyFrom(made.model)
    for tensor in student.graph.initializer:
        if tensor.name == "w2_deeper_zero":
            value = np.random.default_rng(0).standard_normal(tensor.dims).astype(np.float32)
            tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    assert not verify(made.teacher, student)


def test_a_residual_network() -> None:
    model = resnet()
    (block,) = inspect(model).blocks
    assert (block.source, block.tensor, block.refusal) == ("r", "out", "")
    made = held_to(deepen(model, block="total", count=2))
    assert [len(copy.nodes) for copy in made.plan.blocks] == [7, 7]
    kinds = [node.op_type for node in made.model.graph.node]
    assert kinds[2:23] == kinds[2:9] * 3
    assert kinds[8] == "Relu"
    assert {name.rsplit("_deeper", maxsplit=1)[0] for name in zeroed(made)} == {"s2", "b2"}


ROWS = {
    "a Gemm and its bias": ("h = Gemm(x, w, b) y = Add(x, h)", ("w", "b")),
    "a Gemm without bias": ("h = Gemm(x, w) y = Add(h, x)", ("w",)),
    "a product with a scale": ("h = MatMul(x, w) k = Mul(h, b) y = Add(x, k)", ("w",)),
    "a scale of x itself": ("k = Mul(b, x) y = Add(x, k)", ("b",)),
    "a gate": ("h = MatMul(x, w) g = Sigmoid(x) k = Mul(g, h) y = Add(x, k)", ("w",)),
    "an operator that is zero at zero": ("h = MatMul(x, w) k = Tanh(h) y = Add(x, k)", ("w",)),
    "two projections": ("h = MatMul(x, w) k = Gemm(x, u, b) s = Add(h, k) y = Add(x, s)", ("w", "u", "b")),
    "a normalisation": ("h = MatMul(x, w) k = LayerNormalization(h, b, b) y = Add(x, k)", ("b", "b")),
    "Sum": ("h = MatMul(x, w) y = Sum(x, h)", ("w",)),
    "Dropout": ("h = MatMul(x, w) k, m = Dropout(h) y = Add(x, k)", ("w",)),
    "a Clip around zero": ("h = MatMul(x, w) k = Clip(h, low, high) y = Add(x, k)", ("w",)),
    "a weight made by nodes": ("t = Transpose(w) h = MatMul(x, t) y = Add(x, h)", ("t",)),
    "a pre-activation": ("r = Relu(x) h = MatMul(r, w) s = Add(x, h) q = Relu(s) t = Neg(s) y = Sub(q, t)", ("w",)),
    "a shortcut through casts": ("c = Cast<to=1>(x) d = Identity(c) h = MatMul(x, w) y = Add(d, h)", ("w",)),
    "a shared weight": ("g = MatMul(x, w) h = MatMul(g, w) y = Add(x, h)", ("w",)),
}
CONSTANTS = "float tenth = {0.1}, float[4,4] w, float[4,4] u, float[4] b, float low = {-0.5}, float high = {0.5}, float one = {1}"


def small(body: str, shape: str = "3,4") -> ModelProto:
    return fill(parse(f"(float[{shape}] x) => (float[{shape}] y) <{CONSTANTS}> {{ {body} }}"))


@pytest.mark.parametrize(("body", "weights"), ROWS.values(), ids=ROWS.keys())
def test_what_can_be_zeroed(body: str, weights: tuple[str, ...]) -> None:
    model = small(body)
    made = held_to(deepen(model, block="every"))
    (copy,) = made.plan.blocks
    assert tuple(model.graph.node[i].input[slot] for i, slot in copy.zeroed) == weights
    feeds = {"x": np.random.default_rng(1).standard_normal((3, 4)).astype(np.float32)}
    np.testing.assert_array_equal(run(made.model, feeds)["y"], run(model, feeds)["y"])


REFUSED = {
    "nothing to zero": ("h = Sigmoid(x) y = Add(x, h)", "y", "no weights at the end"),
    "a Sigmoid at the end": ("g = MatMul(x, w) h = Sigmoid(g) y = Add(x, h)", "y", "no weights at the end"),
    "a Clip beside zero": ("g = MatMul(x, w) h = Clip(g, high, one) y = Add(x, h)", "y", "no weights at the end"),
    "a constant that is added": ("g = MatMul(x, w) h = Exp(g) y = Add(x, h)", "y", "no weights at the end"),
    "a Sigmoid behind the sum": (
        "r = Sigmoid(x) h = MatMul(r, w) s = Add(r, h) y = Sigmoid(s)",
        "s",
        r"a copy behind Sigmoid 'y' needs f\(f\(x\)\)",
    ),
    "a branch of another shape": ("g = MatMul(x, w) h = ReduceMean<axes=[0]>(g) y = Add(x, h)", "y", "another shape"),
    "a sum of strangers": ("g = MatMul(x, w) h = MatMul(x, u) y = Add(g, h)", "y", "it is not the sum"),
    "a bias": ("h = MatMul(x, w) y = Add(h, b)", "y", "it is not the sum"),
    "no sum": ("h = MatMul(x, w) y = Relu(h)", "y", "it is not the sum"),
    "a formula, no weights": (
        "h = Mul(x, x) k = Mul(h, tenth) y = Add(x, k)",
        "y",
        "no weights at the end of its branch can make it zero",
    ),
    "a tensor twice": ("h = MatMul(x, w) y = Add(h, h)", "y", "it is not the sum"),
}


@pytest.mark.parametrize(("body", "name", "why"), REFUSED.values(), ids=REFUSED.keys())
def test_what_is_refused(body: str, name: str, why: str) -> None:
    model = small(body)
    with pytest.raises(RequestError, match=why):
        deepen(model, block=name)
    assert not deepen(model, block="every").plan.blocks


def test_a_branch_with_subgraphs_is_refused() -> None:
    model = fill(
        parse("""(float[2,4] x, bool c) => (float[2,4] y) <float[4,4] w> { h = MatMul(x, w)
        k = If (c) <then_branch = t () => (float[2,4] a) { a = Neg(h) }, else_branch = e () => (float[2,4] d) { d = Abs(h) }>
        y = Add(x, k) }""")
    )
    with pytest.raises(RequestError, match="subgraphs"):
        deepen(model, block="y")


def test_a_block_that_is_named_by_its_node() -> None:
    model = small("h = MatMul(x, w) y = Add(x, h)")
    model.graph.node[1].name = "sum"
    made = held_to(deepen(model, block="sum"))
    assert [node.name for node in made.model.graph.node] == ["", "sum", "", "sum_deeper"]


def test_old_models_list_copied_weights_as_inputs() -> None:
    model = small("h = MatMul(x, w) g = Relu(h) k = MatMul(g, u) y = Add(x, k)")
    model.ir_version = 3
    for tensor in model.graph.initializer:
        model.graph.input.append(onnx.helper.make_tensor_value_info(tensor.name, tensor.data_type, tensor.dims))
    made = held_to(deepen(model, block="y"))
    assert {"w_deeper", "u_deeper_zero"} <= {value.name for value in made.model.graph.input}


EDITS: dict[str, dict[str, Any]] = {
    "another sum": {"add": 0},
    "no sum": {"add": 99},
    "another place": {"after": 0},
    "another tensor": {"tensor": "h"},
    "another source": {"source": "h"},
    "other nodes": {"nodes": [0, 1]},
    "other weights": {"constants": []},
    "nothing zeroed": {"zeroed": []},
    "a use that is none": {"zeroed": [["a", 1]]},
    "names": {"names": ["y"] * 9},
    "few names": {"names": []},
    "more blocks": {"span": 2},
    "no number of blocks": {"span": True},
    "an unknown field": {"colour": "red"},
}


@pytest.mark.parametrize("row", EDITS)
def test_edited_plans_are_refused(row: str) -> None:
    model = small("h = MatMul(x, w) g = Relu(h) k = Gemm(g, u, b) y = Add(x, k)")
    body = json.loads(deepen(model, block="y").plan.to_json())
    body["blocks"][0] |= EDITS[row]
    with pytest.raises(RequestError, match="plan"):
        deepen(model, plan=json.dumps(body))


def test_layers_and_blocks_do_not_share_a_plan() -> None:
    model = small("h = MatMul(x, w) g = Relu(h) k = Gemm(g, u, b) y = Add(x, k)")
    plans = [deepen(model, after="g").plan, deepen(model, block="y").plan]
    with pytest.raises(RequestError, match="plan"):
        deepen(model, plan=dataclasses.replace(plans[0], blocks=plans[1].blocks))


@pytest.mark.parametrize("weight", ["s2", "b2"])
def test_verification_catches_a_weight_that_is_not_zero(weight: str) -> None:
    made = deepen(resnet(), block="total")
    student = ModelProto()
    student.CopyFrom(made.model)
    (tensor,) = (t for t in student.graph.initializer if t.name == f"{weight}_deeper_zero")
    tensor.CopyFrom(numpy_helper.from_array(np.full(tensor.dims, 0.01, np.float32), tensor.name))
    assert made.verify()
    assert not verify(made.teacher, student)


# What the rules say of zeros, on the cases of each rule


def check_zeros(model: ModelProto) -> set[str]:
    """Runs each node by itself, with zeros where its rule says that they make zero; the operators that were run."""
    graph = Graph(model)
    done: set[str] = set()
    for i, node in enumerate(graph.nodes):
        rule = graph.rule(i)
        inputs = {slot: operand(graph, name) for slot, name in enumerate(node.input) if name}
        if i in graph.constant_nodes or rule is None or any(value is None for value in inputs.values()):
            continue
        for slots in rule.vanishes(view(graph, i)):
            values = {slot: np.zeros_like(v) if slot in slots else v for slot, v in inputs.items()}
            assert not np.asarray(alone(model, node, values), np.float64).any(), (node.op_type, slots)
            done.add(node.op_type)
    return done


def operand(graph: Graph, name: str) -> Any:
    """A positive value for a tensor; None for sequences, and for computed integers, which have to be what they are."""
    if not graph.dtype(name):  # a sequence
        return None
    dtype = onnx.helper.tensor_dtype_to_np_dtype(graph.dtype(name))
    if name in graph.constants:
        return graph.value(name).copy()
    if np.issubdtype(dtype, np.integer):
        return None
    return np.random.default_rng(0).uniform(0.5, 1.5, graph.shape(name) or ()).astype(dtype)


def alone(model: ModelProto, node: onnx.NodeProto, values: dict[int, Any]) -> Any:
    """What a node makes of values."""
    single = ModelProto(ir_version=10, opset_import=model.opset_import)
    single.graph.name = "g"
    made = single.graph.node.add()
    made.CopyFrom(node)
    for slot, value in values.items():
        made.input[slot] = f"in{slot}"
        single.graph.initializer.append(numpy_helper.from_array(value, f"in{slot}"))
    single.graph.output.append(onnx.ValueInfoProto(name=node.output[0]))
    return run(single, {})[node.output[0]]


def test_zeros_make_zero_where_the_rules_say_so() -> None:
    claimed = {rule.op for rule in all_rules() if rule.vanishes is not nowhere}
    shown: set[str] = set()
    for case in CASES:
        if any(node.op_type in claimed for node in case.model.graph.node):
            shown |= check_zeros(case.model)
    assert claimed - shown <= {"SimplifiedLayerNormalization", "Swish"}, claimed - shown


# Real graphs


def test_a_light_resnet50() -> None:
    teacher = light("resnet50")
    made = deepen(teacher, block="every")
    assert len(made.plan.blocks) == 12  # all but the four that change the shape
    verdict = made.verify(samples=2)
    assert verdict, verdict.reason
    assert_untouched(teacher, made.model, made.plan)


EXPORTED = {
    "keras_resnet.torchscript": 1,
    "bert.torchscript": 4,
    "convnext.dynamo": 4,
    "cnn.tf2onnx": 1,
    "efficientnet.torchscript": 2,
    "encoder.dynamo": 4,
    "gpt2.dynamo_raw": 4,
    "llama.torchscript": 4,
    "mixer.dynamo": 4,
    "mobilenet_v2.torchscript": 2,
    "resnext.torchscript": 1,
    "segformer.dynamo": 4,
    "swin.dynamo": 8,
    "tcn.torchscript": 1,
    "vit.torchscript": 4,
    "yolo.dynamo": 3,
}


@pytest.mark.parametrize(("name", "blocks"), EXPORTED.items(), ids=EXPORTED.keys())
def test_exports(name: str, blocks: int) -> None:
    for span in (1, 2):
        made = deepen(export(name), block="every", span=span)
        assert span == 2 or len(made.plan.blocks) == blocks
        if made.plan.blocks:
            verdict = made.verify(dims=DIMS)
            assert verdict, verdict.reason
            assert_untouched(made.teacher, made.model, made.plan)


@pytest.mark.parametrize("name", ["gpt2.dynamo", "llama.torchscript", "vit.dynamo_raw"])
def test_layers_of_exported_transformers(name: str) -> None:
    """Two layers, each of attention and feed-forward, are copied layer by layer."""
    made = deepen(export(name), block="every", span=2)
    assert [copy.span for copy in made.plan.blocks] == [2, 2]


ARCHITECTURES = sorted({name.partition(".")[0] for name in EXPORTS} - {"cnn"})  # two different networks


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_all_exporters_of_a_network_show_the_same_places_and_blocks(architecture: str) -> None:
    seen = []
    for name in EXPORTS:
        if name.startswith(f"{architecture}."):
            found = inspect(onnx.load(FOLDER / f"{name}.onnx"))
            modes = Counter(place.modes[0] for place in found.deepen)
            seen.append((modes, sum(not block.refusal for block in found.blocks)))
    assert all(one == seen[0] for one in seen), seen
