"""Which tensor of a checkpoint is which constant of the teacher: by name, by value, in another layout.

Never guesses. A tensor that could be several constants which the plan treats differently is refused, and so is
one that cannot be shown to be untouched.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from fnmatch import fnmatchcase
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from onnx_net2net.errors import RequestError
from onnx_net2net.training.folded import find_folded
from onnx_net2net.training.lookup import Found, Index, Place, orders
from onnx_net2net.training.teacher import Match, Part, Teacher

Array = NDArray[Any]
State = Mapping[str, Array]
PREFIXES = ("module.", "model.", "_orig_mod.", "params.", "params/")
KEEP_BATCH_NORM = (
    "export with batch normalisation kept: torch.onnx.export(..., dynamo=True, optimize=False), "
    "or dynamo=False with do_constant_folding=False or training=TrainingMode.PRESERVE"
)
SHOWN = 6


@dataclass(frozen=True, slots=True)
class Matching:
    """How a checkpoint lies in a teacher.

    Attributes:
        teacher: The teacher under its plan.
        matches: A match for each tensor that lies in the teacher's constants.
        kept: Tensors that pass through as they are -> why.
    """

    teacher: Teacher
    matches: dict[str, Match]
    kept: dict[str, str]


def match(
    teacher: Teacher, state: State, *, names: Mapping[str, str] | None = None, keep: Sequence[str] = ()
) -> Matching:
    """Finds each tensor of a checkpoint in the teacher's constants.

    Args:
        teacher: The teacher under its plan.
        state: The checkpoint, or an earlier one that holds the values which were exported.
        names: Checkpoint name -> name of the student's or teacher's initializer, where a choice is needed.
        keep: Globs of tensors that pass through as they are: the caller answers for it.

    Raises:
        RequestError: If a tensor is ambiguous or unknown, or a constant that changes is in no tensor.
    """
    return _Matcher(teacher, state, dict(names or {}), tuple(keep)).run()


class _Matcher:
    def __init__(self, teacher: Teacher, state: State, names: dict[str, str], keep: tuple[str, ...]) -> None:
        self.teacher = teacher
        self.state = state
        self.names = names
        self.keep = keep
        self.matches: dict[str, Match] = {}
        self.kept: dict[str, str] = {}
        self.pending: dict[str, list[Match]] = {}
        self.unknown: list[str] = []

    def run(self) -> Matching:
        """Matches all tensors."""
        self._check_names()
        for tensor, value in self.state.items():
            if any(fnmatchcase(tensor, glob) for glob in self.keep):
                self.kept[tensor] = "kept, as was asked for"
            elif value.size <= 1:
                self.kept[tensor] = "a single number"
            elif (candidates := self._candidates(tensor, value)) or (candidates := self._as_twin(tensor, value)):
                self.pending[tensor] = candidates
            elif self._stays(tensor, value):
                self.kept[tensor] = "all that is made of it stays as it is"
            else:
                self.unknown.append(tensor)
        self._in_blocks()
        self._settle()
        self._folded()
        if self.unknown:
            raise self._unknown()
        self._check_covered()
        ordered = {tensor: self.matches[tensor] for tensor in self.state if tensor in self.matches}
        return Matching(self.teacher, ordered, self.kept)

    def _check_names(self) -> None:
        known = {*self.teacher.versions, *self.teacher.constants}
        for tensor, name in self.names.items():
            if tensor not in self.state or name not in known:
                wrong = "there is no such tensor" if tensor not in self.state else f"there is no constant {name}"
                raise RequestError(
                    wrong, "names goes from checkpoint names to initializers", op="checkpoint", tensor=tensor
                )

    @cached_property
    def named(self) -> dict[str, str]:
        """Checkpoint name -> initializer of the same name; wrappers' prefixes do not count."""
        ours: dict[str, list[str]] = {}
        theirs: dict[str, list[str]] = {}
        for names, into in ((self.teacher.graph.initializers, ours), (self.state, theirs)):
            for name in names:
                into.setdefault(bare(name), []).append(name)
        pairs = {theirs[name][0]: ours[name][0] for name in theirs if len(theirs[name]) == len(ours.get(name, ())) == 1}
        return pairs | {name: name for name in self.state if name in self.teacher.graph.initializers}

    @cached_property
    def by_value(self) -> Index:
        return Index(self.teacher.constants, self.teacher.value)

    @cached_property
    def by_probe(self) -> Index:
        index = Index(self.teacher.derived, self.teacher.probed.value)
        index.open(self.teacher.derived)
        return index

    def _candidates(self, tensor: str, value: Array) -> list[Match]:
        """What a tensor may be, as whole constants."""
        if tensor in self.names:
            return self._as_told(tensor, value)
        if found := self._by_name(tensor, value):
            return found
        places = self.by_value.whole(value)
        return self._matches(tensor, value, Found(0, (value.shape or (1,))[:1], (places,)), BY_VALUE) if places else []

    def _as_told(self, tensor: str, value: Array) -> list[Match]:
        wanted = self.names[tensor]
        constant = self.teacher.versions[wanted].source if wanted in self.teacher.versions else wanted
        target = self.teacher.value(constant)
        fits = list(orders(value.astype(target.dtype), target)) if value.size == target.size else []
        if not fits:
            fits = list(orders(np.zeros(value.shape, np.int8), np.zeros(target.shape, np.int8)))
            if len(fits) != 1:
                wrong = f"its shape {list(value.shape)} does not say how it lies in {constant} {list(target.shape)}"
                raise RequestError(wrong, "give the checkpoint that was exported", op="checkpoint", tensor=tensor)
        places = tuple(Place(constant, (), order) for order in fits)
        found = self._matches(tensor, value, Found(0, value.shape[:1], (places,)), "as told")
        chosen = [m for m in found if m.parts[0].version == wanted]
        return chosen or found

    def _by_name(self, tensor: str, value: Array) -> list[Match]:
        """The constants that come from the initializer of the same name, if its shape agrees."""
        name = self.named.get(tensor)
        if name is None:
            return []
        held = self.teacher.initializer(name)
        if held.shape != value.shape:
            return []
        moved = not np.array_equal(held, value.astype(held.dtype))
        how = "by name" + (", the values have moved on" if moved else "")
        found: list[Match] = []
        if name in self.teacher.constants:
            if moved:
                self._check_orientation(tensor, value, held)
            place = Place(name, (), tuple(range(sum(n != 1 for n in value.shape))))
            found += self._matches(tensor, value, Found(0, value.shape[:1], ((place,),)), how)
        if self._feeds(name):
            probe = self.teacher.probed.value(name)
            there = self.by_probe.find(probe) or _single(value, self.by_probe.within(probe, self.teacher.derived))
            found += self._matches(tensor, value, there, how) if there else []
        return found

    def _as_twin(self, tensor: str, value: Array) -> list[Match]:
        """What a tensor of the same numbers may be by its name: exporters give tied weights one."""
        alike = [name for name in self.named if name not in self.names and np.array_equal(self.state[name], value)]
        if not alike or self._is_plain(tensor, BY_VALUE):
            return []
        found = self._by_name(alike[0], value)
        return [replace(m, tensor=tensor, how=f"tied to {alike[0]}, {m.how}") for m in found]

    def _stays(self, tensor: str, value: Array) -> bool:
        """Whether an initializer of this name reaches nothing that the plan changes."""
        name = self.named.get(tensor)
        if name is None or self.teacher.initializer(name).shape != value.shape:
            return False
        reached = self.teacher.reaches(name)
        return bool(reached) and not any(version for c in reached for version in self.teacher.versions_of(c))

    def _feeds(self, name: str) -> bool:
        graph = self.teacher.graph
        return any(i in graph.constant_nodes for i, _ in graph.consumers.get(name, ()))

    def _check_orientation(self, tensor: str, value: Array, held: Array) -> None:
        """Refuses a named tensor that looks much more like the transposed one."""
        a, b = value.astype(np.float64), held.astype(np.float64)
        if a.ndim < 2 or value.dtype.kind in "iub":
            return
        here = float(np.abs(a - b).sum())
        for order in itertools.permutations(range(a.ndim)):
            if a.transpose(order).shape == b.shape and float(np.abs(a.transpose(order) - b).sum()) < here / 2:
                wrong = f"it has the name of an initializer that holds it with its axes as {list(order)}"
                raise RequestError(wrong, "rename one of them", op="checkpoint", tensor=tensor)

    def _matches(self, tensor: str, value: Array, found: Found, how: str) -> list[Match]:
        """A match for each choice of places and versions."""
        choices: list[list[Part]] = []
        for length, places in zip(found.lengths or (1,), found.places, strict=True):
            every = [(place, version) for place in places for version in self.teacher.versions_of(place.constant)]
            choices.append([Part(p, version, length) for p, version in every if self.teacher.stays(p, version)])
        if math.prod(map(len, choices)) > MOST_CHOICES:
            return []
        result = []
        for parts in itertools.product(*choices):
            layout = _layout(parts)
            result.append(Match(tensor, value.shape, found.axis, parts, how + layout))
        return result

    def _in_blocks(self) -> None:
        """Looks for what is left in blocks of constants that no tensor is as a whole."""
        if not self.unknown:
            return
        whole = {
            p.place.constant for found in self.pending.values() for m in found for p in m.parts if not p.place.runs
        }
        open_ones = [name for name in self.teacher.constants if name not in whole]
        self.by_value.open(open_ones)
        left = []
        for tensor in self.unknown:
            value = self.state[tensor]
            found = self.by_value.find(value) or _single(value, self.by_value.within(value, open_ones))
            candidates = self._matches(tensor, value, found, BY_VALUE) if found else []
            if candidates:
                self.pending[tensor] = candidates
            else:
                left.append(tensor)
        self.unknown = left

    def _settle(self) -> None:
        """Chooses among candidates that the plan treats differently: by module, then by the nodes of siblings."""
        choices: list[Callable[[str, Match], bool]] = [self._own_scope, self._siblings]
        for choice in (None, *choices):
            for tensor, candidates in list(self.pending.items()):
                kept = candidates if choice is None else [m for m in candidates if choice(tensor, m)]
                if not kept or (choice is None and self._is_plain(tensor, kept[0].how)):
                    continue
                self.pending[tensor] = kept
                if self._alike(kept):
                    self.matches[tensor] = kept[0]
                    del self.pending[tensor]
        for tensor, candidates in list(self.pending.items()):
            if self._is_plain(tensor, candidates[0].how) and (self._alike(candidates) or self._normalised()):
                self.unknown.append(tensor)  # zeros or ones that nothing but their value ties to the graph
                continue
            shown = ", ".join(dict.fromkeys(p.version or p.place.constant for m in candidates for p in m.parts))
            raise RequestError(
                f"it may be any of {shown}, which the plan treats differently",
                f"say which: names={{{tensor!r}: ...}}, or --name {tensor}=...",
                op="checkpoint",
                tensor=tensor,
            )

    def _normalised(self) -> bool:
        """Whether statistics are left over, as where an exporter folded normalisations away."""
        return any(name.endswith(STATISTICS) for name in (*self.unknown, *self.pending))

    def _is_plain(self, tensor: str, how: str) -> bool:
        """Whether a tensor was found by its value, and has so few different numbers that this says little."""
        value = self.state[tensor].ravel()
        return how.startswith(BY_VALUE) and len(np.unique(value[:CHECKED].astype(np.float64))) < 3

    def _alike(self, candidates: list[Match]) -> bool:
        """Whether the plan does the same to the tensor, whichever candidate it is."""
        if len(candidates) == 1:
            return True
        probe = np.random.default_rng(0).standard_normal(candidates[0].shape)
        found = set()
        for candidate in candidates:
            made = [self.teacher.image(probe, candidate, power) for power in (None, 1)]
            found.add(tuple((value.shape, value.tobytes()) for value in made))
        return len(found) == 1

    def _nodes(self, candidate: Match) -> set[int]:
        return set().union(*(self.teacher.nodes[(p.place.constant, p.version)] for p in candidate.parts))

    def _own_scope(self, tensor: str, candidate: Match) -> bool:
        path = module_of(bare(tensor))
        return any(path in self.teacher.scopes(i) for i in self._nodes(candidate))

    def _siblings(self, tensor: str, candidate: Match) -> bool:
        """Whether a node reads both the candidate and a settled tensor of the same module."""
        path = module_of(tensor)
        others = [m for name, m in self.matches.items() if module_of(name) == path and name != tensor]
        return any(self._nodes(candidate) & self._nodes(other) for other in others)

    def _folded(self) -> None:
        """Finds layers into which the exporter folded a batch normalisation."""
        for found in find_folded(self.teacher, self.state, self.unknown, self.matches):
            self.matches.update({m.tensor: m for m in found})
        self.unknown = [tensor for tensor in self.unknown if tensor not in self.matches]

    def _unknown(self) -> RequestError:
        shown = [f"{name} {list(self.state[name].shape)}" for name in self.unknown]
        way_out = "give the checkpoint that was exported, or keep=... (--keep) what the model does not use"
        if self._normalised():
            way_out = KEEP_BATCH_NORM
        return RequestError(f"the model holds no {listed(shown)}", way_out, op="checkpoint")

    def _check_covered(self) -> None:
        """Makes sure that each constant that changes comes from the checkpoint."""
        covered: dict[str, dict[Any, int]] = {}
        for found in self.matches.values():
            pieces = math.prod(found.shape) // max(1, sum(p.length for p in found.parts))
            for part in found.parts:
                covered.setdefault(part.version, {})[part.place.runs] = pieces * part.length
        missing = []
        for name, constant in self.teacher.versions.items():
            value = self.teacher.value(constant.source)
            uniform = value.size == 0 or (value == value.ravel()[0]).all()
            free = uniform and (not constant.splits or not value.any())
            if not free and sum(covered.get(name, {}).values()) < value.size:
                missing.append(f"{name} {list(value.shape)}")
        if missing:
            raise RequestError(
                f"no tensor of it holds {listed(missing)}, which the plan changes",
                "give the checkpoint that was exported, or say which it is with names=... (--name)",
                op="checkpoint",
            )


