"""``python -m etcdtw.testing``: run simulated clusters, many seeds or one."""

from __future__ import annotations

import argparse
import sys
from collections import Counter

from etcdtw.testing.cluster import MemberParts
from etcdtw.testing.cluster_etcd import ETCD_PARTS
from etcdtw.testing.world import Report, WorldSettings, run_world


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
    parser.add_argument("--etcd", action="store_true", help="keys and leases instead of v2 keys")
    parser.add_argument("--lines", type=int, default=60, help="events shown of a single seed")
    chosen = parser.parse_args(arguments)
    parts = ETCD_PARTS if chosen.etcd else MemberParts()
    settings = WorldSettings(size=chosen.size, fault_seconds=chosen.seconds, parts=parts)
    if chosen.seed is not None:
        report = run_world(chosen.seed, settings)
        print("\n".join(report.trace_tail[-chosen.lines :]))
        _print_totals([report])
        print(f"trace digest {report.trace_digest}")
        return _print_failure(report)
    failed = 0
    reports = []
    for seed in range(chosen.first, chosen.first + chosen.seeds):
        report = run_world(seed, settings)
        failed += _print_failure(report)
        reports.append(report)
    _print_totals(reports)
    print(f"{len(reports) - failed} of {len(reports)} seeds passed")
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
    for report in reports:
        faults += report.faults
        requests += report.requests
        messages += report.messages
    for title, counts in (("faults", faults), ("requests", requests), ("messages", messages)):
        print(f"{title}: " + ", ".join(f"{name} {counts[name]}" for name in sorted(counts)))
    entries = sum(each.entries for each in reports)
    seconds = sum(each.virtual_seconds for each in reports)
    print(f"committed entries: {entries}, virtual seconds: {seconds:.0f}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
