"""Linearizable reads that share rounds."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.errors import EtcdError, LeaderChanged, Stopped, TimedOut
from etcdtw.ids import RequestIds
from etcdtw.raft import ReadState
from etcdtw.replica.reads import RETRY_SECONDS, ReadQueue

SECONDS = 3.0


class FakeNode:
    def __init__(self) -> None:
        self.asked: list[bytes] = []

    def read_index(self, context: bytes) -> None:
        self.asked.append(context)


class ReadQueueTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.queue = ReadQueue(RequestIds(1, 0), SECONDS)
        self.node = FakeNode()
        self.done: list[tuple[str, type[EtcdError] | None]] = []

    def add(self, *names: str, now: float = 0.0) -> None:
        for name in names:
            self.queue.add(
                lambda error, name=name: self.done.append((name, error and type(error))),  # type: ignore[misc]
                now,
            )

    def hand_over(self, now: float = 0.0) -> None:
        self.queue.hand_over(self.node, now)  # type: ignore[arg-type]

    def answer(self, number: int, index: int) -> None:
        """The leader answers the ``number``-th question."""
        self.queue.answered([ReadState(index, self.node.asked[number])])

    def test_shared_round(self) -> None:
        """Everybody who waits in a turn shares one question; they run once the index is applied,
        in their order."""
        self.add("a", "b", "c")
        self.hand_over()
        self.hand_over()
        self.assertEqual(len(self.node.asked), 1)
        self.answer(0, 7)
        self.queue.release(6)
        self.assertEqual(self.done, [])
        self.queue.release(7)
        self.assertEqual(self.done, [("a", None), ("b", None), ("c", None)])

    def test_slow_rounds(self) -> None:
        """A question that is asked again is counted."""
        self.add("a")
        self.hand_over()
        self.hand_over(RETRY_SECONDS / 2)
        self.assertEqual(self.queue.slow_rounds, 0)
        self.hand_over(RETRY_SECONDS)
        self.hand_over(2 * RETRY_SECONDS)
        self.assertEqual((len(self.node.asked), self.queue.slow_rounds), (3, 2))

    def test_later_readers(self) -> None:
        """Who comes while a round is under way waits for the next one: its answer may be older
        than what he must see."""
        self.add("a")
        self.hand_over()
        self.add("b")
        self.hand_over()
        self.assertEqual(len(self.node.asked), 1)
        self.assertFalse(self.queue.wants_turn())
        self.answer(0, 5)
        self.assertTrue(self.queue.wants_turn())
        self.queue.release(5)
        self.assertEqual(self.done, [("a", None)])
        self.hand_over()
        self.assertEqual(len(self.node.asked), 2)
        self.answer(1, 5)
        self.queue.release(5)
        self.assertEqual(self.done, [("a", None), ("b", None)])

    def test_asked_again(self) -> None:
        """A question without answer is asked again under a new id; an answer to any of them
        counts, once."""
        self.add("a")
        self.hand_over(0.0)
        self.hand_over(RETRY_SECONDS - 0.01)
        self.assertEqual(len(self.node.asked), 1)
        self.hand_over(RETRY_SECONDS)
        self.assertEqual(len(set(self.node.asked)), 2)
        self.answer(0, 3)
        self.queue.release(3)
        self.assertEqual(self.done, [("a", None)])
        self.answer(1, 4)
        self.queue.release(4)
        self.assertEqual(self.done, [("a", None)])

    def test_stale_answer(self) -> None:
        """An answer to a question that nobody waits for any more starts nothing."""
        self.add("a")
        self.hand_over()
        self.queue.leader_changed()
        self.assertEqual(self.done, [("a", LeaderChanged)])
        self.add("b")
        self.hand_over()
        self.answer(0, 1)
        self.queue.release(9)
        self.assertEqual(len(self.done), 1)
        self.answer(1, 9)
        self.queue.release(9)
        self.assertEqual(self.done[1:], [("b", None)])

    def test_leader_change(self) -> None:
        """A change of the leader ends the round under way; who waits for the next one, or only
        for an index to be applied, stays."""
        self.add("known")
        self.hand_over()
        self.answer(0, 9)
        self.add("under way")
        self.hand_over()
        self.add("next")
        self.queue.leader_changed()
        self.queue.release(9)
        self.hand_over()
        self.answer(2, 9)
        self.queue.release(9)
        self.assertEqual(self.done, [("under way", LeaderChanged), ("known", None), ("next", None)])

    def test_expiry(self) -> None:
        """Who waits too long is told so; a round that nobody waits for makes room for the
        next."""
        self.add("a", now=0.0)
        self.hand_over(0.0)
        self.add("b", now=1.0)
        self.queue.expire(SECONDS)
        self.assertEqual(self.done, [("a", TimedOut)])
        self.assertTrue(self.queue.wants_turn())
        self.hand_over(SECONDS)
        self.assertEqual(len(self.node.asked), 2)
        self.queue.expire(SECONDS + 1.0)
        self.assertEqual(self.done[1:], [("b", TimedOut)])
        self.answer(1, 1)
        self.queue.release(1)
        self.assertEqual(len(self.done), 2)

    def test_indices_in_order(self) -> None:
        """Of two rounds each waits for its own index."""
        for number, index in enumerate((4, 6)):
            self.add(f"at {index}")
            self.hand_over()
            self.answer(number, index)
        self.queue.release(5)
        self.assertEqual(self.done, [("at 4", None)])
        self.queue.release(6)
        self.assertEqual(self.done[1:], [("at 6", None)])

    def test_fail_all(self) -> None:
        """At the end everybody is told, wherever he waits."""
        self.add("known")
        self.hand_over()
        self.answer(0, 9)
        self.add("under way")
        self.hand_over()
        self.add("next")
        self.queue.fail_all(Stopped())
        self.queue.release(9)
        self.assertEqual(self.done, [("known", Stopped), ("under way", Stopped), ("next", Stopped)])
