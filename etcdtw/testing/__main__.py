"""``python -m etcdtw.testing``: run simulated clusters, many seeds or one."""

from __future__ import annotations

import argparse
import sys
import time
from collections import Counter

from etcdtw.testing.world import OPERATIONS_MIN, Report, WorldSettings, run_world
from etcdtw.testing.world_kinds import KINDS, kind_of


def main(arguments: list[str]) -> int:
    """Run what the command line asks for; 1 if a seed failed."""
    parser = argparse.ArgumentParser(prog="python -m etcdtw.testing", description=__doc__)
    parser.add_argument("--seed", type=int, help="run this one seed and show its last events")
    parser.add_argument("--seeds", type=int, default=100, help="how many seeds (default 100)")
    parser.add_argument("--first", type=int, default=0, help="the first seed (default 0)")
    parser.add_argument("--size", type=int, default=0, help="members (default 1, 3 or 5, by seed)")
    parser.add_argument(
        "--seconds",
        type=float,
        default=WorldSettings.fault_seconds,
        help="virtual seconds with faults (default %(default)s)",
    )
    parser.add_argument("--kind", choices=list(KINDS), help="of worlds (default: by seed)")
    parser.add_argument("--lines", type=int, default=60, help="events shown of a single seed")
    chosen = parser.parse_args(arguments)

    def run(seed: int) -> Report:
        parts = KINDS[chosen.kind or kind_of(seed)]
        return run_world(
            seed, WorldSettings(chosen.size, fault_seconds=chosen.seconds, parts=parts)
        )

    if chosen.seed is not None:
        report = run(chosen.seed)
        print("\n".join(report.trace_tail[-chosen.lines :]))
        _print_totals([report])
        print(f"trace digest {report.trace_digest}")
        return _print_failure(report)
    begin = time.monotonic()
    failed = 0
    reports = []
    for seed in range(chosen.first, chosen.first + chosen.seeds):
        report = run(seed)
        failed += _print_failure(report)
        reports.append(report)
    _print_totals(reports)
    speed = 60 * len(reports) / (time.monotonic() - begin)
    counted = sum(each.counts for each in reports)
    print(f"{counted} seeds had {OPERATIONS_MIN} operations, a change of leader and a fault")
    print(f"{len(reports) - failed} of {len(reports)} seeds passed, {speed:.0f} a minute")
    return 1 if failed else 0


def _print_failure(report: Report) -> int:
    if not report.violations:
        return 0
    print(f"seed {report.seed} failed: {report.violations[0]}")
    print(f"  show it again: {report.replay_command}", flush=True)
    return 1


def _print_totals(reports: list[Report]) -> None:
    faults: Counter[str] = Counter()
    requests: Counter[str] = Counter()
    messages: Counter[str] = Counter()
    rare: Counter[str] = Counter()
    for report in reports:
        faults += report.faults
        requests += report.requests
        messages += report.messages
        rare += report.rare
    titled = {"faults": faults, "requests": requests, "messages": messages, "rare paths": rare}
    for title, counts in titled.items():
        print(f"{title}: " + ", ".join(f"{name} {counts[name]}" for name in sorted(counts)))
    entries = sum(each.entries for each in reports)
    seconds = sum(each.virtual_seconds for each in reports)
    print(f"committed entries: {entries}, virtual seconds: {seconds:.0f}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
