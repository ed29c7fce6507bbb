"""Raft messages to and from all other members."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from twisted.logger import Logger
from zope.interface import implementer

from etcdtw.counting import PeerCounts
from etcdtw.ids import format_id
from etcdtw.peer.calling import HttpCaller
from etcdtw.peer.headers import Identity
from etcdtw.peer.outgoing import Pipeline, Timeouts
from etcdtw.peer.peer import Peer
from etcdtw.raft.messages import Message, MessageType
from etcdtw.replica.interfaces import IPeerTransport, PeerReceiver

REMOTES_MAX = 64
"""Members that are known by their calls alone; an attacker must not make more."""

log = Logger(namespace="etcdtw.peer")


@implementer(IPeerTransport)
class PeerTransport:
    """etcd's rafthttp from the side of one member.

    ``on_removed`` callables get a sentence when another member says that this one was removed;
    ``on_snapshot`` is handed the snapshots that Raft wants to send.
    """

    def __init__(
        self, identity: Identity, caller: HttpCaller, timeouts: Timeouts | None = None
    ) -> None:
        self.identity = identity
        self.caller = caller
        self._timeouts = timeouts or Timeouts()
        self.peers: dict[int, Peer] = {}
        self.removed: set[int] = set()
        self.counts: dict[int, PeerCounts] = {}
        self.on_removed: list[Callable[[str], None]] = []
        self.on_snapshot: Callable[[Message], None] = self._no_snapshots
        self._remotes: dict[int, Pipeline] = {}
        self._receiver: PeerReceiver | None = None
        self._stopped = False

    # --- for the replica -------------------------------------------------------------------------

    def attach(self, receiver: PeerReceiver) -> None:
        self._receiver = receiver
        for peer in self.peers.values():
            peer.start()

    def send(self, messages: Sequence[Message]) -> None:
        touched: dict[Peer, None] = {}
        for message in messages:
            peer = self.peers.get(message.to)
            if peer is not None:
                peer.send(message)
                touched[peer] = None
            else:
                remote = self._remotes.get(message.to)
                if remote is not None:
                    remote.send(message)
        for peer in touched:
            peer.flush()

    def add_peer(self, member_id: int, peer_urls: Sequence[str]) -> None:
        if member_id == self.identity.member_id or member_id in self.peers or self._stopped:
            return
        remote = self._remotes.pop(member_id, None)
        if remote is not None:
            remote.stop()
        counts = self.counts.setdefault(member_id, PeerCounts())
        peer = Peer(member_id, peer_urls, self.identity, self.caller, self, self._timeouts, counts)
        self.peers[member_id] = peer
        log.info("added remote peer", remote_peer_id=format_id(member_id), urls=list(peer_urls))
        if self._receiver is not None:
            peer.start()

    def update_peer(self, member_id: int, peer_urls: Sequence[str]) -> None:
        peer = self.peers.get(member_id)
        if peer is not None:
            peer.urls = tuple(peer_urls)

    def remove_peer(self, member_id: int) -> None:
        self.removed.add(member_id)
        peer = self.peers.pop(member_id, None)
        if peer is not None:
            peer.stop()
            log.info("removed remote peer", removed_remote_peer_id=format_id(member_id))

    def stop(self) -> None:
        if not self._stopped:
            self._stopped = True
            for peer in self.peers.values():
                peer.stop()
            for remote in self._remotes.values():
                remote.stop()
            self.caller.stop()

    # --- for the pages that peers call -----------------------------------------------------------

    def add_remote(self, member_id: int, urls: Sequence[str]) -> None:
        """Somebody whom the membership does not show yet calls: he may be a member already, and
        be answered, before this member learns of it."""
        known = member_id in self.peers or member_id in self._remotes
        if known or not urls or member_id in self.removed or len(self._remotes) >= REMOTES_MAX:
            return
        if member_id == self.identity.member_id or self._stopped:
            return
        self._remotes[member_id] = Pipeline(
            self.caller,
            self.identity.headers(),
            lambda: urls[0],
            lambda reason: None,
            lambda answer: None,
            self.counts.setdefault(member_id, PeerCounts()),
        )

    def receive(self, message: Message, size: int) -> None:
        """A message that was posted, in so many bytes."""
        counts = self.counts.get(message.from_)
        if counts is not None:
            counts.received_bytes += size
        self.received([message])

    # --- for peers -------------------------------------------------------------------------------

    def received(self, messages: list[Message]) -> None:
        receiver = self._receiver
        if receiver is not None and not self._stopped:
            for message in messages:
                # One without its database, which nobody sends so, could not be installed.
                if message.type != MessageType.SNAP:
                    receiver.receive(message)

    def unreachable(self, peer_id: int) -> None:
        if self._receiver is not None and not self._stopped:
            self._receiver.peer_unreachable(peer_id)

    def removed_from_cluster(self, reason: str) -> None:
        for each in self.on_removed:
            each(reason)

    def send_snapshot(self, message: Message) -> None:
        self.on_snapshot(message)

    def snapshot_ended(self, peer_id: int, ok: bool) -> None:
        """For whoever sends snapshots."""
        if self._receiver is not None and not self._stopped:
            self._receiver.snapshot_sent(peer_id, ok)

    def _no_snapshots(self, message: Message) -> None:
        log.error(
            "a snapshot for a member that is far behind cannot be sent by this build",
            remote_peer_id=format_id(message.to),
        )
        self.snapshot_ended(message.to, False)

    # --- who is there ----------------------------------------------------------------------------

    def active_ids(self, seconds: float) -> set[int]:
        """Members that have been connected for so long, this one included."""
        active = {each.id for each in self.peers.values() if each.is_active_for(seconds)}
        return active | {self.identity.member_id}

    def longest_active(self, member_ids: Iterable[int]) -> int:
        """Which of these members has been connected longest; 0 if none is."""
        peers = [self.peers[each] for each in member_ids if each in self.peers]
        since = {each.active_since: each.id for each in peers if each.active_since is not None}
        return since[min(since)] if since else 0

    def is_active(self, member_id: int) -> bool:
        peer = self.peers.get(member_id)
        return member_id == self.identity.member_id or (
            peer is not None and peer.active_since is not None
        )
