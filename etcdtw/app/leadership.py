"""Help for elections at a member's beginning and end: the first comes soon, the last costs nobody a
timeout."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from etcdtw.ids import format_id
from etcdtw.peer.transport import PeerTransport
from etcdtw.raft.messages import NO_NODE
from etcdtw.replica.replica import Replica

LOOK_SECONDS = 0.05
LOOKS_MAX = 100
TICKS_LEFT = 2

log = Logger(namespace="etcdtw.member")


class HeadStart:
    """Skips most of the first election timeout once two peers are connected, within 5 s of the
    start (etcd's ``initial-election-tick-advance``)."""

    def __init__(self, replica: Replica, transport: PeerTransport, reactor: Any) -> None:
        self._replica = replica
        self._transport = transport
        self._reactor = reactor
        self._looks = 0
        self._next: IDelayedCall | None = None

    def start(self) -> None:
        self._next = self._reactor.callLater(LOOK_SECONDS, self._look)

    def stop(self) -> None:
        if self._next is not None:
            self._next.cancel()
            self._next = None

    def _look(self) -> None:
        self._next = None
        self._looks += 1
        peers = len(self._transport.active_ids(0)) - 1
        if peers > 1:
            ticks = self._replica.node.election_ticks - TICKS_LEFT
            log.info(
                "initialized peer connections; fast-forwarding election ticks",
                forward_ticks=ticks,
                active_remote_members=peers,
            )
            self._replica.advance_ticks(ticks)
        elif self._looks < LOOKS_MAX:
            self.start()


def hand_over(
    replica: Replica, transport: PeerTransport, reactor: Any, seconds: float
) -> Deferred[None]:
    """Have another voter lead, the one that has been connected longest. Fires when one does, or
    after so long; at once where there is nothing to hand over, or nobody to take it."""
    own = replica.node.id
    others = [each for each in replica.node.conf_state().voters if each != own]
    to = transport.longest_active(others)
    if to == NO_NODE or not replica.is_leader or replica.has_stopped:
        return succeed(None)
    log.info("leadership transfer starting", transferee_member_id=format_id(to))
    done: Deferred[None] = Deferred()

    def changed(leader: int) -> None:
        if leader not in (NO_NODE, own):
            log.info("leadership transfer finished", transferee_member_id=format_id(leader))
            # Whoever waits stops the replica, and must not do so from within its turn.
            reactor.callLater(0, finished)

    def finished() -> None:
        if not done.called:
            done.callback(None)

    def failed(_: object) -> None:
        log.warn("leadership transfer failed", transferee_member_id=format_id(to))

    replica.on_leader_change.append(changed)
    replica.transfer_leader(to)
    done.addTimeout(seconds, reactor)
    return done.addErrback(failed)
