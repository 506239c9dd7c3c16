"""onnxruntime in a child process: whatever it does there, the program says so and leaves nothing behind."""

from __future__ import annotations

import os
import platform
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import onnx
import pytest
from click.testing import CliRunner
from onnx import ModelProto

from onnx_net2net import MissingError, ModelError, UsageError, verify, widen
from onnx_net2net.checking import process
from onnx_net2net.checking.process import Child
from onnx_net2net.cli import cli
from tests.law import fill, parse
from tests.test_verify import bfloat16, edit, network

ROOT = Path(__file__).parents[1]
LINUX = pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="it reads /proc")
OVERFLOW = """(int64[3] x) => (int64[3] y) {
    one = Constant<value = int64 {-1}>()  least = Constant<value = int64 {-9223372036854775808}>()
    a = Div(least, one)  y = Add(a, x)
}"""
ENDLESS = """(float[3] x) => (float[3] y) {
    n = Constant<value = int64 {9000000000000}>()  c = Constant<value = bool {1}>()
    y = Loop(n, c, x) <body = b (int64 i, bool c1, float[3] a) => (bool c2, float[3] b) { c2 = Identity(c1) b = Neg(a) }>
}"""
FUSED = """(float16[N,4,6] x) => (float16[4,N,8] y) <float16[6,5] w, float16[5,8] v> {
    t = Transpose<perm = [1,0,2]>(x)  h = MatMul(t, w)  y = MatMul(h, v)
}"""
LARGE = """(float[3] x) => (float y) {
    s = Constant<value = int64[1] {1000000000}>()  k = ReduceSum(x)  c = Expand(k, s)  y = ReduceSum<keepdims = 0>(c)
}"""

FAKE = """
import os, sys, time
class SessionOptions: pass
class GraphOptimizationLevel: ORT_ENABLE_ALL = ORT_DISABLE_ALL = 0
def get_available_providers(): return ["CPUExecutionProvider"]
class InferenceSession:
    def __init__(self, *_, **__): {make}
    def get_providers(self): return ["CPUExecutionProvider"]
    def run(self, names, feed): {run}
"""
FAKES = {
    "aborts": ("os.abort()", "", "teacher: onnxruntime crashed (SIGABRT)"),
    "aborts with a word": (
        "os.write(2, b'terminate called\\n'); os.abort()",
        "",
        "crashed (SIGABRT: terminate called)",
    ),
    "aborts when it runs": ("pass", "os.abort()", "teacher: onnxruntime crashed (SIGABRT)"),
    "exits": ("sys.exit(7)", "", "onnxruntime crashed (exit code 7)"),
    "raises": ("raise KeyError('of its own')", "", "onnxruntime cannot run it (KeyError: 'of its own')"),
    "runs out of memory": ("raise MemoryError", "", "onnxruntime ran out of memory"),
    "is killed": ("os.kill(os.getpid(), 9)", "", "onnxruntime crashed (SIGKILL)"),
}


def pretend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, make: str, run: str) -> None:
    """Puts another onnxruntime in the way of child processes."""
    (tmp_path / "onnxruntime.py").write_text(FAKE.format(make=make, run=run or "pass"))
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])


