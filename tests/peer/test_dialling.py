"""A stream from dialling to its end, at a peer that the test plays."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.counting import PeerCounts
from etcdtw.peer.codec import MessageReader
from etcdtw.peer.dialling import StreamDialler
from etcdtw.peer.stream_http import StreamEvents

SILENT_SECONDS = 5.0


class Caller:
    """Connects when the test says so."""

    def __init__(self) -> None:
        self.reactor = Clock()
        self.attempts: list[tuple[Deferred[Any], StreamEvents]] = []

    def open(self, url: str, headers: object, events: StreamEvents) -> Deferred[Any]:
        attempt: Deferred[Any] = Deferred()
        self.attempts.append((attempt, events))
        return attempt


class Request:
    """A connection that can be ended."""

    def __init__(self, events: StreamEvents) -> None:
        self._events = events

    def close(self, reason: str) -> None:
        self._events.ended(reason)


class DiallerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.caller = Caller()
        self.clock = self.caller.reactor

        def unused(*_: object) -> None: ...

        self.changes: list[bool] = []
        caller: Any = self.caller
        self.dialler = StreamDialler(
            caller,
            2,
            "message",
            "/raft/stream/message/1",
            {},
            lambda: "http://m2:2380",
            MessageReader,
            unused,
            self.changes.append,
            unused,
            unused,
            SILENT_SECONDS,
            PeerCounts(),
        )
        self.dialler.start()
        self.addCleanup(self.dialler.stop)

    def connect(self) -> StreamEvents:
        attempt, events = self.caller.attempts[-1]
        attempt.callback(Request(events))
        return events

    def test_silence_after_a_slow_connection(self) -> None:
        """A silent stream is given up and dialled again, however long it took to connect."""
        for seconds in (0.0, 2 * SILENT_SECONDS):
            self.clock.advance(seconds)
            before = len(self.caller.attempts)
            events = self.connect()
            events.answered(200, {b"x-server-version": b"3.5.1"})
            self.assertEqual(self.changes[-1:], [True])
            self.clock.advance(SILENT_SECONDS - 0.1)
            self.assertEqual(self.changes[-1:], [True])
            self.clock.pump([0.1, 0.1, 0.1])
            self.assertEqual(self.changes[-1:], [False])
            self.assertEqual(len(self.caller.attempts), before + 1)
