"""The questions of the experiment, answered by the numbers alone."""

from __future__ import annotations

import statistics

from benchmarks.experiment.numbers import Difference, Numbers

Start = tuple[str, str]
"""A change and a method."""
WIDE, DEEP, KEPT = ("wide", "uneven"), ("deep", "identity"), ("none", "teacher trained on")
STARTS: list[tuple[Start, Start]] = [
    (WIDE, ("wide", "scratch")),
    (WIDE, ("wide", "random-pad")),
    (WIDE, KEPT),
    (DEEP, ("deep", "scratch")),
    (DEEP, ("deep", "random")),
    (DEEP, KEPT),
]
SPLITS: list[tuple[Start, Start]] = [(("wide", name), WIDE) for name in ("even + noise", "scatter", "first")]
STATES: list[tuple[Start, Start]] = [(start, (start[0], f"{start[1]}, state reset")) for start in (WIDE, DEEP)]
TEACHER = ("none", "teacher")
GOALS = {"teacher": "the teacher's best accuracy", "scratch": "99% of the best from scratch"}
CLAIMS: list[tuple[str, Start, Start, str]] = [
    ("wider: learns faster than from scratch", WIDE, ("wide", "scratch"), "mean"),
    ("wider: ends higher than from scratch", WIDE, ("wide", "scratch"), "final"),
    ("wider: learns faster than random padding", WIDE, ("wide", "random-pad"), "mean"),
    ("wider: ends higher than random padding", WIDE, ("wide", "random-pad"), "final"),
    ("wider: ends higher than the teacher trained on", WIDE, KEPT, "final"),
    ("deeper: learns faster than from scratch", DEEP, ("deep", "scratch"), "mean"),
    ("deeper: ends higher than from scratch", DEEP, ("deep", "scratch"), "final"),
    ("deeper: learns faster than random layers", DEEP, ("deep", "random"), "mean"),
    ("deeper: ends higher than random layers", DEEP, ("deep", "random"), "final"),
    ("deeper: ends higher than the teacher trained on", DEEP, KEPT, "final"),
    ("wider: state grown ends higher than state reset", *STATES[0], "final"),
    ("wider: state grown learns faster than state reset", *STATES[0], "mean"),
    ("deeper: state grown ends higher than state reset", *STATES[1], "final"),
    ("deeper: state grown learns faster than state reset", *STATES[1], "mean"),
]
VERDICTS = {1: "held", 0: "cannot be told", -1: "did not hold: the opposite"}
PARTLY = "held overall, not in most cases"
COLUMNS = {"final": "final accuracy", "mean": "mean accuracy over the curve"}


def answers(numbers: Numbers) -> str:
    """Sections of Markdown."""
    return "\n\n".join(
        [
            "## What held and what did not",
            _exact(numbers),
            _claims(numbers),
            "## Against the baselines",
            *(_differences(numbers, STARTS, column) for column in COLUMNS),
            "How often it is there first:",
            _speeds(numbers),
            _cost(numbers),
            "## Which split",
            *(_differences(numbers, SPLITS, column) for column in COLUMNS),
            _default(numbers),
            _other_rates(numbers),
            "## The optimizer's state",
            *(_differences(numbers, STATES, column) for column in COLUMNS),
        ]
    )


def _exact(numbers: Numbers) -> str:
    """How far step 0 is from the teacher."""
    off = noisy = 0.0
    for case in numbers.cases:
        teacher = numbers.values(case, *KEPT, "step0")
        for change, method in (WIDE, DEEP, *(left for left, _ in SPLITS)):
            found = max(abs(a - b) for a, b in zip(teacher, numbers.values(case, change, method, "step0"), strict=True))
            if "noise" in method:
                noisy = max(noisy, found)
            else:
                off = max(off, found)
    same = "exactly their teacher's" if off == 0 else f"their teacher's to within {100 * off:.2f} points"
    return (
        f"At step 0 the accuracy of all students without noise is {same}; noise moves it by up to\n"
        f"{100 * noisy:.1f} points."
    )


def _differences(numbers: Numbers, pairs: list[tuple[Start, Start]], column: str) -> str:
    """A table of differences in percentage points, seed by seed."""
    names = [f"{network}, {optimizer}" for network, optimizer in numbers.cases]
    lines = [[f"{COLUMNS[column]}, points", *names, "all"], ["---", *["---:"] * (len(names) + 1)]]
    for left, right in pairs:
        cells = [_cell(numbers.difference(case, left, right, column)) for case in numbers.cases]
        lines.append([f"{_name(left)} - {_name(right)}", *cells, _cell(numbers.everywhere(left, right, column))])
    return _table(lines)


def _name(start: Start) -> str:
    return start[1] if start[1] != "scratch" else f"scratch ({start[0]})"


def _cell(found: Difference) -> str:
    """The mean and half of its interval; bold if the interval does not hold zero."""
    text = f"{found.mean:+.1f} ± {found.half:.1f}"
    return f"**{text}**" if found.clear else text


