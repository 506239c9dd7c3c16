"""The page docs/mutations.md: what `mutations.py` and `peers.py` found."""

from __future__ import annotations

import math
import os
import platform
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import onnxruntime

from onnx_net2net.checking.runs import PLAIN, SHUFFLED
from onnx_net2net.checking.tolerance import CEILING, FACTOR, FLOOR

if TYPE_CHECKING:
    from benchmarks.mutations import Row

PAGE = Path(__file__).parents[1] / "docs" / "mutations.md"
PEERS = "## Beside other tools\n"
FLOAT = onnx.TensorProto.FLOAT
REAL = ("caught", "under", "inside", "missed")
EPS = float(np.finfo(np.float32).eps)
INTRODUCTION = """\
# Does the check catch lies?

Correct students are damaged in {kinds} ways, and `onnx_net2net.verify` is asked, at its defaults, whether they still
equal their teachers. Undetected mutants are run on 100 other inputs beside the student that they were made of: *equal*
gave the same bits there, so they are no mutants; *below noise* changed outputs by no more than the teacher's own
rounding on these inputs. Of the rest *inside* is what the comparison of all tensors finds (`--per-layer` with the
plan), *under the bar* changed outputs by more than rounding, but on none of the inputs by more than the tolerance,
and *missed* is what shows on other inputs alone. The students are those of {models} networks, wider by a half, some
also with a layer after each activation; correct ones, for false alarms, are wider and deeper, or twice as wide with
each of four splits, of a part of these networks, and random networks.

Made by `python benchmarks/mutations.py` in {minutes:.0f} minutes on {today}: {machine}, Python {python}, onnx {onnx},
onnxruntime {runtime}, CPU.
"""


def page(rows: Sequence[Row], students: Sequence[Row], seconds: float) -> str:
    """The page without what `peers.py` adds."""
    introduction = INTRODUCTION.format(
        kinds=len({row.kind for row in rows}),
        models=len({row.name.split(" #")[0].split(",")[0] for row in rows}),
        minutes=seconds / 60,
        **versions(),
    )
    parts = [introduction, by_kind(rows), undetected(rows), alarms(students), noise(students), bars(rows, students)]
    return "\n".join(parts)


def versions() -> dict[str, str]:
    return {
        "today": date.today().isoformat(),
        "machine": f"{platform.machine()} ({os.cpu_count()} cores, {platform.system()})",
        "python": platform.python_version(),
        "onnx": onnx.__version__,
        "runtime": onnxruntime.__version__,
    }


def table(head: str, rows: Iterable[Sequence[object]]) -> str:
    """A Markdown table; every column but the first is one of numbers."""
    titles = head.split("|")
    lines = [f"| {' | '.join(titles)} |", f"|---|{'---:|' * (len(titles) - 1)}"]
    return "\n".join([*lines, *(f"| {' | '.join(map(str, row))} |" for row in rows)]) + "\n"


def by_kind(rows: Sequence[Row]) -> str:
    counts: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        counts[row.kind][row.fate] += 1
    counts["**all**"] = Counter(row.fate for row in rows)
    lines = []
    for kind, count in counts.items():
        real = sum(count[fate] for fate in REAL)
        rate = f"{count['caught'] / real:.1%}" if real else "-"
        lines.append(
            (
                kind,
                real,
                count["caught"],
                rate,
                *(count[fate] for fate in ("missed", "inside", "under", "noise", "equal")),
            )
        )
    invalid = counts["**all**"]["invalid"]
    text = "A mutant counts if it is neither equal nor below noise."
    if invalid:
        text += f" {invalid} more do not run at all, and are left out."
    head = "kind|mutants|caught|rate|missed|inside|under the bar|below noise|equal"
    return f"## By kind of damage\n\n{text}\n\n{table(head, lines)}"


def undetected(rows: Sequence[Row]) -> str:
    lines = [
        (
            row.name,
            row.kind,
            row.fate,
            f"{row.damage[0]:.1e}",
            f"{row.damage[1]:.1e}",
            f"{max(o[1] for o in row.outputs):.1e}",
        )
        for row in rows
        if row.fate in REAL[1:]
    ]
    if not lines:
        return "## Not caught\n\nNone.\n"
    return f"## Not caught\n\n{table('model|kind|fate|damage|rounding|tolerance', lines)}"


