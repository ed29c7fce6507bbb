"""The KV service: check, call, translate."""

from __future__ import annotations

from collections.abc import Callable

from etcdtw.api.v3.canonical import canonical, single_key_range
from etcdtw.api.v3.kv_checks import (
    check_delete_range,
    check_put,
    check_range,
    check_txn,
    is_read_only_txn,
    is_serializable_txn,
)
from etcdtw.api.v3.submit import Submitter
from etcdtw.api.v3.working_out import work_out
from etcdtw.apply.kv import KvApplier
from etcdtw.apply.large_txn import LargeRead
from etcdtw.apply.plain_put import plain_put
from etcdtw.apply.quota import PUT_OVERHEAD, request_cost
from etcdtw.errors import EtcdError
from etcdtw.mvcc.compaction import Compaction
from etcdtw.pb.rpc_pb2 import (
    CompactionRequest,
    DeleteRangeRequest,
    PutRequest,
    RangeRequest,
    TxnRequest,
)
from etcdtw.replica.replica import Replica
from etcdtw.replica.slices import Slices
from etcdtw.rpc import Router, UnaryCall


class KvService:
    """``etcdserverpb.KV`` over the replica (writes, read index) and the applier (reads)."""

    def __init__(
        self,
        replica: Replica,
        applier: KvApplier,
        submitter: Submitter,
        slices: Slices,
        max_txn_ops: int,
    ) -> None:
        """``slices`` run what takes long."""
        self._slices = slices
        self._replica = replica
        self._applier = applier
        self._submitter = submitter
        self._max_txn_ops = max_txn_ops

    def register(self, router: Router) -> None:
        for name, handler in (
            ("Range", self.range),
            ("Put", self.put),
            ("DeleteRange", self.delete_range),
            ("Txn", self.txn),
            ("Compact", self.compact),
        ):
            router.add_unary(f"/etcdserverpb.KV/{name}", handler)

    def range(self, call: UnaryCall, body: bytes) -> None:
        one_key = single_key_range(body)
        if one_key is not None and (one_key[1] or self._replica.reads_are_local):
            self._replica.reads_served += 1
            call.reply(self._applier.range_one(one_key[0]))
            return
        request, _ = canonical(RangeRequest, body)
        check_range(request)
        if request.serializable or self._replica.reads_are_local:
            self._replica.reads_served += 1
            self._answer_range(call, request)
        else:
            self._read(call, lambda: self._answer_range(call, request))

    def _answer_range(self, call: UnaryCall, request: RangeRequest) -> None:
        job = self._applier.large_range(request)
        if job is None:
            call.reply(self._applier.range(request))
        else:
            work_out(self._slices, call, job, job.result)

    def put(self, call: UnaryCall, body: bytes) -> None:
        submitter = self._submitter
        plain = plain_put(body)
        if plain is not None:
            submitter.answer(call, "put", plain, body, PUT_OVERHEAD + len(body))
            return
        request, raw = canonical(PutRequest, body)
        check_put(request)
        submitter.answer(call, "put", request, raw, PUT_OVERHEAD + len(raw))

    def delete_range(self, call: UnaryCall, body: bytes) -> None:
        request, raw = canonical(DeleteRangeRequest, body)
        check_delete_range(request)
        self._submitter.answer(call, "delete_range", request, raw)

    def txn(self, call: UnaryCall, body: bytes) -> None:
        request, raw = canonical(TxnRequest, body)
        check_txn(request, self._max_txn_ops)
        if is_read_only_txn(request):
            if is_serializable_txn(request):
                self._answer_txn(call, request)
            else:
                self._read(call, lambda: self._answer_txn(call, request))
            return
        self._submitter.answer(call, "txn", request, raw, request_cost("txn", request))

    def _answer_txn(self, call: UnaryCall, request: TxnRequest) -> None:
        answer = self._applier.read_txn(request)
        if isinstance(answer, LargeRead):
            work_out(self._slices, call, answer, answer.result)
        else:
            call.reply(answer)

    def compact(self, call: UnaryCall, body: bytes) -> None:
        """With ``physical`` the answer waits until the records are gone from the backend."""
        request, raw = canonical(CompactionRequest, body)

        def done(result: object) -> None:
            if isinstance(result, EtcdError):
                call.fail(result)
                return
            assert isinstance(result, tuple), f"not a compaction's result: {result!r}"
            response: bytes = result[0]
            job: Compaction = result[1]
            if request.physical and not job.done:
                job.on_done.append(lambda: call.reply(response))
            else:
                call.reply(response)

        self._submitter.submit("compaction", request, raw, done)

    def _read(self, call: UnaryCall, respond: Callable[[], None]) -> None:
        def ready(error: EtcdError | None) -> None:
            if error is not None:
                call.fail(error)
                return
            try:
                respond()
            except EtcdError as refused:
                call.fail(refused)

        self._replica.read(ready)
