"""The members of a simulated cluster, connected by real peer transports over byte streams."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from io import BytesIO
from random import Random

from etcdtw.api.http.factory import HttpFactory
from etcdtw.api.http.site import Site
from etcdtw.api.peer.raft import STREAM_PREFIX, Probing, RaftPage, StreamTree
from etcdtw.api.peer.snapshot import SnapshotPage
from etcdtw.peer.calling import HttpCaller
from etcdtw.peer.headers import Identity
from etcdtw.peer.snapshots import SNAPSHOT_PATH, SnapshotBody, SnapshotSender
from etcdtw.peer.transport import PeerTransport
from etcdtw.raft.messages import Message
from etcdtw.testing.cluster_snapshots import MemoryBody
from etcdtw.testing.network import SnapshotReceiver, Weather
from etcdtw.testing.streams import StreamNetwork
from etcdtw.testing.time import MemberTime, VirtualTime

PEER_PORT = 2380
PIECE_BYTES_MAX = 3000
CONNECT_SECONDS = 2.0
CLUSTER_ID = 0xCDF818194E3A8C32


def peer_url(member_id: int) -> str:
    """The address of a member on the simulated network."""
    return f"http://m{member_id}:{PEER_PORT}"


class PeerNetwork:
    """Does for real transports what SimNetwork does for simulated ones.

    Bytes of a stream cannot be dropped or doubled, so bad weather resets connections instead.
    """

    def __init__(self, time: VirtualTime, dice: Random) -> None:
        self.counts: Counter[str] = Counter()
        self.observers: list[Callable[[Message], None]] = []
        self._dice = dice
        self._streams = StreamNetwork(time.view(), dice, piece_bytes_max=PIECE_BYTES_MAX)
        self._weather = Weather()
        self._listening: set[int] = set()

    @property
    def weather(self) -> Weather:
        return self._weather

    @weather.setter
    def weather(self, weather: Weather) -> None:
        self._weather = weather
        slowest = weather.delay_slow if weather.slow else weather.delay_max
        self._streams.set_delay(weather.delay_min, slowest)
        if weather.drop and self._listening:
            self.counts["reset"] += 1
            self._streams.reset(f"m{self._dice.choice(sorted(self._listening))}")

    def transport(self, member_id: int, clock: MemberTime) -> SimPeerTransport:
        """The transport of one life of a member."""
        caller = HttpCaller(
            clock,
            CONNECT_SECONDS,
            lambda scheme, host, port: self._streams.endpoint(f"m{member_id}", host, port),
        )
        identity = Identity(member_id, CLUSTER_ID, (peer_url(member_id),))
        return SimPeerTransport(self, identity, caller, clock)

    def begin(
        self, transport: SimPeerTransport, clock: MemberTime, exchange: SnapshotReceiver
    ) -> None:
        """Let others call this member."""
        member_id = transport.identity.member_id
        site = Site(
            {
                b"/raft": RaftPage(transport),
                b"/raft/probing": Probing(clock.seconds),
                SNAPSHOT_PATH.encode(): SnapshotPage(transport, exchange),
            },
            {STREAM_PREFIX: StreamTree(transport)},
        )
        factory = HttpFactory(site, clock)
        factory.uploads[SNAPSHOT_PATH.encode()] = lambda: SnapshotBody(MemoryBody)
        self._streams.listen(f"m{member_id}", PEER_PORT, factory)
        self._listening.add(member_id)

    def end(self, member_id: int) -> None:
        """The process is gone, and its connections with it."""
        self._listening.discard(member_id)
        self._streams.vanish(f"m{member_id}")

    def cut(self, sender: int, receiver: int) -> None:
        self._streams.cut(f"m{sender}", f"m{receiver}")
        self.counts["cut"] += 1

    def mend(self, sender: int, receiver: int) -> None:
        self._streams.mend((f"m{sender}", f"m{receiver}"))

    def hold(self, member_id: int) -> None:
        self._streams.hold(f"m{member_id}")

    def release(self, member_id: int) -> None:
        self._streams.release(f"m{member_id}")

    def heal(self) -> None:
        self._streams.mend()
        self.weather = Weather()


class SimPeerTransport(PeerTransport):
    """A real one, whose messages are seen by the network's observers."""

    def __init__(
        self, network: PeerNetwork, identity: Identity, caller: HttpCaller, clock: MemberTime
    ) -> None:
        super().__init__(identity, caller)
        self._network = network
        self._clock = clock
        self._sender = SnapshotSender(identity, caller)
        self.exchange: SnapshotReceiver | None = None

    def begin(self, exchange: SnapshotReceiver, send: Callable[[Message], None]) -> None:
        """Send and take snapshots by these."""
        self.exchange = exchange
        self.on_snapshot = send
        self._network.begin(self, self._clock, exchange)

    def end(self) -> None:
        self._network.end(self.identity.member_id)

    def received(self, messages: list[Message]) -> None:
        self._network.counts["delivered"] += len(messages)
        for message in messages:
            for each in self._network.observers:
                each(message)
        super().received(messages)

    def post_snapshot(self, message: Message, body: bytes) -> None:
        exchange, peer = self.exchange, self.peers.get(message.to)
        assert exchange is not None, "a snapshot of a member that has not begun"

        def ended(ok: bool) -> None:
            exchange.snapshot_ended(message.to, ok)

        if peer is None:
            ended(False)
        else:
            self._sender.send(message, BytesIO(body), peer.url(), ended)
