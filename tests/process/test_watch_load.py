"""Watching a running member: many watchers, slow ones, and ones that come back."""

from __future__ import annotations

import contextlib
import os
import time
from collections import defaultdict
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from etcdtw.pb.rpc_pb2 import (
    RequestOp,
    WatchCreateRequest,
    WatchProgressRequest,
    WatchRequest,
)
from tests.process.bystander import Bystander
from tests.process.foreign import ForeignClient, Stream
from tests.process.member import Member, server_under_test

HEAVY = bool(os.environ.get("ETCDTW_HEAVY"))
WATCHERS = 1000
CONNECTIONS = 100 if HEAVY else 20
PUTS = 10
SLOW_EVENTS = 100_000 if HEAVY else 20_000
SLOW_READERS = 20
VALUE_BYTES = 500
OPERATIONS_PER_TXN = 100
# What one connection may hold that does not read, and what the store needs per event.
QUEUED_BYTES_MAX = 4 << 20
STORED_BYTES_PER_EVENT = 4 * VALUE_BYTES
MEGABYTE = 1 << 20
RESPONSE_BYTES_MAX = 2 * MEGABYTE


def create(key: bytes, end: bytes = b"", **fields: Any) -> WatchRequest:
    return WatchRequest(create_request=WatchCreateRequest(key=key, range_end=end, **fields))


class WatchTestCase(SynchronousTestCase):
    flags: tuple[str, ...] = ()

    def setUp(self) -> None:
        self.member = Member(server_under_test(), *self.flags)
        self.addCleanup(self.member.close)
        self.member.start()
        self.client = self.connect()

    def connect(self) -> ForeignClient:
        client = ForeignClient(self.member.endpoint)
        self.addCleanup(client.close)
        return client

    def watch(self, request: WatchRequest, client: ForeignClient | None = None) -> Stream:
        stream = (client or self.client).open("Watch.Watch")
        self.addCleanup(stream.close)
        stream.send(request)
        return stream

    def put_all(self, keys: list[bytes], value: bytes) -> int:
        """Put the keys in one transaction; its revision."""
        operations = [RequestOp(request_put={"key": key, "value": value}) for key in keys]
        revision: int = self.client.call("KV.Txn", success=operations).header.revision
        return revision


class CrowdTests(WatchTestCase):
    def assert_complete(self, streams: list[Stream], watchers: int, revisions: list[int]) -> None:
        """Every watcher of every stream gets every revision once, in order."""
        for stream in streams:
            seen: dict[int, list[int]] = defaultdict(list)
            while sum(map(len, seen.values())) < watchers * len(revisions):
                answer = stream.receive()
                if not answer.created:
                    seen[answer.watch_id] += [each.kv.mod_revision for each in answer.events]
            self.assertEqual(len(seen), watchers)
            wrong = {number for number, found in seen.items() if found != revisions}
            self.assertEqual(wrong, set())

    def test_one_stream(self) -> None:
        """A thousand watchers on one stream each get every event, once and in order."""
        stream = self.watch(create(b"k"))
        for number in range(1, WATCHERS):
            stream.send(create(b"k") if number % 2 else create(b"a", b"z"))
        for _ in range(WATCHERS):
            self.assertTrue(stream.receive().created)
        self.assert_complete([stream], WATCHERS, [self.put_all([b"k"], b"v") for _ in range(PUTS)])

    def test_many_connections(self) -> None:
        """Watchers on many connections each get every event, once and in order."""
        streams = []
        each_has = WATCHERS // CONNECTIONS
        for _ in range(CONNECTIONS):
            streams.append(self.watch(create(b"k"), self.connect()))
            for _ in range(1, each_has):
                streams[-1].send(create(b"k"))
        for stream in streams:
            for _ in range(each_has):
                self.assertTrue(stream.receive().created)
        revisions = [self.put_all([b"k"], b"v") for _ in range(PUTS)]
        self.assert_complete(streams, each_has, revisions)