def _speeds(numbers: Numbers) -> str:
    """Who is there first, counted over networks, optimizers and seeds."""
    lines = [["", *(f"{goal}: before, level, after" for goal in GOALS.values())], ["---", "---:", "---:"]]
    for left, right in (pair for pair in STARTS if pair[1] != KEPT):
        cells = [
            _first(_every(numbers, left, f"{goal}_steps"), _every(numbers, right, f"{goal}_steps")) for goal in GOALS
        ]
        lines.append([f"{_name(left)} against {_name(right)}, steps", *cells])
    for left in (WIDE, DEEP):
        cells = []
        for goal in GOALS:
            theirs = _every(numbers, (left[0], "scratch"), f"{goal}_seconds")
            cells.append(_first(_whole(numbers, left, goal), theirs))
        lines.append([f"the same with the teacher's training, against scratch ({left[0]}), seconds", *cells])
    return _table(lines)


def _every(numbers: Numbers, start: Start, column: str) -> list[float]:
    return [value for case in numbers.cases for value in numbers.values(case, *start, column)]


def _first(ours: list[float], theirs: list[float]) -> str:
    """In how many runs the first is before, level with and after the second."""
    pairs = list(zip(ours, theirs, strict=True))
    before, after = sum(a < b for a, b in pairs), sum(a > b for a, b in pairs)
    return f"{before}, {len(pairs) - before - after}, {after}"


def _whole(numbers: Numbers, start: Start, goal: str) -> list[float]:
    """Seconds to a goal with all that came before: the teacher's training and the expansion."""
    parts = ((TEACHER, "seconds"), (start, "expansion_seconds"), (start, f"{goal}_seconds"))
    return [sum(each) for each in zip(*(_every(numbers, *part) for part in parts), strict=True)]


def _cost(numbers: Numbers) -> str:
    """What expansion takes, and what becomes of it all if the teacher has to be trained first."""
    made = [statistics.median(_every(numbers, start, "expansion_seconds")) for start in (WIDE, DEEP)]
    firsts = []
    for start in (WIDE, DEEP):
        pairs = list(
            zip(
                _whole(numbers, start, "scratch"),
                _every(numbers, (start[0], "scratch"), "scratch_seconds"),
                strict=True,
            )
        )
        firsts.append(f"{sum(a < b for a, b in pairs)} of {len(pairs)} ({start[0]})")
    return (
        f"Planning, verification and the way back took {made[0]:.2f} s (wide) and {made[1]:.2f} s (deep) in the "
        f"median,\nthe export left out. If the teacher has to be trained for it first, the student is at 99% of the "
        f"best from\nscratch before scratch is in {' and '.join(firsts)} runs."
    )


def _other_rates(numbers: Numbers) -> str:
    """Where a split was compared with another at another rate."""
    found = []
    for left, right in SPLITS:
        for case in numbers.cases:
            ours, theirs = (numbers.of(case, *start)[0]["rate"] for start in (left, right))
            if ours != theirs:
                found.append(f"{left[1]} in {', '.join(case)} ({float(ours):g} against {float(theirs):g})")
    if not found:
        return "All splits were given the same rates."
    return f"Rates differ from that of uneven, so that these compare rates too: {'; '.join(found)}."


def _claims(numbers: Numbers) -> str:
    """What held and what did not, over all networks and optimizers."""
    lines = [["claim", "", "points", "clearly so", "clearly not"], ["---", "---", "---:", "---:", "---:"]]
    for claim, left, right, column in CLAIMS:
        found = numbers.everywhere(left, right, column)
        cases = [numbers.difference(case, left, right, column).clear for case in numbers.cases]
        of = f"of {len(cases)}"
        counts = [f"{cases.count(1)} {of}", f"{cases.count(-1)} {of}"]
        verdict = PARTLY if found.clear == 1 and 2 * cases.count(1) < len(cases) else VERDICTS[found.clear]
        lines.append([claim, verdict, f"{found.mean:+.1f} ± {found.half:.1f}", *counts])
    return _table(lines)


def _table(lines: list[list[str]]) -> str:
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _default(numbers: Numbers) -> str:
    """Whether another split than the default is better."""
    told = []
    for column, title in COLUMNS.items():
        clear: dict[int, list[str]] = {1: [], -1: [], 0: []}
        for left, right in SPLITS:
            clear[numbers.everywhere(left, right, column).clear].append(left[1])
        words = {1: "clearly better than", -1: "clearly worse than", 0: "not to be told from"}
        parts = [
            f"{_and(names)} {'is' if len(names) == 1 else 'are'} {words[way]} uneven"
            for way, names in clear.items()
            if names
        ]
        told.append(f"By {title}, over all networks and optimizers, {'; '.join(parts)}.")
    return "\n\n".join(told)


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
