"""Asks a peer every now and then whether it is there, and what time it is."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import datetime

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from etcdtw.counting import PeerCounts
from etcdtw.ids import format_id
from etcdtw.peer.calling import Answered, HttpCaller
from etcdtw.peer.outgoing import Timeouts

PROBE_PATH = "/raft/probing"
DRIFT_SECONDS_MAX = 1.0
REPORT_SECONDS = 30.0

log = Logger(namespace="etcdtw.peer")


class Prober:
    """Probes a second before a silent stream would be given up, and tells of what is wrong at most
    every half minute (etcd's rhythm)."""

    def __init__(
        self,
        caller: HttpCaller,
        peer_id: int,
        url: Callable[[], str],
        counts: PeerCounts,
        timeouts: Timeouts,
        wall_seconds: Callable[[], float] = time.time,
    ) -> None:
        self._caller = caller
        self._clock = caller.reactor
        self._peer_id = peer_id
        self._url = url
        self._counts = counts
        self._every = max(timeouts.read - 1.0, 1.0)
        self._wall_seconds = wall_seconds
        self._call: IDelayedCall | None = None
        self._asked: Deferred[None] | None = None
        self._told: float | None = None

    def start(self) -> None:
        self._call = self._clock.callLater(self._every, self._probe)

    def stop(self) -> None:
        if self._call is not None and self._call.active():
            self._call.cancel()
        self._call = None
        if self._asked is not None:
            self._asked.cancel()

    def _probe(self) -> None:
        self.start()
        if self._asked is not None:
            return
        begin = self._clock.seconds()
        asked = self._caller.call(b"GET", self._url() + PROBE_PATH, {}, b"", self._every)
        self._asked = asked.addCallback(self._answered, begin)
        self._asked.addErrback(self._failed).addBoth(self._ended)

    def _ended(self, _: object) -> None:
        self._asked = None

    def _answered(self, answer: Answered, begin: float) -> None:
        seconds = self._clock.seconds() - begin
        found = json.loads(answer.body)
        if found["OK"] is not True:
            raise ValueError("the peer says that it is not well")
        theirs = datetime.fromisoformat(found["Now"]).timestamp()
        self._counts.round_trip_seconds.observe(seconds)
        drift = theirs + seconds / 2 - self._wall_seconds()
        if abs(drift) > DRIFT_SECONDS_MAX:
            self._tell("prober found high clock drift", clock_drift=f"{drift:.3f}s")

    def _failed(self, failure: Failure) -> None:
        if self._call is not None:
            self._tell("prober detected unhealthy status", error=failure.getErrorMessage())

    def _tell(self, what: str, **fields: object) -> None:
        now = self._clock.seconds()
        if self._told is None or now - self._told >= REPORT_SECONDS:
            self._told = now
            log.warn("{what}", what=what, remote_peer_id=format_id(self._peer_id), **fields)
