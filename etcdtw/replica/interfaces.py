"""What the replica asks of its neighbours: peers to talk to and a state to keep."""

from __future__ import annotations

from collections.abc import Sequence

from zope.interface import Attribute, Interface, implementer

from etcdtw.raft.messages import ConfChange, ConfState, Entry, Message, Snapshot


class IPeerTransport(Interface):
    """Carries Raft messages to peers and back; may lose, delay and reorder them."""

    def attach(receiver: object) -> None:
        """Deliver to ``receiver`` (a :class:`etcdtw.replica.replica.Replica`): its ``receive``
        for each message that arrives, its ``peer_unreachable`` when a peer cannot be reached."""

    def send(messages: Sequence[Message]) -> None:
        """Try to deliver each message to the peer it is addressed to. Never blocks or raises; an
        unknown addressee is dropped."""

    def add_peer(member_id: int, peer_urls: Sequence[str]) -> None:
        """Begin to talk to a member."""

    def update_peer(member_id: int, peer_urls: Sequence[str]) -> None:
        """The member moved."""

    def remove_peer(member_id: int) -> None:
        """Stop talking to a member; an unknown one is fine."""

    def stop() -> None:
        """Close everything."""


class IStateMachine(Interface):
    """The replicated state. Every call is on the reactor thread, in log order."""

    applied_index = Attribute("Index of the last entry that was applied; an int.")

    def apply(entry: Entry, proposal: object | None) -> object:
        """Apply a normal entry. ``proposal`` is what this member proposed it with, or None when
        it came from elsewhere. The result goes to whoever waits; an ``EtcdError`` is returned,
        not raised, because an apply error is data."""

    def check_conf_change(change: ConfChange) -> Exception | None:
        """Why a committed membership change must have no effect, or None when it may."""

    def apply_conf_change(
        entry: Entry, change: ConfChange, conf_state: ConfState, refused: Exception | None
    ) -> object:
        """Record a membership change that Raft has taken over (``refused`` None) or the fact
        that it has no effect; the result goes to whoever waits."""

    def snapshot(conf_state: ConfState, term: int) -> Snapshot:
        """The state as of ``applied_index``."""

    def restore(snapshot: Snapshot) -> None:
        """Replace the state by a received snapshot."""


@implementer(IPeerTransport)
class NoPeers:
    """The transport of a member that is alone."""

    def attach(self, receiver: object) -> None:
        pass

    def send(self, messages: Sequence[Message]) -> None:
        pass

    def add_peer(self, member_id: int, peer_urls: Sequence[str]) -> None:
        pass

    def update_peer(self, member_id: int, peer_urls: Sequence[str]) -> None:
        pass

    def remove_peer(self, member_id: int) -> None:
        pass

    def stop(self) -> None:
        pass