class SlowReaderTests(WatchTestCase):
    def test_readers_that_do_not_read(self) -> None:
        """Streams that nobody reads cost a bounded amount of memory while events are written,
        everybody else is served, and who begins to read then gets all of them."""
        slow = [
            self.connect().open_unread("Watch.Watch", create(b"k", b"l"))
            for _ in range(SLOW_READERS)
        ]
        for each in slow:
            self.addCleanup(each.cancel)
            self.assertTrue(next(each).created)
        bystander = Bystander(self.member.endpoint)
        self.addCleanup(bystander.stop)
        before = self.member.resident_bytes()
        keys = [b"k%d" % number for number in range(OPERATIONS_PER_TXN)]
        for _ in range(SLOW_EVENTS // OPERATIONS_PER_TXN):
            self.put_all(keys, b"v" * VALUE_BYTES)
        grown = self.member.resident_bytes() - before
        allowed = SLOW_EVENTS * STORED_BYTES_PER_EVENT + SLOW_READERS * QUEUED_BYTES_MAX
        self.assertLess(grown, allowed)
        self.assertEqual(bystander.failures, [])
        self.assertLess(bystander.slowest, 2.0)
        counted, last = 0, 0
        for answer in slow[0]:
            revisions = [event.kv.mod_revision for event in answer.events]
            self.assertEqual(revisions, sorted(revisions))
            self.assertGreaterEqual(revisions[0], last)
            last = revisions[-1]
            counted += len(revisions)
            if counted >= SLOW_EVENTS:
                break
        self.assertEqual(counted, SLOW_EVENTS)


class GuaranteeTests(WatchTestCase):
    flags = ("--experimental-watch-progress-notify-interval=500ms",)

    def test_progress(self) -> None:
        """A quiet watch that asked for it is told the revision now and then; a progress request
        is answered for the whole stream."""
        stream = self.watch(create(b"quiet", progress_notify=True))
        self.assertTrue(stream.receive().created)
        revision = self.client.call("KV.Put", key=b"other").header.revision
        notified = stream.receive()
        self.assertEqual((list(notified.events), notified.header.revision), ([], revision))
        stream.send(WatchRequest(progress_request=WatchProgressRequest()))
        answer = stream.receive()
        while answer.watch_id != -1:
            answer = stream.receive()
        self.assertEqual(answer.header.revision, revision)

    def test_fragments(self) -> None:
        """An answer larger than a request may be comes in pieces when the watch allows it, and
        whole when it does not."""
        values = [bytes((letter,)) * (7 * MEGABYTE // 10) for letter in b"12"]
        whole = self.watch(create(b"a", b"c", prev_kv=True))
        pieces = self.watch(create(b"a", b"c", prev_kv=True, fragment=True))
        for stream in (whole, pieces):
            self.assertTrue(stream.receive().created)
        for value in values:
            self.put_all([b"a", b"b"], value)
        for stream in (whole, pieces):
            self.assertEqual(len(stream.receive().events), 2)  # nothing was there before
        answer = whole.receive()
        self.assertEqual((len(answer.events), answer.fragment), (2, False))
        self.assertGreater(answer.ByteSize(), RESPONSE_BYTES_MAX)
        first, second = pieces.receive(), pieces.receive()
        self.assertEqual((first.fragment, second.fragment), (True, False))
        self.assertEqual([*first.events, *second.events], list(answer.events))
        self.assertLessEqual(first.ByteSize(), RESPONSE_BYTES_MAX)

    def test_compacted_start(self) -> None:
        """A watch from a compacted revision is cancelled with the revision to begin from."""
        for number in range(5):
            revision = self.put_all([b"a"], b"%d" % number)
        self.client.call("KV.Compact", revision=revision - 1)
        stream = self.watch(create(b"a", start_revision=2))
        self.assertTrue(stream.receive().created)
        answer = stream.receive()
        self.assertTrue(answer.canceled)
        self.assertEqual(answer.compact_revision, revision - 1)
        again = self.watch(create(b"a", start_revision=answer.compact_revision))
        self.assertTrue(again.receive().created)
        found = again.receive().events
        self.assertEqual([each.kv.mod_revision for each in found], [revision - 1, revision])

    def test_reconnect(self) -> None:
        """After the member was killed and restarted, a watch that goes on behind the last event
        that it saw misses nothing and gets nothing twice."""
        stream = self.watch(create(b"a"))
        self.assertTrue(stream.receive().created)
        wanted = [self.put_all([b"a"], b"%d" % number) for number in range(20)]
        seen: list[int] = []
        while len(seen) < 10:
            seen += [each.kv.mod_revision for each in stream.receive().events]
        self.member.kill()
        self.member.start()
        with contextlib.closing(ForeignClient(self.member.endpoint)) as client:
            self.client = client
            again = self.watch(create(b"a", start_revision=seen[-1] + 1))
            wanted += [self.put_all([b"a"], b"%d" % number) for number in range(20)]
            self.assertTrue(again.receive().created)
            deadline = time.monotonic() + 10
            while len(seen) < len(wanted) and time.monotonic() < deadline:
                seen += [each.kv.mod_revision for each in again.receive().events]
            self.assertEqual(seen, wanted)
            again.close()
