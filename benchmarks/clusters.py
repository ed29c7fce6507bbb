"""``python -m benchmarks.clusters --rounds 3 --seconds 1``: clusters of three, side by side.

All six run on this machine, and those that are not measured idle. CPU is that of all three members.
"""

from __future__ import annotations

import argparse
import shlex
import tempfile
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import grpc

from benchmarks import report
from benchmarks.samples import Comparison, Sample
from benchmarks.workloads import Unary, key_of, value_of
from etcdtw.pb.rpc_pb2 import PutRequest
from tests.process.cluster import Cluster, until
from tests.process.foreign import ForeignClient
from tests.process.member import Member, real_etcd, server_under_test
from tests.process.secured import Secured

SHAPES = ((1, 1), (10, 10), (100, 10))
CATCH_UP_KEYS = 100_000
LOG_ENTRIES = 4_000
KEYS_PER_TXN = 10  # more entries than either keeps for those who lag
FLAGS = ("--snapshot-count=1000", "--auto-compaction-retention=0")
PATIENCE_SECONDS = 120.0
TRY_SECONDS = 0.1
"""A put that was forwarded to the dead leader is lost, so it is tried again."""


class Side(Cluster):
    """Three members of one command; ``through`` chooses who is asked."""

    def __init__(self, command: list[str], peer_tls: Secured | None) -> None:
        super().__init__(*[command] * 3, flags=FLAGS, peer_tls=peer_tls)
        self.through = 0

    @property
    def endpoint(self) -> str:
        return self.members[self.through].endpoint

    @property
    def client_port(self) -> int:
        return self.members[self.through].client_port

    @property
    def client_tls(self) -> Secured | None:
        return self.members[self.through].client_tls

    def cpu_seconds(self) -> float:
        return sum(each.cpu_seconds() for each in self.members if each.running)

    def write(self, keys: int, per_request: int) -> None:
        """New keys, so many at a time."""
        with closing(ForeignClient(self.endpoint)) as client:
            for first in range(0, keys, per_request):
                puts = [
                    {"request_put": {"key": key_of(n), "value": value_of(n)}}
                    for n in range(first, first + per_request)
                ]
                client.call("KV.Txn", success=puts)


def load(group: str, shape: tuple[int, int], leader: bool) -> Callable[[Side, float], Sample]:
    workload = Unary(group, *shape)
    prepared: set[Side] = set()

    def measure(side: Side, seconds: float) -> Sample:
        leading = side.leader()
        side.through = leading if leader else (leading + 1) % 3
        if side not in prepared:
            prepared.add(side)
            workload.prepare(side)
        return workload.measure(side, seconds)

    return measure


def catch_up(keys: int, per_request: int) -> Callable[[Side, float], Sample]:
    """A follower that missed so many keys: seconds from its start until it has them."""

    def measure(side: Side, seconds: float) -> Sample:
        leading = side.leader()
        side.through = leading
        behind = side.members[(leading + 1) % 3]
        behind.stop()
        side.write(keys, per_request)
        with closing(ForeignClient(side.endpoint)) as client:
            wanted = client.call("KV.Range", key=b"none").header.revision
        begin = time.monotonic()
        behind.launch()
        until(lambda: revision_of(behind) >= wanted, "it has caught up", PATIENCE_SECONDS)
        return Sample(time.monotonic() - begin)

    return measure


def revision_of(member: Member) -> int:
    with closing(ForeignClient(member.endpoint)) as client:
        try:
            found = client.call("KV.Range", key=b"none", serializable=True)
        except grpc.RpcError:
            return 0
        revision: int = found.header.revision
        return revision


def failover(side: Side, seconds: float) -> Sample:
    """From kill -9 of the leader to the first write that another acknowledges."""
    leading = side.leader()
    other = side.members[(leading + 1) % 3]
    with closing(ForeignClient(other.endpoint)) as client:
        client.call("KV.Put", key=b"before", value=b"1")
        lost = side.members[leading]
        lost.kill()
        begin = time.monotonic()

        def written() -> bool:
            try:
                client.send("KV.Put", PutRequest(key=b"after", value=b"1"), seconds=TRY_SECONDS)
            except grpc.RpcError:
                return False
            return True

        until(written, "somebody leads", PATIENCE_SECONDS)
        took = time.monotonic() - begin
    lost.launch()
    side.wait_healthy([lost])
    return Sample(took)


def rows() -> list[tuple[str, str, bool, Callable[[Side, float], Sample]]]:
    """Name, unit, whether more is better, and how it is measured."""
    found = []
    for group in ("put", "range"):
        for through in ("leader", "follower"):
            for shape in SHAPES:
                name = f"{group} through {through} {shape[0]}x{shape[1]}"
                found.append((name, "req/s", True, load(group, shape, through == "leader")))
    found.append(("failover", "s", False, failover))
    found.append(("catch-up by log", "s", False, catch_up(LOG_ENTRIES, 1)))
    found.append(("catch-up by snapshot", "s", False, catch_up(CATCH_UP_KEYS, KEYS_PER_TXN)))
    return found


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.clusters", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1.0, help="length of one round")
    parser.add_argument("--server", type=shlex.split, help="command of the server under test")
    parser.add_argument("--only", default="", help="only rows whose name contains this")
    parser.add_argument("--peer-tls", action="store_true", help="members talk over TLS")
    options = parser.parse_args()
    folder = tempfile.TemporaryDirectory()
    tls = Secured(Path(folder.name)) if options.peer_tls else None
    sides = [Side(real_etcd(), tls), Side(options.server or server_under_test(), tls)]
    found = []
    try:
        for side in sides:
            side.start()
        for name, unit, more_is_better, measure in rows():
            if options.only not in name:
                continue
            comparison = Comparison(name, unit, more_is_better)
            for _ in range(options.rounds):
                for side, samples in zip(
                    sides, (comparison.baseline, comparison.ours), strict=True
                ):
                    samples.append(measure(side, options.seconds))
            found.append(comparison)
            print(report.table([comparison]).splitlines()[-1], flush=True)
    finally:
        for side in sides:
            side.close()
        folder.cleanup()
    print(report.table(found))


if __name__ == "__main__":
    main()
