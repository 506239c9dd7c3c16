"""Decoders of real exporters that take a cache: it grows with the heads, and generation stays the teacher's."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto

from onnx_net2net import Expansion, RequestError, inspect, widen
from onnx_net2net.inference.groups import groups
from onnx_net2net.inference.infer import infer
from tests.exports import CACHES, DIMS, export
from tests.law import Feeds, run

PAST = [f"past_key_values.{layer}.{part}" for layer in (0, 1) for part in ("key", "value")]
PRESENT = [name.replace("past_key_values", "present") for name in PAST]
HEADS = {"heads", "kv_heads", "head", "head_qk", "head_v"}


def grown(name: str, times: float) -> Expansion:
    """More heads, all of them wider."""
    known = groups(infer(export(name), allow=True))
    found = {group.name for group in known if not any(info.pins for info in group.axes)} & HEADS
    wanted = found - {"heads"} if "kv_heads" in found else found  # query heads come along
    return widen(export(name), widths=dict.fromkeys(sorted(wanted), f"x{times}"), seed=5, allow_io_change=True)


@pytest.mark.parametrize("name", CACHES)
def test_every_tensor_is_the_teachers(name: str) -> None:
    made = grown(name, 1.5)
    assert {border.name for border in made.plan.borders} == {*PAST, *PRESENT}
    wide = [border for border in made.plan.borders if len(border.units) == 2]
    computed = name == "gpt2_cache.optimum"  # it computes its scale from the width of values, which stays
    assert len(wide) == (4 if computed else 8), "heads and their width"
    verdict = made.verify(dims=DIMS, per_layer=True, samples=2)
    assert verdict, verdict.reason
    assert verdict.layers is not None
    assert len(verdict.layers.tensors) > 60
    assert made.verify(dims=DIMS, scope="sample")


@pytest.mark.parametrize("name", CACHES)
def test_all_that_can_grow_grows(name: str) -> None:
    made = widen(export(name), factor=1.5, allow_io_change=True)
    verdict = made.verify(dims=DIMS, samples=2)
    assert verdict, verdict.reason
    kept = {info.axis.size for info in infer(export(name), allow=True).axes.values() if info.initializers and info.pins}
    assert 60 in kept, "the vocabulary stays"
    assert {border.name for border in made.plan.borders} == {*PAST, *PRESENT}
    assert not widen(export(name), factor=1.5).plan.borders


@pytest.mark.parametrize("name", CACHES)
def test_heads_stay_unless_states_may_change(name: str) -> None:
    found = {group.name: group for group in inspect(export(name)).groups}
    parts = found.keys() & ({"head_qk"} if name == "gpt2_cache.optimum" else {"head", "head_v"})
    assert parts
    for part in parts:
        assert all("--allow-io-change" in info.reason for info in found[part].axes)
        with pytest.raises(RequestError, match=r"allow it \(--allow-io-change\)"):
            widen(export(name), widths={part: "x2"})


def generate(network: ModelProto, cache: Feeds, first: np.ndarray, count: int) -> list[Feeds]:
    """Token by token, the likeliest each time, on the cache that came out before."""
    found, ids, length = [], first, cache[PAST[0]].shape[2]
    for _ in range(count):
        length += ids.shape[1]
        mask = np.ones((len(ids), length), np.int64)
        places = np.broadcast_to(np.arange(length - ids.shape[1], length), ids.shape)
        known = {"input_ids": ids, "attention_mask": mask, "position_ids": places, **cache}
        made = run(network, {value.name: known[value.name] for value in network.graph.input})
        cache = {name: made[name.replace("past_key_values", "present")] for name in PAST}
        ids = made["logits"][:, -1:].argmax(-1)
        found.append(made)
    return found


@pytest.mark.parametrize("start", [0, 3])
@pytest.mark.parametrize("name", CACHES)
def test_generation_is_the_teachers(name: str, start: int) -> None:
    made = grown(name, 1.5)
    rng = np.random.default_rng(2)
    heads = 2 if name.startswith("llama") else 4
    cache = {name: rng.standard_normal((2, heads, start, 8)).astype(np.float32) for name in PAST}
    first = rng.integers(0, 60, (2, 3))
    before = generate(made.teacher, cache, first, 5)
    after = generate(made.model, made.plan.gathered(cache), first, 5)
    for mine, theirs in zip(before, after, strict=True):
        for key, value in made.plan.gathered(mine).items():
            np.testing.assert_allclose(theirs[key], value, rtol=0, atol=2e-5 * np.abs(value).max())
    assert len({tuple(step["logits"][:, -1].argmax(-1)) for step in before}) > 1
    assert after[-1]["present.1.value"].shape[1] > before[-1]["present.1.value"].shape[1]


@pytest.mark.parametrize("dims", [{}, {"past": 6}, {"past": 3, "tokens": 2, "past + tokens": 5, "s64": 5}])
@pytest.mark.parametrize("name", [name for name in CACHES if "gpt2" in name])
def test_lengths_that_follow_from_others_need_no_sizes(name: str, dims: dict[str, int]) -> None:
    """A mask counts what is cached and what is new, whether its symbol says so or not."""
    assert grown(name, 2).verify(samples=3, dims=dims)
