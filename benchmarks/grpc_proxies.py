"""``python -m benchmarks.grpc_proxies --rounds 3``: our gRPC proxy beside etcd's, in front of one
member: many equal watches, and calls that are passed on."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from functools import partial

from benchmarks import h2load, report, watching
from benchmarks.h2load import LoadFailed
from benchmarks.samples import Comparison, Sample
from benchmarks.workloads import RANGE, key_of, preload
from etcdtw.pb.rpc_pb2 import RangeRequest
from tests.process.grpc_proxies import GrpcProxyProcess
from tests.process.member import Member, real_etcd, server_under_test
from tests.process.raw_http2 import message

WATCHERS = 1000
STREAMS = (1, 10, 100)
PUTS = 100
ATTEMPTS = 10
SHAPES = ((1, 1), (10, 10))
REQUESTS_PER_LANE = {1: 3_000, 100: 150}


def watches(proxy: GrpcProxyProcess, streams: int) -> Sample:
    """CPU is the proxy's per event of a watch. etcd's proxy ends streams whose watches cannot be
    told within 50 ms: such a round is made again."""
    for _ in range(ATTEMPTS):
        try:
            return watching.run(proxy, streams=streams, watchers=WATCHERS, puts=PUTS)
        except LoadFailed as error:
            print(f"{proxy.argv[0]}: {error}", file=sys.stderr)
    raise LoadFailed(f"no round of {ATTEMPTS} went well")


def ranges(proxy: GrpcProxyProcess, connections: int, streams: int) -> Sample:
    lanes = connections * streams
    return h2load.run(
        proxy,
        RANGE,
        message(RangeRequest(key=key_of(0)).SerializeToString()),
        connections=connections,
        streams=streams,
        requests=lanes * REQUESTS_PER_LANE[lanes],
    )


def compare(
    name: str,
    unit: str,
    more_is_better: bool,
    rounds: int,
    proxies: list[GrpcProxyProcess],
    measure: Callable[[GrpcProxyProcess], Sample],
) -> Comparison:
    result = Comparison(name, unit, more_is_better)
    for _ in range(rounds):
        for proxy, samples in zip(proxies, (result.baseline, result.ours), strict=True):
            samples.append(measure(proxy))
    return result


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.grpc_proxies", description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    member, found, proxies = Member(server_under_test()), [], []
    member.start()
    preload(member, 1)
    try:
        for command in (real_etcd(), server_under_test()):
            proxies.append(GrpcProxyProcess(command, member.endpoint))
            proxies[-1].wait_ready()
        for streams in STREAMS:
            name = f"1 put to {WATCHERS:,} watchers on {streams} streams, through the proxy"
            measure = partial(watches, streams=streams)
            found.append(compare(name, "ms", False, options.rounds, proxies, measure))
        for connections, streams in SHAPES:
            name = f"range through the proxy {connections}x{streams}"
            read = partial(ranges, connections=connections, streams=streams)
            found.append(compare(name, "req/s", True, options.rounds, proxies, read))
    finally:
        for each in proxies:
            each.close()
        member.close()
    print(report.table(found))


if __name__ == "__main__":
    main()
