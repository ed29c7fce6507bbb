"""Handlers that are replaced under running connections."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.errors import EtcdError
from etcdtw.rpc import Router
from tests.rpc.wire import Wire


class BeginAgainTests(SynchronousTestCase):
    def test_same_methods(self) -> None:
        """Connections that know a method get its new handler; counters stay."""
        router = Router()
        router.add_unary("/a.B/C", lambda call, body: call.reply(b"old"))
        wire = Wire(router)
        first = wire.call("/a.B/C")
        router.begin_again()
        router.add_unary("/a.B/C", lambda call, body: call.reply(b"new"))
        second = wire.call("/a.B/C")
        wire.read()
        self.assertEqual(wire.answers[first].messages, [b"old"])
        self.assertEqual(wire.answers[second].messages, [b"new"])
        method = router.find("/a.B/C")
        assert not isinstance(method, EtcdError)
        self.assertEqual(method.started, 2)
