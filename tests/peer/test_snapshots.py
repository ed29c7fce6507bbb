"""Snapshots on their way between members."""

from __future__ import annotations

import os
from typing import Any

from twisted.internet.error import ConnectionLost
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.api.http.factory import HttpFactory
from etcdtw.api.http.site import Site
from etcdtw.api.peer.snapshot import SnapshotPage
from etcdtw.peer.calling import HttpCaller
from etcdtw.peer.headers import Identity
from etcdtw.peer.snapshots import MESSAGE_BYTES_MAX, SNAPSHOT_PATH, SnapshotBody, _Outgoing
from etcdtw.peer.transport import PeerTransport
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


class PageTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.stores: list[Kept] = []
        self.received: list[Kept] = []
        identity = Identity(2, 5, ("http://m2:2380",))
        clock = Clock()
        page = SnapshotPage(PeerTransport(identity, HttpCaller(clock, 1.0)), self)
        factory = HttpFactory(Site({SNAPSHOT_PATH.encode(): page}), clock)
        factory.uploads[SNAPSHOT_PATH.encode()] = lambda: SnapshotBody(self.make_store)
        self.connection = factory.buildProtocol(None)
        self.connection.makeConnection(StringTransport())
        encoded = encode_message(MESSAGE)
        body = len(encoded).to_bytes(8, "big") + encoded + b"database"
        lines = [b"%b: %b\r\n" % each for each in identity.headers().items()]
        self.request = (
            b"POST /raft/snapshot HTTP/1.1\r\nHost: m2\r\nContent-Length: %d\r\n%b\r\n%b"
            % (len(body), b"".join(lines), body)
        )

    def make_store(self) -> Kept:
        self.stores.append(Kept())
        return self.stores[-1]

    def snapshot_received(self, message: Message, store: Any, done: object) -> None:
        self.received.append(store)

    def test_sender_gone_half_way(self) -> None:
        """What he sent is not wanted."""
        self.connection.dataReceived(self.request[:-1])
        self.connection.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(self.received, [])
        self.assertTrue(self.stores[0].discarded)

    def test_sender_does_not_wait(self) -> None:
        """A database that has come is its receiver's, who may be writing it down in a thread."""
        self.connection.dataReceived(self.request)
        self.connection.connectionLost(Failure(ConnectionLost()))
        self.assertEqual(self.received, self.stores)
        self.assertEqual((self.stores[0].data, self.stores[0].discarded), (b"database", False))


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
