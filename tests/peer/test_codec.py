"""Frames of streams between members."""

from __future__ import annotations

import time

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.peer import codec
from etcdtw.peer.codec import (
    MESSAGE_BYTES_MAX,
    AppendReader,
    AppendWriter,
    BadFrame,
    MessageReader,
    MessageWriter,
)
from etcdtw.raft.codec import decode_entry
from etcdtw.raft.messages import Entry, EntryType, Message, MessageType

LARGE_BYTES = 16 << 20
READ_BYTES = 8 << 10


def append(term: int, index: int, count: int, commit: int = 0, log_term: int = 0) -> Message:
    entries = tuple(Entry(term, index + 1 + each, data=b"x") for each in range(count))
    return Message(
        MessageType.APP, 2, 1, term, log_term or term, index, entries=entries, commit=commit
    )


class AppendTests(SynchronousTestCase):
    def test_continuing(self) -> None:
        """An append that continues is sent without its head; a new term or a gap is not."""
        writer = AppendWriter()
        kinds = [
            writer.encode(each)[0]
            for each in (
                append(3, 10, 2),
                append(3, 12, 1),
                append(3, 13, 0, commit=13),
                append(3, 15, 1),
                append(4, 16, 1, log_term=3),
                append(4, 17, 1),
            )
        ]
        self.assertEqual(kinds, [2, 1, 1, 2, 2, 1])
        self.assertEqual(
            AppendWriter().encode(append(0, 0, 0, commit=5)),
            b"\x01" + bytes(8) + (5).to_bytes(8, "big"),
        )

    @settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(
        st.lists(
            st.tuples(st.integers(1, 3), st.integers(0, 5), st.integers(0, 3), st.integers(1, 3)),
            max_size=12,
        ),
        st.integers(1, 40),
    )
    def test_round_trip(self, shapes: list[tuple[int, int, int, int]], step: int) -> None:
        """Whatever is written is read, however it is cut."""
        messages = [append(term, index, n, 7, log_term) for term, index, n, log_term in shapes]
        writer = AppendWriter()
        data = b"".join(writer.beat() + writer.encode(each) for each in messages)
        reader = AppendReader(1, 2)
        found = []
        for at in range(0, len(data), step):
            found += reader.feed(data[at : at + step])
        self.assertEqual(found, messages)

    def test_in_many_pieces(self) -> None:
        """However many reads a frame takes, each of its entries is decoded once."""
        decoded: list[Entry] = []

        def decode(data: bytes) -> Entry:
            decoded.append(decode_entry(data))
            return decoded[-1]

        self.patch(codec, "decode_entry", decode)
        writer, reader = AppendWriter(), AppendReader(1, 2)
        reader.feed(writer.encode(append(3, 0, 0)))
        whole = append(3, 0, 100, log_term=3)
        data = writer.encode(whole)
        found = [message for byte in data for message in reader.feed(bytes((byte,)))]
        self.assertEqual(found, [whole])
        self.assertEqual(decoded, list(whole.entries))

    def test_garbage(self) -> None:
        """What is no frame is refused by name."""
        for data in (b"\x03", b"\x02" + b"\xff" * 8, b"\x01" + b"\xff" * 8):
            with self.assertRaises(BadFrame):
                AppendReader(1, 2).feed(data)
        with self.assertRaises(BadFrame):
            AppendReader(1, 2).feed(b"\x02" + (2).to_bytes(8, "big") + b"\x08\xff")
        entry = b"\x01" + (1).to_bytes(8, "big") + (2).to_bytes(8, "big") + b"\xff\xff" + bytes(8)
        with self.assertRaises(BadFrame):
            AppendReader(1, 2).feed(entry)

    def test_large(self) -> None:
        """An entry of many megabytes is read in time that grows with its size alone, in both kinds
        of frame."""
        entries = (Entry(3, 1, EntryType.NORMAL, bytes(LARGE_BYTES)),)
        whole = Message(MessageType.APP, 2, 1, 3, log_term=3, entries=entries)
        for before in (append(3, 5, 0), append(3, 0, 0)):
            writer, reader = AppendWriter(), AppendReader(1, 2)
            reader.feed(writer.encode(before))
            self.assertTrue(read_in_pieces(reader, writer.encode(whole)) == [whole])


class MessageTests(SynchronousTestCase):
    def test_beat(self) -> None:
        """The sign of life is 38 bytes, and no message."""
        beat = MessageWriter().beat()
        self.assertEqual((len(beat), beat[:8]), (38, (30).to_bytes(8, "big")))
        self.assertEqual(MessageReader().feed(beat * 3), [])

    def test_real_heartbeat(self) -> None:
        """A heartbeat from somebody is one."""
        message = Message(MessageType.HEARTBEAT, 2, 1, 5)
        self.assertEqual(MessageReader().feed(MessageWriter().encode(message)), [message])

    def test_too_long(self) -> None:
        """A frame beyond the limit is refused before it is collected."""
        with self.assertRaisesRegex(BadFrame, "rafthttp: error limit exceeded"):
            MessageReader().feed((MESSAGE_BYTES_MAX + 1).to_bytes(8, "big"))

    def test_cut_anywhere(self) -> None:
        """Frames are read however they are cut."""
        messages = [Message(MessageType.PROP, 2, 1, entries=(Entry(0, 0, data=b"x" * 9),))] * 3
        data = b"".join(map(MessageWriter().encode, messages))
        for step in range(1, len(data)):
            reader = MessageReader()
            pieces = [data[at : at + step] for at in range(0, len(data), step)]
            self.assertEqual([each for piece in pieces for each in reader.feed(piece)], messages)

    def test_large(self) -> None:
        """Proposals of many megabytes, which a follower has gathered while nobody led, are read in
        time that grows with their size alone: the leader does nothing else meanwhile."""
        entries = (Entry(0, 0, EntryType.NORMAL, bytes(LARGE_BYTES)),)
        message = Message(MessageType.PROP, 2, 1, entries=entries)
        found = read_in_pieces(MessageReader(), MessageWriter().encode(message))
        self.assertTrue(found == [message])


def read_in_pieces(reader: MessageReader | AppendReader, data: bytes) -> list[Message]:
    """What a reader makes of data that comes in many reads; it has two seconds."""
    begin = time.process_time()
    found = []
    for at in range(0, len(data), READ_BYTES):
        found += reader.feed(data[at : at + READ_BYTES])
    assert time.process_time() - begin < 2.0, "it takes long"
    return found
