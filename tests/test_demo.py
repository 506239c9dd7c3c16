"""The demo, and what models/README.md claims about the models it ships."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, numpy_helper

from onnx_net2net import Expansion, MissingError, ModelError, Verdict, demo, verify
from onnx_net2net.checking.verdict import OutputVerdict

MODELS = Path(__file__).parents[1] / "models"
ROW = re.compile(r"\| `(\w+\.onnx)` \| ([\d,]+) \| ([\d,]+) bytes \| ([\d.]+)% \((\d+) of (\d+)\) \| `(\w+)`")
STUDENTS = ("digits_cnn_wider.onnx", "digits_cnn_wider_deeper.onnx")

pytest.importorskip("onnxruntime")


def claims() -> dict[str, tuple[str, ...]]:
    """The rows of the table in models/README.md."""
    return {row[0]: row[1:] for row in ROW.findall((MODELS / "README.md").read_text(encoding="utf-8"))}


def count(text: str) -> int:
    return int(text.replace(",", ""))


def digits() -> tuple[np.ndarray, np.ndarray]:
    with np.load(MODELS / "digits_test.npz") as arrays:
        return arrays["images"], arrays["labels"]


def logits(path: Path) -> np.ndarray:
    """What a model says about the held-out digits."""
    import onnxruntime

    images, _ = digits()
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    (given,) = session.get_inputs()
    shape = (-1, 1, 8, 8) if len(given.shape) == 4 else (-1, 64)
    return session.run(["logits"], {given.name: (images.astype(np.float32) / 16).reshape(shape)})[0]


def test_every_model_is_in_the_readme() -> None:
    assert set(claims()) == {path.name for path in MODELS.glob("*.onnx")} == {"digits_cnn.onnx", "digits_mlp.onnx"}


@pytest.mark.parametrize("name", ["digits_cnn.onnx", "digits_mlp.onnx"])
def test_model_is_as_the_readme_says(name: str) -> None:
    parameters, size, share, right, total, given = claims()[name]
    model = onnx.load(MODELS / name)
    onnx.checker.check_model(model, full_check=True)
    assert demo.parameters(model) == count(parameters)
    assert (MODELS / name).stat().st_size == count(size)
    assert [value.name for value in model.graph.input] == [given]
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param == "batch"

    _, labels = digits()
    found = logits(MODELS / name)
    assert len(labels) == int(total)
    assert (found.argmax(axis=1) == labels).sum() == int(right)
    assert f"{int(right) / int(total):.2%}" == f"{share}%"


def test_held_out_digits() -> None:
    images, labels = digits()
    assert images.shape == (450, 8, 8)
    assert labels.shape == (450,)
    assert images.dtype == labels.dtype == np.uint8
    assert (images.min(), images.max()) == (0, 16)
    assert set(labels.tolist()) == set(range(10))


def test_cnn_keeps_what_makes_it_interesting() -> None:
    model = onnx.load(MODELS / "digits_cnn.onnx")
    ops = {node.op_type for node in model.graph.node}
    assert ops >= {"Conv", "BatchNormalization", "Relu", "Add", "Concat", "MaxPool", "AveragePool", "Gemm"}
    assert all(len(node.input) == 3 for node in model.graph.node if node.op_type == "Conv"), "a Conv has no bias"
    assert (MODELS / "digits_cnn.onnx").stat().st_size < 400_000
    _, labels = digits()
    assert (logits(MODELS / "digits_cnn.onnx").argmax(axis=1) == labels).mean() >= 0.98


@pytest.mark.parametrize("name", ["digits_cnn.onnx", "digits_mlp.onnx"])
def test_no_notes_of_the_exporter(name: str) -> None:
    model = onnx.load(MODELS / name)
    graph = model.graph
    for part in (model, graph, *graph.node, *graph.initializer, *graph.value_info, *graph.input, *graph.output):
        assert not part.metadata_props
        assert not part.doc_string
    assert b".py" not in (MODELS / name).read_bytes()


def test_run(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    lines: list[str] = []
    target = tmp_path / "made" / "here"
    assert demo.run(target, lines.append) is True
    assert capfd.readouterr() == ("", "")
    assert sorted(path.name for path in target.iterdir()) == sorted(STUDENTS)

    teacher = onnx.load(MODELS / "digits_cnn.onnx")
    sizes = [demo.parameters(teacher)]
    for name in STUDENTS:
        student = onnx.load(target / name)
        onnx.checker.check_model(student, full_check=True)
        sizes.append(demo.parameters(student))
        assert verify(teacher, student)
        np.testing.assert_array_equal(
            logits(target / name).argmax(axis=1), logits(MODELS / "digits_cnn.onnx").argmax(axis=1)
        )
    assert sizes[0] < sizes[1] < sizes[2]

    text = "\n".join(lines)
    assert text.count(f"accuracy {claims()['digits_cnn.onnx'][2]}%") == 3
    for size in sizes:
        assert f"{size:,} parameters" in text
    assert "6 axes widened by 1.5" in text
    assert "7 layers inserted" in text
    assert text.count("max relative error") == 2
    assert "same class for each of the 450 digits" in text
    assert "FAILED" not in text


def test_run_without_a_directory_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    lines: list[str] = []
    assert demo.run(None, lines.append) is True
    assert not list(tmp_path.iterdir())
    assert any("removed" in line for line in lines)


def damaged(model: ModelProto) -> ModelProto:
    """The model with one weight of its last layer changed."""
    broken = ModelProto()
    broken.CopyFrom(model)
    (tensor,) = (t for t in broken.graph.initializer if t.name == "logits.weight")
    value = numpy_helper.to_array(tensor).copy()
    value[0, 0] += 0.05
    tensor.CopyFrom(numpy_helper.from_array(value, tensor.name))
    return broken


def damaging(make: Callable[..., Expansion]) -> Callable[..., Expansion]:
    """``widen`` or ``deepen`` as it would be with a bug."""

    def made(*args: Any, **options: Any) -> Expansion:
        expansion = make(*args, **options)
        expansion.__dict__["exact"] = expansion.__dict__["model"] = damaged(expansion.model)
        return expansion

    return made


@pytest.mark.parametrize(("name", "written"), [("widen", []), ("deepen", [STUDENTS[0]])])
def test_a_broken_student_fails(name: str, written: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, name, damaging(getattr(demo, name)))
    lines: list[str] = []
    assert demo.run(tmp_path, lines.append) is False
    assert any("FAILED: it is not equivalent" in line for line in lines)
    assert [path.name for path in tmp_path.iterdir()] == written


def test_changed_classes_fail_even_if_verification_does_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def flipped(model: ModelProto) -> ModelProto:
        broken = ModelProto()
        broken.CopyFrom(model)
        (tensor,) = (t for t in broken.graph.initializer if t.name == "logits.weight")
        tensor.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(tensor), tensor.name))
        return broken

    monkeypatch.setattr("tests.test_demo.damaged", flipped)
    monkeypatch.setattr(demo, "deepen", damaging(demo.deepen))
    passing = Verdict((OutputVerdict("logits", 0.0, 0.0, 1e-5),), samples=1)
    monkeypatch.setattr(demo, "verify", lambda *_, **__: passing)
    lines: list[str] = []
    assert demo.run(tmp_path, lines.append) is False
    assert any(re.search(r"FAILED: \d+ of 450 predicted classes changed", line) for line in lines)


def test_missing_models(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(demo, "__file__", str(tmp_path / "onnx_net2net" / "demo.py"))
    with pytest.raises(MissingError, match=r"digits_cnn\.onnx and digits_test\.npz are not there"):
        demo.run(tmp_path, lambda _: None)


def test_models_of_an_installed_package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "onnx_net2net" / "_models"
    folder.mkdir(parents=True)
    for name in (demo.TEACHER, demo.DIGITS):
        (folder / name).write_bytes((MODELS / name).read_bytes())
    monkeypatch.setattr(demo, "__file__", str(folder.parent / "demo.py"))
    assert demo.find_models() == folder
    assert demo.run(tmp_path / "out", lambda _: None) is True


def test_a_file_in_place_of_the_directory(tmp_path: Path) -> None:
    taken = tmp_path / "taken"
    taken.write_text("")
    with pytest.raises(ModelError, match="cannot be made"):
        demo.run(taken, lambda _: None)
