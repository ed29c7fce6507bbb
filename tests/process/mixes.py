"""``python -m tests.process.mixes --writes 10000``: clusters of ours and real members under load,
each member killed once; and a real cluster that is replaced by ours and back.

Real 3.5.1 members are stopped in order: killed under load they can lose consistency by themselves
(etcd issue 13766). All others are killed.
"""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any

import grpc

from tests.process.cluster import Cluster, until
from tests.process.histories import PAUSE_SECONDS, RecordedLoad
from tests.process.member import Member, old_etcd, real_etcd, server_under_test

KINDS: dict[str, Callable[[], list[str]]] = {
    "ours": server_under_test,
    "3.5.1": real_etcd,
    "3.4": old_etcd,
}
MIXES = (
    ("ours", "ours", "ours"),
    ("ours", "ours", "3.5.1"),
    ("ours", "3.5.1", "3.5.1"),
    ("ours", "ours", "3.4"),
    ("ours", "3.4", "3.4"),
)
BETWEEN_KILLS_SECONDS = 1.0


class Failed(Exception):
    """What a cluster did that it must not."""


def kill_each(cluster: Cluster, kinds: Sequence[str]) -> None:
    """One after the other, the leader first, each back and healthy before the next."""
    first = cluster.leader()
    for step in range(len(kinds)):
        number = (first + step) % len(kinds)
        member = cluster.members[number]
        if kinds[number] == "3.5.1":
            member.stop()
        else:
            member.kill()
        time.sleep(BETWEEN_KILLS_SECONDS)
        member.launch()
        cluster.wait_healthy([member])
        time.sleep(BETWEEN_KILLS_SECONDS)


def under_load(
    commands: Sequence[list[str]],
    writes: int,
    pause_seconds: float,
    work: Callable[[Cluster, RecordedLoad], None],
) -> str:
    """Do something to a cluster while clients write; Failed where something is lost, differs or
    contradicts, a summary otherwise."""
    cluster = Cluster(*commands)
    try:
        cluster.start()
        endpoints = [each.endpoint for each in cluster.members]
        load = RecordedLoad(endpoints, writes, pause_seconds=pause_seconds)
        load.start()
        try:
            work(cluster, load)
            load.finish()
        finally:
            load.stop()
        return judged(cluster, load)
    finally:
        cluster.close()


def run_mix(kinds: Sequence[str], writes: int, pause_seconds: float = PAUSE_SECONDS) -> str:
    """Members of these kinds, each killed once."""
    commands = [KINDS[kind]() for kind in kinds]
    return under_load(commands, writes, pause_seconds, lambda cluster, _: kill_each(cluster, kinds))


def judged(cluster: Cluster, load: RecordedLoad) -> str:
    hashes = cluster.hashes()
    if len(set(hashes)) != 1:
        raise Failed(f"members differ: {hashes}")
    contradictions = load.contradictions()
    if contradictions:
        raise Failed(contradictions[0])
    return f"{load.acknowledged} writes, {load.errors} unanswered, revision {hashes[0][0]}"


def replace_all(kind: str, by: str, writes: int, pause_seconds: float = PAUSE_SECONDS) -> str:
    """Three members of one kind, each replaced by one of the other."""

    def work(cluster: Cluster, load: RecordedLoad) -> None:
        for number in range(3):
            replace_one(cluster, load, number, KINDS[by]())

    return under_load([KINDS[kind]()] * 3, writes, pause_seconds, work)


def replace_one(cluster: Cluster, load: RecordedLoad, number: int, command: list[str]) -> None:
    """Remove a member, add another, start it (the order that keeps the majority)."""
    old = cluster.members[number]
    asked = (number + 1) % 3
    with cluster.client(number) as client:
        identity = client.call("Maintenance.Status").header.member_id
    load.endpoints.remove(old.endpoint)
    change(cluster, asked, "Cluster.MemberRemove", ID=identity)
    until(lambda: not old.running, "the removed member has ended", 60)
    old.close()
    new = Member(command)
    cluster.members[number] = new
    change(cluster, asked, "Cluster.MemberAdd", peerURLs=[new.peer_url])
    listed = ",".join(f"m{n}={each.peer_url}" for n, each in enumerate(cluster.members))
    new.add_flags(
        f"--name=m{number}", f"--initial-cluster={listed}", "--initial-cluster-state=existing"
    )
    new.launch()
    cluster.wait_healthy([new])
    load.endpoints.append(new.endpoint)


def change(cluster: Cluster, asked: int, rpc: str, **request: Any) -> None:
    """Until it is taken: the members must have been connected for a while."""

    def taken() -> bool:
        with cluster.client(asked) as client:
            try:
                client.call(rpc, **request)
            except grpc.RpcError as error:
                # An earlier try was taken, and its answer lost.
                said = str(error.details())
                return "already exists" in said or "member not found" in said
        return True

    until(taken, rpc, 60)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.process.mixes", description=__doc__)
    parser.add_argument("--writes", type=int, default=10_000, help="per cluster")
    parser.add_argument("--only", default="", help="only runs whose name contains this")
    options = parser.parse_args()
    runs: list[tuple[str, Callable[[], str]]] = [
        (" + ".join(mix), lambda mix=mix: run_mix(mix, options.writes))  # type: ignore[misc]
        for mix in MIXES
    ]
    runs += [
        (f"{old} replaced by {new}", lambda old=old, new=new: replace_all(old, new, options.writes))  # type: ignore[misc]
        for old, new in (("3.5.1", "ours"), ("ours", "3.5.1"))
    ]
    failed = 0
    for name, run in runs:
        if options.only not in name:
            continue
        begin = time.monotonic()
        try:
            outcome = run()
        except (Failed, AssertionError) as error:
            failed += 1
            outcome = f"FAILED: {error}"
        print(f"{name}: {outcome} ({time.monotonic() - begin:.0f} s)", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
