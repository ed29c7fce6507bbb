"""Which acknowledgements need not be sent."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.raft.messages import Message, MessageType
from etcdtw.replica.acknowledgements import newest_only


def ack(index: int, to: int = 1, term: int = 5, reject: bool = False) -> Message:
    return Message(MessageType.APP_RESP, to=to, term=term, index=index, reject=reject)


class NewestOnlyTests(SynchronousTestCase):
    def test_covered(self) -> None:
        """Of several in a row the one that goes furthest is sent."""
        self.assertEqual(newest_only([]), [])
        self.assertEqual(newest_only([ack(3)]), [ack(3)])
        self.assertEqual(newest_only([ack(3), ack(3), ack(7)]), [ack(7)])

    def test_not_covered(self) -> None:
        """All others are sent, in their order."""
        beat = Message(MessageType.HEARTBEAT_RESP, to=1, term=5)
        for messages in (
            [ack(7), ack(3)],
            [ack(3), ack(7, reject=True)],
            [ack(3, reject=True), ack(7)],
            [ack(3), ack(7, to=2)],
            [ack(3), ack(7, term=6)],
            [ack(3), beat, ack(7)],
            [beat, beat],
        ):
            self.assertEqual(newest_only(messages), messages)
