"""A markdown table for people and a JSON document for comparison over time."""

from __future__ import annotations

import os
import platform
import statistics
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.samples import Comparison, Sample, median_of

COLUMNS = (
    "workload",
    "unit",
    "etcd",
    "ours",
    "ratio",
    "spread",
    "etcd mean / p50 / p99 ms",
    "ours mean / p50 / p99 ms",
    "CPU µs per request etcd / ours",
)


def table(comparisons: list[Comparison]) -> str:
    """One row per workload: medians of the rounds; a ratio above 1 means that ours is better."""
    rows = [COLUMNS, tuple("---" for _ in COLUMNS), *(_row(each) for each in comparisons)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _row(comparison: Comparison) -> tuple[str, ...]:
    ratios = comparison.ratios()
    cpu = [
        median_of(samples, "cpu_us_per_request")
        for samples in (comparison.baseline, comparison.ours)
    ]
    return (
        comparison.workload,
        comparison.unit,
        _number(median_of(comparison.baseline, "value")),
        _number(median_of(comparison.ours, "value")),
        f"{statistics.median(ratios):.2f}",
        f"{min(ratios):.2f}–{max(ratios):.2f}",
        _latencies(comparison.baseline),
        _latencies(comparison.ours),
        " / ".join(map(_number, cpu)),
    )


def _latencies(samples: list[Sample]) -> str:
    values = [median_of(samples, name) for name in ("mean_us", "p50_us", "p99_us")]
    return " / ".join("–" if value is None else f"{value / 1000:.2f}" for value in values)


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def document(comparisons: list[Comparison], **settings: Any) -> dict[str, Any]:
    """Everything that was measured, with commit and machine."""
    return {
        "commit": _commit(),
        "machine": {
            "cpu": _cpu_model(),
            "cores": os.cpu_count(),
            "kernel": platform.release(),
            "python": platform.python_version(),
            "implementation": sys.implementation.name,
        },
        "settings": settings,
        "comparisons": [each.as_json() for each in comparisons],
    }


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=40"],
        cwd=Path(__file__).parent,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout.strip() or "unknown"


def _cpu_model() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()
