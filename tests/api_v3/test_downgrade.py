"""The Downgrade call; its answers are those of a real 3.5.1."""

from __future__ import annotations

from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.api.v3.downgrade import DowngradeService
from etcdtw.apply.header import HeaderSource
from etcdtw.errors import (
    ClusterVersionUnavailable,
    DowngradeInProcess,
    EtcdError,
    InvalidDowngradeTargetVersion,
    NoInflightDowngrade,
    TimedOut,
    UnknownMethod,
    WrongDowngradeVersionFormat,
)
from etcdtw.membership import Members
from etcdtw.pb.membership_pb2 import DowngradeInfoSetRequest
from etcdtw.pb.rpc_pb2 import DowngradeRequest, DowngradeResponse
from etcdtw.storage.backend.memory import MemoryBackend
from etcdtw.v2store import V2Store
from tests.api_v3.fakes import FakeUnary


class FakeLog:
    """Applies what it is given at once, unless it refuses."""

    def __init__(self, members: Members) -> None:
        self._members = members
        self.refusal: EtcdError | None = None
        self.raw: list[bytes] = []

    def submit(
        self, kind: str, request: object, raw: bytes, done: Callable[[object], None]
    ) -> None:
        assert kind == "downgrade_info_set"
        assert isinstance(request, DowngradeInfoSetRequest)
        self.raw.append(raw)
        if self.refusal is None:
            self._members.set_downgrade(request.enabled, request.ver)
        done(self.refusal)


class DowngradeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.members = Members(V2Store(lambda: 0), MemoryBackend(durable=True))
        self.members.set_version("3.5.0")
        self.log = FakeLog(self.members)
        header = HeaderSource(7, 8, term=2)
        self.service = DowngradeService(self.members, self.log, header, lambda: 40)

    def ask(
        self, action: DowngradeRequest.DowngradeAction, version: str = ""
    ) -> type[EtcdError] | DowngradeResponse:
        call = FakeUnary()
        request = DowngradeRequest(action=action, version=version)
        try:
            self.service.downgrade(call, request.SerializeToString())
        except EtcdError as error:
            return type(error)
        answer = call.answer
        assert answer is not None, "no answer"
        return DowngradeResponse.FromString(answer) if isinstance(answer, bytes) else type(answer)

    def validate(self, version: str) -> type[EtcdError] | DowngradeResponse:
        return self.ask(DowngradeRequest.VALIDATE, version)

    def test_answer(self) -> None:
        """It has a header, and says what the cluster is."""
        answer = self.validate("3.4.0")
        assert isinstance(answer, DowngradeResponse)
        self.assertEqual(answer.version, "3.5.0")
        header = answer.header
        found = (header.cluster_id, header.member_id, header.revision, header.raft_term)
        self.assertEqual(found, (7, 8, 40, 2))

    def test_versions(self) -> None:
        """The target is one minor version below, in any form that etcd reads."""
        for good in ("3.4", "3.4.7", "3.4.0-rc.1", "3.4.0+x", "3.4.0-", "03.4.0", "3.0004"):
            self.assertIsInstance(self.validate(good), DowngradeResponse, good)
        for wrong in (
            *("", "x", "3", "v3.4.0", "3.4.0.0", " 3.4.0", "3.4.0 ", "-3.4.0", "3.4.x", "3.4-rc"),
            *("3.4.99999999999999999999", "3." + "4" * 5000),
        ):
            self.assertIs(self.validate(wrong), WrongDowngradeVersionFormat, wrong)
        for other in ("3.5.0", "3.3.0", "3.6.0", "2.4.0"):
            self.assertIs(self.validate(other), InvalidDowngradeTargetVersion, other)

    def test_course(self) -> None:
        """Enabled once, it is in progress until it is cancelled; the entries are etcd's."""
        self.assertIs(self.ask(DowngradeRequest.CANCEL), NoInflightDowngrade)
        enabled = self.ask(DowngradeRequest.ENABLE, "3.4")
        assert isinstance(enabled, DowngradeResponse)
        self.assertEqual(self.members.downgrade_target, "3.4.0")
        self.assertEqual(self.log.raw, [b"\x08\x01\x12\x053.4.0"])
        self.assertIs(self.validate("3.4.0"), DowngradeInProcess)
        self.assertIs(self.validate("3.3.0"), InvalidDowngradeTargetVersion)
        self.assertIs(self.ask(DowngradeRequest.ENABLE, "3.4.0"), DowngradeInProcess)
        cancelled = self.ask(DowngradeRequest.CANCEL)
        assert isinstance(cancelled, DowngradeResponse)
        self.assertEqual((cancelled.version, self.log.raw[1]), ("3.5.0", b""))
        self.assertIsNone(self.members.downgrade_target)

    def test_refused(self) -> None:
        """What the log refuses is refused."""
        self.log.refusal = TimedOut()
        self.assertIs(self.ask(DowngradeRequest.ENABLE, "3.4.0"), TimedOut)

    def test_without_a_version(self) -> None:
        """Nothing can be said before the cluster has a version, nor of an unknown action."""
        self.members.version = None
        self.assertIs(self.validate("3.4.0"), ClusterVersionUnavailable)
        self.assertIs(self.ask(9, "3.4.0"), UnknownMethod)  # type: ignore[arg-type]

    def test_from_an_old_version(self) -> None:
        """Members of 3.4 would die of the entry."""
        self.members.set_version("3.4.0")
        self.assertIs(self.ask(DowngradeRequest.ENABLE, "3.3.0"), InvalidDowngradeTargetVersion)
