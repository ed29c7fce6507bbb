"""Snapshots on their way between members."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.peer.snapshots import MESSAGE_BYTES_MAX, SnapshotBody, _Outgoing
from etcdtw.raft.codec import encode_message
from etcdtw.raft.messages import ConfState, Message, MessageType, Snapshot
from etcdtw.storage.received import Upload

MESSAGE = Message(
    MessageType.SNAP, 2, 1, 3, snapshot=Snapshot(7, 3, ConfState(voters=(1, 2)), b"{}")
)


class Kept:
    """A store in memory."""

    def __init__(self) -> None:
        self.data = b""
        self.discarded = False
        self.error: OSError | None = None

    def write(self, data: bytes) -> None:
        if self.error is not None:
            raise self.error
        self.data += data

    def discard(self) -> None:
        self.discarded = True


class BodyTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.store = Kept()
        self.body = SnapshotBody(lambda: self.store)

    def test_taken_apart(self) -> None:
        """The message is kept, the rest is stored, however the body is cut."""
        encoded = encode_message(MESSAGE)
        data = len(encoded).to_bytes(8, "big") + encoded + bytes(range(256)) * 10
        for step in (1, 5, 100, len(data)):
            self.setUp()
            for at in range(0, len(data), step):
                self.body.write(data[at : at + step])
            self.assertEqual(self.body.message, MESSAGE)
            self.assertEqual(self.store.data, bytes(range(256)) * 10)

    def test_cut_short(self) -> None:
        """Without a whole message there is none."""
        self.body.write((100).to_bytes(8, "big") + b"x" * 50)
        self.assertIsNone(self.body.message)
        self.body.discard()

    def test_too_long(self) -> None:
        """A message beyond the limit is refused before it is collected."""
        self.body.write((MESSAGE_BYTES_MAX + 1).to_bytes(8, "big") + b"x")
        self.assertEqual(self.body.error, "rafthttp: error limit exceeded")

    def test_no_message(self) -> None:
        """What is no message is an error; what follows is dropped."""
        self.body.write((2).to_bytes(8, "big") + b"\xff\xff" + b"rest")
        self.body.write(b"more")
        self.assertTrue(self.body.error)
        self.assertEqual(self.store.data, b"")

    def test_full_disk(self) -> None:
        """A store that cannot take it is the reason."""
        self.store.error = OSError(28, "No space left on device")
        encoded = encode_message(MESSAGE)
        self.body.write(len(encoded).to_bytes(8, "big") + encoded + b"x")
        self.assertIn("No space left", self.body.error)
        self.body.discard()
        self.assertTrue(self.store.discarded)

    def test_sent(self) -> None:
        """What is sent is what is taken apart."""
        path = self.mktemp()
        with open(path, "wb") as file:
            file.write(b"database" * 1000)
        with open(path, "rb") as file:
            outgoing = _Outgoing(MESSAGE, file)
            while piece := outgoing.read(777):
                self.body.write(piece)
        self.assertEqual((self.body.message, self.store.data), (MESSAGE, b"database" * 1000))


class UploadTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = self.mktemp()
        os.mkdir(self.directory)

    def test_kept(self) -> None:
        """A database gets its name when it is whole."""
        upload = Upload(self.directory)
        upload.write(b"one")
        upload.write(b"two")
        self.assertEqual(upload.size, 6)
        path = os.path.join(self.directory, "kept")
        upload.keep_as(path)
        self.assertEqual(os.listdir(self.directory), ["kept"])
        with open(path, "rb") as file:
            self.assertEqual(file.read(), b"onetwo")

    def test_discarded(self) -> None:
        """Nothing is left of one that is not wanted, discarded twice or not."""
        upload = Upload(self.directory)
        upload.write(b"one")
        upload.discard()
        upload.discard()
        self.assertEqual(os.listdir(self.directory), [])
