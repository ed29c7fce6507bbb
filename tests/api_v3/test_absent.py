"""Services that are not there yet."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.api.v3.absent import refuse_the_rest
from etcdtw.errors import Unimplemented
from etcdtw.rpc import Router
from etcdtw.rpc.router import Method


class AbsentTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.router = Router()
        self.router.add_unary("/etcdserverpb.KV/Range", lambda call, body: None)
        self.handler = self.method("/etcdserverpb.KV/Range").unary_handler
        refuse_the_rest(self.router)

    def method(self, path: str) -> Method:
        found = self.router.find(path)
        assert isinstance(found, Method), f"{path}: {found!r}"
        return found

    def test_served_methods_stay(self) -> None:
        """What is registered already is left alone."""
        self.assertIs(self.method("/etcdserverpb.KV/Range").unary_handler, self.handler)

    def test_absent_methods_say_so(self) -> None:
        """A method of etcd's API that nobody serves answers Unimplemented, naming itself."""
        for path, text in (
            ("/etcdserverpb.Auth/AuthEnable", "Auth/AuthEnable"),
            ("/v3lockpb.Lock/Lock", "Lock/Lock"),
            ("/v3electionpb.Election/Campaign", "Election/Campaign"),
        ):
            method = self.method(path)
            call = type("Call", (), {"method": method})()
            error = self.assertRaises(Unimplemented, method.unary_handler, call, b"")
            self.assertEqual(str(error), f"etcdserver: {text} is not available in this build")

    def test_absent_streams_say_so(self) -> None:
        """So does a streaming method."""
        method = self.method("/etcdserverpb.Maintenance/Snapshot")
        call = type("Call", (), {"method": method})()
        self.assertRaises(Unimplemented, method.stream_handler, call)

    def test_unknown_methods_stay_unknown(self) -> None:
        """What etcd does not have either keeps the answer for the unknown."""
        self.assertIsInstance(self.router.find("/etcdserverpb.KV/Nope"), Unimplemented)
