"""What a replica has seen so far, for metrics."""

from __future__ import annotations

from dataclasses import dataclass, field

from etcdtw.counting import Histogram, doubling


def _lag() -> Histogram:
    return Histogram(doubling(0.001, 13))


@dataclass(slots=True)
class ReplicaCounts:
    """``lag_seconds`` is how late ticks came: what anything else on this reactor had to wait."""

    leader_changes: int = 0
    failed_proposals: int = 0
    failed_reads: int = 0
    late_heartbeats: int = 0
    lag_seconds: Histogram = field(default_factory=_lag)
