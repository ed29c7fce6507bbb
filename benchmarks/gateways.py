"""``python -m benchmarks.gateways --rounds 3``: our gateway beside etcd's, in front of one member.

Small reads tell what a hop costs, a stream of bytes what much of it costs.
"""

from __future__ import annotations

import argparse
import os
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial

from benchmarks import h2load, report
from benchmarks.samples import Comparison, Sample
from benchmarks.workloads import RANGE, key_of, preload
from etcdtw.pb.rpc_pb2 import RangeRequest
from tests.process.member import Member, free_ports, real_etcd, server_under_test
from tests.process.raw_http2 import message

SHAPES = ((1, 1), (10, 10), (100, 1), (100, 10))
REQUESTS_PER_LANE = {1: 8_000, 100: 400, 1_000: 80}
STREAM_BYTES = 2 << 30
READY_SECONDS = 2.0


class Through:
    """A gateway, as a load generator sees it."""

    client_tls = None

    def __init__(self, command: Sequence[str], target: str) -> None:
        (self.client_port,) = free_ports(1)
        self.endpoint = f"127.0.0.1:{self.client_port}"
        self.process = subprocess.Popen(
            [*command, "gateway", "start", f"--endpoints={target}",
             f"--listen-addr={self.endpoint}"],
            stderr=subprocess.DEVNULL,
        )  # fmt: skip
        time.sleep(READY_SECONDS)

    def cpu_seconds(self) -> float:
        with open(f"/proc/{self.process.pid}/stat", encoding="ascii") as file:
            fields = file.read().rpartition(")")[2].split()
        return sum(map(int, fields[11:13])) / os.sysconf("SC_CLK_TCK")

    def close(self) -> None:
        self.process.kill()
        self.process.wait()


def small_reads(gateway: Through, connections: int, streams: int) -> Sample:
    lanes = connections * streams
    return h2load.run(
        gateway,
        RANGE,
        message(RangeRequest(key=key_of(0)).SerializeToString()),
        connections=connections,
        streams=streams,
        requests=lanes * REQUESTS_PER_LANE[lanes],
    )


def stream(gateway: Through) -> Sample:
    """Gigabytes per second; CPU is per gigabyte, in microseconds."""
    cpu, begin, received = gateway.cpu_seconds(), time.monotonic(), 0
    buffer = bytearray(1 << 20)
    with socket.create_connection(("127.0.0.1", gateway.client_port)) as caller:
        while count := caller.recv_into(buffer):
            received += count
    gigabytes = received / 1e9
    per_gigabyte = (gateway.cpu_seconds() - cpu) / gigabytes * 1e6
    return Sample(gigabytes / (time.monotonic() - begin), cpu_us_per_request=per_gigabyte)


def serve_bytes() -> socket.socket:
    """A listener that sends everybody the same many bytes."""
    listener = socket.create_server(("127.0.0.1", 0))

    def send(connection: socket.socket) -> None:
        chunk = bytes(1 << 20)
        with connection:
            for _ in range(STREAM_BYTES // len(chunk)):
                connection.sendall(chunk)

    def accept() -> None:
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=send, args=(connection,), daemon=True).start()

    threading.Thread(target=accept, daemon=True).start()
    return listener


def compare(
    name: str,
    unit: str,
    rounds: int,
    gateways: list[Through],
    measure: Callable[[Through], Sample],
) -> Comparison:
    result = Comparison(name, unit, True)
    for _ in range(rounds):
        for gateway, samples in zip(gateways, (result.baseline, result.ours), strict=True):
            samples.append(measure(gateway))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gateways", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    member, found = Member(server_under_test()), []
    commands = [real_etcd(), server_under_test()]
    member.start()
    preload(member, 1)
    gateways = [Through(each, member.endpoint) for each in commands]
    listener = serve_bytes()
    streams = [Through(each, f"127.0.0.1:{listener.getsockname()[1]}") for each in commands]
    try:
        for shape in SHAPES:
            name = f"range through the gateway {shape[0]}x{shape[1]}"
            measure = partial(small_reads, connections=shape[0], streams=shape[1])
            found.append(compare(name, "req/s", options.rounds, gateways, measure))
        found.append(compare("2 GiB through the gateway", "GB/s", options.rounds, streams, stream))
    finally:
        for each in (*gateways, *streams):
            each.close()
        listener.close()
        member.close()
    print(report.table(found))


if __name__ == "__main__":
    main()
