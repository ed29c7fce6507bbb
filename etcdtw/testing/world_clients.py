"""Clients of a simulated cluster: each writes and reads, one request after the other."""

from __future__ import annotations

from collections import Counter
from random import Random

from etcdtw.errors import EtcdError
from etcdtw.replica.proposal import Proposal
from etcdtw.testing.cluster import SimCluster, SimMember
from etcdtw.testing.time import SimDelayedCall

PATIENCE_SECONDS = 3.0
PAUSE_SECONDS = 0.05
READ_SHARE = 0.25
_CLIENT_IDS = 1 << 20


class SimClient:
    """Asks a member of its choice, waits for the answer or loses patience, and goes on.

    A write carries an id of its own that is never sent twice, so that it can be told later whether
    it took effect. ``counts`` has writes and reads by outcome.
    """

    def __init__(self, cluster: SimCluster, number: int, counts: Counter[str]) -> None:
        self._cluster = cluster
        self._number = number
        self._dice: Random = cluster.dice(f"client {number}")
        self._clock = cluster.time.view()
        self._counts = counts
        self._sent = 0
        self._turn = 0
        self._patience: SimDelayedCall | None = None

    def start(self) -> None:
        self._pause()

    def stop(self) -> None:
        """Ask nothing more, and hear no more answers."""
        self._clock.crash()
        self._turn += 1

    def _pause(self) -> None:
        self._clock.callLater(self._dice.uniform(0, 2 * PAUSE_SECONDS), self._ask)

    def _ask(self) -> None:
        self._turn += 1
        self._patience = self._clock.callLater(PATIENCE_SECONDS, self._gave_up, self._turn)
        reads = self._dice.random() < READ_SHARE
        member = self._cluster.members[self._dice.choice(self._cluster.ids)]
        if member.life is None:
            self._next("refused")
        elif reads:
            self._read(member)
        else:
            self._write(member)

    def _write(self, member: SimMember) -> None:
        assert member.life is not None, "a write to a dead member"
        self._sent += 1
        request_id = self._number * _CLIENT_IDS + self._sent
        write = self._cluster.parts.draw(self._dice, request_id)
        turn, asked = self._turn, self._cluster.time.now
        self._cluster.writes_under_way[request_id] = write, asked

        def done(result: object) -> None:
            del self._cluster.writes_under_way[request_id]
            answered = self._cluster.time.now
            self._cluster.history.wrote(write.kind, write.request, asked, answered, result)
            if isinstance(result, EtcdError):
                self._answered(turn, "writes refused or unknown")
            else:
                self._cluster.trace.add(f"client{self._number}", f"wrote {request_id:x}")
                self._cluster.checkers.write_acknowledged(request_id, str(result))
                for each in list(self._cluster.on_acknowledged):
                    each()
                self._answered(turn, "writes acknowledged")

        member.life.replica.propose(Proposal(write.data, write.kind, write.request, done))

    def _read(self, member: SimMember) -> None:
        life, checkers = member.life, self._cluster.checkers
        assert life is not None, "a read from a dead member"
        before, turn, asked = list(checkers.acknowledged), self._turn, self._cluster.time.now
        keys = self._cluster.parts.keys
        key = self._dice.choice(keys) if keys else b""

        def released(error: EtcdError | None) -> None:
            if error is not None:
                self._answered(turn, "reads failed")
                return
            self._cluster.trace.add(f"client{self._number}", f"read from {member.id}")
            checkers.read_released(member.id, before, life.machine)
            if keys:
                now, found = self._cluster.time.now, life.machine.look(key)
                self._cluster.history.read(key, asked, now, *found)
            self._answered(turn, "reads answered")

        life.replica.read(released)

    def _gave_up(self, turn: int) -> None:
        self._answered(turn, "lost patience")

    def _answered(self, turn: int, outcome: str) -> None:
        if turn == self._turn:
            self._next(outcome)

    def _next(self, outcome: str) -> None:
        self._counts[outcome] += 1
        self._turn += 1
        if self._patience is not None and self._patience.active():
            self._patience.cancel()
        self._pause()
