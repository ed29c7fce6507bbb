"""``python -m tests.documents --server etcdtw --server etcd-3.5.1``: the scoreboard, on stdout.

Further words choose scenarios by name. Progress and reasons go to stderr.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

from tests.documents import servers
from tests.documents.case import rows, scenarios
from tests.documents.runner import PASSED, play
from tests.documents.scoreboard import merge, table


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.documents", description=__doc__)
    parser.add_argument(
        "--server",
        action="append",
        choices=[*servers.SERVERS, servers.MIXED],
        help="may be given several times; by default all three",
    )
    parser.add_argument("scenario", nargs="*", help="only these")
    words = parser.parse_args()
    os.umask(0o022)
    catalogue = rows()
    columns = {}
    for server in words.server or list(servers.SERVERS):
        outcomes = []
        for scenario in scenarios():
            if words.scenario and scenario.name not in words.scenario:
                continue
            begin = time.monotonic()
            outcomes.append(play(scenario, server, catalogue))
            took = time.monotonic() - begin
            print(f"{server} {scenario.name}: {took:.1f} s", file=sys.stderr)
            for row, outcome in outcomes[-1].items():
                if outcome.verdict != PASSED:
                    print(f"  {row} {outcome.verdict}: {outcome.reason}", file=sys.stderr)
        columns[server] = merge(outcomes)
    found = {row for column in columns.values() for row in column}
    shown = catalogue if not words.scenario else {k: v for k, v in catalogue.items() if k in found}
    print(table(shown, columns))


if __name__ == "__main__":
    main()
