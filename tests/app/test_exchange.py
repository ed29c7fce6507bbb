"""What becomes of a snapshot that another member sends."""

from __future__ import annotations

import os
from types import SimpleNamespace
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from etcdtw.app import exchange
from etcdtw.app.exchange import SnapshotExchange
from etcdtw.counting import ReceivedCounts
from etcdtw.errors import StorageError
from etcdtw.raft.messages import ConfState, Message, MessageType, Snapshot
from tests.replica.floor import HeldWorker

MESSAGE = Message(
    MessageType.SNAP, 1, 2, 3, snapshot=Snapshot(7, 3, ConfState(voters=(1, 2)), b"{}")
)


class ReceivingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = self.mktemp()
        os.mkdir(self.directory)
        self.worker = HeldWorker()
        self.node = SimpleNamespace(committed=5)
        self.lives: list[str] = []
        self.answers: list[str] = []
        core: Any = SimpleNamespace(
            replica=SimpleNamespace(node=self.node, durable=SimpleNamespace())
        )
        transport: Any = SimpleNamespace(
            identity=SimpleNamespace(headers=dict), caller=SimpleNamespace(reactor=Clock())
        )
        unused: Any = None
        self.counts = ReceivedCounts()
        self.conversions_stopped = 0
        conversion = SimpleNamespace(run=self.convert, stop=self.stop_converting)
        self.patch(exchange, "Conversion", lambda: conversion)
        self.exchange = SnapshotExchange(
            core,
            transport,
            unused,
            unused,
            self.directory,
            f"{self.directory}/kv.lmdb",
            self.worker,
            lambda: self.lives.append("another"),
            self.counts,
        )
        self.error: StorageError | None = None

    def stop_converting(self) -> None:
        self.conversions_stopped += 1

    def convert(self, database: str, keyspace: str) -> None:
        for each in (keyspace, keyspace + "-lock", keyspace + ".tmp"):
            with open(each, "xb"):
                pass
        if self.error is not None:
            raise self.error

    def receive(self) -> None:
        upload = self.exchange.make_upload()
        upload.write(b"a database")
        self.exchange.snapshot_received(MESSAGE, upload, self.answers.append)

    def test_overtaken(self) -> None:
        """What the log has overtaken before it could be installed takes nobody back: it goes, its
        sender is told that all is well, and the next one is taken."""
        for _ in range(2):
            self.node.committed = 5
            self.receive()
            self.assertTrue(self.counts.installing)
            self.node.committed = 7
            self.worker.release()
            self.worker.release()
            self.assertEqual(os.listdir(self.directory), [])
            self.assertFalse(self.counts.installing)
        self.assertEqual((self.answers, self.lives), (["", ""], []))
        self.assertEqual(sum(self.counts.sync_seconds.counts), 2)
        self.assertEqual(sum(self.counts.save_seconds.counts), 2)

    def test_cannot_be_installed(self) -> None:
        """Nothing is left of what cannot be installed, and its sender hears why."""
        self.error = StorageError("the disk is full")
        descriptors = len(os.listdir("/proc/self/fd"))
        for _ in range(2):
            self.receive()
            self.worker.release()
            self.assertEqual(os.listdir(self.directory), [])
        self.assertEqual(self.answers, ["the disk is full"] * 2)
        self.assertEqual(len(os.listdir("/proc/self/fd")), descriptors)

    def test_stopped(self) -> None:
        """A member that is stopped waits for no conversion."""
        self.exchange.stop()
        self.assertEqual(self.conversions_stopped, 1)
