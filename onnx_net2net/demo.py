"""The demo: a trained CNN grows wider and deeper, and still reads every held-out digit as before."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper

from onnx_net2net.checking.runtime import as_source, import_runtime
from onnx_net2net.checking.verify import verify
from onnx_net2net.errors import MissingError, ModelError
from onnx_net2net.expansion import Expansion
from onnx_net2net.growing import deepen, widen
from onnx_net2net.inference.proto import FLOATS
from onnx_net2net.io import load

Array = NDArray[Any]
TEACHER = "digits_cnn.onnx"
DIGITS = "digits_test.npz"
FACTOR = 1.5


@dataclass(frozen=True, slots=True)
class _Digits:
    """The held-out digits: the images as the model wants them, and which digits they show."""

    images: Array
    labels: Array


@dataclass(frozen=True, slots=True)
class _Result:
    """What one model makes of the held-out digits, and whether it equals the teacher."""

    equivalent: bool
    classes: Array


def run(directory: Path | None, report: Callable[[str], None]) -> bool:
    """Widens and deepens the trained CNN, verifies both students and reads the held-out digits with all three.

    Args:
        directory: Where the students go; made if it is not there. None: a temporary one that is removed.
        report: Gets each line of the report.

    Returns:
        Whether both students are equivalent to the teacher and predict the same classes. A student that is
        not equivalent is not written.

    Raises:
        MissingError: If onnxruntime or the demo's files are not there.
        ModelError: If the directory or a student cannot be written.
    """
    import_runtime()
    folder = find_models()
    if directory is None:
        with tempfile.TemporaryDirectory(prefix="onnx_net2net.") as temporary:
            passed = _expand(folder, Path(temporary), report)
        report("the students were in a temporary directory, which is removed; name a directory to keep them")
        return passed
    try:
        directory.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ModelError(
            f"it cannot be made ({error.strerror or error})",
            "choose another place",
            op="directory",
            tensor=str(directory),
        ) from error
    return _expand(folder, directory, report)


def find_models() -> Path:
    """The folder with the demo's files: inside an installed package, or beside it in a checkout.

    Raises:
        MissingError: If they are in neither.
    """
    package = Path(__file__).parent
    for folder in (package / "_models", package.parent / "models"):
        if all((folder / name).is_file() for name in (TEACHER, DIGITS)):
            return folder
    raise MissingError(
        f"{TEACHER} and {DIGITS} are not there",
        "install the package again, or run a checkout of its source",
        op="demo",
        tensor=str(package / "_models"),
    )


def _expand(folder: Path, directory: Path, report: Callable[[str], None]) -> bool:
    """The demo itself, once both folders are known."""
    teacher = load(folder / TEACHER)
    with np.load(folder / DIGITS) as arrays:
        digits = _Digits((arrays["images"].astype(np.float32) / 16)[:, None], arrays["labels"])
    before = _classes(teacher, digits)
    report(f"teacher: {folder / TEACHER}")
    report(f"  {parameters(teacher):,} parameters, {_accuracy(before, digits)}")

    wider = widen(teacher, factor=FACTOR)
    report(f"wider: {len(wider.plan.axes)} axes widened by {FACTOR}")
    first = _judge(teacher, wider, digits, directory / "digits_cnn_wider.onnx", report)

    deeper = deepen(wider.model, after="every")
    report(f"wider and deeper: {len(deeper.plan.layers)} layers inserted, one after each activation")
    second = _judge(teacher, deeper, digits, directory / "digits_cnn_wider_deeper.onnx", report)

    changed = sum(int(np.any(trio != trio[0])) for trio in np.stack([before, first.classes, second.classes], axis=1))
    if changed:
        report(f"FAILED: {changed} of {len(before)} predicted classes changed")
    else:
        report(f"all three models predict the same class for each of the {len(before)} digits")
    return first.equivalent and second.equivalent and not changed


def _judge(
    teacher: ModelProto, student: Expansion, digits: _Digits, path: Path, report: Callable[[str], None]
) -> _Result:
    """Verifies a student on random inputs and on digits, reports it, and writes it if it passed."""
    verdicts = [verify(teacher, student.model), verify(teacher, student.model, inputs={"image": digits.images})]
    classes = _classes(student.model, digits)
    report(f"  {parameters(student.model):,} parameters, {_accuracy(classes, digits)}")
    failures = [verdict.reason or "nothing was compared" for verdict in verdicts if not verdict]
    if failures:
        report(f"  FAILED: it is not equivalent to the teacher: {failures[0]}")
        return _Result(False, classes)
    worst = max(output.max_rel for verdict in verdicts for output in verdict.outputs)
    report(f"  equivalent to the teacher, max relative error {worst:.1e}")
    student.save(path, verify=False)  # it was verified above, against the teacher of both
    report(f"  written to {path}")
    return _Result(True, classes)


def parameters(model: ModelProto) -> int:
    """Numbers in the floating point initializers, statistics of batch normalization included."""
    return sum(numpy_helper.to_array(t).size for t in model.graph.initializer if t.data_type in FLOATS)


def _classes(model: ModelProto, digits: _Digits) -> Array:
    """The class that a model predicts for each digit."""
    runtime = import_runtime()
    options = runtime.SessionOptions()
    options.log_severity_level = 4
    with as_source(model) as source:
        session = runtime.InferenceSession(source, options, providers=["CPUExecutionProvider"])
        (logits,) = session.run(["logits"], {"image": digits.images})
    return np.asarray(np.argmax(logits, axis=1))


def _accuracy(classes: Array, digits: _Digits) -> str:
    """The share of right answers, in words."""
    right = int((classes == digits.labels).sum())
    return f"accuracy {right / len(classes):.2%} ({right} of {len(classes)} held-out digits)"
