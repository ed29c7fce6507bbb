"""How long other clients wait while a member does something large.

``python -m benchmarks.stall --keys 1000000`` fills a member, has a process of its own ask for
``GET /version`` every millisecond, and prints for each item the longest of those answers, which is
the longest time for which the member's loop did nothing else, and how long the item itself took.
Real etcd answers on other threads; its column shows what the machine adds.
"""

from __future__ import annotations

import argparse
import contextlib
import shlex
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc

from benchmarks.varying import START
from benchmarks.workloads import key_of
from etcdtw.pb.rpc_pb2 import WatchRequest
from tests.process.foreign import ForeignClient
from tests.process.member import Member, etcdctl, real_etcd, server_under_test
from tests.process.raw_http2 import DATA, END_HEADERS, HEADERS, frame, message, request_fields

KEYS_PER_TXN = 100
LARGE = 100_000
LEASES = 10_000
WATCHERS = 10_000
PROBE = """
import socket, sys, time, selectors
sock = socket.create_connection(("127.0.0.1", int(sys.argv[1])))
request = b"GET /version HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n"
longest = 0.0
keys = selectors.DefaultSelector()
keys.register(sys.stdin, selectors.EVENT_READ)
while True:
    begin = time.perf_counter()
    sock.sendall(request)
    if not sock.recv(65536):
        sys.exit("the server closed the probe's connection")
    longest = max(longest, time.perf_counter() - begin)
    if keys.select(0.001):
        if not sys.stdin.readline():
            break
        print(longest, flush=True)
        longest = 0.0
"""


class Probe:
    """Asks all the time; ``longest`` gives the longest answer since the last call, in seconds."""

    def __init__(self, port: int) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", PROBE, str(port)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def longest(self) -> float:
        assert self._process.stdin is not None and self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        return float(self._process.stdout.readline())

    def close(self) -> None:
        self._process.kill()
        self._process.wait()


def fill(client: ForeignClient, keys: int) -> None:
    for first in range(0, keys, KEYS_PER_TXN):
        numbers = range(first, min(first + KEYS_PER_TXN, keys))
        client.call(
            "KV.Txn", success=[{"request_put": {"key": key_of(n), "value": b"v"}} for n in numbers]
        )


def leases_with_keys(client: ForeignClient, leases: int, keys_each: int, ttl: int) -> list[int]:
    """Grant leases and attach keys ``lease/...`` to each."""
    found = []
    number = 0
    for _ in range(leases):
        lease = client.call("Lease.LeaseGrant", TTL=ttl).ID
        found.append(lease)
        for first in range(0, keys_each, KEYS_PER_TXN):
            puts = []
            for _ in range(min(KEYS_PER_TXN, keys_each - first)):
                puts.append(
                    {"request_put": {"key": b"lease/%d" % number, "value": b"v", "lease": lease}}
                )
                number += 1
            client.call("KV.Txn", success=puts)
    return found


def watch_from(member: Member, watchers: int, revision: int) -> None:
    """Open many watches of one key from an old revision on one connection, and read until all of
    them have the event."""
    import socket

    import hpack

    create = message(
        WatchRequest(
            create_request={"key": key_of(0), "start_revision": revision}
        ).SerializeToString()
    )
    creates = create * watchers
    block = hpack.Encoder().encode(request_fields("/etcdserverpb.Watch/Watch"))
    pieces = [frame(DATA, 0, 1, creates[at : at + 16384]) for at in range(0, len(creates), 16384)]
    with socket.create_connection(("127.0.0.1", member.client_port), timeout=60) as sock:
        sock.sendall(START + frame(HEADERS, END_HEADERS, 1, block) + b"".join(pieces))
        received = 0
        # Each watch is told that it was created, and the event: count the key in the events.
        needle, tail = key_of(0), b""
        while received < watchers:
            data = tail + sock.recv(1 << 18)
            received += data.count(needle)
            tail = data[-len(needle) + 1 :]


@contextlib.contextmanager
def watching(member: Member) -> Iterator[None]:
    """Somebody watches all keys."""
    command = [etcdctl(), f"--endpoints={member.endpoint}", "watch", "--prefix", ""]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as watcher:
        time.sleep(1)
        try:
            yield
        finally:
            watcher.kill()


