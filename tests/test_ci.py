"""The wrappings of `check`: the pytest plugin, the GitHub Action and the pre-commit hook, each run as its users run it."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import onnx
import pytest
import yaml
from click.testing import CliRunner
from onnx import ModelProto

from onnx_net2net import ModelError, UsageError, widen
from onnx_net2net.cli import cli
from onnx_net2net.testing import assert_onnx_equivalent
from tests.law import fill, parse

ROOT = Path(__file__).parents[1]
NET = "(float[2,6] x) => (float[2,8] y) <float[6,5] w1, float[5,8] w2> { h = MatMul(x, w1)  r = Relu(h)  y = MatMul(r, w2) }"


def net(body: str = NET) -> ModelProto:
    return fill(parse(body))


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A folder with a teacher, an equivalent student, another model and no model at all; names have spaces."""
    monkeypatch.chdir(tmp_path)
    onnx.save(net(), "the teacher.onnx")
    onnx.save(widen(net(), factor=2).model, "s.onnx")
    onnx.save(net(NET.replace("Relu", "Abs")), "other.onnx")
    Path("none.onnx").write_text("no model")


def environment(**more: str) -> dict[str, str]:
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    kept = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
    return {**kept, "PYTHONPATH": str(ROOT), "PATH": path, **more}


# pytest

TESTS = """
from onnx_net2net.testing import assert_onnx_equivalent as imported

def test_equal(assert_onnx_equivalent):
    assert assert_onnx_equivalent("the teacher.onnx", "s.onnx", samples=2).samples == 2

def test_different(assert_onnx_equivalent):
    assert_onnx_equivalent("the teacher.onnx", "other.onnx")

def test_imported():
    assert imported("the teacher.onnx", "s.onnx")

def test_not_a_model(assert_onnx_equivalent):
    assert_onnx_equivalent("the teacher.onnx", "none.onnx")
"""


def pytest_of(*args: str) -> str:
    command = [sys.executable, "-m", "pytest", "-p", "pytest_onnx_net2net", "-p", "no:cacheprovider", *args]
    done = subprocess.run(command, capture_output=True, text=True, env=environment(), check=False)
    return done.stdout + done.stderr


def test_the_plugin_in_a_real_pytest() -> None:
    Path("test_models.py").write_text(TESTS)
    shown = pytest_of("-v", "test_models.py")
    found = dict(re.findall(r"::(\w+) (PASSED|FAILED|ERROR)", shown))
    wanted = {
        "test_equal": "PASSED",
        "test_different": "FAILED",
        "test_imported": "PASSED",
        "test_not_a_model": "FAILED",
    }
    assert found == wanted, shown
    assert "AssertionError: the models are not equivalent: output 'y': it differs by" in shown
    assert re.search(r"  y: max_abs \S+, max_rel \S+, tolerance \S+, it differs by", shown)
    assert "def assert_onnx_equivalent" not in shown  # the traceback ends in the user's test
    assert "onnx_net2net.errors.ModelError: file (none.onnx)" in shown


def test_the_fixture_explains_itself() -> None:
    assert "asserts that two models compute the same function" in pytest_of("--fixtures")


def test_the_plugin_costs_nothing_until_it_is_used() -> None:
    code = "import sys, pytest_onnx_net2net; sys.exit(any(m.startswith('onnx') for m in sys.modules))"
    assert subprocess.run([sys.executable, "-c", code], env=environment(), check=False).returncode == 0


def test_the_plugin_is_declared_under_its_own_name() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())
    assert project["project"]["entry-points"]["pytest11"] == {"pytest_onnx_net2net": "pytest_onnx_net2net"}
    assert "pytest_onnx_net2net.py" in project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"]


def test_the_function_takes_models_and_options() -> None:
    assert assert_onnx_equivalent(net(), widen(net(), factor=2).model).outputs
    assert assert_onnx_equivalent(net(), net(NET.replace("Relu", "Abs")), rtol=100, probes=False)
    with pytest.raises(AssertionError, match="the outputs differ"):
        assert_onnx_equivalent(net(), parse("(float[2,6] x) => (float[2,6] z) { z = Neg(x) }"))
    with pytest.raises(ModelError):
        assert_onnx_equivalent(net(), "none.onnx")
    with pytest.raises(UsageError):
        assert_onnx_equivalent(net(), net(), inputs={})


# GitHub Action

ACTION = yaml.safe_load((ROOT / "action.yml").read_text())


def filled(text: str, inputs: Mapping[str, str]) -> str:
    """Text with its expressions evaluated as GitHub does, those of inputs and of the action's own folder."""
    values = {f"inputs.{name}": value for name, value in inputs.items()} | {"github.action_path": str(ROOT)}
    return re.sub(r"\$\{\{ *([\w.-]+) *\}\}", lambda match: values[match[1]], text)


