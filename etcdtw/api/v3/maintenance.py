"""The Maintenance service."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from etcdtw.api.v3.canonical import canonical
from etcdtw.api.v3.snapshot_stream import Exports, SnapshotLine
from etcdtw.api.v3.streaming import decode_streamed
from etcdtw.api.v3.submit import Submitter
from etcdtw.api.v3.working_out import work_out
from etcdtw.apply.alarms import Alarms, alarm_name
from etcdtw.apply.header import HeaderSource
from etcdtw.counting import Histogram, doubling
from etcdtw.errors import (
    BadLeaderTransferee,
    Code,
    EtcdError,
    InvalidArgument,
    NoLeader,
    NotLeader,
    StatusError,
)
from etcdtw.mvcc.hash import HashAll
from etcdtw.mvcc.interfaces import IBackendView, IDurableBackend
from etcdtw.mvcc.store import Store
from etcdtw.pb.rpc_pb2 import (
    AlarmRequest,
    AlarmResponse,
    AlarmType,
    DefragmentRequest,
    HashKVRequest,
    HashKVResponse,
    HashRequest,
    HashResponse,
    MoveLeaderRequest,
    SnapshotRequest,
    StatusRequest,
    StatusResponse,
)
from etcdtw.replica.replica import Replica
from etcdtw.replica.slices import Slices
from etcdtw.rpc import Router, StreamCall, UnaryCall
from etcdtw.version import ETCD_VERSION

HASH_BOUNDS = doubling(0.01, 15)

_PREFIX = "/etcdserverpb.Maintenance/"

log = Logger(namespace="etcdtw.member")


class _LateHash:
    """A hash of all buckets as they are when its turn has come: a backend has room for a hundred
    views or so, and any number may wait here."""

    def __init__(self, open_view: Callable[[], IBackendView]) -> None:
        self._open_view = open_view
        self._view: IBackendView | None = None
        self._is_closed = False
        self.hash = 0

    def step(self) -> bool:
        if self._is_closed:
            return True
        if self._view is None:
            self._view = self._open_view()
            self._job = HashAll(self._view)
        if not self._job.step():
            return False
        self.close()
        self.hash = self._job.hash
        return True

    def close(self) -> None:
        if self._view is not None and not self._is_closed:
            self._view.close()
        self._is_closed = True


class MaintenanceService:
    """``etcdserverpb.Maintenance``; hashes are computed in slices at a fixed revision."""

    def __init__(
        self,
        replica: Replica,
        store: Store,
        backend: IDurableBackend,
        alarms: Alarms,
        submitter: Submitter,
        slices: Slices,
        exports: Exports,
        header: HeaderSource,
        clock: IReactorTime,
    ) -> None:
        self._replica = replica
        self._store = store
        self._backend = backend
        self._alarms = alarms
        self._submitter = submitter
        self._slices = slices
        self._snapshots = SnapshotLine(exports, clock)
        self._header = header
        self._seconds = clock.seconds
        self.hash_seconds = Histogram(HASH_BOUNDS)
        self.hash_kv_seconds = Histogram(HASH_BOUNDS)

    def register(self, router: Router) -> None:
        router.add_unary(_PREFIX + "Status", self.status)
        router.add_unary(_PREFIX + "Alarm", self.alarm)
        router.add_unary(_PREFIX + "Hash", self.hash)
        router.add_unary(_PREFIX + "HashKV", self.hash_kv)
        router.add_unary(_PREFIX + "Defragment", self.defragment)
        router.add_stream(_PREFIX + "Snapshot", self.snapshot, "server_stream")
        router.add_unary(_PREFIX + "MoveLeader", self.move_leader)

    def status(self, call: UnaryCall, body: bytes) -> None:
        canonical(StatusRequest, body)
        node = self._replica.node
        response = StatusResponse(
            version=ETCD_VERSION,
            dbSize=self._backend.size(),
            dbSizeInUse=self._backend.size_in_use(),
            leader=node.lead,
            raftIndex=node.committed,
            raftTerm=node.term,
            raftAppliedIndex=self._replica.applied_index,
            isLearner=node.is_learner,
        )
        if not node.lead:
            response.errors.append(str(NoLeader()))
        for each in self._alarms.get():
            # The text of a Go protobuf message: no field that is 0, a blank behind each.
            member = f"memberID:{each.memberID} " if each.memberID else ""
            response.errors.append(f"{member}alarm:{alarm_name(each.alarm)} ")
        call.reply(self._header.encode(self._store.revision) + response.SerializeToString())

    def alarm(self, call: UnaryCall, body: bytes) -> None:
        request, raw = canonical(AlarmRequest, body)
        if request.action == AlarmRequest.GET:
            self._answer_alarms(call, AlarmResponse(alarms=self._alarms.get(request.alarm)))
            return
        if request.alarm not in AlarmType.values():
            # Members of etcd end at such an entry, and at every start after it.
            raise InvalidArgument("etcdserver: unknown alarm")

        def done(result: object) -> None:
            if isinstance(result, EtcdError):
                call.fail(result)
            else:
                assert isinstance(result, list), f"not alarms: {result!r}"
                self._answer_alarms(call, AlarmResponse(alarms=result))

        self._submitter.submit("alarm", request, raw, done)

    def _answer_alarms(self, call: UnaryCall, response: AlarmResponse) -> None:
        call.reply(self._header.encode(self._store.revision) + response.SerializeToString())

    def hash(self, call: UnaryCall, body: bytes) -> None:
        canonical(HashRequest, body)
        backend = self._backend

        job = _LateHash(lambda: backend.view("hash"))
        begun = self._seconds()

        def answer() -> bytes:
            self.hash_seconds.observe(self._seconds() - begun)
            response = HashResponse(hash=job.hash)
            return self._header.encode(self._store.revision) + response.SerializeToString()

        index, _ = backend.consistent_index()
        backend.wait_durable(index, lambda: work_out(self._slices, call, job, answer))

    def defragment(self, call: UnaryCall, body: bytes) -> None:
        canonical(DefragmentRequest, body)

        def done() -> None:
            log.info("finished defragment")
            call.reply(b"")  # etcd's answer has no header

        def failed(error: Exception) -> None:
            log.warn("failed to defragment", error=str(error))
            call.fail(StatusError(Code.UNKNOWN, str(error)))

        log.info("starting defragment")
        self._backend.defragment(done, failed)

    def snapshot(self, call: StreamCall) -> None:
        """The keyspace as a bbolt file, in pieces, and behind it its SHA-256. It is as of this
        call or a little later."""

        def requested(body: bytes) -> None:
            decode_streamed(SnapshotRequest, body)
            backend = self._backend
            index, _ = backend.consistent_index()
            backend.wait_durable(index, lambda: self._snapshots.join(call))

        call.on_message = requested

    def hash_kv(self, call: UnaryCall, body: bytes) -> None:
        request, _ = canonical(HashKVRequest, body)
        job = self._store.hash_kv(request.revision)
        begun = self._seconds()

        def answer() -> bytes:
            self.hash_kv_seconds.observe(self._seconds() - begun)
            response = HashKVResponse(hash=job.hash, compact_revision=job.compact_revision)
            return self._header.encode(self._store.revision) + response.SerializeToString()

        work_out(self._slices, call, job, answer)

    def move_leader(self, call: UnaryCall, body: bytes) -> None:
        request, _ = canonical(MoveLeaderRequest, body)
        if not self._replica.is_leader:
            raise NotLeader
        if request.targetID not in self._replica.node.conf_state().voters:
            raise BadLeaderTransferee
        if request.targetID != self._replica.node.id:
            self._replica.transfer_leader(request.targetID)
        call.reply(b"")  # etcd's answer has no header
