"""Members that talk over a simulated network, with everything real from transport to transport."""

from __future__ import annotations

import random

from twisted.logger import capturedLogs
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.api.http.factory import HttpFactory
from etcdtw.api.http.site import Site
from etcdtw.api.peer.raft import STREAM_PREFIX, RaftPage, StreamTree
from etcdtw.peer.calling import HttpCaller
from etcdtw.peer.headers import Identity
from etcdtw.peer.transport import PeerTransport
from etcdtw.raft.messages import ConfState, Entry, Message, MessageType, Snapshot
from etcdtw.testing.streams import StreamNetwork
from etcdtw.testing.time import VirtualTime

CLUSTER = 0xCDF818194E3A8C32


class Receiver:
    """Who gets a member's messages."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.unreachable: list[int] = []

    def receive(self, message: Message) -> None:
        self.messages.append(message)

    def peer_unreachable(self, member_id: int) -> None:
        self.unreachable.append(member_id)

    def snapshot_sent(self, member_id: int, ok: bool) -> None:
        """None is sent here."""


class TransportTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.time = VirtualTime(1)
        self.clock = self.time.view()
        self.network = StreamNetwork(self.clock, random.Random(1), piece_bytes_max=40)
        self.transports: dict[int, PeerTransport] = {}
        self.receivers: dict[int, Receiver] = {}
        for member in (1, 2, 3):
            self.up(member)

    def up(self, member: int, cluster: int = CLUSTER) -> None:
        """A member that knows the two others."""
        caller = HttpCaller(
            self.clock,
            2.0,
            lambda scheme, host, port: self.network.endpoint(f"m{member}", host, port),
        )
        identity = Identity(member, cluster, (f"http://m{member}:2380",))
        transport = PeerTransport(identity, caller)
        site = Site({b"/raft": RaftPage(transport)}, {STREAM_PREFIX: StreamTree(transport)})
        self.network.listen(f"m{member}", 2380, HttpFactory(site, self.clock))
        for other in {1, 2, 3} - {member}:
            transport.add_peer(other, [f"http://m{other}:2380"])
        receiver = self.receivers[member] = Receiver()
        transport.attach(receiver)
        self.transports[member] = transport
        self.addCleanup(transport.stop)

    def down(self, member: int) -> None:
        self.transports[member].stop()
        self.network.stop_listening(f"m{member}", 2380)
        self.network.reset(f"m{member}")

    def run_for(self, seconds: float) -> None:
        self.time.run_until(self.time.now + seconds)

    def heartbeat(self, sender: int, to: int) -> Message:
        return Message(MessageType.HEARTBEAT, to, sender, 5)

    def append(self, sender: int, to: int, index: int) -> Message:
        entries = (Entry(5, index + 1, data=b"x" * 100),)
        return Message(MessageType.APP, to, sender, 5, 5, index, entries=entries)

    def test_streams(self) -> None:
        """Everybody reaches everybody; appends and other messages keep their order."""
        self.run_for(1)
        for sender in (1, 2, 3):
            for to in {1, 2, 3} - {sender}:
                messages = [self.append(sender, to, index) for index in range(20)]
                self.transports[sender].send([*messages, self.heartbeat(sender, to)])
        self.run_for(1)
        for member, receiver in self.receivers.items():
            for other in {1, 2, 3} - {member}:
                got = [each for each in receiver.messages if each.from_ == other]
                appends = [each.index for each in got if each.type == MessageType.APP]
                self.assertEqual(appends, list(range(20)))
                self.assertEqual(len(got), 21)
        self.assertEqual(self.transports[1].active_ids(0.5), {1, 2, 3})

    def test_quiet(self) -> None:
        """Streams without messages stay up by signs of life."""
        self.run_for(60)
        self.assertEqual(self.transports[1].active_ids(50), {1, 2, 3})

    def test_swallowed(self) -> None:
        """A link that swallows everything is noticed, and the stream dialled again when it is
        mended."""
        self.run_for(1)
        self.network.separate("m1", "m2")
        self.run_for(20)
        self.assertFalse(self.transports[1].is_active(2))
        self.assertTrue(self.transports[1].is_active(3))
        self.assertIn(2, self.receivers[1].unreachable)
        self.network.mend()
        self.run_for(10)
        self.assertTrue(self.transports[1].is_active(2))

    def test_restart(self) -> None:
        """A member that comes back is talked to again."""
        self.run_for(1)
        self.down(2)
        self.run_for(5)
        self.assertFalse(self.transports[1].is_active(2))
        self.up(2)
        self.run_for(3)
        self.transports[1].send([self.heartbeat(1, 2)])
        self.run_for(1)
        self.assertEqual([each.from_ for each in self.receivers[2].messages], [1])

    def test_posted(self) -> None:
        """While there is no stream a message is posted."""
        self.transports[1].send([self.heartbeat(1, 2)])
        self.run_for(0.05)
        self.assertEqual(self.receivers[2].messages, [self.heartbeat(1, 2)])

    def test_urls_that_cannot_be_called(self) -> None:
        """A member with such a URL, as anybody may add one, is one that does not answer."""
        identity = Identity(9, CLUSTER, ("http://m9:2380",))
        transport = PeerTransport(identity, HttpCaller(self.clock, 2.0))
        self.addCleanup(transport.stop)
        receiver = Receiver()
        urls: tuple[list[str], ...] = (
            ["unix://m:1"],
            ["https://m:1"],
            ["http://\u00e4:1"],
            ["abc"],
            [],
        )
        for member, each in enumerate(urls, 1):
            transport.add_peer(member, each)
        transport.attach(receiver)
        for index in range(100):
            transport.send([self.append(9, member, index) for member in range(1, 6)])
        self.run_for(10)
        self.assertEqual(set(receiver.unreachable), {1, 2, 3, 4, 5})
        self.assertEqual(transport.active_ids(0), {9})

    def test_snapshot_without_its_database(self) -> None:
        """It is dropped, whichever way it comes."""
        snapshot = Snapshot(7, 5, ConfState(voters=(1, 2, 3)), b"{}")
        message = Message(MessageType.SNAP, 2, 1, 5, snapshot=snapshot)
        self.transports[2].receive(message, 1)
        self.transports[2].received([message, self.heartbeat(1, 2)])
        self.assertEqual(self.receivers[2].messages, [self.heartbeat(1, 2)])

    def test_other_cluster(self) -> None:
        """A member of another cluster is not listened to."""
        self.down(2)
        self.up(2, cluster=5)
        self.run_for(5)
        self.transports[2].send([self.heartbeat(2, 1)])
        self.run_for(1)
        self.assertEqual(self.receivers[1].messages, [])
        self.assertFalse(self.transports[1].is_active(2))

    def test_refusals_are_told_once(self) -> None:
        """However many messages a peer refuses, the log tells why in one line."""
        self.down(2)
        self.up(2, cluster=5)
        with capturedLogs() as events:
            for _ in range(50):
                self.transports[1].send([self.heartbeat(1, 2)])
                self.run_for(0.1)
        told = [each for each in events if "refused a message" in (each["log_format"] or "")]
        self.assertEqual([each["reason"] for each in told], ["status 412: cluster ID mismatch"])

    def test_removed(self) -> None:
        """A member that was removed is told so when it calls."""
        reasons: list[str] = []
        self.transports[2].on_removed.append(reasons.append)
        self.transports[1].remove_peer(2)
        self.run_for(2)
        self.assertTrue(reasons)
        self.assertIn("permanently removed", reasons[0])

    def test_unknown_sender(self) -> None:
        """Somebody whom we do not know yet is answered by posts."""
        self.down(3)
        self.run_for(1)
        self.transports[1].remove_peer(3)
        self.transports[1].removed.clear()
        self.up(3)
        self.run_for(2)
        self.transports[1].send([self.heartbeat(1, 3)])
        self.run_for(1)
        self.assertIn(self.heartbeat(1, 3), self.receivers[3].messages)
