"""Verification away from the CPU, on a device that is none: its answers come from the CPU, and its errors from reports."""

from __future__ import annotations

import contextlib
import types
from typing import Any

import numpy as np
import onnxruntime
import pytest
from click.testing import CliRunner

from onnx_net2net import MissingError, ModelError, UsageError, verify, widen
from onnx_net2net.checking import session
from onnx_net2net.checking.device import Device
from onnx_net2net.checking.runtime import Here, as_source, ask
from onnx_net2net.cli import cli
from tests.law import fill, parse
from tests.test_verify import network

CPU, CUDA = "CPUExecutionProvider", "CUDAExecutionProvider"
SIZES = fill(
    parse(
        """(float[2,3,4] x) => (float[2,12] y) <float[12,12] w> {
            s = Shape(x)  zero = Constant<value = int64[1] {0}>()  b = Gather(s, zero)
            rest = Constant<value = int64[1] {-1}>()  to = Concat<axis = 0>(b, rest)
            r = Reshape(x, to)  y = MatMul(r, w)
        }"""
    )
)
FAR, TF32 = 1e-6, 1e-3
"""By how much the pretended device is off, and by how much its TF32 is."""


class Pretended(onnxruntime.InferenceSession):
    """A session that takes the CPU for CUDA, but for some operators."""

    away: frozenset[str] = frozenset()
    asked: list[tuple[Any, bool]] = []  # noqa: RUF012  # emptied for each test
    refusal = ""

    def __init__(self, source: Any, options: Any, providers: Any, enable_fallback: int) -> None:
        assert enable_fallback == 0
        alone = False
        with contextlib.suppress(RuntimeError):  # it is not set
            alone = options.get_session_config_entry(session.ALONE) == "1"
        self.asked.append((providers[0], alone))
        self.device = isinstance(providers[0], tuple)
        if self.device and self.refusal:
            raise RuntimeError(self.refusal)
        if alone and self.away:
            raise RuntimeError("nodes are assigned to the CPU, but fallback to it is disabled")
        options.add_session_config_entry(session.ALONE, "0")
        self.off = 0.0
        if self.device:
            self.off = TF32 if providers[0][1]["use_tf32"] == "1" else FAR
        super().__init__(source, options, providers=[CPU], enable_fallback=0)

    def get_providers(self) -> list[str]:
        return [CUDA, CPU] if self.device else [CPU]

    def get_provider_graph_assignment_info(self) -> list[Any]:
        nodes = [node for group in super().get_provider_graph_assignment_info() for node in group.get_nodes()]
        return [
            types.SimpleNamespace(
                ep_name=CPU if node.op_type in self.away else CUDA, get_nodes=lambda node=node: [node]
            )
            for node in nodes
        ]

    def run(self, names: Any, feed: Any, run_options: Any = None) -> list[Any]:
        return [value * np.float32(1 + self.off) for value in super().run(names, feed)]


@pytest.fixture(autouse=True)
def _pretend(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(onnxruntime, "InferenceSession", Pretended)
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: [CUDA, CPU])
    monkeypatch.setattr(Pretended, "asked", [])


def seen(teacher: Any, student: Any, **options: Any) -> tuple[Any, Device]:
    verdict = verify(teacher, student, providers=["cuda"], **options)
    assert verdict.device is not None
    return verdict, verdict.device


def test_tf32_is_off_for_the_verdict_and_its_effect_is_told() -> None:
    verdict, device = seen(network(), widen(network(), factor=1.5).exact)
    assert verdict
    assert verdict.providers == (CUDA,)
    assert device.tf32_teacher["y"] == pytest.approx(TF32, rel=0.01)
    assert device.cpu_gap["y"] == pytest.approx(FAR, rel=0.5)
    assert device.tf32_student["y"] == pytest.approx(verdict.outputs[0].max_rel, abs=1e-6)
    assert (device.elsewhere, device.nodes["teacher"], device.nodes["student"]) == ((), 7, 7)
    tf32 = [provider[1]["use_tf32"] for provider, _ in Pretended.asked if isinstance(provider, tuple)]
    assert tf32 == ["0"] * (len(tf32) - 2) + ["1"] * 2
    assert [provider for provider, _ in Pretended.asked].count(CPU) == 1
    assert not any(alone for _, alone in Pretended.asked)
    assert verdict.to_dict()["device"]["tf32_teacher"] == dict(device.tf32_teacher)


