"""``etcdctl snapshot save`` of a large store while puts go on at a steady rate.

``python -m benchmarks.saving --gib 2`` fills a member, has 10 connections put 5,000 times a second
for a while without a snapshot and then during one, and prints the latencies of the puts, how long
the snapshot took, the longest time for which the member's loop did nothing else (its heartbeat is
100 ms), and the most memory that the member and its child processes took meanwhile. Real etcd
comes after it.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import shlex
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

from benchmarks.samples import Sample
from benchmarks.stall import Probe
from benchmarks.workloads import key_of
from etcdtw.pb.rpc_pb2 import PutRequest
from tests.process.foreign import ForeignClient
from tests.process.member import Member, etcdctl, real_etcd, server_under_test
from tests.process.raw_http2 import message

VALUE_BYTES = 4096
KEYS_PER_TXN = 100
CONNECTIONS = 10
RATE = 5000
MIB = 1 << 20


class SteadyPuts:
    """``RATE`` puts a second for a while, by h2load, from the moment of creation."""

    def __init__(self, member: Member, seconds: float) -> None:
        self._folder = tempfile.TemporaryDirectory()
        body = Path(self._folder.name, "body")
        self._log = Path(self._folder.name, "log")
        body.write_bytes(message(PutRequest(key=b"steady", value=bytes(256)).SerializeToString()))
        self._process = subprocess.Popen(
            [
                "h2load",
                f"--clients={CONNECTIONS}",
                "--max-concurrent-streams=10",
                f"--rps={RATE // CONNECTIONS}",
                f"--requests={int(RATE * seconds)}",
                "--header=content-type: application/grpc",
                "--header=te: trailers",
                f"--data={body}",
                f"--log-file={self._log}",
                f"http://{member.endpoint}/etcdserverpb.KV/Put",
            ],
            stdout=subprocess.DEVNULL,
        )

    def result(self) -> str:
        """Wait for the last answer; what they were."""
        self._process.wait()
        rows = [line.split("\t") for line in self._log.read_text().splitlines()]
        self._folder.cleanup()
        begins = [int(begin) for begin, _, _ in rows]
        latencies = [int(duration) for _, _, duration in rows]
        found = Sample.of_latencies((max(begins) - min(begins)) / 1e6, latencies, 0.0)
        assert found.p50_us is not None and found.p99_us is not None
        return (
            f"{found.value:.0f} puts/s, p50 {found.p50_us / 1000:.1f} ms, p99 "
            f"{found.p99_us / 1000:.1f} ms, longest {max(latencies) / 1000:.0f} ms"
        )


class MemoryWatch:
    """The most memory that a process and its children take together; pages that the kernel can
    give back at any time, those of files, are left out."""

    def __init__(self, pid: int) -> None:
        self.most_mib = self.own_mib = 0.0
        self._pid = pid
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self._thread.start()

    def _watch(self) -> None:
        while not self._done.wait(0.05):
            own = _anonymous_mib(self._pid)
            self.own_mib = max(self.own_mib, own)
            self.most_mib = max(self.most_mib, own + sum(map(_anonymous_mib, _children(self._pid))))

    def close(self) -> None:
        self._done.set()
        self._thread.join()


def _children(pid: int) -> list[int]:
    with contextlib.suppress(OSError):
        return [
            int(child)
            for task in os.listdir(f"/proc/{pid}/task")
            for child in Path(f"/proc/{pid}/task/{task}/children").read_text().split()
        ]
    return []


def _anonymous_mib(pid: int) -> float:
    with contextlib.suppress(OSError):
        for line in Path(f"/proc/{pid}/status").read_text().splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) / 1024
    return 0.0


def fill(client: ForeignClient, gib: float) -> None:
    number = 0
    for _ in range(int(gib * (1 << 30) / VALUE_BYTES / KEYS_PER_TXN)):
        puts = []
        for _ in range(KEYS_PER_TXN):
            number += 1
            value = number.to_bytes(8, "big") * (VALUE_BYTES // 8)
            puts.append({"request_put": {"key": key_of(number), "value": value}})
        client.call("KV.Txn", success=puts)


def measure(command: list[str], gib: float, seconds: float, folder: str) -> None:
    member = Member(command, "--quota-backend-bytes=16000000000", "--snapshot-count=10000")
    with contextlib.closing(member):
        member.start()
        with contextlib.closing(ForeignClient(member.endpoint, timeout_seconds=120.0)) as client:
            begin = time.monotonic()
            fill(client, gib)
            print(f"  filled in {time.monotonic() - begin:.0f} s", flush=True)
        time.sleep(3)
        print(f"  without a snapshot: {SteadyPuts(member, seconds).result()}", flush=True)
        with (
            contextlib.closing(Probe(member.client_port)) as probe,
            contextlib.closing(MemoryWatch(member.pid)) as memory,
        ):
            time.sleep(0.5)
            before = memory.own_mib
            puts = SteadyPuts(member, seconds)
            time.sleep(1)
            probe.longest()
            begin = time.monotonic()
            saved = os.path.join(folder, "saved.db")
            subprocess.run(
                [etcdctl(), f"--endpoints={member.endpoint}", "snapshot", "save", saved],
                check=True,
                capture_output=True,
            )
            took = time.monotonic() - begin
            longest = probe.longest()
            load = puts.result()
        print(f"  during one: {load}")
        print(
            f"  snapshot of {os.path.getsize(saved) / MIB:.0f} MiB in {took:.1f} s; longest "
            f"answer {longest * 1000:.0f} ms; memory {before:.0f} MiB before, at most "
            f"{memory.own_mib:.0f} of the member, {memory.most_mib:.0f} with children",
            flush=True,
        )
        os.remove(saved)


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.saving", description=__doc__)
    parser.add_argument("--gib", type=float, default=2.0)
    parser.add_argument("--seconds", type=float, default=30.0, help="of puts, about")
    parser.add_argument("--server", type=shlex.split, help="command of the server under test")
    parser.add_argument("--alone", action="store_true", help="leave real etcd out")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as folder:
        for name, command in (("ours", options.server or server_under_test()), ("etcd", None)):
            if command is None:
                if options.alone:
                    continue
                command = real_etcd()
            print(name)
            measure(command, options.gib, options.seconds, folder)


if __name__ == "__main__":
    main(sys.argv[1:])