def alarms(students: Sequence[Row]) -> str:
    count = Counter(row.fate for row in students)
    wrong = [f"- {row.name}: {row.reason}" for row in students if row.fate not in ("passed",)]
    ratio = [o[0] / o[1] for row in students for o in row.outputs if o[1]]
    text = (
        f"{len(students)} correct students, {count['alarm']} refused as different, {count['vacuous']} because their "
        f"outputs prove nothing,\nwith all tensors on the way compared by the plan. The largest error was "
        f"{max(ratio):.2f} of its tolerance."
    )
    return "\n".join(["## False alarms\n", text, *(["", *wrong] if wrong else [])]) + "\n"


def noise(students: Sequence[Row]) -> str:
    """How the factor, the floor and the ceiling compare with what rounding does."""
    seen = [o for row in students for o in row.outputs]
    top = max(max(o[2].values(), default=0.0) for o in seen)
    ways: dict[str, Callable[[dict[str, float]], float]] = {
        f"{PLAIN} alone": lambda n: n.get(PLAIN, 0.0),
        f"{SHUFFLED} alone": lambda n: n.get(SHUFFLED, 0.0),
        "the larger of both": lambda n: max(n.values(), default=0.0),
    }
    lines = []
    for way, of in ways.items():
        ratios = sorted(o[0] / max(of(o[2]), EPS) for o in seen)
        lines.append((way, *(f"{ratios[min(len(ratios) - 1, int(p * len(ratios)))]:.2f}" for p in (0.5, 0.9, 0.99, 1))))
    worst = max(o[0] for o in seen)
    text = (
        f"The error of a correct student over the rounding that its teacher shows by itself, which counts as one "
        f"float32\nepsilon ({EPS:.1e}) if it is less. The largest rounding of all was {top:.1e}, the largest error "
        f"{worst:.1e}.\nHence the factor {FACTOR}, the floor {FLOOR[FLOAT]:.0e} ({FLOOR[FLOAT] / EPS:.0f} epsilon) "
        f"and the ceiling {CEILING[FLOAT]:.0e} for float32."
    )
    return f"## Rounding\n\n{text}\n\n{table('yardstick|median|90%|99%|largest', lines)}"


Policy = Callable[[float, dict[str, float]], bool]


def within(factor: float, floor: float, ceiling: float, pick: Callable[[dict[str, float]], float]) -> Policy:
    return lambda error, noises: error <= max(floor, min(factor * pick(noises), ceiling))


def either(noises: dict[str, float]) -> float:
    return max(noises.values(), default=0.0)


POLICIES: dict[str, Policy] = {
    "1e-5 for all": within(0, 1e-5, 1e-5, either),
    "20 times either, from 1e-5 to 1e-2 (before)": within(20, 1e-5, 1e-2, either),
    f"{FACTOR} times graph optimisations": within(FACTOR, FLOOR[FLOAT], CEILING[FLOAT], lambda n: n.get(PLAIN, 0.0)),
    f"{FACTOR} times the permuted teacher, if there is one": within(
        FACTOR, FLOOR[FLOAT], CEILING[FLOAT], lambda n: n.get(SHUFFLED, n.get(PLAIN, 0.0))
    ),
    f"{FACTOR} times either (the default)": within(FACTOR, FLOOR[FLOAT], CEILING[FLOAT], either),
    "5 times either, from 1e-6": within(5, 1e-6, CEILING[FLOAT], either),
    "3 times either, from 5e-7": within(3, 5e-7, CEILING[FLOAT], either),
}


def bars(rows: Sequence[Row], students: Sequence[Row]) -> str:
    """The same mutants and students, held to other bars."""
    real = [row for row in rows if row.fate in REAL and row.outputs]
    correct = [row for row in students if row.outputs and row.fate != "vacuous"]
    lines = []
    for name, passes in POLICIES.items():
        missed = sum(all(passes(o[0], o[2]) for o in row.outputs if not math.isnan(o[0])) for row in real)
        alarm = sum(not all(passes(o[0], o[2]) for o in row.outputs) for row in correct)
        lines.append((name, missed, alarm))
    text = f"{len(real)} mutants and {len(correct)} correct students from above, held to other bars."
    return f"## Other bars\n\n{text}\n\n{table('bar|missed|false alarms', lines)}"


def write(text: str) -> None:
    """Writes the page; what `peers.py` added stays."""
    old = PAGE.read_text(encoding="utf-8") if PAGE.exists() else ""
    peers = PEERS + old.partition(PEERS)[2] if PEERS in old else ""
    PAGE.write_text(f"{text}\n{peers}" if peers else text, encoding="utf-8")


def write_peers(text: str) -> None:
    """Writes the section of `peers.py`."""
    old = PAGE.read_text(encoding="utf-8").partition(PEERS)[0].rstrip() if PAGE.exists() else ""
    PAGE.write_text(f"{old}\n\n{PEERS}\n{text}", encoding="utf-8")
