"""Filler: units of a widened axis that stand for no unit of the teacher, and what they hold. Pure: no ONNX.

An axis under statistics needs equally many copies of every unit. What a width has beyond a whole multiple is filled
up, with units that leave the statistics right but for a factor: powers of ``eta = sqrt(copied units / all units)``.
How an operator treats filler and factors follows from its *form*: a sum of products of powers of its inputs. See
docs/algebra.md, section 7.
"""

from __future__ import annotations

import itertools
import math
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

Content = Literal["copy", "mean", "zero"]
"""What filler may be known to hold: a copy of some unit, the mean over all units, or zero."""
Contents = frozenset[Content]
"""All that is known of some filler; nothing of filler that holds any finite numbers."""
CONTENTS: tuple[Content, ...] = ("copy", "mean", "zero")
COPY: Contents = frozenset({"copy"})
MEAN: Contents = frozenset({"mean"})
_SLOT = re.compile(r"([*/]?)(\d+)(?:\^([\d.]+))?")


@dataclass(frozen=True, slots=True)
class Monomial:
    """A product of powers of inputs, up to a constant factor: (input slot, degree), and its sign."""

    degrees: tuple[tuple[int, float], ...]
    negative: bool = False


Form = tuple[Monomial, ...]


def form(text: str) -> Form:
    """Reads ``"0*1 + 2"``, ``"0 - 1"``, ``"0/1"`` or ``"0^0.5"``: numbers are input slots, ``^`` is a power."""
    monomials = []
    for sign, part in re.findall(r"([+-]?)([^+-]+)", text.replace(" ", "")):
        degrees = [(int(slot), float(power or 1) * (-1 if op == "/" else 1)) for op, slot, power in _SLOT.findall(part)]
        monomials.append(Monomial(tuple(degrees), sign == "-"))
    return tuple(monomials)


def linear_in(shape: Form | None) -> list[tuple[int, ...]]:
    """Sets of input slots in which a form is linear: each monomial has one of them, once."""
    sets = []
    for chosen in itertools.product(*([slot for slot, _ in monomial.degrees] for monomial in shape or ())):
        slots = set(chosen)
        if all([d for slot, d in monomial.degrees if slot in slots] == [1] for monomial in shape or ()):
            sets.append(tuple(sorted(slots)))
    return [slots for slots in dict.fromkeys(sets) if slots]


@dataclass(frozen=True, slots=True)
class Fill:
    """What the filler of an operator's first input may hold under statistics, and what becomes of them.

    Attributes:
        content: What it has to hold.
        power: The first monomial of the output's form gets this power of eta as a factor.
    """

    content: Content
    power: float = 0.0


def routes(
    content: Content, shape: Form | None, vanishing: Sequence[tuple[int, ...]], carried: Collection[int]
) -> list[tuple[int, ...]]:
    """Sets of input slots: if the filler of all slots of one set holds ``content``, so does the output's.

    Args:
        content: What the output's filler is to hold.
        shape: The operator's form, if it has one.
        vanishing: Sets of slots that make the output zero if they are zero.
        carried: The slots that carry the axis.
    """
    every = tuple(sorted(carried))
    if content == "copy" or (content == "mean" and not every):
        return [every]
    if content == "mean":
        known = {slot for monomial in shape or () for slot, _ in monomial.degrees}
        affine = all(_linear([degree for slot, degree in m.degrees if slot in carried]) for m in shape or ())
        return [every] if shape and known.issuperset(every) and affine else []
    sets = [slots for slots in vanishing if slots and set(slots) <= set(carried)]
    if shape:
        factors = [[slot for slot, degree in m.degrees if slot in carried and degree > 0] for m in shape]
        sets += [tuple(sorted(set(choice))) for choice in itertools.product(*factors)]
    return list(dict.fromkeys(sets))


def _linear(degrees: Sequence[float]) -> bool:
    return not degrees or list(degrees) == [1]


def is_difference(shape: Form) -> tuple[int, int] | None:
    """The slots of a and b in the form a - b."""
    if len(shape) == 2 and not shape[0].negative and shape[1].negative:
        (a, *more), (b, *others) = shape[0].degrees, shape[1].degrees
        return None if more or others or a[1] != 1 or b[1] != 1 else (a[0], b[0])
    return None


def is_finite(shape: Form, contents: Mapping[int, Contents]) -> bool:
    """Whether filler stays finite: it may not be divided by, nor have a root taken, unless it is a copy or zero."""
    return all(
        slot not in contents
        or "copy" in contents[slot]
        or (degree > 0 and (degree.is_integer() or "zero" in contents[slot]))
        for monomial in shape
        for slot, degree in monomial.degrees
    )


def balance(
    shape: Form, powers: Mapping[int, float], constants: Collection[int], first: float = 0.0
) -> tuple[float, dict[int, float]] | None:
    """The power of eta of an output, and those that constants have to take on; None if summands disagree.

    Args:
        shape: The operator's form.
        powers: Powers of the inputs; zero where there is none.
        constants: Slots whose values can be scaled.
        first: A further power of the first summand.
    """
    sums = [sum(powers.get(slot, 0.0) * degree for slot, degree in m.degrees) for m in shape]
    sums[0] += first
    takers = [next(((s, d) for s, d in m.degrees if s in constants and d), None) for m in shape]
    fixed = [power for power, taker in zip(sums, takers, strict=True) if taker is None]
    target = fixed[0] if fixed else 0.0
    if any(not math.isclose(power, target, abs_tol=1e-9) for power in fixed):
        return None
    taken = {
        taker[0]: (target - power) / taker[1]
        for power, taker in zip(sums, takers, strict=True)
        if taker is not None and power != target
    }
    return target, taken
