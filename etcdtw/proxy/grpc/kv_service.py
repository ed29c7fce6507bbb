"""``etcdserverpb.KV`` of the proxy: a namespace where one is wanted, and a cache of serializable
ranges. What neither concerns is passed on as it came."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, NamedTuple

from etcdtw.errors import EtcdError
from etcdtw.pb.rpc_pb2 import (
    CompactionRequest,
    DeleteRangeRequest,
    DeleteRangeResponse,
    PutRequest,
    PutResponse,
    RangeRequest,
    RangeResponse,
    TxnRequest,
    TxnResponse,
    WatchResponse,
)
from etcdtw.proxy.grpc.broadcast import Interest, Watcher
from etcdtw.proxy.grpc.cache import Entry, Question, RangeCache, is_empty, span_of
from etcdtw.proxy.grpc.delivery import Delivery
from etcdtw.proxy.grpc.namespace import Namespace
from etcdtw.proxy.grpc.upstream import Answered, Upstream, identity_of
from etcdtw.proxy.grpc.watch_service import WatchService, WatchSession
from etcdtw.rpc import Router, UnaryCall

SERVICE = "/etcdserverpb.KV/"


class _Kind(NamedTuple):
    """How a request and its answer are read, and translated by a namespace."""

    request: Any
    response: Any
    enter: Callable[[Namespace, Any], None]
    leave: Callable[[Namespace, Any], None]


_RANGE = _Kind(RangeRequest, RangeResponse, Namespace.range, Namespace.ranged)
_PUT = _Kind(PutRequest, PutResponse, Namespace.put, Namespace.was_put)
_DELETE = _Kind(DeleteRangeRequest, DeleteRangeResponse, Namespace.delete_range, Namespace.deleted)
_TXN = _Kind(TxnRequest, TxnResponse, Namespace.txn, Namespace.committed)


class KvService:
    """``ordered``: a serializable range never tells of an older revision than an earlier one did;
    where it would, it is asked again as a linearizable one."""

    def __init__(
        self,
        upstream: Upstream,
        watches: WatchService,
        namespace: Namespace | None = None,
        ordered: bool = False,
    ) -> None:
        self.cache = RangeCache()
        self._upstream = upstream
        self._watches = watches
        self._namespace = namespace
        self._ordered = ordered
        self._seen_revision = 0

    def register(self, router: Router) -> None:
        router.add_unary(SERVICE + "Range", self._range)
        router.add_unary(SERVICE + "Put", lambda call, body: self._write(_PUT, call, body))
        router.add_unary(
            SERVICE + "DeleteRange", lambda call, body: self._write(_DELETE, call, body)
        )
        router.add_unary(SERVICE + "Txn", lambda call, body: self._write(_TXN, call, body))
        router.add_unary(SERVICE + "Compact", self._compact)

    # --- reads -----------------------------------------------------------------------------------

    def _range(self, call: UnaryCall, body: bytes) -> None:
        request = RangeRequest.FromString(body)
        if self._ordered:
            self._range_in_order(call, body, request)
        elif request.serializable:
            self._serializable(call, body, request)
        else:
            self._pass_on(_RANGE, call, body, request, repeatable=True)

    def _range_in_order(self, call: UnaryCall, body: bytes, request: RangeRequest) -> None:
        """Without the cache, whose answers may be older than others."""

        def answered(answer: bytes | EtcdError) -> None:
            if isinstance(answer, EtcdError):
                call.fail(answer)
                return
            revision = RangeResponse.FromString(answer).header.revision
            if revision >= self._seen_revision:
                self._seen_revision = revision
                call.reply(answer)
                return
            newer = RangeRequest.FromString(body)
            newer.serializable = False
            again = newer.SerializeToString()
            self._pass_on(_RANGE, call, again, newer, repeatable=True)

        self._pass_on(_RANGE, call, body, request, answered, repeatable=True)

    def _serializable(self, call: UnaryCall, body: bytes, request: RangeRequest) -> None:
        question: Question = (identity_of(call.metadata), body)
        found = self.cache.get(question)
        if found is not None:
            call.reply(found)
            return

        def answered(answer: bytes | EtcdError) -> None:
            if isinstance(answer, EtcdError):
                call.fail(answer)
                return
            self._keep(call, question, request, answer)
            call.reply(answer)

        self._pass_on(_RANGE, call, body, request, answered, repeatable=True)

    def _keep(
        self, call: UnaryCall, question: Question, request: RangeRequest, answer: bytes
    ) -> None:
        """Until a watch says that something happened there. ``request`` has the cluster's keys."""
        key, end = request.key, request.range_end
        if is_empty(key, end):
            return
        revision = RangeResponse.FromString(answer).header.revision
        entry = Entry(question, span_of(key, end), request.revision, answer)
        if self.cache.add(entry, revision) and not request.revision:
            session = self._watches.session(call.metadata)
            EntryWatch(Interest(key, end, (), False), entry, self.cache, session).begin(
                revision + 1
            )

    # --- writes ----------------------------------------------------------------------------------

    def _write(self, kind: _Kind, call: UnaryCall, body: bytes) -> None:
        """Whatever the answer is, what the request may have changed is not cached afterwards."""
        cache = self.cache
        if not cache.misses:  # nobody reads in a way that is cached
            self._pass_on(kind, call, body)
            return
        request = kind.request.FromString(body)
        spans = list(self._written(request))

        def answered(answer: bytes | EtcdError) -> None:
            revision = 0
            if isinstance(answer, bytes):
                revision = kind.response.FromString(answer).header.revision
            for key, end in spans:
                cache.written(key, end, revision)
            if isinstance(answer, EtcdError):
                call.fail(answer)
            else:
                call.reply(answer)

        self._pass_on(kind, call, body, None, answered)

    def _written(self, request: Any) -> Iterable[tuple[bytes, bytes]]:
        """Ranges as the cluster has them."""
        for key, end in _written(request):
            if self._namespace is None:
                yield key, end
            else:
                yield self._namespace.prefix + key, self._namespace.end(end)

    def _compact(self, call: UnaryCall, body: bytes) -> None:
        revision = CompactionRequest.FromString(body).revision

        def answered(answer: bytes | EtcdError) -> None:
            if isinstance(answer, EtcdError):
                call.fail(answer)
                return
            self.cache.compacted(revision)
            call.reply(answer)

        self._upstream.forward(call, body, answered)

    # --- the way ---------------------------------------------------------------------------------

    def _pass_on(
        self,
        kind: _Kind,
        call: UnaryCall,
        body: bytes,
        request: Any = None,
        answered: Answered | None = None,
        *,
        repeatable: bool = False,
    ) -> None:
        """``request`` is what ``body`` was decoded to, if it was; it enters the namespace."""
        namespace = self._namespace
        if namespace is None:
            self._upstream.forward(call, body, answered, repeatable=repeatable)
            return
        if request is None:
            request = kind.request.FromString(body)
        kind.enter(namespace, request)

        def translated(answer: bytes | EtcdError) -> None:
            if isinstance(answer, bytes):
                response = kind.response.FromString(answer)
                kind.leave(namespace, response)
                answer = response.SerializeToString()
            if answered is not None:
                answered(answer)
            elif isinstance(answer, bytes):
                call.reply(answer)
            else:
                call.fail(answer)

        self._upstream.forward(call, request.SerializeToString(), translated, repeatable=repeatable)


