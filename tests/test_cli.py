"""The command line: what it prints, what it writes, and how it exits."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import types
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
import numpy as np
import onnx
import pytest
from click.testing import CliRunner, Result
from onnx import numpy_helper, parser

import onnx_net2net
from onnx_net2net.cli import cli
from onnx_net2net.cli.deepen import MODES
from onnx_net2net.cli.widen import SPLITS, TYINGS
from onnx_net2net.planning.plan import MODES as LIBRARY_MODES
from onnx_net2net.planning.plan import SPLITS as LIBRARY_SPLITS
from onnx_net2net.planning.plan import TYINGS as LIBRARY_TYINGS
from onnx_net2net.widening.apply import apply
from tests.cli_rows import (
    CHECK,
    CNN,
    DEEPEN,
    DOCUMENTS,
    EACH,
    MADE,
    MARKUP,
    MISTAKES,
    NORM,
    NORMED,
    POST_NORM,
    POST_NORMED,
    RAISED,
    REPORTS,
    WEIGHTS,
    WIDEN,
    WRITERS,
)

HEAD = '<ir_version: 8, opset_import: ["" : 17]>'
DATA = """import numpy as np


def samples():
    for n in (1, 2):
        yield {"image": np.random.default_rng(n).standard_normal((n, 3, 8, 8))}


def fail():
    raise ValueError("not today")
"""
ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs" / "cli.md"
TEXTS = [path for path in (ROOT / "README.md", DOCS) if path.exists()]


def rows(names: str, table: Mapping[str, Any]) -> pytest.MarkDecorator:
    """One test for each named row."""
    return pytest.mark.parametrize(names, list(table.values()), ids=list(table))


def write(path: str, text: str, shapes: Mapping[str, tuple[int, ...]], **rename: str) -> None:
    """Writes a model with random signed weights; ``rename`` gives them names that the text format cannot."""
    model = parser.parse_model(f"{HEAD}\n{text}")
    rng = np.random.default_rng(7)
    for name, shape in shapes.items():
        value = rng.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(value, rename.get(name, name)))
    for node in model.graph.node:
        node.input[:] = [rename.get(name, name) for name in node.input]
    onnx.checker.check_model(model)
    onnx.save(model, path)


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a teacher and all kinds of other inputs."""
    path = tmp_path_factory.mktemp("models")
    with contextlib.chdir(path):
        write("t.onnx", CNN, WEIGHTS)
        write("equals.onnx", CNN, WEIGHTS, w1="w=1")
        write("markup.onnx", CNN, WEIGHTS, w1=MARKUP)
        write("made.onnx", MADE, {name: shape for name, shape in WEIGHTS.items() if name != "b1"})
        write("other.onnx", CNN.replace("Sigmoid", "Tanh"), WEIGHTS)
        write("renamed.onnx", CNN.replace("scores", "points"), WEIGHTS)
        write("norm.onnx", NORM, NORMED)
        write("post.onnx", POST_NORM, POST_NORMED)
        write("four.onnx", "net (float[N,3] x) => (float[N,3] y) { y = Add(x, w) }", {"w": (4, 3)})
        write("pinned.onnx", "net (float[2,3] x) => (float[2,4] y) { y = MatMul(x, w) }", {"w": (3, 4)})
        write(
            "block.onnx",
            "net (float[2,4] x) => (float[2,4] s) { h = MatMul(x, w1) r = Tanh(h) s = Add(x, r) }",
            {"w1": (4, 4)},
        )
        nan = onnx.load("t.onnx")
        nan.graph.initializer[0].raw_data = np.full(WEIGHTS["w1"], np.nan, np.float32).tobytes()
        onnx.save(nan, "nan.onnx")
        onnx_net2net.widen("t.onnx", factor=2, noise=0.1).save("noisy.onnx")
        bent = onnx.load("t.onnx")
        weight = next(tensor for tensor in bent.graph.initializer if tensor.name == "w3")
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.1), "w3"))
        onnx.save(bent, "bent.onnx")
        onnx_net2net.widen("t.onnx", factor=2).save("wide.onnx")
        Path("wide.json").write_text(onnx_net2net.widen("t.onnx", factor=2).plan.to_json())
        Path("deep.json").write_text(onnx_net2net.deepen("t.onnx", after="every").plan.to_json())
        Path("r.toml").write_text(
            'seed = 3\n[[steps]]\ndo = "widen"\nfactor = 1.5\n[[steps]]\ndo = "deepen"\nafter = "every"'
        )
        Path("open.toml").write_text('[[steps]]\ndo = "widen"')
        held = {t.name: numpy_helper.to_array(t) for t in onnx.load("t.onnx").graph.initializer}
        np.savez("t.npz", **held)
        np.savez("named.npz", **{f"layer.{name}": value for name, value in held.items()})
        np.savez("later.npz", **{f"layer.{name}": value + 1 for name, value in held.items()})
        np.savez("more.npz", **held, **{"aux.w": np.ones((2, 6))})
        Path("text.txt").write_text("no model, no plan and no arrays")
        for name, body in {"plain": "Identity(x)", "relu": "Relu(x)", "clip": "Clip(x, l, h)", "exp": "Exp(x)"}.items():
            bounds = "<float l = {-50}, float h = {50}>" * (name == "clip")
            onnx.save(
                parser.parse_model(f"{HEAD} net (float[N,3] x) => (float[N,3] y) {bounds} {{ y = {body} }}"),
                f"{name}.onnx",
            )
        onnx_net2net.widen("t.onnx", factor=2).save("wide.onnx")
        image = np.random.default_rng(2).standard_normal((1, 3, 8, 8)).astype(np.float32)
        for folder in ("folder", "empty", "data/test_data_set_0", "data/test_data_set_1"):
            Path(folder).mkdir(parents=True)
        np.save("folder/image.npy", image)
        for place in range(2):
            proto = numpy_helper.from_array(image + place).SerializeToString()
            Path(f"data/test_data_set_{place}/input_0.pb").write_bytes(proto)
        Path("my_data.py").write_text(DATA)
        np.savez("y.npz", other=np.zeros((1, 3)))
        np.savez("x.npz", image=np.random.default_rng(1).standard_normal((1, 3, 8, 8)).astype(np.float32))
    return path


