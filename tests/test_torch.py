"""From PyTorch to ONNX, grown, and back: modules, weights, gradients and optimizers."""

from __future__ import annotations

import copy
import io
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

torch = pytest.importorskip("torch", reason="needs the extra torch")
nn = torch.nn

from onnx_net2net import NotEquivalentError, RequestError, deepen, widen  # noqa: E402
from onnx_net2net.torch import expand_optimizer_state, grow, grow_training, state_of  # noqa: E402
from onnx_net2net.training.weights import Growth  # noqa: E402
from tests.torch_rows import FOLDED, KEPT, ROWS, Residual, export, filled, outputs, train  # noqa: E402

EXPORTS = [pytest.param(options, id="-".join(f"{k}={v}" for k, v in options.items())) for options in KEPT + FOLDED]


def count(module: Any) -> int:
    return sum(p.numel() for p in module.parameters())


def close(left: Any, right: Any, bound: float = 1e-5) -> bool:
    return left.shape == right.shape and float((left - right).abs().max()) <= bound * float(left.abs().max())


@pytest.mark.parametrize("options", EXPORTS)
@pytest.mark.parametrize("name", ROWS)
def test_there_and_back(name: str, options: dict[str, Any]) -> None:
    kind, draw, factor = ROWS[name]
    module, x = filled(kind), draw()
    teacher = export(module, x, **options)
    wide = widen(teacher, factor=factor, seed=3)
    wider = grow(module, teacher, wide.plan.to_json(), (x,))
    assert count(wider) > 1.5 * count(module)
    assert close(outputs(module, x), outputs(wider, x))
    again = export(wider, x, **options)  # the grown module is one like any other
    assert close(outputs(wider, x), outputs(grow(wider, again, widen(again, factor=factor).plan, (x,)), x))
    if name != "recurrent":  # it has no idempotent activation
        deep = deepen(wide.exact, after="every")
        deeper = grow(wider, wide.exact, deep.plan, (x,))
        assert count(deeper) > count(wider)
        assert close(outputs(module, x), outputs(deeper, x))
        wider = deeper
    losses = train(wider, torch.optim.Adam(wider.parameters(), lr=1e-3), x, 8)
    assert losses[-1] < losses[0]


@pytest.mark.parametrize("options", KEPT, ids=["dynamo", "torchscript"])
def test_weights_are_those_of_the_student_bit_for_bit(options: dict[str, Any]) -> None:
    module, x = filled(Residual), ROWS["residual"][1]()
    teacher = export(module, x, **options)
    made = widen(teacher, factor=1.7, noise=0.1)
    growth = Growth(teacher, made.plan, state_of(module))
    student = {t.name: numpy_helper.to_array(t) for t in made.model.graph.initializer}
    for name, found in growth.matching.matches.items():
        (part,) = found.parts
        assert np.array_equal(growth.state[name], student[part.version or name]), name
    assert growth.matching.kept.keys() == {name for name in growth.state if name.endswith("tracked")}
    assert sum(c.before != c.after for c in growth.report.changes) > 15


@pytest.mark.parametrize("options", KEPT, ids=["dynamo", "torchscript"])
@pytest.mark.parametrize(
    ("mode", "batch_norm"),
    [
        ("identity", False),
        ("identity", True),
        ("residual", False),
        ("prelu", False),
        ("linear", False),
    ],
)
def test_layers_of_every_mode(mode: Any, batch_norm: bool, options: dict[str, Any]) -> None:
    module, x = filled(Residual), ROWS["residual"][1]()
    teacher = export(module, x, **options)
    places = [node.name for node in teacher.graph.node if node.op_type == "Relu"][:2]
    made = deepen(teacher, after=places, mode=mode, batch_norm=batch_norm)
    deeper = grow(module, teacher, made.plan, (x,))
    assert close(outputs(module, x), outputs(deeper, x))
    names = {name for name, _ in deeper.named_parameters()} - {name for name, _ in module.named_parameters()}
    steps = 1 + batch_norm * 2 + {"identity": 0, "residual": 2, "prelu": 1, "linear": 0}[mode]
    assert len(names) == 2 * steps
    losses = train(deeper, torch.optim.Adam(deeper.parameters(), lr=1e-3), x, 8)
    assert losses[-1] < losses[0]


