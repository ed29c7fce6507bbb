"""``python -m tests.documents --server etcdtw --server etcd-3.5.1``: the scoreboard, on stdout.

Further words choose scenarios by name. Progress and reasons go to stderr. It needs root, for the
machines are network namespaces.
"""

from __future__ import annotations

import argparse
import os
import sys
import time

from tests.documents import servers
from tests.documents.case import all_rows, scenarios
from tests.documents.runner import PASSED, play
from tests.documents.scoreboard import merge, table

HEAD = """# Scoreboard

What etcd's clustering guide and its gateway page promise, statement by statement, played letter for
letter on machines with their addresses. Made by

    python -m tests.documents {servers}

The commands and what is expected of them are in `tests/documents/scenarios`; which other tests each
row has is in the [index](reference/rows.md). `n/a`: the row is no question to that server.
"""


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
    catalogue = all_rows()
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
    shown = {name: row for name, row in catalogue.items() if name in found}
    print(HEAD.format(servers=" ".join(f"--server {each}" for each in columns)))
    print(table(shown, columns), end="")


if __name__ == "__main__":
    main()