@pytest.fixture(autouse=True)
def _here(models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(models, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)


def run(command: str, code: int = 0) -> Result:
    """Runs a command in this process; an exception that it lets through fails the test."""
    result = CliRunner().invoke(cli, shlex.split(command))
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    assert result.exit_code == code, result.output
    return result


def document(command: str, code: int = 0) -> Any:
    """The document that a command prints; anything beside it on stdout, NaN included, fails the test."""
    return json.loads(run(f"{command} --json", code).stdout, parse_constant=pytest.fail)


def files() -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in Path().iterdir() if path.is_file()}


# What is printed


@rows("command, stdout", REPORTS)
def test_reports(command: str, stdout: str) -> None:
    result = run(command)
    assert re.search(stdout, result.stdout), result.stdout
    assert "\x1b" not in result.output


@rows("command", EACH)
def test_quiet_says_nothing_and_verbose_times_the_stages(command: str) -> None:
    assert run(f"{command} -q").output == ""
    assert re.fullmatch(r"([a-z ]+: \d+\.\d\d s\n)+", run(f"{command} -v").stderr)


def test_inspect_document_is_that_of_the_library() -> None:
    assert document("inspect t.onnx -v") == onnx_net2net.inspect("t.onnx").to_dict()


def test_widen_document() -> None:
    made = document(f"{WIDEN} --factor 1.5 -v")
    assert set(made) == {
        *"parameters bytes axes borders layers blocks skipped verification output cloned inserted kept".split()
    }
    assert made["parameters"] == {"before": 673, "after": 1372}
    assert made["bytes"] == {"before": os.path.getsize("t.onnx"), "after": os.path.getsize("s.onnx")}
    widened = {"w1:0": (6, 9), "w2:0": (8, 12), "w3:1": (5, 8)}
    assert {axis["name"]: (axis["old"], axis["new"]) for axis in made["axes"]["widened"]} == widened
    assert {"reason": "graph output 'scores': its shape must stay", "axes": 1} in made["axes"]["pinned"]
    assert made["axes"]["skipped"] == made["layers"] == made["cloned"] == made["inserted"] == made["kept"] == []
    assert made["verification"] == onnx_net2net.verify("t.onnx", "s.onnx").to_dict()
    assert made["output"] == "s.onnx"