def gradients(module: Any, x: Any, mode: bool) -> dict[str, np.ndarray]:
    module.train(mode)
    module.zero_grad()
    result = module(x)
    weights = torch.linspace(-1, 1, result.numel(), dtype=result.dtype).reshape(result.shape)
    ((result * weights).sum() + (result**2).sum()).backward()
    module.eval()
    return {name: p.grad.numpy() for name, p in module.named_parameters()}


@pytest.mark.parametrize("split", ["uneven", "even", "first"])
@pytest.mark.parametrize("training", [False, True], ids=["eval", "train"])
@pytest.mark.parametrize("name", ROWS)
def test_gradients_are_the_fractions_of_the_teachers(name: str, training: bool, split: Any) -> None:
    kind, draw, factor = ROWS[name]
    module, x = filled(kind, torch.float64), draw()
    x = x.double() if x.is_floating_point() else x
    teacher = export(module, x, dynamo=False, do_constant_folding=False)
    made = widen(teacher, factor=factor, split=split, seed=5)
    student = grow(module, teacher, made.plan, (x,))
    growth = Growth(teacher, made.plan, state_of(module))
    before, after = gradients(module, x, training), gradients(student, x, training)
    slots, inexact = growth.optimizer({key: {"exp_avg": g, "exp_avg_sq": g * g} for key, g in before.items()})
    wrong = []
    for key, gradient in after.items():
        scale = max(float(np.abs(gradient).max()), 1e-6)
        first = float(np.abs(slots[key]["exp_avg"] - gradient).max()) / scale
        second = float(np.abs(slots[key]["exp_avg_sq"] - gradient**2).max()) / scale**2
        if max(first, second) > 1e-9:
            wrong.append(key)
    assert set(wrong) <= set(inexact), "what is not exact is reported"
    if name == "sequence" and split != "even":
        assert wrong == ["inp.weight", "inp.bias"]
        assert all("LayerNormalization" in why for why in inexact.values())
    else:
        assert not inexact
    assert any(before[key].shape != after[key].shape for key in after)


@pytest.mark.parametrize(
    "make",
    [
        lambda p: torch.optim.SGD(p, lr=1e-3, momentum=0.9),
        lambda p: torch.optim.Adam(p, lr=0.01, amsgrad=True),
        lambda p: torch.optim.AdamW(p, lr=0.01),
        lambda p: torch.optim.RMSprop(p, lr=1e-5, momentum=0.9, centered=True),
        lambda p: torch.optim.Adagrad(p, lr=0.01),
    ],
    ids=["SGD", "Adam", "AdamW", "RMSprop", "Adagrad"],
)
def test_an_optimizer_goes_on_where_it_was(make: Any) -> None:
    module, x = filled(Residual, torch.float64), torch.randn(4, 3, 6, 6).double()
    exported = copy.deepcopy(module)
    teacher = export(exported, x, **KEPT[1])
    optimizer = make(module.parameters())
    train(module, optimizer, x, 5)
    plan = widen(teacher, factor=1.5).plan
    made = grow_training(module, optimizer, teacher, plan, (x,), reference=exported.state_dict())
    assert not made.inexact
    assert made.optimizer is not optimizer
    named = dict(made.module.named_parameters())
    for name, old in module.named_parameters():
        buffers = made.optimizer.state[named[name]]
        assert buffers.keys() == optimizer.state[old].keys()
        assert all(torch.is_tensor(b) and b.shape in ((), named[name].shape) for b in buffers.values())
    growth = Growth(teacher, plan, state_of(module), reference=state_of(exported))
    assert expand_optimizer_state(growth, optimizer.state_dict())[0]["state"].keys() == set(range(len(named)))
    losses = train(made.module, made.optimizer, x, 5)
    assert losses[-1] < losses[0]