def _written(request: Any) -> Iterable[tuple[bytes, bytes]]:
    """What a request may change, or shows to be changed, as ranges of the wire."""
    if isinstance(request, PutRequest):
        yield request.key, b""
    elif isinstance(request, DeleteRangeRequest):
        yield request.key, request.range_end
    elif isinstance(request, TxnRequest):
        for compared in request.compare:
            yield compared.key, compared.range_end
        for operation in (*request.success, *request.failure):
            kind = operation.WhichOneof("request")
            if kind is not None:
                yield from _written(getattr(operation, kind))


class EntryWatch(Watcher):
    """Keeps a cached answer true: with the first event, or when nothing is heard any more, the
    answer is dropped."""

    __slots__ = ("_cache", "_entry", "_is_over", "_session")

    def __init__(
        self, interest: Interest, entry: Entry, cache: RangeCache, session: WatchSession
    ) -> None:
        super().__init__(interest)
        self._entry = entry
        self._cache = cache
        self._session = session
        self._is_over = False

    def begin(self, start: int) -> None:
        self._entry.on_dropped = self._dropped
        self._session.watches.add(self, start)
        self._session.look()

    def deliver(self, delivery: Delivery, body: bytes) -> None:
        self._end()

    def interrupted(self) -> None:
        self._end()

    def canceled(self, header: bytes, response: WatchResponse) -> None:
        self._end()

    def _end(self) -> None:
        """What calls is in the midst of its watches: it takes this one out afterwards."""
        if not self._is_over:
            self._is_over = True
            self._session.unwanted.append(self)
            self._cache.drop(self._entry)

    def _dropped(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._session.watches.remove(self)
            self._session.look()