# What the options do


@rows("command, code, pick, expected", DOCUMENTS)
def test_documents(command: str, code: int, pick: Any, expected: Any) -> None:
    assert pick(document(command, code)) == expected


def test_the_seed_of_a_check_counts() -> None:
    assert document("check t.onnx noisy.onnx --seed 1", 1) != document("check t.onnx noisy.onnx", 1)


def test_noise_is_reported_after_the_student_without_it_is_verified() -> None:
    made = document(f"{WIDEN} --factor 2 --noise 0.1")
    assert made["verification"]["equivalent"] is True
    drift = onnx_net2net.verify("t.onnx", "s.onnx").outputs[0].max_rel
    assert made["drift"] == [{"name": "scores", "max_rel": pytest.approx(drift)}]
    assert drift > 1e-3


@rows("one, other", {"seed": (1, 2), "split": ("even", "first"), "noise": (0.1, 0.2)})
def test_weights_depend_on_the_choices_alone(one: Any, other: Any, request: pytest.FixtureRequest) -> None:
    made = []
    for value in (one, one, other):
        run(f"{WIDEN} --factor 1.5 --{request.node.callspec.id} {value}")
        made.append([tensor.raw_data for tensor in onnx.load("s.onnx").graph.initializer])
    assert made[0] == made[1] != made[2]


def test_the_modes_are_those_of_the_library() -> None:
    assert MODES == LIBRARY_MODES
    assert TYINGS == LIBRARY_TYINGS


@pytest.mark.parametrize("split", LIBRARY_SPLITS)
def test_every_split_is_known_and_equivalent(split: str) -> None:
    assert split in SPLITS
    assert document(f"{EACH['widen']} --split {split}")["verification"]["equivalent"] is True


@rows("command", WRITERS)
def test_provenance_is_written_unless_it_is_not_wanted(command: str) -> None:
    keys = []
    for option in ("", "--no-provenance"):
        run(f"{command} {option}")
        keys.append({entry.key.partition(".")[0] for entry in onnx.load("s.onnx").metadata_props})
    assert keys == [{"onnx_net2net"}, set()]


@rows("agrees, code", {"agrees": (True, 0), "disagrees": (False, 1)})
def test_demo(agrees: bool, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path | None] = []

    def play(directory: Path | None, report: Any) -> bool:
        asked.append(directory)
        report("a line [of] progress")
        return agrees

    monkeypatch.setitem(sys.modules, "onnx_net2net.demo", types.SimpleNamespace(run=play))
    assert run("demo -o kept", code).stdout == "a line [of] progress\n"
    assert run("demo -q", code).stdout == ""
    assert asked == [Path("kept"), None]


# Mistakes


@rows("command, code, message", MISTAKES)
def test_mistakes(command: str, code: int, message: str) -> None:
    before = files()
    for option in ("", "--json") if command.partition(" ")[0] in cli.commands else ("",):
        result = run(f"{command} {option}", code)
        assert result.stdout == ""
        assert re.fullmatch(r"error: .+\n", result.stderr), result.stderr
        assert message in result.stderr
    assert files() == before