@pytest.mark.parametrize(("make", "run", "message"), FAKES.values(), ids=FAKES.keys())
def test_what_onnxruntime_does_to_itself_is_an_error(
    make: str, run: str, message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pretend(tmp_path, monkeypatch, make, run)
    with pytest.raises(ModelError) as raised:
        verify(network(), network(), isolate=True)
    assert message in str(raised.value)


def test_what_it_prints_does_not_get_between_the_replies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(tmp_path, monkeypatch, "print('loud', flush=True)", "os.write(1, b'louder'); return [feed['x'] * 2]")
    twice = parse("(float[2,3] x) => (float[2,3] y) { y = Add(x, x) }")
    assert verify(twice, twice, isolate=True).outputs[0].max_abs == 0


def test_a_value_that_no_pipe_takes_is_no_tensor(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(tmp_path, monkeypatch, "pass", "return [type('Handle', (), {})()]")
    assert "it is not a tensor" in verify(network(), network(), isolate=True).reason


def test_a_damaged_install_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "onnxruntime.py").write_text("raise ImportError('libcudart.so is not there')")
    monkeypatch.setattr(sys, "path", [str(tmp_path), *sys.path])
    with pytest.raises(MissingError, match="libcudart"):
        verify(network(), network(), isolate=True)


PAIRS = {
    "a wider one": lambda: (network(), widen(network(), factor=1.5, seed=3).exact),
    "a wrong one": lambda: (network(), edit(network(), "w2", lambda w: w * 1.01)),
    "upcast": lambda: (bfloat16(network()), widen(bfloat16(network()), factor=1.5).exact),
}


@pytest.mark.parametrize("pair", PAIRS)
def test_the_child_says_what_this_process_says(pair: str) -> None:
    teacher, student = PAIRS[pair]()
    there = verify(teacher, student, isolate=True, per_layer=True)
    assert there.to_dict() == verify(teacher, student, per_layer=True).to_dict()


def test_errors_are_the_same_too() -> None:
    broken = parse("(float[2,3] x) => (float[2,3] y) { y = NoSuchOperator(x) }")
    texts = []
    for isolate in (True, False):
        with pytest.raises(ModelError) as raised:
            verify(broken, broken, isolate=isolate)
        texts.append(str(raised.value))
    assert texts[0] == texts[1]


@pytest.mark.skipif(platform.machine() not in ("x86_64", "AMD64"), reason="this division ends a process on x86 alone")
def test_a_model_that_ends_onnxruntime_is_an_error_at_most() -> None:
    model = parse(OVERFLOW)
    with pytest.raises(ModelError, match=r"teacher: onnxruntime crashed \(SIGFPE"):
        verify(model, model, isolate=True)


def test_a_model_without_end_is_ended() -> None:
    with pytest.raises(ModelError, match=r"teacher: onnxruntime took more than 10 s; give it more with --timeout"):
        verify(parse(ENDLESS), parse(ENDLESS), timeout=10)


@LINUX
def test_memory_is_limited() -> None:
    with pytest.raises(ModelError, match=r"onnxruntime took more than 400 MiB of memory; give it more"):
        verify(parse(LARGE), parse(LARGE), max_memory=400 * 2**20)
    assert verify(network(), network(), max_memory=2**30)


def test_where_memory_cannot_be_limited_it_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "resident", lambda pid: None)
    with pytest.raises(MissingError, match="memory cannot be limited on this system"):
        verify(network(), network(), max_memory=2**30)


@pytest.mark.parametrize("limit", [{"timeout": 0}, {"max_memory": -1}])
def test_limits_are_positive(limit: dict[str, int]) -> None:
    with pytest.raises(UsageError, match="is no limit"):
        verify(network(), network(), **limit)


def test_the_child_ends_with_the_block() -> None:
    with Child() as child:
        assert "CPUExecutionProvider" in child.available()
        running = child._process
        assert running.poll() is None
    assert running.poll() is not None


def test_models_go_by_path_where_they_are_large(monkeypatch: pytest.MonkeyPatch) -> None:
    for module in ("checking.runtime", "io"):
        monkeypatch.setattr(f"onnx_net2net.{module}.is_large", lambda model: True)
    monkeypatch.setattr("onnx_net2net.storage.tensors.INLINE", 16)
    sources: list[object] = []
    ask = Child.ask
    monkeypatch.setattr(Child, "ask", lambda self, job, who: sources.append(job["source"]) or ask(self, job, who))
    assert verify(network(), widen(network(), factor=1.5).exact, isolate=True)
    assert all(isinstance(source, str) and not Path(source).exists() for source in sources)


# The command line