def items(
    member: Member, client: ForeignClient, keys: int
) -> Iterator[tuple[str, Callable[[], object]]]:
    """What is done, in order; setting up happens between the items."""
    everything = {"key": b"\0", "range_end": b"\0"}
    large, next_large = (
        {"key": key_of(min(first, keys)), "range_end": key_of(min(first + LARGE, keys))}
        for first in (0, LARGE)
    )
    yield "nothing", lambda: time.sleep(2)
    yield f"range of {LARGE:,} keys", lambda: client.call("KV.Range", **large)
    yield "the same, keys only", lambda: client.call("KV.Range", keys_only=True, **large)
    yield (
        "the same, sorted by value",
        lambda: client.call("KV.Range", sort_target="VALUE", sort_order="DESCEND", **large),
    )
    yield "count of all keys", lambda: client.call("KV.Range", count_only=True, **everything)
    yield (
        "first 10 of all keys by revision",
        lambda: client.call(
            "KV.Range", limit=10, sort_target="MOD", sort_order="DESCEND", **everything
        ),
    )
    branch = [{"request_range": large}, {"request_range": next_large}]
    yield (
        f"transaction with ranges of {2 * LARGE:,} keys",
        lambda: client.call("KV.Txn", success=branch),
    )
    write = {"request_put": {"key": b"transaction", "value": b"v"}}
    yield "the same, and a put", lambda: client.call("KV.Txn", success=[*branch, write])
    yield "HashKV", lambda: client.call("Maintenance.HashKV")
    yield "Hash", lambda: client.call("Maintenance.Hash")
    yield "defragmentation", lambda: client.call("Maintenance.Defragment")
    yield (
        "snapshot",
        lambda: subprocess.run(
            [etcdctl(), f"--endpoints={member.endpoint}", "snapshot", "save", "/dev/shm/stall.db"],
            check=True,
            capture_output=True,
        ),
    )
    revision = client.call("KV.Put", key=key_of(0), value=b"new").header.revision
    fill(client, min(LARGE, keys))
    yield (
        f"{WATCHERS:,} watchers catching up",
        lambda: watch_from(member, WATCHERS, revision),
    )
    leases = leases_with_keys(client, LEASES, 1, 9000)

    def revoke_all() -> None:
        with ThreadPoolExecutor(50) as pool:
            list(pool.map(lambda lease: client.call("Lease.LeaseRevoke", ID=lease), leases))

    yield f"revoke of {LEASES:,} leases", revoke_all
    (lease,) = leases_with_keys(client, 1, LEASES, 9000)
    yield (
        f"revoke of a lease with {LEASES:,} keys",
        lambda: client.call("Lease.LeaseRevoke", ID=lease),
    )
    leases_with_keys(client, LEASES, 1, 20)
    yield f"{LEASES:,} leases running out", lambda: time.sleep(32)
    newest = client.call("KV.Put", key=b"last", value=b"").header.revision
    yield "compaction", lambda: client.call("KV.Compact", revision=newest, physical=True)
    yield f"deletion of {LARGE:,} keys", lambda: client.call("KV.DeleteRange", **large)
    with watching(member):
        yield (
            "the same with their values, and watched",
            lambda: client.call("KV.DeleteRange", prev_kv=True, **next_large),
        )
    yield "deletion of what is left", lambda: client.call("KV.DeleteRange", **everything)


def measure(command: list[str], keys: int) -> dict[str, tuple[float, float]]:
    """Longest answer and duration of each item, in seconds."""
    found = {}
    member = Member(command, "--quota-backend-bytes=8000000000")
    with contextlib.closing(member):
        member.start()
        client = ForeignClient(member.endpoint, timeout_seconds=120.0)
        fill(client, keys)
        probe = Probe(member.client_port)
        with contextlib.closing(probe), contextlib.closing(client):
            for name, act in items(member, client, keys):
                time.sleep(0.3)
                probe.longest()
                begin = time.monotonic()
                try:
                    act()
                except (TimeoutError, grpc.RpcError) as error:
                    print(f"{name}: given up, {error}", file=sys.stderr)
                took = time.monotonic() - begin
                time.sleep(0.2)
                found[name] = (probe.longest(), took)
                print(f"{name}: {found[name][0] * 1000:.0f} ms", file=sys.stderr)
    return found


def main(arguments: list[str]) -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stall", description=__doc__)
    parser.add_argument("--keys", type=int, default=1_000_000)
    parser.add_argument("--server", type=shlex.split, help="command of the server under test")
    parser.add_argument("--alone", action="store_true", help="leave real etcd out")
    options = parser.parse_args(arguments)
    ours = measure(options.server or server_under_test(), options.keys)
    theirs = {} if options.alone else measure(real_etcd(), options.keys)
    print(f"| with {options.keys:,} keys | longest answer ms etcd / ours | took s etcd / ours |")
    print("| --- | --- | --- |")
    for name, (longest, took) in ours.items():
        other = theirs.get(name)
        lag = f"{other[0] * 1000:.0f} / " if other else ""
        time_taken = f"{other[1]:.2f} / " if other else ""
        print(f"| {name} | {lag}{longest * 1000:.0f} | {time_taken}{took:.2f} |")


if __name__ == "__main__":
    main(sys.argv[1:])
