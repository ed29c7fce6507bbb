"""A killed member keeps every write that it has acknowledged."""

from __future__ import annotations

import os
import random
import time

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.pb.kv_pb2 import KeyValue
from etcdtw.pb.rpc_pb2 import RangeResponse, ResponseHeader
from tests.process.foreign import ForeignClient
from tests.process.load import Acknowledged, Load, value_of
from tests.process.member import Member, server_under_test

ROUNDS = int(os.environ.get("ETCDTW_ROUNDS", "5"))
LOAD_SECONDS = (0.1, 0.6)


class _Answering:
    """A client whose every range answers the same."""

    def __init__(self, revision: int, kvs: list[KeyValue]) -> None:
        header = ResponseHeader(revision=revision)
        self._answer = RangeResponse(header=header, kvs=kvs, count=len(kvs))

    def call(self, rpc: str, **fields: bytes) -> RangeResponse:
        return self._answer


class AcknowledgedTests(SynchronousTestCase):
    """The witness itself notices what it is there for."""

    def verify(self, revision: int, *kvs: KeyValue) -> str:
        promised = Acknowledged({b"a": 2, b"b": 3}, newest=3)
        return "; ".join(promised.verify(_Answering(revision, list(kvs))))

    def test_complaints(self) -> None:
        """Lost, moved and changed writes, and a revision that went back, are each reported."""
        a = KeyValue(key=b"a", mod_revision=2, value=value_of(b"a"))
        b = KeyValue(key=b"b", mod_revision=3, value=value_of(b"b"))
        unacknowledged = KeyValue(key=b"c", mod_revision=4, value=value_of(b"c"))
        self.assertEqual(self.verify(3, a, b), "")
        self.assertEqual(self.verify(4, a, b, unacknowledged), "")
        self.assertIn("lost", self.verify(2, a))
        self.assertIn("went back from 3 to 2", self.verify(2, a))
        self.assertIn("revision 5 after 2 puts", self.verify(5, a, b))
        moved = KeyValue(key=b"b", mod_revision=4, value=value_of(b"b"))
        self.assertIn("moved from revision 3 to 4", self.verify(4, a, unacknowledged, moved))
        changed = KeyValue(key=b"b", mod_revision=3, value=b"other")
        self.assertIn("b'b'", self.verify(3, a, changed))


class KillTests(SynchronousTestCase):
    timeout = 60 + 10 * ROUNDS

    def test_acknowledged_writes_survive_kill(self) -> None:
        """After SIGKILL under load and a restart every acknowledged write is there, at its
        revision, and the store's revision counts exactly the writes that took place."""
        member = Member(server_under_test())
        self.addCleanup(member.close)
        acknowledged = Acknowledged()
        moments = random.Random(9)
        member.start()
        for number in range(ROUNDS):
            before = len(acknowledged.revisions)
            load = Load(member.endpoint, f"round{number}", acknowledged)
            load.start()
            time.sleep(moments.uniform(*LOAD_SECONDS))
            member.kill()
            load.stop()
            member.start()
            client = ForeignClient(member.endpoint)
            broken = acknowledged.verify(client)
            client.close()
            self.assertEqual(broken[:10], [], f"round {number}, {len(broken)} promises broken")
            self.assertGreater(len(acknowledged.revisions), before, "the load wrote nothing")

    def test_stop_under_load_keeps_everything(self) -> None:
        """SIGTERM under load ends the process by that signal and loses nothing."""
        member = Member(server_under_test())
        self.addCleanup(member.close)
        acknowledged = Acknowledged()
        member.start()
        load = Load(member.endpoint, "load", acknowledged)
        load.start()
        time.sleep(0.3)
        self.assertEqual(member.stop(), -15)
        load.stop()
        member.start()
        client = ForeignClient(member.endpoint)
        self.addCleanup(client.close)
        self.assertEqual(acknowledged.verify(client)[:10], [])
