"""The watch and lease services over a real store, with a log that applies at once."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any, TypeVar

from google.protobuf.message import Message
from twisted.internet.task import Clock

from etcdtw.api.v3.lease import LeaderLeases, LeaseExpirer, LeaseService
from etcdtw.api.v3.watch import WatchService, WatchSettings
from etcdtw.apply.header import HeaderSource
from etcdtw.apply.kv import KvApplier
from etcdtw.errors import EtcdError
from etcdtw.lease.apply import LeaseApplier
from etcdtw.lease.lessor import Lessor
from etcdtw.mvcc.store import Store
from etcdtw.mvcc.watch import WatchHub
from etcdtw.pb.rpc_pb2 import WatchRequest, WatchResponse
from etcdtw.rpc import UnaryCall
from etcdtw.storage.backend.memory import MemoryBackend
from tests.api_v3.fakes import FakeStream, FakeUnary

CLUSTER_ID = 5149174454159968916
MEMBER_ID = 11320246631731916645
M = TypeVar("M", bound=Message)


class FakeLog:
    """Applies what is proposed at once, or holds it until ``release``."""

    def __init__(self, leases: LeaseApplier) -> None:
        self.holding = False
        self.refusal: EtcdError | None = None
        self.held: list[Callable[[], None]] = []
        self.seen: list[tuple[str, Message]] = []
        self._apply: dict[str, Callable[[Any], bytes]] = {
            "lease_grant": leases.grant,
            "lease_revoke": leases.revoke,
            "lease_checkpoint": leases.checkpoint,
        }

    def submit(
        self,
        kind: str,
        request: object,
        raw: bytes,
        done: Callable[[object], None],
        cost: int = 0,
    ) -> None:
        assert isinstance(request, Message)
        assert request.SerializeToString() == raw, "the bytes are not those of the request"
        if self.refusal is not None:
            done(self.refusal)
            return
        self.seen.append((kind, request))

        def apply() -> None:
            try:
                result: object = self._apply[kind](request)
            except EtcdError as error:
                result = error
            done(result)

        if self.holding:
            self.held.append(apply)
        else:
            apply()

    def answer(
        self, call: UnaryCall, kind: str, request: object, raw: bytes, cost: int = 0
    ) -> None:
        def done(result: object) -> None:
            if isinstance(result, EtcdError):
                call.fail(result)
            else:
                assert isinstance(result, bytes)
                call.reply(result)

        self.submit(kind, request, raw, done, cost)

    def release(self) -> None:
        held, self.held = self.held, []
        for each in held:
            each()


class Member:
    """As much of a member as leases and watches need."""

    def __init__(
        self,
        settings: WatchSettings | None = None,
        elsewhere: LeaderLeases | None = None,
        clock: Any = None,
    ) -> None:
        self.clock: Any = Clock() if clock is None else clock
        self.backend = MemoryBackend()
        self.header = HeaderSource(CLUSTER_ID, MEMBER_ID, term=2)
        self.lessor = Lessor(self.backend, 2)
        self.store = Store(self.backend, self.lessor)
        self.kv = KvApplier(self.store, self.lessor, self.header)
        self.log = FakeLog(LeaseApplier(self.lessor, self.store, self.header, self.clock.seconds))
        self.hub = WatchHub(self.store)
        self.has_leader = True
        self.denied: EtcdError | None = None
        self.watches = WatchService(
            self.hub,
            self.header,
            self.clock,
            random.Random(1),
            settings,
            may_watch=lambda call, interest: self.denied,
            has_leader=lambda: self.has_leader,
        )
        self.ids = iter(range(1, 1 << 20))
        self.leases = LeaseService(
            self.log,
            self.lessor,
            self.header,
            lambda: self.store.revision,
            self.clock,
            lambda: next(self.ids),
            elsewhere,
        )
        self.expirer = LeaseExpirer(self.clock, self.lessor, self.log, checkpoints=True)

    def unary(self, handler: Callable[[Any, bytes], None], request: Message) -> FakeUnary:
        """Call; a raised error is an answer, as it is for the router."""
        call = FakeUnary()
        try:
            handler(call, request.SerializeToString())
        except EtcdError as error:
            call.fail(error)
        return call

    def ask(self, handler: Callable[[Any, bytes], None], request: Message, answer: type[M]) -> M:
        """Call something that answers at once and well."""
        body = self.unary(handler, request).answer
        assert isinstance(body, bytes), f"no answer but {body!r}"
        return answer.FromString(body)

    def watch_stream(self, **metadata: str) -> FakeStream:
        stream = FakeStream(metadata)
        self.watches.watch(stream)  # type: ignore[arg-type]
        return stream

    def keep_alive_stream(self) -> FakeStream:
        stream = FakeStream()
        self.leases.keep_alive(stream)  # type: ignore[arg-type]
        return stream


def request(stream: FakeStream, **kind: Any) -> None:
    stream.message(WatchRequest(**kind).SerializeToString())


def responses(stream: FakeStream) -> list[WatchResponse]:
    """What was sent since the last look."""
    found = [WatchResponse.FromString(each) for each in stream.sent]
    stream.sent.clear()
    return found