@rows("command", {**WRITERS, "check": CHECK})
def test_a_missing_runtime_is_4_and_writes_nothing(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    before = files()
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    assert "onnxruntime" in run(command, 4).stderr
    assert files() == before


def test_without_a_runtime_no_verify_still_writes(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    made = document(f"{EACH['widen']} --noise 0.1 --no-verify")
    assert (made["verification"], made["drift"], made["output"]) == (None, None, "s.onnx")
    assert onnx.load("s.onnx").graph.initializer[0].dims == [12, 3, 3, 3]


def test_a_failed_check_says_so_on_both_streams() -> None:
    result = run("check t.onnx other.onnx", 1)
    assert "not equivalent" in result.stdout
    assert re.match(r"error: student \(other.onnx\): it is not equivalent, output 'scores': it diff", result.stderr)
    assert run("check t.onnx other.onnx -q", 1).stdout == ""


def test_a_failed_check_names_the_first_tensor_that_diverges() -> None:
    result = run("check t.onnx bent.onnx --per-layer", 1)
    assert re.search(
        r"h +Gemm +.* it differs by [\s\S]*tensors matched by name: 3 diverge, the first is h", result.stdout
    )
    where = "; of the tensors matched by name the first that diverges is that of Gemm (h): it differs by"
    assert where in result.stderr
    assert where in run("check t.onnx bent.onnx", 1).stderr


@rows("error, code, message", RAISED)
def test_what_python_raises(error: type, code: int, message: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_args: Any, **_options: Any) -> None:
        raise error

    monkeypatch.setattr("onnx_net2net.growing.widen", fail)
    result = run(EACH["widen"], code)
    assert result.stdout == ""
    assert result.stderr.strip().startswith(message)
    assert len(result.stderr.splitlines()) == 1


# What is written


@rows("command", WRITERS)
def test_a_failed_verification_writes_nothing(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = type(onnx_net2net.verify("t.onnx", "t.onnx").outputs[0])("scores", np.inf, np.nan, 0.0, (), "it is off")
    monkeypatch.setattr("onnx_net2net.expansion.verify", lambda *_, **__: onnx_net2net.Verdict((broken,)))
    Path("s.onnx").write_text("old")
    before = files()
    made = document(f"{command} --plan-out plan.json", 1)
    assert (made["verification"]["equivalent"], made["output"]) == (False, None)
    assert made["verification"]["outputs"][0]["max_abs"] is None
    result = run(command, 1)
    assert "it is off; nothing was written" in result.stderr
    assert "written: nothing" in result.stdout
    assert files() == before


def test_a_failed_verification_names_the_first_tensor_that_diverges(monkeypatch: pytest.MonkeyPatch) -> None:
    def bent(model: onnx.ModelProto, plan: onnx_net2net.Plan, *, noise: bool = True) -> onnx.ModelProto:
        student = apply(model, plan, noise=noise)
        weight = next(tensor for tensor in student.graph.initializer if tensor.name == "w2")
        weight.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(weight) * np.float32(1.1), "w2"))
        return student

    monkeypatch.setattr("onnx_net2net.steps.widen_axes", bent)
    message = "; of the tensors matched by plan the first that diverges is that of Conv (c2): it differs by"
    assert message in run(f"{WIDEN} --factor 1.5", 1).stderr
    assert not Path("s.onnx").exists()


@rows("options", {"student": "", "plan": "--dry-run --plan-out plan.json"})
def test_a_failed_write_leaves_the_old_file(options: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_source: str, target: Any) -> None:
        raise OSError(28, "No space left on device", str(target))

    for name in ("s.onnx", "plan.json"):
        Path(name).write_text("old")
    before = files()
    monkeypatch.setattr("os.replace", full)
    assert "No space left" in run(f"{EACH['widen']} {options}", 3).stderr
    assert files() == before


@rows("command", WRITERS)
def test_a_dry_run_writes_the_plan_alone_and_only_if_asked(command: str) -> None:
    before = files()
    assert "written: nothing" in run(f"{command} --dry-run").stdout
    run(f"{command.replace('-o s.onnx', '')} --dry-run -v")
    assert files() == before
    run(f"{command} --dry-run --plan-out plan.json")
    assert files().keys() - before.keys() == {"plan.json"}


@rows("command", {"widen": f"{WIDEN} --factor 1.5 --noise 0.1 --seed 3", "deepen": f"{DEEPEN} --every --seed 3"})
def test_a_saved_plan_makes_the_same_student(command: str) -> None:
    Path("s.onnx").write_text("an old file, which goes")
    run(f"{command} --plan-out plan.json")
    run(f"{command.split(maxsplit=1)[0]} t.onnx -o again.onnx --plan plan.json --plan-out again.json")
    now = files()
    assert (now["again.onnx"], now["again.json"]) == (now["s.onnx"], now["plan.json"])
    assert json.loads(now["plan.json"])["seed"] == 3


@pytest.mark.parametrize("option", ["-o", "--plan-out"])
@pytest.mark.parametrize("path", ["t.onnx", "dir/../t.onnx", "link.onnx", "hard.onnx", "linked/t.onnx", "weights.bin"])
def test_the_teacher_is_never_replaced(option: str, path: str) -> None:
    onnx.save(onnx.load("t.onnx"), "t.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    Path("dir").mkdir()
    Path("linked").symlink_to(Path.cwd())
    Path("link.onnx").symlink_to("t.onnx")
    Path("hard.onnx").hardlink_to("t.onnx")
    before = files()
    for command in WRITERS.values():
        assert "it would replace the teacher" in run(f"{command} {option} {path}", 2).stderr
    assert files() == before


REPORT_FILES = "--junit r.xml --markdown r.md --html r.html"
CHECKS = {
    "equal": (CHECK, 0, "equivalent"),
    "different": ("check t.onnx other.onnx", 1, "not equivalent"),
    "no student": ("check t.onnx text.txt", 3, "the check could not be made"),
    "a model that does not run": ("check t.onnx t.onnx --dim N=0x", 2, ""),
}


@rows("command, code, said", CHECKS)
def test_reports_are_written_whatever_the_result(command: str, code: int, said: str) -> None:
    before = files()
    run(f"{command} -q {REPORT_FILES}", code)
    made = {name: text.decode() for name, text in files().items() if name not in before}
    assert set(made) == ({"r.xml", "r.md", "r.html"} if said else set())
    if said:
        assert f": {said}\n" in made["r.md"]
        assert f"<strong>{said}</strong>" in made["r.html"]
        assert ("<failure" in made["r.xml"], "<error" in made["r.xml"]) == (code == 1, code == 3)


def test_a_failed_report_leaves_the_old_one(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_document: Any) -> str:
        raise OSError(28, "No space left on device", "r.html")

    Path("r.html").write_text("old")
    before = files()
    monkeypatch.setattr("onnx_net2net.reporting.page", fail)
    assert "No space left" in run(f"{CHECK} --html r.html", 3).stderr
    assert files() == before


def test_external_weights_are_never_replaced_by_a_report() -> None:
    onnx.save(onnx.load("t.onnx"), "t.onnx", save_as_external_data=True, location="weights.bin", size_threshold=0)
    before = files()
    assert "it would replace a file" in run(f"{CHECK} --html weights.bin", 2).stderr
    assert files() == before


# The program itself


def execute(*args: str, **options: Any) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    command = [sys.executable, "-m", "onnx_net2net", *args]
    return subprocess.run(command, text=True, check=False, env=environment, stderr=subprocess.PIPE, **options)


def test_it_runs_as_a_module() -> None:
    done = execute(*EACH["widen"].split(), "--json", stdout=subprocess.PIPE)
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads(done.stdout)["output"] == "s.onnx"


@rows("command", {"report": "inspect t.onnx", "document": "inspect t.onnx --json", "help": "--help"})
def test_a_closed_pipe_is_130_without_a_word(command: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = execute(*command.split(), stdout=writing)
    os.close(writing)
    assert (done.returncode, done.stderr) == (130, "")


def options_of(name: str) -> set[str]:
    return {opt for p in cli.commands[name].params if isinstance(p, click.Option) for opt in p.opts}


@pytest.mark.parametrize("name", cli.commands)
def test_help_and_docs_describe_every_option(name: str) -> None:
    shown = set(re.findall(r"(?<!\S)--?\w[-\w]*", run(f"{name} --help").stdout))
    assert shown >= options_of(name)
    general, *sections = re.split(r"^## ", DOCS.read_text(), flags=re.M)
    section = next(text for text in sections if text.startswith(f"{name}\n"))
    assert set(re.findall(r"(?<=`)--?[a-z][-a-z]*", general + section)) >= options_of(name)


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.name)
def test_every_command_is_mentioned(path: Path) -> None:
    text = path.read_text()
    assert [name for name in cli.commands if not re.search(rf"\b{name}\b", text)] == []
