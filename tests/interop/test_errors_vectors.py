"""The recorded answers of real etcd 3.5.1, asked again through grpcio."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import ClassVar

import grpc
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.pb.health_pb2 import HealthCheckResponse
from tests.interop.record import CLIENT_URL, ELSEWHERE, PEER_URL, SKIPPED, SOURCE, chosen
from tests.interop.replay import FLAGS, Replay, recorded_cases, urls_of
from tests.process.foreign import ForeignClient
from tests.process.member import Member, real_etcd, server_under_test
from tests.shared import Shared


class RecordingTests(SynchronousTestCase):
    def test_complete(self) -> None:
        """What is recorded are the calls of the source, but for those with a reason."""
        recorded = [each["label"] for each in recorded_cases()]
        self.assertEqual(recorded, [each["label"] for each in chosen()])
        self.assertGreater(len(recorded), 220)
        labels = {each["label"] for each in json.loads(SOURCE.read_text())["cases"]}
        for label, reason in SKIPPED.items():
            self.assertIn(label, labels)
            self.assertTrue(reason)
        self.assertFalse([each for each in recorded_cases() if each["rpc"].startswith(ELSEWHERE)])


class _OneMember(Shared):
    """A fresh member per test, and grpcio connected to it."""

    command: ClassVar[Callable[[], list[str]]]

    def setUp(self) -> None:
        self.member = Member(type(self).command(), *FLAGS)
        self.addCleanup(self.member.close)
        self.member.start()
        self.client = ForeignClient(self.member.endpoint)
        self.addCleanup(self.client.close)

    def test_recorded_answers(self) -> None:
        """Every recorded call in order gets the recorded code, message and response."""
        cases = recorded_cases()
        replay = Replay(self.client, urls_of(self.member, PEER_URL, CLIENT_URL))
        different = [
            f"{case['label']!r}:\n  etcd  {expected}\n  found {found}"
            for case, expected, found, _ in replay.run(cases)
            if found != expected
        ]
        if different:
            self.fail(f"{len(different)} of {len(cases)} differ\n" + "\n".join(different))

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
