"""Shared watches against single ones: whatever happens, each client sees what it would alone."""

from __future__ import annotations

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.pb.kv_pb2 import Event
from etcdtw.pb.rpc_pb2 import WatchCreateRequest, WatchResponse
from etcdtw.proxy.grpc.broadcast import Interest, Watcher
from etcdtw.proxy.grpc.delivery import Delivery
from etcdtw.proxy.grpc.watches import WatchCoalescer
from tests.proxy_grpc.member import Log, MemberStream, is_watched

KEYS = (b"a", b"b")
INTERESTS = (
    Interest(b"a", b"", (), False),
    Interest(b"a", b"c", (WatchCreateRequest.NODELETE,), False),
)


def found(*keys: bytes) -> list[bytes]:
    return [key for key in keys if key]


class Seen(Watcher):
    """What a client saw, and would have to see."""

    wants_progress = True

    def __init__(self, interest: Interest, start: int, now: int) -> None:
        super().__init__(interest)
        self.start = start
        self.asked_at = now
        self.first = start  # revision from which it has to see everything
        self.events: list[Event] = []
        self.compact_revision = 0
        self.told = 0
        self.told_progress = 0
        self.parked_at: int | None = None

    @property
    def lacks(self) -> int:
        return self.events[-1].kv.mod_revision + 1 if self.events else self.first

    def created(self, header: bytes) -> None:
        revision = WatchResponse.FromString(header).header.revision
        assert self.told == 0, "created twice"
        self.told = 1
        if not self.start:
            assert revision >= self.asked_at, "it begins before it was asked for"
            self.first = revision + 1

    def deliver(self, delivery: Delivery, body: bytes) -> None:
        assert self.told, "events before the watch was created"
        assert WatchResponse.FromString(delivery.header).header.revision, "no header"
        events = list(WatchResponse.FromString(body).events)
        assert events, "nothing was delivered"
        self.events += events

    def progress(self, header: bytes) -> None:
        self.told_progress = WatchResponse.FromString(header).header.revision

    def canceled(self, header: bytes, response: WatchResponse) -> None:
        assert response.compact_revision, "nobody ended it"
        assert self.lacks < response.compact_revision, "what it lacked was still there"
        self.compact_revision = response.compact_revision


class CoalescingMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.log = Log()
        self.shared = WatchCoalescer()
        self.stream: MemberStream | None = None
        self.clients: list[Seen] = []
        self.over: list[Seen] = []
        self.batch = 2

    # --- writes ----------------------------------------------------------------------------------

    @rule(key=st.sampled_from(KEYS), other=st.sampled_from((b"", *KEYS)))
    def write(self, key: bytes, other: bytes) -> None:
        self.log.write(*dict.fromkeys(found(key, other)))

    @rule(key=st.sampled_from(KEYS))
    def delete(self, key: bytes) -> None:
        self.log.delete(key)

    @rule(back=st.integers(0, 3))
    def compact(self, back: int) -> None:
        self.log.compact(self.log.revision - back)

    # --- clients ---------------------------------------------------------------------------------

    @rule(interest=st.sampled_from(INTERESTS))
    def watch_now(self, interest: Interest) -> None:
        self._watch(interest, 0)

    @rule(interest=st.sampled_from(INTERESTS), back=st.integers(-2, 6))
    def watch_from(self, interest: Interest, back: int) -> None:
        self._watch(interest, max(self.log.revision - back, 1))

    def _watch(self, interest: Interest, start: int) -> None:
        client = Seen(interest, start, self.log.revision)
        self.clients.append(client)
        self.shared.add(client, start)

    @precondition(lambda self: self.clients)
    @rule(data=st.data())
    def cancel(self, data: st.DataObject) -> None:
        client = data.draw(st.sampled_from(self.clients))
        self.clients.remove(client)
        self.over.append(client)
        if client.parked_at is None:
            self.shared.remove(client)

    @precondition(lambda self: self.clients)
    @rule(data=st.data())
    def park_or_resume(self, data: st.DataObject) -> None:
        """A client that does not read, and one that does again."""
        client = data.draw(st.sampled_from(self.clients))
        if client.parked_at is not None:
            lacks, client.parked_at = client.parked_at, None
            self.shared.add(client, lacks)
        elif client.broadcast is not None and client.is_created:
            client.parked_at = self.shared.remove(client)

    # --- the cluster -----------------------------------------------------------------------------

    @precondition(lambda self: self.stream is None and not self.shared.is_idle)
    @rule(batch=st.integers(1, 5))
    def connect(self, batch: int) -> None:
        self.stream = MemberStream(self.log, batch)
        self.shared.opened(self.stream.requests.append)

    @precondition(lambda self: self.stream is not None)
    @rule()
    def disconnect(self) -> None:
        self.stream = None
        self.shared.lost()

    @precondition(lambda self: self.stream is not None and self.stream.requests)
    @rule()
    def serve(self) -> None:
        assert self.stream is not None
        self.stream.serve_one()

    @precondition(lambda self: self.stream is not None and self.stream.behind)
    @rule(data=st.data(), in_parts=st.booleans())
    def tell(self, data: st.DataObject, in_parts: bool) -> None:
        assert self.stream is not None
        self.stream.tell(data.draw(st.sampled_from(self.stream.behind)), in_parts)

    @precondition(lambda self: self.stream is not None)
    @rule()
    def notify(self) -> None:
        assert self.stream is not None
        self.stream.notify()

    @precondition(lambda self: self.stream is not None and self.stream.responses)
    @rule(count=st.integers(1, 4))
    def receive(self, count: int) -> None:
        assert self.stream is not None
        for _ in range(min(count, len(self.stream.responses))):
            self.shared.received(self.stream.responses.popleft())

    @precondition(lambda self: self.stream is not None)
    @rule(
        to_serve=st.integers(0, 9),
        to_tell=st.integers(0, 9),
        to_receive=st.integers(0, 9),
        in_parts=st.booleans(),
    )
    def flow(self, to_serve: int, to_tell: int, to_receive: int, in_parts: bool) -> None:
        """Much at once, as it mostly is."""
        stream = self.stream
        assert stream is not None
        for _ in range(min(to_serve, len(stream.requests))):
            stream.serve_one()
        for watch_id in stream.behind[:to_tell]:
            stream.tell(watch_id, in_parts)
        for _ in range(min(to_receive, len(stream.responses))):
            self.shared.received(stream.responses.popleft())

    @precondition(lambda self: self.stream is not None)
    @rule()
    def settle(self) -> None:
        """Everything comes through."""
        while self.stream and (self.stream.requests or self.stream.behind or self.stream.responses):
            self.flow(99, 99, 99, False)

    # --- what has to hold ------------------------------------------------------------------------

    @invariant()
    def nothing_is_missed_or_repeated(self) -> None:
        for client in (*self.clients, *self.over):
            assert client.events == self._wanted(client)[: len(client.events)]
            if client.told_progress:
                # Everything up to there was delivered.
                passed = [
                    each
                    for each in self._wanted(client)
                    if each.kv.mod_revision <= client.told_progress
                ]
                assert len(client.events) >= len(passed)

    def _wanted(self, client: Seen) -> list[Event]:
        request = WatchCreateRequest(
            key=client.interest.key,
            range_end=client.interest.end,
            filters=client.interest.filters,
        )
        return [
            each
            for each in self.log.events
            if is_watched(request, each) and client.first <= each.kv.mod_revision
        ]

    def teardown(self) -> None:
        """Once everything has come through, everybody has everything."""
        for client in self.clients:
            if client.parked_at is not None:
                lacks, client.parked_at = client.parked_at, None
                self.shared.add(client, lacks)
        if self.stream is None and not self.shared.is_idle:
            self.connect(3)
        if self.stream is not None:
            self.settle()
        for client in self.clients:
            if not client.compact_revision:
                assert client.told, "it was never created"
                assert client.events == self._wanted(client)
        for client in self.clients:
            self.shared.remove(client)
        assert self.shared._counts.watchers == 0
        assert self.shared.is_idle


SETTINGS = settings(
    max_examples=100,
    stateful_step_count=40,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


class CoalescingTests(SynchronousTestCase):
    def test_like_single_watches(self) -> None:
        """GX1, P23: many clients, any starts, ends, pauses, lost streams, compactions and pieces:
        no event is missing, none comes twice, none out of order."""
        run_state_machine_as_test(CoalescingMachine, settings=SETTINGS)
