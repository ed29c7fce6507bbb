"""Shared watches, case by case."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.pb.rpc_pb2 import WatchRequest, WatchResponse
from etcdtw.proxy.grpc.broadcast import Interest, Watcher
from etcdtw.proxy.grpc.delivery import Delivery, fragments, header_of
from etcdtw.proxy.grpc.namespace import Namespace
from etcdtw.proxy.grpc.watches import WENT_BACK, WatchCoalescer, WatchCounts
from tests.proxy_grpc.member import Log, MemberStream

KEY = Interest(b"k", b"", (), False)


class Noting(Watcher):
    """Notes what it is told."""

    def __init__(self, interest: Interest = KEY, wants_progress: bool = False) -> None:
        super().__init__(interest)
        self.wants_progress = wants_progress
        self.seen: list[object] = []
        self.bodies: list[bytes] = []

    @property
    def revisions(self) -> list[int]:
        """Of the events, and nothing else; forgotten then."""
        seen, self.seen = [each for each in self.seen if isinstance(each, int)], []
        return seen

    def created(self, header: bytes) -> None:
        self.seen.append("created")

    def deliver(self, delivery: Delivery, body: bytes) -> None:
        self.bodies.append(body)
        events = WatchResponse.FromString(body).events
        self.seen += [each.kv.mod_revision for each in events]

    def progress(self, header: bytes) -> None:
        self.seen.append(("progress", WatchResponse.FromString(header).header.revision))

    def canceled(self, header: bytes, response: WatchResponse) -> None:
        self.seen.append(("canceled", response.compact_revision, response.cancel_reason))


class WatchesTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.log = Log()
        self.counts = WatchCounts()
        self.shared = WatchCoalescer(None, self.counts)
        self.connect()

    def connect(self, log: Log | None = None) -> None:
        self.stream = MemberStream(log or self.log, 100)
        self.shared.opened(self.stream.requests.append)

    def disconnect(self) -> None:
        self.shared.lost()

    def settle(self) -> None:
        stream = self.stream
        while stream.requests or stream.behind or stream.responses:
            self.serve()
            for each in stream.behind:
                stream.tell(each)
            while stream.responses:
                self.shared.received(stream.responses.popleft())

    def serve(self) -> list[str]:
        """What kinds of requests there were."""
        kinds = []
        while self.stream.requests:
            request = WatchRequest.FromString(self.stream.requests[0])
            kinds.append(str(request.WhichOneof("request_union")).removesuffix("_request"))
            self.stream.serve_one()
        return kinds

    def watch(self, start: int = 0, interest: Interest = KEY) -> Noting:
        watcher = Noting(interest)
        self.shared.add(watcher, start)
        return watcher

    def test_one_for_all(self) -> None:
        """GX1: however many watch the same from now on, there is one watch at the cluster, and what
        they get is the same object."""
        watchers = [self.watch() for _ in range(50)]
        self.settle()
        self.assertEqual((len(self.shared._by_id), self.counts.watchers), (1, 49))
        self.log.write(b"k")
        self.settle()
        self.assertEqual({tuple(each.seen) for each in watchers}, {("created", 2)})
        self.assertEqual(len({id(each.bodies[0]) for each in watchers}), 1)
        self.assertEqual(self.counts.events, 49)

    def test_now_is_asked_for(self) -> None:
        """P23: who comes when a creation is under way is not served by its answer, which may be
        older than his wish."""
        early = self.watch()
        self.assertEqual(self.serve(), ["create"])
        self.log.write(b"k")  # seen to be done before the second one asks
        late = self.watch()
        self.settle()
        self.assertEqual((early.revisions, late.revisions), ([2], []))
        self.log.write(b"k")
        self.settle()
        self.assertEqual((early.revisions, late.revisions), ([3], [3]))
        self.assertEqual(len(self.shared._by_id), 1)

    def test_late_joiners(self) -> None:
        """GX1, P23: one with a start in the past gets everything from there, on its own until it
        has caught up, and then with the others."""
        first = self.watch()
        self.settle()
        for _ in range(3):
            self.log.write(b"k")
        self.settle()
        late = self.watch(3)
        self.assertEqual(self.serve(), ["create"])
        self.settle()
        self.assertEqual((first.revisions, late.revisions), ([2, 3, 4], [3, 4]))
        self.log.write(b"k")
        self.settle()
        self.assertEqual((first.revisions, late.revisions), ([5], [5]))
        self.assertEqual(len(self.shared._by_id), 1)
        future = self.watch(7)
        self.assertEqual(self.serve(), [])
        self.assertEqual(future.seen, ["created"])
        for _ in range(3):
            self.log.write(b"k")
        self.settle()
        self.assertEqual((first.revisions, future.revisions), ([6, 7, 8], [7, 8]))

    def test_reconnected(self) -> None:
        """P23: what happened while nobody was connected comes afterwards, once."""
        watcher = self.watch()
        self.settle()
        self.log.write(b"k")
        self.settle()
        self.disconnect()
        self.log.write(b"k")
        self.log.write(b"k")
        self.connect()
        self.settle()
        self.assertEqual(watcher.revisions, [2, 3, 4])

    def test_lost_in_the_middle(self) -> None:
        """P23: pieces of a response that did not come whole are asked for again."""
        watcher = self.watch()
        self.settle()
        self.log.write(b"k")
        self.log.write(b"k")
        (watch_id,) = self.stream.behind
        self.stream.tell(watch_id, in_parts=True)
        self.shared.received(self.stream.responses.popleft())
        self.assertEqual(watcher.revisions, [])
        self.disconnect()
        self.connect()
        self.settle()
        self.assertEqual(watcher.revisions, [2, 3])

    def test_compacted(self) -> None:
        """P23: a compaction ends those who lack what is gone, and nobody else."""
        watcher, future = self.watch(), self.watch(9)
        self.settle()
        self.disconnect()
        for _ in range(6):
            self.log.write(b"k")
        self.log.compact(5)
        self.connect()
        self.settle()
        self.assertEqual(watcher.seen, ["created", ("canceled", 5, "")])
        self.log.write(b"k")
        self.log.write(b"k")
        self.settle()
        self.assertEqual(future.revisions, [9])

    def test_headers(self) -> None:
        """The answer that says what is compacted has no revision: others are not told that one."""
        self.assertEqual(self.shared.header, header_of(WatchResponse()))
        self.watch()
        self.settle()
        header = WatchResponse.FromString(self.shared.header).header
        self.assertEqual(header.revision, 1)
        compacted = WatchResponse(watch_id=0, canceled=True, compact_revision=5)
        compacted.header.member_id = 7
        self.shared.received(compacted.SerializeToString())
        self.assertEqual(WatchResponse.FromString(self.shared.header).header, header)

    def test_negative(self) -> None:
        """A revision below all is for the cluster to refuse."""
        self.watch(-5)
        (request,) = [WatchRequest.FromString(each) for each in self.stream.requests]
        self.assertEqual(request.create_request.start_revision, -5)

    def test_compacted_beside_others(self) -> None:
        """One who has had what the others lack goes on, on a watch of his own."""
        watcher = self.watch()
        self.settle()
        ahead = self.watch(6)
        self.assertEqual(self.serve(), [])
        self.disconnect()
        for _ in range(6):
            self.log.write(b"k")
        self.log.compact(5)
        self.connect()
        self.settle()
        self.assertEqual(watcher.seen[-1], ("canceled", 5, ""))
        self.assertEqual(ahead.revisions, [6, 7])

    def test_went_back(self) -> None:
        """P23: a cluster that was put back to an older state is told apart from a member that lags,
        and ends the watches with the revision to begin from."""
        watcher = self.watch()
        doubts: list[int] = []
        self.shared.on_doubt = doubts.append
        self.settle()
        for _ in range(4):
            self.log.write(b"k")
        self.settle()
        self.disconnect()
        self.connect(Log())
        self.settle()
        self.assertEqual((doubts, watcher.revisions), ([5], [2, 3, 4, 5]))
        self.shared.went_back(1)
        self.assertEqual(watcher.seen, [("canceled", 2, WENT_BACK)])
        self.assertTrue(self.shared.is_idle)

    def test_refused(self) -> None:
        """A creation that the cluster refuses is told to all who wait for it."""
        watchers = [self.watch(), self.watch(5)]
        self.stream.requests.clear()
        refused = WatchResponse(watch_id=-1, created=True, canceled=True, cancel_reason="no")
        for _ in watchers:
            self.shared.received(refused.SerializeToString())
        self.assertEqual([each.seen for each in watchers], [[("canceled", 0, "no")]] * 2)
        self.assertTrue(self.shared.is_idle)

    def test_canceled(self) -> None:
        """The last one who leaves ends the watch at the cluster, also one not created yet."""
        watchers = [self.watch(), self.watch()]
        self.settle()
        self.shared.remove(watchers[0])
        self.assertEqual(self.serve(), [])
        self.shared.remove(watchers[1])
        self.assertEqual(self.serve(), ["cancel"])
        quick = self.watch()
        self.shared.remove(quick)
        self.assertEqual(self.serve(), ["create"])
        self.settle()
        self.assertEqual((quick.seen, self.stream.behind), ([], []))
        self.assertEqual((self.counts.watchers, self.shared._by_id), (0, {}))

    def test_progress(self) -> None:
        """Progress goes to those who want it, and moves the revision to begin from again."""
        told: list[int] = []
        self.shared.on_progress = lambda header: told.append(
            WatchResponse.FromString(header).header.revision
        )
        wanting = Noting(wants_progress=True)
        self.shared.add(wanting, 0)
        quiet = self.watch()
        self.settle()
        self.log.write(b"other")
        self.settle()
        self.stream.notify()
        self.settle()
        self.assertEqual((wanting.seen, quiet.seen), (["created", ("progress", 2)], ["created"]))
        self.assertEqual(self.shared.remove(quiet), 3)
        self.shared.ask_progress()
        self.settle()
        self.assertEqual(told, [2])

    def test_namespace(self) -> None:
        """GX1: keys come without the prefix, previous values too."""
        self.shared = WatchCoalescer(Namespace(b"p/"))
        self.connect()
        watcher = self.watch(0, Interest(b"p/", b"p0", (), False))
        self.settle()
        self.log.write(b"p/k")
        self.settle()
        (event,) = WatchResponse.FromString(watcher.bodies[0]).events
        self.assertEqual(event.kv.key, b"k")

    def test_fragments(self) -> None:
        """A large body is cut between events; one event is never cut."""
        for _ in range(5):
            self.log.write(b"k")
        body = Delivery(WatchResponse(events=self.log.events)).body
        parts = list(fragments(body, len(body) // 2))
        self.assertEqual(b"".join(parts), body)
        self.assertGreater(len(parts), 1)
        self.assertEqual(len(list(fragments(body, 1))), 5)
