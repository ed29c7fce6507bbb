"""``/livez`` and ``/readyz``."""

from __future__ import annotations

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.api.http.checks import member_checks
from etcdtw.api.http.factory import HttpFactory
from etcdtw.api.http.requests import Resource
from etcdtw.api.http.site import Site
from etcdtw.errors import TimedOut
from tests.api_http.test_pages import Answer, FakeHealth


class ChecksTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.health = FakeHealth()
        self.livez, self.readyz = member_checks(self.health)
        pages: dict[bytes, Resource] = {**dict(self.livez.pages()), **dict(self.readyz.pages())}
        self.channel = HttpFactory(Site(pages), Clock()).buildProtocol(None)
        self.transport = StringTransport()
        self.channel.makeConnection(self.transport)

    def get(self, target: str, read_fails: bool = False) -> Answer:
        self.channel.dataReceived(f"GET {target} HTTP/1.1\r\nhost: a\r\n\r\n".encode())
        for each in self.health.reads:
            each(TimedOut() if read_fails else None)
        self.health.reads.clear()
        stream = self.transport.value()
        self.transport.clear()
        return Answer(stream)

    def test_ready(self) -> None:
        """A member that reads is ready; ``verbose`` lists what was looked at."""
        self.assertEqual(self.get("/readyz").body, b"ok\n")
        self.assertEqual(
            self.get("/readyz?verbose").body,
            b"[+]data_corruption ok\n[+]serializable_read ok\n[+]linearizable_read ok\nok\n",
        )

    def test_not_ready(self) -> None:
        """One failed check is enough; all are told."""
        answer = self.get("/readyz", read_fails=True)
        self.assertEqual(answer.status, "HTTP/1.1 503 Service Unavailable")
        self.assertEqual(
            answer.body,
            b"[+]data_corruption ok\n[+]serializable_read ok\n"
            b"[-]linearizable_read failed: etcdserver: request timed out\n\n",
        )
        self.assertEqual(self.readyz.results["linearizable_read", "error"], 1)

    def test_excluded(self) -> None:
        """An excluded check is not run."""
        answer = self.get("/readyz?exclude=linearizable_read&verbose", read_fails=True)
        self.assertEqual(answer.body, b"[+]data_corruption ok\n[+]serializable_read ok\nok\n")
        excluded = "&".join(f"exclude={name}" for name, _ in self.readyz.results)
        self.assertEqual(self.get(f"/readyz?{excluded}").body, b"ok\n")

    def test_corruption(self) -> None:
        """A member that is corrupt is alive, but not ready."""
        self.health.alarms = ["CORRUPT"]
        self.assertEqual(self.get("/readyz").status.split()[1], "503")
        self.assertEqual(self.get("/livez").body, b"ok\n")

    def test_alone(self) -> None:
        """Each check has a path."""
        self.assertEqual(self.get("/livez/serializable_read").body, b"ok\n")
        self.assertEqual(self.get("/readyz/data_corruption?verbose").body.count(b"\n"), 2)
        self.assertEqual(self.get("/livez/linearizable_read").status.split()[1], "404")
