"""What a put costs a lone member, stage by stage: ``python -m benchmarks.put_stages 100 10``.

The member runs in this process, on its own reactor and disk; its clients are byte strings, handed
to its connections, so that nothing but the member is measured. Prints microseconds of processor
time per put, over batches of one put per stream; the kernel's work for sockets is not in them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from statistics import median
from typing import Any

import h2.connection
from twisted.internet import reactor as installed_reactor
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionDone
from twisted.internet.task import deferLater, react
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure

from etcdtw.app.member import Member
from etcdtw.app.preflight import make_plan
from etcdtw.app.tuning import freeze_loaded, tune_process
from etcdtw.bootstrap.factories import bootstrap_factories
from etcdtw.config.load import member_settings
from etcdtw.pb.rpc_pb2 import PutRequest

BATCHES = 150
WARM_UP = 20
HEADERS = [
    (":method", "POST"),
    (":scheme", "http"),
    (":path", "/etcdserverpb.KV/Put"),
    (":authority", "127.0.0.1"),
    ("content-type", "application/grpc"),
    ("te", "trailers"),
]
reactor: Any = installed_reactor


class Client:
    """Puts one key on each of its streams at a time."""

    def __init__(self, port: Any, number: int, streams: int, varied: bool) -> None:
        self._streams = streams
        self._varied = varied
        self._number = number
        self._count = 0
        self._http2 = h2.connection.H2Connection()
        self._http2.initiate_connection()
        self.transport = StringTransport()
        self._protocol = port.buildProtocol(None)
        self._protocol.makeConnection(self.transport)
        self._protocol.dataReceived(self._http2.data_to_send())

    def requests(self) -> bytes:
        for _ in range(self._streams):
            self._count += 1
            key = b"%d/%d" % (self._number, self._count) if self._varied else b"key"
            message = PutRequest(key=key, value=b"v" * 256).SerializeToString()
            stream = self._http2.get_next_available_stream_id()
            self._http2.send_headers(stream, HEADERS)
            body = b"\0" + len(message).to_bytes(4, "big") + message
            self._http2.send_data(stream, body, end_stream=True)
        return self._http2.data_to_send()

    def send(self, data: bytes) -> None:
        self._protocol.dataReceived(data)

    def close(self) -> None:
        self._protocol.connectionLost(Failure(ConnectionDone()))

    def take_answers(self) -> int:
        events = self._http2.receive_data(self.transport.value())
        self.transport.clear()
        ended = sum(type(each).__name__ == "StreamEnded" for each in events)
        self._protocol.dataReceived(self._http2.data_to_send())
        return ended


class Stages:
    """Seconds of processor time by stage; a stage within another is taken out of it."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inner = [0.0]

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def run(*arguments: Any) -> Any:
            self._inner.append(0.0)
            begin = time.thread_time()
            try:
                return call(*arguments)
            finally:
                took = time.thread_time() - begin
                self.seconds[name] += took - self._inner.pop()
                self._inner[-1] += took

        return run

    def watch(self, owner: Any, method: str, name: str) -> None:
        setattr(owner, method, self.timed(name, getattr(owner, method)))


def send_all(clients: list[Client], requests: list[bytes]) -> None:
    for client, data in zip(clients, requests, strict=True):
        client.send(data)


async def measure(
    member: Member, connections: int, streams: int, varied: bool
) -> dict[str, list[float]]:
    """Microseconds per put by stage, of each batch. Looks behind the member's doors."""
    core, port = member.core, member._client_factory
    assert core is not None and port is not None, "the member is not ready"
    replica = core.replica
    stages = Stages()
    stages.watch(replica.durable, "append", "write to the log")
    stages.watch(replica.durable, "sync", "sync")
    stages.watch(replica._applying, "apply", "apply")
    stages.watch(replica._proposals, "hand_over", "raft")
    stages.watch(replica, "_release", "answer")
    release = port.flusher.release
    stages.watch(port.flusher, "release", "send")
    replica.on_turn_end[:] = [
        port.flusher.release if each == release else each for each in replica.on_turn_end
    ]
    clients = [Client(port, number, streams, varied) for number in range(connections)]
    receive = stages.timed("receive", send_all)
    turn = stages.timed("turn", replica._drive)
    samples: dict[str, list[float]] = defaultdict(list)
    puts = connections * streams
    for batch in range(BATCHES + WARM_UP):
        requests = [client.requests() for client in clients]
        stages.seconds.clear()
        receive(clients, requests)
        answered = 0
        turn()
        while answered < puts:
            answered += sum(client.take_answers() for client in clients)
            await deferLater(reactor, 0, lambda: None)
        if batch >= WARM_UP:
            for name, seconds in stages.seconds.items():
                samples[name].append(seconds / puts * 1e6)
            samples["all"].append(sum(stages.seconds.values()) / puts * 1e6)
    for client in clients:
        client.close()
    return samples


async def run(directory: str, options: argparse.Namespace) -> None:
    settings = member_settings(
        directory,
        name="default",
        data_dir=directory + "/data",
        listen_client_urls=("http://127.0.0.1:0",),
        advertise_client_urls=("http://127.0.0.1:2379",),
        listen_peer_urls=("http://127.0.0.1:0",),
    )
    plan = await make_plan(settings.bootstrap(), bootstrap_factories(), reactor)
    member = Member(settings, reactor, plan)
    ready: Deferred[None] = Deferred()
    member.on_ready.append(lambda: ready.callback(None))
    member.startService()
    await ready
    freeze_loaded()
    samples = await measure(member, options.connections, options.streams, options.varied)
    await member.stopService()
    print(f"{'':18} {'median':>8} {'least':>8}")
    for name, values in samples.items():
        print(f"{name:18} {median(values):8.2f} {min(values):8.2f}")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.put_stages", description=__doc__)
    parser.add_argument("connections", type=int, nargs="?", default=100)
    parser.add_argument("streams", type=int, nargs="?", default=10, help="on each of them")
    parser.add_argument("--varied", action="store_true", help="a new key in every put")
    options = parser.parse_args()
    tune_process()
    with tempfile.TemporaryDirectory() as directory:
        react(lambda _: Deferred.fromCoroutine(run(directory, options)))


if __name__ == "__main__":
    main()
