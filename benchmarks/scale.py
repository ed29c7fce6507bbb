"""What many of something cost: ``python -m benchmarks.scale [item …] [--alone]``.

Idle connections, streams on one connection, watchers and leases, each on a fresh member of ours
and of real etcd: resident memory per each, how long it took, and whether all of them are served.
"""

from __future__ import annotations

import argparse
import contextlib
import socket
import subprocess
import time
from collections.abc import Callable
from typing import NamedTuple

import hpack

from benchmarks import h2load
from benchmarks.varying import START, frames_of
from etcdtw.pb.rpc_pb2 import LeaseGrantRequest, LeaseLeasesRequest, WatchRequest, WatchResponse
from tests.process.foreign import ForeignClient
from tests.process.member import Member, real_etcd, server_under_test
from tests.process.raw_http2 import (
    ACK,
    DATA,
    END_HEADERS,
    GOAWAY,
    HEADERS,
    PING,
    frame,
    message,
    request_fields,
)

CONNECTIONS = 10_000
STREAMS = 1_000
WATCHERS = 100_000
LEASES = 1_000_000
SECONDS_MAX = 300.0
_WATCH = "/etcdserverpb.Watch/Watch"


class Outcome(NamedTuple):
    """How many there were, whether those were all and served, and the member's memory meanwhile."""

    number: int
    served: bool
    resident: int


class Connection:
    """One HTTP/2 connection that counts messages."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection(("127.0.0.1", port), timeout=SECONDS_MAX)
        self.socket.sendall(START)
        self._frames = b""
        self._rest: dict[int, bytes] = {}
        self.answered = False

    def receive(self) -> list[bytes]:
        """The messages of one read."""
        octets = self.socket.recv(1 << 20)
        assert octets, "the server closed the connection"
        found, self._frames = frames_of(self._frames + octets)
        messages = []
        for kind, flags, stream, payload in found:
            assert kind != GOAWAY, f"the server goes away: {payload!r}"
            if kind == PING and flags & ACK:
                self.answered = True
            elif kind == PING:
                self.socket.sendall(frame(PING, ACK, 0, payload))
            elif kind == DATA:
                data = self._rest.pop(stream, b"") + payload
                at = 0
                while len(data) >= at + 5:
                    end = at + 5 + int.from_bytes(data[at + 1 : at + 5], "big")
                    if end > len(data):
                        break
                    messages.append(data[at + 5 : end])
                    at = end
                if data[at:]:
                    self._rest[stream] = data[at:]
        return messages

    def pong(self) -> None:
        """Wait for the answer to a ping: the connection is served."""
        while not self.answered:
            self.receive()

    def until(self, count: int) -> list[bytes]:
        found: list[bytes] = []
        while len(found) < count:
            found += self.receive()
        return found


def idle_connections(member: Member, client: ForeignClient) -> Outcome:
    """HTTP/2 connections without a call."""
    held = [Connection(member.client_port) for _ in range(CONNECTIONS)]
    for each in held:
        each.socket.sendall(frame(PING, 0, 0, b"are you?"))
    for each in held:
        each.pong()
    alive = client.call("KV.Put", key=b"k", value=b"v").header.revision > 1
    resident = member.resident_bytes()
    for each in held:
        each.socket.close()
    return Outcome(CONNECTIONS, alive, resident)


def streams(member: Member, client: ForeignClient) -> Outcome:
    """Watch streams on one connection, all told of one put."""
    connection = Connection(member.client_port)
    encoder = hpack.Encoder()
    create = message(WatchRequest(create_request={"key": b"k"}).SerializeToString())
    for number in range(STREAMS):
        stream = 2 * number + 1
        block = encoder.encode(request_fields(_WATCH))
        connection.socket.sendall(
            frame(HEADERS, END_HEADERS, stream, block) + frame(DATA, 0, stream, create)
        )
    connection.until(STREAMS)
    client.call("KV.Put", key=b"k", value=b"v")
    events = connection.until(STREAMS)
    resident = member.resident_bytes()
    served = all(WatchResponse.FromString(each).events for each in events)
    connection.socket.close()
    return Outcome(STREAMS, served and len(events) == STREAMS, resident)


def watchers(member: Member, client: ForeignClient) -> Outcome:
    """Watchers of as many keys on one stream; a sample of them is told of a put."""
    connection = Connection(member.client_port)
    block = hpack.Encoder().encode(request_fields(_WATCH))
    connection.socket.sendall(frame(HEADERS, END_HEADERS, 1, block))
    created = 0
    for first in range(0, WATCHERS, 200):
        creates = b"".join(
            message(WatchRequest(create_request={"key": b"key/%08d" % n}).SerializeToString())
            for n in range(first, first + 200)
        )
        connection.socket.sendall(frame(DATA, 0, 1, creates))
        created += len(connection.until(200))
    for number in range(0, WATCHERS, WATCHERS // 100):
        client.call("KV.Put", key=b"key/%08d" % number, value=b"v")
    events = connection.until(100)
    resident = member.resident_bytes()
    connection.socket.close()
    served = all(WatchResponse.FromString(each).events for each in events)
    return Outcome(created, served, resident)


def leases(member: Member, client: ForeignClient) -> Outcome:
    """Leases that live long."""
    body = message(LeaseGrantRequest(TTL=100_000).SerializeToString())
    # Real etcd does not get through in time: then those count that it has.
    with contextlib.suppress(subprocess.TimeoutExpired):
        h2load.run(
            member,
            "/etcdserverpb.Lease/LeaseGrant",
            body,
            connections=10,
            streams=10,
            requests=LEASES,
        )
    resident = member.resident_bytes()
    listed = client.send("Lease.LeaseLeases", LeaseLeasesRequest(), seconds=60)
    return Outcome(len(listed.leases), len(listed.leases) == LEASES, resident)


ITEMS: dict[str, Callable[[Member, ForeignClient], Outcome]] = {
    "connections": idle_connections,
    "streams": streams,
    "watchers": watchers,
    "leases": leases,
}


def measure(command: list[str], item: str) -> str:
    member = Member(command)
    with contextlib.closing(member):
        member.start()
        with contextlib.closing(ForeignClient(member.endpoint)) as client:
            client.call("KV.Range", key=b"k")
            before = member.resident_bytes()
            begin = time.monotonic()
            found = ITEMS[item](member, client)
            seconds = time.monotonic() - begin
    each = (found.resident - before) / found.number
    word = "all served" if found.served else "NOT all served"
    return f"{found.number:,} in {seconds:.1f} s, {each:,.0f} B each, {word}"


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scale", description=__doc__)
    parser.add_argument("items", nargs="*", metavar="item", help=", ".join(ITEMS))
    parser.add_argument("--alone", action="store_true", help="without real etcd")
    options = parser.parse_args()
    for item in options.items or ITEMS:
        print(f"{item}\n  ours: {measure(server_under_test(), item)}", flush=True)
        if not options.alone:
            print(f"  etcd: {measure(real_etcd(), item)}", flush=True)


if __name__ == "__main__":
    main()
