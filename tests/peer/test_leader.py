"""Asking the leader for what only it can do."""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectionRefusedError
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.api.peer.leader import LeaderCaller
from etcdtw.peer.calling import Answered


class StandInCaller:
    """Answers by host; others refuse the connection."""

    def __init__(self) -> None:
        self.reactor = Clock()
        self.statuses: dict[str, int] = {}
        self.asked: list[tuple[str, bytes, object]] = []

    def call(
        self, method: bytes, url: str, headers: object, body: bytes, seconds: float
    ) -> Deferred[Answered]:
        self.asked.append((url, body, headers))
        status = self.statuses.get(url.rpartition("/")[0])
        return (
            fail(ConnectionRefusedError()) if status is None else succeed(Answered(status, {}, b""))
        )


class LeaderCallerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.caller = StandInCaller()
        self.urls: Sequence[str] = ("http://a:1", "http://b:1")
        self.leader = LeaderCaller(self.caller, lambda: self.urls, 5.0)  # type: ignore[arg-type]
        self.outcomes: list[object] = []

    def post(self, body: bytes = b"x") -> None:
        def accepted(answer: Answered) -> bool:
            if answer.status == 200:
                self.outcomes.append(answer.status)
            return answer.status == 200

        self.leader.post("/p", body, 1.0, accepted, lambda: self.outcomes.append("late"))

    def test_each_url_in_turn(self) -> None:
        """What refuses or is not accepted is followed by the next URL, and the first again."""
        self.caller.statuses = {"http://b:1": 500}
        self.post()
        self.caller.reactor.pump([0.05])
        self.caller.statuses = {"http://a:1": 200}
        self.caller.reactor.pump([0.05] * 5)
        self.assertEqual([url[7] for url, _, _ in self.caller.asked], ["a", "b", "a"])
        self.assertEqual(self.outcomes, [200])
        self.assertEqual(self.caller.reactor.getDelayedCalls(), [])

    def test_content(self) -> None:
        """A body has its type, none has none."""
        self.caller.statuses = {"http://a:1": 200}
        self.post(b"x")
        self.post(b"")
        self.assertEqual(
            [(body, bool(headers)) for _, body, headers in self.caller.asked],
            [(b"x", True), (b"", False)],
        )

    def test_waits_for_a_leader(self) -> None:
        """While nobody else is known to lead nobody is asked."""
        self.urls = ()
        self.assertFalse(self.leader.knows_leader())
        self.post()
        self.caller.reactor.pump([0.05] * 10)
        self.assertEqual(self.caller.asked, [])
        self.urls = ("http://a:1",)
        self.caller.statuses = {"http://a:1": 200}
        self.caller.reactor.pump([0.05])
        self.assertEqual(self.outcomes, [200])

    def test_time_is_up(self) -> None:
        """After its time it ends, once."""
        self.post()
        self.caller.reactor.pump([0.05] * 150)
        self.assertEqual(self.outcomes, ["late"])
        self.assertEqual(self.caller.reactor.getDelayedCalls(), [])
