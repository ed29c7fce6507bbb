"""Compaction as the KV service answers it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.api.v3.kv import KvService
from etcdtw.mvcc.compaction import Compaction
from etcdtw.pb.rpc_pb2 import CompactionRequest, CompactionResponse
from tests.api_v3.fakes import FakeUnary
from tests.api_v3.member import Member


class HoldingSubmitter:
    """Applies what is submitted at once; answers when the test says so."""

    def __init__(self, member: Member) -> None:
        self._member = member
        self.done: Callable[[], None] = lambda: None

    def submit(
        self, kind: str, request: CompactionRequest, raw: bytes, done: Callable[[object], None]
    ) -> None:
        result = self._member.kv.compaction(request)
        self.job: Compaction = result[1]
        self.done = lambda: done(result)


class PhysicalTests(SynchronousTestCase):
    """An answer that waits until the records are gone."""

    def setUp(self) -> None:
        self.member = Member()
        for _ in range(3):
            self.member.store.put_one(b"a", b"v")
        self.submitter = HoldingSubmitter(self.member)
        unused: Any = None
        submitter = cast("Any", self.submitter)
        self.service = KvService(unused, self.member.kv, submitter, unused, 128)

    def call(self) -> FakeUnary:
        request = CompactionRequest(revision=3, physical=True)
        return self.member.unary(self.service.compact, request)

    def assert_answered(self, call: FakeUnary) -> None:
        assert isinstance(call.answer, bytes), f"no answer but {call.answer!r}"
        self.assertEqual(CompactionResponse.FromString(call.answer).header.revision, 4)

    def test_gone_later(self) -> None:
        """They are removed behind the apply, as a rule."""
        call = self.call()
        self.submitter.done()
        self.assertIsNone(call.answer)
        self.assertTrue(self.submitter.job.step())
        self.assert_answered(call)

    def test_gone_before(self) -> None:
        """What is applied behind an entry that took several turns is answered in a later one, when
        all of them may be gone."""
        call = self.call()
        self.assertTrue(self.submitter.job.step())
        self.submitter.done()
        self.assert_answered(call)
