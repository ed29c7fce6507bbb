"""The Lease service and the loop that ends leases, beyond what the recordings show."""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.api.v3 import lease as module
from etcdtw.errors import (
    Code,
    EtcdError,
    LeaseNotFound,
    NoSpace,
    NotLeader,
    TimedOut,
    TooManyRequests,
)
from etcdtw.pb.rpc_pb2 import (
    LeaseGrantRequest,
    LeaseGrantResponse,
    LeaseKeepAliveRequest,
    LeaseKeepAliveResponse,
    LeaseRevokeRequest,
    LeaseTimeToLiveRequest,
    LeaseTimeToLiveResponse,
)
from tests.api_v3.fakes import FakeStream
from tests.api_v3.member import Member


class Elsewhere:
    """A leader on another member that answers when the test says so."""

    def __init__(self) -> None:
        self.known = True
        self.asked: list[tuple[int, Callable[[int | EtcdError], None]]] = []
        self.looked_up: list[Callable[[LeaseTimeToLiveResponse | EtcdError], None]] = []

    def reachable(self) -> bool:
        return self.known

    def renew(self, lease_id: int, done: Callable[[int | EtcdError], None]) -> None:
        self.asked.append((lease_id, done))

    def time_to_live(
        self, lease_id: int, keys: bool, done: Callable[[LeaseTimeToLiveResponse | EtcdError], None]
    ) -> None:
        self.looked_up.append(done)


def led() -> Member:
    member = Member()
    member.lessor.promote(0, 0)
    return member


def keep_alive(stream: FakeStream, *ids: int) -> None:
    for lease_id in ids:
        stream.message(LeaseKeepAliveRequest(ID=lease_id).SerializeToString())


def ttls(stream: FakeStream) -> list[tuple[int, int]]:
    answers = [LeaseKeepAliveResponse.FromString(each) for each in stream.sent]
    return [(each.ID, each.TTL) for each in answers]


class UnaryTests(SynchronousTestCase):
    def test_chosen_id(self) -> None:
        """Without an id the proposer picks a positive one before the request enters the log."""
        member = led()
        member.ids = iter([1 << 63, (1 << 63) + 5])
        answer = member.ask(member.leases.grant, LeaseGrantRequest(TTL=9), LeaseGrantResponse)
        self.assertEqual(answer.ID, 5)
        self.assertEqual(member.log.seen[0][1], LeaseGrantRequest(TTL=9, ID=5))

    def test_refused_proposal(self) -> None:
        """What the proposer refuses is the answer."""
        member = led()
        member.log.refusal = NoSpace()
        call = member.unary(member.leases.grant, LeaseGrantRequest(TTL=9))
        self.assertIsInstance(call.answer, NoSpace)

    def test_malformed(self) -> None:
        """A known field of a wrong wire type is Internal and never proposed."""
        member = led()
        with self.assertRaises(EtcdError) as caught:
            member.leases.grant(object(), b"\x0a\x01a")  # type: ignore[arg-type]
        self.assertEqual(caught.exception.code, Code.INTERNAL)
        self.assertEqual(
            str(caught.exception),
            "grpc: error unmarshalling request: proto: wrong wireType = 2 for field TTL",
        )
        self.assertEqual(member.log.seen, [])

    def test_time_to_live_over(self) -> None:
        """A lease that is over but not revoked yet has 0 seconds left."""
        member = led()
        member.lessor.grant(5, 2, 0)
        member.clock.advance(60)
        answer = member.ask(
            member.leases.time_to_live, LeaseTimeToLiveRequest(ID=5), LeaseTimeToLiveResponse
        )
        self.assertEqual((answer.TTL, answer.grantedTTL), (0, 2))

    def test_time_to_live_elsewhere(self) -> None:
        """A follower asks the leader and answers under its own header."""
        leader = Elsewhere()
        member = Member(elsewhere=leader)
        found = member.unary(member.leases.time_to_live, LeaseTimeToLiveRequest(ID=5))
        gone = member.unary(member.leases.time_to_live, LeaseTimeToLiveRequest(ID=6))
        answer = LeaseTimeToLiveResponse(ID=5, TTL=3)
        answer.header.member_id = 1
        leader.looked_up[0](answer)
        leader.looked_up[1](LeaseNotFound())
        assert isinstance(found.answer, bytes) and isinstance(gone.answer, bytes)
        decoded = LeaseTimeToLiveResponse.FromString(found.answer)
        self.assertEqual((decoded.TTL, decoded.header.raft_term), (3, 2))
        self.assertEqual(LeaseTimeToLiveResponse.FromString(gone.answer).TTL, -1)

    def test_waits_for_a_leader(self) -> None:
        """Without a leader a member waits for one, and gives up in the end."""
        member = Member()
        request = LeaseTimeToLiveRequest(ID=5)
        lucky = member.unary(member.leases.time_to_live, request)
        member.clock.pump([0.05] * 10)
        member.lessor.promote(0, member.clock.seconds())
        member.clock.advance(0.05)
        self.assertIsInstance(lucky.answer, bytes)
        member.lessor.demote()
        unlucky = member.unary(member.leases.time_to_live, request)
        member.clock.pump([0.05] * 142)
        self.assertIsInstance(unlucky.answer, TimedOut)
        self.assertEqual(member.clock.getDelayedCalls(), [])


