"""The backend that keeps the keyspace in LMDB.

Reads and writes happen on the reactor. Changes gather in an overlay; each batch of whole entries is
written by a worker, while the overlay goes on answering for it. A batch leaves the overlay on the
reactor, together with a new read transaction that has it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import TypeVar

import lmdb
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from etcdtw.counting import COMMIT_BOUNDS, DEFRAGMENT_BOUNDS, Histogram
from etcdtw.errors import StorageError
from etcdtw.mvcc.interfaces import IDurableBackend
from etcdtw.storage.backend.lmdb_defragment import Defragmented, NameLost, defragmented
from etcdtw.storage.backend.lmdb_environment import (
    META,
    POSITION_KEYS,
    Environment,
    create,
    map_bytes,
    open_environment,
    remove_leftovers,
)
from etcdtw.storage.backend.lmdb_overlay import (
    LARGE_BYTES,
    RECORD_BYTES,
    Changes,
    Layer,
    read_through,
)
from etcdtw.storage.backend.lmdb_view import LmdbView, Pairs, Reading, in_pieces
from etcdtw.storage.backend.lmdb_writer import Batch, BatchWriter, NoSpaceOnDisk, Written, measure
from etcdtw.storage.interfaces import IFilesystem, IWorker

RETRY_SECONDS = 1.0
"""Between a commit that found no space and the next try."""
BATCH_SECONDS = 0.1
"""From a change to its commit, at most."""
BATCH_CHANGES_MAX = 10_000
BATCH_BYTES_MAX = 16 << 20
"""A batch that reaches either is sealed: writing it, or forgetting it, shall not take long."""
SHED_CHANGES = 20_000
"""So many are forgotten in one go."""
OVERLAY_BYTES_MAX = 64 << 20
"""With more than this waiting for space on the disk the backend gives up."""
VIEW_SECONDS_MAX = 1800.0
"""A view older than this is taken from its owner: space that it sees cannot be reused."""

_MISSING = object()

Outcome = tuple[Callable[[], None], Callable[[Exception], None]]


@dataclass(frozen=True)
class LmdbSettings:
    """``path`` is the file. A commit follows a change within ``batch_seconds``, or at once when
    ``batch_changes`` wait. ``sync`` false: a power cut may ruin the file."""

    path: str
    quota_bytes: int = 2 << 30
    batch_seconds: float = BATCH_SECONDS
    batch_changes: int = BATCH_CHANGES_MAX
    sync: bool = True

    @property
    def map_bytes(self) -> int:
        return map_bytes(self.quota_bytes)


def open_backend(
    fs: IFilesystem, settings: LmdbSettings, clock: IReactorTime, worker: IWorker
) -> LmdbBackend:
    """Open the keyspace, an empty new one if there is none. StorageError or OSError.

    ``worker`` must do all its work on one thread, and is best left to the backend alone.
    """
    remove_leftovers(fs, settings.path)
    if not fs.exists(settings.path):
        create(fs, settings.path, settings.map_bytes, sync=settings.sync)
    opened = open_environment(settings.path, settings.map_bytes, sync=settings.sync)
    return LmdbBackend(fs, settings, opened, clock, worker)


T = TypeVar("T")


@implementer(IDurableBackend)
class LmdbBackend:
    """See ``IDurableBackend``. Consistent index and term are kept in bucket ``meta``, as etcd
    does, but reads do not show them; views do."""

    def __init__(
        self,
        fs: IFilesystem,
        settings: LmdbSettings,
        opened: Environment,
        clock: IReactorTime,
        worker: IWorker,
        make_writer: Callable[[lmdb.Environment, str], BatchWriter] = BatchWriter,
    ) -> None:
        self._in_use = threading.Lock()
        self.on_durable: list[Callable[[int], None]] = []
        self.on_no_space: list[Callable[[], None]] = []
        self.on_fatal: list[Callable[[StorageError], None]] = []
        self.marker = opened.marker
        self.views: list[LmdbView] = []
        self.no_space = False
        self._fs = fs
        self.settings = settings
        self._clock = clock
        self._worker = worker
        self._make_writer = make_writer
        self._env, _, self._databases = opened
        self._writer = make_writer(self._env, settings.path)
        self._sizes = measure(self._env, self._databases)
        self._reading = Reading(self._env, self._databases)
        self._entry = self._reading.position()
        self._durable = self._entry
        # The overlay, newest first: the entry under way, whole entries, and sealed batches of
        # them, oldest first, of which the first is being written. An entry that fills a layer goes
        # on in another one: a dict that grows moves all that it holds at once.
        self._open = Layer()
        self._open_full: list[Layer] = []
        self._ended = Layer()
        self._ended_full: list[Layer] = []
        self._batches: list[Batch] = []
        self._wanted = False  # what has ended is to be committed too, once that is possible
        self._dirty = False  # entries have ended since the last batch was sealed
        self._due: IDelayedCall | None = None
        self._hurried = False  # the due commit was brought forward
        self._retry: IDelayedCall | None = None
        self._waiting: list[tuple[int, Callable[[], None]]] = []
        self._defragmenting: Outcome | None = None
        self._retired: list[lmdb.Environment] = []  # replaced ones that views still look at
        self._failed: StorageError | None = None
        self._closed = False
        self.commit_seconds = Histogram(COMMIT_BOUNDS)
        self.defragment_seconds = Histogram(DEFRAGMENT_BOUNDS)
        self._defragment_begun = 0.0

    @property
    def is_defragmenting(self) -> bool:
        return self._defragmenting is not None

    @property
    def open_views(self) -> int:
        return len(self.views)

    # --- reading -------------------------------------------------------------------------------

    def get(self, bucket: bytes, key: bytes) -> bytes | None:
        for layer in self._layers():
            changes = layer.buckets.get(bucket)
            if changes is not None:
                value = changes.records.get(key, _MISSING)
                if value is not _MISSING:
                    return value  # type: ignore[return-value]
        if bucket == META and key in POSITION_KEYS:
            return None
        return self._reading.get(bucket, key)

    def scan(self, bucket: bytes, start: bytes, end: bytes | None) -> Iterator[tuple[bytes, bytes]]:
        def piece_of(start: bytes, limit: int) -> tuple[Pairs, bytes | None]:
            stored = self._reading.records(bucket, start, end, limit)
            layers = self._layers()
            layers.reverse()
            piece, bound = read_through(layers, bucket, stored, start, end, limit)
            if bucket == META:
                piece = [each for each in piece if each[0] not in POSITION_KEYS]
            return piece, bound

        return in_pieces(piece_of, start)

    def _layers(self) -> list[Layer]:
        """What lies above the records on disk, newest first."""
        layers = [self._open, self._ended]
        if self._open_full or self._ended_full:
            layers[1:] = [*reversed(self._open_full), self._ended, *reversed(self._ended_full)]
        for batch in reversed(self._batches):
            layers += reversed(batch.layers)
        return layers

    def buckets(self) -> list[bytes]:
        names = set(self._databases)
        for layer in self._layers():
            names.update(name for name, changes in layer.buckets.items() if changes.records)
        return sorted(names)

    def consistent_index(self) -> tuple[int, int]:
        return self._entry

    def durable_index(self) -> int:
        return self._durable[0]

    def size(self) -> int:
        return self._sizes.total

    def size_in_use(self) -> int:
        return self._sizes.in_use

    def overlay_bytes(self) -> int:
        """Memory that changes take which are not on disk yet."""
        total = 0
        for layer in self._layers():
            total += layer.bytes
        return total

    # --- writing -------------------------------------------------------------------------------

    def put(self, bucket: bytes, key: bytes, value: bytes) -> None:
        layer = self._open
        changes = layer.buckets.get(bucket)
        if changes is None:
            changes = layer.buckets[bucket] = Changes()
        changes.records[key] = value
        layer.bytes += len(key) + len(value) + RECORD_BYTES
        if layer.bytes > BATCH_BYTES_MAX:
            self._fill_open()

    def put_all(self, bucket: bytes, keys: list[bytes], values: list[bytes]) -> None:
        layer = self._open
        changes = layer.buckets.get(bucket)
        if changes is None:
            changes = layer.buckets[bucket] = Changes()
        changes.records.update(zip(keys, values, strict=True))
        layer.bytes += sum(map(len, keys)) + sum(map(len, values)) + RECORD_BYTES * len(keys)
        if layer.bytes > BATCH_BYTES_MAX:
            self._fill_open()

    def delete(self, bucket: bytes, key: bytes) -> None:
        layer = self._open
        changes = layer.buckets.get(bucket)
        if changes is None:
            changes = layer.buckets[bucket] = Changes()
        changes.records[key] = None
        layer.bytes += len(key) + RECORD_BYTES

    def _fill_open(self) -> None:
        self._open_full.append(self._open)
        self._open = Layer()

    def end_entry(self, index: int, term: int) -> None:
        """See ``IBackend``. The last entry may end again: changes that belong to no entry, a
        compaction's, then become durable too."""
        if self._open_full:
            self._ended_full += [self._ended, *self._open_full]
            self._open_full = []
            self._ended = Layer()
        self._ended.take(self._open)
        self._entry = (index, term)
        self._dirty = True
        if self._due is None:
            self._due = self._clock.callLater(self.settings.batch_seconds, self._tick)
        if self._has_ended(self.settings.batch_changes):
            self._is_full()

    def _has_ended(self, changes: int) -> bool:
        """Whether entries of so many changes have ended, or of very many bytes."""
        ended = self._ended
        is_large = ended.count >= changes or ended.bytes >= BATCH_BYTES_MAX
        return is_large or bool(self._ended_full)

    def _tick(self) -> None:
        self._due = None
        self._hurried = False
        self.commit()

    def commit(self) -> None:
        if self._batches or self._defragmenting is not None:
            self._wanted = True
        elif self._dirty and self._failed is None and not self._closed:
            self._wanted = False
            self._seal()
            self._write()

    def finish(self) -> None:
        """Hand all that has ended to the worker, for whoever waits for its end and then closes.
        What cannot be written now is in the log."""
        if self._closed or self._failed is not None or self._defragmenting is not None:
            return
        if self._retry is not None:
            return
        under_way = len(self._batches[:1])
        if self._dirty:
            self._seal()
        writer, databases = self._writer, self._databases
        for batch in self._batches[under_way:]:
            work = self._unless_closed(partial(writer.write, databases, batch))
            self._worker.run(work, lambda _: None, lambda _: None)

    def _seal(self) -> None:
        """Make a batch of what has ended."""
        self._batches.append(Batch([*self._ended_full, self._ended], *self._entry))
        self._ended_full = []
        self._ended = Layer()
        self._dirty = False

    def _is_full(self) -> None:
        if self._batches or self._defragmenting is not None:
            self._wanted = True
            if self._has_ended(BATCH_CHANGES_MAX):
                self._seal()
                self._check_overlay()
        elif not self._hurried and self._due is not None:
            # Not in this call: the entry may have been applied while its log record is still on
            # the way to the disk, and the keyspace must never be ahead of the log.
            self._hurried = True
            self._due.reset(0)

    def _check_overlay(self) -> None:
        waiting = self.overlay_bytes()
        if self.no_space and waiting > OVERLAY_BYTES_MAX:
            self._fail(
                f"no space left on device, and {waiting} bytes wait to be written (at most "
                f"{OVERLAY_BYTES_MAX}); free some space and start again, nothing acknowledged "
                "is lost"
            )

    def _write(self) -> None:
        self._retry = None
        batch, writer, databases = self._batches[0], self._writer, self._databases
        self._worker.run(
            self._unless_closed(lambda: writer.write(databases, batch)),
            self._written,
            self._not_written,
        )

    def _written(self, written: Written) -> None:
        if self._closed:
            return
        batch = self._batches.pop(0)
        self._databases, self._sizes, seconds = written
        self.commit_seconds.observe(seconds)
        self._reading.close()
        self._reading = Reading(self._env, self._databases)
        self.no_space = False
        self._durable = (batch.entry_index, batch.entry_term)
        self._close_old_views()
        self._forget(batch.layers)
        self._tell_durable()
        if self._defragmenting is not None and not self._batches:
            self._copy()
        else:
            self._go_on()

    def _forget(self, layers: list[Layer]) -> None:
        """Let go of what is written; of very much in several turns."""
        while layers:
            if layers[-1].bytes > LARGE_BYTES and layers[-1].shed(SHED_CHANGES):
                self._clock.callLater(0, self._forget, layers)
                return
            layers.pop()

    def _go_on(self) -> None:
        """Write what has come together meanwhile."""
        if self._failed is not None:
            return
        if self._batches:
            self._write()
        elif self._wanted:
            self.commit()

    def _tell_durable(self) -> None:
        index = self._durable[0]
        for callback in tuple(self.on_durable):
            callback(index)
        waiting, self._waiting = self._waiting, []
        for wanted, done in waiting:
            if wanted <= index:
                done()
            else:
                self._waiting.append((wanted, done))

    def _not_written(self, error: BaseException) -> None:
        if self._closed or self._failed is not None:
            return
        if isinstance(error, NoSpaceOnDisk):
            self.no_space = True
            if self._defragmenting is not None:
                self._end_defragmentation()[1](StorageError(str(error)))
            self._retry = self._clock.callLater(RETRY_SECONDS, self._write)
            for callback in tuple(self.on_no_space):
                callback()
            self._check_overlay()
        elif isinstance(error, lmdb.MapFullError):
            self._fail(
                f"the keyspace has outgrown its address space of {self.settings.map_bytes} bytes; "
                "start again with a larger --quota-backend-bytes, ten times which are mapped"
            )
        elif isinstance(error, lmdb.Error | OSError):
            self._fail(f"writing the keyspace: {error}")
        else:
            raise error

    def abandon(self) -> None:
        # What is being written was handed over in a later turn than it was applied in, and so is
        # in the log; what has only ended may not be.
        self._give_up("the log has failed")

    def _fail(self, reason: str) -> None:
        if self._failed is not None:
            return
        error = self._give_up(reason)
        for callback in tuple(self.on_fatal):
            callback(error)

    def _give_up(self, reason: str) -> StorageError:
        """Write nothing any more; reads go on until somebody closes."""
        if self._failed is None:
            self._failed = StorageError(f"{self.settings.path}: {reason}")
            self._cancel_calls()
        return self._failed

    # --- waiting and looking back ---------------------------------------------------------------

    def wait_durable(self, index: int, done: Callable[[], None]) -> None:
        if index <= self._durable[0]:
            done()
        else:
            self._waiting.append((index, done))
            self.commit()

    def view(self, owner: str) -> LmdbView:
        self._close_old_views()
        view = LmdbView(self._env, self._databases, owner, self._clock.seconds(), self._view_closed)
        self.views.append(view)
        return view

    def _close_old_views(self) -> None:
        oldest = self._clock.seconds() - VIEW_SECONDS_MAX
        for view in tuple(self.views):
            if view.began < oldest:
                view.close()

    # --- defragmentation ------------------------------------------------------------------------

    def defragment(self, done: Callable[[], None], failed: Callable[[Exception], None]) -> None:
        if self._defragmenting is not None:
            failed(StorageError("the keyspace is being defragmented already"))
        elif self._failed is not None or self.no_space:
            failed(self._failed or StorageError(f"{self.settings.path}: no space left on device"))
        else:
            self._defragmenting = (done, failed)
            self._defragment_begun = self._clock.seconds()
            if self._dirty:
                # What was deleted is not to be copied.
                self._seal()
                if len(self._batches) == 1:
                    self._write()
            elif not self._batches:
                self._copy()

    def _copy(self) -> None:
        """Nothing is being written now, and nothing will be before the outcome."""
        env, fs, settings = self._env, self._fs, self.settings
        self._worker.run(
            self._unless_closed(
                lambda: defragmented(fs, env, settings.path, settings.map_bytes, settings.sync)
            ),
            self._copied,
            self._not_copied,
        )

    def _copied(self, copied: Defragmented) -> None:
        if self._closed:
            copied.opened.env.close()
            return
        self._reading.close()
        self._retire(self._env)
        self._env, _, self._databases = copied.opened
        self._sizes = copied.sizes
        self._writer = self._make_writer(self._env, self.settings.path)
        self._reading = Reading(self._env, self._databases)
        done, _ = self._end_defragmentation()
        self._go_on()
        done()

    def _not_copied(self, error: BaseException) -> None:
        if self._closed:
            return
        if not isinstance(error, StorageError | OSError):
            raise error
        _, failed = self._end_defragmentation()
        if isinstance(error, NameLost):
            self._fail(str(error))
        self._go_on()
        failed(error)

    def _end_defragmentation(self) -> Outcome:
        outcome, self._defragmenting = self._defragmenting, None
        self.defragment_seconds.observe(self._clock.seconds() - self._defragment_begun)
        assert outcome is not None, "a defragmentation ended that nobody asked for"
        return outcome

    def _retire(self, env: lmdb.Environment) -> None:
        """Close an environment that was replaced, once nobody looks at it any more. Unmapping it
        may take a moment, so the worker does it."""
        if any(view.env is env for view in self.views):
            self._retired.append(env)
        else:
            self._worker.run(env.close, lambda _: None, _raise)

    def _view_closed(self, view: LmdbView) -> None:
        self.views.remove(view)
        if view.env in self._retired and not self._closed:
            self._retired.remove(view.env)
            self._retire(view.env)

    # --- the end --------------------------------------------------------------------------------

    def close(self) -> None:
        """Release everything. A batch under way on a thread is waited for; stop the worker first
        if its end shall be known."""
        if self._closed:
            return
        self._cancel_calls()
        with self._in_use:
            self._closed = True
            for view in tuple(self.views):
                view.close()
            self._reading.close()
            for env in (self._env, *self._retired):
                env.close()

    def _unless_closed(self, work: Callable[[], T]) -> Callable[[], T]:
        """For the worker: LMDB hangs when a file is closed while another thread writes to it."""

        def run() -> T:
            with self._in_use:
                if self._closed:
                    raise StorageError(f"{self.settings.path} was closed")
                return work()

        return run

    def _cancel_calls(self) -> None:
        for call in (self._due, self._retry):
            if call is not None and call.active():
                call.cancel()


def _raise(error: BaseException) -> None:
    raise error
