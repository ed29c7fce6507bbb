"""``/metrics`` over several turns."""

from __future__ import annotations

import re
from collections.abc import Iterator

from prometheus_client.core import Metric
from prometheus_client.exposition import generate_latest
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.api.http.factory import HttpFactory
from etcdtw.api.http.quick import QuickChannel
from etcdtw.api.http.site import Site
from etcdtw.api.metrics import exposition
from etcdtw.api.metrics.exposition import Exposition
from etcdtw.api.metrics.families import Family
from etcdtw.api.metrics.page import MetricsPage
from etcdtw.counting import Histogram
from etcdtw.replica.slices import PAUSE_SECONDS, SLICE_SECONDS

ASK = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n"


def make_families() -> list[Family]:
    took = Histogram((0.5, 1.0))
    took.observe(0.7)
    return [
        Family("z", "gauge", "Last.", lambda: 1),
        Family("etcd_calls_total", "counter", 'Calls, "all"\n.', lambda: [({"to": '"\\\n'}, 2)]),
        Family("etcd_calls", "gauge", "Calls now.", lambda: 3),
        Family("etcd_apply", "counter", "No suffix.", lambda: iter([({"op": "a"}, 4)])),
        Family("etcd_none_total", "counter", "Nothing yet.", list),
        Family("etcd_took", "histogram", "Times.", lambda: [({"by": "a"}, took)]),
    ]


class _All:
    """All families, as the library wants a collection of them."""

    def __init__(self, families: list[Family]) -> None:
        self._families = families

    def collect(self) -> Iterator[Metric]:
        return map(exposition._metric, sorted(self._families, key=lambda each: each.name))


class ExpositionTests(SynchronousTestCase):
    def test_text(self) -> None:
        """The pieces are what the library makes of all families at once, in order of names, but for
        the suffix of counters that have none."""
        self.patch(exposition, "_process", lambda: iter(()))
        expected = generate_latest(_All(make_families())).decode()
        expected = re.sub(r"(# [A-Z]+ etcd_apply)_total ", r"\1 ", expected)
        pieces = [*Exposition(make_families()).pieces()]
        self.assertEqual(b"".join(pieces).decode(), expected)
        self.assertEqual(len(pieces), 1 + len(make_families()))

    def test_process(self) -> None:
        """What is known about the process stands among the families."""
        text = b"".join(Exposition(make_families()).pieces()).decode()
        names = re.findall(r"# TYPE (\S+) ", text)
        self.assertEqual(names, sorted(names))
        self.assertEqual(len(names), len(set(names)))
        for name in ("process_cpu_seconds_total", "process_open_fds", "python_info", "os_fd_used"):
            self.assertIn(name, names)


class PageTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.clock = Clock()
        self.reads = 0
        self.error: Exception | None = None
        steps = [Family(f"step_{n}", "gauge", "Slow.", self.read) for n in range(3)]
        self.page = MetricsPage(steps, self.clock)
        self.factory = HttpFactory(Site({b"/metrics": self.page}), self.clock)

    def read(self) -> float:
        """A family that takes a whole slice."""
        self.clock.rightNow += SLICE_SECONDS
        self.reads += 1
        if self.error is not None:
            raise self.error
        return self.reads

    def connect(self) -> tuple[QuickChannel, StringTransport]:
        channel, transport = self.factory.buildProtocol(None), StringTransport()
        channel.makeConnection(transport)
        return channel, transport

    def turns(self) -> None:
        """Let all that is under way end."""
        for _ in range(100):
            self.clock.advance(PAUSE_SECONDS)

    def scrape(self) -> str:
        channel, transport = self.connect()
        channel.dataReceived(ASK)
        self.turns()
        channel.connectionLost()
        said: bytes = transport.value()
        return said.decode()

    def assert_at_rest(self) -> None:
        """Nothing is left, and the next one is answered."""
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertIn("\npromhttp_metric_handler_requests_in_flight 1.0\n", self.scrape())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_turns(self) -> None:
        """Nothing is read at once, and others get their turns in between."""
        channel, transport = self.connect()
        channel.dataReceived(ASK)
        self.assertEqual(self.reads, 0)
        self.clock.advance(0)
        self.assertLess(self.reads, 3)
        self.turns()
        head, _, body = transport.value().partition(b"\r\n\r\n")
        self.assertTrue(head.startswith(b"HTTP/1.1 200 OK\r\n"))
        self.assertIn(b"Content-Length: %d" % len(body), head)
        self.assertEqual(self.reads, 3)

    def test_head(self) -> None:
        """All but the body."""
        channel, transport = self.connect()
        channel.dataReceived(ASK.replace(b"GET", b"HEAD"))
        self.turns()
        self.assertTrue(transport.value().startswith(b"HTTP/1.1 200 OK\r\n"))
        self.assertTrue(transport.value().endswith(b"\r\n\r\n"))

    def test_pipelined(self) -> None:
        """Requests behind each other get their answers in order; the gauge counts who waits."""
        several = [self.connect() for _ in range(3)]
        for channel, _ in several:
            channel.dataReceived(3 * ASK)
        self.turns()
        for channel, transport in several:
            texts = transport.value().decode().split("HTTP/1.1 ")[1:]
            self.assertEqual([each[:6] for each in texts], 3 * ["200 OK"])
            channel.connectionLost()
        found = re.findall(r"in_flight ([0-9.]+)\n", several[0][1].value().decode())
        self.assertEqual(found[0], "3.0")
        self.assert_at_rest()

    def test_gone(self) -> None:
        """A client that goes away is not read for any longer, whenever it goes."""
        for turns in range(6):
            for count in (1, 3):
                (channel, transport), (other, kept) = self.connect(), self.connect()
                channel.dataReceived(count * ASK)
                other.dataReceived(ASK)
                for _ in range(turns):
                    self.clock.advance(PAUSE_SECONDS / 8)
                channel.connectionLost()
                said = transport.value()
                self.turns()
                self.assertEqual(transport.value(), said)
                self.assertIn(b"200 OK", kept.value())
                other.connectionLost()
                self.assert_at_rest()

    def test_failure(self) -> None:
        """A family that cannot be read is told of in the log, and the scrape counts as failed."""
        self.error = ValueError("no such number")
        answer = self.scrape()
        self.assertTrue(answer.startswith("HTTP/1.1 500 "))
        self.assertTrue(answer.endswith("\r\n\r\nfailed to show metrics\n"))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.error = None
        self.scrape()
        text = self.scrape()
        for code, count in (("200", 1), ("500", 1)):
            line = f'promhttp_metric_handler_requests_total{{code="{code}"}} {count}.0\n'
            self.assertIn(line, text)
        self.assert_at_rest()