class KeepAliveTests(SynchronousTestCase):
    def test_local(self) -> None:
        """Renewals are answered in order; an unknown or ended lease has TTL 0."""
        member = led()
        member.lessor.grant(5, 60, 0)
        member.lessor.grant(6, 2, 0)
        member.clock.advance(10)
        stream = member.keep_alive_stream()
        keep_alive(stream, 5, 4, 6, 5)
        self.assertEqual(ttls(stream), [(5, 60), (4, 0), (6, 0), (5, 60)])
        self.assertEqual(member.lessor.remaining(5, 10), 60)

    def test_half_close(self) -> None:
        """A client that has no more to ask gets the answers and then the end."""
        leader = Elsewhere()
        member = Member(elsewhere=leader)
        stream = member.keep_alive_stream()
        keep_alive(stream, 5)
        assert stream.on_half_close is not None
        stream.on_half_close()
        self.assertFalse(stream.ended)
        leader.asked[0][1](9)
        self.assertEqual((ttls(stream), stream.ended, stream.error), ([(5, 9)], True, None))

    def test_elsewhere_in_order(self) -> None:
        """A follower sends them to the leader one after the other, so that answers keep order;
        an error ends the stream."""
        leader = Elsewhere()
        member = Member(elsewhere=leader)
        stream = member.keep_alive_stream()
        keep_alive(stream, 5, 6, 7)
        self.assertEqual(len(leader.asked), 1)
        leader.asked[0][1](9)
        leader.asked[1][1](LeaseNotFound())
        leader.asked[2][1](TimedOut())
        self.assertEqual(ttls(stream), [(5, 9), (6, 0)])
        self.assertIsInstance(stream.error, TimedOut)

    def test_client_goes(self) -> None:
        """After the client has gone an answer of the leader is dropped."""
        leader = Elsewhere()
        member = Member(elsewhere=leader)
        stream = member.keep_alive_stream()
        keep_alive(stream, 5, 6)
        assert stream.on_cancel is not None
        stream.on_cancel()
        leader.asked[0][1](9)
        self.assertEqual((len(leader.asked), stream.sent, stream.ended), (1, [], False))

    def test_queue_is_bounded(self) -> None:
        """A stream that sends much more than the leader answers is ended; a long queue that is
        answered does no harm."""
        self.patch(module, "KEEPALIVES_WAITING_MAX", 1000)
        leader = Elsewhere()
        member = Member(elsewhere=leader)
        stream = member.keep_alive_stream()
        keep_alive(stream, *range(1, module.KEEPALIVES_WAITING_MAX + 2))
        self.assertFalse(stream.ended)
        member.lessor.promote(0, 0)
        leader.asked[0][1](9)
        member.clock.pump([0] * 4)
        self.assertEqual(len(stream.sent), module.KEEPALIVES_WAITING_MAX + 1)
        member.lessor.demote()
        keep_alive(stream, *range(1, module.KEEPALIVES_WAITING_MAX + 3))
        self.assertIsInstance(stream.error, TooManyRequests)

    def test_turns(self) -> None:
        """Others get their turn in a burst of keepalives, all of which are answered."""
        member = led()
        stream = member.keep_alive_stream()
        count = 2 * module.KEEPALIVES_PER_TURN + 1
        keep_alive(stream, *range(count))
        self.assertEqual(len(stream.sent), module.KEEPALIVES_PER_TURN)
        assert stream.on_half_close is not None
        stream.on_half_close()
        member.clock.pump([0] * 2)
        self.assertEqual([lease_id for lease_id, _ in ttls(stream)], list(range(count)))
        self.assertTrue(stream.ended)
        self.assertEqual(member.clock.getDelayedCalls(), [])

    def test_answers_not_taken(self) -> None:
        """A client that does not take its answers gets no more of them until it does."""
        member = led()
        stream = member.keep_alive_stream()
        stream.room = 2
        keep_alive(stream, 1, 2, 3, 4)
        member.clock.pump([0] * 2)
        self.assertEqual(len(stream.sent), 2)
        stream.drain()
        self.assertEqual([lease_id for lease_id, _ in ttls(stream)], [1, 2, 3, 4])

    def test_checkpointed(self) -> None:
        """Renewing a checkpointed lease replicates the renewal first."""
        member = led()
        member.lessor.grant(5, 1000, 0)
        member.lessor.checkpoint(5, 30, 0)
        stream = member.keep_alive_stream()
        member.log.holding = True
        keep_alive(stream, 5, 5)
        self.assertEqual(stream.sent, [])
        member.log.release()
        self.assertEqual(ttls(stream), [(5, 1000), (5, 1000)])
        self.assertEqual([kind for kind, _ in member.log.seen], ["lease_checkpoint"])


