"""Large models: weights stay on disk, students are written piece by piece, and whatever happens nothing is half done.

What counts as large is lowered, so that small models go the same way.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from onnx_net2net import ModelError, NotEquivalentError, UsageError, deepen, expand, io, verify, widen
from onnx_net2net.inference.infer import infer
from onnx_net2net.planning.plan import AxisPlan, Plan
from onnx_net2net.planning.planner import complete, draw_fractions
from onnx_net2net.storage import tensors, wire, writer
from onnx_net2net.storage.model import LazyModel, detached, whole
from onnx_net2net.storage.sinks import LocalFile
from onnx_net2net.storage.tensors import encode
from onnx_net2net.widening.apply import apply
from onnx_net2net.widening.by_rows import Rewritten
from tests import test_residual as residual
from tests.cases import CASES
from tests.law import choices, fill, parse
from tests.test_verify import network

CHAIN = """(float[2,24] x) => (float[2,8] y) <float[24,32] w1, float[32] b1, float[32,40] w2, float[40,8] w3> {
  h = MatMul(x, w1)  s = Add(h, b1)  r = Relu(s)  m = MatMul(r, w2)  t = Relu(m)  y = MatMul(t, w3)
}"""


@pytest.fixture(autouse=True)
def everything_is_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(io, "LARGE", 1)
    monkeypatch.setattr("onnx_net2net.storage.reader.WHOLE", 1)
    monkeypatch.setattr(tensors, "INLINE", 64)
    monkeypatch.setattr("onnx_net2net.storage.reader.INLINE", 64)
    monkeypatch.setattr(writer, "BLOCK", 512)


def chain() -> ModelProto:
    return fill(parse(CHAIN))


def inline(model: ModelProto, path: Path) -> None:
    onnx.save(model, path)


def external(model: ModelProto, path: Path) -> None:
    copy = ModelProto()
    copy.CopyFrom(model)
    onnx.save(copy, path, save_as_external_data=True, location=f"{path.name}.data", size_threshold=0)


STORED: dict[str, Callable[[ModelProto, Path], None]] = {"inline": inline, "external": external}
LAYOUTS: dict[str, dict[str, Any]] = {
    "inline": {},
    "external": {"external": True},
    "sharded": {"shard_size": 6000},
    "one thread": {"threads": 1},
    "many threads": {"threads": 7, "external": True},
}
STEPS = {
    "wider": lambda model: widen(model, factor=1.5, seed=3),
    "scattered": lambda model: widen(model, factor=1.5, split="scatter"),
    "noisy": lambda model: widen(model, factor=2, noise=0.01),
    "random": lambda model: widen(model, factor=2, init="random-pad"),
    "deeper": lambda model: deepen(model, after="every", mode="residual"),
    "both": lambda model: expand(
        model,
        {"steps": [{"do": "widen", "factor": 1.5}, {"do": "deepen", "after": "every"}, {"do": "widen", "factor": 2}]},
    ),
}


def data_files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir() if path.suffix == ".data")


def teacher_at(folder: Path, how: str = "external", model: ModelProto | None = None) -> Path:
    path = folder / "t.onnx"
    STORED[how](chain() if model is None else model, path)
    return path


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("how", STORED)
@pytest.mark.parametrize("steps", STEPS)
def test_streamed_students_are_those_made_in_memory(steps: str, how: str, layout: str, tmp_path: Path) -> None:
    made = STEPS[steps](teacher_at(tmp_path, how))
    assert isinstance(made.lazy, LazyModel)
    made.provenance = False
    made.save(tmp_path / "s.onnx", verify=not made.plan.random, **LAYOUTS[layout])
    in_memory = STEPS[steps](chain()).model
    if layout in ("inline", "one thread"):
        assert (tmp_path / "s.onnx").read_bytes() == in_memory.SerializeToString()
    onnx.checker.check_model(str(tmp_path / "s.onnx"))
    found = onnx.load(tmp_path / "s.onnx")
    for before, after in zip(in_memory.graph.initializer, found.graph.initializer, strict=True):
        np.testing.assert_array_equal(numpy_helper.to_array(before), numpy_helper.to_array(after))
    assert not [path for path in tmp_path.iterdir() if path.suffix == ".tmp"]


def test_weights_behind_a_transpose_are_copied_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of a transposed view ``np.take`` copies everything, for each block anew."""
    text = "(float[2,24] x) => (float[2,8] y) <float[32,24] u, float[8,32] v> {"
    text += " w = Transpose(u) h = MatMul(x, w) r = Relu(h) k = Transpose(v) y = MatMul(r, k) }"
    path = teacher_at(tmp_path, model=fill(parse(text)))
    copies, take, dense = [], np.take, tensors.dense

    def taken(value: Any, *args: Any, **options: Any) -> Any:
        assert value.flags.c_contiguous
        return take(value, *args, **options)

    monkeypatch.setattr(np, "take", taken)
    monkeypatch.setattr(tensors, "dense", lambda value: copies.append(value.shape) or dense(value))
    widen(path, widths={"h": 300}).save(tmp_path / "s.onnx", verify=False)
    assert copies == [(24, 32), (32, 8)]


