"""Numbers of one round, and how rounds of two servers are compared."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any


@dataclass(frozen=True)
class Sample:
    """One round of one workload on one server.

    ``value`` is what the two servers are compared by: requests per second, seconds or bytes.
    Latencies are in microseconds and absent where a round is a single measurement.
    """

    value: float
    requests: int = 0
    mean_us: float | None = None
    p50_us: float | None = None
    p99_us: float | None = None
    cpu_us_per_request: float | None = None

    @classmethod
    def of_latencies(
        cls, seconds: float, latencies_us: Sequence[float], cpu_seconds: float
    ) -> Sample:
        ordered = sorted(latencies_us)
        count = len(ordered)
        return cls(
            value=count / seconds,
            requests=count,
            mean_us=statistics.fmean(ordered),
            p50_us=ordered[count // 2],
            p99_us=ordered[min(count - 1, count * 99 // 100)],
            cpu_us_per_request=cpu_seconds / count * 1e6,
        )


@dataclass
class Comparison:
    """All rounds of one workload: round by round one sample of each server."""

    workload: str
    unit: str
    more_is_better: bool
    baseline: list[Sample] = field(default_factory=list)
    ours: list[Sample] = field(default_factory=list)

    def ratios(self) -> list[float]:
        """Ours against the baseline, per round; above 1 means that ours is better."""
        pairs = zip(self.baseline, self.ours, strict=True)
        if self.more_is_better:
            return [b.value / a.value for a, b in pairs]
        return [a.value / b.value for a, b in pairs]

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "ratios": self.ratios()}


def median_of(samples: Sequence[Sample], name: str) -> float | None:
    """The median over the rounds of one field, or None where it was not measured."""
    values = [value for sample in samples if (value := getattr(sample, name)) is not None]
    return statistics.median(values) if values else None
