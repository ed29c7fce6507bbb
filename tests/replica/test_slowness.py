"""A slow request is explained by what it waited for."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.replica.slowness import LINE_SECONDS, Slowness
from tests.logs import logged


class SlownessTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.events = logged(self, "etcdtw.replica")
        self.slowness = Slowness(apply_seconds=0.1)

    def line(self) -> dict[str, Any]:
        (event,) = self.events
        self.events.clear()
        return event

    def test_quick(self) -> None:
        """Nothing is said of requests that took no time."""
        self.slowness.answered(1.0, 0.2, 5, sync_seconds=0.2)
        self.assertEqual(self.events, [])

    def test_reasons(self) -> None:
        """The longest wait is the reason; without any the others are."""
        for number, (waits, disk, words) in enumerate(
            (
                ({"reactor": 0.1}, (0.4, 0.0), "the log's disk"),
                ({}, (0.1, 0.5), "the keyspace's disk, which was behind"),
                ({"reactor": 0.3}, (0.0, 0.0), "other work of this process"),
                ({}, (0.01, 0.0), "other members, or a leader"),
            )
        ):
            for what, seconds in waits.items():
                self.slowness.waited(what, seconds)
            self.slowness.answered(10.0 * number, 0.5, 3, *disk)
            event = self.line()
            self.assertEqual((event["waited_for"], event["requests"]), (words, 3))
            self.assertEqual(event["took"], "500.0ms")

    def test_waits_are_forgotten(self) -> None:
        """What earlier requests waited for is no reason for later ones."""
        self.slowness.waited("reactor", 5.0)
        self.slowness.answered(1.0, 0.01, 1)
        self.slowness.answered(2.0, 0.5, 1)
        self.assertEqual(self.line()["waited_for"], "other members, or a leader")

    def test_one_line(self) -> None:
        """Many slow requests are one line a second, which counts them."""
        for number in range(11):
            self.slowness.answered(1.0 + number * LINE_SECONDS / 10, 0.5, 2)
        self.assertEqual([each["requests"] for each in self.events], [2, 20])

    def test_apply(self) -> None:
        """A slow apply has etcd's line, and is counted."""
        self.slowness.applied(3, 0.09)
        self.assertEqual(self.events, [])
        self.slowness.applied(3, 0.25)
        event = self.line()
        self.assertEqual(event["log_format"], "apply request took too long")
        self.assertEqual((event["took"], event["expected_duration"]), ("250.0ms", "100.0ms"))
        self.assertEqual(self.slowness.slow_applies, 1)

    def test_short_apply(self) -> None:
        """Its threshold may be below what could explain a slow request."""
        self.slowness = Slowness(apply_seconds=0.001)
        self.slowness.applied(1, 0.002)
        self.assertEqual(self.line()["took"], "2.0ms")
