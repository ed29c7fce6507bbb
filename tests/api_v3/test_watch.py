"""The Watch service, beyond what the recordings show."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.api.v3 import watch as module
from etcdtw.api.v3.watch import DUPLICATE_ID, EMPTY_RANGE, WatchSettings
from etcdtw.errors import Code, NoLeader, PermissionDenied
from etcdtw.pb.rpc_pb2 import (
    WatchCancelRequest,
    WatchCreateRequest,
    WatchProgressRequest,
    WatchResponse,
)
from tests.api_v3.fakes import FakeStream
from tests.api_v3.member import Member, request, responses


def create(stream: FakeStream, key: bytes = b"a", **fields: object) -> None:
    request(stream, create_request=WatchCreateRequest(key=key, **fields))  # type: ignore[arg-type]


def cancel(stream: FakeStream, watch_id: int) -> None:
    request(stream, cancel_request=WatchCancelRequest(watch_id=watch_id))


def ask_progress(stream: FakeStream) -> None:
    request(stream, progress_request=WatchProgressRequest())


def revisions(answers: list[WatchResponse]) -> list[int]:
    return [event.kv.mod_revision for each in answers for event in each.events]


class RequestTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.member = Member()
        self.stream = self.member.watch_stream()

    def put(self, key: bytes = b"a", value: bytes = b"") -> None:
        self.member.store.put_one(key, value)

    def test_ids(self) -> None:
        """Ids count up from 0 around those that the client chose, are not used again by
        themselves, and may be negative."""
        for chosen in (1, -1, -5, 0, 0):
            create(self.stream, watch_id=chosen)
        cancel(self.stream, 0)
        create(self.stream)
        create(self.stream, watch_id=0)
        found = [(each.watch_id, each.canceled) for each in responses(self.stream)]
        self.assertEqual(
            found,
            [
                (1, False),
                (-1, False),
                (-5, False),
                (0, False),
                (2, False),
                (0, True),
                (3, False),
                (4, False),
            ],
        )

    def test_refusals(self) -> None:
        """An empty range is refused before a taken id; the first watch under the id lives on."""
        create(self.stream, watch_id=7)
        create(self.stream, watch_id=7)
        create(self.stream, watch_id=7, range_end=b"a")
        self.put()
        answers = responses(self.stream)
        self.assertEqual(
            [(each.watch_id, each.created, each.canceled, each.cancel_reason) for each in answers],
            [
                (7, True, False, ""),
                (-1, True, True, DUPLICATE_ID),
                (-1, True, True, EMPTY_RANGE),
                (7, False, False, ""),
            ],
        )

    def test_compacted_id(self) -> None:
        """After a watch ended for compaction its id is taken until the client cancels it, which
        is answered."""
        for _ in range(9):
            self.put()
        self.member.store.compact(8)
        create(self.stream, watch_id=7, start_revision=3)
        self.member.clock.advance(0)
        create(self.stream, watch_id=7)
        cancel(self.stream, 7)
        create(self.stream, watch_id=7)
        found = [
            (
                each.header.revision,
                each.watch_id,
                each.created,
                each.canceled,
                each.compact_revision,
            )
            for each in responses(self.stream)
        ]
        self.assertEqual(
            found,
            [
                (10, 7, True, False, 0),
                (0, 7, False, True, 8),
                (10, -1, True, True, 0),
                (10, 7, False, True, 0),
                (10, 7, True, False, 0),
            ],
        )

    def test_permission(self) -> None:
        """Who may not read the keys is told in the words of the Go library, id 0."""
        self.member.denied = PermissionDenied()
        create(self.stream)
        (answer,) = responses(self.stream)
        self.assertEqual((answer.watch_id, answer.created, answer.canceled), (0, True, True))
        self.assertEqual(
            answer.cancel_reason,
            "rpc error: code = PermissionDenied desc = etcdserver: permission denied",
        )

    def test_malformed(self) -> None:
        """What is no WatchRequest ends the stream with Internal in grpc-go's words."""
        for body, text in (
            (b"\xff\xff", "unexpected EOF"),
            (b"\x08\x01", "proto: wrong wireType = 0 for field CreateRequest"),
            (b"\x0a\x02\x08\x01", "proto: wrong wireType = 0 for field Key"),
        ):
            stream = self.member.watch_stream()
            create(stream)
            stream.message(body)
            assert stream.error is not None
            self.assertEqual(stream.error.code, Code.INTERNAL)
            self.assertEqual(
                str(stream.error), f"grpc: failed to unmarshal the received message {text}"
            )
        self.assertEqual(self.member.hub.watchers, 0)
        self.assertEqual(len(self.member.watches.streams), 1)

    def test_client_goes(self) -> None:
        """A cancelled stream leaves nothing behind; one that is only half closed goes on."""
        create(self.stream, progress_notify=True)
        assert self.stream.on_half_close is not None
        self.stream.on_half_close()
        self.put()
        self.assertEqual(revisions(responses(self.stream)), [2])
        assert self.stream.on_cancel is not None
        self.stream.on_cancel()
        self.put()
        self.assertEqual(self.stream.sent, [])
        self.assertEqual((self.member.hub.watchers, len(self.member.watches.streams)), (0, 0))
        self.assertEqual(self.member.clock.getDelayedCalls(), [])

    def test_stop(self) -> None:
        """After stop no watch, stream or timer is left."""
        self.put()
        create(self.stream, start_revision=1, progress_notify=True)
        self.member.watches.stop()
        self.assertEqual(self.member.hub.watchers, 0)
        self.assertEqual(self.member.clock.getDelayedCalls(), [])

    def test_another_life(self) -> None:
        """What a stream watches goes on in another life of the member, whose store is ahead: each
        watch gets what it lacks, or is told that it is compacted, and so do requests that come
        later. Nothing of the earlier life is left."""
        for _ in range(3):
            self.put()
        create(self.stream)
        create(self.stream, start_revision=2)
        ask_progress(self.stream)
        responses(self.stream)
        later = Member(clock=self.member.clock)
        for _ in range(7):
            later.store.put_one(b"a", b"")
        later.store.compact(4)
        later.header.term = 9
        self.member.watches.pause()
        later.watches.take_over(self.member.watches)
        self.member.clock.advance(0)
        compacted, events, progress = responses(self.stream)
        self.assertEqual((compacted.watch_id, compacted.compact_revision), (1, 4))
        self.assertEqual((events.watch_id, revisions([events])), (0, [5, 6, 7, 8]))
        self.assertEqual((progress.watch_id, progress.header.raft_term), (-1, 9))
        self.put()
        later.store.put_one(b"a", b"")
        create(self.stream, start_revision=9)
        self.member.clock.advance(0)
        answers = responses(self.stream)
        found = [(each.watch_id, each.created, revisions([each])) for each in answers]
        self.assertEqual(found, [(0, False, [9]), (2, True, []), (2, False, [9])])
        later.watches.stop()
        self.assertEqual(later.watches.hub.watchers, 0)
        self.assertEqual(self.member.store.on_change, [])
        self.assertEqual(self.member.clock.getDelayedCalls(), [])

    def test_leader_lost(self) -> None:
        """Streams that require a leader end when there is none for long, or none at the start."""
        asking = self.member.watch_stream(hasleader="true")
        create(asking)
        create(self.stream)
        for leader in (0, 7, 0):
            self.member.watches.leader_changed(leader)
            self.member.clock.advance(2.75)
        self.assertFalse(asking.ended)
        self.member.clock.advance(0.25)
        self.assertIsInstance(asking.error, NoLeader)
        self.assertFalse(self.stream.ended)
        self.assertEqual(self.member.hub.watchers, 1)
        self.member.has_leader = False
        self.assertIsInstance(self.member.watch_stream(hasleader="true").error, NoLeader)
        self.assertFalse(self.member.watch_stream().ended)
        self.assertEqual(self.member.clock.getDelayedCalls(), [])


class ProgressTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.member = Member()
        self.stream = self.member.watch_stream()
        for _ in range(3):
            self.member.store.put_one(b"a", b"")

    def test_waits_for_history(self) -> None:
        """A progress request is answered once no watch of the stream lacks older events."""
        create(self.stream, start_revision=2)
        ask_progress(self.stream)
        self.assertEqual([each.created for each in responses(self.stream)], [True])
        self.member.clock.advance(0)
        events, progress = responses(self.stream)
        self.assertEqual(revisions([events]), [2, 3, 4])
        self.assertEqual((progress.watch_id, progress.header.revision), (-1, 4))
        self.member.clock.advance(1)
        self.assertEqual(self.stream.sent, [])

    def test_cancelled_watch_does_not_hold_it_up(self) -> None:
        """Cancelling the watch that a progress answer waits for lets it go."""
        stream = self.member.watch_stream()
        stream.room = 0
        create(stream)
        for _ in range(150):
            self.member.store.put_one(b"a", b"")
        stream.sent.clear()
        ask_progress(stream)
        cancel(stream, 0)
        self.member.clock.advance(0)
        self.assertEqual([each.watch_id for each in responses(stream)], [0, -1])

    def test_notifications(self) -> None:
        """A watch that asked for it hears of progress about every interval, with some jitter, if
        it got no event since the last time."""
        create(self.stream, progress_notify=True)
        create(self.stream, b"b", progress_notify=True)
        create(self.stream, b"c")
        self.stream.sent.clear()
        self.member.clock.advance(599)
        self.member.store.put_one(b"a", b"")
        self.assertEqual(len(responses(self.stream)), 1)
        self.member.clock.advance(61)
        found = [(each.watch_id, each.header.revision) for each in responses(self.stream)]
        self.assertEqual(found, [(1, 5)])
        self.member.clock.advance(660)
        found = [(each.watch_id, each.header.revision) for each in responses(self.stream)]
        self.assertEqual(found, [(0, 5), (1, 5)])


