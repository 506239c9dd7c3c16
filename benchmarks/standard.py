"""Judges the inference by the ONNX standard's own test cases, prints a report and writes docs/standard.md.

Usage: python benchmarks/standard.py
"""

from __future__ import annotations

import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import onnx
import onnxruntime
from onnx.backend.test.loader import load_model_tests

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from tests.standard import KINDS, Outcome, cases, judge  # noqa: E402

INTRODUCTION = """\
# The standard's own test cases

ONNX ships test cases for its operators: small models with data. They know nothing of this package, so they judge its
rules from outside. Each case is put between two layers, so that the graph's borders do not pin its axes: *producers*
in front of the inputs that have two dimensions or more, and *consumers* behind the outputs. In one setting they
multiply along every axis at once, in another they are 1x1 convolutions. Each floating point input is tried alone with
all other inputs constant, then with the others fed, then all of them with producers, then the integers too, and once
with all dimensions but the channels dynamic. Inputs are random signed numbers, or the case's own where those give
NaN, Inf or an error. Then every free axis is widened, alone and with all others, by unequal and by equal copies;
teacher and student run in onnxruntime, and the outputs and the tensors right behind the case are compared.

A case counts as *widened* if, in some setting, an axis that runs through the case was widened and all students agreed
with their teachers; as *pinned* if no such axis was free; as *wrong* if any student differed from its teacher or did
not run. Cases newer than onnxruntime are run at the newest opset that it knows. Cases that deal in strings, sequences
or large tensors, or have no input of two dimensions, are not tried.
"""


def main() -> int:
    names = list(cases())
    with ProcessPoolExecutor() as pool:
        outcomes = dict(zip(names, pool.map(one, names, chunksize=16), strict=True))
    text = "\n".join([INTRODUCTION, *report(outcomes)]) + "\n"
    print(text)
    (ROOT / "docs" / "standard.md").write_text(text, encoding="utf-8", newline="\n")
    return int(any(outcome.state in ("wrong", "crash", "error") for outcome in outcomes.values()))


def one(name: str) -> Outcome:
    return judge(cases()[name])


def report(outcomes: dict[str, Outcome]) -> Iterator[str]:
    states = Counter(outcome.state for outcome in outcomes.values())
    print(dict(states), file=sys.stderr)
    yield f"Measured with onnx {onnx.__version__} and onnxruntime {onnxruntime.__version__} on the CPU.\n"
    yield "| cases | |\n|---|---:|"
    yield f"| shipped with onnx | {sum(len(load_model_tests(kind=kind)) for kind in KINDS)} |"
    yield f"| tried | {len(outcomes)} |"
    yield f"| widened | {states['widened']} |"
    yield f"| pinned | {states['pinned']} |"
    yield f"| not runnable in onnxruntime | {states['skipped']} |"
    yield f"| wrong | {states['wrong']} |"
    yield f"| crashed | {states['crash']} |"
    yield f"| refused with an error | {states['error']} |"
    yield f"| students compared | {sum(outcome.students for outcome in outcomes.values()):,} |"
    for state in ("wrong", "crash", "error"):
        bad = [outcome for outcome in outcomes.values() if outcome.state == state]
        if bad:
            yield f"\n## Cases that are {state}\n"
            yield from (f"- {' '.join(outcome.notes[0].split())[:400]}" for outcome in bad)
    yield "\n## Operators\n"
    yield "Cases by the operator that they test; those with `_expanded` in their name spell it out in simpler ones."
    yield "The reason is the one that keeps most of its pinned cases from being widened.\n"
    yield "| operator | tried | widened | pinned | not runnable | bad | why pinned |"
    yield "|---|---:|---:|---:|---:|---:|---|"
    for op in sorted({cases()[name].op for name in outcomes}, key=str.lower):
        yield row(op, [outcome for name, outcome in outcomes.items() if cases()[name].op == op])
    yield "\n## Not runnable\n"
    yield "| cases | what onnxruntime says |\n|---:|---|"
    yield from (f"| {n} | {why} |" for why, n in reasons(outcomes.values()).most_common())


def row(op: str, outcomes: list[Outcome]) -> str:
    states = Counter(outcome.state for outcome in outcomes)
    pins = Counter(pin for outcome in outcomes if outcome.state == "pinned" for pin in outcome.pins)
    bad = states["wrong"] + states["crash"] + states["error"]
    why = "{}: {}".format(*pins.most_common(1)[0][0]) if pins else ""
    counts = (len(outcomes), states["widened"], states["pinned"], states["skipped"], bad)
    return f"| {op} | {' | '.join(map(str, counts))} | {cell(why)} |"


def reasons(outcomes: Iterable[Outcome]) -> Counter[str]:
    skipped = [outcome for outcome in outcomes if outcome.state == "skipped"]
    return Counter(cell(brief(outcome.notes[0].partition("): ")[2])) for outcome in skipped)


def brief(text: str) -> str:
    """What onnxruntime says, without names and places."""
    known = r"No Op registered for \w+|Unrecognized attribute: \w+|Could not find an implementation for \w+|Type Error"
    if match := re.search(f"{known}|[\\w.:]+ is not a registered function|(?<=Status Message: ).*", text):
        text = match[0].rpartition(" onnxruntime::")[0] or match[0]
    line = text.strip().splitlines()[0].rpartition(" : ")[2]
    return re.sub(r"/\S+|'[^']*'|\([^)]*\)|\d+", "..", line)[:90]


def cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.exit(main())
