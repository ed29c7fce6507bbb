"""When a commit happens, who hears of it, and on which thread."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any

import lmdb

from etcdtw.errors import StorageError
from etcdtw.storage.backend import lmdb_backend
from etcdtw.storage.backend.lmdb_backend import (
    BATCH_BYTES_MAX,
    VIEW_SECONDS_MAX,
    LmdbBackend,
)
from etcdtw.storage.backend.lmdb_environment import Databases, create, open_environment
from etcdtw.storage.backend.lmdb_writer import Batch, BatchWriter, Written
from etcdtw.storage.worker import InlineWorker, ThreadWorker
from tests.storage_lmdb.keyspaces import FS, HeldWorker, KeyspaceCase

PATIENCE_SECONDS = 20.0


class CommitTimeTests(KeyspaceCase):
    """Batches."""

    def test_after_the_interval(self) -> None:
        """A change is committed within the batch interval, and an idle backend has no timer."""
        backend = self.open()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        backend.put(b"key", b"a", b"1")
        backend.end_entry(1, 1)
        self.clock.advance(0.099)
        self.assertEqual(backend.durable_index(), 0)
        self.clock.advance(0.002)
        self.assertEqual(backend.durable_index(), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(backend.overlay_bytes(), 0)

    def test_after_many_changes(self) -> None:
        """The batch limit counts changes, and is looked at where an entry ends."""
        backend = self.open(self.new_settings(batch_changes=10))
        for number in range(9):
            backend.put(b"key", b"%d" % number, b"")
            backend.end_entry(number + 1, 1)
        self.assertEqual(backend.durable_index(), 0)
        for number in range(3):
            backend.put(b"meta", b"%d" % number, b"")
        self.assertEqual(backend.durable_index(), 0)
        backend.end_entry(10, 1)
        self.assertEqual(backend.durable_index(), 0)  # never within the call
        self.clock.advance(0)
        self.assertEqual(backend.durable_index(), 10)

    def test_after_many_bytes(self) -> None:
        """Large values are committed early."""
        backend = self.open()
        backend.put(b"key", b"a", bytes(BATCH_BYTES_MAX))
        backend.end_entry(1, 1)
        self.clock.advance(0)
        self.assertEqual(backend.durable_index(), 1)

    def test_one_batch_at_a_time(self) -> None:
        """What ends while a batch is written waits for its end, and then goes in one batch."""
        worker = HeldWorker()
        backend = self.open(self.new_settings(batch_changes=1), worker)
        told: list[int] = []
        backend.on_durable.append(told.append)
        for index in range(1, 6):
            backend.put(b"key", b"%d" % index, b"")
            backend.end_entry(index, 1)
            self.clock.advance(0)
        worker.finish()
        self.assertEqual(told, [1, 5])

    def test_finish(self) -> None:
        """At the end everything that has ended is handed over, a batch under way not again."""
        worker = HeldWorker()
        settings = self.new_settings(batch_changes=1)
        backend = self.open(settings, worker)
        for index in range(1, 6):
            backend.put(b"key", b"%d" % index, b"")
            backend.end_entry(index, 1)
            self.clock.advance(0)
        backend.finish()
        worker.do()
        worker.report = lambda: setattr(worker, "_report", None)  # type: ignore[method-assign]
        worker.finish()
        backend.close()
        self.assertEqual(self.open(settings).consistent_index(), (5, 1))

    def test_abandoned(self) -> None:
        """Only the batch under way is still written, also if others are sealed, and also at the
        end; nothing is left to be called."""
        self.patch(lmdb_backend, "BATCH_CHANGES_MAX", 1)
        worker = HeldWorker()
        settings = self.new_settings(batch_changes=1)
        backend = self.open(settings, worker)
        told: list[StorageError] = []
        backend.on_fatal.append(told.append)
        for index in range(1, 4):
            backend.put(b"key", b"%d" % index, b"")
            backend.end_entry(index, 1)
            self.clock.advance(0)
        backend.abandon()
        worker.finish()
        backend.finish()
        worker.finish()
        backend.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(told, [])
        self.assertEqual(self.open(settings).consistent_index(), (1, 1))

    def test_batches_stay_small(self) -> None:
        """However much comes together while one is written, no batch outgrows the bound, and they
        are written in order."""
        self.patch(lmdb_backend, "BATCH_CHANGES_MAX", 3)
        worker = HeldWorker()
        backend = self.open(self.new_settings(batch_changes=2), worker)
        told: list[int] = []
        backend.on_durable.append(told.append)
        for index in range(1, 11):
            backend.put(b"key", b"%d" % (index % 4), b"%d" % index)
            backend.end_entry(index, 1)
            self.clock.advance(0)
        self.assertEqual(backend.get(b"key", b"3"), b"7")
        worker.finish()
        self.assertEqual(told, [2, 5, 8, 10])
        self.assertEqual(
            [value for _, value in backend.scan(b"key", b"", None)], [b"8", b"9", b"10", b"7"]
        )

    def test_a_batch_is_dropped_when_its_successor_can_be_read(self) -> None:
        """Between the commit and the news of it reads come from the overlay; after it from the
        file, whose read transaction is new."""
        worker = HeldWorker()
        backend = self.open(worker=worker)
        backend.put(b"key", b"a", b"1")
        backend.end_entry(1, 1)
        backend.commit()
        worker.do()
        self.assertGreater(backend.overlay_bytes(), 0)
        self.assertEqual(backend.get(b"key", b"a"), b"1")
        self.assertEqual(backend.durable_index(), 0)
        worker.report()
        self.assertEqual(backend.overlay_bytes(), 0)
        self.assertEqual(backend.get(b"key", b"a"), b"1")
        self.assertEqual(backend.durable_index(), 1)

    def test_position_is_hidden_but_stored(self) -> None:
        """Reads do not show consistent index and term; a view does, as etcd stores them."""
        backend = self.open()
        backend.put(b"meta", b"a", b"1")
        backend.end_entry(258, 3)
        backend.commit()
        self.assertEqual(list(backend.scan(b"meta", b"", None)), [(b"a", b"1")])
        self.assertIsNone(backend.get(b"meta", b"consistent_index"))
        view = backend.view("test")
        self.addCleanup(view.close)
        self.assertEqual(
            dict(view.scan(b"meta", b"", None)),
            {
                b"a": b"1",
                b"consistent_index": (258).to_bytes(8, "big"),
                b"term": (3).to_bytes(8, "big"),
            },
        )

    def test_old_views_are_taken_away(self) -> None:
        """A view beyond the age limit is closed at the next commit; its owner learns who it was."""
        backend = self.open()
        old = backend.view("the slow one")
        self.clock.advance(VIEW_SECONDS_MAX)
        young = backend.view("another")
        self.assertEqual([view.owner for view in backend.views], ["the slow one", "another"])
        self.clock.advance(1)
        backend.end_entry(1, 1)
        backend.commit()
        self.assertEqual(backend.views, [young])
        with self.assertRaisesRegex(StorageError, "the slow one"):
            old.get(b"key", b"a")

    def test_close_leaves_nothing(self) -> None:
        """After a close no timer is left, late news is ignored, and the file can be opened."""
        worker = HeldWorker()
        backend = self.open(worker=worker)
        told: list[object] = []
        backend.on_durable.append(told.append)
        backend.wait_durable(1, lambda: told.append("durable"))
        view = backend.view("test")
        backend.end_entry(1, 1)
        backend.commit()
        worker.do()
        backend.end_entry(2, 1)
        backend.close()
        backend.close()
        worker.report()
        self.assertEqual(told, [])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        with self.assertRaises(StorageError):
            view.get(b"key", b"a")
        self.assertEqual(self.open(backend.settings).consistent_index(), (1, 1))


class _ThreadRecorder(BatchWriter):
    """Notes on which threads batches are written."""

    seen: set[int]

    def commit(self, txn: lmdb.Transaction[bytes]) -> None:
        self.seen.add(threading.get_ident())
        super().commit(txn)


class _Mailbox:
    """The one thing that a ThreadWorker needs of a reactor; calls come out on this thread."""

    def __init__(self) -> None:
        self._calls: SimpleQueue[tuple[Callable[..., object], tuple[Any, ...]]] = SimpleQueue()

    def callFromThread(self, callable: Callable[..., object], *args: Any) -> None:
        self._calls.put((callable, args))

    def run_one(self) -> None:
        callable, args = self._calls.get(timeout=PATIENCE_SECONDS)
        callable(*args)


class ThreadTests(KeyspaceCase):
    """One thread writes, the other reads."""

    def open_threaded(self) -> tuple[LmdbBackend, _Mailbox, ThreadWorker, set[int]]:
        mailbox = _Mailbox()
        worker = ThreadWorker(mailbox)  # type: ignore[arg-type]
        seen: set[int] = set()

        def make_writer(env: lmdb.Environment, path: str) -> BatchWriter:
            writer = _ThreadRecorder(env, path)
            writer.seen = seen
            return writer

        backend = self.open_with(make_writer, worker)
        self.addCleanup(worker.stop)
        return backend, mailbox, worker, seen

    def test_all_batches_on_one_thread(self) -> None:
        """Every batch is written on the worker's thread, before and after a defragmentation."""
        backend, mailbox, _, seen = self.open_threaded()
        told: list[object] = []
        for index in range(1, 30):
            for number in range(50):
                backend.put(b"key", b"%05d" % (index * 50 + number), b"v" * 100)
            backend.end_entry(index, 1)
            backend.commit()
            if index == 15:
                backend.defragment(lambda: told.append("done"), told.append)
                while not told:
                    mailbox.run_one()
                self.assertEqual(told, ["done"])
            self.assertEqual(len(list(backend.scan(b"key", b"", None))), 50 * index)
        durable: list[int] = []
        backend.wait_durable(29, lambda: durable.append(29))
        while not durable:
            mailbox.run_one()
        self.assertEqual(len(seen), 1)
        self.assertNotIn(threading.get_ident(), seen)

    def test_another_thread_is_refused(self) -> None:
        """A worker that changes threads is our own mistake, and noticed."""
        settings = self.new_settings()
        create(FS, settings.path, settings.map_bytes, sync=False)
        opened = open_environment(settings.path, settings.map_bytes, sync=False)
        self.addCleanup(opened.env.close)
        writers: list[BatchWriter] = []

        def make_writer(env: lmdb.Environment, path: str) -> BatchWriter:
            writers.append(BatchWriter(env, path))
            return writers[0]

        backend = LmdbBackend(FS, settings, opened, self.clock, InlineWorker(), make_writer)
        backend.end_entry(1, 1)
        backend.commit()
        refused: list[str] = []

        def write() -> None:
            try:
                writers[0].write({}, None)  # type: ignore[arg-type]
            except AssertionError as error:
                refused.append(str(error))

        other = threading.Thread(target=write)
        other.start()
        other.join()
        self.assertEqual(refused, ["batches of one file are written by one thread"])
        backend.close()

    def test_close_beside_a_batch(self) -> None:
        """Closing while a batch is being written waits for it and breaks nothing."""
        backend, _, worker, _ = self.open_threaded()
        for number in range(20_000):
            backend.put(b"key", b"%05d" % number, b"v" * 100)
        backend.end_entry(1, 1)
        backend.commit()
        backend.close()
        worker.stop()
        again = self.open(backend.settings)
        self.assertIn(len(list(again.scan(b"key", b"", None))), (0, 20_000))

    def test_close_waits(self) -> None:
        """A batch that has begun is written before anything is closed; a later one is not."""
        begun, go = threading.Event(), threading.Event()

        class SlowWriter(BatchWriter):
            def write(self, databases: Databases, batch: Batch) -> Written:
                begun.set()
                go.wait(PATIENCE_SECONDS)
                return super().write(databases, batch)

        worker = ThreadWorker(_Mailbox())  # type: ignore[arg-type]
        self.addCleanup(worker.stop)
        backend = self.open_with(SlowWriter, worker)
        backend.put(b"key", b"k", b"v")
        backend.end_entry(1, 1)
        backend.commit()
        begun.wait(PATIENCE_SECONDS)
        release = threading.Timer(0.05, go.set)
        release.start()
        backend.close()
        release.join()
        again = self.open(backend.settings)
        self.assertEqual(list(again.scan(b"key", b"", None)), [(b"k", b"v")])
