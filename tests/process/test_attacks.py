"""Hostile clients get the documented answer, and ordinary ones notice nothing."""

from __future__ import annotations

import time
from contextlib import ExitStack, closing

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.pb.rpc_pb2 import RangeRequest
from tests.process.attacks import Attack
from tests.process.attacks.floods import FLOODS, greedy_reader
from tests.process.attacks.frames import FRAMES
from tests.process.attacks.grpc import GRPC
from tests.process.attacks.http1 import HTTP1
from tests.process.bystander import Bystander
from tests.process.foreign import ForeignClient
from tests.process.member import Member, real_etcd, server_under_test
from tests.process.raw_http2 import PREFACE, RawConnection, message
from tests.shared import Shared

# A flood may take turns from an ordinary client, but not stall it.
SLOWEST_ROUND_SECONDS = 5.0
HANDSHAKE_SECONDS = 10.0
# 400 MiB are asked for; one connection may hold 16 MiB, and what Python needs around them.
UNREAD_ANSWERS = 400
UNREAD_BYTES_MAX = 96 << 20


class _Attacked(Shared):
    """A member with an ordinary client that works during all attacks."""

    command = staticmethod(server_under_test)

    def setUp(self) -> None:
        self.member = Member(self.command())
        self.addCleanup(self.member.close)
        self.member.start()
        self.bystander = Bystander(self.member.endpoint)
        self.addCleanup(self.bystander.stop)

    def assert_withstands(self, attacks: list[Attack]) -> None:
        wrong = []
        for attack in attacks:
            answer = attack.wrong(self.member.client_port)
            if answer is not None:
                wrong.append(answer)
            self.assertTrue(self.member.running, f"{attack.name}: {self.member.output()}")
        self.assert_undisturbed()
        self.assertEqual(wrong, [], "\n" + "\n".join(wrong))

    def assert_undisturbed(self) -> None:
        """The ordinary client went on all the while, and goes on now."""
        before = self.bystander.rounds
        deadline = time.monotonic() + SLOWEST_ROUND_SECONDS
        while self.bystander.rounds < before + 2 and time.monotonic() < deadline:
            time.sleep(0.01)
        self.assertEqual(self.bystander.failures, [])
        self.assertGreaterEqual(self.bystander.rounds, before + 2)
        self.assertLess(self.bystander.slowest, SLOWEST_ROUND_SECONDS)

    def test_broken_grpc(self) -> None:
        """Unknown methods, malformed messages and oversize requests get etcd's status."""
        self.assert_withstands(GRPC)

    def test_broken_http1(self) -> None:
        """What is neither HTTP/2 nor sound HTTP/1.1 is refused or closed."""
        self.assert_withstands(HTTP1)


class RealEtcdTests(_Attacked, SynchronousTestCase):
    """Keeps the expectations honest; frame errors and floods are left out, since etcd's server
    hangs up without the code of the RFC, and has no limits on floods in this release."""

    command = staticmethod(real_etcd)


class MemberTests(_Attacked, SynchronousTestCase):
    """The member under test."""

    def test_broken_frames(self) -> None:
        """Frames that RFC 9113 forbids end the stream or the connection with its code."""
        self.assert_withstands(FRAMES)

    def test_floods(self) -> None:
        """Floods end in ENHANCE_YOUR_CALM."""
        self.assert_withstands(FLOODS)

    def test_reader_that_never_reads(self) -> None:
        """Answers that nobody takes are bounded in memory, however many are asked for."""
        client = ForeignClient(self.member.endpoint)
        self.addCleanup(client.close)
        client.call("KV.Put", key=b"big", value=b"x" * (1 << 20))
        before = self.member.resident_bytes()
        request = message(RangeRequest(key=b"big").SerializeToString())
        with closing(greedy_reader(self.member.client_port, UNREAD_ANSWERS, request)):
            self.assert_undisturbed()
            grown = self.member.resident_bytes() - before
        self.assertLess(grown, UNREAD_BYTES_MAX)

    def test_slow_handshakes(self) -> None:
        """A connection that does not finish its preface is closed after ten seconds."""
        with ExitStack() as stack:
            slow = {
                name: stack.enter_context(closing(RawConnection(self.member.client_port, first)))
                for name, first in (
                    ("nothing", b""),
                    ("half a preface", PREFACE[:10]),
                    ("no SETTINGS", PREFACE),
                )
            }
            self.assertEqual({c.outcome(0, 0.5) for c in slow.values()}, {"silence"})
            deadline = time.monotonic() + HANDSHAKE_SECONDS + 3
            for name, connection in slow.items():
                outcome = connection.outcome(0, max(deadline - time.monotonic(), 0.1))
                self.assertTrue(outcome.startswith(("closed", "GOAWAY")), f"{name}: {outcome}")
        self.assert_undisturbed()