def test_momentum_is_what_a_student_would_have_gathered() -> None:
    """Frozen weights: after some steps the teacher's buffers grow into those of the student."""
    module, x = filled(Residual, torch.float64), torch.randn(4, 3, 6, 6).double()
    teacher = export(module, x, **KEPT[1])
    plan = widen(teacher, factor=1.5).plan
    student = grow(module, teacher, plan, (x,))
    buffers = []
    for one in (module, student):
        optimizer = torch.optim.Adam(one.parameters(), lr=0.0)
        train(one, optimizer, x, 3)
        buffers.append({n: {k: v.numpy() for k, v in optimizer.state[p].items()} for n, p in one.named_parameters()})
    grown, inexact = Growth(teacher, plan, state_of(module)).optimizer(buffers[0], strict=True)
    assert not inexact
    for name, wanted in buffers[1].items():
        for key, value in wanted.items():
            assert np.allclose(grown[name][key], value, rtol=1e-8, atol=1e-14), (name, key)


class Fresh(torch.nn.Module):
    """As it is before training: equal vectors everywhere, which exporters share between layers."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Sequential(
            *(nn.Conv2d(3, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
            *(nn.Conv2d(8, 8, 3, bias=False), nn.BatchNorm2d(8), nn.ReLU()),
            *(nn.Conv2d(8, 8, 3), nn.GroupNorm(2, 8), nn.PReLU(8)),
        )
        self.fc1, self.fc2 = nn.Linear(8, 8), nn.Linear(8, 4)
        nn.init.zeros_(self.fc1.bias)

    def forward(self, x: Any) -> Any:
        return self.fc2(self.fc1(self.body(x).amax((2, 3))).relu())


@pytest.mark.parametrize("options", EXPORTS)
def test_vectors_that_are_all_alike_are_told_apart_or_refused(options: dict[str, Any]) -> None:
    torch.manual_seed(0)
    module, x = Fresh().eval(), torch.randn(2, 3, 10, 10)
    teacher = export(module, x, **options)
    plan = widen(teacher, factor=2).plan
    if options in FOLDED:
        with pytest.raises(RequestError, match="export with batch normalisation kept"):
            grow(module, teacher, plan, (x,))
        return
    student = grow(module, teacher, plan, (x,))
    assert close(outputs(module, x), outputs(student, x))
    assert student.body[7].num_groups in (2, 4)


class Decoder(torch.nn.Module):
    """Attention with a fused projection, positions of which some are exported, and a head tied to the embedding."""

    def __init__(self) -> None:
        super().__init__()
        self.token, self.place, self.qkv = nn.Embedding(30, 8), nn.Embedding(12, 8), nn.Linear(8, 24)
        self.proj, self.norm, self.up, self.down = nn.Linear(8, 8), nn.LayerNorm(8), nn.Linear(8, 12), nn.Linear(12, 8)
        self.head = nn.Linear(8, 30, bias=False)
        self.head.weight = self.token.weight

    def forward(self, ids: Any) -> Any:
        x = self.token(ids) + self.place(torch.arange(ids.shape[1]))
        q, k, v = (t.reshape(*ids.shape, 2, -1).transpose(1, 2) for t in self.qkv(self.norm(x)).chunk(3, -1))
        mixed = (q @ k.transpose(-1, -2)).softmax(-1) @ v
        x = x + self.proj(mixed.transpose(1, 2).flatten(2))
        return self.head(x + self.down(nn.functional.gelu(self.up(x))))


@pytest.mark.parametrize("options", KEPT, ids=["dynamo", "torchscript"])
def test_tied_weights_part_and_positions_beyond_the_exported_ones_grow(options: dict[str, Any]) -> None:
    module, ids = filled(Decoder), torch.randint(0, 30, (2, 7))
    teacher = export(module, ids, **options)
    made = widen(teacher, factor=2, skip=["*qkv*#*", "*chunk*", "*plit*", "*lice*", "*getitem*"])
    adam = torch.optim.Adam(module.parameters(), lr=0.0)
    train(module, adam, ids, 1)
    grown = grow_training(module, adam, teacher, made.plan, (ids,))
    student = grown.module
    assert close(outputs(module, ids), outputs(student, ids))
    longer = torch.randint(0, 30, (2, 12))
    assert close(outputs(module, longer), outputs(student, longer))
    assert student.token.weight.shape == student.head.weight.shape == (30, 16)
    assert student.token.weight is not student.head.weight
    assert not torch.equal(student.token.weight, student.head.weight)
    held = [p for group in grown.optimizer.param_groups for p in group["params"]]
    assert {id(p) for p in held} == {id(p) for p in student.parameters()}
    assert grown.inexact["token.weight"] == "the weight is shared, and the student holds it in several versions"


def test_a_weight_that_stays_shared_stays_one_parameter() -> None:
    class Twins(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.out = nn.Linear(4, 6), nn.Linear(4, 6), nn.Linear(6, 3)
            self.b.weight, self.b.bias = self.a.weight, self.a.bias

        def forward(self, x: Any, y: Any) -> Any:
            return self.out(torch.relu(self.a(x)) * torch.relu(self.b(y)))

    module, x, y = filled(Twins, torch.float64), torch.randn(3, 4).double(), torch.randn(3, 4).double()
    stream = io.BytesIO()
    torch.onnx.export(module, (x, y), stream, dynamo=False)
    teacher = onnx.load_from_string(stream.getvalue())
    adam = torch.optim.Adam(module.parameters())
    module(x, y).sum().backward()
    adam.step()
    grown = grow_training(module, adam, teacher, widen(teacher, factor=2).plan, (x, y), reference=None)
    assert grown.module.a.weight is grown.module.b.weight
    assert grown.module.a.weight.shape == (12, 4)
    assert not grown.inexact


def test_a_reused_activation_has_no_place_for_a_layer() -> None:
    class Twice(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.a, self.b, self.relu = torch.nn.Linear(4, 4), torch.nn.Linear(4, 4), torch.nn.ReLU()

        def forward(self, x: Any) -> Any:
            return self.relu(self.b(self.relu(self.a(x))))

    module, x = filled(Twice), torch.randn(3, 4)
    teacher = export(module, x, dynamo=False)
    with pytest.raises(RequestError, match="give each activation a module of its own"):
        grow(module, teacher, deepen(teacher, after="every").plan, (x,))


def test_code_that_writes_sizes_down_is_caught() -> None:
    class Written(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.fc1, self.out, self.scaled = torch.nn.Linear(6, 8), torch.nn.Linear(8, 3), True

        def forward(self, x: Any) -> Any:
            x = self.fc1(x).tanh()
            return self.out(x / self.fc1.out_features if self.scaled else x.reshape(-1, 8))

    for scaled, error in ((True, NotEquivalentError), (False, RequestError)):
        module, x = filled(Written), torch.randn(3, 6)
        module.scaled = scaled
        teacher = export(module, x, dynamo=False)
        with pytest.raises(error, match="take them from the weights"):
            grow(module, teacher, widen(teacher, factor=2).plan, (x,))


def test_attention_as_one_module_is_refused() -> None:
    class Attention(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.inp, self.att, self.out = (
                torch.nn.Linear(4, 8),
                torch.nn.MultiheadAttention(8, 2),
                torch.nn.Linear(8, 3),
            )

        def forward(self, x: Any) -> Any:
            x = self.inp(x)
            return self.out(self.att(x, x, x, need_weights=False)[0])

    module, x = filled(Attention), torch.randn(5, 2, 4)
    teacher = export(module, x, dynamo=False, do_constant_folding=False)
    made = widen(teacher, factor=2)
    assert made.plan.axes
    with pytest.raises(RequestError, match="MultiheadAttention"):
        grow(module, teacher, made.plan, (x,))


def test_the_worked_example(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parents[1] / "docs" / "training.md").read_text(encoding="utf-8")
    code = text.split("```python\n")[1].split("```")[0]
    made: dict[str, Any] = {"__name__": "example"}
    exec(code, made)
    assert made["grown"].report.modules["conv2"] == "in 8 -> 16, out 8 -> 16"
    assert not made["grown"].inexact
    assert made["after"] < made["before"]
    assert made["deeper"].module.relu2[1][0].weight.shape == (16, 16, 3, 3)
    assert count(made["deeper"].module) > count(made["grown"].module) > count(made["net"])