def saved(tmp_path: Path, text: str) -> str:
    path = tmp_path / "m.onnx"
    onnx.save(parse(text), path)
    return str(path)


@pytest.mark.parametrize(
    ("text", "option", "message"),
    [(ENDLESS, "--timeout 1", "more than 1 s"), pytest.param(LARGE, "--max-memory 400M", "400 MiB", marks=LINUX)],
)
def test_check_is_3_where_a_limit_is_hit(text: str, option: str, message: str, tmp_path: Path) -> None:
    path = saved(tmp_path, text)
    result = CliRunner().invoke(cli, ["check", path, path, *shlex.split(option)])
    assert (result.exit_code, result.stdout) == (3, "")
    assert message in result.stderr


@pytest.mark.parametrize("command", ["check {0} {0}", "widen {0} -o s.onnx --factor 2", "deepen {0} -o s.onnx --every"])
def test_commands_outlive_onnxruntime(command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pretend(tmp_path, monkeypatch, "os.abort()", "")
    monkeypatch.chdir(tmp_path)
    onnx.save(network(), "t.onnx")
    result = CliRunner().invoke(cli, shlex.split(command.format("t.onnx")))
    assert result.exit_code == 3, result.output
    assert result.stderr == "error: teacher: onnxruntime crashed (SIGABRT); check the model with onnx.checker\n"
    assert not Path("s.onnx").exists()


STARTED = """
import sys
from onnx_net2net import io
from onnx_net2net.storage import tensors
from onnx_net2net.checking import runtime
tensors.INLINE, io.is_large = 0, lambda model: True
runtime.is_large = io.is_large
from onnx_net2net.cli import main
sys.argv[0] = "onnx-net2net"
main()
"""


def children(pid: int) -> list[int]:
    try:
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except FileNotFoundError:
        return []


def wait_for(what: object, seconds: float = 60) -> object:
    """What a function gives once it gives something."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if found := what():  # type: ignore[operator]
            return found
        time.sleep(0.02)
    raise AssertionError("it did not happen")


def heed_interrupts() -> None:
    """Jobs in the background inherit that they ignore them."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


@LINUX
@pytest.mark.parametrize(("how", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
def test_an_end_from_outside_leaves_no_process_behind(how: signal.Signals, code: int, tmp_path: Path) -> None:
    path, kept = saved(tmp_path, ENDLESS), tmp_path / "kept"
    kept.mkdir()
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(kept)}
    command = [sys.executable, "-c", STARTED, "check", path, path]
    running = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,  # noqa: PLW1509  # there are no threads here
    )
    try:
        wait_for(lambda: children(running.pid) and list(kept.glob("*/*.onnx")))
        (child,) = children(running.pid)
        time.sleep(0.5)  # the model reaches onnxruntime
        os.kill(running.pid, how)
        out, words = running.communicate(timeout=60)
    finally:
        running.kill()
    assert (running.returncode, out, words.strip()) == (code, "", "")
    wait_for(lambda: not Path(f"/proc/{child}").exists() or "zombie" in Path(f"/proc/{child}/status").read_text())
    if how == signal.SIGINT:
        assert {path.name for path in kept.iterdir()} <= {".ses"}  # onnxruntime writes that one when it is imported


def test_inputs_of_every_kind_cross_the_pipe() -> None:
    model: ModelProto = parse("(float[2,3] x, bool[3] c) => (float[2,3] y) { n = Neg(x) y = Where(c, x, n) }")
    feed = {"x": np.asfortranarray(np.random.default_rng(0).standard_normal((2, 3)).astype(np.float32))}
    feed["c"] = np.array([True, False, True])
    assert verify(model, model, inputs=feed, isolate=True)


def test_float16_that_onnxruntime_cannot_lay_out_runs() -> None:
    made = widen(fill(parse(FUSED), low=-1, high=1), factor=2)
    verdict = made.verify(isolate=True)
    assert verdict, verdict.reason
