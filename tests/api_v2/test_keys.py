"""What requests for keys become in the log."""

from __future__ import annotations

from itertools import count
from typing import Any
from unittest.mock import Mock

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.api.v2.keys import Keys
from etcdtw.api.v2.parsing import parse_keys
from etcdtw.replica.proposal import Proposal
from etcdtw.v2store import V2Code, V2Error, V2Store

NOON = 1_795_176_000
SECOND = 1_000_000_000


class EntryTests(SynchronousTestCase):
    def expiration(self, ttl: str) -> int:
        """That of a PUT with this TTL at noon."""
        proposed: list[Proposal] = []
        replica: Any = Mock()
        replica.ids.next.side_effect = count(1).__next__
        replica.propose = proposed.append
        keys = Keys(replica, V2Store(lambda: NOON * SECOND), 1, lambda: float(NOON), Mock(), Mock())
        keys.write(parse_keys("PUT", "a", {"ttl": [ttl]}), lambda result: None)
        found: int = proposed[0].request.Expiration
        return found

    def test_ttl(self) -> None:
        """A TTL of any size is added to the second, and wraps around as etcd's: the largest is one
        second ago."""
        self.assertEqual(self.expiration("1"), (NOON + 1) * SECOND)
        self.assertEqual(self.expiration("7000000001"), (NOON + 7_000_000_001) * SECOND)
        self.assertEqual(self.expiration(str(2**64 - 1)), (NOON - 1) * SECOND)

    def test_endless_numbers(self) -> None:
        """Numbers of thousands of digits are refused like others that are too large, unless nearly
        all of the digits are zeros."""
        for name, code in (
            ("ttl", V2Code.TTL_NOT_A_NUMBER),
            ("waitIndex", V2Code.INDEX_NOT_A_NUMBER),
            ("prevIndex", V2Code.INDEX_NOT_A_NUMBER),
        ):
            for number in (str(2**64), "9" * 5000):
                refused = self.assertRaises(V2Error, parse_keys, "GET", "a", {name: [number]})
                self.assertEqual(refused.code, code)
        self.assertEqual(parse_keys("GET", "a", {"waitIndex": ["0" * 5000 + "7"]}).since, 7)