def test_the_libraries_are_loaded_first(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    loaded = []
    monkeypatch.setattr(onnxruntime, "preload_dlls", lambda: loaded.append(len(Pretended.asked)) or print("loud"))
    seen(network(), network())
    assert loaded[0] == 0
    assert capsys.readouterr().out == ""
    monkeypatch.delattr(onnxruntime, "preload_dlls")  # older versions have none
    assert seen(network(), network())[0]


def test_nodes_elsewhere_are_listed_and_strictly_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pretended, "away", frozenset({"Conv"}))
    verdict, device = seen(network(), network())
    assert verdict
    assert [(node.model, node.op, node.provider, node.compute) for node in device.elsewhere] == [
        (who, "Conv", CPU, True) for who in ("teacher", "student") for _ in range(2)
    ]
    verdict, _ = seen(network(), network(), strict=True)
    assert not verdict
    assert verdict.reason == "4 nodes did not run on CUDAExecutionProvider: " + "; ".join(
        [f"teacher's Conv: on {CPU}"] * 2 + [f"student's Conv: on {CPU}"] * 2
    )


def test_sizes_may_be_computed_elsewhere(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(session, "_start", without_optimisation)
    monkeypatch.setattr(Pretended, "away", frozenset({"Shape", "Gather", "Concat"}))
    verdict, device = seen(SIZES, SIZES, strict=True)
    assert verdict, verdict.reason
    assert {(node.op, node.compute) for node in device.elsewhere} == {
        ("Shape", False),
        ("Gather", False),
        ("Concat", False),
    }
    monkeypatch.setattr(Pretended, "away", frozenset({"Shape", "MatMul"}))
    assert "MatMul" in seen(SIZES, SIZES, strict=True)[0].reason
    assert "Shape" not in seen(SIZES, SIZES, strict=True)[0].reason


START = session._start


def without_optimisation(runtime: Any, job: Any, *rest: Any) -> Any:
    return START(runtime, {**job, "optimise": False}, *rest)


def test_strictly_no_node_may_fall_back() -> None:
    verdict, device = seen(network(), network(), strict=True)
    assert verdict
    assert device.elsewhere == ()
    assert [alone for provider, alone in Pretended.asked if alone] == [True, True]


def test_a_node_on_the_cpu_that_is_not_listed_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pretended, "away", frozenset({"Memcpy"}))  # onnxruntime refuses, and lists nothing of the kind
    assert seen(network(), network())[0]
    assert "node that onnxruntime does not name: on CPU" in seen(network(), network(), strict=True)[0].reason


def test_with_the_cpu_beside_it_onnxruntime_is_not_asked_for_a_contradiction(monkeypatch: pytest.MonkeyPatch) -> None:
    assert verify(network(), network(), providers=["cuda", "cpu"], strict=True)
    assert not any(alone for _, alone in Pretended.asked)


def test_a_device_on_which_nothing_runs_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pretended, "away", frozenset({"Conv", "Relu", "Add", "Reshape", "Gemm"}))
    assert seen(network(), network())[0].reason == "no node ran on CUDAExecutionProvider"


def test_a_teacher_that_the_cpu_cannot_run_has_no_gap(monkeypatch: pytest.MonkeyPatch) -> None:
    def run(self: Any, names: Any, feed: Any, run_options: Any = None) -> Any:
        if not self.device:
            raise RuntimeError("no kernel")
        return onnxruntime.capi.onnxruntime_inference_collection.Session.run(self, names, feed)

    monkeypatch.setattr(Pretended, "run", run)
    verdict, device = seen(network(), network())
    assert verdict
    assert device.cpu_gap == {}