def test_data_files(tmp_path: Path) -> None:
    widen(teacher_at(tmp_path), factor=2).save(tmp_path / "s.onnx", shard_size=6000)
    names = [name for name in data_files(tmp_path) if name.startswith("s.onnx")]
    assert len(names) > 1
    assert all(f"-{i:05d}-of-{len(names):05d}" in name for i, name in enumerate(names, 1))
    outside = [
        {entry.key: entry.value for entry in tensor.external_data}
        for tensor in onnx.load(tmp_path / "s.onnx", load_external_data=False).graph.initializer
        if tensor.external_data
    ]
    assert {entry["location"] for entry in outside} == set(names)
    assert all(int(entry["offset"]) % 4096 == 0 for entry in outside)
    assert verify(tmp_path / "t.onnx", tmp_path / "s.onnx")


def test_same_request_same_bytes(tmp_path: Path) -> None:
    seen, teacher = [], teacher_at(tmp_path)
    for _ in range(2):
        widen(teacher, factor=2).save(tmp_path / "s.onnx", external=True)
        seen.append({path.name: path.read_bytes() for path in tmp_path.iterdir()})
    assert seen[0] == seen[1]


def test_an_older_students_data_goes_last(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher, student = teacher_at(tmp_path), tmp_path / "s.onnx"
    widen(teacher, factor=2).save(student, external=True)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    replace = os.replace

    def interrupted(source: str, target: Path) -> None:
        if Path(target) == student:
            assert verify(teacher, student)  # the old pair, although the new data has its name already
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", interrupted)
    with pytest.raises(KeyboardInterrupt):
        widen(teacher, factor=1.5).save(student, external=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    monkeypatch.setattr(os, "replace", replace)
    widen(teacher, factor=1.5).save(student, external=True)
    assert len(data_files(tmp_path)) == 2  # the teacher's, and one
    assert verify(teacher, student)


@pytest.mark.parametrize("how", STORED)
def test_a_student_in_its_teachers_place(how: str, tmp_path: Path) -> None:
    teacher = teacher_at(tmp_path, how)
    copy = tmp_path / "copy"
    shutil.copytree(tmp_path, copy)
    for _ in range(2):
        widen(teacher, factor=1.5).save(teacher, external=how == "external")
    assert verify(copy / "t.onnx", teacher)
    assert onnx.load(teacher).graph.initializer[0].dims[1] == 72


def test_a_teacher_that_changes_is_noticed(tmp_path: Path) -> None:
    made = widen(teacher_at(tmp_path), factor=2)
    teacher_at(tmp_path, model=network())
    with pytest.raises(ModelError, match="has changed since it was read"):
        made.save(tmp_path / "s.onnx", verify=False)


def test_no_room(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    teacher = teacher_at(tmp_path)
    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10**9, 10**9, 5000))  # type: ignore[attr-defined]
    with pytest.raises(ModelError, match=r"s\.onnx.*needs .* GB, and there is room for 5e-06 GB"):
        widen(teacher, factor=2).save(tmp_path / "s.onnx")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt()])
