"""Families on engines: what comes out is what one process makes, and a lost worker is an error and no hang."""

from __future__ import annotations

import importlib.util
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

import onnx
import pytest

from onnx_net2net import MissingError, ModelError, RequestError, UsageError, expand_all, explore, verify
from onnx_net2net.engines import Engine, run_each
from onnx_net2net.family import Member
from tests.law import fill, parse
from tests.test_process import heed_interrupts
from tests.test_recipe import DEEP, TEACHER, WIDE, recipe

SMALL = (
    "(float[n,3] x) => (float[n,4] y) <float[3,5] a, float[5,4] b> { h = MatMul(x, a) r = Relu(h) y = MatMul(r, b) }"
)
CHOICES = {"steps.0.factor": [1.5, 2], "seed": [0, 3]}
LIBRARIES = {"joblib": "joblib", "dask": "distributed", "ray": "ray"}


def needs(name: str) -> Any:
    there = importlib.util.find_spec(LIBRARIES[name]) is not None
    return pytest.param(name, marks=pytest.mark.skipif(not there, reason=f"{name} is not installed"))


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A real cluster of two worker processes, which others would have started."""
    distributed = pytest.importorskip("distributed")
    local = {"host": "127.0.0.1", "dashboard_address": "127.0.0.1:0"}
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, processes=True, **local) as running:
        yield running


@pytest.fixture
def engine(request: pytest.FixtureRequest) -> Iterator[tuple[Engine, int | None]]:
    """An engine, and how many workers it is to start."""
    match request.param:
        case "an address":
            yield f"dask={request.getfixturevalue('cluster').scheduler_address}", None
        case "an executor":
            with ThreadPoolExecutor(2) as pool:
                yield pool, None
        case "a client's executor":
            with request.getfixturevalue("cluster").get_client() as client:
                yield client.get_executor(), None
        case name:
            yield name, 2


PROCESSES = [needs("joblib"), needs("dask"), "an address", needs("ray")]
ENGINES = [*PROCESSES, "an executor", "a client's executor"]


@pytest.fixture(scope="module")
def teachers(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Two teachers, and between them one that is not there."""
    folder = tmp_path_factory.mktemp("teachers")
    onnx.save(TEACHER, folder / "t.onnx")
    onnx.save(fill(parse(SMALL), 3, -0.7, 0.7), folder / "small.onnx")
    return [str(folder / name) for name in ("t.onnx", "none.onnx", "small.onnx")]


def told(members: Sequence[Member]) -> list[tuple[Any, ...]]:
    return [
        (replace(m, error=None, output=None), type(m.error), str(m.error), m.output and m.output.name) for m in members
    ]