def test_the_strict_cpu_makes_no_sense() -> None:
    with pytest.raises(UsageError, match="all nodes run on the CPU anyway"):
        verify(network(), network(), strict=True)


NO_GPU = {
    "no device": "cuda_call.cc:123 CudaCall CUDA failure 100: no CUDA-capable device is detected ; GPU=-1 ; hostname=h",
    "an old driver": "CUDA failure 35: CUDA driver version is insufficient for CUDA runtime version ; GPU=-1",
    "no libraries": "CUDA_PATH is set but CUDA wasn't able to be loaded. Please install the correct version of CUDA",
    "no option": 'Unknown provider option: "use_tf32".',
}


@pytest.mark.parametrize("refusal", NO_GPU.values(), ids=NO_GPU.keys())
def test_no_gpu_is_missing_with_the_way_out(refusal: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pretended, "refusal", refusal)
    way_out = "onnxruntime-gpu 1.18" if "tf32" in refusal else r"onnx-net2net\[gpu\]"
    with pytest.raises(MissingError, match=way_out):
        verify(network(), network(), providers=["cuda"])


def test_other_errors_of_cuda_are_the_models(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Pretended, "refusal", "CUDA failure 2: out of memory ; GPU=0")
    with pytest.raises(ModelError, match="CUDA failure 2"):
        verify(network(), network(), providers=["cuda"])


def test_json_and_table_show_the_device(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    import onnx

    from onnx_net2net.checking.process import runner

    monkeypatch.setattr("onnx_net2net.checking.verify.runner", lambda isolate, *limits: runner(False, *limits))
    monkeypatch.setattr(Pretended, "away", frozenset({"Conv"}))
    onnx.save(network(), tmp_path / "t.onnx")
    command = ["check", str(tmp_path / "t.onnx"), str(tmp_path / "t.onnx"), "--provider", "cuda"]
    shown = CliRunner().invoke(cli, command)
    assert shown.exit_code == 0, shown.output
    assert "teacher on the CPU" in shown.stdout
    assert f"teacher: Conv '' ran on {CPU}" in shown.stdout
    strict = CliRunner().invoke(cli, [*command, "--strict"])
    assert strict.exit_code == 1
    assert "4 nodes did not run on CUDAExecutionProvider" in strict.stderr


# onnxruntime itself


def placed(monkeypatch: pytest.MonkeyPatch, **more: Any) -> Any:
    monkeypatch.undo()
    with as_source(network()) as source:
        feeds = [{"x": np.ones((2, 3, 8, 8), np.float32)}]
        return ask(Here(), source, ["y"], feeds, more.pop("providers", [CPU]), "teacher", trace=True, **more)["placed"]


def test_nodes_are_told_by_assignment_and_by_profile(monkeypatch: pytest.MonkeyPatch) -> None:
    told = placed(monkeypatch, optimise=False)
    assert [(where, op) for where, op, _ in told] == [
        (CPU, op) for op in "Conv Relu Conv Add Relu Reshape Gemm".split()
    ]
    base = onnxruntime.InferenceSession.__mro__[1]
    monkeypatch.delattr(base, "get_provider_graph_assignment_info")
    profiled = None
    with as_source(network()) as source:
        feeds = [{"x": np.ones((2, 3, 8, 8), np.float32)}]
        profiled = ask(Here(), source, ["y"], feeds, [CPU], "teacher", trace=True, optimise=False)["placed"]
    assert sorted({(where, op) for where, op, _ in profiled}) == sorted({(where, op) for where, op, _ in told})


def test_a_provider_that_takes_no_node_is_found_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.undo()
    if "AzureExecutionProvider" not in onnxruntime.get_available_providers():
        pytest.skip("there is no provider that takes no node")
    for strict in (False, True):
        verdict = verify(network(), network(), providers=["AzureExecutionProvider"], strict=strict)
        assert verdict.reason == "no node ran on AzureExecutionProvider"
