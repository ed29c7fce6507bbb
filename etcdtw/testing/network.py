"""A network of messages that loses, delays, doubles, reorders and cuts."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

from zope.interface import implementer

from etcdtw.counting import PeerCounts
from etcdtw.raft.messages import Message, MessageType
from etcdtw.replica.interfaces import IPeerTransport
from etcdtw.testing.cluster_snapshots import MemoryBody
from etcdtw.testing.time import MemberTime, VirtualTime

# Real streams deliver these at most once, and nothing above removes doubles of them.
_NEVER_TWICE = frozenset((MessageType.PROP, MessageType.SNAP))


class Receiver(Protocol):
    """What a transport delivers to: a :class:`etcdtw.replica.replica.Replica`."""

    def receive(self, message: Message) -> None: ...

    def peer_unreachable(self, member_id: int) -> None: ...

    def snapshot_sent(self, member_id: int, ok: bool) -> None: ...


class SnapshotReceiver(Protocol):
    """Who installs snapshots, and hears what became of those that he sent; ``done`` gets why one
    cannot be installed."""

    def snapshot_received(
        self, message: Message, store: Any, done: Callable[[str], None]
    ) -> None: ...

    def snapshot_ended(self, member_id: int, ok: bool) -> None: ...


@dataclass
class Weather:
    """How a network behaves: probabilities from 0 to 1, delays in seconds.

    Delays are drawn evenly from ``delay_min`` to ``delay_max`` for each message on its own, so a
    wide range reorders. ``slow`` is the share of messages that take up to ``delay_slow``.
    """

    drop: float = 0.0
    duplicate: float = 0.0
    slow: float = 0.0
    delay_min: float = 0.0005
    delay_max: float = 0.002
    delay_slow: float = 0.5


class SimNetwork:
    """Connects transports by member id. Whatever a message meets is decided by ``dice``.

    ``counts`` has the number of messages sent, delivered, dropped, cut, duplicated and slowed.
    ``observers`` see every message at its delivery, before its receiver does.
    """

    def __init__(self, time: VirtualTime, dice: Random, weather: Weather | None = None) -> None:
        self.weather = weather or Weather()
        self.counts: Counter[str] = Counter()
        self.observers: list[Callable[[Message], None]] = []
        self._clock = time.view()
        self._dice = dice
        self._transports: dict[int, SimTransport] = {}
        self._cuts: set[tuple[int, int]] = set()
        self._held: dict[int, list[tuple[SimTransport, Message, bytes]]] = {}

    def transport(self, member_id: int, clock: MemberTime) -> SimTransport:
        """The transport of one life of a member; it replaces the one of an earlier life."""
        transport = SimTransport(self, member_id, clock)
        self._transports[member_id] = transport
        return transport

    # --- faults --------------------------------------------------------------------------------

    def cut(self, sender: int, receiver: int) -> None:
        """Deliver nothing more in this one direction, not even what is under way."""
        self._cuts.add((sender, receiver))

    def mend(self, sender: int, receiver: int) -> None:
        """Undo one ``cut``."""
        self._cuts.discard((sender, receiver))

    def hold(self, member_id: int) -> None:
        """Keep what arrives at a member until ``release``: it does not read."""
        self._held.setdefault(member_id, [])

    def release(self, member_id: int) -> None:
        for each in self._held.pop(member_id, []):
            self._clock.callLater(0, self._deliver, *each)

    def isolate(self, member_id: int) -> None:
        """Cut one member off from all others, in both directions."""
        self.partition([[member_id], [each for each in self._transports if each != member_id]])

    def partition(self, groups: Iterable[Iterable[int]]) -> None:
        """Cut every connection between different groups, beside what is cut already."""
        sides = [list(group) for group in groups]
        for side in sides:
            for other in sides:
                if other is not side:
                    self._cuts.update((a, b) for a in side for b in other)

    def heal(self) -> None:
        """Mend everything and let the weather be fine."""
        self._cuts.clear()
        self.weather = Weather()

    def is_cut(self, sender: int, receiver: int) -> bool:
        return (sender, receiver) in self._cuts

    # --- traffic -------------------------------------------------------------------------------

    def post(self, sender: SimTransport, message: Message, body: bytes = b"") -> None:
        """Take a message, and a snapshot's database, from a transport; for SimTransport only."""
        self.counts["sent"] += 1
        weather, dice = self.weather, self._dice
        if self.is_cut(message.from_, message.to):
            self.counts["cut"] += 1
            sender.lost(message)
            return
        # Every message draws the same number of times, so that changing one probability leaves
        # the fate of other messages alone.
        dropped, doubled, slowed, jitter, jitter_again = (dice.random() for _ in range(5))
        if dropped < weather.drop:
            self.counts["dropped"] += 1
            if message.type == MessageType.SNAP:
                sender.lost(message)
            return
        delay = weather.delay_min + jitter * (weather.delay_max - weather.delay_min)
        if slowed < weather.slow:
            self.counts["slowed"] += 1
            delay += jitter_again * weather.delay_slow
        self._clock.callLater(delay, self._deliver, sender, message, body)
        if doubled < weather.duplicate and message.type not in _NEVER_TWICE:
            self.counts["duplicated"] += 1
            again = delay * (1 + jitter_again)
            self._clock.callLater(again, self._deliver, sender, message, body)

    def _deliver(self, sender: SimTransport, message: Message, body: bytes) -> None:
        if message.to in self._held:
            self._held[message.to].append((sender, message, body))
            return
        target = self._transports.get(message.to)
        if target is None or target.receiver is None or self.is_cut(message.from_, message.to):
            self.counts["cut"] += 1
            sender.lost(message)
            return
        self.counts["delivered"] += 1
        for each in self.observers:
            each(message)
        if message.type == MessageType.SNAP:
            sender.snapshot_arrived(message)
            if target.exchange is not None:
                target.exchange.snapshot_received(message, MemoryBody(body), lambda reason: None)
                return
        target.receiver.receive(message)