def act(name: str, variables: Mapping[str, str] = MappingProxyType({}), /, **given: str) -> tuple[int, str, str]:
    """Runs one step of the action in bash: exit code, summary and outputs."""
    unknown = given.keys() - ACTION["inputs"].keys()
    assert not unknown
    inputs = {key: given.get(key, spec.get("default", "")) for key, spec in ACTION["inputs"].items()}
    step = next(step for step in ACTION["runs"]["steps"] if step["name"] == name)
    assert step["shell"] == "bash"
    assert "${{" not in step["run"]  # values reach the shell as variables, which it does not run
    own = {key: filled(text, inputs) for key, text in step["env"].items()}
    files = {"GITHUB_STEP_SUMMARY": Path("summary"), "GITHUB_OUTPUT": Path("output")}
    for path in files.values():
        path.write_text("before\n")
    Path("step.sh").write_text(step["run"])
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "step.sh"]
    made = environment(**own, **variables, **{key: str(path) for key, path in files.items()})
    done = subprocess.run(command, env=made, check=False, capture_output=True, text=True)
    summary, output = (path.read_text() for path in files.values())
    assert summary.startswith("before\n")
    assert output.startswith("before\n")
    return done.returncode, summary.removeprefix("before\n"), output.removeprefix("before\n")


TEACHER = "the teacher.onnx"


@pytest.mark.parametrize(
    ("student", "code", "said", "output"),
    [
        ("s.onnx", 0, "### s.onnx: equivalent", "equivalent=true\n"),
        ("other.onnx", 1, "### other.onnx: not equivalent", "equivalent=false\n"),
        ("none.onnx", 3, "### none.onnx: the check could not be made", ""),
    ],
)
def test_the_action_says_what_the_command_says(student: str, code: int, said: str, output: str) -> None:
    found = act("Check", teacher=TEACHER, student=student, junit="out.xml", html="out.html")
    assert (found[0], found[1].splitlines()[0], found[2]) == (code, said, output)
    assert Path("out.xml").exists()
    assert Path("out.html").exists()


def test_the_action_writes_no_report_that_nobody_asked_for() -> None:
    before = set(os.listdir())
    act("Check", teacher=TEACHER, student="s.onnx")
    assert set(os.listdir()) - before == {"step.sh", "summary", "output"}


@pytest.mark.parametrize(
    ("args", "code"),
    [
        ("--samples 2 --save-inputs 'my inputs.npz'", 0),
        ("--rtol 100 --no-probes", 0),
        ("--nonsense", 2),
        ("'unbalanced", 1),
        ("--samples $(touch hacked) --rtol `touch hacked`", 2),
    ],
)
def test_the_action_passes_options_on_word_by_word(args: str, code: int) -> None:
    student = "other.onnx" if "--rtol 100" in args else "s.onnx"
    assert act("Check", teacher=TEACHER, student=student, args=args)[0] == code
    assert Path("my inputs.npz").exists() == ("my inputs" in args)
    assert not Path("hacked").exists()


def test_the_action_installs_itself_or_what_it_is_told() -> None:
    """A python that only notes what it was asked for stands in front of the real one."""
    Path("bin").mkdir()
    Path("bin/python").write_text('#!/bin/sh\necho "$@" >> asked\n')
    Path("bin/python").chmod(0o755)
    front = f"{Path('bin').resolve()}{os.pathsep}{os.environ['PATH']}"
    for install in ("action", "onnx-net2net[gpu]==1.0"):
        assert act("Install", {"PATH": front}, install=install)[0] == 0
    options = "-m pip install --quiet --disable-pip-version-check"
    asked = Path("asked").read_text().splitlines()
    assert asked == [f"{options} {what}" for what in (f"{ROOT}[cpu]", "onnx-net2net[gpu]==1.0")]
    step = next(step for step in ACTION["runs"]["steps"] if step["name"] == "Install")
    assert step["if"] == "inputs.install != ''"


def test_the_action_hands_on_its_output() -> None:
    steps = [step.get("id") for step in ACTION["runs"]["steps"]]
    value = ACTION["outputs"]["equivalent"]["value"]
    assert re.fullmatch(r"\$\{\{ steps\.(\w+)\.outputs\.equivalent \}\}", value)[1] in steps  # type: ignore[index]


# pre-commit

HOOKS = yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())


@pytest.mark.parametrize(("student", "code"), [("s.onnx", 0), ("other.onnx", 1)])
def test_the_hook_runs_the_command(student: str, code: int) -> None:
    (hook,) = HOOKS
    program, *words = shlex.split(hook["entry"])
    scripts = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]
    assert program in scripts
    assert CliRunner().invoke(cli, [*words, TEACHER, student, "--samples", "2"]).exit_code == code
    assert not hook["pass_filenames"]
    assert re.search(hook["files"], "models/x.onnx")
    assert not re.search(hook["files"], "models/x.py")
