"""The experiment's pipeline, with a few steps: a teacher, and a student by every method; and the page."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

torch = pytest.importorskip("torch", reason="needs the extra experiment")
for needed in ("matplotlib", "onnxscript", "sklearn"):
    pytest.importorskip(needed, reason="needs the extra experiment")

from benchmarks.experiment import page  # noqa: E402
from benchmarks.experiment.networks import NETWORKS  # noqa: E402
from benchmarks.experiment.numbers import interval  # noqa: E402
from benchmarks.experiment.runs import Settings, run  # noqa: E402

ROOT = Path(__file__).parents[1]
FEW = Settings(seeds=(0,), teacher_steps=dict.fromkeys(NETWORKS, 30), steps=dict.fromkeys(NETWORKS, 25))
EXACT = ("teacher trained on", "uneven", "scatter", "first", "uneven, state reset", "identity", "identity, state reset")


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.mark.parametrize(("network", "optimizer"), [("cnn", "adam"), ("inception", "sgd")])
def test_every_method_trains(network: str, optimizer: str) -> None:
    rates = {(network, method.change, method.name, name): 0.3 for method in FEW.methods for name in ("sgd", "adam")}
    jobs = dataclasses.replace(FEW, networks=(network,)).jobs(rates)
    (job,) = (job for job in jobs if job.optimizer == optimizer)
    teacher, *students = run(job)
    assert [student.method for student in students] == [method.title for method in FEW.methods]
    for student in students:
        if student.method in EXACT:  # the way there and back changes nothing; a tie may fall the other way
            assert student.curve.accuracy[0] == pytest.approx(teacher.curve.accuracy[-1], abs=0.003), student.key
        assert student.parameters > teacher.parameters or student.change == "none"
        assert student.curve.steps == [0, 25]
    assert sum(len(set(student.curve.accuracy)) > 1 for student in students) > len(students) / 2
    for change in ("wide", "deep"):
        assert len({student.parameters for student in students if student.change == change}) == 1
    again = run(dataclasses.replace(job, students=job.students[:2]))
    assert [one.curve.accuracy for one in again] == [one.curve.accuracy for one in (teacher, *students[:2])]


def test_rates_are_tried_on_other_seeds() -> None:
    settings = Settings()
    assert not set(settings.seeds) & set(settings.tuning)
    assert len(settings.seeds) >= 5
    tried = {(job.network, job.optimizer): {method for method, _ in job.students} for job in settings.jobs()}
    assert len(tried) == 4
    assert {len(methods) for methods in tried.values()} == {sum(not method.fresh for method in settings.methods)}


def test_an_interval_is_clear_where_it_does_not_hold_zero() -> None:
    found = interval([1.0, 2.0, 3.0])
    assert found.mean == pytest.approx(2.0)
    assert found.half == pytest.approx(4.302653 / 3**0.5)  # Student's t, two degrees of freedom
    assert found.clear == 0
    assert interval([2.0, 2.1, 2.2]).clear == 1
    assert interval([-2.0, -2.1, -2.2]).clear == -1


def test_the_page_says_what_the_numbers_say() -> None:
    assert page.text(ROOT / "benchmarks" / "results") == (ROOT / "docs" / "experiment.md").read_text(encoding="utf-8")
