"""Files: what is broken is named, what is written is whole, and large models go to a file of their own."""

from __future__ import annotations

import os

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from onnx_net2net import MissingError, ModelError, NotEquivalentError, Verdict, expansion, io, widen
from onnx_net2net.checking.runtime import import_runtime
from tests.law import run
from tests.test_verify import network

BROKEN = {
    "random bytes": (os.urandom(64), "ONNX model|parsing|wire"),
    "an empty file": (b"", "not an ONNX model"),
    "text": (b"hello, world", "ONNX model|parsing|wire"),
    "truncated": (network().SerializeToString()[:500], "ONNX model|parsing|wire"),
}


@pytest.mark.parametrize(("content", "why"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_files(tmp_path, content: bytes, why: str) -> None:  # type: ignore[no-untyped-def]
    path = tmp_path / "broken.onnx"
    path.write_bytes(content)
    with pytest.raises(ModelError, match=why):
        widen(path, factor=2)


def test_missing_files_and_folders(tmp_path) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ModelError, match="no such file"):
        widen(tmp_path / "absent.onnx", factor=2)
    with pytest.raises(ModelError, match="cannot be written"):
        widen(network(), factor=2).save(tmp_path / "absent" / "student.onnx")


def named(graph, name: str) -> onnx.TensorProto:  # type: ignore[no-untyped-def]
    return next(tensor for tensor in graph.initializer if tensor.name == name)


def broken_graph(change) -> onnx.ModelProto:  # type: ignore[no-untyped-def]
    model = network()
    change(model.graph)
    return model


GRAPHS = {
    "a missing input": (lambda g: g.node[1].input.__setitem__(0, "ghost"), "no earlier node makes this input"),
    "made twice": (lambda g: g.node[1].output.__setitem__(0, "a"), "made twice"),
    "no such output": (lambda g: g.output[0].__setattr__("name", "ghost"), "no node makes this graph output"),
    "wrong length of data": (lambda g: named(g, "w1").__setattr__("raw_data", b"123"), "does not fit its shape"),
}


@pytest.mark.parametrize(("change", "why"), GRAPHS.values(), ids=GRAPHS.keys())
def test_invalid_graphs(change, why: str) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ModelError, match=why):
        assert widen(broken_graph(change), factor=2).model


def test_nothing_is_written_when_verification_fails(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    target = tmp_path / "student.onnx"
    target.write_bytes(b"before")
    monkeypatch.setattr(expansion, "verify", lambda *a, **k: Verdict(failure="it differs"))
    with pytest.raises(NotEquivalentError, match="it differs"):
        widen(network(), factor=2).save(target)
    assert target.read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == ["student.onnx"]


def test_a_write_that_fails_loses_nothing(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    target = tmp_path / "student.onnx"
    target.write_bytes(b"before")

    def full(*args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(ModelError, match="No space left"):
        widen(network(), factor=2).save(target, verify=False)
    assert target.read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == ["student.onnx"]


def test_without_onnxruntime_saving_names_the_way_out(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    import sys

    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingError, match="onnxruntime"):
        import_runtime()
    made = widen(network(), factor=2)
    with pytest.raises(MissingError):
        made.save(tmp_path / "student.onnx")
    assert made.save(tmp_path / "student.onnx", verify=False).exists()


def test_provenance(tmp_path) -> None:  # type: ignore[no-untyped-def]
    made = widen(network(), factor=2, seed=11)
    made.save(tmp_path / "student.onnx")
    found = {p.key: p.value for p in onnx.load(tmp_path / "student.onnx").metadata_props}
    assert found["onnx_net2net.seed"] == "11"
    assert found["onnx_net2net.plan"] == made.plan.digest()
    assert found["onnx_net2net.teacher"] == io.digest(made.teacher)
    made.provenance = False
    made.save(tmp_path / "plain.onnx")
    assert not onnx.load(tmp_path / "plain.onnx").metadata_props


def test_large_models_get_a_data_file(tmp_path, monkeypatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.setattr(io, "LIMIT", 10_000)  # as if protobuf could hold no more
    made = widen(network(), factor=2)
    assert io.is_large(made.model)
    assert made.verify()
    path = made.save(tmp_path / "student.onnx")
    skeleton = onnx.load(path, load_external_data=False)
    outside = [t for t in skeleton.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL]
    assert {t.name for t in outside} >= {"w2", "w3"}
    offsets = [int(e.value) for t in outside for e in t.external_data if e.key == "offset"]
    assert all(offset % 4096 == 0 for offset in offsets)
    onnx.checker.check_model(str(path))
    back = onnx.load(path)
    for before, after in zip(made.model.graph.initializer, back.graph.initializer, strict=True):
        np.testing.assert_array_equal(numpy_helper.to_array(before), numpy_helper.to_array(after))
    x = {"x": np.ones((1, 3, 8, 8), np.float32)}
    np.testing.assert_array_equal(run(back, x)["y"], run(made.model, x)["y"])
    assert widen(path, factor=1.5).verify()
