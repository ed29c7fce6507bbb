"""What the replica asks of those who carry its messages."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Protocol

from zope.interface import Attribute, Interface, implementer

from etcdtw.counting import PeerCounts
from etcdtw.raft.messages import Message


class PeerReceiver(Protocol):
    """Who gets what comes from peers."""

    def receive(self, message: Message) -> None: ...

    def peer_unreachable(self, member_id: int) -> None: ...

    def snapshot_sent(self, member_id: int, ok: bool) -> None: ...


class IPeerTransport(Interface):
    """Carries Raft messages to peers and back; may lose, delay and reorder them."""

    counts = Attribute("dict[int, PeerCounts]: of each other member that there was, by id")

    def attach(receiver: PeerReceiver) -> None:
        """Deliver to ``receiver``: its ``receive`` for each message that arrives, its
        ``peer_unreachable`` when a peer cannot be reached, its ``snapshot_sent`` when a snapshot
        has arrived or will not."""

    def send(messages: Sequence[Message]) -> None:
        """Try to deliver each message to the peer it is addressed to. Never blocks or raises; an
        unknown addressee is dropped."""

    def add_peer(member_id: int, peer_urls: Sequence[str]) -> None:
        """Begin to talk to a member."""

    def update_peer(member_id: int, peer_urls: Sequence[str]) -> None:
        """The member moved."""

    def remove_peer(member_id: int) -> None:
        """Stop talking to a member; an unknown one is fine."""

    def active_ids(seconds: float) -> set[int]:
        """The members that have been connected for so long, the own one included."""

    def is_active(member_id: int) -> bool:
        """Whether a member is connected now; the own one is."""

    def stop() -> None:
        """Close everything."""


@implementer(IPeerTransport)
class NoPeers:
    """The transport of a member that is alone."""

    counts: Mapping[int, PeerCounts] = {}

    def attach(self, receiver: PeerReceiver) -> None:
        pass

    def send(self, messages: Sequence[Message]) -> None:
        pass

    def add_peer(self, member_id: int, peer_urls: Sequence[str]) -> None:
        pass

    def update_peer(self, member_id: int, peer_urls: Sequence[str]) -> None:
        pass

    def remove_peer(self, member_id: int) -> None:
        pass

    def active_ids(self, seconds: float) -> set[int]:
        return set()

    def is_active(self, member_id: int) -> bool:
        return False

    def stop(self) -> None:
        pass