def written(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture(scope="module")
def alone(teachers: list[str], tmp_path_factory: pytest.TempPathFactory) -> tuple[list[Member], dict[str, bytes]]:
    """What one process makes, one student after the other."""
    folder = tmp_path_factory.mktemp("alone")
    return list(expand_all(teachers, recipe(WIDE, DEEP), CHOICES, output_dir=folder)), written(folder)


def test_members_are_verified_written_and_named(alone: tuple[list[Member], dict[str, bytes]]) -> None:
    members, files = alone
    assert sorted(files) == [f"{name}-{number}.onnx" for name in ("small", "t") for number in (1, 2, 3, 4)]
    good, bad = members[:4] + members[8:], members[4:8]
    assert [m.output.name for m in good if m.output] == [f"{n}-{i}.onnx" for n in ("t", "small") for i in (1, 2, 3, 4)]
    for member in good:
        assert member.verdict
        assert verify(member.teacher, str(member.output), grown=True)
    assert all(isinstance(m.error, ModelError) and m.size is m.output is m.verdict is None for m in bad)


@pytest.mark.parametrize("engine", ENGINES, indirect=True)
def test_an_engine_makes_the_same(
    engine: tuple[Engine, int | None],
    teachers: list[str],
    alone: tuple[list[Member], dict[str, bytes]],
    tmp_path: Path,
) -> None:
    pool, jobs = engine
    members = expand_all(teachers, recipe(WIDE, DEEP), CHOICES, output_dir=tmp_path, engine=pool, jobs=jobs)
    assert told(list(members)) == told(alone[0])
    assert written(tmp_path) == alone[1]


def die(task: int, _threads: int | None) -> int:
    """Kills its own process at number 1."""
    if task == 1:
        os.kill(os.getpid(), signal.SIGKILL)
    return task


@pytest.mark.parametrize("engine", PROCESSES, indirect=True)
def test_a_worker_that_dies_is_an_error(engine: tuple[Engine, int | None]) -> None:
    answers = list(run_each(die, [0, 1], *engine))
    assert isinstance(answers[1], ModelError)
    assert re.search(r"engine: its worker did not finish \(\w+", str(answers[1]))


def threads_of(_task: int, threads: int | None) -> int | None:
    return threads


@pytest.mark.parametrize(("jobs", "tasks", "threads"), [(2, 2, 4), (64, 1, 8), (2, 1, 8)])
def test_jobs_share_the_cores(jobs: int, tasks: int, threads: int, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("joblib")
    monkeypatch.setattr("onnx_net2net.engines.cores", lambda: 8)
    assert list(run_each(threads_of, range(tasks), "joblib", jobs)) == [threads] * tasks
    assert list(run_each(threads_of, range(tasks))) == [None] * tasks


class Counting(Executor):
    """Begins nothing by itself."""

    def __init__(self) -> None:
        self.futures: list[Any] = []

    def submit(self, fn: Callable[..., Any], /, *args: Any, **_kwargs: Any) -> Any:
        from concurrent.futures import Future

        self.futures.append(Future())
        if len(self.futures) == 1:
            self.futures[0].set_result(fn(*args))
        return self.futures[-1]


def test_who_stops_listening_cancels_the_rest(teachers: list[str], tmp_path: Path) -> None:
    pool = Counting()
    members = expand_all(teachers, recipe(WIDE), output_dir=tmp_path, engine=pool)
    assert next(members).output == tmp_path / "t.onnx"
    members.close()  # type: ignore[attr-defined]
    assert [future.cancelled() for future in pool.futures] == [False, True, True]
    assert list(written(tmp_path)) == ["t.onnx"]


def test_what_fails_is_not_written(teachers: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    random = {**WIDE, "init": "random-pad"}
    (member,) = expand_all(teachers[:1], recipe(random), output_dir=tmp_path)
    assert isinstance(member.error, UsageError)
    (member,) = explore(teachers[0], recipe({**WIDE, "factor": 1}), {})
    assert isinstance(member.error, RequestError)

    def fail(*_args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("onnx_net2net.expansion.save", fail)
    (member,) = expand_all(teachers[:1], recipe(WIDE), output_dir=tmp_path)
    assert "No space left" in str(member.error)
    assert member.verdict
    assert not any(tmp_path.iterdir())


MISTAKES: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "no such engine": ({"engine": "spark"}, UsageError, "write one of serial, joblib, dask, ray"),
    "an address of nothing": ({"engine": "dask="}, UsageError, "there is no 'dask='"),
    "an address of processes": ({"engine": "joblib=tcp://x:1"}, UsageError, "it takes no address"),
    "jobs of one process": ({"jobs": 2}, UsageError, "add --engine joblib"),
    "jobs of a cluster": ({"engine": "dask=tcp://x:1", "jobs": 2}, UsageError, "the engine says how many"),
    "no jobs": ({"engine": "joblib", "jobs": 0}, UsageError, "0 is no number of workers"),
    "no folder": ({"output_dir": "none"}, UsageError, "there is no such folder"),
    "a folder of teachers": ({"output_dir": ""}, UsageError, "it would replace a teacher"),
}


@pytest.mark.parametrize(("asked", "kind", "said"), MISTAKES.values(), ids=MISTAKES)
def test_mistakes(asked: dict[str, Any], kind: type[Exception], said: str, teachers: list[str]) -> None:
    if "output_dir" in asked:
        asked = {"output_dir": Path(teachers[0]).parent / asked["output_dir"]}
    with pytest.raises(kind, match=re.escape(said)):
        list(expand_all(teachers[:1], recipe(WIDE), **asked))


def test_models_in_memory_stay_in_this_process(tmp_path: Path) -> None:
    assert [bool(member.verdict) for member in explore(TEACHER, recipe(WIDE), {"seed": [0]})] == [True]
    for asked in ({"engine": "joblib"}, {"output_dir": tmp_path}):
        with pytest.raises(UsageError, match="it is in memory"):
            list(explore(TEACHER, recipe(WIDE), {}, **asked))


def test_two_students_of_one_name(teachers: list[str], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\(t.onnx\): two students would be called so"):
        list(expand_all([teachers[0], teachers[0]], recipe(WIDE), output_dir=tmp_path))


@pytest.mark.parametrize("name", LIBRARIES)
def test_an_engine_that_is_not_installed(name: str, teachers: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    for module in (LIBRARIES[name], "joblib.externals.loky"):
        monkeypatch.setitem(sys.modules, module, None)
    extra = "ray" if name == "ray" else "engines"
    with pytest.raises(MissingError, match=re.escape(f"pip install 'onnx-net2net[{extra}]'")):
        list(expand_all(teachers, recipe(WIDE), engine=name))


def test_no_cluster_at_the_address(teachers: list[str]) -> None:
    dask = pytest.importorskip("dask")
    with (
        dask.config.set({"distributed.comm.timeouts.connect": "1s"}),
        pytest.raises(MissingError, match=r"dask \(tcp://127.0.0.1:1\): no cluster answers there"),
    ):
        list(expand_all(teachers, recipe(WIDE), engine="dask=tcp://127.0.0.1:1"))


MANY = 1000
"""Members of a family that is not done before somebody interrupts it, even on a busy machine."""


@pytest.mark.parametrize("name", [needs("joblib"), needs("dask")])
def test_an_interrupt_leaves_only_whole_students(name: str, teachers: list[str], tmp_path: Path) -> None:
    (tmp_path / "r.toml").write_text('[[steps]]\ndo = "widen"\nfactor = 2\n')
    (tmp_path / "out").mkdir()
    seeds = "seed=" + ",".join(map(str, range(MANY)))
    command = ["expand", teachers[0], "r.toml", "--set", seeds, "--output-dir", "out", "--engine", name, "--jobs", "2"]
    running = subprocess.Popen(
        [sys.executable, "-m", "onnx_net2net", *command],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])},
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_interrupts,  # noqa: PLW1509  # there are no threads here
    )
    while running.poll() is None and not any(path.suffix == ".onnx" for path in (tmp_path / "out").iterdir()):
        time.sleep(0.1)
    os.killpg(running.pid, signal.SIGINT)
    try:
        _, said = running.communicate(timeout=60)
    finally:
        running.kill()
    assert (running.returncode, said.strip()) == (130, "")
    found = sorted((tmp_path / "out").iterdir())
    assert 0 < len(found) < MANY
    assert all(path.suffix == ".onnx" for path in found)
    for path in found:
        onnx.checker.check_model(onnx.load(path))
