"""Calls that note how long they took, where that is asked for (``--metrics extensive``)."""

from __future__ import annotations

from collections.abc import Mapping

from etcdtw.errors import EtcdError

from .call import CallOwner, StreamCall, Target, UnaryCall
from .local import Answered, LocalStream, LocalUnary, StreamSink
from .messages import MessageReader
from .router import Method


class _TimesUnary(UnaryCall):
    __slots__ = ()
    begun: float

    def reply(self, body: bytes) -> None:
        _note(self, self.begun)
        super().reply(body)

    def fail(self, error: EtcdError) -> None:
        _note(self, self.begun)
        super().fail(error)

    def cancelled(self) -> None:
        _note(self, self.begun)
        super().cancelled()


class _TimesStream(StreamCall):
    __slots__ = ()
    begun: float

    def finish(self, error: EtcdError | None = None) -> None:
        _note(self, self.begun)
        super().finish(error)

    def cancelled(self) -> None:
        _note(self, self.begun)
        super().cancelled()


class TimedUnary(_TimesUnary):
    __slots__ = ("begun",)

    def __init__(
        self, owner: CallOwner, stream_id: int, target: Target, deadline: float | None
    ) -> None:
        super().__init__(owner, stream_id, target, deadline)
        self.begun = _now(target.method)


class TimedStream(_TimesStream):
    __slots__ = ("begun",)

    def __init__(
        self,
        owner: CallOwner,
        stream_id: int,
        target: Target,
        deadline: float | None,
        reader: MessageReader,
    ) -> None:
        super().__init__(owner, stream_id, target, deadline, reader)
        self.begun = _now(target.method)


class TimedLocalUnary(_TimesUnary, LocalUnary):
    __slots__ = ("begun",)

    def __init__(
        self, method: Method, metadata: Mapping[str, str], peer: str, answered: Answered
    ) -> None:
        LocalUnary.__init__(self, method, metadata, peer, answered)
        self.begun = _now(method)


class TimedLocalStream(_TimesStream, LocalStream):
    __slots__ = ("begun",)

    def __init__(
        self, method: Method, metadata: Mapping[str, str], peer: str, sink: StreamSink
    ) -> None:
        LocalStream.__init__(self, method, metadata, peer, sink)
        self.begun = _now(method)


def _now(method: Method) -> float:
    assert method.times is not None, f"nobody asked how long {method.path} takes"
    return method.times.seconds()


def _note(call: UnaryCall | StreamCall, begun: float) -> None:
    """It ends now, unless it has ended before."""
    times = call.method.times
    if not call.done and times is not None:
        times.histogram.observe(times.seconds() - begun)
