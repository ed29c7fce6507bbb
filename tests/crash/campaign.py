"""``python -m tests.crash.campaign --points N --seed S``: kill a member N times, each time at a
random operation of its disk or in the middle of a commit of its keyspace, and compare what the next
start finds with what was answered."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import tempfile
from collections import Counter
from copy import deepcopy
from random import Random
from typing import Any

from tests.crash.forking import in_child
from tests.crash.life import live

LIVES_PER_DIRECTORY = 40
NEW = {"revision": 1, "keys": {}, "leases": []}
RANGES = (8, 40, 150, 600)

State = dict[str, Any]


class Lost(Exception):
    """What a start found is nothing that the answers before allow."""


def applied(state: State, request: list[Any]) -> bool:
    """Carry out a request on a state; False if it is refused."""
    kind, *rest = request
    keys, leases = state["keys"], state["leases"]
    if kind == "put":
        key, value, lease = rest
        if lease and lease not in leases:
            return False
        keys[key] = [value, lease]
        state["revision"] += 1
    elif kind == "delete":
        key, end = rest
        gone = [each for each in keys if (key <= each < end if end else each == key)]
        for each in gone:
            del keys[each]
        state["revision"] += bool(gone)
    elif kind == "grant":
        if rest[0] in leases:
            return False
        state["leases"] = sorted([*leases, rest[0]])
    elif kind == "revoke":
        if rest[0] not in leases:
            return False
        leases.remove(rest[0])
        gone = [key for key, (_, lease) in keys.items() if lease == rest[0]]
        for each in gone:
            del keys[each]
        state["revision"] += bool(gone)
    return True


class Ledger:
    """What a member may show: the state that the answers so far made, then one for each request
    that was not answered, in their order."""

    def __init__(self) -> None:
        self.states: list[State] = [deepcopy(NEW)]
        self.allowed: list[bool] = []
        self.answers = 0

    def take(self, line: list[Any]) -> None:
        what, *rest = line
        if what == "found":
            if rest[0] not in self.states:
                raise Lost(f"found {rest[0]}, allowed were {self.states}")
            self.states = [rest[0]]
            self.allowed = []
        elif what == "asks":
            after = deepcopy(self.states[-1])
            self.allowed.append(applied(after, rest[0]))
            self.states.append(after)
        elif what == "answered":
            self.answers += 1
            # A compaction may be refused for reasons that this model does not keep.
            expected = self.allowed.pop(0)
            if rest[0] and not expected:
                raise Lost(f"a request was answered that had to be refused after {self.states[0]}")
            del self.states[0]
        else:
            raise Lost(rest[0])


def run(points: int, seed: int, directory: str) -> Counter[str]:
    """Kill so many times; Lost if anything was. The counts of what happened."""
    dice = Random(seed)
    counts: Counter[str] = Counter()
    ledger = Ledger()
    path = os.path.join(directory, "data")
    for point in range(points):
        if point % LIVES_PER_DIRECTORY == 0:
            shutil.rmtree(path, ignore_errors=True)
            ledger = Ledger()
        at = 1 + dice.randrange(dice.choice(RANGES))
        lines = one_life(path, f"{seed}/{point}", at)
        before = ledger.answers
        try:
            for line in lines:
                ledger.take(line)
        except Lost as lost:
            raise Lost(f"seed {seed}, point {point}: {lost}") from lost
        counts["killed"] += 1
        counts["killed while starting"] += not lines
        counts["requests answered"] += ledger.answers - before
        counts["answers under way when killed"] += len(ledger.states) > 1
    return counts


def one_life(path: str, seed: str, at: int) -> list[list[Any]]:
    """What the member said from its start to its death."""
    reading, writing = os.pipe()

    def lived() -> None:
        os.close(reading)
        live(path, seed, at, writing)

    child = in_child(lived)
    os.close(writing)
    with os.fdopen(reading, "rb") as said:
        lines = [json.loads(line) for line in said]
    _, status = os.waitpid(child, 0)
    failed = [line for line in lines if line[0] == "failed"]
    if not failed and os.waitstatus_to_exitcode(status) != -signal.SIGKILL:
        raise Lost(f"seed {seed}: the child ended with status {status}")
    return lines


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.crash.campaign", description=__doc__)
    parser.add_argument("--points", type=int, default=300)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="crash-") as directory:
        print(json.dumps(run(options.points, options.seed, directory)))


if __name__ == "__main__":
    main()
