"""The questions of the experiment, answered by the numbers alone."""

from __future__ import annotations

from collections.abc import Iterator

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
COLUMNS = {"final": "final accuracy", "mean": "mean accuracy over the curve"}


def answers(numbers: Numbers) -> str:
    """Sections of Markdown."""
    return "\n\n".join(
        [
            "## Against the baselines",
            _exact(numbers),
            *(_differences(numbers, STARTS, column) for column in COLUMNS),
            "\n".join(f"- {line}" for line in _speeds(numbers)),
            "## Which split",
            *(_differences(numbers, SPLITS, column) for column in COLUMNS),
            _default(numbers),
            "## The optimizer's state",
            *(_differences(numbers, STATES, column) for column in COLUMNS),
            _state(numbers),
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
        f"At step 0 the accuracy of all students without noise is {same}; noise moves it by up to "
        f"{100 * noisy:.1f} points."
    )


def _differences(numbers: Numbers, pairs: list[tuple[Start, Start]], column: str) -> str:
    """A table of differences in percentage points, seed by seed."""
    names = [f"{network}, {optimizer}" for network, optimizer in numbers.cases]
    lines = [[f"{COLUMNS[column]}, points", *names, "all"], ["---", *["---:"] * (len(names) + 1)]]
    for left, right in pairs:
        cells = [_cell(numbers.difference(case, left, right, column)) for case in numbers.cases]
        lines.append([f"{_name(left)} - {_name(right)}", *cells, _cell(numbers.everywhere(left, right, column))])
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def _name(start: Start) -> str:
    return start[1] if start[1] != "scratch" else f"scratch ({start[0]})"


def _cell(found: Difference) -> str:
    """The mean and half of its interval; bold if the interval does not hold zero."""
    text = f"{found.mean:+.1f} ± {found.half:.1f}"
    return f"**{text}**" if found.clear else text


def _speeds(numbers: Numbers) -> Iterator[str]:
    """Who is there first, counted over seeds."""
    for left, right in STARTS:
        if right == KEPT:
            continue
        for goal, name in (("teacher", "the teacher's best accuracy"), ("scratch", "99% of the best from scratch")):
            first = same = count = 0
            for case in numbers.cases:
                steps = [numbers.values(case, *start, f"{goal}_steps") for start in (left, right)]
                for ours, theirs in zip(*steps, strict=True):
                    first, same, count = first + (ours < theirs), same + (ours == theirs), count + 1
            late = count - first - same
            yield (
                f"{name[0].upper()}{name[1:]}: {_name(left)} is there before {_name(right)} in {first} of {count} "
                f"runs, at the same time (or neither is) in {same}, later in {late}."
            )


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
    return " ".join(told)


def _state(numbers: Numbers) -> str:
    """In how many cases growing the state matters."""
    told = []
    for left, right in STATES:
        for column, title in COLUMNS.items():
            found = [numbers.difference(case, left, right, column).clear for case in numbers.cases]
            better, worse = found.count(1), found.count(-1)
            told.append(
                f"{_name(left)}, {title}: clearly better in {better} of {len(found)} cases, clearly worse in {worse}."
            )
    return "Grown against reset: " + " ".join(told)


def _and(names: list[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
