"""Graphs of real exporters are widened or left alone with a reason, never wrong."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto

from onnx_net2net import Expansion, deepen, widen
from onnx_net2net.algebra.axes import Dim, Maps, atoms, index, size, touches
from onnx_net2net.checking.inputs import draw
from onnx_net2net.inference.infer import infer
from onnx_net2net.inference.proto import FLOATS
from onnx_net2net.io import digest
from tests.exports import DIMS, EXPORTS, FOLDER, export, row, table
from tests.law import run, without_filler
from tests.test_light import exposed
from tests.untouched import assert_untouched
from tests.zoo import parameters

WIDENED = [pytest.param((name, factor), id=f"{name}-x{factor}") for name in EXPORTS for factor in (1.5, 2)]


@pytest.fixture(scope="module", params=WIDENED)
def expansion(request: pytest.FixtureRequest) -> tuple[str, float, Expansion]:
    name, factor = request.param
    return name, factor, widen(export(name), factor=factor, seed=1)


def test_students_equal_their_teachers(expansion: tuple[str, float, Expansion]) -> None:
    name, factor, made = expansion
    verdict = made.verify(dims=DIMS)
    assert verdict, verdict.reason
    known = table()[name]
    able = known["free"] + known["filled"] + (known["uniform"] if factor == 2 else 0)
    assert bool(made.plan.axes) == bool(able)
    growth = parameters(made.exact) / parameters(made.teacher)
    print(f"\n{name} x{factor}: {len(made.plan.axes)} axes widened, parameters x{growth:.2f}, pinned: {made.pinned}")
    assert growth > 1 if able else growth == 1


def test_the_same_seed_gives_the_same_bytes(expansion: tuple[str, float, Expansion]) -> None:
    name, factor, made = expansion
    assert digest(widen(export(name), factor=factor, seed=1).model) == digest(made.model)


def test_what_is_untouched_stays(expansion: tuple[str, float, Expansion]) -> None:
    _, _, made = expansion
    assert_untouched(made.teacher, made.exact, made.plan)


def test_every_tensor_on_the_way_is_the_teachers_gathered(expansion: tuple[str, float, Expansion]) -> None:
    """Outputs may hide a mistake, by saturation for one; no tensor on the way can."""
    name, _, made = expansion
    found = infer(made.teacher)
    graph = found.graph
    names = [n for n in found.dims if n in graph.producer and graph.dtype(n) == TensorProto.FLOAT]
    rng = np.random.default_rng(4)
    feeds = {value.name: draw(value, rng, DIMS) for value in graph.inputs}
    teacher = exposed(made.teacher, names)
    before, plain = run(teacher, feeds, names), run(teacher, feeds, names, optimise=False)
    after = run(exposed(made.exact, names), feeds, names)
    grown = 0
    for tensor in names:
        wanted = gathered(before[tensor], found.dims[tensor], made.plan.maps)
        if wanted is None or not made.plan.maps.keys().isdisjoint(found.shared.get(tensor, ())):
            continue
        wanted, after[tensor] = without_filler(tensor, wanted, after[tensor], found, made.plan)
        grown += found.dims[tensor] != () and any(touches(dim, made.plan.maps) for dim in found.dims[tensor])
        assert after[tensor].shape == wanted.shape, tensor
        finite = np.isfinite(wanted)
        np.testing.assert_array_equal(np.isfinite(after[tensor]), finite)
        scale = np.abs(wanted[finite]).max(initial=0)
        noise = np.abs(plain[tensor] - before[tensor], where=np.isfinite(before[tensor]), out=None)
        bar = max(2e-5 * scale, 20 * float(np.nanmax(np.where(np.isfinite(before[tensor]), noise, 0), initial=0)))
        assert np.abs(after[tensor][finite] - wanted[finite]).max(initial=0) <= bar <= 1e-3 * max(scale, 1e-3), tensor
    assert bool(grown) == bool(made.plan.axes), name


def gathered(value: np.ndarray[Any, Any], dims: tuple[Dim, ...], maps: Maps) -> np.ndarray[Any, Any] | None:
    """What a widened tensor must hold; None where a merged dimension depends on the sizes that were tried."""
    for axis, dim in enumerate(dims):
        if any(part.name in maps for part in atoms(dim)):
            if size(dim) != value.shape[axis]:
                return None
            value = np.take(value, index(dim, maps), axis)
    return value


@pytest.mark.parametrize("name", EXPORTS)
def test_deepened_after_every_activation(name: str) -> None:
    made = deepen(export(name), after="every")
    verdict = made.verify(dims=DIMS)
    assert verdict, verdict.reason
    if made.plan.layers:
        assert parameters(made.exact) > parameters(made.teacher)
    assert_untouched(made.teacher, made.exact, made.plan)


@pytest.mark.parametrize("name", EXPORTS)
def test_axes_are_as_recorded(name: str) -> None:
    assert row(infer(export(name))) == table()[name], "if it is meant: python benchmarks/exports.py --write"


def test_the_table_has_every_export() -> None:
    assert sorted(table()) == EXPORTS


@pytest.mark.parametrize("name", EXPORTS)
def test_weights_are_not_stored_and_not_constant_when_filled(name: str) -> None:
    bare, full = onnx.load(FOLDER / f"{name}.onnx"), export(name)
    onnx.checker.check_model(full)
    assert all(stored(t) == 0 for t in bare.graph.initializer if t.data_type in FLOATS and math.prod(t.dims) > 64)
    weights = {n for node in full.graph.node for n in node.input if node.op_type in CARRIERS}
    for tensor in full.graph.initializer:
        if tensor.name in weights and tensor.data_type in FLOATS and math.prod(tensor.dims) > 1:
            assert np.ptp(onnx.numpy_helper.to_array(tensor)) > 0, tensor.name


CARRIERS = {"Conv", "ConvTranspose", "Gemm", "MatMul", "BatchNormalization", "LayerNormalization"}


def stored(tensor: TensorProto) -> int:
    """Numbers that an initializer stores."""
    return len(tensor.raw_data) + len(tensor.float_data) + len(tensor.double_data)


def test_exports_are_small_and_name_no_folders() -> None:
    files = [(FOLDER / f"{name}.onnx").read_bytes() for name in EXPORTS]
    assert sum(map(len, files)) < 5_000_000
    assert not any(word in data for data in files for word in (b"/tmp/", b"site-packages", b"/home/", b"/root/"))


def test_documentation_of_nodes_is_stripped() -> None:
    models: list[ModelProto] = [onnx.load(FOLDER / f"{name}.onnx") for name in EXPORTS]
    assert not any(node.doc_string or node.metadata_props for model in models for node in model.graph.node)
