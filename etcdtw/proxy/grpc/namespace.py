"""``--namespace``: at the cluster every key of a client has a prefix, which no client sees."""

from __future__ import annotations

from collections.abc import Iterable

from etcdtw.client.ranges import prefix_end
from etcdtw.errors import EmptyKey
from etcdtw.pb.kv_pb2 import KeyValue
from etcdtw.pb.rpc_pb2 import (
    DeleteRangeRequest,
    DeleteRangeResponse,
    LeaseTimeToLiveResponse,
    PutRequest,
    PutResponse,
    RangeRequest,
    RangeResponse,
    TxnRequest,
    TxnResponse,
    WatchCreateRequest,
    WatchResponse,
)

NO_END = b"\0"
"""As the end of a range it means that there is none."""


class Namespace:
    """Adds the prefix to requests and takes it off answers, in place."""

    def __init__(self, prefix: bytes) -> None:
        assert prefix, "a namespace has a name"
        self.prefix = prefix
        self._end = prefix_end(prefix)

    def end(self, end: bytes) -> bytes:
        """The end of a range; where there is none, the range ends with the namespace."""
        if end == NO_END:
            return self._end
        return self.prefix + end if end else b""

    # --- requests --------------------------------------------------------------------------------

    def watch(self, request: WatchCreateRequest) -> None:
        request.key = self.prefix + request.key
        request.range_end = self.end(request.range_end)

    def range(self, request: RangeRequest) -> None:
        """EmptyKey for a request without a key, as for the others."""
        self._interval(request)

    def put(self, request: PutRequest) -> None:
        request.key = self._key(request.key)

    def delete_range(self, request: DeleteRangeRequest) -> None:
        self._interval(request)

    def txn(self, request: TxnRequest) -> None:
        for each in request.compare:
            each.key = self._key(each.key)
            each.range_end = self.end(each.range_end)
        for operation in (*request.success, *request.failure):
            kind = operation.WhichOneof("request")
            if kind == "request_range":
                self.range(operation.request_range)
            elif kind == "request_put":
                self.put(operation.request_put)
            elif kind == "request_delete_range":
                self.delete_range(operation.request_delete_range)
            elif kind == "request_txn":
                self.txn(operation.request_txn)

    def _interval(self, request: RangeRequest | DeleteRangeRequest) -> None:
        request.key = self._key(request.key)
        request.range_end = self.end(request.range_end)

    def _key(self, key: bytes) -> bytes:
        if not key:
            raise EmptyKey()
        return self.prefix + key

    # --- answers ---------------------------------------------------------------------------------

    def watched(self, response: WatchResponse) -> None:
        for event in response.events:
            self._strip((event.kv,))
            if event.HasField("prev_kv"):
                self._strip((event.prev_kv,))

    def ranged(self, response: RangeResponse) -> None:
        self._strip(response.kvs)

    def was_put(self, response: PutResponse) -> None:
        if response.HasField("prev_kv"):
            self._strip((response.prev_kv,))

    def deleted(self, response: DeleteRangeResponse) -> None:
        self._strip(response.prev_kvs)

    def committed(self, response: TxnResponse) -> None:
        for each in response.responses:
            kind = each.WhichOneof("response")
            if kind == "response_range":
                self.ranged(each.response_range)
            elif kind == "response_put":
                self.was_put(each.response_put)
            elif kind == "response_delete_range":
                self.deleted(each.response_delete_range)
            elif kind == "response_txn":
                self.committed(each.response_txn)

    def lease_told(self, response: LeaseTimeToLiveResponse) -> None:
        """Of the lease's keys only those of the namespace are anybody's business."""
        ours = [each for each in response.keys if each.startswith(self.prefix)]
        del response.keys[:]
        response.keys.extend(each[len(self.prefix) :] for each in ours)

    def _strip(self, kvs: Iterable[KeyValue]) -> None:
        size = len(self.prefix)
        for each in kvs:
            each.key = each.key[size:]
