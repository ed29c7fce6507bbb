"""Which endpoint is next."""

from __future__ import annotations

import random
from collections import Counter

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.dns.srv import Service
from etcdtw.proxy.targets import Target, Targets


def services(*rows: tuple[str, int, int]) -> list[Service]:
    return [Service(name, 2379, priority, weight) for name, priority, weight in rows]


class PickTests(SynchronousTestCase):
    def targets(self, *rows: tuple[str, int, int]) -> Targets:
        return Targets(services(*rows), random.Random(1))

    def picked(self, targets: Targets) -> Target:
        found = targets.pick()
        assert found is not None, "one of them works"
        return found

    def names(self, targets: Targets, count: int) -> list[str]:
        return [self.picked(targets).service.target for _ in range(count)]

    def test_round_robin(self) -> None:
        """GW4: one after the other."""
        targets = self.targets(("a", 0, 0), ("b", 0, 0), ("c", 0, 0))
        self.assertEqual(self.names(targets, 7), list("abcabca"))

    def test_inactive(self) -> None:
        """GW5: what failed is left out, and its turn goes to one after the other of the rest."""
        targets = self.targets(("a", 0, 0), ("b", 0, 0), ("c", 0, 0))
        failed = self.picked(targets)
        failed.active = False
        self.assertEqual(targets.inactive, [failed])
        self.assertEqual(Counter(self.names(targets, 30)).keys(), {"b", "c"})
        for each in targets.inactive:
            each.active = True
        self.assertEqual(set(self.names(targets, 3)), set("abc"))

    def test_none(self) -> None:
        """GW7: nobody is left."""
        targets = self.targets(("a", 0, 0))
        self.picked(targets).active = False
        self.assertIsNone(targets.pick())
        self.assertIsNone(Targets([], random.Random()).pick())

    def test_priority(self) -> None:
        """GW8: the lowest priority that works."""
        targets = self.targets(("far", 20, 0), ("near", 10, 0), ("also", 10, 0))
        self.assertEqual(Counter(self.names(targets, 10)), {"near": 5, "also": 5})
        for _ in range(2):
            self.picked(targets).active = False
        self.assertEqual(self.names(targets, 2), ["far", "far"])

    def test_weight(self) -> None:
        """GW8: in proportion to weight; those of weight 0 hardly ever, but not never."""
        targets = self.targets(("three", 0, 30), ("one", 0, 10), ("none", 0, 0))
        counts = Counter(self.names(targets, 20_000))
        self.assertLess(abs(counts["three"] / counts["one"] - 3), 0.3)
        self.assertLess(abs(counts["none"] / 20_000 - 0.01), 0.005)

    def test_replaced(self) -> None:
        """GW10: endpoints that stay keep their state."""
        targets = self.targets(("a", 0, 0), ("b", 0, 0))
        self.picked(targets).active = False
        self.assertFalse(targets.replace(services(("a", 0, 0), ("b", 0, 0))))
        self.assertTrue(targets.replace(services(("a", 0, 0), ("c", 0, 0))))
        self.assertEqual(targets.addresses, ["a:2379", "c:2379"])
        self.assertEqual(set(self.names(targets, 4)), {"c"})

    def test_replaced_meanwhile(self) -> None:
        """Whoever finds out how an endpoint is, finds it out for the records that came meanwhile,
        which are the same though they end later and came in another order."""
        targets = self.targets(("a", 0, 0), ("b", 0, 0))
        failed = self.picked(targets)
        failed.active = False
        later = [Service(each, 2379, ttl=30) for each in "ba"]
        self.assertFalse(targets.replace(later))
        self.assertTrue(targets.replace(services(("a", 1, 0), ("b", 0, 0))))
        self.assertEqual(set(self.names(targets, 4)), {"b"})
        failed.active = True
        self.assertEqual(targets.inactive, [])
