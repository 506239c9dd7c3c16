"""What a verification comes to."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any

from onnx_net2net.checking.histogram import Histogram
from onnx_net2net.checking.metrics import Metrics

if TYPE_CHECKING:
    from onnx_net2net.checking.device import Device
    from onnx_net2net.checking.layers import Layers


@dataclass(frozen=True, slots=True)
class OutputVerdict:
    """How one output compares.

    Attributes:
        name: The output.
        max_abs: Largest absolute difference.
        max_rel: max|a - b| / max|a| over the whole output, the worst of all samples.
        tolerance: What ``max_rel`` may be; with rtol or atol given, what the largest excess is held to.
        where: Position of the largest difference, sample first.
        failure: Why the output fails; empty if it passes.
        metrics: Mean error, ULPs, cosine, top-1 agreement; None where the outputs cannot be compared as numbers.
        needed: The tolerance that would have let it pass: the smallest ``rtol``, beside ``atol`` if that is given.
        noises: The rounding that each yardstick showed, as ``max_rel`` of the teacher against itself.
        noise: The largest of them.
        yardstick: Which yardstick showed it; empty if none showed any.
        probes: By probe that counts, the largest difference over the largest value of the output.
        probe: The probe on which it fails, if it does so on one alone.
        histogram: How many elements differ by how much; see `onnx_net2net.checking.histogram`.
    """

    name: str
    max_abs: float
    max_rel: float
    tolerance: float
    where: tuple[int, ...] = ()
    failure: str = ""
    metrics: Metrics | None = None
    needed: float = 0.0
    noises: Mapping[str, float] = field(default_factory=dict)
    noise: float = 0.0
    yardstick: str = ""
    probes: Mapping[str, float] = field(default_factory=dict)
    probe: str = ""
    histogram: Histogram = ()

    def to_dict(self) -> dict[str, Any]:
        """The verdict on the output for JSON; metrics that there are not are null."""
        nothing = dict.fromkeys(Metrics.__dataclass_fields__)
        return {
            "name": self.name,
            "max_abs": self.max_abs,
            "max_rel": self.max_rel,
            **(asdict(self.metrics) if self.metrics else nothing),
            "tolerance": self.tolerance,
            "needed": self.needed,
            "noise": self.noise,
            "yardstick": self.yardstick,
            "where": list(self.where),
            "probes": dict(self.probes),
            "histogram": [{"up_to": end, "elements": n} for end, n in self.histogram],
            **({"failure": self.failure} if self.failure else {}),
        }


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a verification; true when teacher and student are equivalent.

    Attributes:
        outputs: How each output compares.
        failure: Why nothing could be compared.
        samples: How many samples were run, probes apart.
        providers: Where they ran.
        upcast: Whether half types were raised to float32.
        layers: The comparison of all tensors on the way, if it was made.
        device: Where nodes ran, away from the CPU.
        notices: Probes that were left out, with the reason.
    """

    outputs: tuple[OutputVerdict, ...] = ()
    failure: str = ""
    samples: int = 0
    providers: tuple[str, ...] = ()
    upcast: bool = field(default=False)
    layers: Layers | None = None
    device: Device | None = None
    notices: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return not self.failure and bool(self.outputs) and not any(o.failure for o in self.outputs)

    @property
    def reason(self) -> str:
        """Why the verification failed, or an empty string."""
        if not self.failure and not self.outputs:
            return "no outputs were compared"
        return self.failure or next((f"output '{o.name}': {o.failure}" for o in self.outputs if o.failure), "")

    def to_dict(self) -> dict[str, Any]:
        """The verdict for JSON."""
        return {
            "equivalent": bool(self),
            "outputs": [output.to_dict() for output in self.outputs],
            "samples": self.samples,
            "providers": list(self.providers),
            "upcast": self.upcast,
            "notices": list(self.notices),
            "reason": self.reason,
            **({"layers": self.layers.to_dict()} if self.layers else {}),
            **({"device": self.device.to_dict()} if self.device else {}),
        }