STATISTICS = ("running_mean", "moving_mean")
BY_VALUE = "by value"
CHECKED = 1 << 16
"""Numbers of a tensor that are looked at to see how many differ."""
MOST_CHOICES = 256
"""Combinations of places for one tensor beyond which it counts as unknown."""


def _single(value: Array, places: tuple[Place, ...]) -> Found | None:
    """A tensor that lies whole in any of some places."""
    return Found(0, (value.shape or (1,))[:1], (places,)) if places else None


def bare(name: str) -> str:
    """A name without the prefixes of wrappers, with dots between its parts."""
    while prefix := next((p for p in PREFIXES if name.startswith(p)), ""):
        name = name[len(prefix) :]
    return name.replace("/", ".")


def module_of(name: str) -> str:
    """The module that a tensor belongs to."""
    return name.replace("/", ".").rpartition(".")[0]


def listed(items: Iterable[str]) -> str:
    """A few items, and how many more there are."""
    every = list(items)
    rest = f" and {len(every) - SHOWN} more" if len(every) > SHOWN else ""
    return ", ".join(every[:SHOWN]) + rest


def _layout(parts: Sequence[Part]) -> str:
    """How the layout differs, for people."""
    turned = any(list(p.place.order) != sorted(p.place.order) for p in parts)
    cut_out = any(p.place.runs for p in parts)
    notes = ["transposed"] * turned + ["a part of it"] * (cut_out and len(parts) == 1)
    notes += [f"in {len(parts)} pieces"] * (len(parts) > 1)
    return "".join(f", {note}" for note in notes)