@implementer(IPeerTransport)
class SimTransport:
    """One member's end of a SimNetwork; made by ``SimNetwork.transport``."""

    def __init__(self, network: SimNetwork, member_id: int, clock: MemberTime) -> None:
        self._network = network
        self._clock = clock
        self._peers: set[int] = set()
        self.member_id = member_id
        self.counts: dict[int, PeerCounts] = {}
        self.receiver: Receiver | None = None
        self.exchange: SnapshotReceiver | None = None
        self._send_snapshot: Callable[[Message], None] | None = None

    def attach(self, receiver: Receiver) -> None:
        self.receiver = receiver

    def send(self, messages: Sequence[Message]) -> None:
        if self.receiver is None:
            return
        for message in messages:
            if message.to not in self._peers:
                continue
            if message.type == MessageType.SNAP and self._send_snapshot is not None:
                self._send_snapshot(message)
            else:
                self._network.post(self, message)

    def begin(self, exchange: SnapshotReceiver, send: Callable[[Message], None]) -> None:
        """Hand snapshots that come to ``exchange``, and those that Raft wants to send to ``send``,
        which adds what is in them."""
        self.exchange = exchange
        self._send_snapshot = send

    def post_snapshot(self, message: Message, body: bytes) -> None:
        if self.receiver is not None:
            self._network.post(self, message, body)

    def end(self) -> None:
        """The process is gone; nobody listens at its port."""
        self._network.transport(self.member_id, self._clock)

    def add_peer(self, member_id: int, peer_urls: Sequence[str]) -> None:
        self._peers.add(member_id)

    def update_peer(self, member_id: int, peer_urls: Sequence[str]) -> None:
        """Addresses mean nothing here."""

    def remove_peer(self, member_id: int) -> None:
        self._peers.discard(member_id)

    def active_ids(self, seconds: float) -> set[int]:
        """Everybody to whom the links work, both ways, however long they have."""
        return {each for each in (*self._peers, self.member_id) if self.is_active(each)}

    def is_active(self, member_id: int) -> bool:
        cut = self._network.is_cut
        return not cut(self.member_id, member_id) and not cut(member_id, self.member_id)

    def stop(self) -> None:
        self.receiver = None

    def lost(self, message: Message) -> None:
        """Tell the sender, a moment later, that a peer cannot be reached; for SimNetwork only."""
        self._clock.callLater(0.001, self._report_lost, message)

    def snapshot_arrived(self, message: Message) -> None:
        """Tell the sender that its snapshot arrived; for SimNetwork only."""
        self._clock.callLater(0.001, self._report_snapshot, message.to, True)

    def _report_lost(self, message: Message) -> None:
        if self.receiver is None:
            return
        self.receiver.peer_unreachable(message.to)
        if message.type == MessageType.SNAP:
            self._report_snapshot(message.to, False)

    def _report_snapshot(self, member_id: int, ok: bool) -> None:
        if self.receiver is None:
            return
        if self.exchange is not None:
            self.exchange.snapshot_ended(member_id, ok)
        else:
            self.receiver.snapshot_sent(member_id, ok)
