"""From Flax to ONNX, grown, and back."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

jax = pytest.importorskip("jax", reason="needs jax")
linen = pytest.importorskip("flax.linen", reason="needs flax")
jax2onnx = pytest.importorskip("jax2onnx", reason="needs jax2onnx to export")

from flax.traverse_util import flatten_dict, unflatten_dict  # noqa: E402

from onnx_net2net import widen  # noqa: E402
from onnx_net2net.training.weights import Growth  # noqa: E402


class Net(linen.Module):
    """A convolutional network in NHWC, with batch normalisation."""

    sizes: tuple[int, int, int]

    @linen.compact
    def __call__(self, x: Any) -> Any:
        first, second, third = self.sizes
        x = linen.Conv(first, (3, 3), name="conv1")(x)
        x = linen.relu(linen.BatchNorm(use_running_average=True, name="bn1")(x))
        x = linen.relu(linen.Conv(second, (3, 3), name="conv2")(x)).mean((1, 2))
        return linen.Dense(4, name="head")(linen.relu(linen.Dense(third, name="fc")(x)))


def flat(tree: Any) -> dict[str, np.ndarray]:
    return {name: np.asarray(value) for name, value in flatten_dict(tree, sep="/").items()}


def gradients(net: Any, variables: Any, x: Any) -> dict[str, np.ndarray]:
    def loss(params: Any) -> Any:
        return (net.apply({**variables, "params": params}, x) ** 2).sum()

    return flat({"params": jax.grad(loss)(variables["params"])})


def test_there_and_back() -> None:
    x = jax.random.normal(jax.random.key(0), (2, 8, 8, 3))
    net, larger = Net((6, 8, 10)), Net((9, 12, 15))
    rng = np.random.default_rng(0)
    shapes = flat(net.init(jax.random.key(1), x))
    state = {name: rng.uniform(-1, 1, value.shape).astype(np.float32) for name, value in shapes.items()}
    state["batch_stats/bn1/var"] += 1.5
    variables = unflatten_dict(state, sep="/")
    teacher = jax2onnx.to_onnx(lambda x: net.apply(variables, x), [x.shape])
    del teacher.graph.value_info[:]  # some of the shapes that jax2onnx writes down contradict the graph
    growth = Growth(teacher, widen(teacher, factor=1.5).plan, state)
    assert growth.report.modules["params.conv2"] == "in 6 -> 9, out 8 -> 12"
    assert growth.state["params/conv2/kernel"].shape == (3, 3, 9, 12)
    grown = unflatten_dict(growth.state, sep="/")
    wanted = np.asarray(net.apply(variables, x))
    assert np.abs(wanted - larger.apply(grown, x)).max() <= 1e-5 * np.abs(wanted).max()
    before, after = gradients(net, variables, x), gradients(larger, grown, x)
    slots, inexact = growth.optimizer({name: {"mu": g, "nu": g * g} for name, g in before.items()})
    assert not inexact
    for name, gradient in after.items():
        assert np.allclose(slots[name]["mu"], gradient, rtol=1e-4, atol=1e-4 * np.abs(gradient).max()), name
        assert np.allclose(slots[name]["nu"], gradient**2, rtol=1e-3, atol=1e-4 * np.abs(gradient).max() ** 2), name
