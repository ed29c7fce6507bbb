"""The network of messages."""

from __future__ import annotations

from random import Random

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from etcdtw.raft.messages import Message, MessageType
from etcdtw.replica.interfaces import IPeerTransport
from etcdtw.testing.network import SimNetwork, SimTransport, Weather
from etcdtw.testing.time import VirtualTime


class Inbox:
    """Keeps what a transport tells it."""

    def __init__(self) -> None:
        self.indexes: list[int] = []
        self.unreachable: list[int] = []
        self.snapshots: list[tuple[int, bool]] = []

    def receive(self, message: Message) -> None:
        self.indexes.append(message.index)

    def peer_unreachable(self, member_id: int) -> None:
        self.unreachable.append(member_id)

    def snapshot_sent(self, member_id: int, ok: bool) -> None:
        self.snapshots.append((member_id, ok))


class SimNetworkTests(SynchronousTestCase):
    """Two members; 1 sends to 2."""

    def setUp(self) -> None:
        self.time = VirtualTime()
        self.network = SimNetwork(self.time, Random(1))
        self.inboxes = {1: Inbox(), 2: Inbox()}
        self.ends: dict[int, SimTransport] = {}
        for each, other in ((1, 2), (2, 1)):
            self.ends[each] = self.network.transport(each, self.time.view())
            self.ends[each].attach(self.inboxes[each])
            self.ends[each].add_peer(other, ())

    def send(self, count: int, kind: MessageType = MessageType.APP) -> list[int]:
        """Send ``count`` messages from 1 to 2; the indexes of those that arrived."""
        for number in range(count):
            self.ends[1].send([Message(type=kind, to=2, from_=1, index=number)])
        self.time.run_until_idle()
        arrived, self.inboxes[2].indexes = self.inboxes[2].indexes, []
        return arrived

    def test_interface(self) -> None:
        """An end of it is an IPeerTransport."""
        verifyObject(IPeerTransport, self.ends[1])

    def test_fine_weather(self) -> None:
        """Without faults every message arrives once, though not always in order."""
        self.assertEqual(sorted(self.send(50)), list(range(50)))

    def test_reorder(self) -> None:
        """Messages with delays of their own overtake each other."""
        self.assertNotEqual(self.send(50), list(range(50)))

    def test_drop_and_duplicate(self) -> None:
        """Messages are lost and doubled as often as the weather says, and counted."""
        self.network.weather = Weather(drop=0.5)
        self.assertIn(len(self.send(200)), range(70, 130))
        self.network.weather = Weather(duplicate=0.5)
        self.assertIn(len(self.send(200)), range(270, 330))
        self.assertGreater(self.network.counts["dropped"], 0)
        self.assertGreater(self.network.counts["duplicated"], 0)

    def test_proposals_never_twice(self) -> None:
        """A forwarded proposal is not doubled: nothing above would notice."""
        self.network.weather = Weather(duplicate=1.0)
        self.assertEqual(len(self.send(20, MessageType.PROP)), 20)

    def test_one_way_cut(self) -> None:
        """A cut stops one direction, and its sender learns that the peer is unreachable."""
        self.network.cut(1, 2)
        self.assertEqual(self.send(1), [])
        self.assertEqual(self.inboxes[1].unreachable, [2])
        self.ends[2].send([Message(type=MessageType.APP, to=1, from_=2, index=7)])
        self.time.run_until_idle()
        self.assertEqual(self.inboxes[1].indexes, [7])
        self.network.mend(1, 2)
        self.assertEqual(self.send(1), [0])

    def test_held(self) -> None:
        """A member that does not read gets everything when it does."""
        self.network.hold(2)
        self.assertEqual(self.send(3), [])
        self.assertEqual(self.inboxes[1].unreachable, [])
        self.network.release(2)
        self.assertEqual(sorted(self.send(0)), [0, 1, 2])

    def test_partition_and_heal(self) -> None:
        """A partition stops both directions until it is healed."""
        self.network.isolate(1)
        self.assertTrue(self.network.is_cut(1, 2) and self.network.is_cut(2, 1))
        self.network.heal()
        self.assertEqual(self.send(1), [0])

    def test_snapshot_status(self) -> None:
        """The sender of a snapshot is told whether it arrived."""
        self.send(1, MessageType.SNAP)
        self.network.cut(1, 2)
        self.send(1, MessageType.SNAP)
        self.assertEqual(self.inboxes[1].snapshots, [(2, True), (2, False)])

    def test_unknown_peer_and_stop(self) -> None:
        """What goes to a removed peer, or comes after a stop, is dropped."""
        self.ends[1].remove_peer(2)
        self.assertEqual(self.send(1), [])
        self.ends[1].add_peer(2, ())
        self.ends[2].stop()
        self.assertEqual(self.send(1), [])
