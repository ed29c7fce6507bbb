"""Resets of tokens: who may, when, and what is left."""

from __future__ import annotations

from typing import Any

from etcdtw.api.discovery.owners import hash_of
from etcdtw.api.discovery.places import v2_size, v3_marks, v3_size
from etcdtw.api.discovery.reset import Refused, TokenReset
from etcdtw.errors import NoLeader
from tests.api_discovery.tokens import SECRET, TOKEN, TokenCase


class ResetTests(TokenCase):
    async def _reset(self, token: str = TOKEN, secret: str = SECRET, force: bool = False) -> str:
        resetting = TokenReset(token, self.keys, self.client())
        await resetting.check_owner(secret)
        return await resetting.clear(force)

    def reset(self, **asked: Any) -> str:
        return self.result(self._reset(**asked))

    def refused(self, **asked: Any) -> Refused:
        error = self.error(self._reset(**asked), Refused)
        assert isinstance(error, Refused)
        return error

    def test_half_way(self) -> None:
        """P30: the registrations of both protocols go, and the sizes stay."""
        self.register_v2("a", "b")
        self.register_v3("c")
        self.assertEqual(
            self.reset(), "3 registrations are gone; the URL is good for a new cluster of 3"
        )
        self.assertEqual(self.left(), [])
        self.assertEqual(self.keys.store.get(v2_size(TOKEN)).node.value, "3")
        size = self.result(self.client().kv.get(v3_size(TOKEN))).kvs[0].value
        self.assertEqual(size, b"3")
        self.assertIn("0 registrations are gone", self.reset())

    def test_owner(self) -> None:
        """P30: whoever is not the owner is refused, and nothing goes."""
        self.register_v2("a")
        self.assertEqual(self.refused(secret="").status, 401)
        self.assertEqual(self.refused(secret="other").status, 403)
        self.assertEqual(self.refused(secret=hash_of(SECRET)).status, 403)
        self.assertEqual(self.refused(token="0" * 32).status, 404)
        self.keys.store.set(v2_size("1" * 32), "3")
        refused = self.refused(token="1" * 32)
        self.assertEqual((refused.status, "no owner" in str(refused)), (403, True))
        self.assertEqual(self.left(), ["a"])

    def test_complete(self) -> None:
        """P30: a cluster that came together, by either protocol, is not reset unless that is
        forced."""
        for register in (self.register_v2, self.register_v3):
            register("a", "b", "c")
            refused = self.refused()
            self.assertEqual(refused.status, 409)
            self.assertIn("all 3 members have registered", str(refused))
            self.assertEqual(self.left(), ["a", "b", "c"])
            self.assertIn("3 registrations are gone", self.reset(force=True))
            self.assertEqual(self.left(), [])

    def test_overtaken(self) -> None:
        """P30: a v3 member that registers between the look and the deletion has completed a
        cluster: nothing goes."""
        self.register_v2("a")
        self.register_v3("b", "c")
        self.before_txn = lambda: self.register_v3("d")
        refused = self.refused()
        self.assertEqual((refused.status, "try again" in str(refused)), (409, True))
        self.assertEqual(self.left(), ["a", "b", "c", "d"])

    def test_waiting(self) -> None:
        """P30: what watches all that begins with ``members`` is told of the deletions, and of as
        many marks as there are places left; each of these has a value of a member's form, and no
        URL."""
        self.register_v3("a")
        watch = self.client().watch(f"/_etcd/registry/{TOKEN}/members", prefix=True)
        self.run_for(1)
        self.reset()
        self.run_for(1)
        events: list[Any] = list(self.result(watch.next_events()))
        while len(events) < 5:
            events += self.result(watch.next_events())
        told = [
            (each.type, each.kv.key.decode().rpartition("/")[2], each.kv.value.decode())
            for each in events
        ]
        mark = "reset=by-the-owner"
        self.assertEqual(sorted(told[:3]), [(0, "0", mark), (0, "1", mark), (1, "a", "")])
        self.assertEqual(sorted(told[3:]), [(1, "0", ""), (1, "1", "")])

    def test_interrupted(self) -> None:
        """A reset that was interrupted is finished by the next one; there are as many marks as a
        transaction takes."""
        self.put_v3(f"{v3_marks(TOKEN)}0", "reset=by-the-owner")
        self.assertEqual(self.left(), ["0"])
        self.reset()
        self.assertEqual(self.left(), [])
        self.make(2_000_000_000)
        self.register_v3("a")
        self.assertIn("1 registration is gone", self.reset())
        self.assertEqual(self.left(), [])

    def test_away(self) -> None:
        """A service that cannot write says so."""
        self.register_v2("a")
        self.keys.is_away = True
        self.error(self._reset(), NoLeader)
        self.keys.is_away = False
        self.assertEqual(self.left(), ["a"])
