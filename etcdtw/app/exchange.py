"""Whole states to and from other members: what helps one that is too far behind for the log."""

from __future__ import annotations

import os
import posixpath
import time
from collections.abc import Callable
from typing import Any

from twisted.logger import Logger

from etcdtw.app.assemble import Core
from etcdtw.counting import ReceivedCounts
from etcdtw.errors import StorageError
from etcdtw.ids import format_id
from etcdtw.peer.snapshots import SnapshotSender
from etcdtw.peer.transport import PeerTransport
from etcdtw.raft.messages import Message, Snapshot
from etcdtw.replica.catching_up import CatchingUp
from etcdtw.replica.snapshots import record_received
from etcdtw.storage.bolt.exporting import Exported, Exports
from etcdtw.storage.interfaces import IWorker
from etcdtw.storage.received import (
    CONVERTED_SUFFIX,
    Conversion,
    Upload,
    database_name,
    withdraw,
)
from etcdtw.storage.snap import SnapStore

log = Logger(namespace="etcdtw.member")


class SnapshotExchange:
    """For one life of a member. ``begin_again`` is called when a received state is on disk in such
    a way that the next life begins with it."""

    def __init__(
        self,
        core: Core,
        transport: PeerTransport,
        exports: Exports,
        snap_files: SnapStore,
        snap_dir: str,
        keyspace_path: str,
        worker: IWorker,
        begin_again: Callable[[], None],
        counts: ReceivedCounts,
    ) -> None:
        """``worker`` converts databases, which takes long. ``counts`` outlast this life."""
        self._counts = counts
        counts.installing = False
        self._core = core
        self._transport = transport
        self._exports = exports
        self._snap_files = snap_files
        self._snap_dir = snap_dir
        self._keyspace_path = keyspace_path
        self._worker = worker
        self._begin_again = begin_again
        self._sender = SnapshotSender(transport.identity, transport.caller)
        self._catching_up = CatchingUp(core.replica.durable, transport.caller.reactor)
        self._conversion = Conversion()
        self._stopped = False
        transport.on_snapshot = self.send

    def stop(self) -> None:
        self._stopped = True
        # Whoever stops the worker waits for what it does.
        self._conversion.stop()
        self._catching_up.stop()

    def make_upload(self) -> Upload:
        return Upload(self._snap_dir)

    # --- to others -------------------------------------------------------------------------------

    def send(self, message: Message) -> None:
        """Send the state as of now; what Raft said it should be is older."""
        core = self._core
        replica = core.replica
        index = replica.applied_index
        term, conf_state = replica.durable.tail.term(index), replica.node.conf_state()
        saving = replica.machine.begin_save()
        # Raft goes on from where it thought that the snapshot would be.
        wanted = message.snapshot
        self._catching_up.begin(message.to, index if wanted is None else wanted.index)
        log.info(
            "sending database snapshot",
            snapshot_index=index,
            remote_peer_id=format_id(message.to),
        )

        def saved() -> None:
            snapshot = Snapshot(index, term, conf_state, saving.result())
            whole = message._replace(snapshot=snapshot)
            core.backend.wait_durable(index, lambda: self._export(whole))

        core.slices.run(saving.step, saved)

    def _export(self, message: Message) -> None:
        def failed(error: BaseException) -> None:
            log.error("a database snapshot cannot be made: {error}", error=str(error))
            self._ended(message.to, False)

        if not self._stopped:
            self._exports.start(
                lambda exported: self._post(message, exported), failed, with_digest=False
            )

    def _post(self, message: Message, exported: Exported) -> None:
        peer = self._transport.peers.get(message.to)
        if peer is None or self._stopped:
            exported.close()
            self._ended(message.to, False)
            return

        def ended(ok: bool) -> None:
            exported.close()
            self._ended(message.to, ok)

        file: Any = os.fdopen(os.dup(exported.fd), "rb")
        self._sender.send(message, file, peer.url(), ended)

    def _ended(self, member_id: int, ok: bool) -> None:
        if not self._stopped:
            self._catching_up.end(member_id, ok)
            self._transport.snapshot_ended(member_id, ok)

    # --- from others -----------------------------------------------------------------------------

    def snapshot_received(self, message: Message, store: Any, done: Callable[[str], None]) -> None:
        snapshot = message.snapshot
        assert snapshot is not None and isinstance(store, Upload), "the page has checked"
        if snapshot.index <= self._core.replica.node.committed or self._stopped:
            store.discard()
            done("")  # it is older than what is here
            return
        if self._counts.installing:
            store.discard()
            done("another snapshot is being installed")
            return
        self._counts.installing = True
        database = posixpath.join(self._snap_dir, database_name(snapshot.index))
        converted = self._keyspace_path + CONVERTED_SUFFIX
        log.info(
            "received database snapshot",
            snapshot_index=snapshot.index,
            bytes=store.size,
            remote_peer_id=format_id(message.from_),
        )

        def prepare() -> None:
            try:
                took = store.keep_as(database)
                self._counts.sync_seconds.observe(took)
                self._counts.save_seconds.observe(time.monotonic() - store.begun)
                self._conversion.run(database, converted)
            except BaseException:
                # On a full disk this is what it is full of.
                store.discard()
                withdraw(database, converted)
                raise

        def prepared(_: object) -> None:
            if self._stopped:
                return
            if snapshot.index <= self._core.replica.node.committed:
                # Another leader had the entries meanwhile, and this member is further now.
                self._counts.installing = False
                self._worker.run(lambda: withdraw(database, converted), lambda _: done(""), failed)
                return
            try:
                record_received(self._core.replica, self._snap_files, snapshot, message.term)
            except (OSError, StorageError) as error:
                self._core.replica.fail(error)
                done(str(error))
                return
            done("")
            self._begin_again()

        def failed(error: BaseException) -> None:
            self._counts.installing = False
            log.error("a received snapshot cannot be installed: {error}", error=str(error))
            done(str(error))

        self._worker.run(prepare, prepared, failed)
