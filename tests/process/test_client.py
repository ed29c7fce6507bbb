"""Our client against members that are killed and started again, ours and real ones."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from twisted.internet import defer, reactor, threads
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from etcdtw.client import Client, version
from etcdtw.client.txn import get, put
from tests.process.member import Member, real_etcd, server_under_test
from tests.shared import Shared

ROUNDS = 3
WRITES = 40


class _ClientTests(Shared):
    member: Member

    def command(self) -> list[str]:
        raise NotImplementedError

    def setUp(self) -> None:
        self.member = Member(self.command())
        self.addCleanup(self.member.close)
        self.member.start()
        self.client = Client(reactor, [self.member.endpoint], timeout_seconds=20)
        self.addCleanup(self.client.close)

    def test_calls(self) -> defer.Deferred[None]:
        """Every service answers."""
        return defer.Deferred.fromCoroutine(self._calls())

    async def _calls(self) -> None:
        client, equal = self.client, self.assertEqual
        await client.kv.put("a", "1")
        found = await client.kv.txn().when(version("a") == 1).then(put("b", "2"), get("a")).commit()
        equal((found.succeeded, found.responses[1].response_range.kvs[0].value), (True, b"1"))
        status = await client.maintenance.status()
        members = (await client.cluster.members()).members
        equal([each.ID for each in members], [status.header.member_id])
        lease = await client.keep_lease(60)
        await client.kv.put("c", "3", lease=lease.id)
        equal((await client.leases.time_to_live(lease.id, keys=True)).keys, [b"c"])
        equal([each.ID for each in (await client.leases.all()).leases], [lease.id])
        await lease.revoke()
        equal((await client.kv.get("", prefix=True)).count, 2)
        hashed = await client.maintenance.hash_kv()
        equal(hashed.header.revision, 5)

    def test_restarts(self) -> defer.Deferred[None]:
        """A watch and a kept lease survive kill -9 of the member; no event is missed or comes
        twice."""
        return defer.Deferred.fromCoroutine(self._restarts())

    async def _restarts(self) -> None:
        client, member = self.client, self.member
        watch = client.watch("k", prefix=True)
        await watch.when_created()
        lease = await client.keep_lease(30)
        written = 0
        for _ in range(ROUNDS):
            for _ in range(WRITES):
                written += 1
                await client.kv.put(f"k{written % 3}", str(written))
            await threads.deferToThread(member.kill)
            await deferLater(reactor, 0.2)
            await threads.deferToThread(member.start)
        found: list[int] = []
        while len(found) < written:
            found += [int(each.kv.value) for each in await watch.next_events()]
        self.assertEqual(found, list(range(1, written + 1)))
        left = (await client.leases.time_to_live(lease.id)).TTL
        self.assertGreater(left, 0)
        self.assertFalse(lease.is_lost)


class MemberTests(_ClientTests, TestCase):
    timeout = 120

    def command(self) -> list[str]:
        return server_under_test()


class RealEtcdTests(_ClientTests, TestCase):
    timeout = 120

    def command(self) -> list[str]:
        return real_etcd()


class GuideTests(SynchronousTestCase):
    timeout = 60

    def test_example(self) -> None:
        """The guide's program runs as printed."""
        page = Path(__file__).parents[2] / "docs" / "guide" / "client.md"
        program = page.read_text().split("```python\n")[1].split("```")[0]
        member = Member(server_under_test())
        self.addCleanup(member.close)
        member.start()
        program = program.replace("127.0.0.1:2379", member.endpoint)
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, text=True, check=False
        )
        expected = "b'hello'\nwe were first\nb'here/me' is gone\n"
        self.assertEqual((done.stdout, done.stderr), (expected, ""))
