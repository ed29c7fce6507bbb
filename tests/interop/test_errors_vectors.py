"""The recorded answers of real etcd 3.5.1, asked again through grpcio."""

from __future__ import annotations

from collections.abc import Callable
from typing import ClassVar

import grpc
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.pb.health_pb2 import HealthCheckResponse
from tests.interop.replay import LAST_CASE, SKIPPED, Replay, recorded_cases
from tests.process.foreign import ForeignClient
from tests.process.member import Member, real_etcd, server_under_test


class RecordingTests(SynchronousTestCase):
    def test_every_skipped_case_has_a_reason(self) -> None:
        """Only cases of the recording are skipped, each with a reason."""
        self.assertEqual(len(recorded_cases()), LAST_CASE + 1)
        for number, reason in SKIPPED.items():
            self.assertIn(number, range(LAST_CASE + 1))
            self.assertTrue(reason)


class _OneMember:
    """A fresh member per test, and grpcio connected to it."""

    command: ClassVar[Callable[[], list[str]]]

    def setUp(self) -> None:
        self.member = Member(type(self).command(), "--max-txn-ops=128")
        self.addCleanup(self.member.close)
        self.member.start()
        self.client = ForeignClient(self.member.endpoint)
        self.addCleanup(self.client.close)

    def test_recorded_answers(self) -> None:
        """Every recorded call in order gets the recorded code, message and response."""
        different = list(Replay(self.client).run())
        if different:
            total = LAST_CASE + 1 - len(SKIPPED)
            self.fail(f"{len(different)} of {total} differ\n" + "\n".join(different))

    def test_health_service(self) -> None:
        """grpc.health.v1 says SERVING for the whole server and NOT_FOUND for an unknown one."""
        answer = self.client.call("Health.Check", service="")
        self.assertEqual(answer.status, HealthCheckResponse.SERVING)
        with self.assertRaises(grpc.RpcError) as caught:
            self.client.call("Health.Check", service="nobody")
        self.assertEqual(
            (caught.exception.code(), caught.exception.details()),
            (grpc.StatusCode.NOT_FOUND, "unknown service"),
        )


class RealEtcdTests(_OneMember, SynchronousTestCase):
    """Keeps the replay honest: the release that was recorded must pass it."""

    command = staticmethod(real_etcd)


class MemberTests(_OneMember, SynchronousTestCase):
    """The member under test."""

    command = staticmethod(server_under_test)