class ExpirerTests(SynchronousTestCase):
    def test_expires(self) -> None:
        """Leases that are over go with their keys within one round; the others stay."""
        member = led()
        member.lessor.grant(5, 2, 0)
        member.lessor.grant(6, 60, 0)
        member.store.put_one(b"a", b"", 5)
        member.store.put_one(b"b", b"", 6)
        member.expirer.start()
        member.clock.pump([0.5] * 3)
        self.assertTrue(member.lessor.exists(5))
        member.clock.advance(0.5)
        self.assertFalse(member.lessor.exists(5))
        self.assertEqual(member.store.range(b"a", b"c").count, 1)
        member.expirer.stop()
        self.assertEqual(member.clock.getDelayedCalls(), [])

    def test_in_flight(self) -> None:
        """No more than 16 revocations are under way at a time."""
        member = led()
        for lease_id in range(1, 101):
            member.lessor.grant(lease_id, 2, 0)
        member.log.holding = True
        member.expirer.start()
        member.clock.advance(2)
        self.assertEqual(len(member.log.held), 16)
        member.log.release()
        self.assertEqual(len(member.log.held), 16)
        member.log.holding = False
        member.log.release()
        self.assertEqual(len(member.lessor), 0)
        self.assertEqual(len(member.log.seen), 100)

    def test_failed_one_is_repeated(self) -> None:
        """A revocation that fails is tried again after some seconds."""
        member = led()
        member.lessor.grant(5, 2, 0)
        member.log.refusal = NotLeader()
        member.expirer.start()
        member.clock.pump([0.5] * 5)
        member.log.refusal = None
        member.clock.pump([0.5] * 4)
        self.assertTrue(member.lessor.exists(5))
        member.clock.pump([0.5] * 3)
        self.assertFalse(member.lessor.exists(5))

    def test_not_the_leader_any_more(self) -> None:
        """What waited to be revoked is forgotten with the leadership."""
        member = led()
        for lease_id in range(1, 41):
            member.lessor.grant(lease_id, 2, 0)
        member.log.holding = True
        member.expirer.start()
        member.clock.advance(2)
        member.lessor.demote()
        member.log.release()
        self.assertEqual(len(member.log.seen), 16)
        self.assertEqual(len(member.lessor), 24)

    def test_checkpoints(self) -> None:
        """Long leases are checkpointed in one entry per round."""
        member = led()
        for lease_id in (5, 6):
            member.lessor.grant(lease_id, 1000, 0)
        member.expirer.start()
        member.clock.pump([1] * 301)
        (kind, _), *more = member.log.seen
        self.assertEqual((kind, more), ("lease_checkpoint", []))
        self.assertTrue(member.lessor.was_checkpointed(5))
        self.assertTrue(member.lessor.was_checkpointed(6))

    def test_revoked_by_the_client_meanwhile(self) -> None:
        """A lease that is gone when its turn comes is not proposed."""
        member = led()
        for lease_id in range(1, 21):
            member.lessor.grant(lease_id, 2, 0)
        member.log.holding = True
        member.expirer.start()
        member.clock.advance(2)
        member.log.holding = False
        member.unary(member.leases.revoke, LeaseRevokeRequest(ID=20))
        member.log.release()
        self.assertEqual(len(member.log.seen), 20)
        self.assertEqual(len(member.lessor), 0)