@pytest.mark.parametrize("layout", LAYOUTS)
def test_a_write_that_stops_leaves_nothing(
    layout: str, error: BaseException, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    teacher = teacher_at(tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    write, count = LocalFile.write, 0

    def stop(*args: Any) -> None:
        nonlocal count
        count += 1
        if count > 9:
            raise error
        write(*args)

    monkeypatch.setattr(LocalFile, "write", stop)
    with pytest.raises(KeyboardInterrupt if isinstance(error, KeyboardInterrupt) else ModelError):
        widen(teacher, factor=2).save(tmp_path / "s.onnx", verify=False, **LAYOUTS[layout])
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


KILLED = """
import sys
from onnx_net2net import io, widen
from onnx_net2net.storage import writer
io.LARGE = 1
print("ready", flush=True)
for factor in range(1000):
    widen(sys.argv[1], factor=1.25 + factor % 3 / 4).save(sys.argv[2], verify=False, shard_size=400_000)
"""


def test_a_killed_process_leaves_a_whole_student_or_none(tmp_path: Path) -> None:
    graph = "(float[1,128] x) => (float[1,8] y) <float[128,256] a, float[256,300] b, float[300,8] c>"
    model = fill(parse(f"{graph} {{ h = MatMul(x, a) r = Relu(h) m = MatMul(r, b) s = Relu(m) y = MatMul(s, c) }}"))
    teacher, student = teacher_at(tmp_path, model=model), tmp_path / "s.onnx"
    before = {path: path.read_bytes() for path in tmp_path.iterdir()}
    rng = random.Random(1)
    written = 0
    for _ in range(6):
        process = subprocess.Popen([sys.executable, "-c", KILLED, teacher, student], stdout=subprocess.PIPE)
        assert process.stdout is not None
        process.stdout.readline()
        time.sleep(rng.uniform(0.05, 0.6))
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        assert all(path.read_bytes() == content for path, content in before.items())
        if student.exists():
            written += 1
            assert verify(teacher, student, samples=1)
    assert written


PEAK = """
import sys
import onnx_net2net, onnx_net2net.recipe

def peak():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) * 1024

before = peak()
onnx_net2net.widen(sys.argv[1], factor=1.5).save(sys.argv[2], verify=False)
print(peak() - before)
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="VmHWM is Linux's")
@pytest.mark.parametrize(("how", "bound"), [("external", 2 * 16 + 64), ("inline", 2 * 16 + 64)])
def test_peak_memory(how: str, bound: int, tmp_path: Path) -> None:
    n = 2048
    rng = np.random.default_rng(0)
    names = ["x", *(f"r{i}" for i in range(15))]
    nodes, weights = [], []
    for i in range(16):
        weights.append(numpy_helper.from_array(rng.standard_normal((n, n), np.float32), f"w{i}"))
        nodes.append(helper.make_node("MatMul", [names[i], f"w{i}"], [f"h{i}"]))
        nodes.append(helper.make_node("Relu", [f"h{i}"], [f"r{i}"]))
    ends = [helper.make_tensor_value_info(name, 1, [1, n]) for name in ("x", "r15")]
    graph = helper.make_graph(nodes, "g", ends[:1], ends[1:], weights)
    STORED[how](
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), tmp_path / "t.onnx"
    )
    del graph, weights
    command = [sys.executable, "-c", PEAK, tmp_path / "t.onnx", tmp_path / "s.onnx"]
    taken = int(subprocess.run(command, check=True, capture_output=True, text=True).stdout) / 2**20
    assert taken < bound  # of a teacher of 256 MiB, and a student of 560
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) > 800 * 2**20


BROKEN: dict[str, tuple[dict[str, str], str]] = {
    "outside": ({"location": "../t.data"}, "not in the model's folder"),
    "absolute": ({"location": "/etc/passwd"}, "not in the model's folder"),
    "no name": ({"location": ""}, "not in the model's folder"),
    "missing": ({"location": "absent.data"}, "cannot be read"),
    "behind the end": ({"offset": "99999999"}, r"ends at byte \d+ of t.onnx.data"),
    "negative": ({"offset": "-4096"}, "ends at byte"),
    "too short": ({"length": "8"}, "does not fit its shape"),
    "no number": ({"length": "many"}, "no number"),
}


@pytest.mark.parametrize(("change", "why"), BROKEN.values(), ids=BROKEN.keys())
def test_broken_references(change: dict[str, str], why: str, tmp_path: Path) -> None:
    path = teacher_at(tmp_path)
    model = onnx.load(path, load_external_data=False)
    for entry in model.graph.initializer[0].external_data:
        entry.value = change.get(entry.key, entry.value)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(ModelError, match=rf"initializer \(w1\): .*{why}"):
        widen(path, factor=2)


def test_a_data_file_that_is_cut_short(tmp_path: Path) -> None:
    path = teacher_at(tmp_path)
    os.truncate(f"{path}.data", 5000)
    with pytest.raises(ModelError, match="has 5000; fetch the whole file again"):
        widen(path, factor=2)


def test_links_do_not_lead_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "inner").mkdir()
    path = teacher_at(tmp_path / "inner")
    os.replace(f"{path}.data", tmp_path / "elsewhere")
    os.symlink(tmp_path / "elsewhere", f"{path}.data")
    with pytest.raises(ModelError, match="not in the model's folder"):
        widen(path, factor=2)


@pytest.mark.parametrize("how", STORED)
def test_only_what_is_small_or_inside_is_read(how: str, tmp_path: Path) -> None:
    model = chain()
    inner = onnx.parser.parse_graph("g () => (float[40] z) { z = Constant<value = float[1] {0}>() }")
    inner.node[0].attribute[0].t.CopyFrom(numpy_helper.from_array(np.arange(40, dtype=np.float32)))
    condition = numpy_helper.from_array(np.array(True), "c")
    model.graph.initializer.extend([condition, numpy_helper.from_array(np.arange(30), "sizes")])
    model.graph.node.append(helper.make_node("If", ["c"], ["u"], then_branch=inner, else_branch=inner))
    path = teacher_at(tmp_path, how, model)
    for _ in range(20):
        lazy = io.opened(path)
        assert isinstance(lazy, LazyModel)
        assert [weight.name for weight, _ in lazy.lazy()] == ["w1", "b1", "w2", "w3"]
        assert lazy.graph.node[-1].attribute[0].g.node[0].attribute[0].t.raw_data
    assert whole(lazy) == model


def test_messages_may_not_name_files_of_this_machine() -> None:
    model = chain()
    weight = model.graph.initializer[0]
    weight.ClearField("raw_data")
    weight.data_location = TensorProto.EXTERNAL
    weight.external_data.add(key="location", value="/etc/passwd")
    with pytest.raises(ModelError, match="pass the model by path"):
        widen(model, factor=2)


@pytest.mark.parametrize("cut", [0.1, 0.5, 0.9, 0.999])
def test_truncated_models(cut: float, tmp_path: Path) -> None:
    path = teacher_at(tmp_path, "inline")
    os.truncate(path, int(cut * path.stat().st_size))
    with pytest.raises(ModelError, match=r"ONNX model|parsing|wire|truncated"):
        widen(path, factor=2)


TYPES = ["FLOAT", "FLOAT16", "BFLOAT16", "DOUBLE", "UINT8", "INT8", "INT4", "UINT4", "INT64", "BOOL", "STRING"]


@pytest.mark.parametrize("how", STORED)
@pytest.mark.parametrize("kind", TYPES)
def test_every_type_survives(kind: str, how: str, tmp_path: Path) -> None:
    """A weight of any type passes through unchanged, and through a file of its own."""
    if (kind, how) == ("STRING", "external"):
        pytest.skip("ONNX keeps strings in the model file")
    model = chain()
    dtype = getattr(TensorProto, kind)
    values = np.random.default_rng(0).integers(0, 2 if kind == "BOOL" else 7, (11, 13))
    if kind == "STRING":
        weight = helper.make_tensor("other", dtype, (11, 13), [str(n).encode() for n in values.ravel()])
    else:
        weight = numpy_helper.from_array(values.astype(helper.tensor_dtype_to_np_dtype(dtype)), "other")
    model.graph.initializer.append(weight)
    path = teacher_at(tmp_path, how, model)
    for layout in ({}, {"external": True}):
        widen(path, factor=1.5).save(tmp_path / "s.onnx", verify=False, **layout)
        found = next(t for t in onnx.load(tmp_path / "s.onnx").graph.initializer if t.name == "other")
        assert found.data_type == dtype
        np.testing.assert_array_equal(numpy_helper.to_array(found), numpy_helper.to_array(weight))


def test_a_model_has_one_digest(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digests = {io.digest(chain())}
    for how in STORED:
        path = teacher_at(tmp_path, how)
        digests.add(io.digest(io.opened(path)))
        widen(path, factor=2).save(tmp_path / "s.onnx", verify=False)
        kept = {entry.key: entry.value for entry in onnx.load(tmp_path / "s.onnx").metadata_props}
        digests.add(kept["onnx_net2net.teacher"])
    assert len(digests) == 1
    changed = chain()
    changed.graph.initializer[0].raw_data = changed.graph.initializer[0].raw_data[::-1]
    assert io.digest(changed) not in digests


@pytest.mark.parametrize("layout", [{"external": True}, {"shard_size": 6000}])
def test_students_made_in_memory_get_data_files_too(layout: dict[str, Any], tmp_path: Path) -> None:
    made = widen(chain(), factor=2)
    assert not isinstance(made.lazy, LazyModel)
    made.save(tmp_path / "s.onnx", **layout)
    assert data_files(tmp_path)
    assert verify(chain(), tmp_path / "s.onnx")


def test_calibration_runs_on_the_files(tmp_path: Path) -> None:
    data = {"x": np.random.default_rng(0).standard_normal((8, 24), np.float32)}
    plans = [
        expand(model, {"steps": [{"do": "widen", "factor": 2}, layers]}).plan
        for layers in [{"do": "deepen", "after": "r", "batch_norm": True, "calibrate": data}]
        for model in (chain(), teacher_at(tmp_path))
    ]
    assert plans[0] == plans[1]
    assert plans[0].then[0].layers[0].mean


def test_progress(tmp_path: Path) -> None:
    seen: list[tuple[int, int]] = []
    made = widen(teacher_at(tmp_path), factor=2)
    made.save(tmp_path / "s.onnx", verify=False, progress=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1][0] == seen[-1][1] > 10_000
    for wrong in ({"threads": 0}, {"shard_size": -1}):
        with pytest.raises(UsageError, match="positive"):
            made.save(tmp_path / "s.onnx", **wrong)


def test_half_precision_is_verified_where_it_lies(tmp_path: Path) -> None:
    text = CHAIN.replace("float[", "bfloat16[")
    assert widen(teacher_at(tmp_path, model=fill(parse(text))), factor=2).verify().upcast


def test_a_wrong_student_is_not_put_in_place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = widen(teacher_at(tmp_path), factor=2)
    before = sorted(tmp_path.iterdir())
    monkeypatch.setattr("onnx_net2net.widening.by_rows.part_of", lambda rest, left: rest)
    with pytest.raises(NotEquivalentError, match="nothing was written"):
        made.save(tmp_path / "s.onnx")
    assert sorted(tmp_path.iterdir()) == before


def plan_for(model: ModelProto | LazyModel, maps: Any, split: Any) -> Plan:
    found = infer(model, borders=False)
    rng = np.random.default_rng(7)
    axes = []
    for name, chosen in maps.items():
        n = found.axes[name].axis.size
        shares = draw_fractions(chosen, n, split, rng)
        axes.append(AxisPlan(name, n, len(chosen), tuple(chosen.tolist()), tuple(shares.tolist())))
    return complete(found, tuple(axes), split=split)


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.name)
def test_every_rule_streams(case: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Of every case of every rule the lazy student is the one made in memory, bit by bit, in any pieces."""
    monkeypatch.setattr(tensors, "INLINE", 0)
    model = case.model
    lazy = detached(model)
    for place, maps in enumerate(choices(infer(model, borders=False))):
        plan = plan_for(lazy, maps, ("uneven", "scatter", "first")[place % 3])
        wanted, found = apply(model, plan).SerializeToString(), apply(lazy, plan)
        assert whole(found).SerializeToString() == wanted
        parts = [
            part if isinstance(part, bytes) else encode(found.tensor(part).read(), part.data_type, tuple(part.dims))
            for part in wire.pieces(found.proto)
        ]
        assert b"".join(bytes(part) for part in parts) == wanted
        assert_rows_are_those_of_the_whole(found)


@pytest.mark.parametrize("dtype", ["float32", "float16"])
@pytest.mark.parametrize("split", ["uneven", "first"])
@pytest.mark.parametrize("row", residual.ROWS)
def test_filler_streams(row: str, split: Any, dtype: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Means over rows and within rows, zeros and powers of eta are the same in any pieces."""
    monkeypatch.setattr(tensors, "INLINE", 0)
    model = residual.ROWS[row](residual.DTYPES[dtype])
    made = widen(model, factor=1.5, split=split, seed=2)
    assert {fill.content for constant in made.plan.constants for fill in constant.fills}
    found = apply(detached(model), made.plan)
    assert whole(found).SerializeToString() == apply(model, made.plan).SerializeToString()
    assert_rows_are_those_of_the_whole(found)


def assert_rows_are_those_of_the_whole(found: LazyModel) -> None:
    for tensor in found.made.values():
        if isinstance(tensor, Rewritten) and tensor.by_rows:
            order = np.random.default_rng(1).permutation(tensor.shape[tensor.axis])
            rows = tensor.open()
            pieces = [np.array(rows(order[i : i + 2])) for i in range(0, len(order), 2)]
            joined = np.concatenate(pieces, tensor.axis)
            assert joined.tobytes() == np.take(tensor.read(), order, tensor.axis).tobytes()
