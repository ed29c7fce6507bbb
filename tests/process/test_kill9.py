"""A killed member keeps every write that it has acknowledged."""

from __future__ import annotations

import os
import random
import time

from twisted.trial.unittest import SynchronousTestCase

from tests.process.foreign import ForeignClient
from tests.process.load import Acknowledged, Load
from tests.process.member import Member, server_under_test

ROUNDS = int(os.environ.get("ETCDTW_ROUNDS", "5"))
LOAD_SECONDS = (0.1, 0.6)


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
