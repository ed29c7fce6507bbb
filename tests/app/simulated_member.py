"""A whole member, assembled as in production, over a simulated disk and a hand-driven clock."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from random import Random
from typing import Any

from twisted.internet.task import Clock

from etcdtw.app.assemble import Core, assemble_core
from etcdtw.app.parts import found_log, reopen_log
from etcdtw.bootstrap.static import static_plan
from etcdtw.config.load import Loaded, load
from etcdtw.errors import EtcdError
from etcdtw.pb import rpc_pb2
from etcdtw.replica.interfaces import NoPeers
from etcdtw.storage.backend.memory import MemoryBackend
from etcdtw.storage.bolt.exporting import Exports
from etcdtw.storage.snap import SnapStore
from etcdtw.storage.worker import InlineWorker
from etcdtw.testing.disk import SimDisk
from etcdtw.turns import Allowance

WAL_DIRECTORY = "/data/member/wal"
SNAP_DIRECTORY = "/data/member/snap"


def _loaded() -> Loaded:
    loaded = load([], {}, "/data", _no_file)
    assert isinstance(loaded, Loaded), "no help was asked for"
    return loaded


def _no_file(path: str) -> str:
    raise AssertionError(f"{path} is not read: no configuration file was named")


SETTINGS = _loaded().settings


class Call:
    """A unary call that remembers its answer."""

    def __init__(self) -> None:
        self.body: bytes | None = None
        self.error: EtcdError | None = None
        self.on_fail: Callable[[], None] | None = None

    @property
    def done(self) -> bool:
        return self.body is not None or self.error is not None

    def reply(self, body: bytes) -> None:
        self.body = body

    def fail(self, error: EtcdError) -> None:
        self.error = error
        if self.on_fail is not None:
            self.on_fail()


class SimulatedMember:
    """Started on ``disk``: founded on an empty one, reopened otherwise."""

    def __init__(
        self,
        disk: SimDisk,
        backend: MemoryBackend | None = None,
        allowance: Allowance | None = None,
        **settings: Any,
    ) -> None:
        """``backend`` is what a restart finds of the keyspace, empty by default."""
        self.disk = disk
        self.backend = backend or MemoryBackend(durable=True)
        self.clock = Clock()
        self.clock.advance(1_700_000_000)
        if disk.isdir(WAL_DIRECTORY):
            opened = reopen_log(disk, WAL_DIRECTORY, SnapStore(disk, SNAP_DIRECTORY))
        else:
            disk.makedirs(SNAP_DIRECTORY)
            disk.sync_dir("/data/member")
            disk.sync_dir("/data")
            disk.sync_dir("/")
            opened = found_log(disk, WAL_DIRECTORY, static_plan(SETTINGS.bootstrap()))
        self.fatal: list[BaseException] = []
        self.core: Core = assemble_core(
            replace(SETTINGS, **settings),
            opened,
            SnapStore(disk, SNAP_DIRECTORY),
            self.backend,
            Exports("/data/member/snap/kv.lmdb", "/nowhere", InlineWorker),
            NoPeers(),
            self.clock,
            InlineWorker(),
            InlineWorker(),
            Random(1),
            self.clock.seconds,
            allowance=allowance,
        )
        self.core.replica.on_fatal.append(self.fatal.append)
        self.core.start()
        self.settle()

    def settle(self) -> None:
        """Let everything that is due happen."""
        for _ in range(20):
            self.clock.advance(0)

    def ask(self, method: str, request: object) -> Call:
        """Hand a request to its handler; the answer may need ``settle``."""
        call = Call()
        found = self.core.router.find(method)
        assert not isinstance(found, EtcdError), f"{method} is not served"
        assert found.unary_handler is not None, f"{method} is not unary"
        found.unary_handler(call, request.SerializeToString())  # type: ignore[attr-defined, arg-type]
        return call

    def put(self, key: bytes, value: bytes) -> Call:
        return self.ask("/etcdserverpb.KV/Put", rpc_pb2.PutRequest(key=key, value=value))

    def value(self, key: bytes) -> bytes | None:
        call = self.ask("/etcdserverpb.KV/Range", rpc_pb2.RangeRequest(key=key))
        self.settle()
        assert call.body is not None, f"no answer to a read of {key!r}: {call.error}"
        found = rpc_pb2.RangeResponse.FromString(call.body)
        return found.kvs[0].value if found.kvs else None

    @property
    def revision(self) -> int:
        return self.core.store.revision
