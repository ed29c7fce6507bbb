"""``python -m benchmarks put range start rss --rounds 5 --seconds 3``.

Both servers run on this machine and take turns, round by round. The server under test comes from
``--server`` or ``ETCDTW_SERVER``, the baseline is real etcd 3.5.1 unless ``--baseline`` names
another command.
"""

from __future__ import annotations

import argparse
import json
import shlex
import shutil
import sys
import tempfile
import time
from pathlib import Path

from benchmarks import report
from benchmarks.samples import Comparison
from benchmarks.workloads import (
    GROUPS,
    ONLY_FOR_OLD,
    ONLY_OVER_TLS,
    PRELOADED_KEYS,
    Workload,
    workloads,
)
from tests.process.member import Member, real_etcd, server_under_test
from tests.process.secured import Secured


def compare(
    workload: Workload,
    commands: list[list[str]],
    rounds: int,
    seconds: float,
    tls: Secured | None = None,
) -> Comparison:
    """Alternate rounds on two fresh members, the baseline first."""
    result = Comparison(workload.name, workload.unit, workload.more_is_better)
    members = [Member(command, client_tls=tls, authenticated=False) for command in commands]
    try:
        for member in members:
            if workload.needs_running_member:
                member.start()
            workload.prepare(member)
        for _ in range(min(rounds, workload.rounds_max)):
            for member, samples in zip(members, (result.baseline, result.ours), strict=True):
                samples.append(workload.measure(member, seconds))
    finally:
        for member in members:
            member.close()
    return result


def parsed(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    known = ", ".join((*GROUPS, *ONLY_OVER_TLS, *ONLY_FOR_OLD))
    parser.add_argument("groups", nargs="*", metavar="group", help=known)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of one round")
    parser.add_argument("--server", type=shlex.split, help="command of the server under test")
    parser.add_argument("--baseline", type=shlex.split, help="command to compare with")
    parser.add_argument("--only", default="", help="only workloads whose name contains this")
    parser.add_argument("--check-load", default="s", choices=("s", "m", "l", "xl"))
    parser.add_argument("--start-keys", type=int, default=PRELOADED_KEYS)
    parser.add_argument("--tls", action="store_true", help="clients call over TLS")
    parser.add_argument("--json", type=Path, help="write the result there")
    options = parser.parse_args(arguments)
    unknown = set(options.groups) - {*GROUPS, *ONLY_OVER_TLS, *ONLY_FOR_OLD}
    if unknown:
        parser.error(f"no such group: {', '.join(sorted(unknown))}")
    if shutil.which("h2load") is None:
        parser.error("h2load is not here: it comes with nghttp2 (Debian: nghttp2-client)")
    return options


def main(arguments: list[str]) -> None:
    options = parsed(arguments)
    commands = [options.baseline or real_etcd(), options.server or server_under_test()]
    comparisons: list[Comparison] = []
    folder = tempfile.TemporaryDirectory()
    tls = Secured(Path(folder.name)) if options.tls else None
    if options.tls:
        every: tuple[str, ...] = ("put", "range", *ONLY_OVER_TLS)
    else:
        every = tuple(each for each in GROUPS if each not in ONLY_OVER_TLS)
    for group in options.groups or every:
        rows = workloads(group, check_load=options.check_load, start_keys=options.start_keys)
        for workload in rows:
            if options.only not in workload.name or (options.tls and ", all" in workload.name):
                continue  # the load with different requests does not speak TLS
            begin = time.monotonic()
            comparisons.append(compare(workload, commands, options.rounds, options.seconds, tls))
            print(f"{workload.name}: {time.monotonic() - begin:.0f} s", file=sys.stderr)
    folder.cleanup()
    print(report.table(comparisons))
    if options.json:
        settings = {"rounds": options.rounds, "seconds": options.seconds, "commands": commands}
        options.json.write_text(json.dumps(report.document(comparisons, **settings), indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