class BackPressureTests(SynchronousTestCase):
    def test_blocked_stream(self) -> None:
        """A stream that is not read takes about 128 responses; the rest waits in the history and
        comes in one response per watch when the client reads on."""
        member = Member()
        stream, free = member.watch_stream(), member.watch_stream()
        create(stream)
        create(free)
        stream.sent.clear()
        free.sent.clear()
        stream.room = 10
        for _ in range(200):
            member.store.put_one(b"a", b"")
        member.clock.advance(0)
        self.assertGreaterEqual(len(stream.sent), 128)
        self.assertLessEqual(len(stream.sent), 10 + 128)
        self.assertEqual(len(free.sent), 200)
        self.assertEqual(member.hub.slow_watchers, 1)
        first = revisions(responses(stream))
        stream.drain()
        member.clock.advance(0)
        rest = responses(stream)
        self.assertEqual(len(rest), 1)
        self.assertEqual(first + revisions(rest), list(range(2, 202)))
        self.assertEqual(member.hub.slow_watchers, 0)

    def test_many_watches_of_one_stream(self) -> None:
        """They are answered in pieces while the client reads; when it does not, the rest waits, and
        each watch gets every event once."""
        member = Member()
        stream = member.watch_stream()
        watch_ids = list(range(300))
        for _ in watch_ids:
            create(stream)
        member.clock.pump([0] * 4)
        stream.sent.clear()
        member.store.put_one(b"a", b"1")
        self.assertEqual([each.watch_id for each in responses(stream)], watch_ids)
        stream.drain()
        stream.sent.clear()
        stream.room = 10
        member.store.put_one(b"a", b"2")
        self.assertGreaterEqual(len(stream.sent), 128)
        self.assertLessEqual(len(stream.sent), 10 + 128 + module.TOGETHER_MAX)
        self.assertEqual(member.hub.slow_watchers, 300 - len(stream.sent))
        first = [each.watch_id for each in responses(stream)]
        stream.drain()
        member.clock.pump([0] * 4)
        self.assertEqual(first + [each.watch_id for each in responses(stream)], watch_ids)

    def test_answers_not_taken(self) -> None:
        """Requests of a client that does not take the answers wait, until it does or there are too
        many."""
        self.patch(module, "BACKLOG_MAX", 1000)
        member = Member()
        stream = member.watch_stream()
        stream.room = 0
        for _ in range(1000):
            ask_progress(stream)
            member.clock.advance(0)
        self.assertLess(len(stream.sent), 500)
        stream.drain()
        member.clock.pump([0] * 4)
        self.assertEqual(len(stream.sent), 1000)
        stream.room = 0
        for _ in range(1500):
            ask_progress(stream)
        self.assertEqual(str(stream.error), "etcdserver: too many requests")

    def test_large_requests(self) -> None:
        """Those that wait are also bounded in bytes: few of them can be large."""
        self.patch(module, "BACKLOG_BYTES_MAX", 10_000)
        member = Member()
        stream = member.watch_stream()
        for count in (2, 2, 3):
            self.assertIsNone(stream.error)
            stream.drain()
            member.clock.pump([0] * 4)
            stream.room = 0
            for _ in range(module.REQUESTS_PER_TURN + 200):
                ask_progress(stream)
                member.clock.advance(0)
            for _ in range(count):
                create(stream, key=b"k" * 4000)
        self.assertEqual(str(stream.error), "etcdserver: too many requests")

    def test_blocked_by_bytes(self) -> None:
        """A few large events are enough to make the watches of a blocked stream wait."""
        member = Member(WatchSettings(blocked_bytes_max=10_000))
        stream = member.watch_stream()
        create(stream)
        stream.room = 0
        for _ in range(5):
            member.store.put_one(b"a", b"x" * 5000)
        self.assertEqual(revisions(responses(stream)), [2, 3])

    def test_fragments(self) -> None:
        """A fragmenting watch gets a large response in parts between events, all but the last
        marked; other watches get it whole."""
        member = Member(WatchSettings(response_bytes_max=2500))
        for number in range(6):
            member.store.put_one(b"a%d" % number, b"x" * 700)
        stream = member.watch_stream()
        create(stream, range_end=b"b", start_revision=1, fragment=True)
        create(stream, range_end=b"b", start_revision=1)
        member.clock.advance(0)
        found = responses(stream)[2:]
        self.assertEqual(
            [(each.watch_id, each.fragment, len(each.events)) for each in found],
            [(0, True, 3), (0, False, 3), (1, False, 6)],
        )
        self.assertEqual(revisions(found[:2]), revisions(found[2:]))

    @settings(max_examples=60, deadline=None, derandomize=True)
    @given(
        st.lists(st.tuples(st.sampled_from([b"a", b"ab", b"b"]), st.integers(0, 400)), max_size=25),
        st.lists(st.integers(0, 24), max_size=6),
        st.booleans(),
    )
    def test_nothing_is_lost(
        self, puts: list[tuple[bytes, int]], drains: list[int], fragment: bool
    ) -> None:
        """However often a stream is blocked, and with fragments, each watch gets every event of
        its keys once and in order."""
        member = Member(
            WatchSettings(blocked_responses_max=2, response_bytes_max=500, sync_budget=3)
        )
        stream = member.watch_stream()
        create(stream, b"a", range_end=b"b", fragment=fragment)
        create(stream, b"a", start_revision=1)
        answers: list[WatchResponse] = responses(stream)
        stream.room = 2
        for number, (key, size) in enumerate(puts):
            member.store.put_one(key, b"x" * size)
            member.clock.advance(0)
            if number in drains:
                answers += responses(stream)
                stream.drain()
                stream.room = 2
        for _ in range(60):
            answers += responses(stream)
            stream.drain()
            member.clock.advance(0)
        for watch_id, keys in ((0, (b"a", b"ab")), (1, (b"a",))):
            mine = [each for each in answers if each.watch_id == watch_id]
            wants = [at + 2 for at, (key, _) in enumerate(puts) if key in keys]
            self.assertEqual(revisions(mine), wants)
