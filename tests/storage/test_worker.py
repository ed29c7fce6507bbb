"""Work away from the reactor."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from functools import partial
from queue import SimpleQueue
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from etcdtw.raft.messages import HardState
from etcdtw.storage.filesystem import OsFilesystem
from etcdtw.storage.interfaces import IWorker
from etcdtw.storage.wal import Wal, WalSnapshot
from etcdtw.storage.worker import InlineWorker, ThreadWorker
from tests.storage.wals import entries


class CallQueue:
    """The part of a reactor that a worker needs; the test's thread runs the calls."""

    def __init__(self) -> None:
        self.calls: SimpleQueue[Callable[[], Any]] = SimpleQueue()

    def callFromThread(self, call: Callable[..., Any], *args: Any) -> None:
        self.calls.put(lambda: call(*args))

    def run(self, count: int) -> None:
        for _ in range(count):
            self.calls.get(timeout=30)()


class ThreadWorkerTests(SynchronousTestCase):
    """One thread, in order."""

    def setUp(self) -> None:
        self.reactor = CallQueue()
        self.worker = ThreadWorker(self.reactor)  # type: ignore[arg-type]
        self.addCleanup(self.worker.stop)

    def test_interface(self) -> None:
        """Both workers provide IWorker."""
        verifyObject(IWorker, self.worker)
        verifyObject(IWorker, InlineWorker())

    def test_order_and_thread(self) -> None:
        """Work runs in the order given, elsewhere; results come back here."""
        seen: list[tuple[tuple[int, int], int]] = []

        def work(number: int) -> tuple[int, int]:
            return number, threading.get_ident()

        for number in range(5):
            self.worker.run(
                partial(work, number),
                lambda result: seen.append((result, threading.get_ident())),
                self.fail,
            )
        self.reactor.run(5)
        here = threading.get_ident()
        self.assertEqual([result[0] for result, _ in seen], [0, 1, 2, 3, 4])
        self.assertTrue(all(result[1] != here and at == here for result, at in seen))

    def test_errors(self) -> None:
        """An error goes to ``failed``, and the next piece of work runs."""
        seen: list[object] = []
        self.worker.run(lambda: 1 // 0, seen.append, lambda error: seen.append(type(error)))
        self.worker.run(lambda: "next", seen.append, seen.append)
        self.reactor.run(2)
        self.assertEqual(seen, [ZeroDivisionError, "next"])

    def test_stop(self) -> None:
        """Stopping waits for the work under way, drops the rest and calls nobody back."""
        begun, go = threading.Event(), threading.Event()
        seen: list[object] = []

        def slow() -> None:
            begun.set()
            go.wait(30)
            seen.append("finished")

        self.worker.run(slow, seen.append, seen.append)
        self.worker.run(lambda: seen.append("dropped"), seen.append, seen.append)
        begun.wait(30)
        releaser = threading.Timer(0.01, go.set)
        releaser.start()
        self.worker.stop()
        releaser.join()
        while not self.reactor.calls.empty():
            self.reactor.run(1)
        self.assertEqual(seen, ["finished"])

    def test_finish(self) -> None:
        """Finishing waits for all work that was given, and calls nobody back."""
        seen: list[object] = []
        for number in range(3):
            self.worker.run(lambda number=number: seen.append(number), self.fail, self.fail)  # type: ignore[misc]
        self.worker.finish()
        while not self.reactor.calls.empty():
            self.reactor.run(1)
        self.assertEqual(seen, [0, 1, 2])

    def test_syncs_beside_appends(self) -> None:
        """While one thread syncs and prepares segments, another appends through many changes of
        segments; what a sync returned for is always in named segments, without a gap."""
        directory = os.path.abspath(self.mktemp())
        fs = OsFilesystem()
        wal = Wal.create(fs, directory, b"meta", 16_384)
        pending = 0
        for index in range(1, 401):
            wal.append(HardState(1, 1, index), entries(index, 3 if index == 400 else 1, size=300))
            work = wal.prepare_next_segment if index % 40 == 0 else wal.sync
            self.worker.run(work, lambda _: None, self.fail)
            pending += 1
            if pending > 3:
                self.reactor.run(1)
                pending -= 1
        self.reactor.run(pending)
        wal.sync()
        self.assertGreater(len(wal.segment_names), 2)
        wal.close()
        wal, contents = Wal.open(fs, directory, WalSnapshot(), 16_384)
        wal.close()
        self.assertEqual(contents.entries, entries(1, 402, size=300))


class InlineWorkerTests(SynchronousTestCase):
    """No thread at all."""

    def test_results_at_once(self) -> None:
        """Result or error is reported before ``run`` returns."""
        seen: list[object] = []
        worker = InlineWorker()
        worker.run(lambda: 5, seen.append, seen.append)
        worker.run(lambda: 1 // 0, seen.append, lambda error: seen.append(type(error)))
        worker.stop()
        self.assertEqual(seen, [5, ZeroDivisionError])
